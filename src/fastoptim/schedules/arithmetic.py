"""What all schedules share: checked arguments, and arithmetic, whose results are schedules."""

import dataclasses
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from fastoptim.optimizer.hyperparameters import Choice, real_number
from fastoptim.porting.answers import shown
from fastoptim.schedules.arguments import FINITE

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}


class Schedule:
    """What the schedules share: `checks` says what each argument may be.

    Schedules are added, subtracted and multiplied with numbers and with each other, and divided by
    numbers.
    """

    checks: ClassVar[dict[str, Callable[[str, object], object]]]
    observes: ClassVar[bool] = False  # whether it is told losses itself
    __array_ufunc__ = None  # so that NumPy leaves arithmetic with its numbers to a schedule

    def __post_init__(self) -> None:
        for name, check in self.checks.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))

    def __add__(self, other: Any) -> "combined | chained":
        return combine(self, "+", other)

    def __radd__(self, other: Any) -> "combined | chained":
        return combine(other, "+", self)

    def __sub__(self, other: Any) -> "combined | chained":
        return combine(self, "-", other)

    def __rsub__(self, other: Any) -> "combined | chained":
        return combine(other, "-", self)

    def __mul__(self, other: Any) -> "combined | chained":
        return combine(self, "*", other)

    def __rmul__(self, other: Any) -> "combined | chained":
        return combine(other, "*", self)

    def __truediv__(self, other: Any) -> "combined | chained":
        return combine(self, "/", other)

    def observe(self, loss: Any) -> bool:
        """Tell a loss to every `plateau` that this schedule is made of.

        Parameters
        ----------
        loss : float
            See `plateau.observe`.

        Returns
        -------
        bool
            Whether a plateau lowered its number.

        Raises
        ------
        TypeError
            There is no plateau in this schedule.
        """
        told = observers(self)
        if not told:
            raise TypeError(f"{self!r} has no plateau in it, so no loss can be observed")
        fell = [one.observe(loss) for one in told]  # each is told, whatever the others do
        return any(fell)


@dataclasses.dataclass(frozen=True, repr=False)
class combined(Schedule):
    """What arithmetic with schedules gives; its repr is the expression.

    Parameters
    ----------
    left : callable or float
    operator : {"+", "-", "*", "/"}
    right : callable or float

    Examples
    --------
    >>> from fastoptim.schedules import linear
    >>> rate = 0.5 * linear(1.0, 0.0, steps=4) + 0.25
    >>> [rate(step) for step in range(6)]
    [0.75, 0.625, 0.5, 0.375, 0.25, 0.25]
    >>> rate
    ((0.5 * linear(start=1.0, stop=0.0, steps=4)) + 0.25)
    """

    left: Any
    operator: str
    right: Any

    checks: ClassVar = {
        "left": lambda name, value: operand(name, value),
        "operator": Choice(tuple(OPERATORS)),
        "right": lambda name, value: operand(name, value),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operator == "/":  # a schedule often ends at 0, so only numbers divide
            if callable(self.right):
                raise TypeError(f"a schedule is divided by numbers alone, got {shown(self.right)}")
            if self.right == 0.0:
                raise ValueError("a schedule cannot be divided by 0")

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        left = float(self.left(step)) if callable(self.left) else self.left
        right = float(self.right(step)) if callable(self.right) else self.right
        value: float = OPERATORS[self.operator](left, right)
        return value

    def __repr__(self) -> str:
        return f"({self.left!r} {self.operator} {self.right!r})"


@dataclasses.dataclass(frozen=True, repr=False)
class chained(Schedule):
    """A schedule with numbers one after the other: what ``opt.lr -= 0.001`` in each epoch gives.

    The numbers are those of `combined` in `combined`, which could be neither called nor saved in
    such depth.

    Parameters
    ----------
    schedule : callable
    steps : tuple of (operator, float)
        In their order.

    Examples
    --------
    >>> from fastoptim.schedules import constant
    >>> rate = constant(1.0)
    >>> for epoch in range(3):
    ...     rate -= 0.125
    >>> rate, rate(0)
    ((((constant(value=1.0) - 0.125) - 0.125) - 0.125), 0.625)
    """

    schedule: Any
    steps: tuple[tuple[str, float], ...]

    checks: ClassVar = {
        "schedule": lambda name, value: operand(name, value),
        "steps": lambda name, value: checked_steps(name, value),
    }

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        value = float(self.schedule(step)) if callable(self.schedule) else self.schedule
        for sign, number in self.steps:
            value = OPERATORS[sign](value, number)
        result: float = value
        return result

    def __repr__(self) -> str:
        ends = "".join(f" {sign} {number!r})" for sign, number in self.steps)
        return f"{'(' * len(self.steps)}{self.schedule!r}{ends}"


def checked_steps(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """Return what a chain does to its schedule's number, or say what it cannot do."""
    if not isinstance(value, tuple) or any(
        not isinstance(one, tuple) or len(one) != 2 or callable(one[1]) for one in value
    ):
        raise TypeError(f"{name} must be pairs of operator and number, got {shown(value)}")
    pairs = (combined(0.0, sign, number) for sign, number in value)
    return tuple((one.operator, one.right) for one in pairs)


def operand(name: str, value: object) -> object:
    """Return a callable as it is, and a number as a float."""
    return value if callable(value) else FINITE(name, value)


def combine(left: Any, sign: str, right: Any) -> "combined | chained":
    """Return a combined schedule.

    A factor of a factor becomes one, so ``opt.lr *= 0.5`` a thousand times is asked as fast as
    once. Terms do not, since their sum would be rounded where it was not: they are chained.
    """
    for side in (left, right):
        if not callable(side):
            real_number("what a schedule is combined with", side, "a number or a schedule")
    whole = combined(left, sign, right)
    if callable(whole.right):
        return whole
    if isinstance(left, combined) and not callable(left.right):
        left = chained(left.left, ((left.operator, left.right),))
    if not isinstance(left, chained):
        return whole
    *steps, last = left.steps
    factor = of_two(last, (sign, whole.right))
    steps += [last, (sign, whole.right)] if factor is None else [factor]
    if len(steps) == 1:
        return combined(left.schedule, *steps[0])
    return chained(left.schedule, tuple(steps))


def of_two(first: tuple[str, float], second: tuple[str, float]) -> tuple[str, float] | None:
    """Return the factor that stands for two of them, None if none does."""
    (one, inside), (sign, outside) = first, second
    if one not in "*/" or sign not in "*/":
        return None
    if one == sign:
        factor = inside * outside
    else:
        sign, factor = "*", outside / inside if sign == "*" else inside / outside
    is_one = math.isfinite(factor) and (factor != 0.0 or not (inside and outside))
    return (sign, factor) if is_one else None


def parts(schedule: Any) -> Iterator[Any]:
    """Yield the schedules that a schedule is made of, itself first."""
    if isinstance(schedule, tuple):
        for one in schedule:
            yield from parts(one)
    elif isinstance(schedule, Schedule):
        yield schedule
        for field in dataclasses.fields(schedule):  # type: ignore[arg-type]
            yield from parts(getattr(schedule, field.name))


def observers(schedule: Any) -> list[Any]:
    """Return the plateaus of a schedule, each once, in the order of its arguments."""
    found = {id(one): one for one in parts(schedule) if one.observes}
    return list(found.values())
