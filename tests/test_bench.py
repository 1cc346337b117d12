"""fastoptim bench, with clocks and contestants that are made up: no test looks at a real time."""

import io
import json
import sys
from itertools import count

import numpy as np
import pytest
from helpers import assert_same_arrays, run_python

from fastoptim import listings
from fastoptim.bench import bits, cases, figures, files, machine, quiet, report, run, steps, turns
from fastoptim.bench.contestants import everyone as peers
from fastoptim.bench.contestants import numpy as with_numpy
from fastoptim.bench.contestants import stream
from fastoptim.bench.contestants.networks import FAMILIES
from fastoptim.bench.names import LIMIT, LISTING, NO_UPDATE, OURS, WITH_OUT
from fastoptim.bench.networks import NETWORKS, QUICK_NETWORKS
from fastoptim.cli import bench as command
from fastoptim.cli import main as cli
from fastoptim.kernels import threads
from fastoptim.plot.speed import WHAT, speed

# ---------------------------------------------------------------- clocks and runs that are made up


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def costs(self, *durations):
        """What to call: each call takes as long as the next number, the last one for ever."""
        left = list(durations)

        def call():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def figure(median, around=0.01, steady=True):
    return figures.Figure(
        median, median * (1 - around), median * (1 + around), 60, 3, 0.01 if steady else 0.3, steady
    ).as_json()


def step(median, steady=True):
    return {"step": figure(median, steady=steady), "update": figure(median / 2), "loss": 0.5}


def made_up(ours=2.0, limit=1.0, *, steady=True, quiet=True, around=0.01, step_ours=4.0):
    """A run of one network, two updates and one case of threads; times in ms."""
    contestants = {
        OURS: figure(ours * 1e-3, around, steady), LISTING: figure(9e-3),
        "torch fused": figure(3e-3), LIMIT: figure(limit * 1e-3),
    }
    bench = {
        "format": files.FORMAT, "version": files.VERSION, "bound": 0.05, "quick": True,
        "versions": {"fastoptim": "0"}, "left_out": [],
        "machine": {
            "processor": "a processor", "processors": 2, "caches": {"L1": 2**15, "L2": 2**20},
            "instructions": "avx2",
        },
        "steps": [{
            "network": "784-100-10:10", "title": "784-100-10, batch 10", "others": 0.0,
            "quiet": True,
            "contestants": {
                OURS: step(step_ours * 1e-3), NO_UPDATE: step(2e-3),
                "JAX": step(6e-3) | {"update": None},
            },
        }],
        "updates": [
            run.cell_of(cases.Case("Adam", "float32", ((n,),)))
            | {"others": 0.0 if quiet else 0.9, "quiet": quiet, "contestants": contestants}
            for n in (64, 100_000)
        ],
        "threads": [
            run.cell_of(cases.Case("Adam", "float32", ((100_000,),))) | {
                "others": 0.0, "quiet": True,
                "contestants": {
                    name: {"1": figure(2e-3), "2": figure(1.1e-3)} for name in (OURS, LIMIT)
                },
            }
        ],
    }
    bench["quiet"] = run.verdict(bench, 0.1)
    return bench


def bench(capsys, output, *arguments):
    """The exit status, stdout and stderr of the command with NumPy as the only peer."""
    status = cli.main(
        ["bench", "--peers", "numpy", "--quiet", "--output", str(output), *arguments]
    )
    return status, *capsys.readouterr()


@pytest.fixture
def short_turns(monkeypatch):
    """Turns of two readings, whatever they are."""
    monkeypatch.setattr(turns.alternate, "__kwdefaults__", {
        "bound": 1e9, "seconds": 0.0, "settle": 0.0, "clock": turns.perf_counter,
    })


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(command, "draw", lambda *_: [])


# ---------------------------------------------------------------- figures and turns


@pytest.mark.parametrize(
    ("medians", "steady"),
    [
        ([1.0, 1.0, 1.0], True),
        ([1.0, 1.02, 1.04], True),
        ([1.0, 1.0, 1.0, 1.0, 1400.0], True),      # one turn in which something else ran
        ([1.0, 1.1, 1.2], False),
        ([1.0, 1.0, 44.0, 44.0], False),
        ([1.0, 1.0], False),                       # too few to say
        ([1.0], False),
    ],
)
def test_steadiness(medians, steady):
    made = figures.Figure.of([[m, m, m] for m in medians])
    assert made.steady is steady
    assert (made.turns, made.readings) == (len(medians), 3 * len(medians))
    assert (made.spread is None) is (len(medians) < figures.FEWEST)
    json.dumps(made.as_json(), allow_nan=False)


def test_a_figure_has_the_quartiles_of_all_readings():
    made = figures.Figure.of([[1.0, 2.0, 3.0], [4.0, 5.0], [6.0, 7.0, 8.0, 9.0]])
    assert (made.q1, made.median, made.q3) == (3.0, 5.0, 7.0)


def test_steady_contestants_stop_after_the_fewest_rounds():
    clock = Clock()
    everyone = [turns.Contestant("a", clock.costs(1.0)), turns.Contestant("b", clock.costs(2.0))]
    made = turns.alternate(everyone, 1e9, clock=clock)
    assert {name: f.median for name, f in made.items()} == {"a": 1.0, "b": 2.0}
    assert {f.turns for f in made.values()} == {figures.FEWEST}
    assert all(f.steady for f in made.values())


def test_it_repeats_until_all_are_steady():
    """The first nine calls of the second take longer and longer."""
    clock = Clock()
    rising = [1.0, 3.0, 3.0, 1.0, 2.0, 2.0, 1.0, 1.5, 1.5, 1.0]
    everyone = [
        turns.Contestant("a", clock.costs(1.0)), turns.Contestant("b", clock.costs(*rising))
    ]
    made = turns.alternate(everyone, 1e9, clock=clock)
    assert made["a"].turns == made["b"].turns > figures.FEWEST
    assert made["b"].steady


def test_it_ends_with_the_budget_and_says_that_it_was_not_steady():
    clock, once = Clock(), count(1)

    def call():
        clock.now += next(once)

    made = turns.alternate([turns.Contestant("a", call)], 300.0, clock=clock)["a"]
    assert not made.steady
    assert made.turns >= figures.FEWEST
    assert clock.now <= 300.0


def test_a_budget_that_three_rounds_overrun():
    clock = Clock()
    made = turns.alternate([turns.Contestant("a", clock.costs(100.0))], 1.0, clock=clock)["a"]
    assert (made.turns, made.steady, made.spread) == (1, False, None)


def test_turns_alternate_forwards_and_backwards_and_are_closed_on_errors():
    clock, order = Clock(), []
    everyone = [
        turns.Contestant(
            name, clock.costs(1.0), begin=lambda n=name: order.append(f"+{n}"),
            end=lambda n=name: order.append(f"-{n}"),
        )
        for name in "ab"
    ]
    turns.alternate(everyone, 1e9, clock=clock)
    assert order == ["+a", "-a", "+b", "-b", "+b", "-b", "+a", "-a", "+a", "-a", "+b", "-b"]

    def fails():
        raise OSError

    everyone[0].call = fails
    order.clear()
    with pytest.raises(OSError):  # noqa: PT011 it has no text
        turns.turn(everyone[0], clock, 1.0)
    assert order == ["+a", "-a"]


def test_the_first_calls_of_a_turn_do_not_count_and_short_ones_are_read_together():
    clock = Clock()
    readings = turns.turn(turns.Contestant("a", clock.costs(9.0, 1.0)), clock, 0.0, settle=0.0)
    assert readings == [1.0, 1.0]
    calls = []

    def call():
        clock.now += 2.0**-20
        calls.append(clock.now)

    readings = turns.turn(turns.Contestant("a", call), clock, 0.0, settle=0.0)
    assert readings == [2.0**-20] * 2
    assert len(calls) == 1 + 2 * int(turns.READING * 2**20)


def test_consecutive_parts_drop_the_start():
    assert figures.consecutive(list(range(10)), 3) == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert figures.consecutive([1.0, 2.0], 8) == [[1.0, 2.0]]
    assert figures.consecutive([], 8) == []


# ---------------------------------------------------------------- is the machine quiet?


@pytest.mark.parametrize(
    ("machine_now", "own_now", "others"),
    [(14.0, 4.0, 0.0), (19.0, 4.0, 0.5), (34.0, 14.0, 1.0), (13.0, 4.0, 0.0), (None, 4.0, None)],
)
def test_what_others_did(machine_now, own_now, others):
    clock, said, own = Clock(), iter([10.0, machine_now]), iter([0.0, own_now])
    watch = quiet.Watch((), lambda: next(said), lambda _: next(own), clock)
    clock.now = 10.0
    assert watch.company().others == others


@pytest.mark.parametrize(
    ("others", "available", "used", "is_quiet"),
    [
        (0.0, 2, 2, True), (0.1, 2, 2, True), (0.93, 2, 2, False), (1.0, 64, 2, True),
        (63.0, 64, 2, False), (None, 2, 2, True),
    ],
)
def test_quiet(others, available, used, is_quiet):
    """A container of two processors on a machine of 64 does not mind one that is busy."""
    assert quiet.Company(others, available, used).quiet is is_quiet


def test_counts_of_the_machine_are_of_our_processors_alone():
    text = "cpu 1 1 1 1\ncpu0 100 0 0 7 7 0 0 0\ncpu1 0 200 100 7 7 50 50 100 0 0\nintr 5\n"
    assert quiet.busy_seconds(text, {0}, 0.01) == 1.0
    assert quiet.busy_seconds(text, {0, 1}, 0.01) == 6.0
    assert quiet.busy_seconds("intr 5\n", {0}, 0.01) is None


def test_without_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(quiet, "STAT", tmp_path / "none")
    company = quiet.Watch().company()
    assert company.others is None
    assert "not known" in quiet.in_words(company)
    bench = made_up()
    for cell in [*bench["steps"], *bench["updates"], *bench["threads"]]:
        cell["others"] = None
    assert run.verdict(bench, 0.2)["quiet"]
    said = run.verdict(bench, 1.7)
    assert (said["quiet"], said["why"]) == (False, ["the load was 1.7 in the minute before"])


def test_what_is_not_to_be_trusted_is_named():
    assert report.caveats(made_up()) == []
    unsteady = "\n".join(report.caveats(made_up(steady=False)))
    assert "not quiet" not in unsteady
    assert f"Adam, float32, 64: {OURS}" in unsteady
    busy = "\n".join(report.caveats(made_up(quiet=False)))
    assert "other programs kept 0.9 of 2 processors busy" in busy
    assert "Adam, float32, 64: all" in busy
    assert "784-100-10" not in busy
    many = made_up()
    many["threads"][0]["contestants"][OURS]["2"]["steady"] = False
    assert run.distrusted(many["threads"][0]) == [f"Adam, float32, 100,000: {OURS}"]
    slow = made_up()
    slow["steps"][0]["contestants"]["JAX"]["step"]["steady"] = False
    assert run.distrusted(slow["steps"][0]) == ["784-100-10, batch 10: JAX"]


# ---------------------------------------------------------------- contestants


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("rule", cases.RULES)
def test_with_out_has_the_bits_of_the_listing(rule, dtype):
    case = cases.Case(rule, dtype, ((7, 5), (3,)))
    theirs, ours = getattr(listings, rule)(), with_numpy.OUT[rule]()
    params = case.arrays(0), case.arrays(0)
    for t in range(5):
        grads = case.arrays(1 + t)
        theirs.update(params[0], grads)
        ours.update(params[1], grads)
        assert_same_arrays(params[1], params[0], "params")
        for slot in ours.slots:
            assert_same_arrays(getattr(ours, slot), getattr(theirs, slot), slot)


def test_every_listed_rule_is_a_case():
    assert set(cases.RULES) == set(with_numpy.OUT)
    assert set(cases.RULES) == {"SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"}


@pytest.mark.parametrize("rule", cases.RULES)
def test_the_limit_moves_the_memory_of_the_rule(rule):
    """Bytes read and written: those of the arrays that change are counted twice."""
    case = cases.Case(rule, "float32", ((700,),))
    one = stream.contestant(case, *peers.new_arrays(case)())
    params, grads = one.kept
    before = params["k0"].copy()
    one.call()
    np.testing.assert_array_equal(params["k0"], before + grads["k0"])
    loops_slots = 0 if rule == "SGD" else 2
    moved = params["k0"].nbytes * (3 + 2 * loops_slots)
    assert moved == case.bytes_moved


COMPILED = ("jax", "numba")  # takes seconds: one rule is enough
INSTALLED = [
    (peer, rule) for peer in peers.PEERS if not peers.missing(peer) for rule in cases.RULES
    if rule == "Adam" or peer not in COMPILED
]


@pytest.mark.parametrize(("peer", "rule"), INSTALLED)
def test_peers_do_the_rule(peer, rule):
    """Those that are installed move their parameters as the listing does, nearly."""
    case, failed = cases.Case(rule, "float32", ((64,),)), {}
    expected, grads = case.arrays(0), case.arrays(1)
    getattr(listings, rule)().update(expected, grads)
    for one in peers.everyone(case, [peer], failed)[1:-1]:
        kept = one.kept  # after one update
        p = np.asarray(kept[0].detach() if peer == "torch" else first_array(kept[0]))
        if rule == "Adam" or (rule, peer) in {("SGD", "torch"), ("SGD", "sklearn")}:
            np.testing.assert_allclose(p, expected["k0"], rtol=1e-4, atol=1e-5)
        else:
            assert not np.array_equal(p, case.arrays(0)["k0"])
    assert failed == {}


def first_array(kept):
    """The parameters, whether a dict, a list or a numba contestant's row of arguments."""
    if isinstance(kept, dict):
        return kept["k0"]
    return kept[1] if isinstance(kept, tuple) else kept[0]


def test_each_contestant_has_arrays_of_its_own():
    case = cases.Case("Adam", "float32", ((64,),))
    everyone = peers.everyone(case, ["numpy"], {})
    assert len(everyone) == peers.how_many(["numpy"])
    assert [one.name for one in everyone] == [OURS, LISTING, WITH_OUT, LIMIT]
    arrays = [a for one in everyone for of in one.kept for a in of.values()]
    assert len(arrays) == 8
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_a_peer_that_cannot_be_imported_is_left_out(monkeypatch):
    def broken(case, new):
        raise ImportError("libfoo.so.7: cannot open shared object file")

    monkeypatch.setattr(with_numpy, "contestants", broken)
    failed = {}
    case = cases.Case("Adam", "float32", ((64,),))
    assert [one.name for one in peers.everyone(case, ["numpy"], failed)] == [OURS, LIMIT]
    assert failed == {"numpy": "ImportError: libfoo.so.7: cannot open shared object file"}


def test_a_peer_whose_update_fails_is_left_out(monkeypatch):
    class Other(listings.Adam):
        def update(self, params, grads):
            raise TypeError("update() takes no dict")

    monkeypatch.setattr(listings, "Adam", Other)
    failed = {}
    case = cases.Case("Adam", "float32", ((64,),))
    assert [one.name for one in peers.everyone(case, ["numpy"], failed)] == [OURS, LIMIT]
    assert failed == {"numpy": "TypeError: update() takes no dict"}


def test_a_run_without_our_steps_is_shown_and_drawn():
    bench = made_up()
    bench["steps"].append(
        bench["steps"][0] | {"contestants": {"JAX": step(6e-3)}, "title": "another"}
    )
    assert report.lines_of(next(iter(report.tables(bench)))[1])[-1][-1] == "6.00 ms ±1 %"
    assert [t.get_text() for t in speed(bench, "steps").get_yticklabels()] == [
        "784-100-10, batch 10"
    ]
    assert len(files.Comparison(bench, bench).same) == 3


# ---------------------------------------------------------------- cases


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("64", ((64,),)), ("784x100,100", ((784, 100), (100,))), ("2X3x4", ((2, 3, 4),)),
        ("64,64", ((64,), (64,))),
    ],
)
def test_sizes_are_read(text, shapes):
    assert command.shapes(text) == shapes


def plan(*arguments):
    return command.plan_of(cli.parser().parse_args(["bench", *arguments]))


def test_what_is_measured():
    everything, quick = plan(), plan("--quick")
    assert list(everything.networks) == list(NETWORKS)
    assert list(quick.networks) == list(QUICK_NETWORKS)
    assert {c.rule for c in everything.updates} == set(cases.RULES)
    assert {c.dtype for c in everything.updates} == set(cases.DTYPES)
    elements = [c.elements for c in everything.updates]
    assert (min(elements), max(elements)) == (64, 50_000_000)
    assert len(set(everything.updates)) == len(everything.updates)
    assert quick.seconds < 90 < everything.seconds
    assert quick.thread_cases
    own = plan("--size", "784x100,100", "64", "--rules", "SGD,Adam", "--dtype", "all")
    assert (list(own.networks), list(own.thread_cases)) == ([], [])
    assert len(set(own.updates)) == 8
    some = plan("--cases", "784-100-10:10", "threads", "--size", "64")
    assert list(some.networks) == ["784-100-10:10"]
    assert list(some.updates) == []
    assert list(some.thread_cases) == [cases.Case("Adam", "float32", ((64,),))]


@pytest.mark.usefixtures("short_turns", "no_pictures")
def test_what_does_not_fit_into_memory_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: 10_000)
    status, out, err = bench(capsys, tmp_path, "--size", "64", "1000000", "--json")
    assert status == 0
    made = json.loads(out)
    assert [cell["elements"] for cell in made["updates"]] == [64]
    assert made["left_out"][0].startswith("Adam, float32, 1 M: needs 0.1 GB for 4 contestants")
    assert "left out: Adam, float32, 1 M" in err
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    assert run.fits(cases.Case("Adam", "float32", ((10**12,),)), 9) == ""


def test_a_run_in_which_nothing_is_measured_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: 10_000)
    status, out, err = bench(capsys, tmp_path, "--size", "1000000")
    assert (status, out) == (2, "")
    assert "fastoptim bench: nothing was measured: Adam, float32, 1 M: needs 0.1 GB" in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("array", ["params", "m", "v"])
def test_other_bits_are_an_error_and_no_number(array, tmp_path, capsys, monkeypatch):
    class OneBitOff(listings.Adam):
        def update(self, params, grads):
            super().update(params, grads)
            if self.iter == 2:
                a = (params if array == "params" else getattr(self, array))["k0"]
                a.view(np.uint32)[-1] ^= 1

    monkeypatch.setattr(listings, "Adam", OneBitOff)
    status, out, err = bench(capsys, tmp_path, "--size", "64")
    assert (status, out) == (1, "")
    assert f"error: Adam, float32, 64: update 2 differs from its NumPy listing in {array}" in err
    assert not list(tmp_path.iterdir())


def test_every_bit_of_a_network_counts(monkeypatch):
    class OneBitOff(listings.Adam):
        def update(self, params, grads):
            super().update(params, grads)
            params["b2"].view(np.uint32)[-1] ^= 1

    monkeypatch.setattr(listings, "Adam", OneBitOff)
    with pytest.raises(bits.DifferentBits, match=r"784-100-10:10: update 1 .* in params\['b2'\]"):
        FAMILIES["numpy"]("784-100-10:10", False)


def test_bits_of_both_dtypes():
    for dtype in cases.DTYPES:
        a = np.array([1.0, 0.0, np.nan], dtype)
        b = a.copy()
        assert bits.same_bits(a, b)
        b.view(f"u{b.itemsize}")[0] ^= 1
        assert not bits.same_bits(a, b)
    assert not bits.same_bits(np.zeros(2), np.zeros(2, np.float32))
    assert not bits.same_bits(np.zeros(2), np.zeros(3))


# ---------------------------------------------------------------- networks


class FakeFamily:
    """Answers as a process would."""

    answers: dict = {}

    def __init__(self, name, environment=None):
        self.name, self.process = name, type("Process", (), {"pid": 0})

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        pass

    def ask(self, **question):
        if "network" in question:
            return {"names": [f"{self.name} 1", f"{self.name} 2"]}
        answer = self.answers.get(question["turn"])
        return answer or {"steps": [2.0, 2.0], "updates": [1.0, 1.0], "loss": 0.5}


def test_families_take_turns(monkeypatch):
    monkeypatch.setattr(steps, "Family", FakeFamily)
    nan = {"steps": [3.0], "updates": [float("nan")], "loss": 0.25}
    monkeypatch.setattr(
        FakeFamily, "answers", {"b 2": nan, "c 1": {"failed": "its process ended with status -9"}}
    )
    with steps.Families(["a", "b", "c"]) as families:
        made, _ = families.measure("784-100-10:10", 1e9)
    assert list(made) == ["a 1", "a 2", "b 1", "b 2"]
    assert (made["a 1"]["step"]["median"], made["a 1"]["update"]["median"]) == (2.0, 1.0)
    assert (made["b 2"]["update"], made["b 2"]["loss"]) == (None, 0.25)
    assert families.failed == {"c": "its process ended with status -9"}


def test_other_bits_in_a_familys_process_are_an_error(monkeypatch):
    monkeypatch.setattr(steps, "Family", FakeFamily)
    monkeypatch.setattr(FakeFamily, "ask", lambda *_, **__: {"different": "in params['W1']"})
    with (
        steps.Families(["numpy"]) as families,
        pytest.raises(bits.DifferentBits, match="in params"),
    ):
        families.measure("784-100-10:10", 1e9)


def test_a_familys_process():
    """One turn, a contestant that is not there, a process that ends."""
    with steps.Families(["numpy"]) as families:
        family = families.running[0]
        names = family.ask(network="784-100-10:10", fixed=False)["names"]
        assert {OURS, LISTING, WITH_OUT, NO_UPDATE} <= set(names)
        said = family.ask(turn=OURS, seconds=0.001)
        assert len(said["steps"]) == len(said["updates"]) >= 1
        assert said["loss"] > 0
        assert family.ask(turn="nobody", seconds=0.001) == {"failed": "KeyError: 'nobody'"}
        family.process.kill()
        assert family.ask(turn=OURS, seconds=0.001) == {
            "failed": f"its process ended with status {family.process.wait()}"
        }


# ---------------------------------------------------------------- bench.json, tables, comparisons

FIGURE = {"median", "q1", "q3", "readings", "turns", "spread", "steady"}


@pytest.mark.usefixtures("short_turns")
def test_a_run(tmp_path, capsys):
    output = tmp_path / "new" / "folder"
    arguments = ["--size", "64", "8x4,4", "--cases", "updates", "threads"]
    status, out, _ = bench(capsys, output, *arguments)
    assert status == 0
    made = json.loads((output / "bench.json").read_text("utf-8"))
    assert (made["format"], made["version"]) == (files.FORMAT, files.VERSION)
    assert [c["shapes"] for c in made["updates"]] == [[[64]], [[8, 4], [4]]]
    for cell in made["updates"]:
        assert list(cell["contestants"]) == [OURS, LISTING, WITH_OUT, LIMIT]
        for one in cell["contestants"].values():
            assert set(one) == FIGURE
            assert 0 < one["q1"] <= one["median"] <= one["q3"]
    for cell in made["threads"]:
        assert set(cell["contestants"]) == {OURS, LIMIT}
        assert set(map(int, cell["contestants"][OURS])) == set(run.counts())
    assert made["machine"]["processors"] >= 1
    assert {"fastoptim", "Python", "numpy"} <= set(made["versions"])
    assert isinstance(made["quiet"]["quiet"], bool)
    assert {p.name for p in output.iterdir()} == {
        "bench.json", "sizes.png", "cases.png", "threads.png"
    }
    for picture in output.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert "Updates alone: Adam, float32" in out
    assert threads.learns()  # no count of a benchmark stays


@pytest.mark.usefixtures("short_turns")
def test_a_run_of_several_arrays_alone_has_no_picture_by_size(tmp_path, capsys):
    status, out, _ = bench(capsys, tmp_path, "--size", "8x4,4")
    assert status == 0
    assert {p.name for p in tmp_path.iterdir()} == {"bench.json", "cases.png"}
    assert out.endswith(f"Written to {tmp_path}: bench.json, cases.png\n")


@pytest.mark.usefixtures("short_turns", "no_pictures")
def test_json_is_all_that_stdout_gets(tmp_path, capsys):
    status, out, _ = bench(capsys, tmp_path, "--size", "64", "--json")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "bench.json").read_text("utf-8"))


def test_tables_are_plain_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    file = io.StringIO()
    report.show(made_up(quiet=False), file)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "| fastoptim" in text
    assert "4.00 ms ±1 %" in text            # the step
    assert "1.50× ±2 %" in text              # JAX' step
    assert "2.00 ms ±1 %?" in text           # an update on a machine that is not quiet
    assert "4.50× ±2 %?" in text             # the listing's
    assert "The machine was not quiet" in text
    quiet_text = io.StringIO()
    report.show(made_up(), quiet_text)
    assert "?" not in quiet_text.getvalue()


def test_tables_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    report.show(made_up(), file)
    assert "\x1b[" in file.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    report.show(made_up(), file)
    assert "\x1b[3" not in file.getvalue()


@pytest.mark.parametrize(
    ("new", "slower", "unclear"),
    [
        ({}, 0, 0),
        ({"ours": 2.28}, 0, 0),                          # 14 %
        ({"ours": 2.4}, 2, 0),                           # 20 %
        ({"ours": 4.8, "limit": 2.0}, 2, 0),             # on a machine of half the speed
        ({"ours": 4.0, "limit": 2.0}, 0, 0),
        ({"ours": 2.4, "around": 0.3}, 0, 0),            # within its spread
        ({"ours": 2.4, "steady": False}, 0, 2),
        ({"ours": 2.4, "quiet": False}, 0, 2),
        ({"step_ours": 5.0}, 1, 0),
        ({"ours": 1.0}, 0, 0),
    ],
)
def test_comparisons(new, slower, unclear):
    comparison = files.Comparison(made_up(**new), made_up())
    assert len(comparison.slower) == slower
    assert len(comparison.unclear) == unclear
    text = "\n".join(comparison.lines())
    assert ("slower by more" in text) is bool(slower)
    assert ("times its limit, not steady in this run" in text) is bool(unclear)


def test_what_a_comparison_says():
    new, old = made_up(ours=2.4), made_up()
    old["updates"].append(
        old["updates"][0] | run.cell_of(cases.Case("SGD", "float64", ((8, 4), (4,))))
    )
    text = "\n".join(files.Comparison(new, old).lines())
    assert "update Adam float32 64: 2.00 → 2.40 times its limit, 20 % slower" in text
    assert "1 only in the older run:\n  update SGD float64 8x4,4" in text
    assert "1 faster" not in text
    assert len(files.Comparison(made_up(ours=1.0), made_up()).faster) == 2


@pytest.mark.parametrize(("ours", "status"), [(2.0, 0), (2.4, 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_status_of_a_comparison(ours, status, as_json, tmp_path, capsys, monkeypatch):
    old = tmp_path / "old.json"
    files.write(made_up(), old)
    monkeypatch.setattr(command, "measured", lambda *_, **__: made_up(ours=ours))
    monkeypatch.setattr(command, "draw", lambda *_: [])
    arguments = ["--compare", str(old), *(["--json"] if as_json else [])]
    found, out, err = bench(capsys, tmp_path / "new", *arguments)
    assert found == status
    assert ("20 % slower" in (err if as_json else out)) is bool(status)
    if as_json:
        json.loads(out)


def test_a_comparison_in_which_nothing_is_steady(tmp_path, capsys, monkeypatch):
    """It is no all-clear."""
    old, new = made_up(), made_up(quiet=False)
    new["steps"][0]["quiet"] = False
    files.write(old, tmp_path / "old.json")
    monkeypatch.setattr(command, "measured", lambda *_, **__: new)
    monkeypatch.setattr(command, "draw", lambda *_: [])
    status, out, err = bench(capsys, tmp_path / "new", "--compare", str(tmp_path / "old.json"))
    assert status == 2
    assert "not steady in this run" in out
    assert err.endswith("no case could be compared; run both again while nothing else runs\n")


def test_a_file_is_written_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "bench.json"
    files.write(made_up(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        files.write(made_up() | {"seconds": float("nan")}, path)
    assert path.read_bytes() == before

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            files.write(made_up(ours=3.0), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]
    assert files.read(path) == made_up()


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    path = tmp_path / "bench.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as failed:
        files.write(made_up(), path)
    assert failed.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]


def damaged(**changes):
    bench = made_up()
    for name, value in changes.items():
        bench[name] = value
    return json.dumps(bench)


def no_median():
    bench = made_up()
    del bench["updates"][0]["contestants"][OURS]["median"]
    return json.dumps(bench)


BAD_FILES = {
    "not JSON": ("{", "is no bench.json: it holds no JSON"),
    "an empty file": ("", "is no bench.json: it holds no JSON"),
    "not UTF-8": (b"\xff\xfe{", "is no bench.json: it holds no JSON"),
    "a list": ("[]", 'is no bench.json: it lacks "format"'),
    "another format": ('{"format": "pytest-benchmark"}', 'is no bench.json: it lacks "format"'),
    "a later version": (damaged(version=2), "has format version 2, and this is version 1"),
    "no version": (damaged(version=None), "has format version None"),
    "no cells": (damaged(updates=None), "is damaged: TypeError"),
    "a figure without its median": (no_median(), "is damaged: KeyError: 'median'"),
    "other cases": (damaged(steps=[], updates=[]), "has none of the cases"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_files_that_cannot_be_compared_with(what, tmp_path, capsys, monkeypatch):
    content, words = BAD_FILES[what]
    old = tmp_path / "old.json"
    old.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(command, "measured", None)  # refused before anything is measured
    status, out, err = bench(capsys, tmp_path / "new", "--size", "64", "--compare", str(old))
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there(tmp_path, capsys):
    status, _, err = bench(capsys, tmp_path, "--compare", str(tmp_path / "none.json"))
    assert status == 2
    assert "cannot read" in err


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cases", "stepps"], "'stepps' is no case. Did you mean steps?"),
        (["--cases", "784-100-10"], "'784-100-10' is no case."),
        (["--rules", "Adm"], "'Adm' is no rule. Did you mean Adam?"),
        (["--rules", "Lion"], "'Lion' is no rule."),
        (["--dtype", "float16"], "'float16' is no dtype."),
        (["--peers", "keras"], "'keras' is no peer."),
        (["--size", "0"], "must be sizes such as 1000000 or 784x100,100"),
        (["--size", "784x"], "must be sizes such as"),
        (["--size", "784x100,"], "must be sizes such as"),
        (["--size", "-3"], "must be sizes such as"),
        (["--size", "1e6"], "must be sizes such as"),
        (["--size", "99999999x99999999"], "has more than 2^40 elements"),
        (["--compare"], "expected one argument"),
    ],
)
def test_bad_arguments(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *arguments])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_sizes_without_updates(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "measured", None)
    status, _, err = bench(capsys, tmp_path, "--cases", "steps", "--size", "64")
    assert status == 2
    assert "choose among updates; add updates or threads to --cases" in err


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(command, "measured", None)
    status, _, err = bench(capsys, blocked)
    assert status == 2
    assert f"cannot write to {blocked}" in err


@pytest.mark.parametrize("module", ["rich", "matplotlib", "tqdm"])
def test_without_the_extra(module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["bench"]) == 2
    assert "pip install 'fastoptim[bench]'" in capsys.readouterr().err


# ---------------------------------------------------------------- the machine


def test_caches(tmp_path):
    found = [(1, "Data", "48K"), (1, "Instruction", "64K"), (2, "Unified", "2048K")]
    for k, (level, kind, size) in enumerate([*found, (3, "Unified", "1G")]):
        folder = tmp_path / f"index{k}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    assert machine.caches(tmp_path) == {"L1": 48 * 2**10, "L2": 2 * 2**20, "L3": 2**30}
    assert machine.caches(tmp_path / "none") is None


def test_memory_of_a_control_group(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9999 kB\nMemAvailable:    2000 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", meminfo)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.available_memory() == 2000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory() == 2000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert machine.available_memory() == 3000
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    (tmp_path / "memory.max").unlink()
    assert machine.available_memory() is None


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("what", WHAT)
def test_pictures(what, tmp_path):
    from matplotlib.figure import Figure

    path = tmp_path / "bench.json"
    files.write(made_up(), path)
    ax = Figure().subplots()
    assert speed(path, what, ax) is ax
    assert speed(made_up(quiet=False, steady=False), what).get_xlabel()
    labels = ax.get_legend_handles_labels()[1]
    expected = {
        "sizes": {OURS, LISTING, "torch fused", LIMIT}, "cases": {LISTING, "torch fused", LIMIT},
        "steps": {"JAX", NO_UPDATE},
        "threads": {"Adam, float32, 100,000", f"100,000: {LIMIT}", "ideal"},
    }[what]
    assert set(labels) == expected


@pytest.mark.parametrize(
    ("slowest", "words"), [(4.0, {"0.5×", "1×", "2×"}), (900.0, {"1×", "10×"})]
)
def test_labels_of_ratios_do_not_overlap(slowest, words):
    """Within a decade or two matplotlib labels the ticks between in another form."""
    from matplotlib.figure import Figure

    bench = made_up(step_ours=4.0)
    bench["steps"][0]["contestants"]["JAX"] = step(slowest * 4e-3)
    fig = Figure(figsize=(9, 3.2))
    ax = speed(bench, "steps", fig.subplots())
    fig.draw_without_rendering()
    low, high = ax.get_xlim()
    seen = [
        label.get_text() for minor in (False, True) for label in ax.get_xticklabels(minor=minor)
        if low <= label.get_position()[0] <= high and label.get_text()
    ]
    assert words <= set(seen)
    assert all(text.endswith("×") for text in seen)
    assert len(seen) <= 6


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_fails_on_the_way(as_json, tmp_path, capsys, monkeypatch):
    """The older picture stays, and what was measured for minutes is printed all the same."""
    monkeypatch.setattr(command, "measured", lambda *_, **__: made_up())
    path = tmp_path / "steps.png"
    path.write_text("old")
    status, out, err = bench(capsys, tmp_path, *["--json"] * as_json)
    assert status == 2
    assert err.endswith(f"fastoptim bench: {path}: No space left on device\n")
    assert path.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"bench.json", "steps.png"}
    if as_json:
        assert json.loads(out) == made_up()
    else:
        assert "Updates alone: Adam, float32" in out
        assert "Written to" not in out


def test_the_picture_of_sizes():
    from matplotlib.figure import Figure

    ax = speed(made_up(), "sizes", Figure().subplots())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    line = next(line for line in ax.get_lines() if line.get_label() == OURS)
    np.testing.assert_allclose(line.get_xdata(), [64, 100_000])
    np.testing.assert_allclose(line.get_ydata(), [2e6 / 64, 2e6 / 100_000])
    texts = {text.get_text(): text.xy[0] for text in ax.texts}
    assert texts == {"L1 full": 2**15 / 16, "L2 full": 2**20 / 16}  # p, g, m and v of 4 bytes


def test_pictures_that_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="what must be one of steps, sizes"):
        speed(made_up(), "speed")
    several = run.cell_of(cases.Case("Adam", "float32", ((8, 4), (4,))))
    with pytest.raises(ValueError, match="no case of one array"):
        speed(made_up() | {"updates": [several | {"contestants": {}}]}, "sizes")
    with pytest.raises(ValueError, match="no figures of threads"):
        speed(made_up() | {"threads": []}, "threads")
    with pytest.raises(ValueError, match="format version 7"):
        speed(made_up() | {"version": 7})
    with pytest.raises(ValueError, match="cannot read"):
        speed(tmp_path / "none.json")


def test_drawing_leaves_pyplot_alone():
    """And importing the library imports neither matplotlib nor whoever might take part."""
    code = (
        "import sys, fastoptim.cli.main\n"
        "found = {'matplotlib', 'torch', 'jax', 'numba', 'sklearn', 'rich'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    assert run_python("-c", code).returncode == 0
