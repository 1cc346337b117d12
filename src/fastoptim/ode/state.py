"""What a Runge–Kutta method saves, and takes over again; all is checked, then replaced."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastoptim.optimizer.hyperparameters import Interval, OrNone, checks_of
from fastoptim.optimizer.state import FORMAT, merged, numbers, part, whole

if TYPE_CHECKING:
    from fastoptim.ode.methods import RungeKutta

TIME = Interval("[0, inf)")
STEP = OrNone(Interval("(0, inf)"))


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
    if opt._points.busy:
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
        "step_size": opt._h,  # of the tolerances' control; None where lr is the step
        "rejected": opt._rejected,
        **numbers({name: vars(opt)[name] for name in checks_of(type(opt))}),
    }


def load(opt: "RungeKutta", saved: Mapping[str, Any]) -> None:
    """Check a saved state as a whole, then take it over."""
    check_idle(opt)
    if not isinstance(saved, Mapping):
        raise TypeError(f"a state is a dict as state_dict gives it, got {type(saved).__name__}")
    if type(part(saved, "format")) is not int or saved["format"] != FORMAT:
        raise ValueError(
            f"the state has format {saved['format']!r}, this fastoptim reads {FORMAT}; it was "
            f"saved by fastoptim {saved.get('fastoptim')}"
        )
    if part(saved, "rule") != type(opt).__name__:
        raise ValueError(f"the state is of {saved['rule']}, this optimizer is {type(opt).__name__}")
    checks = checks_of(type(opt))
    present = {name: vars(opt)[name] for name in checks}
    if set(part(saved, "hyperparameters", Mapping)) != set(present):
        raise ValueError(
            f"the state's hyperparameters are {sorted(saved['hyperparameters'])}, this "
            f"optimizer's are {sorted(present)}"
        )
    values, lost = merged(saved, present, checks, "")
    check_schedule(values["lr"], values.get("rtol"), values.get("atol"))
    changes = {
        "_iter": whole(saved, "iter"),
        "_t": TIME("time", part(saved, "time")),
        "_h": STEP("step_size", part(saved, "step_size")),
        "_rejected": whole(saved, "rejected"),
    }
    for line in lost:  # before anything is replaced: a warning may be an error
        warnings.warn(line, UserWarning, stacklevel=3)
    vars(opt).update(changes, **values)
