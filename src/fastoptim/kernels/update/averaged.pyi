from collections.abc import Callable
from types import TracebackType
from typing import Any

from fastoptim.kernels.update.engine import Engine
from fastoptim.kernels.update.pipeline import Plan

class Averaged:
    def __init__(
        self, engine: Engine, params: Any, plan: Plan, point: Callable[..., None] | None = None,
        groups: range | None = None,
    ) -> None: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
