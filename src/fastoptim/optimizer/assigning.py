"""Several hyperparameters assigned at once, by what leads an optimizer.

`fastoptim.torch` follows the `param_groups` of PyTorch with them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fastoptim.optimizer.hyperparameters import CLIPPING, checks_of, may_be_schedule

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

# What an assignment checks against the rest of the optimizer.
NOT_ALONE = {*CLIPPING, "state_dtype", "master", "groups", "state_dir"}


class Led(NamedTuple):
    """Why hyperparameters are set by what leads an optimizer alone, and which ones by anybody."""

    words: str
    settable: tuple[str, ...]

    def check(self, name: str) -> None:
        """Refuse a hyperparameter that is set elsewhere."""
        if name not in self.settable:
            also = f"; {', '.join(self.settable)} can be set here" if self.settable else ""
            raise AttributeError(f"{name} cannot be set here: {self.words}{also}")


def assign(opt: "Optimizer", place: int, values: Mapping[str, Any]) -> None:
    """Assign hyperparameters of one group, all checked first.

    Parameters
    ----------
    opt : Optimizer
    place : int
        0 for keys of no group, 1 + its index for a group, which has to set each of them already.
    values : dict
        By name.
    """
    checks = checks_of(type(opt))
    target = opt if place == 0 else opt.groups[place - 1]
    checked = {
        name: value if callable(value) and may_be_schedule(checks[name])
        else checks[name](name, value)
        for name, value in values.items()
    }
    together = [one for one in checked if one in NOT_ALONE]
    together.sort(key=lambda name: checked[name] is not None)  # one clipping goes before another
    if together:
        led, vars(opt)["led"] = opt.led, None
        try:
            for name in together:
                setattr(target, name, checked.pop(name))
        finally:
            vars(opt)["led"] = led
    if not checked:
        return
    (vars(opt) if place == 0 else opt.groups[place - 1]._given).update(checked)
    if opt.live_plan is None or not opt.live_plan.takes(place, checked):
        opt._forget()
