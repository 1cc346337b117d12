from typing import Any

import numpy as np
from numpy.typing import NDArray

def coalesced_rows(
    adder: object,
    name: str,
    index: NDArray[Any],
    values: NDArray[Any],
    n_rows: int,
    length: int,
) -> tuple[NDArray[np.intp], NDArray[Any]]: ...
def copy_as_sum(values: NDArray[Any], out: NDArray[Any]) -> None: ...
