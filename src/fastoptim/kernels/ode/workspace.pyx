"""Parameters as a point in space, which moves while a function is evaluated, and comes back.

 a) fn is called with the caller's own mapping, whose arrays hold the point x at which the gradient
    is wanted, because many networks read the arrays that they hold and not an argument. The base
    point y, where the step started, is meanwhile in memory of ours (columns.pyx). Whatever is
    raised, wherever, the caller's arrays and numbers hold the base point again before the exception
    leaves (`session`).
 b) caller_params.pyx says where x is, and copies it to the caller's arrays and back if it is not there.
 c) fn must leave x as it is. After each call the mapping is compared: it must hold the same arrays.
    The pass that next reads or overwrites x compares the bits (runge_kutta.pxi), at the latest before
    the step is accepted.
 d) gradients.pyx reads what fn returned, if possible where it is.

x in the caller's arrays saves a pass over memory. With x in memory of ours, the parameters would be
copied to x at the start, and x to the parameters at the end. Now they are only saved to y. Heun makes 3
passes instead of 4, RK45 7 instead of 8, with tolerances 8 instead of 9. `deterministic` saves none: it
makes one pass to compare, one to keep x for that. Measured (1 M float32, one thread, fastest of 12), now
and with x in memory of ours: Heun 1.48 and 1.69 ms, RK45 5.8 and 5.9, with tolerances 6.6 and 6.7.

Look-ahead makes one pass more, from the position back to the base point: 1.21 and 0.86 ms. The update's
own pass could restore the base point, but it would find a parameter that fn has altered too late: the
velocity would be overwritten by then.
"""

import numpy as np

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
    cdef readonly Columns memory    # None before the first session, or if it could not be allocated
    cdef ParamMemory where
    cdef tuple kept                 # of the last step, if its x is y and its slopes are columns[0]
    cdef readonly bint busy
    # of a session:
    cdef CallerParams params
    cdef Gradients grads
    cdef bint away                  # whether y is the base point and x may be another

    def __cinit__(self, int n_columns):
        self.n_columns = n_columns
        self.where = ParamMemory()

    def __deepcopy__(self, memo):
        return MovingParams(self.n_columns)     # only memory outlives a step

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
            body() returns (result, state, changes, kept). It calls the methods below. After it,
            `state`, a dict, is updated with `changes`. No Python code runs between, so state and
            parameters change together. `kept` is for `start` of the next session.

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
            self.memory = self.kept = None     # frees the old memory before the new is allocated
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
            What the last step kept, if the parameters still have the bits that it wrote: then y is x
            already, and columns[0] are the gradients there. Else None.
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

    def move(self, object capsule, list g, tuple columns, tuple coefficients=(), list rows=None):
        """Write the next point to x in one pass; the caller's arrays hold it then."""
        if not self.memory.passes.move(capsule, self.params.x, g, columns, coefficients, rows):
            raise self.altered()
        self.params.show()

    def total(self, object capsule, list g, tuple columns, tuple coefficients):
        """Return a sum over all elements that a pass makes at x."""
        total = self.memory.passes.total(capsule, self.params.x, g, columns, coefficients)
        if self.memory.passes.altered >= 0:
            raise self.altered()
        return total

    def norm(self, list g):
        """Return the norm of gradients together, each in C order, so that no layout changes a bit."""
        return self.memory.passes.norm(PASSES["survey"], [np.ascontiguousarray(a) for a in g])

    def back(self):
        """Go back to the base point in a session that has not failed."""
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

        The gradients of fn are refused if it altered the parameters.
        """
        return self.grads.of_fn(grads) if of_fn else self.grads.flat(grads)

    def lasting(self, object grads, bint zero_grads):
        """Return gradients that do not change when the parameters go back to the base point."""
        return self.grads.lasting(grads, zero_grads)
