"""What a folder holds, as a saved state whose arrays are the files themselves."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.folder import disk
from fastoptim.folder.boot import is_same
from fastoptim.folder.index import Entry, Index, Stored, damaged
from fastoptim.kernels.update.folder import Mapped, rows_of

ROW, FORMAT = 128, 1  # bytes of a row of the ledger, and the number that it begins with

Array = NDArray[Any]
Ledger = tuple[dict[str, Any], list[dict[str, Any]]]


class Found:
    """The state that a folder holds.

    Parameters
    ----------
    path : str
    index : Index
    keeps : object
        Lives as long as the arrays.

    Attributes
    ----------
    arrays : dict of int to (array, Stored)
        By identity.
    mapped : dict of str to Mapped
        By file.

    Raises
    ------
    ValueError
        The ledger is not there, or is none; or as for `saved`.
    """

    def __init__(self, path: str, index: Index, keeps: object) -> None:
        self.path, self.index, self.keeps = path, index, keeps
        self.arrays: dict[int, tuple[Array, Stored]] = {}
        self.mapped: dict[str, Mapped] = {}
        self.head, self.rows = self.ledger()

    def ledger(self) -> Ledger:
        """Return what the ledger says."""
        name = self.index.ledger
        ledger = disk.old_file(self.path, name, None, self.keeps)
        if ledger.size < ROW or ledger.size % ROW:
            raise damaged(self.path, f"the file {name} has {ledger.size} bytes")
        head, rows = rows_of(ledger)
        if head["format"] != FORMAT:
            raise damaged(self.path, f"the file {name} is no ledger")
        return head, rows

    @property
    def words(self) -> str | None:
        """What messages say of the state, None if there is nothing to lose."""
        head = self.head
        if head["iter"] == head["skipped"] == 0 and head["begun"] == head["done"]:
            return None
        return f"{self.index.settings.get('rule')} after {head['iter']} updates"

    def saved(self) -> dict[str, Any]:
        """Return it, or refuse a state of which some was written and some was not."""
        self.check_is_whole()
        parameters = {}
        for entry in self.index.entries:
            if not 0 < entry.row <= len(self.rows):
                raise damaged(self.path, f"the ledger has no row of {entry.key!r}")
            row = self.rows[entry.row - 1]
            if row["updates"] or row["arrays"]:  # else of a call that was refused
                parameters[entry.key] = self.record(entry, row)
        return {
            **self.index.settings, "parameters": parameters,
            **{name: self.head[name] for name in ("iter", "skipped", "clipped")},
        }

    def check_is_whole(self) -> None:
        """Refuse a state of which some was written and some was not."""
        anew = "load a checkpoint, with another folder as state_dir, or start anew"
        if self.head["begun"] != self.head["done"]:
            raise ValueError(
                f"{self.path} was left in the middle of an update, or of a `with` that exchanges "
                f"the parameters: the process was killed after {self.head['iter']} whole ones. "
                f"State and parameters are partly those of the next; {anew}"
            )
        if not self.head["flushed"] and not is_same(self.head["boot"]):
            raise ValueError(
                f"{self.path} was written before this system was started, or on another one, and "
                f"opt.sync() was not called after the last update, so that some of it may not have "
                f"reached the disk; {anew}"
            )

    def record(self, entry: Entry, row: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of a key, as a saved state has it."""
        state: dict[str, Array] = {}
        average = None
        for bit, stored in enumerate(entry.arrays):
            if not row["arrays"] >> bit & 1:
                continue
            a = self.array(stored)
            if stored.slot is None:
                average = a
            else:
                state[stored.slot] = a
        has_mean = row["mean_from"] >= 0
        return {
            "updates": row["updates"], "shape": entry.shape, "dtype": entry.dtype,
            "order": entry.order, "state": state, "average": average, "group": entry.group,
            "mean": (row["averaged"], row["mean_from"]) if has_mean else None,
            **({"carried": row["carried"]} if row["carried"] else {}),
        }

    def array(self, stored: Stored) -> Array:
        """Return an array of the folder."""
        mapped = disk.old_file(self.path, stored.file, stored.size, self.keeps)
        try:
            a: Array = np.ndarray(
                stored.shape, stored.dtype, memoryview(mapped), stored.start, stored.strides
            )
        except (TypeError, ValueError) as error:
            raise damaged(self.path, f"{stored.file}: {error}") from error
        self.mapped[stored.file] = mapped
        self.arrays[id(a)] = a, stored
        return a
