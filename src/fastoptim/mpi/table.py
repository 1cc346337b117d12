"""What one rank was given for an update, and which way each key goes."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastoptim.mpi.cutting import BLOCK, Cut
from fastoptim.mpi.exchange import Buckets

NONE, DENSE, ROWS = range(3)  # kinds of gradients


class Given(NamedTuple):
    """What one rank was given for an update."""

    keys: list[Any]
    arrays: list[NDArray[Any]]
    grads: list[Any]  # None, an array, or the parts of rows
    to_zero: list[NDArray[Any]]
    passes: bool  # whether the gradients may be used

    @property
    def kinds(self) -> bytes:
        """The kind of each gradient; nothing if none may be used."""
        if not self.passes:
            return b""
        return bytes(
            NONE if g is None else ROWS if isinstance(g, tuple) else DENSE for g in self.grads
        )


@dataclass(frozen=True)
class Table:
    """The keys of an update, and in which of three ways each goes."""

    cuts: dict[int, Cut]  # by place
    dense: list[int]  # keys whose gradients are exchanged
    rows: list[int]  # keys of which every rank has rows alone
    buckets: Buckets | None
    owned: list[tuple[int, tuple[int, int]]]  # keys of which this rank has a part, and its bounds
    span_of: NDArray[Any]
    start_of: NDArray[Any]
    first_of: NDArray[Any]
    blocks: list[tuple[int, int]]
    sums: dict[Any, Any]

    @classmethod
    def of(
        cls, comm: Any, constants: tuple[Any, Any], cuts: dict[int, Cut], dense: list[int],
        rows: list[int],
    ) -> "Table":
        """Return the table of the keys that have a gradient in some rank."""
        rank = comm.Get_rank()
        buckets = Buckets.of(comm, constants, [cuts[i] for i in dense]) if dense else None
        owned, blocks = [], []
        for i in sorted([*dense, *rows]):
            own = cuts[i].part_of(rank)
            if own is not None:
                owned.append((i, (own.start, own.stop)))
            if i in rows:
                blocks.append((-1, rows.index(i)))
            else:
                blocks += [(p.rank, -(-(p.stop - p.start) // BLOCK)) for p in cuts[i].parts]
        place = {i: k for k, (i, _) in enumerate(owned)}
        starts = {i: start for i, (start, _) in owned}
        return cls(
            cuts, dense, rows, buckets, owned,
            np.array([place.get(i, -1) for i in dense], np.intp),
            np.array([starts.get(i, 0) * cuts[i].dtype.itemsize for i in dense], np.intp),
            np.array([start for _, (start, _) in owned], np.intp),
            blocks,
            {} if buckets is None else {
                cuts[i].key: a for i, a in zip(dense, buckets.sums, strict=True) if a is not None
            },
        )


def flat(p: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Return a parameter's elements in C order, and whether they are a copy."""
    a = np.asarray(p)
    if a.flags.c_contiguous and a.flags.aligned:
        return a.reshape(-1), False
    return np.array(a, order="C").reshape(-1), True
