"""An optimizer's state as PyTorch has it, a dict of tensors for each parameter, and back.

The tensors are on the memory that the rule updates. Counts are numbers there, and tensors here.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastoptim.optimizer import state as saving
from fastoptim.torch.tensors import HALVES, as_array, check_is_here

if TYPE_CHECKING:
    from fastoptim.kernels.update.store import Record
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


class Shown:
    """What PyTorch's state has of one record."""

    def __init__(self, form: Form, record: "Record") -> None:
        self.form, self.record = form, record
        self.arrays = self.arrays_of(record)
        self.items: dict[str, Any] = {}
        self.counts: list[tuple[Array, Any]] = []  # each with where its number comes from
        if form.step is torch.Tensor:
            self.items["step"] = self.counting(lambda: record.t)
        elif form.step is int:
            self.items["step"] = record.t
        for slot, a in self.arrays.items():
            axis = form.axes.get(slot)
            seen = a if axis is None else np.expand_dims(a, axis)
            self.items[form.name_of(slot)] = torch.from_numpy(seen)
        if form.carried is not None:
            self.items[form.carried] = self.counting(lambda: (record.carried or (1.0,))[0])
        if form.counters:
            described = record.described()
            self.items.update(
                (name, described[name]) for name in ("mean", "carried", "number")
                if described.get(name) is not None
            )

    @staticmethod
    def arrays_of(record: "Record") -> dict[str, Array]:
        """Return the arrays that a record has now."""
        average = {} if record.average is None else {"average": record.average}
        return {**record.state, **average}

    def counting(self, count: Any) -> torch.Tensor:
        """Return a tensor that follows a number."""
        a = np.array(count(), dtype=str(torch.get_default_dtype()).removeprefix("torch."))
        self.counts.append((a, count))
        return torch.from_numpy(a)

    def is_of(self, record: "Record") -> bool:
        """Whether the record has the same arrays as when it was shown."""
        now = self.arrays_of(record)
        return record is self.record and now.keys() == self.arrays.keys() and all(
            a is now[name] for name, a in self.arrays.items()
        )

    def follow(self, of_key: dict[str, Any]) -> None:
        """Let the counts be those of now."""
        for a, count in self.counts:
            a[()] = count()
        if self.form.step is int:
            of_key["step"] = self.items["step"] = self.record.t
        if self.form.counters:
            described = self.record.described()
            for name in ("mean", "carried", "number"):
                if described.get(name) is not None:
                    of_key[name] = self.items[name] = described[name]

    def is_left_alone(self, of_key: object) -> bool:
        """Whether nobody has put anything else there since."""
        if not isinstance(of_key, dict) or of_key.keys() != self.items.keys():
            return False
        same = all(
            of_key[name] is item or (not isinstance(item, torch.Tensor) and of_key[name] == item)
            for name, item in self.items.items()
        )
        return same and all(a[()] == a.dtype.type(count()) for a, count in self.counts)


def show(work: "Work", form: Form, state: State, shown: dict[int, Shown]) -> None:
    """Let a state have what the rule has now; `shown` notes by the parameter's id what is there."""
    for p, record in records_of(work):
        known = shown.get(id(p))
        if known is None or not known.is_of(record):
            known = Shown(form, record)
            if not known.items:  # such as of plain SGD
                continue
            of_key = state.setdefault(p, {})
            of_key.clear()
            of_key.update(known.items)
            shown[id(p)] = known
        known.follow(state[p])
    if form.counters:
        rule = work.rule
        state[WHOLE] = {"iter": rule.iter, "skipped": rule.skipped, "clipped": rule.clipped}


def is_left_alone(work: "Work", state: State, shown: Mapping[int, Shown]) -> bool:
    """Whether a state has what was shown there and nothing else."""
    for p in work.views.tensors:
        known = shown.get(id(p))
        if known is None:
            if state.get(p):
                return False
        elif not known.is_left_alone(state.get(p)):
            return False
    return True


def records_of(work: "Work") -> Iterator[tuple[torch.Tensor, "Record"]]:
    """Yield each parameter that was updated, with its record."""
    records = work.rule.engine.store.records
    for p, key in zip(work.views.tensors, work.views.keys, strict=True):
        if key in records:
            yield p, records[key]


# ---------------------------------------------------------------- a state taken over


def take(work: "Work", form: Form, state: State) -> None:
    """Let a rule that has no state yet go on with PyTorch's; all is checked first.

    Raises
    ------
    ValueError, TypeError
        A tensor is missing, or has not its parameter's shape; a count is none.
    """
    rule, parameters, n = work.rule, {}, 0
    for number, (p, key) in enumerate(zip(work.views.tensors, work.views.keys, strict=True)):
        of_key = state.get(p)
        if not of_key:
            continue
        described = record_of(work, form, p, key, number, of_key)
        if described is not None:
            parameters[key] = described
            n = max(n, described["updates"])
    if not parameters:
        return
    counts = {"iter": n, "skipped": 0, "clipped": 0}
    if form.counters and isinstance(state.get(WHOLE), Mapping):
        counts.update(state[WHOLE])
    rule.load_state_dict({**saving.without_updates(rule), **counts, "parameters": parameters})


def record_of(
    work: "Work", form: Form, p: torch.Tensor, key: Any, number: int, of_key: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a checkpoint keeps of a parameter, from PyTorch's state; None: there is nothing."""
    where, group = f"the state of parameter {key!r}", work.place_of[key]
    view = work.rule.views()[group]
    known = {slot for slots in (*view.kernels.values(), *view.factored.values()) for slot in slots}
    if form.slots is None:
        known |= {"master", *(f"{slot}.largest" for slot in known)}
    else:
        known |= {"master"}
    half = HALVES.get(p.dtype)
    dtype = "float32" if half else str(p.dtype).removeprefix("torch.")
    coding = view.state_dtype if p.ndim and p.numel() else None
    arrays = {}
    for slot in sorted(known):
        tensor = of_key.get(form.name_of(slot))
        if tensor is not None:
            arrays[slot] = array_of(f"{where}, {form.name_of(slot)!r},", form, slot, tensor, dtype)
    if form.slots and not arrays:
        if not any(isinstance(one, torch.Tensor) and one.ndim for one in of_key.values()):
            return None  # such as SGD's momentum_buffer of None
        raise ValueError(
            f"{where} has {sorted(of_key)}, and {type(work.owner).__name__}'s has "
            f"{sorted({form.name_of(slot) for slot in known - {'master'}})}: it is of another class"
        )
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


def is_fortran(p: torch.Tensor) -> bool:
    """Whether a parameter lies in Fortran order."""
    return bool(p.permute(*reversed(range(p.ndim))).is_contiguous())


def array_of(where: str, form: Form, slot: str, tensor: Any, dtype: str) -> Array:
    """Return an array of PyTorch's state as the rule has it, in memory of its own or not."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{where} should be a tensor, got {type(tensor).__name__}")
    check_is_here(where, tensor)
    tensor = tensor.detach()
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
