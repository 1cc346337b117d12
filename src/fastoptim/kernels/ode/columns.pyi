from typing import Any

from numpy.typing import NDArray

from fastoptim.kernels.ode.passes import PassRunner

Column = list[NDArray[Any]]

class Columns:
    keys: list[Any]
    base: Column
    columns: list[Column]
    passes: PassRunner
    def __init__(self, keys: list[Any], arrays: Column, n_columns: int) -> None: ...
