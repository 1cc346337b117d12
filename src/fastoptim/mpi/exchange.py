"""The buckets in which gradients and parameters travel, and what is done with gradients of rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.exchange import Exchange, RowExchange
from fastoptim.mpi.cutting import Cut
from fastoptim.rows import Elements, Rows
from fastoptim.softbatch.row_sum import RowSum

LINE = 64  # bytes: the parts of keys begin on cache lines
# Bytes of one rank's share of a bucket at most. Measured (Adam, float32, 2 ranks on two cores, 10
# million elements, beside MPI's own calls on whole arrays): with shares of 64 KiB an update takes
# 1.24 times as long, of 256 KiB 1.18, 512 KiB 1.11, 1 MiB 1.09, 2 MiB 1.41.
MOST = 1 << 19

Constants = tuple[Any, Any]


def padded(n: int, to: int = LINE) -> int:
    """Return n rounded up."""
    return -(-n // to) * to


@dataclass(frozen=True)
class Buckets:
    """Where each piece of each key lies in the buckets, as one rank sees it."""

    exchange: Exchange
    sums: list[NDArray[Any] | None]  # per key, this rank's part of the sum

    @classmethod
    def of(cls, comm: Any, constants: Constants, cuts: Sequence[Cut]) -> "Buckets":
        """Return the buckets of some keys. A rank's float64 come before its float32."""
        rank, size = comm.Get_rank(), comm.Get_size()
        pieces, totals, doubles = [], [0] * size, [0] * size
        for itemsize in (8, 4):
            for k, cut in enumerate(cuts):
                for part in cut.parts if cut.dtype.itemsize == itemsize else ():
                    start, stop = part.start * itemsize, part.stop * itemsize
                    pieces.append((part.rank, k, start, totals[part.rank], stop - start))
                    totals[part.rank] += padded(stop - start)
            if itemsize == 8:
                doubles = list(totals)
        room = max(LINE, max(totals))
        room = min(room, MOST)
        n_buckets = -(-max(totals) // room)
        moves: list[list[tuple[int, ...]]] = [[] for _ in range(n_buckets)]
        for owner, k, start, at, n in pieces:
            done = 0
            while done < n:
                bucket, inside = divmod(at + done, room)
                some = min(n - done, room - inside)
                moves[bucket].append((k, start + done, owner * room + inside, some, owner))
                done += some
        runs: list[list[tuple[int, ...]]] = []
        ends = (doubles[rank], totals[rank])
        for bucket in range(n_buckets):
            first, end = bucket * room, (bucket + 1) * room
            some_runs: list[tuple[int, ...]] = []
            for low, high, itemsize in ((0, ends[0], 8), (*ends, 4)):
                low, high = max(low, first), min(high, end)
                if low < high:
                    some_runs.append((low - first, (high - low) // itemsize, itemsize == 8))
            runs.append(some_runs)
        counts = [[min(max(n - b * room, 0), room) for n in totals] for b in range(n_buckets)]
        exchange = Exchange(
            comm, constants, *table_of(moves, 5), *table_of(runs, 3),
            np.array(counts, np.intp).reshape(n_buckets, size), room, doubles[rank],
        )
        sums: list[NDArray[Any] | None] = [None] * len(cuts)
        for owner, k, _, at, n in pieces:
            if owner == rank:
                own = cuts[k].part_of(rank)
                assert own is not None
                view = exchange.sums[at : at + n].view(cuts[k].dtype)
                sums[k] = view.reshape(cuts[k].shape_of(own))
        return cls(exchange, sums)


def table_of(rows: list[list[tuple[int, ...]]], width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows of all buckets in one array, and where each bucket's begin."""
    first = np.cumsum([0, *map(len, rows)], dtype=np.intp)
    every = [row for some in rows for row in some]
    return np.array(every, np.intp).reshape(len(every), width), first


# ------------------------------------------------ gradients of rows

Part = tuple[type[Rows], tuple[NDArray[Any], NDArray[Any]]]


def as_dense(cut: Cut, part: Part) -> NDArray[Any]:
    """Return a gradient of rows as an array: another rank has a dense one for this key."""
    dense = np.zeros(cut.shape, cut.dtype)
    RowSum(cut.key, cut.shape, cut.dtype).plus(*part).fill(dense)
    return dense


@dataclass
class SharedRows:
    """The sum of all ranks' gradients of rows of one key, which every rank has."""

    cut: Cut
    kind: type[Rows]
    length: int  # elements of a row
    index: NDArray[Any]  # rank after rank
    values: NDArray[Any]
    once: NDArray[Any]  # each row once, in ascending order
    sums: NDArray[Any]  # the sums of these

    @classmethod
    def of(cls, cut: Cut, parts: Sequence[Part]) -> "SharedRows":
        """Return the sum of parts in the order of their ranks."""
        total = RowSum(cut.key, cut.shape, cut.dtype)
        for part in parts:
            total = total.plus(*part)
        kind, (index, values), (once, sums) = total.kind, total.rows(), total.once()
        order = np.argsort(once, kind="stable")
        once, sums = once[order], sums[order]
        length = math.prod(cut.shape[1:])
        if kind is Rows and not cut.by_row and length > 1:
            index, values = total.by_element(index, values)
            once, _ = total.by_element(once, sums)
            kind = Elements
        if kind is Elements:
            length = 1
        return cls(cut, kind, length, index, values, once, np.ascontiguousarray(sums))

    def bounds(self, rank: int) -> tuple[int, int]:
        """Return the first row of a rank, and the end."""
        part = self.cut.part_of(rank)
        if part is None or self.length == 0:
            return 0, 0
        return part.start // self.length, part.stop // self.length

    def gradient(self, rank: int) -> Rows:
        """Return the gradient of a rank's part."""
        first, end = self.bounds(rank)
        own = (self.index >= first) & (self.index < end)
        return self.kind(self.index[own] - first, self.values[own])

    def table(self, flat: NDArray[Any], size: int) -> tuple[Any, Any, int, list[tuple[int, int]]]:
        """Return what brings the rows of a parameter back."""
        bounds = [np.searchsorted(self.once, self.bounds(rank)) for rank in range(size)]
        return (
            flat, self.once.astype(np.intp), self.length * flat.itemsize,
            [(int(first), int(end)) for first, end in bounds],
        )


def rows_back(
    comm: Any, constants: Constants, shared: Sequence[SharedRows], flats: Sequence[NDArray[Any]]
) -> RowExchange:
    """Return the way of updated rows back to all ranks."""
    size = comm.Get_size()
    tables = [one.table(flat, size) for one, flat in zip(shared, flats, strict=True)]
    return RowExchange(comm, constants, tables)
