"""Hyperparameters that change as training goes on: callables from a step to a number.

The step is the number of completed updates, 0 at the first one, as in Optax; so a schedule of
either library can be used in the other. Every schedule is a frozen dataclass: its arguments are
checked when it is made, it compares by value, and its repr makes it again. `plateau` alone changes,
by what it observes.

>>> from fastoptim import schedules
>>> rate = schedules.warmup(schedules.cosine_decay(0.1, steps=100), steps=4)
>>> [round(rate(step), 3) for step in (0, 1, 2, 3, 4, 54, 104, 1000)]
[0.025, 0.05, 0.075, 0.1, 0.1, 0.05, 0.0, 0.0]
>>> rate
warmup(schedule=cosine_decay(start=0.1, steps=100, stop=0.0), steps=4)

Schedules are added, subtracted and multiplied with numbers and with each other, and divided by
numbers; so ``opt.lr *= 0.5`` halves a schedule as it halves a number.

>>> (rate / 2)(4)
0.05
"""

from fastoptim.schedules.arithmetic import Schedule as Schedule
from fastoptim.schedules.cycles import cosine_restarts, cyclic, one_cycle, piecewise_interpolate
from fastoptim.schedules.decay import (
    constant,
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    linear,
    piecewise_constant,
    polynomial_decay,
    ramp,
)
from fastoptim.schedules.joining import join, per_epoch, warmup
from fastoptim.schedules.plateau import plateau

__all__ = [
    "constant",
    "cosine_decay",
    "cosine_restarts",
    "cyclic",
    "exponential_decay",
    "inverse_time_decay",
    "join",
    "linear",
    "one_cycle",
    "per_epoch",
    "piecewise_constant",
    "piecewise_interpolate",
    "plateau",
    "polynomial_decay",
    "ramp",
    "warmup",
]
