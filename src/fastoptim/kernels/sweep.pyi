from typing import Any

from numpy.typing import NDArray

class Sweep:
    size: int
    def __init__(self, like: list[NDArray[Any]]) -> None: ...
    def run(
        self,
        capsule: object,
        columns: tuple[list[NDArray[Any]], ...],
        coefficients: tuple[float, ...] = (),
    ) -> None: ...
    def total(
        self,
        capsule: object,
        columns: tuple[list[NDArray[Any]], ...],
        coefficients: tuple[float, ...] = (),
    ) -> float: ...
    def not_finite(self) -> int: ...
    def same_bits(self, one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool: ...
