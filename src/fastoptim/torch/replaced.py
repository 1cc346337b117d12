"""Parameters that only their optimizer has any more: whether others have taken their place.

`load_state_dict(assign=True)` and an exchanged layer leave the optimizer with tensors that the
model does not read. That nobody else refers to a tensor is no proof. A user may reach it through
`param_groups` alone, and a graph or a variable of a loop may have held it for a while. A replaced
one has a successor: another leaf tensor that requires gradients and that this optimizer does not
update. Finding it takes a walk over all objects, made only when a parameter has been left alone.
"""

import gc
import sys
import warnings
from collections.abc import Hashable, Iterable, Mapping

import torch

from fastoptim.torch.tensors import TENSORS

Tensors = Mapping[Hashable, torch.Tensor]


def is_first_suspect(lost: Tensors, ours: Iterable[torch.Tensor]) -> bool:
    """Whether parameters that have been alone from the first step on all have successors."""
    others, ours = successors(ours), [*ours]
    if all(has_twin(p, others) for p in lost.values()):
        return True
    ids = {id(p) for p in lost.values()}
    last = max(k for k, p in enumerate(ours) if id(p) in ids)
    return len(lost) < len(ours) and all(
        has_kin(p, others) and not has_kin(p, ours[last + 1 :]) for p in lost.values()
    )


def error_of(
    trained: Tensors, lost: Tensors, ours: Iterable[torch.Tensor]
) -> RuntimeError | None:
    """Return an error for parameters that nobody else has any more, or warn, or do neither.

    Parameters
    ----------
    trained : mapping of key to Tensor
        Those of `lost` that have gradients.
    lost : mapping of key to Tensor
    ours : iterable of Tensor
        All parameters of the optimizer.
    """
    others = successors(ours)
    if not others:
        return None
    if any(has_twin(p, others) for p in trained.values()):
        return RuntimeError(
            f"{told([*trained])}They still have gradients, and the model would not see their "
            f"update; make the optimizer anew of model.parameters() (its state_dict can be loaded "
            f"into it)"
        )
    warn_of([*lost])
    return None


def successors(ours: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return the leaf tensors of this process that require gradients, but for an optimizer's."""
    own = {id(p) for p in ours}
    if not leaves_without(own):
        return []
    gc.collect()  # what is garbage replaces nothing
    return leaves_without(own)


def leaves_without(own: set[int]) -> list[torch.Tensor]:
    """Return the leaf tensors that require gradients and have none of these ids."""
    return [
        one for one in gc.get_objects()
        if type(one) in TENSORS and id(one) not in own and one.requires_grad and one.is_leaf
    ]


def has_twin(p: torch.Tensor, others: list[torch.Tensor]) -> bool:
    """Whether one of other tensors could have taken the place of a parameter."""
    return any(one.shape == p.shape and one.dtype == p.dtype for one in others)


def has_kin(p: torch.Tensor, others: list[torch.Tensor]) -> bool:
    """Whether one of other tensors could be of a layer like it, with more or fewer units.

    A head that is exchanged before the first step is such a one. One that was added to the
    optimizer, too, is behind the old one there.
    """
    return any(
        one.ndim == p.ndim and one.shape[1:] == p.shape[1:] and one.dtype == p.dtype
        for one in others
    )


def told(keys: list[Hashable]) -> str:
    """Return the sentence that names parameters which nobody has any more."""
    names = ", ".join(map(repr, keys[:8])) + (", …" if len(keys) > 8 else "")
    return (
        f"nothing but this optimizer has the parameters {names} any more: the model or a layer "
        f"was made anew, or load_state_dict(assign=True) made new ones. "
    )


def warn_of(keys: list[Hashable]) -> None:
    """Warn that parameters are updated no more, or that nobody would see it.

    The line shown is the caller's of `step`. Each optimizer says so once, and Python keeps no list
    of it: in a notebook, the same line goes on with another model.
    """
    frame = sys._getframe()
    while frame.f_back is not None and is_of_a_library(frame.f_globals):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{told(keys)}They stay as they are unless they get gradients; if others have taken their "
        f"place, add these with add_param_group, or make the optimizer anew of model.parameters()",
        UserWarning, frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__"),
    )


def is_of_a_library(module: Mapping[str, object]) -> bool:
    """Whether a frame's globals are those of a module of fastoptim or of PyTorch."""
    return str(module.get("__name__")).partition(".")[0] in ("fastoptim", "torch")
