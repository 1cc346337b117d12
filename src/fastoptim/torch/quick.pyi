from collections.abc import Callable
from typing import Any

def step(self: Any, closure: Callable[[], Any] | None = None) -> Any: ...
