"""What the calls of a soft batch must have in common."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastoptim.kernels.update.checks.arrays import is_half


def gone(keys: Iterable[Any]) -> KeyError:
    """Return the error for parameters that had gradients and are missing."""
    return KeyError(
        f"params has no {', '.join(map(repr, keys))}, which had gradients earlier in this "
        f"batch; flush() before going on with other parameters, or discard()"
    )


def check_like(key: object, p: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    """Refuse a parameter that is not like the sum of its gradients."""
    now = np.asarray(p)
    summed_in = np.float32 if is_half(now) else now.dtype
    if now.shape != shape or summed_in != dtype:
        raise ValueError(
            f"params[{key!r}] is {now.dtype} {now.shape}, but was {dtype} "
            f"{shape} earlier in this batch"
        )
