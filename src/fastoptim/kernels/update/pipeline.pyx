"""A rule and the stages around it, for one group of parameters; and all groups' pipelines.

Stages that nobody asks for are not in the pipeline at all, so an option that is off costs nothing
and changes no bit: g + 0·p is not g where p is infinite or g is −0.
"""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport INFINITY, isfinite, isnan

from fastoptim.kernels.instruction_sets import PASSES

from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport FITS, MOST_GRAD, rounded, set_scalar


cdef const Rule *pass_of(str name) except NULL:
    """Return a kernel that is no rule."""
    return <const Rule *> PyCapsule_GetPointer(PASSES[name], "fastoptim.Rule")


cdef bint factors_shape(int ndim, const cnp.npy_intp *dims, Py_ssize_t least) noexcept nogil:
    """Whether the second moment of an array of this shape is two vectors: its last axes decide."""
    cdef int axis
    for axis in range(ndim):
        if dims[axis] == 0:
            return False
    return ndim > 1 and dims[ndim - 1] >= least and dims[ndim - 2] >= least


cdef tuple set_stage(Stage *stage, str name, double value, tuple unfit):
    """Set a stage; return the first (stage, factor) that does not fit float32, or None."""
    cdef const Rule *rule = pass_of(name)
    stage.f32 = rule.f32
    stage.f64 = rule.f64
    if set_scalar(stage, value) != FITS and unfit is None and not isnan(value):     # NaN: of a gradient
        return name, value
    return unfit


cdef tuple unheld(str name, double value, tuple unfit):
    """Return the first (stage, number) that does not fit float32, of a number that no stage keeps."""
    cdef Stage stage
    if isfinite(value) and set_scalar(&stage, value) != FITS and unfit is None:
        return name, value
    return unfit


cdef tuple add_stage(Stages *stages, str name, double value, tuple unfit):
    """Add a stage to those that make the gradient."""
    if stages.n_grad == MOST_GRAD:
        raise RuntimeError(f"there is no room for the stage {name!r}; raise MOST_GRAD in table.pxd")
    stages.n_grad += 1
    return set_stage(&stages.grad[stages.n_grad - 1], name, value, unfit)


cdef class Pipeline:
    """A rule, its state's names and scalars, and its stages.

    Parameters
    ----------
    rule : capsule
    slots, starts : tuple
        Names of the rule's state arrays, and the number each is filled with at first.
    coefficients : callable, t → tuple of float
    clip_value : float or None
    weight_decay : float
        Added to the gradient, times the parameter.
    shrink : float
        What the parameter is multiplied by before the rule.
    average : float or None
        Decay of the weights' moving average.
    clip_norm_per_key : float or None
        The largest norm of the gradient of each key.
    agc : float or None
        The largest norm of a unit of the gradient, in norms of that unit of the parameter.
    lr : float
        What steps are measured by, with `trust`.
    start : float
        With `trust`, what a step has of the parameter: −lr times its decoupled decay.
    maximize : bool
    zero_grads : bool
    centralize : bool
        Subtract its mean from each row of the gradient.
    trust : (float, float) or None
        Bounds of ‖p‖ / ‖step‖, which the step of each key is multiplied by.
    constraint : tuple or None
        ("bound", low, high), ("max_norm", most, by_row) or ("unit_norm", 1.0, by_row).
    norms : {"", "seen", "before decay"}
        Whether `coefficients` gets the norms of the parameter and of the gradient, too, and which
        gradient's.
    mean_from : int
        The update at which the average begins, if it is a mean; its decay is that of the update.
    owner : Optimizer
        Whose hyperparameters these are, for messages.
    carries : bool
        Whether `coefficients` is (t, carried) → (tuple of float, carried): what it gave at the update
        before, None at the first, and what it goes on with.
    factored_slots : tuple or None
        Names of the state of parameters whose second moment is two vectors: these two first.
    factor_from : int
        The smaller one of a matrix's sizes from which its second moment is two vectors.
    scratch : int
        How many arrays the rule has behind its state, which a `Prelude` makes for each update.
    state_dtype : str or None
        How state is kept, if not in the parameter's dtype.
    codes, factored_codes : tuple of int or None
        The `Code` of each slot, if there is a state_dtype.
    seed : int
        Of the random bits that round them.
    master : bool
        Whether parameters of 16 bits have a copy in float32.
    """

    def __init__(
        self, rule, tuple slots, tuple starts, coefficients, clip_value=None,
        double weight_decay=0.0, double shrink=1.0, average=None, clip_norm_per_key=None,
        agc=None, double lr=1.0, double start=0.0, *, bint maximize=False, bint zero_grads=False,
        bint centralize=False, trust=None, constraint=None, str norms="", owner=None,
        Py_ssize_t mean_from=-1, bint carries=False,
        int scratch=0, tuple factored_slots=None, Py_ssize_t factor_from=0,
        str state_dtype=None, tuple codes=None, tuple factored_codes=None,
        unsigned long long seed=0, bint master=True,
    ):
        self.owner = owner
        self.fixed.rule = <const Rule *> PyCapsule_GetPointer(rule, "fastoptim.Rule")
        if not len(slots) == len(starts) == self.fixed.rule.slots - scratch:
            raise ValueError(
                f"the rule {self.fixed.rule.name.decode()!r} has {self.fixed.rule.slots - scratch} state "
                f"arrays, got {len(slots)} names and {len(starts)} starts"
            )
        self.slots, self.starts, self.coefficients = slots, starts, coefficients
        self.carries = carries
        self.factored_slots, self.factor_from = factored_slots, factor_from
        self.scratch = scratch
        self.state_dtype, self.seed, self.master = state_dtype, seed, master
        self.codes, self.factored_codes = codes, factored_codes
        self.sign = -1.0 if maximize else 1.0
        self.zero_grads, self.mean_from = zero_grads, mean_from
        set_stage(&self.fixed.zeroer, "zero", 0.0, None)
        self.fixed.squares = pass_of("both_squares")
        self.centralizes, self.norms = centralize, norms != ""
        self.before_decay = norms == "before decay"
        self.trusts = trust is not None
        if self.trusts:
            self.least_ratio, self.most_ratio = trust
            self.unbound = unheld("trust", self.least_ratio, None)
            self.unbound = unheld("trust", self.most_ratio, self.unbound)
            set_stage(&self.fixed.follow, "follow", 0.0, None)
        self.constrain(constraint)
        self.adjust(clip_value, weight_decay, shrink, average, clip_norm_per_key, agc, lr, start)

    cpdef int adjust(
        self, object clip_value, double weight_decay, double shrink, object average,
        object clip_norm_per_key, object agc=None, double lr=1.0,
        double start=0.0,
    ) except -1:
        """Set the numbers of the stages, which schedules may change."""
        self.agc, self.lr, self.start = agc or 0.0, lr, start
        self.of_tensors = (
            self.agc != 0 or self.centralizes or self.norms or self.trusts
            or self.projects != NOT_PROJECTED
        )
        self.most_norm = INFINITY if clip_norm_per_key is None else clip_norm_per_key
        self.clip_value, self.weight_decay, self.average = clip_value, weight_decay, average
        self.unfit = unheld("agc", self.agc, self.unbound)
        if start != 0.0:
            self.unfit = set_stage(&self.fixed.start, "start", start, self.unfit)
        else:
            set_stage(&self.fixed.start, "zero", 0.0, None)
        self.fixed.n_param = shrink != 1.0
        if self.fixed.n_param:
            self.unfit = set_stage(&self.fixed.param[0], "shrink", shrink, self.unfit)
        self.fixed.average = average is not None
        if self.fixed.average:
            self.unfit = set_stage(&self.fixed.averager, "average", 1.0 - average, self.unfit)
        return 0

    cpdef int set_shrink(self, double shrink) except -1:
        """Set what the parameter is multiplied by before the rule: all that lr's schedule changes."""
        cdef object most = None if self.most_norm == INFINITY else self.most_norm
        return self.adjust(
            self.clip_value, self.weight_decay, shrink, self.average, most, self.agc, self.lr,
            self.start,
        )

    cdef int constrain(self, tuple constraint) except -1:
        """Set what the parameter passes after the rule."""
        cdef Stage *stage = &self.fixed.after[0]
        cdef int k
        if constraint is None:
            return 0
        if constraint[0] == "bound":
            set_stage(stage, "bound", 0.0, None)
            for k in range(2):
                stage.c64[k] = constraint[1 + k]
                stage.c32[k] = rounded(stage.c64[k])
                self.unbound = unheld("bound", stage.c64[k], self.unbound)
            self.fixed.n_after = 1
            return 0
        self.projects = MAX_NORM if constraint[0] == "max_norm" else UNIT_NORM
        self.most_unit, self.by_row = constraint[1], constraint[2]
        self.unbound = unheld("bound", self.most_unit, self.unbound)
        set_stage(&self.fixed.project, "scale", 1.0, None)
        return 0

    cdef tuple fill(self, Stages *stages, double factor, double norm_factor, bint zero):
        """Set the stages of one update; return the (stage, factor) that float32 cannot hold.

        The factors of the gradient come in their order; that of a soft batch's mean comes first.
        """
        cdef tuple unfit = self.unfit
        stages[0] = self.fixed
        if factor != 1.0:
            unfit = add_stage(stages, "scale", factor, unfit)
        if self.sign * norm_factor != 1.0:
            unfit = add_stage(stages, "scale", self.sign * norm_factor, unfit)
        if self.clip_value is not None:
            unfit = add_stage(stages, "clip", self.clip_value, unfit)
        if self.agc:                            # tensors.pyx sets the scalars of their units
            stages.agc = stages.n_grad
            add_stage(stages, "scale", 1.0, None)
        if self.centralizes:
            stages.centralize = stages.n_grad
            add_stage(stages, "shift", 0.0, None)
        stages.n_looked = stages.n_grad + (self.weight_decay != 0 and not self.before_decay)
        if self.weight_decay:
            unfit = add_stage(stages, "l2", self.weight_decay, unfit)
        stages.zero = zero or self.zero_grads
        return unfit


cdef class Plan:
    """What an update needs of an optimizer's hyperparameters.

    Parameters
    ----------
    pipelines : list of Pipeline
        What the parameters of each group pass through.
    clip_norm : float or None
    norm : bool
        Whether the norm is wanted without it.
    nonfinite : {"propagate", "skip", "raise"}
    flush : bool
        Whether subnormals are flushed to zero.
    prelude : Prelude or None
        What is computed of whole tensors before anything is written.
    """

    def __init__(
        self, list pipelines, clip_norm=None, str nonfinite="propagate", bint flush=False,
        *, bint norm=False, prelude=None,
    ):
        for pipeline in pipelines:
            if not isinstance(pipeline, Pipeline):
                raise TypeError(f"pipelines must be a list of Pipeline, got {pipeline!r} in it")
        self.pipelines, self.flush, self.prelude = pipelines, flush, prelude
        self.clips = clip_norm is not None
        self.most_norm = clip_norm or INFINITY
        self.factors = any([(<Pipeline> one).factored_slots is not None for one in pipelines])
        self.codes = any([(<Pipeline> one).state_dtype is not None for one in pipelines])
        self.skips, self.raises = nonfinite == "skip", nonfinite == "raise"
        self.of_tensors = any([(<Pipeline> one).of_tensors for one in pipelines])
        self.clips_keys = any([(<Pipeline> one).most_norm != INFINITY for one in pipelines])
        self.means = any([(<Pipeline> one).mean_from >= 0 for one in pipelines])
        self.measures = self.clips or self.clips_keys or norm
        self.surveys = self.measures or nonfinite != "propagate"
