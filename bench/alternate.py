"""Contestants that take turns within one run."""

from statistics import median
from time import perf_counter

from fastoptim.bench.turns import turn


def medians(everyone, benchmark, seconds=4.0, fewest=5):
    """Return the median seconds of each contestant, name → seconds, from alternating rounds.

    The first call of a turn does not count: with the second, its arrays are in cache as far as
    they fit and its threads are awake, which is the state of a training loop.
    """
    times = {c.name: [] for c in everyone}

    def one_round():
        for c in everyone:
            times[c.name] += turn(c, perf_counter, seconds=0.0, settle=0.0)

    start = perf_counter()
    one_round()
    rounds = max(fewest, min(2000, int(seconds / (perf_counter() - start))))
    for seen in times.values():
        seen.clear()
    benchmark.pedantic(one_round, rounds=rounds, warmup_rounds=2)
    result = {name: median(seen) for name, seen in times.items()}
    benchmark.extra_info["median seconds"] = result
    return result
