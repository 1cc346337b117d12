"""Steps as long as the tolerances allow: the error of a trial says how long the next one is."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from fastoptim.kernels import PASSES
from fastoptim.ode import state as ode_state
from fastoptim.ode.runge_kutta import RungeKutta, Slopes
from fastoptim.ode.state import Progress
from fastoptim.optimizer.hyperparameters import Check, Flag, Interval, OrNone, hyper
from fastoptim.optimizer.objective import Function

RTOL = OrNone(Interval(f"[{100 * np.finfo(float).eps}, inf)"))  # less is lost in rounding
ATOL = OrNone(Interval("[0, inf)"))

# The step's control, with SciPy's numbers; the formulas are those of Hairer, Nørsett and Wanner,
# "Solving Ordinary Differential Equations I" (1993), section II.4.
SAFETY, LEAST_FACTOR, MOST_FACTOR = 0.9, 0.2, 10.0
DEFAULT_RTOL, DEFAULT_ATOL = 1e-3, 1e-6

# Two ends that SciPy leaves open. Where all is flat the step grows tenfold each time; it stops
# where every coefficient is still a float32. And a slope that is NaN however short the step: after
# so many trials the step is 0.2²⁵ = 3e-18 of the first, and no parameter notices it.
LONGEST_STEP = 1e30
MOST_NOT_FINITE = 25


@dataclass(eq=False)
class Adaptive(RungeKutta):
    """A method with a second formula inside, whose difference says how long a step may be."""

    rtol: float | None = hyper(None, RTOL)
    atol: float | None = hyper(None, ATOL)
    _: KW_ONLY
    deterministic: bool = hyper(False, Flag())

    @property
    def tolerances(self) -> tuple[float, float] | None:
        """The rtol and atol in force; None for a fixed step."""
        if self.rtol is None and self.atol is None:
            return None
        return (
            DEFAULT_RTOL if self.rtol is None else self.rtol,
            DEFAULT_ATOL if self.atol is None else self.atol,
        )

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores, unless a schedule meets tolerances."""
        value = super()._checked(name, check, value)
        lr, rtol, atol = (value if n == name else getattr(self, n) for n in ("lr", "rtol", "atol"))
        ode_state.check_schedule(lr, rtol, atol)
        return value

    @property
    def step_size(self) -> float:
        """The h that the next step begins with: lr, or with tolerances what the last one found."""
        found = self.progress.step_size
        return super().step_size if self.tolerances is None or found is None else found

    @property
    def rejected(self) -> int:
        """Number of trials whose error was too large, in all completed steps."""
        return self.progress.rejected

    def advance(self, fn: Function, start: Slopes, h: float) -> tuple[Progress, Any]:
        """Take a step from y, whose slope is known, of a length within the tolerances."""
        if self.tolerances is None:
            return super().advance(fn, start, h)
        first, t = self.moving.memory.columns[0], self.time
        least = 10 * (math.nextafter(t, math.inf) - t)
        length, rejected, not_finite = max(h, least), 0, 0
        while True:
            h = t + length - t  # what time really advances by
            loss, slopes, norm = self.trial(fn, start, h)
            if norm < 1:
                break
            start = first  # where the first trial has kept it
            rejected += 1
            not_finite = 0 if math.isfinite(norm) else not_finite + 1
            length = h * max(LEAST_FACTOR, SAFETY * norm**self.tableau.exponent)  # NaN: the least
            if not_finite:
                self.check_finite(first, h, last=not_finite == MOST_NOT_FINITE or length < least)
            if length < least:
                raise RuntimeError(
                    f"the error is too large even with a step of {h}, and the next shorter one "
                    f"would be lost in the digits of time, {t}: the gradient jumps here, or "
                    f"rtol and atol ask for more digits than the parameters have"
                )
        factor = min(MOST_FACTOR, SAFETY * norm**self.tableau.exponent) if norm else MOST_FACTOR
        if rejected:
            factor = min(1.0, factor)
        if self.deterministic:
            self.moving.memory.passes.run(PASSES["copy"], (first, slopes))
        progress = Progress(
            self.iter + 1, t + h, min(h * factor, LONGEST_STEP), self.rejected + rejected
        )
        return progress, (loss,) if self.deterministic else None

    def trial(self, fn: Function, start: Slopes, h: float) -> tuple[Any, Slopes, float]:
        """Let x be the solution after h; return loss and gradients there, and the error's norm."""
        moving, (rtol, atol) = self.moving, self.tolerances or (0.0, 0.0)
        b, e = self.tableau.b, self.tableau.e
        error = moving.memory.columns[self.tableau.place_of_error]
        g = self.stages(fn, start, h)
        self.combine("embedded", g, h, b, error, error=e[:-1])
        loss, last = self.evaluate(fn)
        total = moving.total(
            PASSES["error_squared"], last, (moving.memory.base, error), (-h * e[-1], rtol, atol)
        )
        return loss, last, math.sqrt(total / max(1, moving.memory.passes.size))

    def check_finite(self, first: Slopes, h: float, last: bool) -> None:
        """After a trial whose error is not finite: raise if no shorter step could help."""
        for key, g in zip(self.moving.keys, first, strict=True):
            if not np.isfinite(g).all():
                raise FloatingPointError(
                    f"grads[{key!r}] is not finite at index "
                    f"{tuple(map(int, np.argwhere(~np.isfinite(g))[0]))} where the step starts"
                )
        if last:
            key = self.moving.keys[self.moving.memory.passes.not_finite()]
            raise FloatingPointError(
                f"the error of params[{key!r}] is not finite, even with a step of {h}; with "
                f"atol=0 a parameter of exactly 0 is enough for that"
            )
