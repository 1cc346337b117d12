from typing import Any

from numpy.typing import NDArray

Numbers = NDArray[Any]

class Exchange:
    rank: int
    size: int
    n_buckets: int
    sums: NDArray[Any]
    def __init__(
        self, comm: Any, constants: tuple[Any, Any], moves: Numbers, first_move: Numbers,
        runs: Numbers, first_run: Numbers, counts: Numbers, room: int,
        doubles: int,
    ) -> None: ...

class RowExchange:
    def __init__(
        self, comm: Any, constants: tuple[Any, Any],
        tables: list[tuple[NDArray[Any], Numbers, int, list[tuple[int, int]]]],
    ) -> None: ...
