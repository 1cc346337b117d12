from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from numpy.typing import NDArray

from fastoptim.kernels.update.engine import Engine, Source
from fastoptim.kernels.update.exchange import Exchange, RowExchange
from fastoptim.kernels.update.pipeline import Plan

T = TypeVar("T")

class Job:
    changed: bool
    note: bytes
    digest: int
    plan: Plan
    factor: float
    pieces: dict[Any, Any] | None
    sums: dict[Any, Any]
    exchange: Exchange | None
    arrays: list[NDArray[Any]]
    grads: list[NDArray[Any] | None]
    span_of: NDArray[Any]
    start_of: NDArray[Any]
    first_of: NDArray[Any]
    rows: RowExchange | None
    row_sums: list[NDArray[Any]]
    blocks: list[tuple[int, int]]
    copies: list[tuple[NDArray[Any], NDArray[Any]]]
    to_zero: list[NDArray[Any]]
    kept: dict[str, Any]
    left_out: int

class Shards(Source):
    rank: int
    size: int
    summed: bool
    def __init__(
        self,
        engine: Engine,
        comm: Any,
        constants: tuple[Any, Any, Any, Any],
        group_of: Callable[[Hashable, NDArray[Any]], int],
        failure: Callable[[BaseException | None, list[Any], bool], BaseException],
        described: Callable[[BaseException | None], Any],
        whole: Callable[[Any, Any], Any],
    ) -> None: ...
    def look(
        self, params: Any, grads: Any, plan: Plan
    ) -> tuple[list[Any], list[NDArray[Any]], list[Any], list[NDArray[Any]], bool]: ...
    def forget_groups(self) -> None: ...
    def update(
        self, kept: dict[str, Any], prepare: Callable[[], Job],
        again: Callable[[Job, list[bytes]], Job],
    ) -> bool: ...
    def together(self, function: Callable[[], T]) -> T: ...
    def restore(self, check: Callable[[Job], tuple[Any, int, int, int, Any]]) -> None: ...
    def gather(
        self, exchange: Exchange, arrays: list[NDArray[Any]],
        copies: list[tuple[NDArray[Any], NDArray[Any]]],
    ) -> None: ...
