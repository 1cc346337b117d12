"""Schedules that rise and fall, once or again and again."""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

from fastoptim.optimizer.hyperparameters import Choice, Interval
from fastoptim.schedules.arguments import (
    FINITE,
    POSITIVE,
    between,
    check_parts,
    flag,
    numbers,
    sequence,
    wave,
    whole,
)
from fastoptim.schedules.arithmetic import Schedule

SHARE = Interval("(0, 1)")
FACTOR = Interval("(0, 1]")
SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "linear": between,
    "cosine": lambda start, stop, share: wave(start, stop, math.pi * share),
}


@dataclasses.dataclass(frozen=True)
class cosine_restarts(Schedule):
    r"""Half a cosine wave from `start` to `stop`, begun anew when it ends.

    .. math::

        f(t) = stop + \tfrac12 (start \cdot decay^i - stop)
        \left(1 + \cos \frac{\pi (t - t_i)}{T_i}\right), \quad
        T_i = steps \cdot growth^i, \; t_i = T_0 + … + T_{i-1}

    where i counts the restarts up to t.

    Parameters
    ----------
    start : float
        Any finite number.
    steps : int
        Number of updates of the first wave, in [1, inf).
    stop : float
        Any finite number. A wave comes near it; the update at which it would be there has the next
        wave's start.
    growth : int
        How many times longer each wave is than the one before, in [1, inf).
    decay : float
        Factor of `start` at each restart, in (0, 1].

    Notes
    -----
    PyTorch's ``CosineAnnealingWarmRestarts(T_0=steps, T_mult=growth, eta_min=stop)``, which has no
    `decay`. Optax' ``sgdr_schedule`` with a dict for each wave, of ``peak_value=start * decay**i``,
    ``decay_steps=steps * growth**i``, ``warmup_steps=0`` and ``end_value=stop``; it has as many
    waves as dicts and then stays, where this one has no end. Waves with a warm-up are
    ``join([warmup(cosine_decay(...), n), ...], boundaries)``.

    References
    ----------
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017.

    Examples
    --------
    >>> rate = cosine_restarts(1.0, steps=2, growth=2)
    >>> [round(rate(step), 3) for step in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    start: float
    steps: int
    stop: float = 0.0
    growth: int = 1
    decay: float = 1.0

    checks: ClassVar = {
        "start": FINITE, "steps": whole, "stop": FINITE, "growth": whole, "decay": FACTOR,
    }

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        length, restarts = self.steps, 0
        if self.growth == 1:
            restarts, step = divmod(step, length)
        else:
            while step >= length:
                step, length, restarts = step - length, length * self.growth, restarts + 1
        return wave(self.start * self.decay**restarts, self.stop, math.pi * step / length)


@dataclasses.dataclass(frozen=True)
class piecewise_interpolate(Schedule):
    r"""From one number to the next, in straight lines or half cosine waves; the last one is kept.

    .. math::

        f(t) = v_i + (v_{i+1} - v_i) \, s\!\left(\frac{t - b_i}{b_{i+1} - b_i}\right), \quad
        b_i \le t \le b_{i+1}, \; b_0 = 0

    with :math:`s(x) = x` or :math:`s(x) = \tfrac12 (1 - \cos \pi x)`.

    Parameters
    ----------
    values : sequence of float
        Finite numbers, one more than there are boundaries. The first is that of step 0,
        ``values[i + 1]`` that of step ``boundaries[i]``.
    boundaries : sequence of float
        Numbers in (0, inf), strictly increasing, which need not be whole.
    shape : {"linear", "cosine"}

    Notes
    -----
    Optax' ``piecewise_interpolate_schedule(shape, init, {boundary: factor})`` with numbers in place
    of factors. So its ``linear_onecycle_schedule(n, peak)`` is ``piecewise_interpolate([peak / 25,
    peak, peak / 25, peak / 25e4], [int(0.3 * n), int(0.85 * n), n])``, and its
    ``cosine_onecycle_schedule(n, peak)`` is ``piecewise_interpolate([peak / 25, peak, peak / 25e4],
    [int(0.3 * n), n], "cosine")``.

    Examples
    --------
    >>> rate = piecewise_interpolate([0.0, 1.0, 0.5], boundaries=[2, 4])
    >>> [rate(step) for step in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """

    values: tuple[float, ...]
    boundaries: tuple[float, ...]
    shape: str = "linear"

    checks: ClassVar = {
        "values": sequence, "boundaries": sequence, "shape": Choice(tuple(SHAPES)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        values = numbers("values", self.values)
        boundaries = tuple(POSITIVE(f"boundaries[{i}]", x) for i, x in enumerate(self.boundaries))
        check_parts("values", values, boundaries)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "boundaries", boundaries)

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        low = 0.0
        for i, high in enumerate(self.boundaries):
            if step < high:
                share = (step - low) / (high - low)
                return SHAPES[self.shape](self.values[i], self.values[i + 1], share)
            low = high
        return self.values[-1]


@dataclasses.dataclass(frozen=True)
class one_cycle(Schedule):
    r"""Up to `peak` and down to nearly nothing, once: the 1cycle policy.

    .. math::

        \frac{peak}{div} \;\to\; peak \;\to\; \frac{peak}{div \cdot final\_div}, \quad
        \text{at } t = 0, \; rise \cdot steps - 1, \; steps - 1

    in half cosine waves or straight lines; with three phases back to :math:`peak / div` at
    :math:`2 \, rise \cdot steps - 2` in between. The last number is kept.

    Parameters
    ----------
    peak : float
        Any finite number.
    steps : int
        Number of updates in total, in [2, inf).
    rise : float
        Share of the updates that the rise takes, in (0, 1), of more than one update. The peak
        falls between two updates if ``rise * steps`` is not whole.
    div, final_div : float
        In (0, inf).
    shape : {"cosine", "linear"}
    three_phases : bool
        Whether the fall to ``peak / div`` takes as long as the rise, and the remaining updates go
        on to the final number, as in the paper. `rise` then leaves them room: ``2 * rise * steps``
        is less than ``steps + 1``.

    Notes
    -----
    PyTorch's ``OneCycleLR(max_lr=peak, total_steps=steps, pct_start=rise, anneal_strategy=...,
    div_factor=div, final_div_factor=final_div, three_phase=three_phases)``. After the last update
    PyTorch raises an error, this keeps the final number. `momentum` is what its ``cycle_momentum``
    sets. Optax' ``cosine_onecycle_schedule(n, peak)`` has its peak at ``int(0.3 * n)`` and its end
    one update later, at n: ``one_cycle(peak, n + 1, rise=(int(0.3 * n) + 1) / (n + 1))``.

    References
    ----------
    Smith and Topin, Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120, 2017.

    Examples
    --------
    >>> import fastoptim as fo
    >>> rate = one_cycle(1.0, steps=9, rise=1 / 3, shape="linear", div=5, final_div=10)
    >>> [round(rate(step), 3) for step in range(10)]
    [0.2, 0.6, 1.0, 0.837, 0.673, 0.51, 0.347, 0.183, 0.02, 0.02]
    >>> opt = fo.Momentum(lr=rate, alpha=rate.momentum())
    >>> [round(opt.alpha(step), 3) for step in range(10)]
    [0.95, 0.9, 0.85, 0.867, 0.883, 0.9, 0.917, 0.933, 0.95, 0.95]
    """

    peak: float
    steps: int
    rise: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    shape: str = "cosine"
    three_phases: bool = False

    checks: ClassVar = {
        "peak": FINITE, "steps": whole, "rise": SHARE, "div": POSITIVE, "final_div": POSITIVE,
        "shape": Choice(("cosine", "linear")), "three_phases": flag,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rise * self.steps > 1.0:
            raise ValueError(
                f"rise * steps must be more than 1, or there is no rise, got rise={self.rise} of "
                f"steps={self.steps}"
            )
        if self.three_phases and not self.steps + 1.0 > 2.0 * self.rise * self.steps:
            raise ValueError(
                f"with three_phases 2 * rise * steps must be less than steps + 1, got "
                f"rise={self.rise} of steps={self.steps}"
            )
        first = self.peak / self.div
        last = first / self.final_div
        if not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError(
                f"peak / div and peak / div / final_div must be finite, got {first} and {last}"
            )
        # made once: a call takes 0.9 µs with it, and 21 µs if it makes one
        object.__setattr__(self, "way", through(self, first, self.peak, last))

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        way: piecewise_interpolate = vars(self)["way"]
        return way(step)

    def momentum(self, low: float = 0.85, high: float = 0.95) -> piecewise_interpolate:
        """Return the momentum that goes with this learning rate: `low` at its peak.

        Parameters
        ----------
        low, high : float
            Any finite numbers. With three phases it is `high` all through the third.

        Returns
        -------
        piecewise_interpolate
            A schedule for ``alpha``, ``mu`` or ``beta1``.
        """
        return through(self, FINITE("high", high), FINITE("low", low), FINITE("high", high))


def through(cycle: one_cycle, first: float, peak: float, last: float) -> piecewise_interpolate:
    """Return a schedule of the phases of `cycle`, with these numbers where they meet."""
    up = cycle.rise * cycle.steps
    values, boundaries = [first, peak, last], [up - 1.0, cycle.steps - 1.0]
    if cycle.three_phases:
        values.insert(2, first)
        boundaries.insert(1, 2.0 * up - 2.0)
    return piecewise_interpolate(tuple(values), tuple(boundaries), cycle.shape)


@dataclasses.dataclass(frozen=True)
class cyclic(Schedule):
    r"""From `start` to `peak` and back in straight lines, again and again.

    .. math::

        f(t) = start + (peak - start) \, x_t \, a_t

    where x rises from 0 to 1 in `up` updates and falls to 0 in `down`, and a is 1 in shape
    "triangular", :math:`2^{-i}` in the i-th cycle, i = 0, 1, …, in shape "triangular2", and
    :math:`rate^t` in shape "exp_range".

    Parameters
    ----------
    start, peak : float
        Any finite numbers.
    up : int
        Number of updates of a rise, in [1, inf).
    down : int, optional
        Number of updates of a fall, in [1, inf); `up` without.
    shape : {"triangular", "triangular2", "exp_range"}
    rate : float
        In (0, 1]; with "exp_range", and only then.

    Notes
    -----
    PyTorch's ``CyclicLR(base_lr=start, max_lr=peak, step_size_up=up, step_size_down=down,
    mode=shape, gamma=rate)``, whose ``step_size_up`` is 2000 and ``gamma`` 1 unless given. What its
    ``cycle_momentum`` sets is `momentum`.

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, WACV 2017, arXiv:1506.01186.

    Examples
    --------
    >>> rate = cyclic(0.0, 1.0, up=2, shape="triangular2")
    >>> [rate(step) for step in range(9)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]
    >>> [round(rate.momentum()(step), 3) for step in range(9)]
    [0.9, 0.85, 0.8, 0.85, 0.9, 0.875, 0.85, 0.875, 0.9]
    """

    start: float
    peak: float
    up: int
    down: int | None = None
    shape: str = "triangular"
    rate: float | None = None

    checks: ClassVar = {
        "start": FINITE, "peak": FINITE, "up": whole,
        "down": lambda name, value: value if value is None else whole(name, value),
        "shape": Choice(("triangular", "triangular2", "exp_range")),
        "rate": lambda name, value: value if value is None else FACTOR(name, value),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.down is None:
            object.__setattr__(self, "down", self.up)
        if (self.shape == "exp_range") != (self.rate is not None):
            raise ValueError(
                f"rate must be given with shape='exp_range' and only then, got rate={self.rate} "
                f"with shape={self.shape!r}"
            )

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        assert self.down is not None
        cycle, at = divmod(step, self.up + self.down)
        share = at / self.up if at <= self.up else (self.up + self.down - at) / self.down
        if self.shape == "triangular2":
            share = math.ldexp(share, -cycle)
        elif self.rate is not None:
            share *= self.rate**step
        return between(self.start, self.peak, share)

    def momentum(self, low: float = 0.8, high: float = 0.9) -> "cyclic":
        """Return the momentum that goes with this learning rate: `high` at its start.

        Parameters
        ----------
        low, high : float
            Any finite numbers; `low` is that of the first peak.

        Returns
        -------
        cyclic
            A schedule for ``alpha``, ``mu`` or ``beta1``.
        """
        return dataclasses.replace(self, start=FINITE("high", high), peak=FINITE("low", low))
