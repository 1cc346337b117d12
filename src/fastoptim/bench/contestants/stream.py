"""The limit: the same memory read and written by the same driver, with one addition each."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastoptim.bench.cases import Case
from fastoptim.bench.names import LIMIT
from fastoptim.bench.turns import Contestant
from fastoptim.kernels import PASSES
from fastoptim.kernels.one_array import step
from fastoptim.optimizer.base import Optimizer, Slot


@dataclass(eq=False, repr=False)
class Stream(Optimizer):
    """The least that can be done with Adam's arrays: one addition for each that is written."""

    kernels = {"stream": ("m", "v")}
    m = Slot()
    v = Slot()

    def capsule(self) -> object:
        """Return the loop."""
        return PASSES[self.kernel]

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return nothing: it has no numbers."""
        return ()


@dataclass(eq=False, repr=False)
class Sum(Stream):
    """The same for a rule without state: p += g."""

    kernels = {"add": ()}


def bare(name: str, param: Any, grad: Any, state: Any = ()) -> None:
    """Run a loop that is no rule of an optimizer, such as "add", on one array."""
    step(PASSES[name], param, grad, state, ())


def contestant(case: Case, params: Any, grads: Any) -> Contestant:
    """Return the limit of a case.

    The loops have no state or two arrays of it. A rule with one has the second loop on as much
    less of each array as makes the memory that is read and written the same: 5/7 of it.
    """
    if case.slots == 0:
        optimizer: Stream = Sum()
    else:
        optimizer = Stream()
    if case.slots == 1:
        params, grads = ({key: part(a) for key, a in of.items()} for of in (params, grads))
    return Contestant(LIMIT, lambda: optimizer.update(params, grads), [params, grads])


def part(a: Any) -> Any:
    """Return the first 5/7 of an array's elements, at least one."""
    return np.ascontiguousarray(a.reshape(-1)[: max(1, a.size * 5 // 7)])
