"""The row gradients of one parameter, gathered over the calls of a soft batch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels import coalesced
from fastoptim.kernels.update.checks.row_grads import is_sparse, row_grad
from fastoptim.kernels.update.row_numbers import copy_as_sum
from fastoptim.rows import Elements, Rows

# Rows of one number that wait at most, for each that is touched: then they are summed.
MOST_WAITING = 4

Part = tuple[NDArray[np.integer[Any]], NDArray[Any]]


class Memory:
    """Room for rows and their numbers. Rows are only ever written behind those in use."""

    def __init__(self, n_rows: int, row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.index = np.empty(n_rows, np.intp)
        self.values = np.empty((n_rows, *row_shape), dtype)
        self.used = 0


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
        self.memory: Memory | None = None
        self.count = 0  # rows of the memory that are in this sum
        self.summed = 0  # of these, the first that have different numbers

    def emptied(self) -> "RowSum":
        """Return a sum of nothing that uses this one's memory, which nobody reads any more."""
        empty = RowSum(self.key, self.shape, self.dtype)
        empty.kind, empty.memory = self.kind, self.memory
        if self.memory is not None:
            self.memory.used = 0
        return empty

    def part(self, grad: Any) -> tuple[type[Rows], Part]:
        """Return what one call adds; nothing is added yet."""
        of = row_grad(self.key, grad, self.dtype, self.shape)
        kind = Elements if is_sparse(grad) or isinstance(grad, Elements) else Rows
        return kind, coalesced(f"grads[{self.key!r}]", of.index, of.values, of.n_rows, of.length)

    def plus(self, kind: type[Rows], part: Part) -> "RowSum":
        """Return the sum with what `part` made of a call's gradient."""
        if self.count and kind is not self.kind:  # sparse and Rows in one batch: by element
            elements = RowSum(self.key, self.shape, self.dtype)
            if self.kind is Rows:
                elements = elements.plus(Elements, self.by_element(*self.once()))
                return elements.plus(kind, part)
            kind, part = Elements, self.by_element(*part)
        index, values = part
        if self.summed and self.count + len(index) > MOST_WAITING * self.summed:
            once = RowSum(self.key, self.shape, self.dtype).plus(self.kind, self.once())
            if once.count + len(index) <= MOST_WAITING * once.summed:
                return once.plus(kind, part)
        total = RowSum(self.key, self.shape, self.dtype)
        total.kind, total.memory = kind, self.room_for(index, values)
        total.count = self.count + len(index)
        total.summed = self.summed or len(index)
        total.memory.index[self.count:total.count] = index
        copy_as_sum(values, total.memory.values[self.count:total.count])
        total.memory.used = total.count
        return total

    def room_for(self, index: NDArray[np.integer[Any]], values: NDArray[Any]) -> Memory:
        """Return memory that begins with this sum's rows and has room for others behind them."""
        memory, count = self.memory, self.count + len(index)
        if (
            memory is not None and memory.used == self.count and count <= len(memory.index)
            and memory.values.shape[1:] == values.shape[1:]
        ):
            return memory
        larger = Memory(2 * count, values.shape[1:], self.dtype)
        if self.count:
            larger.index[:self.count], larger.values[:self.count] = self.rows()
        return larger

    def rows(self) -> Part:
        """Return the rows that wait, call after call."""
        assert self.memory is not None
        return self.memory.index[:self.count], self.memory.values[:self.count]

    def once(self) -> Part:
        """Return each row once, with its sum."""
        if self.memory is None or self.count == self.summed:
            return self.rows() if self.memory else (np.zeros(0, np.intp), np.zeros(0, self.dtype))
        return self.part(self.kind(*self.rows()))[1]

    def fill(self, a: NDArray[Any]) -> None:
        """Write the sum into an array of zeros."""
        index, values = self.once()
        a[(index,) if self.kind is Rows else np.unravel_index(index, self.shape)] = values

    def by_element(self, index: NDArray[np.integer[Any]], values: NDArray[Any]) -> Part:
        """Return rows of which each element has a number of its own."""
        length = math.prod(self.shape[1:])
        places = index[:, None] * length + np.arange(length)
        return places.reshape(-1), values.reshape(-1)

    def gradient(self) -> Rows:
        """Return the sum as a gradient, whose rows the update sums; it shares memory with this."""
        return self.kind(*self.rows(), unique=self.count == self.summed)

    def state(self) -> dict[str, Any]:
        """Return the sum as plain values; row numbers are float64, which holds them exactly."""
        index, values = self.once()
        return {
            "shape": self.shape, "elements": self.kind is Elements,
            "index": index.astype(np.float64), "values": values.copy(),
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
