"""PyTorch's optimizers with fastoptim's updates: parameters on the CPU are updated where they lie.

``from fastoptim.torch import AdamW`` in the place of ``from torch.optim import AdamW``.
`fastoptim` itself imports nothing of this. It needs ``pip install 'fastoptim[torch]'``.

- classes.py: the classes of torch.optim, their arguments in our rules'; rules.py: rules for them
- any_rule.py: `Optimizer`, which takes any rule with any options
- stepped.py: what all of them share: a step, the state, checkpoints
- quick.pyx: a usual step, all of it compiled; every other one goes the way of stepped.py
- work.py: the rule that follows `param_groups`
- views.pyx, dltensor.h: arrays on the memory of tensors; tensors.py: tensors that do not lie so
- replaced.py: parameters that others have taken the place of; wording.py: messages about tensors
- states.py: PyTorch's state taken over; shown.py: the state as PyTorch has it, kept live
"""

from typing import TYPE_CHECKING, Any

import fastoptim as _fastoptim

try:
    import torch as _torch
except ModuleNotFoundError as problem:
    if problem.name != "torch":  # PyTorch is there, and something that it imports is not
        raise
    raise ModuleNotFoundError(
        "fastoptim.torch needs PyTorch: pip install 'fastoptim[torch]'", name=problem.name
    ) from None

from fastoptim.torch.any_rule import Optimizer
from fastoptim.torch.classes import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)

__all__ = [
    "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer",
    "RAdam", "RMSprop", "Rprop", "SparseAdam",
]


if not TYPE_CHECKING:  # to a checker, every name would be there

    def __getattr__(name: str) -> Any:
        """Say where a name is that somebody looks for here."""
        text = f"module {__name__!r} has no attribute {name!r}"
        one = getattr(_fastoptim, name) if name in _fastoptim.__all__ else None
        if isinstance(one, type) and issubclass(one, _fastoptim.Optimizer):
            text += f"; every rule of fastoptim goes through Optimizer(params, fastoptim.{name}())"
        elif name in ("lr_scheduler", "swa_utils"):
            text += f"; torch.optim.{name} works with the optimizers here"
        elif not name.startswith("_") and hasattr(_torch.optim, name):
            text += f"; use torch.optim.{name}"
        raise AttributeError(text, name=name)
