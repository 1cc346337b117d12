from collections.abc import Callable
from typing import Any

class Pipeline:
    slots: tuple[str, ...]
    starts: tuple[float, ...]
    coefficients: Callable[..., tuple[Any, ...]]
    carries: bool
    zero_grads: bool
    mean_from: int
    def __init__(
        self,
        rule: object,
        slots: tuple[str, ...],
        starts: tuple[float, ...],
        coefficients: Callable[..., tuple[Any, ...]],
        clip_value: float | None = None,
        weight_decay: float = 0.0,
        shrink: float = 1.0,
        average: float | None = None,
        clip_norm_per_key: float | None = None,
        agc: float | None = None,
        lr: float = 1.0,
        start: float = 0.0,
        *,
        maximize: bool = False,
        zero_grads: bool = False,
        centralize: bool = False,
        trust: tuple[float, float] | None = None,
        constraint: tuple[Any, ...] | None = None,
        norms: str = "",
        mean_from: int = -1,
        owner: object = None,
        carries: bool = False,
    ) -> None: ...
    def adjust(
        self,
        clip_value: float | None,
        weight_decay: float,
        shrink: float,
        average: float | None,
        clip_norm_per_key: float | None,
        agc: float | None = None,
        lr: float = 1.0,
        start: float = 0.0,
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
    means: bool
    def __init__(
        self,
        pipelines: list[Pipeline],
        clip_norm: float | None = None,
        nonfinite: str = "propagate",
        flush: bool = False,
        *,
        norm: bool = False,
    ) -> None: ...
