from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

class Collector:
    iter: int
    slots: dict[str, dict[Any, NDArray[Any]]]
    def __init__(self, slots: tuple[str, ...]) -> None: ...
    def update(
        self,
        params: object,
        grads: object,
        capsule: object,
        coefficients: Callable[[int], tuple[float, ...]],
    ) -> None: ...
