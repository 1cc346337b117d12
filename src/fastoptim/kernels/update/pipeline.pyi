from collections.abc import Callable
from typing import Any

from fastoptim.kernels.update.prelude import Prelude

class Pipeline:
    slots: tuple[str, ...]
    starts: tuple[float, ...]
    scratch: int
    coefficients: Callable[..., tuple[Any, ...]]
    carries: bool
    zero_grads: bool
    mean_from: int
    factored_slots: tuple[str, ...] | None
    factor_from: int
    most_norm: float
    of_tensors: bool
    agc: float
    centralizes: bool
    norms: bool
    trusts: bool
    projects: int
    by_row: bool
    owner: object
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
        factored_slots: tuple[str, ...] | None = None,
        factor_from: int = 0,
        scratch: int = 0,
        state_dtype: str | None = None,
        codes: tuple[int, ...] | None = None,
        factored_codes: tuple[int, ...] | None = None,
        seed: int = 0,
        master: bool = True,
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
    codes: bool
    pipelines: list[Pipeline]
    clips: bool
    most_norm: float
    measures: bool
    clips_keys: bool
    of_tensors: bool
    skips: bool
    raises: bool
    surveys: bool
    flush: bool
    means: bool
    prelude: Prelude | None
    factors: bool
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
