"""Hyperparameters that change as training goes on: callables from a step to a number.

The step is the number of completed updates, 0 at the first one, as in Optax; so a schedule of
either library can be used in the other. Every schedule is a frozen dataclass: its arguments are
checked when it is made, it compares by value, and its repr makes it again.

>>> from fastoptim import schedules
>>> rate = schedules.warmup(schedules.cosine_decay(0.1, steps=100), steps=4)
>>> [round(rate(step), 3) for step in (0, 1, 2, 3, 4, 54, 104, 1000)]
[0.025, 0.05, 0.075, 0.1, 0.1, 0.05, 0.0, 0.0]
>>> rate
warmup(schedule=cosine_decay(start=0.1, steps=100, stop=0.0), steps=4)
"""

import bisect
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from fastoptim.optimizer.hyperparameters import Interval

__all__ = [
    "constant",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "linear",
    "per_epoch",
    "piecewise_constant",
    "ramp",
    "warmup",
]

FINITE = Interval("(-inf, inf)")
POSITIVE = Interval("(0, inf)")
NOT_NEGATIVE = Interval("[0, inf)")
COUNT = Interval("[1, inf)")


def whole(name: str, value: object) -> int:
    """Return a whole number of steps as an int, or say why it is not one."""
    x = COUNT(name, value)
    if not x.is_integer():
        raise ValueError(f"{name} must be a whole number in {COUNT.text}, got {value!r}")
    return int(x)


def flag(name: str, value: object) -> bool:
    """Return True or False, or say that it is neither."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def sequence(name: str, value: object) -> tuple[Any, ...]:
    """Return the items of a list, tuple or array, or say that it is not a sequence."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of numbers, got {value!r}")
    return tuple(value)


def between(start: float, stop: float, share: float) -> float:
    """Return the point that divides the way from `start` to `stop`: 0 is start, 1 is stop."""
    way = stop - start
    if math.isinf(way):  # the two are finite, so the sum of their shares is, too
        return start * (1.0 - share) + stop * share
    return start + way * share


class Schedule:
    """What the schedules share: `checks` says what each argument may be."""

    checks: ClassVar[dict[str, Callable[[str, object], object]]]

    def __post_init__(self) -> None:
        for name, check in self.checks.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


@dataclasses.dataclass(frozen=True)
class constant(Schedule):
    r"""The same number at every step.

    .. math:: f(t) = value

    Parameters
    ----------
    value : float
        Any finite number.

    Examples
    --------
    >>> constant(0.1)(1000)
    0.1
    """

    value: float

    checks: ClassVar = {"value": FINITE}

    def __call__(self, step: int) -> float:
        """Return the number."""
        return self.value


@dataclasses.dataclass(frozen=True)
class linear(Schedule):
    r"""A straight line from `start` to `stop`, which it reaches after `steps` updates and keeps.

    .. math:: f(t) = start + (stop - start) \min(t / steps, 1)

    Parameters
    ----------
    start, stop : float
        Any finite numbers.
    steps : int
        Number of updates from one to the other, in [1, inf).

    Notes
    -----
    Optax' ``linear_schedule(start, stop, steps)`` and Keras' ``PolynomialDecay`` of power 1.

    Examples
    --------
    >>> rate = linear(1.0, 0.5, steps=4)
    >>> [rate(step) for step in range(6)]
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """

    start: float
    stop: float
    steps: int

    checks: ClassVar = {"start": FINITE, "stop": FINITE, "steps": whole}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        if step >= self.steps:
            return self.stop  # exactly, without rounding
        return between(self.start, self.stop, step / self.steps)


@dataclasses.dataclass(frozen=True)
class piecewise_constant(Schedule):
    r"""One number up to a boundary, the next one from there on.

    .. math:: f(t) = values_i, \quad i = \#\{b \in boundaries : b \le t\}

    Parameters
    ----------
    values : sequence of float
        Finite numbers, one more than there are boundaries.
    boundaries : sequence of int
        Whole numbers in [1, inf), strictly increasing: ``values[i + 1]`` begins when
        ``boundaries[i]`` updates are done.

    Notes
    -----
    The boundary belongs to the number that follows, as in Optax' ``piecewise_constant_schedule``
    (which takes factors) and PyTorch's ``MultiStepLR``. Keras' ``PiecewiseConstantDecay`` changes
    one update later: give it boundaries smaller by 1 for the same numbers.

    Examples
    --------
    >>> rate = piecewise_constant([0.1, 0.01, 0.001], boundaries=[2, 4])
    >>> [rate(step) for step in range(6)]
    [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """

    values: tuple[float, ...]
    boundaries: tuple[int, ...]

    checks: ClassVar = {"values": sequence, "boundaries": sequence}

    def __post_init__(self) -> None:
        super().__post_init__()
        values = tuple(FINITE(f"values[{i}]", x) for i, x in enumerate(self.values))
        boundaries = tuple(whole(f"boundaries[{i}]", x) for i, x in enumerate(self.boundaries))
        for i in range(1, len(boundaries)):
            if boundaries[i] <= boundaries[i - 1]:
                raise ValueError(
                    f"boundaries must increase strictly, got {boundaries[i]} after "
                    f"{boundaries[i - 1]}"
                )
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"values must be one more than boundaries, got {len(values)} values and "
                f"{len(boundaries)} boundaries"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "boundaries", boundaries)

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        return self.values[bisect.bisect_right(self.boundaries, step)]


@dataclasses.dataclass(frozen=True)
class exponential_decay(Schedule):
    r"""Multiplied by `rate` once in `every` updates, smoothly or in stairs.

    .. math:: f(t) = start \cdot rate^{t / every}, \quad
        \text{with the exponent rounded down if } staircase

    Parameters
    ----------
    start : float
        Any finite number.
    rate : float
        Factor, in (0, inf). With a factor above 1 the number grows until it is infinite; an
        optimizer refuses it then.
    every : int
        Number of updates that one factor takes, in [1, inf).
    staircase : bool
        Whether to change once in `every` updates only.

    Notes
    -----
    Optax' ``exponential_decay(start, every, rate, staircase=...)`` and Keras'
    ``ExponentialDecay``. PyTorch's ``ExponentialLR`` is ``every=1``, its ``StepLR`` is
    ``staircase=True``.

    Examples
    --------
    >>> rate = exponential_decay(1.0, rate=0.25, every=2)
    >>> [rate(step) for step in range(5)]
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    >>> rate = exponential_decay(1.0, rate=0.25, every=2, staircase=True)
    >>> [rate(step) for step in range(5)]
    [1.0, 1.0, 0.25, 0.25, 0.0625]
    """

    start: float
    rate: float
    every: int = 1
    staircase: bool = False

    checks: ClassVar = {"start": FINITE, "rate": POSITIVE, "every": whole, "staircase": flag}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        exponent = step // self.every if self.staircase else step / self.every
        try:
            return float(self.start * self.rate**exponent)
        except OverflowError:
            return self.overflown(exponent)

    def overflown(self, exponent: float) -> float:
        """Return the number if the power alone overflows: in four factors, or ±inf."""
        value = self.start
        for _ in range(4):
            try:
                value *= self.rate ** (exponent / 4)
            except OverflowError:
                return math.copysign(math.inf, value) if value else value
        return value


@dataclasses.dataclass(frozen=True)
class inverse_time_decay(Schedule):
    r"""Divided by a number that grows with every update.

    .. math:: f(t) = \frac{start}{1 + rate \cdot t}

    Parameters
    ----------
    start : float
        Any finite number.
    rate : float
        In [0, inf).

    Notes
    -----
    The argument ``decay`` of Keras' older optimizers, and PyTorch's ``lr_decay`` of ``Adagrad``.

    Examples
    --------
    >>> rate = inverse_time_decay(1.0, rate=1.0)
    >>> [rate(step) for step in (0, 1, 3)]
    [1.0, 0.5, 0.25]
    """

    start: float
    rate: float

    checks: ClassVar = {"start": FINITE, "rate": NOT_NEGATIVE}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        return self.start / (1.0 + self.rate * step)


@dataclasses.dataclass(frozen=True)
class cosine_decay(Schedule):
    r"""Half a cosine wave from `start` to `stop`, which it reaches after `steps` and keeps.

    .. math:: f(t) = stop + \tfrac12 (start - stop) \left(1 + \cos \frac{\pi t}{steps}\right),
        \quad t \le steps

    Parameters
    ----------
    start : float
        Any finite number.
    steps : int
        Number of updates from one to the other, in [1, inf).
    stop : float
        Any finite number.

    Notes
    -----
    Optax' ``cosine_decay_schedule(start, steps, alpha=stop / start)`` and Keras' ``CosineDecay``.
    PyTorch's ``CosineAnnealingLR(T_max=steps, eta_min=stop)`` is the same up to `steps`, and then
    rises again.

    References
    ----------
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017.

    Examples
    --------
    >>> rate = cosine_decay(1.0, steps=4)
    >>> [round(rate(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    start: float
    steps: int
    stop: float = 0.0

    checks: ClassVar = {"start": FINITE, "steps": whole, "stop": FINITE}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        if step >= self.steps:
            return self.stop  # exactly, without rounding
        wave = 0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        return between(self.stop, self.start, wave)


@dataclasses.dataclass(frozen=True)
class ramp(Schedule):
    r"""From `start` towards `stop` by `step` at each update, never past it.

    .. math:: f(t) = \min(start + step \cdot t,\; stop)

    and with :math:`\max` and :math:`-step` where `stop` is the smaller one.

    Parameters
    ----------
    start, stop : float
        Any finite numbers.
    step : float
        The change at one update, in (0, inf); its direction is that from `start` to `stop`.

    Notes
    -----
    It is used to raise the momentum from 0.5 to 0.99 little by little. It takes the product
    ``step * t``, not a sum of t terms, so no rounding adds up.

    Examples
    --------
    >>> momentum = ramp(0.5, 0.99, step=0.25)
    >>> [momentum(step) for step in range(4)]
    [0.5, 0.75, 0.99, 0.99]
    >>> ramp(1.0, 0.0, step=0.5)(1)
    0.5
    """

    start: float
    stop: float
    step: float

    checks: ClassVar = {"start": FINITE, "stop": FINITE, "step": POSITIVE}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        if self.start <= self.stop:
            return min(self.start + self.step * step, self.stop)
        return max(self.start - self.step * step, self.stop)


def wrapped(name: str, value: object) -> Callable[[int], Any]:
    """Return a schedule as it is, and a number as a constant schedule."""
    return value if callable(value) else constant(FINITE(name, value))


@dataclasses.dataclass(frozen=True)
class warmup(Schedule):
    r"""Rise to a schedule's first number in `steps` updates, then begin that schedule.

    .. math::
        f(t) = \begin{cases}
        \frac{t + 1}{steps} \, g(0) & t < steps \\
        g(t - steps) & t \ge steps
        \end{cases}

    Parameters
    ----------
    schedule : callable or float
        What follows: any callable from a step to a number, or a number to stay at.
    steps : int
        Number of updates that the rise takes, in [1, inf).

    Notes
    -----
    The wrapped schedule g starts at its own step 0 once the warm-up is over, as in Optax'
    ``join_schedules``, PyTorch's ``SequentialLR`` and Keras' ``CosineDecay(warmup_steps=...)``: a
    decay of 100 steps behind a warm-up of 10 ends at step 110 (Optax'
    ``warmup_cosine_decay_schedule`` counts the warm-up into its ``decay_steps``: 110 there).

    The rise does not begin at 0, because an update with a learning rate of 0 wastes a gradient. The
    first update has g(0) / steps, the last one of the warm-up g(0) itself. Optax and Keras rise as
    t / steps instead: their number at step t + 1 is this one's at t.

    Examples
    --------
    >>> rate = warmup(linear(1.0, 0.0, steps=2), steps=4)
    >>> [rate(step) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.0, 0.0]
    >>> warmup(0.1, steps=2)(0)
    0.05
    """

    schedule: Callable[[int], Any]
    steps: int

    checks: ClassVar = {"schedule": wrapped, "steps": whole}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        if step < self.steps:
            return float(self.schedule(0)) * ((step + 1) / self.steps)
        return float(self.schedule(step - self.steps))


@dataclasses.dataclass(frozen=True)
class per_epoch(Schedule):
    r"""A schedule that counts epochs: it changes once in `updates` updates.

    .. math:: f(t) = g(\lfloor t / updates \rfloor)

    Parameters
    ----------
    schedule : callable or float
        g, from the number of completed epochs to a number: any callable, or a number to stay at.
    updates : int
        Number of updates in an epoch, in [1, inf).

    Notes
    -----
    PyTorch's schedulers with one ``scheduler.step()`` at the end of each epoch.

    Examples
    --------
    >>> rate = per_epoch(exponential_decay(1.0, rate=0.5), updates=3)
    >>> [rate(step) for step in range(8)]
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    """

    schedule: Callable[[int], Any]
    updates: int

    checks: ClassVar = {"schedule": wrapped, "updates": whole}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        return float(self.schedule(step // self.updates))
