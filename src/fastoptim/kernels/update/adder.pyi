from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.engine import Engine, Source
from fastoptim.kernels.update.pipeline import Plan

T = TypeVar("T")

class Waiting:
    key: Any
    array: NDArray[Any]  # None where nothing dense has come
    dense: bool
    rows: Any

class Batch:
    pending: int
    waiting: dict[Any, Waiting]
    params: Any
    def __init__(
        self, pending: int = 0, sums: Mapping[Any, Any] = {}, rows: Mapping[Any, Any] = {}
    ) -> None: ...

class Adder(Source):
    batch: Batch
    def __init__(
        self,
        engine: Engine,
        new_row_sum: Callable[[Hashable, tuple[int, ...], np.dtype[Any]], Any],
    ) -> None: ...
    def update(self, params: Any, grads: Any, plan: Plan, every: int, mean: bool) -> bool: ...
    def flush(self, params: Any, plan: Plan, mean: bool) -> bool: ...
    def discard(self) -> None: ...
    def still(self, function: Callable[[], T]) -> T: ...
    def start(self, batch: Batch) -> None: ...
    def restore(self, batch: Batch, function: Callable[[Source], object]) -> None: ...
