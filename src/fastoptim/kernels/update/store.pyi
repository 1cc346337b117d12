from typing import Any

from numpy.typing import NDArray

class Record:
    key: Any
    group: int
    state: dict[str, NDArray[Any]]
    average: NDArray[Any] | None
    coding: str | None
    t: int
    def described(self) -> dict[str, Any]: ...

class Store:
    records: dict[Any, Record]
    iter: int
    skipped: int
    clipped: int
    @property
    def grad_norm(self) -> float | None: ...
    def forget_drafts(self) -> None: ...
