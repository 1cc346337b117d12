from collections.abc import Callable, Sequence
from typing import Any

class Views:
    params: dict[Any, Any]
    grads: dict[Any, Any]
    keys: list[Any]
    tensors: list[Any]
    has_rows: bool

    def __init__(
        self, keys: list[Any], tensors: list[Any], plain: tuple[type, ...], capsule: object,
        odd: Callable[[Any, Any, str], Any],
    ) -> None: ...
    def look(self, groups: Sequence[dict[str, Any]], alone: list[Any]) -> list[Any] | None: ...
    def arrays(self) -> dict[Any, Any]: ...
    def let_go(self) -> None: ...
