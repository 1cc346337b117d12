"""Which rank owns which elements of a key: it updates them and keeps their state.

A key is cut at multiples of 1,024 elements in C order, the blocks in which the squares of a norm
are summed. So the ranks' blocks are those that one process has. A table is cut between two rows as
well, where that leaves the parts of about one size: then gradients of rows stay gradients of rows.

What needs a tensor as a whole goes whole to one rank: norms of tensors, columns and rows
(`trust_ratio`, `agc`, `centralize`, `clip_norm_per_key`, constraints on norms, LARS, LAMB), and
rules that look at matrices (Adafactor, Muon).
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.table import block_length
from fastoptim.kernels.update.pipeline import Plan

BLOCK = block_length()
FEWEST = 4  # rows are kept together if the parts have so many common multiples each


class Part(NamedTuple):
    """The elements of a key that one rank owns, counted in C order."""

    rank: int
    start: int
    stop: int


@dataclass(frozen=True)
class Cut:
    """How a key is divided among the ranks; its parts follow each other."""

    key: Hashable
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: tuple[Part, ...]
    whole: bool
    by_row: bool  # whether each part has whole rows

    def part_of(self, rank: int) -> Part | None:
        """Return what a rank owns, None if that is nothing."""
        return next((part for part in self.parts if part.rank == rank), None)

    def shape_of(self, part: Part) -> tuple[int, ...]:
        """Return the shape of a part as its rank keeps it."""
        if self.whole:
            return self.shape
        if not self.by_row:
            return (part.stop - part.start,)
        return ((part.stop - part.start) // math.prod(self.shape[1:]), *self.shape[1:])

    @property
    def length(self) -> int:
        """How many elements a row of a part has, by which gradients of rows are told."""
        return math.prod(self.shape[1:]) if self.by_row or self.whole else 1


@dataclass
class Cutter:
    """Cuts the keys one after the other; every rank that sees the same keys cuts them alike."""

    size: int
    loads: list[int] = field(default_factory=list)  # bytes of each rank

    def __post_init__(self) -> None:
        self.loads = [0] * self.size

    def cut(
        self, key: Hashable, shape: tuple[int, ...], dtype: np.dtype[Any], whole: bool
    ) -> Cut:
        """Return how a new key is divided."""
        if dtype.itemsize == 2:
            raise TypeError(
                f"params[{key!r}] is {dtype}; a Sharded takes parameters of float32 or float64: "
                f"keep these, and round them where the network reads them"
            )
        n = math.prod(shape)
        whole = whole or n == 0
        length = math.prod(shape[1:]) if shape else 1
        by_row = True
        if whole:
            parts = [Part(-1, 0, n)]
        else:
            unit = math.lcm(BLOCK, length) if length else BLOCK
            if length > 1 and n > BLOCK and n < FEWEST * self.size * unit:
                unit, by_row = BLOCK, self.size == 1
            units = -(-n // unit)
            bounds = [min(n, -(-units * k // self.size) * unit) for k in range(self.size + 1)]
            parts = [Part(-1, bounds[k], bounds[k + 1]) for k in range(self.size)]
        parts = [part for part in parts if part.start < part.stop] or [Part(-1, 0, n)]
        # the largest part to the rank that has the least
        ranks = sorted(range(self.size), key=self.loads.__getitem__)
        largest = sorted(range(len(parts)), key=lambda k: parts[k].start - parts[k].stop)
        for k, rank in zip(largest, ranks, strict=False):
            parts[k] = Part(rank, parts[k].start, parts[k].stop)
            self.loads[rank] += (parts[k].stop - parts[k].start) * dtype.itemsize
        if len(parts) == 1:
            by_row = True
        return Cut(key, shape, dtype, tuple(parts), whole, by_row and len(shape) > 0)


def needs_whole(plan: Plan, group: int) -> bool:
    """Whether the keys of a group are looked at as whole tensors."""
    pipeline = plan.pipelines[group]
    return (
        pipeline.of_tensors or pipeline.most_norm != math.inf or pipeline.scratch > 0
        or pipeline.factored_slots is not None
    )
