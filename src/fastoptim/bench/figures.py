"""What a figure is: a median with its quartiles, and whether it can be trusted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BOUND = 0.05  # how far the medians of turns may be apart, of their median
FEWEST = 3    # turns without which nothing can be said


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile.

    Examples
    --------
    >>> quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    low, middle, high = np.percentile(np.asarray(values, float), (25, 50, 75)).tolist()
    return low, middle, high


def spread(medians: Sequence[float]) -> float:
    """Return how far the medians of turns are apart: the middle half of them, over their median.

    The middle half, since one turn in which something else ran must not decide; infinite for
    fewer turns than can agree.

    Examples
    --------
    >>> spread([10.0, 10.0, 11.0, 10.0, 99.0])
    0.1
    >>> spread([10.0, 10.0])
    inf
    """
    if len(medians) < FEWEST:
        return float("inf")
    low, middle, high = quartiles(medians)
    return (high - low) / middle if middle > 0 else 0.0


@dataclass(frozen=True)
class Figure:
    """Seconds: the median of all readings and their quartiles."""

    median: float
    q1: float
    q3: float
    readings: int
    turns: int
    spread: float | None  # of the turns' medians; None where there are too few
    steady: bool

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]], bound: float = BOUND) -> "Figure":
        """Make a figure of the readings of turns."""
        medians = [quartiles(turn)[1] for turn in turns]
        apart = spread(medians)
        low, middle, high = quartiles([t for turn in turns for t in turn])
        known = apart < float("inf")
        return cls(
            middle, low, high, sum(map(len, turns)), len(turns), apart if known else None,
            known and apart <= bound,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what bench.json has of it."""
        return asdict(self)


def consecutive(readings: Sequence[float], parts: int = 8) -> list[list[float]]:
    """Cut a run of readings into parts of equal length, so that they can be held against another.

    What is left over at the start is dropped: there, memory is touched and threads are learned.

    Examples
    --------
    >>> consecutive([9.0, 1.0, 2.0, 3.0, 4.0], 2)
    [[1.0, 2.0], [3.0, 4.0]]
    """
    length = len(readings) // parts
    if not length:
        return [list(readings)] if readings else []
    start = len(readings) - parts * length
    return [list(readings[k : k + length]) for k in range(start, len(readings), length)]
