from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from fastoptim.kernels.ode.passes import PassRunner

Column = list[NDArray[Any]]

class MovingParams:
    busy: bool
    def __init__(self, n_columns: int) -> None: ...
    @property
    def given(self) -> Any: ...
    @property
    def keys(self) -> list[Any]: ...
    @property
    def x(self) -> Column: ...
    @property
    def y(self) -> Column: ...
    @property
    def columns(self) -> list[Column]: ...
    @property
    def passes(self) -> PassRunner: ...
    def session(
        self,
        params: object,
        body: Callable[[], tuple[Any, dict[str, Any], dict[str, Any], object]],
    ) -> Any: ...
    def start(self) -> Any: ...
    def leap(
        self,
        g: Column | None,
        coefficients: tuple[float, ...],
        rows: list[int],
    ) -> None: ...
    def move(
        self,
        capsule: object,
        g: Column,
        columns: tuple[Column, ...],
        coefficients: tuple[float, ...] = (),
    ) -> None: ...
    def total(
        self,
        capsule: object,
        g: Column,
        columns: tuple[Column, ...],
        coefficients: tuple[float, ...],
    ) -> float: ...
    def back(self) -> None: ...
    def gradients(self, grads: object, of_fn: bool = True) -> Column: ...
    def lasting(self, grads: object, zero_grads: bool) -> Any: ...
    def ahead(
        self,
        g: Column | None,
        coefficients: tuple[float, ...],
        rows: list[int],
    ) -> dict[Any, Any] | list[Any]: ...
