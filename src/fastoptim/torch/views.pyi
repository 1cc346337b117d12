from collections.abc import Callable
from typing import Any

class Views:
    params: dict[Any, Any]
    grads: dict[Any, Any]
    keys: list[Any]
    tensors: list[Any]
    has_rows: bool

    def __init__(
        self, keys: list[Any], tensors: list[Any], ends: list[int], plain: tuple[type, ...],
        capsule: object, odd: Callable[[Any, Any, str], Any],
        check: Callable[[Any, Any, str], None],
    ) -> None: ...
    def check_is_free(self) -> None: ...
    def step(self, work: Any) -> bool: ...
    def update(
        self, engine: Any, plan: Any, written: list[Any], zeroes: bool, bump: Callable[[Any], None]
    ) -> None: ...
    def arrays(self) -> dict[Any, Any]: ...
