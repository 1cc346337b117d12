from typing import Any

from numpy.typing import NDArray

Column = list[NDArray[Any]]

class PassRunner:
    size: int
    altered: int
    def __init__(self, like: Column) -> None: ...
    def begin(self) -> None: ...
    def end(self) -> None: ...
    def run(
        self,
        capsule: object,
        columns: tuple[Column, ...],
        coefficients: tuple[float, ...] = (),
        rows: list[int] | None = None,
    ) -> None: ...
    def move(
        self,
        capsule: object,
        x: Column,
        g: Column | None,
        columns: tuple[Column, ...],
        coefficients: tuple[float, ...] = (),
        rows: list[int] | None = None,
    ) -> bool: ...
    def total(
        self,
        capsule: object,
        x: Column,
        g: Column,
        columns: tuple[Column, ...],
        coefficients: tuple[float, ...] = (),
    ) -> float: ...
    def not_finite(self) -> int: ...
    def same_bits(self, one: Column, other: Column) -> bool: ...
