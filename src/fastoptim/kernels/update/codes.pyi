from typing import Any

from numpy.typing import DTypeLike, NDArray

def decoded(
    code: int, codes: NDArray[Any], largest: NDArray[Any] | None, dtype: DTypeLike
) -> NDArray[Any]: ...
def encoded(code: int, numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]: ...
