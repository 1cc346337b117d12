from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from numpy.typing import NDArray

from fastoptim.kernels.learning import ThreadCounts
from fastoptim.kernels.update.commit import Commit
from fastoptim.kernels.update.pipeline import Line

T = TypeVar("T")

class Param:
    key: Any
    state: dict[str, NDArray[Any]]
    average: NDArray[Any] | None
    t: int
    group: int

class Collector:
    iter: int
    skipped: int
    entries: dict[Any, Param]
    slots: dict[str, dict[Any, NDArray[Any]]]
    averages: dict[Any, NDArray[Any]]
    def __init__(
        self,
        group_of: Callable[[object], int] | None = None,
        check_keys: Callable[[Iterable[object]], None] | None = None,
        thread_counts: ThreadCounts | None = None,
    ) -> None: ...
    def records(self) -> dict[Any, dict[str, Any]]: ...
    def restore(
        self,
        records: dict[Any, dict[str, Any]],
        iter: int,
        skipped: int,
        changes: list[tuple[dict[str, Any], dict[str, Any]]] = ...,
        *,
        commit: Commit | None = None,
        becomes: int = 0,
    ) -> None: ...
    def still(self, function: Callable[[], T]) -> T: ...
    def update(
        self,
        params: object,
        grads: object,
        lines: list[Line],
        clip_norm: float | None = None,
        nonfinite: str = "propagate",
        flush: bool = False,
        *,
        factor: float = 1.0,
        zero: bool = False,
        dry: bool = False,
        numbers: object = None,
        wipe: list[NDArray[Any]] | None = None,
        commit: Commit | None = None,
        becomes: int = 0,
        first: Callable[[], object] | None = None,
    ) -> bool: ...
