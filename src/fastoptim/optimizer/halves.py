"""What a saved state has of a parameter of float16 or bfloat16."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastoptim.kernels.update.store import HALVES
from fastoptim.kernels.update.store import MASTER as MASTER
from fastoptim.porting.answers import shown


def check(
    name: str, has_master: bool, dtype: str, shape: tuple[int, ...], saved: Mapping[str, Any],
    arrays: Mapping[str, Any],
) -> str | None:
    """Return the dtype of a parameter of 16 bits, checked; None if it does not have as many."""
    half = saved.get("half")
    if half is None:
        return None
    if half not in (*HALVES,) or dtype != "float32":
        raise ValueError(f"{name} is of a parameter of {shown(half)}, not float16 or bfloat16")
    if saved["order"] != "C":
        raise ValueError(f"{name} has order {saved['order']!r}, and that of {half} is 'C'")
    number = saved.get("number")
    if type(number) is not int or not 0 <= number < 2**62:
        raise ValueError(f"{name} should have the number of its key, got {shown(number)}")
    if (MASTER in arrays) != has_master:
        has = "a copy in float32" if MASTER in arrays else "no copy in float32"
        raise ValueError(
            f"{name} has {has}, and this optimizer has master={has_master} for it; load it into "
            f"one that has master={not has_master}"
        )
    if MASTER in arrays:
        a = arrays[MASTER]
        if type(a) is not np.ndarray or a.dtype != np.float32 or a.shape != shape:
            got = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
            raise ValueError(f"{name} should have float32 {shape} as its master, got {got}")
    return str(half)
