"""Schedules made of others: one after another, or by epochs."""

import bisect
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from fastoptim.schedules.arguments import FINITE, check_parts, sequence, steps_at, whole
from fastoptim.schedules.arithmetic import Schedule
from fastoptim.schedules.decay import constant


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
    >>> from fastoptim.schedules import linear
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
    >>> from fastoptim.schedules import exponential_decay
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


@dataclasses.dataclass(frozen=True)
class join(Schedule):
    r"""One schedule after another, each from its own step 0.

    .. math:: f(t) = g_i(t - b_i), \quad b_i \le t < b_{i+1}, \; b_0 = 0

    Parameters
    ----------
    schedules : sequence of callable or float
        One more than there are boundaries: callables from a step to a number, or numbers to stay
        at.
    boundaries : sequence of int
        Whole numbers in [1, inf), strictly increasing: ``schedules[i + 1]`` begins when
        ``boundaries[i]`` updates are done.

    Notes
    -----
    Optax' ``join_schedules(schedules, boundaries)`` and PyTorch's ``SequentialLR(schedulers,
    milestones=boundaries)``. A `plateau` in it observes from the first loss on.

    Examples
    --------
    >>> from fastoptim.schedules import linear
    >>> rate = join([linear(0.0, 1.0, steps=2), 0.5, linear(0.5, 0.0, steps=2)], [2, 4])
    >>> [rate(step) for step in range(8)]
    [0.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.0, 0.0]
    """

    schedules: tuple[Callable[[int], Any], ...]
    boundaries: tuple[int, ...]

    checks: ClassVar = {
        "schedules": lambda name, value: sequence(name, value, "schedules"),
        "boundaries": sequence,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        schedules = tuple(wrapped(f"schedules[{i}]", x) for i, x in enumerate(self.schedules))
        boundaries = steps_at(self.boundaries)
        check_parts("schedules", schedules, boundaries)
        object.__setattr__(self, "schedules", schedules)
        object.__setattr__(self, "boundaries", boundaries)

    def __call__(self, step: int) -> float:
        """Return the number after `step` completed updates."""
        i = bisect.bisect_right(self.boundaries, step)
        return float(self.schedules[i](step - self.boundaries[i - 1] if i else step))
