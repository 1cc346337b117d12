"""What can be chosen for a training run: one list, for Python and for the command line."""

import dataclasses
import math
from functools import cached_property
from typing import Any

import fastoptim
from fastoptim.optimizer.base import Optimizer
from skipgram.corpus import InputError

MOST = 2**31 - 1
CLASSES = (getattr(fastoptim, name) for name in fastoptim.__all__)
# Here a row is updated by itself. Rules that go by whole tensors, or carry numbers on, cannot be.
RULES: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in CLASSES
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls.kernels
    and not (cls.of_matrices or cls.factored or cls.carries or cls().norms or cls().trust_ratio)
}


def whole(default: int, low: int, high: int, text: str) -> Any:
    """Declare an option that is a whole number from low to high."""
    return dataclasses.field(default=default, metadata={"in": (low, high), "help": text})


def other(default: object, text: str) -> Any:
    """Declare an option of another kind."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Options:
    """A training run, checked.

    Raises
    ------
    InputError
        An option is outside its range, or the rule has none of that name.
    """

    dim: int = whole(100, 1, 65_536, "length of the vectors")
    window: int = whole(5, 1, 1000, "most words from a centre word to its contexts, on each side")
    negative: int = whole(5, 1, 1000, "negatives drawn for a centre word")
    sample: float = other(
        1e-3, "leave out, at random, occurrences of words of a larger share than this; 0 for none"
    )
    epochs: int = whole(5, 1, MOST, "passes over the corpus")
    rule: str = other("sgd", "rule of fastoptim: " + ", ".join(sorted(RULES)))
    lr: float | None = other(None, "learning rate (sgd 0.025, others their own default)")
    min_lr: float | None = other(
        None, "let the learning rate fall linearly to this (sgd to 1e-4, others constant)"
    )
    threads: int = whole(1, 1, 1024, "threads; with one, a seed gives the same bits each time")
    seed: int = whole(1, 0, 2**63 - 1, "of all that is drawn at random")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if "in" in field.metadata:
                low, high = field.metadata["in"]
                if type(value) is not int or not low <= value <= high:
                    raise InputError(
                        f"{name} must be a whole number in [{low}, {high}], got {value!r}"
                    )
        if not 0 <= self.sample < math.inf:
            raise InputError(f"--sample must be in [0, inf), got {self.sample}")
        if self.rule.lower() not in RULES:
            raise InputError(f"--rule must be one of {', '.join(sorted(RULES))}, got {self.rule}")
        first, last = self.rates
        try:
            ends = self.optimizer(first), self.optimizer(last)
        except (TypeError, ValueError) as problem:
            raise InputError(f"--rule {self.rule}: {problem}") from None
        if last > first:
            raise InputError(f"--min-lr must be at most the learning rate {first}, got {last}")
        if last < first and ends[0].coefficients(1) == ends[1].coefficients(1):
            raise InputError(f"--min-lr has no effect: {self.rule} reads its lr only at the start")
        if ends[0].weight_decay and not ends[0].decoupled:
            raise InputError(f"--rule {self.rule} has L2 decay by default, which rows cannot have")

    def optimizer(self, lr: float) -> Optimizer:
        """Return the rule with a learning rate; it is asked for scalars and never updates."""
        return RULES[self.rule.lower()](lr=lr)

    @cached_property
    def rates(self) -> tuple[float, float]:
        """Learning rate at the start and at the end."""
        sgd = self.rule.lower() == "sgd"
        first = self.lr
        if first is None:
            first = 0.025 if sgd else RULES[self.rule.lower()]().lr
        last = self.min_lr
        if last is None:
            last = min(1e-4, first) if sgd else first
        return first, last
