"""State of 8 or 16 bits in a saved state: checked, and converted to another state_dtype."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.kernels.update.codes import blocks_in, encoded
from fastoptim.optimizer.halves import MASTER
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.optimizer.state_dtypes import NAMES, PLAIN, code_of, numbers_of
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

CODE_TYPES = {"bfloat16": "uint16", "int8": "uint8"}


def check_same(where: str, then: object, now: object, convert: bool) -> None:
    """Refuse a state of another state_dtype, unless it shall be converted."""
    if then != now and not convert:
        raise ValueError(
            f"{where}state_dtype is {then!r} in the state and {now!r} in this optimizer; load it "
            f"into one that has {then!r}, or convert it: load(path, convert=True), or "
            f"load_state_dict(saved, convert=True)"
        )


def signed_slots(owner: "Optimizer", arrays: Mapping[str, Any]) -> list[str]:
    """Return the slots whose 8-bit codes have a sign."""
    slots = [slot for slot in arrays if "." not in slot and slot != MASTER]
    return [slot for slot in slots if getattr(type(owner), slot).signed]


def wanted_for(opt: "Optimizer", key: object, p: ParamInfo) -> str | None:
    """Return the state_dtype that an optimizer keeps a key's state in."""
    if not p.shape or not p.size:
        return None
    found: str | None = of_group(opt, key, p, "state_dtype")
    return found


def of_group(opt: "Optimizer", key: object, p: ParamInfo, name: str) -> Any:
    """Return a hyperparameter, no schedule, that an optimizer has for a key."""
    owner, group = opt.part_of(key, p), opt.group_of(key, p) - 1
    if owner is not opt:
        group -= 1 + len(opt.groups)
    given = {} if group < 0 else owner.groups[group].hyperparameters
    return given.get(name, vars(owner)[name])


def check(
    name: str, owner: "Optimizer", shape: tuple[int, ...], saved: Mapping[str, Any], n_keys: int
) -> str | None:
    """Return the state_dtype of what was saved of a key, after a look at all that goes with it."""
    coding, arrays = saved.get("coding"), saved["state"]
    if coding not in (None, *NAMES):
        raise ValueError(f"{name} has coding {shown(coding)}, not None, 'bfloat16' or 'int8'")
    if coding is None:
        return None
    if not math.prod(shape) or not shape:
        raise ValueError(f"{name} is kept as {coding}, and a parameter of shape {shape} has none")
    if saved["order"] != "C":
        raise ValueError(f"{name} has order {saved['order']!r}, and that of codes is 'C'")
    number = saved.get("number")
    if type(number) is not int or not 0 <= number < n_keys:
        raise ValueError(
            f"{name} should have a number from 0 to {n_keys - 1}, its place among the keys as they "
            f"came, got {shown(number)}"
        )
    signed = signed_slots(owner, arrays)
    if coding == "int8" and saved.get("signed", signed) != signed:      # a folder's has none
        raise ValueError(
            f"{name} has the signed slots {shown(saved.get('signed'))}, this rule has {signed}"
        )
    return str(coding)


def check_codes(name: str, slot: str, coding: str, shape: tuple[int, ...], arrays: Any) -> None:
    """Refuse codes, or what their blocks have in common, of another dtype or shape."""
    wanted = {slot: (CODE_TYPES[coding], shape)}
    if coding == "int8":
        wanted[f"{slot}.largest"] = ("float32", (blocks_in(shape),))
    for part, (dtype, of_shape) in wanted.items():
        a = arrays.get(part)
        if type(a) is not np.ndarray or a.dtype != dtype or a.shape != of_shape:
            got = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
            raise ValueError(f"{name} should have {dtype} {of_shape} as its {part}, got {got}")
    if coding == "int8":
        largest = arrays[f"{slot}.largest"]
        if (largest < 0).any() or np.isinf(largest).any():
            raise ValueError(f"{name} has a {slot}.largest that is negative or infinite")


def converted(
    owner: "Optimizer", dtype: str, arrays: Mapping[str, Any], coding: str | None,
    wanted: str | None,
) -> dict[str, Any]:
    """Return state as it is kept with another state_dtype: each number as the nearest code."""
    made: dict[str, Any] = {}
    for slot in (slot for slot in arrays if "." not in slot):
        declared = getattr(type(owner), slot)
        code = PLAIN if wanted is None else code_of(type(owner), slot, wanted)
        numbers = numbers_of(arrays, slot, coding, declared.signed, dtype)
        if code == PLAIN:
            made[slot] = numbers
            continue
        made[slot], largest = encoded(code, numbers)
        if largest is not None:
            made[f"{slot}.largest"] = largest
    return made

