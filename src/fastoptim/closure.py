"""What a step's fn may return."""

from collections.abc import Callable, Mapping
from typing import Any

Function = Callable[[Any], Any]


def loss_and_grads(result: object) -> tuple[Any, Any]:
    """Return (loss, grads) from what fn returned: grads, or (loss, grads).

    A tuple of two is (loss, grads) if its second is a container; two arrays are two gradients.
    """
    if result is None:
        raise TypeError("fn returned None; it must return grads or (loss, grads)")
    if isinstance(result, tuple) and len(result) == 2 and is_container(result[1]):
        return result
    return None, result


def is_container(x: object) -> bool:
    """Whether x holds gradients, and is none itself."""
    return isinstance(x, (Mapping, list, tuple)) or hasattr(x, "keys")
