"""Adam, float32, against all who can do it. Run with `make bench`.

Contestants take turns within one run, each on arrays of its own, so that all see the same
moments of a shared machine; the table gives medians and their ratios. pytest-benchmark's own
columns time a whole round of all contestants.
"""

from statistics import median
from time import perf_counter

import pytest
from cases import CASES, contestants

SECONDS = 4.0  # of rounds per case


@pytest.mark.parametrize("title", CASES)
def test_adam(title, benchmark, table):
    everyone = contestants(CASES[title])
    times = {c.name: [] for c in everyone}

    def one_round():
        for c in everyone:
            c.call()  # its arrays into the cache, its threads awake: the state of a training loop
            start = perf_counter()
            c.call()
            times[c.name].append(perf_counter() - start)

    start = perf_counter()
    one_round()
    one = perf_counter() - start
    for seen in times.values():
        seen.clear()
    benchmark.pedantic(one_round, rounds=max(5, min(2000, int(SECONDS / one))), warmup_rounds=2)
    medians = {name: median(seen) for name, seen in times.items()}
    benchmark.extra_info["median seconds"] = medians
    table.append((title, medians))
