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
    if not isinstance(result, tuple):
        return None, result
    if len(result) == 2 and is_container(result[1]):
        return result
    if any(map(is_container, result)):
        kinds = ", ".join(type(x).__name__ for x in result)
        what = "(grads, loss)" if len(result) == 2 else f"a tuple of {len(result)}"
        raise TypeError(
            f"fn returned {what}, that is ({kinds}); it must return grads or (loss, grads)"
        )
    return None, result


def is_container(x: object) -> bool:
    """Whether x is a container of gradients, not a gradient."""
    return isinstance(x, (Mapping, list, tuple)) or hasattr(x, "keys")
