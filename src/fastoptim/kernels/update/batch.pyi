from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

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
