from collections.abc import Callable
from typing import Any

class Commit:
    number: int
    def __init__(self, busy_text: str) -> None: ...
    def alone(self, function: Callable[..., Any], *arguments: Any) -> Any: ...
