"""Contestants that take turns in one process until their figures are steady."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fastoptim.bench.figures import BOUND, FEWEST, Figure

SETTLE = 0.01    # seconds of a turn that do not count: threads of the one before may spin still
SECONDS = 0.02   # of a turn that count
READING = 20e-6  # seconds of one reading at least: the clock itself takes some 50 ns
FEWEST_READINGS = 2

Clock = Callable[[], float]


def nothing() -> None:
    """Do nothing, at the beginning or the end of a turn."""


@dataclass
class Contestant:
    """Something that updates its own copy of the parameters when it is called."""

    name: str
    call: Callable[[], object]
    kept: Any = None  # what must live as long as it
    begin: Callable[[], object] = nothing
    end: Callable[[], object] = nothing


def turn(one: Contestant, clock: Clock, seconds: float, settle: float = SETTLE) -> list[float]:
    """Return the readings of one turn: seconds of a call, each over as many calls as it needs."""
    one.begin()
    try:
        start = now = clock()
        while now - start < settle or now == start:
            before = now
            one.call()  # its arrays into the cache, its threads awake
            now = clock()
        number = max(1, min(10_000, int(READING / max(now - before, 1e-9))))
        readings: list[float] = []
        end = now + seconds
        while len(readings) < FEWEST_READINGS or now < end:
            before = clock()
            for _ in range(number):
                one.call()
            now = clock()
            readings.append((now - before) / number)
        return readings
    finally:
        one.end()


def unsteady(turns: dict[str, list[list[float]]], bound: float = BOUND) -> list[str]:
    """Return the names of those whose turns do not agree."""
    return [name for name, seen in turns.items() if not Figure.of(seen, bound).steady]


def enough(rounds: int, used: float, budget: float) -> bool:
    """Return whether another round would take more than a budget.

    Examples
    --------
    >>> enough(4, 8.0, 9.0), enough(4, 8.0, 11.0), enough(2, 8.0, 9.0), enough(2, 14.0, 9.0)
    (True, False, False, True)
    """
    return used > 1.5 * budget if rounds < FEWEST else used + used / rounds > budget


def alternate(
    everyone: Sequence[Contestant],
    budget: float,
    *,
    bound: float = BOUND,
    seconds: float = SECONDS,
    settle: float = SETTLE,
    clock: Clock = perf_counter,
) -> dict[str, Figure]:
    """Let contestants take turns until all are steady or a budget is used up.

    Parameters
    ----------
    everyone : sequence of Contestant
        Their names differ. Each round has a turn for each, in turn forwards and backwards, so that
        nobody always follows the same one.
    budget : float
        Seconds that all rounds take. The first `FEWEST` may take half as much again; a figure of
        fewer is never steady.
    bound : float
        How far the medians of turns may be apart; see `figures.spread`.
    seconds, settle : float
        Of a turn that count, and before them.
    clock : callable
        Returns seconds.

    Returns
    -------
    dict of name to Figure
    """
    turns: dict[str, list[list[float]]] = {one.name: [] for one in everyone}
    start, order = clock(), list(everyone)
    while True:
        for one in order:
            turns[one.name].append(turn(one, clock, seconds, settle))
        order.reverse()
        rounds = len(turns[everyone[0].name]) if everyone else FEWEST
        used = clock() - start
        if enough(rounds, used, budget) or (rounds >= FEWEST and not unsteady(turns, bound)):
            return {name: Figure.of(seen, bound) for name, seen in turns.items()}
