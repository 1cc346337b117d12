"""The row gradients of one parameter, gathered over the calls of a soft batch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels import coalesced
from fastoptim.kernels.update.checks.row_grads import is_sparse, row_grad
from fastoptim.rows import Elements, Rows

Part = tuple[NDArray[np.integer[Any]], NDArray[Any]]


def is_by_rows(g: object) -> bool:
    """Whether a gradient is of some rows or elements of its parameter."""
    return isinstance(g, Rows) or is_sparse(g)


class RowSum:
    """A sum of row gradients, kept as rows: it has only rows that some call touched.

    It never changes; `plus` returns another sum with one more call.

    Each call's duplicates are summed first, then the calls in their order, as dense gradients are.
    It takes a few times the memory of all touched rows at most. If one call gave `Rows` and another
    a sparse array, it is a sum of elements.

    Parameters
    ----------
    key : hashable
        The parameter's, for messages.
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, key: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.key, self.shape, self.dtype = key, shape, dtype
        self.kind: type[Rows] = Rows
        self.parts: tuple[Part, ...] = ()  # the first is the sum of the older calls

    def part(self, grad: Any) -> tuple[type[Rows], Part]:
        """Return what one call adds; nothing is added yet."""
        of = row_grad(self.key, grad, self.dtype, self.shape)
        index, values = coalesced(f"grads[{self.key!r}]", of.index, of.values, of.n_rows, of.length)
        bits: Any = values.view(np.uint32 if values.dtype == np.float32 else np.uint64)
        bits[bits << 1 == 0] = 0  # −0 becomes 0, as in a sum that starts at 0
        kind = Elements if is_sparse(grad) or isinstance(grad, Elements) else Rows
        return kind, (index, values)

    def plus(self, kind: type[Rows], part: Part) -> "RowSum":
        """Return the sum with what `part` made of a call's gradient."""
        parts = self.parts
        if parts and kind is not self.kind:    # sparse and Rows in one batch: by element
            parts = tuple(self.by_element(self.kind, *one) for one in parts)
            kind, part = Elements, self.by_element(kind, *part)
        total = RowSum(self.key, self.shape, self.dtype)
        total.kind, total.parts = kind, (*parts, part)
        if sum(len(index) for index, _ in total.parts[1:]) > len(total.parts[0][0]):
            summed = total.gradient()
            total.parts = ((summed.index, summed.values),)
        return total

    def fill(self, a: NDArray[Any]) -> None:
        """Write the sum into an array of zeros."""
        grad = self.gradient()
        where = (grad.index,) if self.kind is Rows else np.unravel_index(grad.index, self.shape)
        a[where] = grad.values

    def by_element(
        self, kind: type[Rows], index: NDArray[np.integer[Any]], values: NDArray[Any]
    ) -> Part:
        """Return a part in which each element of a row has a number of its own."""
        if kind is Elements:
            return index, values
        length = math.prod(self.shape[1:])
        places = index[:, None] * length + np.arange(length)
        return places.reshape(-1), values.reshape(-1)

    def gradient(self) -> Rows:
        """Return the sum as a gradient."""
        if len(self.parts) == 1:
            return self.kind(*self.parts[0], unique=True)
        index, values = (np.concatenate(them) for them in zip(*self.parts, strict=True))
        grad = self.kind(index, values)
        of = row_grad(self.key, grad, self.dtype, self.shape)
        index, values = coalesced(f"grads[{self.key!r}]", of.index, of.values, of.n_rows, of.length)
        return self.kind(index, values, unique=True)

    def state(self) -> dict[str, Any]:
        """Return the sum as plain values; row numbers are float64, which holds them exactly."""
        grad = self.gradient()
        return {
            "shape": self.shape, "elements": self.kind is Elements,
            "index": grad.index.astype(np.float64), "values": grad.values.copy(),
        }

    @classmethod
    def of_state(cls, key: object, saved: Mapping[str, Any]) -> "RowSum":
        """Return the sum that `state` described, or say what is wrong with it."""
        name = f"the sum of {key!r}"
        try:
            shape, index = tuple(saved["shape"]), saved["index"]
            values, elements = saved["values"], saved["elements"]
            numbers = index.astype(np.intp)
            if (numbers != index).any():
                raise ValueError("row numbers that are not whole")
            one = cls(key, shape, values.dtype)
            kind, part = one.part((Elements if elements else Rows)(numbers, values))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as problem:
            raise ValueError(f"{name} is not what state_dict gives: {problem}") from problem
        return one.plus(kind, part)
