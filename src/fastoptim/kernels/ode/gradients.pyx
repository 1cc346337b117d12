"""Gradients as fn left them: checked, and read where they are if they lie as the parameters do.

A gradient that lies otherwise is copied, and a product is made as a whole. So is one copied that is in
the parameters' memory, because fn may return a parameter (the gradient of ½|p|² is p).
"""

import numpy as np

cimport cython

from fastoptim.kernels.update.checks.arrays import checked_grad
from fastoptim.kernels.update.checks.containers import as_dict, check_containers, keys_error
from fastoptim.kernels.update.checks.products import checked_factors
from fastoptim.kernels.update.checks.row_grads import is_sparse
from fastoptim.product import Product, made
from fastoptim.rows import Rows

from fastoptim.kernels.ode.caller_params cimport CallerParams, ParamMemory
from fastoptim.kernels.ode.columns cimport Columns, lies_like


@cython.final
cdef class Gradients:
    """Reads gradients for one session."""

    def __cinit__(self, CallerParams params, Columns columns, ParamMemory where):
        self.params, self.columns, self.where = params, columns, where

    cdef list of_fn(self, object grads):
        """Return a list of arrays that lie as x does; refuse parameters that fn has changed."""
        self.params.check_unchanged()
        self.params.fetch()
        cdef dict d = self.checked(grads)
        self.check_missing([d[key] is None for key in self.columns.keys])
        return self.flat_list(d)

    cdef list flat(self, object grads):
        """Return a list of arrays that lie as x does; None gives zeros."""
        return self.flat_list(self.checked(grads))

    cdef object lasting(self, object grads, bint zero_grads):
        """Return gradients that do not change when the parameters go back to the base point.

        Gradients in the parameters' memory are copied. With `zero_grads` they are not: it would zero
        that memory, and the update refuses such gradients.
        """
        self.params.check_unchanged()
        self.params.fetch()
        d = as_dict("grads", grads)
        copies = {} if zero_grads else {
            key: copied(g) for key, g in d.items() if self.reaches_params(g)
        }
        if grads is not self.params.given and not copies:
            return grads
        if isinstance(grads, (list, tuple)):
            return [copies.get(key, g) for key, g in d.items()]
        return {key: copies.get(key, g) for key, g in d.items()}

    cdef dict checked(self, object grads):
        """Return a container of gradients as a dict, if its keys are those of the parameters."""
        cdef dict d = as_dict("grads", grads)
        cdef dict params = dict.fromkeys(self.columns.keys)
        check_containers(self.params.given, grads, params, d)
        for key in self.columns.keys:
            if key not in d:
                raise keys_error(params, d)
        if d and all([g is None for g in d.values()]):
            raise ValueError("every gradient is None: there is nothing to update")
        return d

    cdef int check_missing(self, list missing) except -1:
        """Refuse a gradient that is None at one stage of a step and an array at another."""
        if self.missing is None:
            self.missing = missing
        for key, now, then in zip(self.columns.keys, missing, self.missing, strict=True):
            if now != then:
                raise ValueError(
                    f"grads[{key!r}] is None at one stage of the step and not at another; None "
                    f"leaves a parameter where it is, so it must be None at all of them"
                )
        return 0

    cdef list flat_list(self, dict grads):
        """Return gradients, checked one by one, as arrays that lie as x does."""
        cdef list flat = []
        cdef Py_ssize_t k
        cdef object key, g, a
        for k, key in enumerate(self.columns.keys):
            g, a = grads[key], None
            if isinstance(g, Product):
                a = made(*checked_factors(key, g, self.columns.dtypes[k], self.columns.shapes[k]))
            elif g is not None:
                a = checked_grad(key, g, self.columns.dtypes[k], self.columns.shapes[k])
                if (
                    isinstance(g, np.ndarray) and lies_like(a, self.columns.base[k])
                    and not self.where.is_reached_by(a)
                ):
                    flat.append(a)
                    continue
            own = self.columns.flat(self.columns.flat_grads, k)
            own[...] = 0 if a is None else a
            flat.append(own)
        return flat

    cdef bint reaches_params(self, object g) except -1:
        """Whether a gradient of any kind has an array in the parameters' memory."""
        if isinstance(g, np.ndarray):
            parts = [g]
        elif isinstance(g, Rows):
            parts = [g.index, g.values]
        elif isinstance(g, Product):
            parts = [g.x, g.d]
        elif is_sparse(g):
            parts = [
                getattr(g, name) for name in ("data", "indices", "indptr", "row", "col")
                if isinstance(getattr(g, name, None), np.ndarray)
            ]
        else:
            return False
        for a in parts:
            if self.where.is_reached_by(a):
                return True
        return False


cdef object copied(object g):
    """Return a copy of a gradient of any kind."""
    if isinstance(g, Rows):
        return type(g)(g.index.copy(), g.values.copy(), unique=g.unique)
    if isinstance(g, Product):
        return Product(g.x.copy(), g.d.copy())
    return g.copy()
