from typing import Any

from fastoptim.kernels.ode.passes import Column as Column
from fastoptim.kernels.ode.passes import PassRunner

class Columns:
    keys: list[Any]
    base: Column
    columns: list[Column]
    passes: PassRunner
