"""What is updated: rules, dtypes and shapes, and whether they fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastoptim
from fastoptim import listings
from fastoptim.bench.bits import check_update

Shape = tuple[int, ...]
Arrays = dict[Any, Any]

RULES = tuple(  # those whose bits can be checked here
    name for name, x in vars(listings).items()
    if isinstance(x, type) and x.__module__ == listings.__name__
)
DTYPES = ("float32", "float64")
SIZES: tuple[tuple[Shape, ...], ...] = tuple(
    ((n,),) for n in (64, 1_024, 16_384, 131_072, 1_000_000, 8_000_000, 50_000_000)
)
QUICK_SIZES = tuple(((n,),) for n in (64, 16_384, 1_000_000, 8_000_000))
KEYS: tuple[tuple[Shape, ...], ...] = (
    ((64,),) * 100, ((784, 100), (100,), (100, 10), (10,)), ((256, 256), (256,)) * 12,
)
ONE_SIZE: tuple[tuple[Shape, ...], ...] = (((1_024,),), ((1_000_000,),))  # of every other rule
STEPS = 3  # of the check: the first with fresh state, and further ones


@dataclass(frozen=True)
class Case:
    """One rule on arrays of these shapes."""

    rule: str
    dtype: str
    shapes: tuple[Shape, ...]

    @property
    def elements(self) -> int:
        """How many numbers are updated."""
        return sum(map(prod, self.shapes))

    @property
    def slots(self) -> int:
        """How many state arrays the rule has."""
        optimizer = getattr(fastoptim, self.rule)()
        return len(optimizer.kernels[optimizer.kernel])

    @property
    def bytes_moved(self) -> int:
        """What an update must read and write: parameter and state both, the gradient read."""
        return self.elements * np.dtype(self.dtype).itemsize * (3 + 2 * self.slots)

    def bytes_needed(self, contestants: int) -> int:
        """Return the memory for so many contestants, each with arrays of its own."""
        each = self.elements * np.dtype(self.dtype).itemsize
        return each * (contestants * (2 + self.slots) + 6)  # 6: what NumPy's two work in

    @property
    def title(self) -> str:
        """What it is, in a word or two."""
        return title_of(self.shapes)

    def arrays(self, seed: int) -> Arrays:
        """Return random arrays by key; the same for the same seed."""
        rng = np.random.default_rng(seed)
        return {
            f"k{i}": rng.standard_normal(shape, np.dtype(self.dtype).type)
            for i, shape in enumerate(self.shapes)
        }

    def check(self) -> None:
        """Raise `DifferentBits` unless our update is the listing's."""
        ours, theirs = getattr(fastoptim, self.rule)(), getattr(listings, self.rule)()
        params = self.arrays(0)
        both = params, {key: p.copy() for key, p in params.items()}
        for step in range(STEPS):
            what = f"{self.rule}, {self.dtype}, {self.title}: update {step + 1}"
            check_update(ours, theirs, both, self.arrays(1 + step), what)


def short(n: int) -> str:
    """Return a number of elements in words.

    Examples
    --------
    >>> short(64), short(16_384), short(8_000_000), short(1_500_000)
    ('64', '16,384', '8 M', '1.5 M')
    """
    return f"{n / 1e6:g} M" if n >= 1_000_000 and n % 10_000 == 0 else f"{n:,}"


def one_shape(shape: Shape) -> str:
    """Return a shape as ``--size`` takes it, a long one-dimensional one in words."""
    return short(shape[0]) if len(shape) == 1 else "x".join(map(str, shape))


def title_of(shapes: Sequence[Shape]) -> str:
    """Return shapes in a few words.

    Examples
    --------
    >>> title_of([(64,)]), title_of([(64,)] * 100), title_of([(784, 100), (100,)])
    ('64', '100 × 64', '784x100,100')
    >>> title_of([(256, 256), (256,)] * 12)
    '12 × (256x256,256)'
    """
    texts = list(map(one_shape, shapes))
    for period in (1, 2):
        times, rest = divmod(len(texts), period)
        if times > 1 and not rest and texts == texts[:period] * times:
            inner = ",".join(texts[:period])
            return f"{times} × {inner}" if period == 1 else f"{times} × ({inner})"
    return ",".join(texts)


def planned(
    rules: Sequence[str] | None, dtypes: Sequence[str] | None,
    sizes: Sequence[tuple[Shape, ...]] | None, quick: bool,
) -> list[Case]:
    """Return the cases of a run, in the order of the table.

    What is named is combined, each with each: rules (Adam where only sizes are named), dtypes
    (float32 where not both are), sizes (all). A run in which nothing is named has Adam in all
    sizes and the other rules in few.
    """
    grid = QUICK_SIZES if quick else SIZES
    if rules or dtypes or sizes:
        return [
            Case(rule, dtype, shapes)
            for rule in rules or ["Adam"]
            for dtype in dtypes or ["float32"]
            for shapes in sizes or grid
        ]
    if quick:
        more = [Case("Adam", "float32", KEYS[1]), Case("Momentum", "float32", ONE_SIZE[1])]
        return [Case("Adam", "float32", shapes) for shapes in grid] + more
    cases = [Case("Adam", "float32", shapes) for shapes in grid]
    cases += [Case("Adam", "float32", shapes) for shapes in KEYS]
    cases += [Case("Adam", "float64", shapes) for shapes in grid[:-1]]
    for rule in RULES:
        if rule != "Adam":
            cases += [Case(rule, dtype, shapes) for dtype in DTYPES for shapes in ONE_SIZE]
    return cases
