"""A rule and the stages around it, for one group of parameters.

Stages that nobody asks for are not in the pipeline at all, so an option that is off costs nothing
and changes no bit: g + 0·p is not g where p is infinite or g is −0.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite, isnan

from fastoptim.kernels.instruction_sets import PASSES

from fastoptim.kernels.driver cimport Stage, rounded
from fastoptim.kernels.rule cimport Rule

cdef extern from "platform.h":
    bint fo_is_zero(float x) nogil

cdef int put(Line line, Stage *one, str name, double value) except -1:
    cdef const Rule *rule = <const Rule *> PyCapsule_GetPointer(PASSES[name], "fastoptim.Rule")
    one.f32 = rule.f32
    one.f64 = rule.f64
    one.c64 = value
    one.c32 = rounded(value)
    if line.unfit is None and not fits_float32(value, one.c32) and not isnan(value):    # NaN: of a gradient
        line.unfit = name
        line.unfit_value = value
    return 0


cdef bint fits_float32(double wide, float narrow) noexcept:
    """Whether a factor, rounded to float32, is neither infinite nor nothing."""
    return isfinite(narrow) and (not fo_is_zero(narrow) or wide == 0)


cdef class Line:
    """A rule, its state's names and scalars, and its stages.

    Parameters
    ----------
    rule : capsule
    slots, starts : tuple
        Names of the rule's state arrays, and the number each is filled with at first.
    coefficients : callable, t → tuple of float
    maximize : bool
    clip_value : float or None
    weight_decay : float
        Added to the gradient, times the parameter.
    shrink : float
        What the parameter is multiplied by before the rule.
    average : float or None
        Decay of the weights' moving average.
    zero_grads : bool
    owner : Optimizer
        Whose hyperparameters these are, for messages.
    """

    def __init__(
        self, rule, tuple slots, tuple starts, coefficients, clip_value=None,
        double weight_decay=0.0, double shrink=1.0, average=None, *, bint maximize=False,
        bint zero_grads=False, owner=None,
    ):
        self.owner = owner
        self.unfit = None
        self.c.rule = <const Rule *> PyCapsule_GetPointer(rule, "fastoptim.Rule")
        if not len(slots) == len(starts) == self.c.rule.slots:
            raise ValueError(
                f"the rule {self.c.rule.name.decode()!r} has {self.c.rule.slots} state arrays, got "
                f"{len(slots)} names and {len(starts)} starts"
            )
        self.slots, self.starts, self.coefficients = slots, starts, coefficients
        self.sign = -1.0 if maximize else 1.0
        self.zero_grads = zero_grads
        put(self, &self.c.zeroer, "zero", 0.0)
        self.adjust(clip_value, weight_decay, shrink, average)
        self.prepare(1.0, 1.0, False)

    cpdef int adjust(
        self, object clip_value, double weight_decay, double shrink, object average
    ) except -1:
        """Set the numbers of the stages, which schedules may change."""
        self.clip_value, self.weight_decay, self.average = clip_value, weight_decay, average
        self.unfit = None
        self.c.n_param = shrink != 1.0
        if self.c.n_param:
            put(self, &self.c.param[0], "shrink", shrink)
        self.c.average = average is not None
        if self.c.average:
            put(self, &self.c.averager, "average", 1.0 - average)
        self.always_unfit = self.unfit is not None
        return 0

    cpdef int set_shrink(self, double shrink) except -1:
        """Set what the parameter is multiplied by before the rule: all that lr's schedule changes."""
        return self.adjust(self.clip_value, self.weight_decay, shrink, self.average)

    cdef int prepare(self, double factor, double norm_factor, bint zero) except -1:
        """Set what is known only at the update: the factors of the gradient, in their order."""
        cdef int k = 0
        if not self.always_unfit:       # what was found at the call before was that call's
            self.unfit = None
        if factor != 1.0:               # of a soft batch: its mean comes before all else
            put(self, &self.c.grad[k], "scale", factor)
            k += 1
        if self.sign * norm_factor != 1.0:
            put(self, &self.c.grad[k], "scale", self.sign * norm_factor)
            k += 1
        if self.clip_value is not None:
            put(self, &self.c.grad[k], "clip", self.clip_value)
            k += 1
        if self.weight_decay != 0.0:
            put(self, &self.c.grad[k], "l2", self.weight_decay)
            k += 1
        self.c.n_grad = k
        self.c.zero = zero or self.zero_grads
        return 0
