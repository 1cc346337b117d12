from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

class Commit:
    number: int
    def __init__(self, busy_text: str) -> None: ...
    def alone(self, function: Callable[..., T], *arguments: Any) -> T: ...
