from collections.abc import Callable

from fastoptim.kernels.update.prelude import Prelude

class Pipeline:
    slots: tuple[str, ...]
    starts: tuple[float, ...]
    scratch: int
    coefficients: Callable[[int], tuple[float, ...]]
    zero_grads: bool
    def __init__(
        self,
        rule: object,
        slots: tuple[str, ...],
        starts: tuple[float, ...],
        coefficients: Callable[[int], tuple[float, ...]],
        clip_value: float | None = None,
        weight_decay: float = 0.0,
        shrink: float = 1.0,
        average: float | None = None,
        clip_norm_per_key: float | None = None,
        *,
        maximize: bool = False,
        zero_grads: bool = False,
        owner: object = None,
        scratch: int = 0,
    ) -> None: ...
    def adjust(
        self,
        clip_value: float | None,
        weight_decay: float,
        shrink: float,
        average: float | None,
        clip_norm_per_key: float | None,
    ) -> int: ...
    def set_shrink(self, shrink: float) -> int: ...

class Plan:
    pipelines: list[Pipeline]
    clips: bool
    most_norm: float
    measures: bool
    clips_keys: bool
    skips: bool
    raises: bool
    surveys: bool
    flush: bool
    prelude: Prelude | None
    def __init__(
        self,
        pipelines: list[Pipeline],
        clip_norm: float | None = None,
        nonfinite: str = "propagate",
        flush: bool = False,
        *,
        norm: bool = False,
        prelude: Prelude | None = None,
    ) -> None: ...
