from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from numpy.typing import NDArray

from fastoptim.kernels.update.pipeline import Plan
from fastoptim.kernels.update.store import Store

T = TypeVar("T")

class Source: ...

class Engine:
    store: Store
    def __init__(
        self,
        group_of: Callable[[Hashable, NDArray[Any]], int] | None = None,
        check_keys: Callable[[Iterable[Hashable], Iterable[object]], None] | None = None,
    ) -> None: ...
    def update(self, params: Any, grads: Any, plan: Plan) -> bool: ...
    def share(self, other: Engine, words: str) -> None: ...
    def learned(self) -> list[tuple[int, int, int, bool]]: ...
    def refuse_to_replace(self) -> None: ...
    def still(self, function: Callable[[], T]) -> T: ...
    def records(self) -> dict[Any, dict[str, Any]]: ...
    def restore(
        self,
        records: dict[Any, dict[str, Any]],
        iter: int,
        skipped: int,
        clipped: int,
        changes: Iterable[tuple[dict[str, Any], Mapping[str, Any]]] = (),
        source: Source | None = None,
        norm: float | None = None,
    ) -> None: ...
