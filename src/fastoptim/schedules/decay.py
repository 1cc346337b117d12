"""Schedules that go from one number to another, once."""

import bisect
import dataclasses
import math
from typing import ClassVar

from fastoptim.schedules.arguments import (
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    between,
    check_parts,
    flag,
    numbers,
    sequence,
    steps_at,
    wave,
    whole,
)
from fastoptim.schedules.arithmetic import Schedule


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
        values, boundaries = numbers("values", self.values), steps_at(self.boundaries)
        check_parts("values", values, boundaries)
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
        return wave(self.start, self.stop, math.pi * step / self.steps)


@dataclasses.dataclass(frozen=True)
class polynomial_decay(Schedule):
    r"""A power of what is left of the way from `start` to `stop`, reached after `steps` and kept.

    .. math:: f(t) = stop + (start - stop) \left(1 - \frac{t}{steps}\right)^{power},
        \quad t \le steps

    Parameters
    ----------
    start : float
        Any finite number.
    steps : int
        Number of updates from one to the other, in [1, inf).
    stop : float
        Any finite number.
    power : float
        In (0, inf). 1 is `linear`; more falls fast first, less falls fast last.

    Notes
    -----
    Optax' ``polynomial_schedule(start, stop, power, steps)``; its ``transition_begin=n`` is
    ``join([start, polynomial_decay(...)], [n])``. PyTorch's ``PolynomialLR(total_iters=steps,
    power=power)`` has ``stop=0``. Keras' ``PolynomialDecay`` without ``cycle``.

    References
    ----------
    Liu, Rabinovich and Berg, ParseNet: looking wider to see better, arXiv:1506.04579, 2015.

    Examples
    --------
    >>> rate = polynomial_decay(1.0, steps=4, power=2.0)
    >>> [rate(step) for step in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    start: float
    steps: int
    stop: float = 0.0
    power: float = 1.0

    checks: ClassVar = {"start": FINITE, "steps": whole, "stop": FINITE, "power": POSITIVE}

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        if step >= self.steps:
            return self.stop  # exactly, without rounding
        return between(self.stop, self.start, (1.0 - step / self.steps) ** self.power)


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
