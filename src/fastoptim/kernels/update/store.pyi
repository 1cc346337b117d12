from typing import Any

from numpy.typing import NDArray

from fastoptim.kernels.update.folder import Folder

HALVES: dict[str, int]
MASTER: str

class Record:
    key: Any
    group: int
    state: dict[str, NDArray[Any]]
    average: NDArray[Any] | None
    coding: str | None
    carried: tuple[float, ...] | None
    t: int
    def described(self) -> dict[str, Any]: ...

class Store:
    records: dict[Any, Record]
    iter: int
    skipped: int
    clipped: int
    folder: Folder | None
    def keep_in(self, folder: Folder | None) -> None: ...
    @property
    def grad_norm(self) -> float | None: ...
    def forget_drafts(self) -> None: ...
