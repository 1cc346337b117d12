"""Arrays of an optimizer's records, by key: ``opt.v``, ``opt.average_of``."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.store import Record, Store
from fastoptim.optimizer.state_dtypes import as_seen


class ByKey(Mapping[Hashable, NDArray[np.floating[Any]]]):
    """The arrays that the records of a store have under a name; a mapping that cannot be written.

    Each array is a new view of the one in the record. It may be read and written in place; a view
    that gets another shape leaves the record as it is.

    Parameters
    ----------
    store : Store
    slot : str or None
        None stands for the averages.
    signed : bool
        Whether 8-bit codes of the slot have a sign.
    groups : range or None
        The groups whose keys count; None: all keys.
    """

    __slots__ = ("_groups", "_signed", "_slot", "_store")

    def __init__(
        self, store: Store, slot: str | None, groups: range | None = None, *, signed: bool = True
    ) -> None:
        self._store, self._slot, self._groups, self._signed = store, slot, groups, signed

    def _array_of(self, record: Record | None) -> NDArray[Any] | None:
        if record is None or (self._groups is not None and record.group not in self._groups):
            return None
        return record.average if self._slot is None else record.state.get(self._slot)

    def __getitem__(self, key: Hashable) -> NDArray[np.floating[Any]]:
        record = self._store.records.get(key)
        array = self._array_of(record)
        if record is None or array is None:
            raise KeyError(key)
        if self._slot is None:
            return array.view()
        seen: NDArray[np.floating[Any]] = as_seen(
            record.state, self._slot, record.coding, self._signed
        )
        return seen

    def __iter__(self) -> Iterator[Hashable]:
        return (
            key for key, record in self._store.records.items() if self._array_of(record) is not None
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _ipython_key_completions_(self) -> list[Hashable]:
        """Return what IPython and Jupyter offer after ``opt.v[``."""
        return list(self)

    def __repr__(self) -> str:
        return repr(dict(self))
