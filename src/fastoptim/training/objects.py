"""What stands in a file for optimizers, soft batches, schedules and random generators."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastoptim import muon, rules
from fastoptim.checkpoint.tree import Stored
from fastoptim.kernels.update.adder import still_all
from fastoptim.ode import methods
from fastoptim.ode import state as ode_state
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import state
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import checks_of
from fastoptim.softbatch.batch import SoftBatch
from fastoptim.training import generators, schedules

EXPECTED = (
    "a dict, list, tuple, str, int, float, bool, None, an array of float32 or float64, an "
    "optimizer or SoftBatch of fastoptim, one of fastoptim.schedules or a numpy.random.Generator"
)
# What messages call each kind.
KINDS = {
    "optimizer": "an optimizer", "method": "a Runge–Kutta method", "softbatch": "a SoftBatch",
    "schedule": "a schedule", "generator": "a random generator",
}
BUILT_IN: dict[str, type[Any]] = {
    name: cls
    for module in (rules, muon, methods)
    for name, cls in vars(module).items()
    if isinstance(cls, type) and issubclass(cls, (Optimizer, RungeKutta))
    and cls.__module__ == module.__name__
}


def is_own(cls: type[Any]) -> bool:
    """Whether a class of optimizers is the user's."""
    return BUILT_IN.get(cls.__name__) is not cls


class Writer:
    """Says what stands for the objects of one tree.

    Arrays that occur twice are stored twice. What trains on must not be: two copies would go
    separate ways after loading, where one object was.
    """

    def __init__(self) -> None:
        self.schedules = schedules.Writer()
        self.places: dict[int, str] = {}  # by identity: where each object was met

    def describe(self, x: Any, place: Callable[[], str]) -> Stored | None:
        """Return what stands for an object, None if nothing does."""
        if isinstance(x, Optimizer):
            self.once(x, place())
            return Stored("optimizer", self.optimizer(x))
        if isinstance(x, RungeKutta):
            self.once(x, place())
            return Stored("method", self.method(x))
        if type(x) is SoftBatch:
            self.once(x.opt, place())
            return Stored("softbatch", self.softbatch(x))
        if type(x) is np.random.Generator:
            self.once(x.bit_generator, place())
            return generator(x, place())
        if callable(x) and schedules.is_known(x):
            return schedules.stored(self.schedules.described(x))
        return None

    def once(self, x: object, place: str) -> None:
        """Refuse an object that is in the tree already."""
        before = self.places.setdefault(id(x), place)
        if before != place:
            raise ValueError(
                f"{place} is the same {type(x).__name__} as {before}, and would come back as "
                f"another one; save it once"
            )

    def optimizer(self, opt: Optimizer) -> dict[str, Any]:
        """Return what makes an optimizer again."""
        rest = opt.inner()
        return {
            "state": state.for_file(state.of(opt, copy=False)), **self.code(opt),
            **({} if rest is None else {"rest": self.code(rest)}),
        }

    def code(self, opt: Optimizer) -> dict[str, Any]:
        """Return what a state does not have of an optimizer."""
        return {
            "own": is_own(type(opt)),
            "schedules": self.of_values({name: vars(opt)[name] for name in state.values_of(opt)}),
            "groups": [self.of_values(group.hyperparameters) for group in opt.groups],
        }

    def method(self, opt: RungeKutta) -> dict[str, Any]:
        """Return what makes a Runge–Kutta method again."""
        names = checks_of(type(opt))
        return {
            "own": is_own(type(opt)),
            "state": ode_state.of(opt),
            "schedules": self.of_values({name: vars(opt)[name] for name in names}),
        }

    def softbatch(self, soft: SoftBatch) -> dict[str, Any]:
        """Return what makes a SoftBatch again: its optimizer, and what waits."""
        saved = state.for_file(soft._state(copy=False))
        del saved["optimizer"]
        return {"waiting": saved, "optimizer": self.optimizer(soft.opt)}

    def of_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the schedules among hyperparameters, as plain values."""
        return {name: self.schedules.described(v) for name, v in values.items() if callable(v)}


def generator(rng: np.random.Generator, place: str) -> Stored:
    """Return what stands for a random generator, or say why nothing does."""
    try:
        content = generators.described(rng)
    except ValueError as problem:
        raise ValueError(f"{place} cannot be saved: {problem}") from None
    if content is None:
        raise TypeError(
            f"{place} has the bit generator {type(rng.bit_generator).__name__}, of which only its "
            f"author knows the state; use one of {', '.join(generators.CLASSES)}"
        )
    return Stored("generator", content)


def while_still(tree: object, function: Callable[[], None]) -> None:
    """Call a function while no optimizer of a tree can change."""
    seen: set[int] = set()
    engines, adders = [], []
    waiting = [tree]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, dict):
            waiting += x.values()
        elif isinstance(x, (list, tuple)):
            waiting += x
        elif isinstance(x, Optimizer):
            engines.append(x.engine)
        elif isinstance(x, SoftBatch):
            adders.append(x._adder)
    still_all(engines, adders, function)
