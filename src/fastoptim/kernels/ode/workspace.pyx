"""Parameters as a point in space, which moves while a function is evaluated, and comes back.

 a) fn is called with the caller's own mapping, whose arrays hold the point x at which the gradient
    is wanted: people's networks read the arrays that they hold, not an argument. The base point y,
    where the step started, is kept in memory of ours meanwhile (columns.pyx). Whatever is raised,
    wherever, the caller's arrays and numbers are the base point again before the exception leaves
    (`session`).
 b) Where x is, and how it gets to the caller's arrays and back: caller_params.pyx.
 c) fn must leave x as it is. That the mapping holds the same arrays is compared after each call;
    that they hold the same bits is found out by the pass that next reads or overwrites x anyway
    (runge_kutta.pxi), at the latest before the step is accepted.
 d) What fn returned is read where it is, if that can be: gradients.pyx.

The passes over memory, x and y having changed places: what used to be the copy of the parameters
to x at the start is the saving of them to y, and the copy of x to the parameters at the end is gone.
Of Heun that makes 3 passes in place of 4, of RK45 7 in place of 8, with tolerances 8 in place of 9
(with `deterministic` as many as before: one to compare, one to keep x for the comparison). Measured,
1 M float32, one thread, fastest of 12, after and before: Heun 1.48 and 1.69 ms, RK45 5.8 and 5.9, with
tolerances 6.6 and 6.7.

Look-ahead has one pass more, from the position back to the base point: 1.21 and 0.86 ms. In the pass
of the update, a parameter that fn has altered would be found when its velocity is overwritten already.
"""

cimport cython

from fastoptim.kernels.instruction_sets import PASSES

from fastoptim.kernels.ode.caller_params cimport CallerParams, ParamMemory
from fastoptim.kernels.ode.columns cimport Columns
from fastoptim.kernels.ode.gradients cimport Gradients


@cython.final
@cython.nonecheck(True)     # so that what is called outside a session raises
cdef class MovingParams:
    """The caller's parameters as a point that moves, and columns of arrays like them.

    Parameters
    ----------
    n_columns : int
        How many columns to allocate besides the base point.
    """

    cdef int n_columns
    cdef readonly Columns memory    # None before the first session, and when it could not be allocated
    cdef ParamMemory where
    cdef tuple kept                 # of the step before, if its x is y and its slopes are columns[0]
    cdef readonly bint busy
    # of a session:
    cdef CallerParams params
    cdef Gradients grads
    cdef bint away                  # whether y is the base point and x may be another

    def __cinit__(self, int n_columns):
        self.n_columns = n_columns
        self.where = ParamMemory()

    def __deepcopy__(self, memo):
        return MovingParams(self.n_columns)     # nothing in here outlives a step but memory

    @property
    def given(self):
        """The caller's container."""
        return self.params.given

    @property
    def keys(self):
        """The parameters' keys, in the order of all lists of arrays."""
        return self.memory.keys

    @property
    def x(self):
        """The point: the caller's memory, or flat copies of it."""
        return self.params.x

    # ---------------------------------------------------------------- a session

    def session(self, object params, object body):
        """Take parameters in, let a function work on them, and let go of them.

        Parameters
        ----------
        params : dict, list or any mapping
        body : callable
            body() returns (result, state, changes, kept). It calls the methods below. When it has
            returned, `state`, a dict, is updated with `changes`; nothing can come between that and
            the parameters, for no Python code runs here. `kept` is for `start` of the next session.

        Returns
        -------
        result

        Notes
        -----
        Whatever `body` raises, the parameters are back at the base point, and `state` is as it was.
        """
        if self.busy:
            raise RuntimeError(
                "this optimizer is in the middle of a step, in another thread or in fn itself; "
                "give each its own optimizer"
            )
        self.busy = True
        self.away = False
        try:
            self.take(CallerParams(params))
            self.memory.passes.begin()
            result, state, changes, kept = body()
            self.memory.passes.end()
            (<dict> state).update(changes)
            self.away = False
            if kept is not None:
                self.memory.passes.run(PASSES["copy"], (self.memory.base, self.params.x))
                self.kept = kept, self.grads.missing
            return result
        except BaseException as problem:
            if self.away:
                self.params.restore(self.memory.base, problem)
            raise
        finally:
            self.params = self.grads = None
            self.away = False
            self.busy = False

    cdef int take(self, CallerParams params) except -1:
        """Check where parameters lie, and find or make the memory for them."""
        cdef bint fits = self.memory is not None and self.memory.fit(params.keys, params.arrays)
        if not fits:
            self.where.forget()
        self.where.check(params, self.memory)
        if not fits:
            self.memory = self.kept = None     # the old memory is free before there is new
            self.memory = Columns(params.keys, params.arrays, self.n_columns)
        params.lay_out(self.memory)
        self.params = params
        self.grads = Gradients(params, self.memory, self.where)
        return 0

    # ---------------------------------------------------------------- moving

    def start(self):
        """Keep the parameters as the base point.

        Returns
        -------
        object
            What the step before has kept, if the parameters have the bits that it has written:
            x then is y already, and columns[0] are the gradients there. Else None.
        """
        kept, self.kept = self.kept, None
        if kept is None or not self.memory.passes.same_bits(self.params.x, self.memory.base):
            self.save()
            return None
        self.away = True
        self.grads.missing = kept[1]
        return kept[0]

    cdef int save(self) except -1:
        """Write x to y."""
        self.memory.passes.move(PASSES["save"], self.params.x, None, (self.memory.base,))
        self.away = True
        return 0

    def leap(self, list g, tuple coefficients, list rows):
        """Keep the parameters as the base point, and let x be y + c g."""
        self.kept = None
        if g is None:
            self.save()
            return
        self.memory.passes.move(PASSES["leap"], self.params.x, g, (self.memory.base,), coefficients, rows)
        self.away = True
        self.params.show()

    def move(self, object capsule, list g, tuple columns, tuple coefficients=()):
        """Write the next point to x in one pass; the caller's arrays hold it then."""
        if not self.memory.passes.move(capsule, self.params.x, g, columns, coefficients):
            raise self.altered()
        self.params.show()

    def total(self, object capsule, list g, tuple columns, tuple coefficients):
        """Return a sum over all elements that a pass makes at x."""
        total = self.memory.passes.total(capsule, self.params.x, g, columns, coefficients)
        if self.memory.passes.altered >= 0:
            raise self.altered()
        return total

    def back(self):
        """Go back to the base point, in the middle of a session that is going well."""
        if not self.memory.passes.move(PASSES["restore"], self.params.x, None, (self.memory.base,)):
            raise self.altered()
        self.params.show(True)
        self.away = False

    cdef object altered(self):
        return RuntimeError(
            f"fn altered params[{self.memory.keys[self.memory.passes.altered]!r}]; they are the point at which "
            f"the gradient is wanted, and the step moves them: let fn only read them"
        )

    def ahead(self, list g, tuple coefficients, list rows):
        """Return the point x + c g in memory of ours, which cannot be written."""
        self.kept = None
        if g is None:
            self.memory.passes.run(PASSES["copy"], (self.memory.base, self.params.x))
        else:
            self.memory.passes.run(PASSES["ahead"], (self.memory.base, g, self.params.x), coefficients, rows)
        return self.params.with_values(self.memory.base)

    # ---------------------------------------------------------------- what fn returned

    def gradients(self, object grads, bint of_fn=True):
        """Check gradients; return them as a list of arrays that lie as x does.

        Those of fn are refused if it has altered the parameters.
        """
        return self.grads.of_fn(grads) if of_fn else self.grads.flat(grads)

    def lasting(self, object grads, bint zero_grads):
        """Return gradients that stay what they are when the parameters go back to the base point."""
        return self.grads.lasting(grads, zero_grads)
