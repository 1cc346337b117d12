"""PyTorch's optimizers with fastoptim's updates: parameters on the CPU are updated where they lie.

``from fastoptim.torch import AdamW`` in the place of ``from torch.optim import AdamW``.
`fastoptim` itself imports nothing of this. It needs ``pip install 'fastoptim[torch]'``.

- classes.py: the classes of torch.optim, their arguments in our rules'; rules.py: rules for them
- any_rule.py: `Optimizer`, which takes any rule with any options
- stepped.py: what all of them share: a step, the state, checkpoints; quick.pyx: a usual step
- work.py: the rule that follows `param_groups`
- views.pyx, dltensor.h: arrays on the memory of tensors; tensors.py: tensors that do not lie so
- replaced.py: parameters that nobody has any more; wording.py: messages in tensors' words
- states.py: PyTorch's state taken over; shown.py: the state as PyTorch has it, kept live
"""

try:
    import torch as _torch  # noqa: F401
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
