"""Arrays that overlap themselves or one another."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

# np.shares_memory is exact and can take exponential time; past this it counts as shared.
OVERLAP_EFFORT = 1_000_000


def overlaps_itself(a: Any) -> bool:
    """Whether two elements of an array lie in the same place."""
    if a.size < 2 or a.flags.c_contiguous or a.flags.f_contiguous:
        return False
    if any(stride == 0 and n > 1 for stride, n in zip(a.strides, a.shape, strict=True)):
        return True
    axes = sorted((abs(stride), n) for stride, n in zip(a.strides, a.shape, strict=True) if n > 1)
    reach = a.itemsize
    for stride, n in axes:
        if stride < reach:
            break
        reach += stride * (n - 1)
    else:
        return False                # each axis steps over all that the axes inside it reach
    places = np.zeros((), np.intp)
    for stride, n in zip(a.strides, a.shape, strict=True):
        places = places[..., None] + np.arange(n) * stride
    places = np.sort(places, axis=None)
    return bool((np.diff(places) < a.itemsize).any())


def share_memory(a: Any, b: Any) -> bool:
    """Whether two arrays have an element in common."""
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_EFFORT)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def refuse_shared_memory(arrays: list[tuple[str, Any]]) -> None:
    """Refuse named arrays of which two share an element (columns of one table do not)."""
    reached: list[tuple[str, Any]] = []  # those that end beyond the start of the one looked at
    for name, a in sorted(arrays, key=lambda pair: byte_bounds(pair[1])[0]):
        low = byte_bounds(a)[0]
        reached = [pair for pair in reached if byte_bounds(pair[1])[1] > low]
        for other, b in reached:
            if not share_memory(a, b):
                continue
            if "grads[" in name + other:
                raise ValueError(
                    f"{other} and {name} share memory, and zero_grads=True would wipe both; "
                    f"pass a copy as the gradient"
                )
            raise ValueError(
                f"{other} and {name} share memory, which would be updated twice; keep one "
                f"key per array (for tied weights: one key, the sum of the gradients)"
            )
        reached.append((name, a))
