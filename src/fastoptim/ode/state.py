"""What a Runge–Kutta method saves, and takes over again; all is checked, then replaced."""

import warnings
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastoptim.optimizer import plateaus
from fastoptim.optimizer.hyperparameters import Interval, OrNone, checks_of
from fastoptim.optimizer.state import (
    FORMAT,
    NONE,
    Changes,
    check_is_of,
    check_names,
    merged,
    numbers,
    part,
    whole,
)

if TYPE_CHECKING:
    from fastoptim.ode.runge_kutta import RungeKutta

TIME = Interval("[0, inf)")
STEP = OrNone(Interval("(0, inf)"))


class Progress(NamedTuple):
    """What a method counts, replaced as a whole at the end of a step."""

    iter: int = 0
    time: float = 0.0
    step_size: float | None = None  # with tolerances, what the last step found; None: lr
    rejected: int = 0


def check_schedule(lr: object, rtol: object, atol: object) -> None:
    """Refuse a schedule where the method finds its step sizes itself."""
    if callable(lr) and not (rtol is None and atol is None):
        raise ValueError(
            "lr cannot be a schedule together with rtol or atol: with tolerances lr is the first "
            "step alone and the method finds the others, so the schedule would be asked once; "
            "give lr a number, or leave rtol and atol None"
        )


def check_idle(opt: "RungeKutta") -> None:
    """Refuse to look at parameters and counters that are on their way."""
    if opt.moving.busy:
        raise RuntimeError(
            "this optimizer is in the middle of a step, and the parameters are on their way; save, "
            "load and copy it between two steps"
        )


def of(opt: "RungeKutta") -> dict[str, Any]:
    """Return a method's state."""
    from fastoptim import __version__

    check_idle(opt)
    return {
        "format": FORMAT,
        "fastoptim": __version__,
        "rule": type(opt).__name__,
        "iter": opt.iter,
        "time": opt.time,
        "step_size": opt.progress.step_size,
        "rejected": opt.progress.rejected,
        **numbers({name: vars(opt)[name] for name in checks_of(type(opt))}),
    }


def load(opt: "RungeKutta", saved: Mapping[str, Any], also: Changes = ()) -> None:
    """Check a saved state as a whole, then take it over, and with it what else changes."""
    changes, lost = checked(opt, saved)
    changes += also
    for line in lost:  # before anything is replaced: a warning may be an error
        warnings.warn(line, UserWarning, stacklevel=3)
    # the loop is C's: no interrupt comes between two of the dicts
    deque(map(dict.update, *zip(*changes, strict=True)), maxlen=0)


def checked(
    opt: "RungeKutta", saved: Mapping[str, Any], schedules: Mapping[str, Any] = NONE
) -> tuple[list[tuple[dict[str, Any], Any]], list[str]]:
    """Check a saved state as a whole; return the dicts to update, and what to warn of."""
    check_idle(opt)
    check_is_of(opt, saved)
    checks = checks_of(type(opt))
    present = {name: vars(opt)[name] for name in checks}
    check_names(saved, present)
    values, seen, lost = merged(saved, present, checks, "", schedules)
    observed = plateaus.changes(seen)
    check_schedule(values["lr"], values.get("rtol"), values.get("atol"))
    progress = Progress(
        whole(saved, "iter"),
        TIME("time", part(saved, "time")),
        STEP("step_size", part(saved, "step_size")),
        whole(saved, "rejected"),
    )
    return [(vars(opt), {**values, "progress": progress}), *observed], lost
