from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

from fastoptim.kernels.update.batch import Batch
from fastoptim.kernels.update.engine import Engine, Source
from fastoptim.kernels.update.pipeline import Plan

T = TypeVar("T")

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
