"""A rule's state from PyTorch's, a dict of tensors for each parameter; the way back: shown.py."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastoptim.optimizer import state as saving
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.porting.answers import shown
from fastoptim.torch.tensors import HALVES, as_array, check_is_here
from fastoptim.torch.wording import in_torchs_words

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer
    from fastoptim.torch.stepped import Stepped
    from fastoptim.torch.work import Work

Array = np.ndarray[Any, Any]
State = dict[Any, Any]  # parameter → name → tensor or number
WHOLE = "fastoptim"  # what a state has beside its parameters, if a `Form` has counters


class Form:
    """How the records of a rule look in PyTorch's state.

    Parameters
    ----------
    slots : dict or None
        The rule's slot → PyTorch's name; None: every slot has its own.
    step : type or None
        How the count of updates is kept under "step": a tensor or an int; None: it is not.
    carried : str or None
        The name of a number that the rule carries.
    axes : dict
        Slot → the axis of length 1 that its tensor has and its array has not.
    counters : bool
        Whether averages and counts of the whole optimizer are there, too.
    """

    def __init__(
        self, slots: Mapping[str, str] | None = None, step: type | None = torch.Tensor,
        carried: str | None = None, axes: Mapping[str, int] | None = None, counters: bool = False,
    ) -> None:
        self.slots, self.step, self.carried = slots, step, carried
        self.axes, self.counters = dict(axes or {}), counters

    def name_of(self, slot: str) -> str:
        """Return PyTorch's name of a slot."""
        return slot if self.slots is None else self.slots.get(slot, slot)

    def slots_of(self, view: "Optimizer") -> list[str]:
        """Return the slots that a parameter of a rule may have, in the rule's order."""
        slots = [one for each in (*view.kernels.values(), *view.factored.values()) for one in each]
        coded = [] if self.slots else [f"{slot}.largest" for slot in slots]
        return [*dict.fromkeys([*slots, *coded, "master"])]

    def names_of(self, view: "Optimizer") -> set[str]:
        """Return all names that PyTorch's state of a parameter may have."""
        names = {self.name_of(slot) for slot in self.slots_of(view)}
        names |= {"step"} if self.step is not None else set()
        names |= {"average", "mean", "carried", "number"} if self.counters else set()
        return names if self.carried is None else names | {self.carried}


def check(owner: "Stepped", saved: Mapping[Any, Any]) -> None:
    """Refuse what is no state of this class, before PyTorch looks into it.

    `saved` has each parameter's state by its number.
    """
    form, rule = owner.form, owner.new_rule()
    slots = [form.name_of(slot) for slot in form.slots_of(rule)]
    for number, of_key in saved.items():
        where = f"the state of parameter {number!r}"
        if not isinstance(number, int):
            continue
        if not isinstance(of_key, Mapping):
            raise TypeError(f"{where} should be a dict, got {shown(of_key)}")
        there = {name: of_key[name] for name in slots if of_key.get(name) is not None}
        for name, tensor in there.items():
            if not isinstance(tensor, torch.Tensor):
                raise TypeError(
                    f"{where} should have a tensor as its {name!r}, got {type(tensor).__name__}"
                )
            if tensor.device.type == "meta":
                raise TypeError(f"{where}: {name!r} is on the device 'meta', and has no numbers")
        has = "step" in of_key or any(isinstance(one, torch.Tensor) for one in of_key.values())
        if form.slots and has and not there:
            raise ValueError(
                f"{where} has {sorted(of_key)}, and {type(owner).__name__}'s has {slots[:-1]}: it "
                f"is of another class"
            )
        if form.step is not None and has and "step" not in of_key:
            raise ValueError(f"{where} has no 'step', the number of its updates")


def take(work: "Work", form: Form, state: State) -> None:
    """Let a rule that has no state yet go on with PyTorch's; all is checked first.

    Raises
    ------
    ValueError, TypeError
        A tensor is missing, or has not its parameter's shape; a count is none.
    """
    rule, parameters, n = work.rule, {}, 0
    whole = state.get(WHOLE, {}) if form.counters else {}
    if not isinstance(whole, Mapping):
        raise TypeError(f"the state's {WHOLE!r} should be a dict, got {shown(whole)}")
    for number, (p, key) in enumerate(zip(work.views.tensors, work.views.keys, strict=True)):
        of_key = state.get(p, {})
        if not isinstance(of_key, Mapping):
            raise TypeError(
                f"the state of parameter {key!r} should be a dict, got {shown(of_key)}"
            )
        if not of_key:
            continue
        described = record_of(work, form, p, key, number, of_key)
        if described is not None:
            parameters[key] = described
            n = max(n, described["updates"])
    if not parameters:
        return
    counts = {"iter": n, "skipped": 0, "clipped": 0}
    counts.update((name, one) for name, one in whole.items() if name in counts)
    try:
        rule.load_state_dict({**saving.without_updates(rule), **counts, "parameters": parameters})
    except ValueError as problem:
        in_torchs_words(problem, form.name_of)
        raise


def strip(work: "Work", form: Form, state: State) -> None:
    """Take out of a state what the rule has taken over: it would be in memory twice."""
    for p, key in zip(work.views.tensors, work.views.keys, strict=True):
        of_key = state.pop(p, None)
        names = form.names_of(work.rule.views()[group_of(work, p, key)]) if of_key else set()
        own = {name: one for name, one in (of_key or {}).items() if name not in names}
        if own:
            state[p] = own


def record_of(
    work: "Work", form: Form, p: torch.Tensor, key: Any, number: int, of_key: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a checkpoint keeps of a parameter, from PyTorch's state; None: nothing."""
    where, half = f"the state of parameter {key!r}", HALVES.get(p.dtype)
    dtype = "float32" if half else str(p.dtype).removeprefix("torch.")
    group = group_of(work, p, key)
    view = work.rule.views()[group]
    known = form.slots_of(view)
    coding = view.state_dtype if p.ndim and p.numel() else None
    arrays = {}
    for slot in known:
        tensor = of_key.get(form.name_of(slot))
        if tensor is not None:
            name = f"{where}: {form.name_of(slot)!r}"
            arrays[slot] = array_of(name, form, slot, tensor, dtype, coding)
    if form.slots and not arrays:
        return None  # such as SGD's momentum_buffer of None
    if half and view.master and "master" not in arrays:
        arrays["master"] = p.detach().float().numpy()
    average = of_key.get("average") if form.counters else None
    described: dict[str, Any] = {
        "updates": updates_of(where, form, of_key), "shape": tuple(p.shape), "dtype": dtype,
        "order": "C" if p.is_contiguous() or coding or half or view.factored or not is_fortran(p)
        else "F",
        "state": arrays, "group": group, "mean": of_key.get("mean") if form.counters else None,
        "average": None if average is None else array_of(where, form, "average", average, dtype),
    }
    if form.carried is not None:
        described["carried"] = (float(of_key.get(form.carried, 1.0)),)
    elif form.counters and "carried" in of_key:
        described["carried"] = tuple(of_key["carried"])
    if half:
        described["half"] = half
    if half or coding:
        described["coding"], described["number"] = coding, of_key.get("number", number)
    return described


def group_of(work: "Work", p: torch.Tensor, key: Any) -> int:
    """Return which of the rule's views a parameter has: its group's, or one of a `Muon`'s rest."""
    dtype = "float32" if p.dtype in HALVES else str(p.dtype).removeprefix("torch.")
    return work.rule.group_of(key, ParamInfo(tuple(p.shape), np.dtype(dtype)))


def is_fortran(p: torch.Tensor) -> bool:
    """Whether a parameter lies in Fortran order."""
    return bool(p.permute(*reversed(range(p.ndim))).is_contiguous())


def array_of(
    where: str, form: Form, slot: str, tensor: Any, dtype: str, coding: str | None = None
) -> Array:
    """Return an array of PyTorch's state as the rule has it, in memory of its own or not."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{where} should be a tensor, got {type(tensor).__name__}")
    check_is_here(where, tensor)
    tensor = tensor.detach()
    if tensor.is_sparse:  # a momentum of PyTorch's SGD, if its gradients are sparse
        tensor = tensor.to_dense()
    if coding == "bfloat16" and tensor.dtype is torch.bfloat16:
        codes: Array = tensor.view(torch.uint16).numpy()
        return codes
    if tensor.is_floating_point() and not slot.endswith(".largest"):  # codes stay as they are
        tensor = tensor.to(getattr(torch, dtype))
    axis = form.axes.get(slot)
    a: Array = (
        as_array(where, tensor) if tensor.is_floating_point() else tensor.numpy()
    )
    return a if axis is None or a.ndim <= -axis - 1 else np.squeeze(a, axis)


def updates_of(where: str, form: Form, of_key: Mapping[str, Any]) -> int:
    """Return the count of updates in PyTorch's state."""
    if form.step is None:  # that there was one is all that matters
        return 1
    step = of_key.get("step")
    x = step.item() if isinstance(step, torch.Tensor) and step.numel() == 1 else step
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not 0 <= x < 2**62 or x != int(x):
        raise ValueError(f"{where} should have a whole number of at least 0 as its step, got {x!r}")
    return int(x)
