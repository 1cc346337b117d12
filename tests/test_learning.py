"""How many threads an update uses: the rule, fed with made-up times."""

import random
from itertools import pairwise

import pytest

from fastoptim.kernels.learning import ThreadCount

HOUR = 3600.0


class Loop:
    """A training loop whose cycles last as long as a function of the count says."""

    def __init__(self, most, cycle, spread=0.0):
        self.count, self.cycle, self.spread = ThreadCount(most), cycle, spread
        self.random = random.Random(0)
        self.now = 100.0
        self.used = []

    def run(self, updates):
        for _ in range(updates):
            n = self.count.begin(self.now)
            self.now += self.cycle(n) * (1 + self.spread * self.random.random())
            self.count.end(self.now)
            self.used.append(n)
        return self

    def share_of(self, n):
        return self.used.count(n) / len(self.used)


@pytest.mark.parametrize(
    ("most", "counts"),
    [
        (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16]),
        (1024, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]),
    ],
)
def test_the_first_comparison_has_each_count_in_turn(most, counts):
    loop = Loop(most, lambda n: 1e-3)
    while not loop.count.learnt:
        loop.run(1)
    compared = loop.used[:-1]                    # the last is the first update after it
    assert list(dict.fromkeys(compared)) == counts
    assert len(compared) <= max(20, 2 * len(counts))
    assert {compared.count(n) for n in counts} == {max(2, min(4, 20 // len(counts)))}


@pytest.mark.parametrize("spread", [0.0, 0.1])
@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({1: 250e-6, 2: 10e-3}, 1), ({1: 300e-6, 2: 160e-6}, 2), ({1: 60e-3, 2: 31e-3}, 2),
        ({1: 1e-3, 2: 0.8e-3, 4: 0.5e-3, 8: 0.9e-3}, 4), ({1: 1e-3, 2: 2e-3, 4: 0.5e-3}, 4),
    ],
)
def test_the_count_with_the_shortest_cycle_is_kept(times, best, spread):
    loop = Loop(max(times), times.__getitem__, spread).run(5000)
    assert loop.count.kept == best
    assert loop.share_of(best) > 0.99


def test_one_thread_is_kept_where_more_bring_nothing():
    assert Loop(2, lambda n: 1e-3).run(1000).count.kept == 1


@pytest.mark.parametrize("cycle", [100e-6, 10e-3, 0.5])
@pytest.mark.parametrize("bad", [1.05, 1.9, 50.0])
def test_tries_take_at_most_three_percent_of_the_time(cycle, bad):
    loop = Loop(4, lambda n: cycle if n == 1 else bad * cycle, spread=0.02)
    loop.run(20)
    start = loop.now
    for _ in range(40):
        loop.run(500)
        assert loop.count.spent <= 0.03 * (loop.now - 100.0) + 2 * bad * cycle
    tried = sum(bad * cycle for n in loop.used[20:] if n != 1)
    assert tried <= 0.03 * (loop.now - start) + 2 * bad * cycle


def test_a_try_ends_at_its_first_bad_update():
    loop = Loop(2, lambda n: 1e-3 if n == 1 else 50e-3).run(20_000)
    later = loop.used[20:]
    assert 2 in later
    assert (2, 2) not in pairwise(later)


def test_the_pause_between_tries_doubles():
    loop = Loop(2, lambda n: 1e-3 if n == 1 else 1.5e-3)
    starts = []
    while loop.now < 100.0 + HOUR / 30:
        before = loop.used[-1:]
        loop.run(1)
        if loop.used[-1] == 2 and before == [1] and loop.count.learnt:
            starts.append(loop.now)
    pauses = [b - a for a, b in pairwise(starts)]
    assert len(pauses) >= 5
    for shorter, longer in pairwise(pauses[:6]):
        assert longer == pytest.approx(2 * shorter, rel=0.1)


def test_what_gets_better_is_noticed_within_a_minute_or_so():
    loop = Loop(2, lambda n: 1e-3 if n == 1 else 10e-3)
    loop.run(100_000)
    assert loop.count.kept == 1
    loop.cycle = lambda n: 1e-3 if n == 1 else 0.6e-3
    then = loop.now
    while loop.count.kept == 1:
        loop.run(1)
        assert loop.now - then < 130


def test_another_process_is_noticed_at_once():
    loop = Loop(2, lambda n: 1e-3 if n == 1 else 0.6e-3)
    loop.run(400_000)                            # the next try is far away by now
    assert loop.count.kept == 2
    loop.cycle = lambda n: 1.2e-3 if n == 1 else 12e-3
    before = len(loop.used)
    while loop.count.kept == 2:
        loop.run(1)
        assert len(loop.used) - before < 60


def test_a_slower_cycle_that_no_count_mends_is_taken_as_it_is():
    loop = Loop(2, lambda n: 1e-3 / n)
    loop.run(5000)
    loop.cycle = lambda n: 5e-3 / n
    loop.run(5000)
    assert loop.count.kept == 2
    assert loop.used[5000:].count(1) < 100


def test_a_pause_of_the_user_costs_a_try_no_more_than_a_second():
    loop = Loop(2, lambda n: 1e-3).run(8)
    while loop.used[-1] == 1 or not loop.count.learnt:
        loop.run(1)
    loop.now += HOUR                             # in the middle of a try
    loop.run(1)
    assert loop.count.spent < 1.1


def test_an_update_that_was_refused_counts_for_nothing():
    count = ThreadCount(2)
    now = 0.0
    for k in range(1000):
        n = count.begin(now)
        if k % 2:                                # refused: it took no time and never ended
            now += 1e-9
            continue
        count.end(now)
        now += 1e-3 if n == 1 else 0.5e-3
    assert count.learnt
    assert count.kept == 2


def test_no_larger_count_is_tried_while_other_processes_are_busy():
    loop = Loop(4, lambda n: 1e-3 / n)
    loop.count.crowded = True
    loop.run(5000)
    assert set(loop.used) == {1}
    loop.count.crowded = False
    loop.run(5000)
    assert loop.count.kept == 4


def test_a_smaller_count_is_tried_all_the_same():
    loop = Loop(2, lambda n: 1e-3 / n).run(2000)
    assert loop.count.kept == 2
    loop.count.crowded = True
    loop.cycle = lambda n: 1e-3 * n
    loop.run(2000)
    assert loop.count.kept == 1
