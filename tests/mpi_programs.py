"""Programs that test_mpi.py runs on ranks: ``mpiexec -n 3 python mpi_programs.py bits rows``.

Each rank makes all ranks' gradients from a seed, so it can hold what the ranks did together against
what one process does with the same gradients in a soft batch.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from scipy import sparse

import fastoptim as fo
from fastoptim.mpi import Sharded, exchange

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
PROGRAMS: dict[str, Callable[..., None]] = {}


def program(function):
    """Note a program by its name."""
    PROGRAMS[function.__name__] = function
    return function


# Shapes that are cut between rows, within rows, once, and not at all.
SHAPES = {
    "table": ((64, 256), np.float32), "odd": ((61, 101), np.float64), "W": ((5, 1031), np.float32),
    "b": ((37,), np.float32), "scalar": ((), np.float64), "empty": ((0, 3), np.float32),
    "long": ((9001,), np.float64), "cube": ((4, 16, 40), np.float32),
}


def new_params(shapes=None):
    """The same parameters in every rank."""
    rng = np.random.default_rng(7)
    return {
        key: np.asarray(rng.standard_normal(shape), dtype)
        for key, (shape, dtype) in (shapes or SHAPES).items()
    }


def grads_of(params, step, rank):
    """The gradients of a rank at a step."""
    rng = np.random.default_rng([step, rank])
    return {key: np.asarray(rng.standard_normal(p.shape), p.dtype) for key, p in params.items()}


def copies(params):
    """The same arrays in the same layout."""
    return {key: p.copy(order="K") for key, p in params.items()}


def check_same(name, ours, theirs):
    """Refuse two dicts of arrays that differ in any bit."""
    assert list(ours) == list(theirs), (name, list(ours), list(theirs))
    for key, a in ours.items():
        b = theirs[key]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), (name, key, a.shape, b.shape)
        same = np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
        assert same, f"rank {RANK}: {name}[{key!r}] differs"


def check_same_state(ours, theirs):
    """Refuse two states of which any number differs."""
    assert set(ours) == set(theirs)
    for name in ours:
        if name != "parameters":
            assert ours[name] == theirs[name], (name, ours[name], theirs[name])
    assert set(ours["parameters"]) == set(theirs["parameters"])
    for key, a in ours["parameters"].items():
        b = theirs["parameters"][key]
        assert set(a) == set(b)
        for name in set(a) - {"state", "average", "order"}:
            assert a[name] == b[name], (key, name, a[name], b[name])
        check_same(key, a["state"], dict(sorted_like(b["state"], a["state"])))
        assert (a["average"] is None) == (b["average"] is None)
        if a["average"] is not None:
            check_same(key, {"average": a["average"]}, {"average": b["average"]})


def sorted_like(one, other):
    """The items of a dict in the order of another one's keys."""
    return [(key, one[key]) for key in other]


class Pair:
    """An optimizer that is divided, and one in one process with every rank's gradients."""

    def __init__(self, make, params=None):
        self.ours, self.theirs = Sharded(make()), fo.SoftBatch(make(), every=SIZE)
        self.params = params or new_params()
        self.reference = copies(self.params)
        self.step = 0

    def update(self, change=lambda grads, step, rank: grads):
        """Update both; every bit must be the same, also of gradients that become zero."""
        params = self.params
        every = [change(grads_of(params, self.step, r), self.step, r) for r in range(SIZE)]
        own = change(grads_of(params, self.step, RANK), self.step, RANK)
        applied = self.ours.update(params, own)
        for grads in every:
            done = self.theirs.update(self.reference, grads)
        if self.theirs.pending:
            done = self.theirs.flush()
        self.step += 1
        assert applied == done, (applied, done)
        check_same("params", params, self.reference)
        for key, g in own.items():
            if isinstance(g, np.ndarray):
                check_same("grads", {key: g}, {key: every[RANK][key]})

    def check_state(self):
        """Compare all state, whole, and each rank's part."""
        whole = self.ours.state_dict()
        check_same_state(whole, self.theirs.opt.state_dict())
        ours, theirs = self.ours.opt, self.theirs.opt
        for name in ("iter", "skipped", "clipped", "grad_norm"):
            assert repr(getattr(ours, name)) == repr(getattr(theirs, name)), name


CASES = {
    "Adam": lambda: fo.Adam(lr=0.01),
    "AdamW": lambda: fo.AdamW(lr=0.01, clip_norm=1.0, average=0.9),
    "skip": lambda: fo.Momentum(lr=0.01, nonfinite="skip", norm=True, average="mean"),
    "groups": lambda: fo.Adam(
        lr=0.01, weight_decay=0.1, groups=[
            fo.Group("b", lr=0.5), fo.Group(lambda key, p: p.ndim == 2, weight_decay=0.0),
        ],
    ),
    "zero": lambda: fo.RMSprop(lr=0.01, zero_grads=True, clip_value=0.1, maximize=True),
    "per key": lambda: fo.Adam(lr=0.01, clip_norm_per_key=0.5),
    "trust": lambda: fo.LAMB(lr=0.01),
    "LARS": lambda: fo.LARS(lr=0.01),
    "agc": lambda: fo.SGD(lr=0.01, agc=0.01, centralize=True),
    "constraint": lambda: fo.SGD(
        lr=0.1, constraint=(-0.5, 0.5), groups=[fo.Group("W", constraint=fo.MaxNorm(0.3))]
    ),
    "Adafactor": lambda: fo.Adafactor(lr=0.01),
    "schedule-free": lambda: fo.ScheduleFreeAdamW(lr=0.01),
    "schedule": lambda: fo.Adam(
        lr=fo.schedules.cosine_decay(0.1, 5), clip_norm=fo.schedules.linear(1.0, 0.5, 4)
    ),
    "Rprop": lambda: fo.Rprop(lr=0.01, step_max=0.1),
}


@program
def bits():
    """Every option gives the bits of one process, in parameters, gradients and state."""
    for name in CASES:
        pair = Pair(CASES[name])
        for _ in range(4):
            pair.update()
        pair.check_state()


@program
def many_buckets():
    """Buckets of a few blocks: keys lie across them, the last one is short for some ranks."""
    exchange.MOST = 8192
    for name in ("Adam", "AdamW", "skip", "trust", "schedule-free"):
        pair = Pair(CASES[name], new_params({**SHAPES, "large": ((300, 301), np.float32)}))
        for _ in range(3):
            pair.update()
        assert pair.ours._table.buckets.exchange.n_buckets > 2
        pair.check_state()


def rows_of(grads, step, rank, keys=("table", "odd", "long", "cube"), unique=False):
    """The same gradients, some of them of rows: most rows of few, some twice, one rank none."""
    rng = np.random.default_rng([step, rank, 5])
    for key in keys:
        g = grads[key]
        n = 0 if rank == step % SIZE and SIZE > 1 else 9
        index = rng.integers(0, len(g), n)
        if unique:
            index = np.unique(index)
        grads[key] = fo.Rows(index, np.ascontiguousarray(g[index]), unique=unique)
    return grads


ROW_CASES = ("Adam", "AdamW", "skip", "groups", "zero", "constraint", "schedule-free")


@program
def rows():
    """Gradients of rows, in all ranks, in some, and mixed with dense and with sparse ones."""
    for name in ROW_CASES:
        pair = Pair(CASES[name])
        for _ in range(2):
            pair.update(rows_of)
        pair.update()
        pair.update(lambda g, step, rank: rows_of(g, step, rank, ("table", "cube"), unique=True))
        pair.update(lambda g, step, rank: rows_of(g, step, rank) if rank else g)
        pair.update(lambda g, step, rank: g if rank else rows_of(g, step, rank))
        pair.update(sparse_of)
        pair.check_state()
    for name in ("per key", "trust", "agc"):
        pair = Pair(CASES[name])
        pair.update(rows_of)
        pair.update(rows_of)
        pair.check_state()


@program
def products():
    """Products are made as arrays, each tile as an update makes it; some are cut into tiles."""
    shapes = {"large": ((1003, 4099), np.float32), "small": ((50, 30), np.float64)}

    def products_of(grads, step, rank):
        rng = np.random.default_rng([step, rank])
        made = {}
        for key, g in grads.items():
            x, d = (rng.standard_normal((7, n)).astype(g.dtype) for n in g.shape)
            made[key] = fo.Product(x[::-1], d)
        return made

    assert len(products_of(new_params(shapes), 0, 0)["large"].tiles()) > 1
    for make in (fo.Adam, lambda: fo.Adam(clip_norm=1.0, nonfinite="skip"), fo.LAMB):
        pair = Pair(make, new_params(shapes))
        for _ in range(2):
            pair.update(products_of)
        pair.check_state()


def sparse_of(grads, step, rank):
    """Sparse gradients, beside rows in another rank for one of the keys."""
    for key in ("table", "odd"):
        g = grads[key] * (np.abs(grads[key]) > 2)
        grads[key] = sparse.csr_array(g)
    if rank == 1:
        grads["table"] = fo.Rows([3, 1], np.ones((2, 256), np.float32))
    return grads


@program
def some_none():
    """Keys without a gradient in some ranks, in all, and for the first time later."""
    def change(grads, step, rank):
        grads["b"] = None
        if rank == step % SIZE:
            grads["table"] = None
        if step == 0:
            grads["long"] = grads["odd"] = None
        if rank != 0:
            grads["cube"] = None
        return rows_of(grads, step, rank, ("odd",)) if step > 1 and rank == 0 else grads

    for name in ("Adam", "AdamW", "zero"):
        pair = Pair(CASES[name])
        for _ in range(4):
            pair.update(change)
        pair.update()
        pair.check_state()


@program
def layouts():
    """Parameters and gradients that do not lie in C order."""
    rng = np.random.default_rng(3)
    params = {
        "fortran": np.asfortranarray(rng.standard_normal((70, 60)).astype(np.float32)),
        "strided": rng.standard_normal((80, 160))[:, ::2],
        "reversed": rng.standard_normal(3000)[::-1],
        "unaligned": np.zeros(4 * 2000 + 1, np.uint8)[1:].view(np.float32),
        "matrix": np.matrix(rng.standard_normal((3, 5))),
    }

    def change(grads, step, rank):
        grads["strided"] = np.asfortranarray(grads["strided"])
        grads["reversed"] = np.repeat(grads["reversed"], 2)[::2]
        grads["matrix"] = np.asarray(grads["matrix"])
        return grads

    for name in ("AdamW", "zero", "trust"):
        start = copies(params)
        start["strided"] = np.repeat(start["strided"], 2, axis=1)[:, ::2]
        pair = Pair(CASES[name], start)
        for key in ("strided", "reversed"):
            pair.params[key] = np.repeat(start[key], 2, axis=-1)[..., ::2]
        pair.reference = copies(pair.params)
        for _ in range(3):
            pair.update(change)
        pair.check_state()


@program
def rules():
    """Every rule of the library, and rules of the user's own."""
    shapes = {"W": ((40, 129), np.float32), "b": ((2100,), np.float64)}
    for cls in [*rule_classes(), Own]:
        pair = Pair(cls, new_params(shapes))
        for _ in range(3):
            pair.update()
        pair.check_state()
    pair = Pair(
        lambda: fo.Muon(lr=0.01, rest=fo.AdamW(lr=0.01)), new_params({**SHAPES, **shapes})
    )
    for _ in range(3):
        pair.update()
    pair.check_state()
    assert pair.ours.opt.rest.m.keys() <= pair.params.keys()


@fo.rule(state=("v",), lr=0.1)
def Own(p, g, v, lr):
    v = 0.5 * v + g
    return p - lr * v, v


def rule_classes():
    """Every rule for arrays of any shape."""
    exported = (getattr(fo, name) for name in fo.__all__)
    classes = (x for x in exported if isinstance(x, type) and issubclass(x, fo.Optimizer))
    return [cls for cls in classes if cls is not fo.Optimizer and not cls.of_matrices
            and cls.__name__ not in ("Heun", "RK23", "RK45")]


@program
def containers():
    """Lists, new arrays under old keys, new keys later, keys that disappear."""
    pair = Pair(CASES["AdamW"])
    pair.update()
    for key in ("long", "b"):
        pair.params[key], pair.reference[key] = pair.params[key].copy(), pair.reference[key].copy()
    pair.update()
    for params in (pair.params, pair.reference):
        params["new"] = np.ones((50, 60), np.float32)
    pair.update()
    gone = {key: pair.params.pop(key) for key in ("table", "b")}
    pair.reference = {key: pair.reference[key] for key in pair.params}
    pair.update()
    for key, a in gone.items():
        pair.params[key], pair.reference[key] = a, a.copy()
    pair.update()
    pair.check_state()
    ours, theirs = Sharded(fo.Adam()), fo.SoftBatch(fo.Adam(), every=SIZE)
    params = list(new_params().values())
    reference = [p.copy() for p in params]
    every = [list(grads_of(new_params(), 0, r).values()) for r in range(SIZE)]
    ours.update(params, every[RANK])
    for grads in every:
        theirs.update(reference, grads)
    check_same("list", dict(enumerate(params)), dict(enumerate(reference)))


@program
def not_finite():
    """A rank whose gradients are not finite is left out; nothing happens if all are."""
    def bad(ranks):
        def change(grads, step, rank):
            if rank in ranks:
                grads["long"][7] = np.nan
                grads["W"][2, 5] = np.inf
            return grads
        return change

    pair = Pair(CASES["skip"])
    pair.update()
    pair.update(bad({SIZE - 1}))
    pair.update(bad(set(range(SIZE))))
    pair.update()
    pair.update(lambda g, step, rank: bad({0})(rows_of(g, step, rank, ("odd",)), step, rank))
    pair.update()
    pair.check_state()

    def huge(grads, step, rank):
        grads["b"][3] = 3e38
        return grads

    if SIZE > 1:  # each rank is finite, the sum is not
        pair.update(huge)
        pair.update()
        pair.check_state()
    for name in ("Adam", "AdamW"):          # they go on: NaN everywhere, and the norm's too
        pair = Pair(CASES[name])
        with np.errstate(all="ignore"):
            pair.update(bad({0}))
        pair.check_state()


# ------------------------------------------------ what all ranks refuse together


def refused(call, kind, *texts):
    """Let every rank refuse a call, with an error that says these things."""
    try:
        call()
    except kind as problem:
        said = "\n".join([str(problem), *getattr(problem, "__notes__", [])])
        for text in texts:
            assert text in said, f"rank {RANK}: {text!r} is not in {said!r}"
    else:
        raise AssertionError(f"rank {RANK} refused nothing: {texts}")


class Watched:
    """A Sharded in the middle of training; a refused call must have changed nothing anywhere."""

    def __init__(self, make=CASES["AdamW"]):
        self.opt, self.params = Sharded(make()), new_params()
        self.opt.update(self.params, grads_of(self.params, 0, RANK))
        self.step = 1

    def refuses(self, call, kind, *texts):
        """Let a call be refused, and the next good one be made by all."""
        before, state = copies(self.params), self.opt.state_dict()
        refused(call, kind, *texts)
        check_same("params", self.params, before)
        check_same_state(self.opt.state_dict(), state)
        self.go_on()

    def go_on(self):
        """Make a good update, after which all ranks have the same."""
        self.opt.update(self.params, grads_of(self.params, self.step, RANK))
        self.step += 1
        for key, p in self.params.items():
            every = MPI.COMM_WORLD.allgather(p.tobytes())
            assert len(set(every)) == 1, key


LAST = SIZE - 1


def wrong_on(rank, good, bad):
    """Good gradients, but bad ones on a rank."""
    return {**good, **bad} if rank == RANK else good


BAD_GRADS = {
    "dtype": ({"W": np.zeros((5, 1031))}, TypeError, "float64"),
    "shape": ({"W": np.zeros((5, 3), np.float32)}, ValueError, "grads['W']"),
    "unknown": ({"X": np.zeros(3)}, KeyError, "'X'"),
    "None": ({"W": "nonsense"}, TypeError, "grads['W']"),
    "rows": (
        {"table": fo.Rows([64], np.zeros((1, 256), np.float32))}, IndexError, "64 rows"
    ),
}


@program
def bad_gradients():
    """What one rank refuses is refused by all, by its name, whichever rank it is."""
    watched = Watched()
    good = grads_of(watched.params, 1, RANK)
    for rank in {0, LAST}:
        for bad, kind, text in BAD_GRADS.values():
            grads = wrong_on(rank, good, bad)
            named = f"rank {rank} of {SIZE}" if SIZE > 1 else ""
            watched.refuses(
                lambda grads=grads: watched.opt.update(watched.params, grads), kind, named, text
            )
        grads = {key: g for key, g in good.items() if key != "b" or rank != RANK}
        watched.refuses(
            lambda grads=grads: watched.opt.update(watched.params, grads), KeyError, "'b'"
        )
        locked = dict(watched.params)
        if rank == RANK:
            locked["W"] = locked["W"].copy()
            locked["W"].flags.writeable = False
        watched.refuses(lambda p=locked: watched.opt.update(p, good), ValueError, "params['W']")
    for rank in {0, LAST} if SIZE > 1 else ():      # one of them does not own b
        # no gradient here, but in another rank: the parameter will be written
        locked = dict(watched.params)
        if rank == RANK:
            locked["b"] = locked["b"].copy()
            locked["b"].flags.writeable = False
        none = wrong_on(rank, good, {"b": None})
        watched.refuses(
            lambda p=locked, g=none: watched.opt.update(p, g), ValueError, f"rank {rank}",
            "params['b']",
        )
    every = dict.fromkeys(good)
    watched.refuses(
        lambda: watched.opt.update(watched.params, wrong_on(LAST, good, every)), ValueError, "None"
    )
    nan = dict(good, long=np.full(9001, np.nan))
    raising = Watched(lambda: fo.Adam(nonfinite="raise"))
    raising.refuses(
        lambda: raising.opt.update(raising.params, wrong_on(LAST, good, nan)),
        FloatingPointError, "grads['long']",
    )


@program
def errors_without_text():
    """An exception that cannot say what it is; the others do not wait for it."""
    assert SIZE > 1
    watched = Watched()

    class Mute(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fn(params):
        if RANK == LAST:
            raise Mute
        return grads_of(params, 1, RANK)

    watched.refuses(
        lambda: watched.opt.step(watched.params, fn), RuntimeError, f"rank {LAST}", "stopped: Mute"
    )


@program
def threads():
    """A call in the middle of another one's is refused, whichever of them comes first."""
    watched = Watched()
    params, grads = watched.params, grads_of(watched.params, 1, RANK)

    def within(problems):
        for call in (
            lambda: watched.opt.update(params, grads), watched.opt.state_dict,
            lambda: watched.opt.load_state_dict({}),
        ):
            try:
                call()
            except RuntimeError as problem:
                problems.append(str(problem))

    class State(dict):
        """A saved state whose reading lets another thread call."""

        def __init__(self, saved, problems):
            super().__init__(saved)
            self.problems = problems

        def __getitem__(self, name):
            if not self.problems:
                thread = threading.Thread(target=within, args=(self.problems,))
                thread.start()
                thread.join(20)
            return super().__getitem__(name)

    problems = []
    watched.opt.load_state_dict(State(watched.opt.state_dict(), problems))
    assert len(problems) == 3, problems
    assert all("middle of a call" in one for one in problems), problems
    watched.go_on()


@program
def sums_not_finite():
    """Each rank's gradients are finite, and the sum is not: all raise, nobody has written."""
    assert SIZE > 1
    watched = Watched(lambda: fo.Adam(nonfinite="raise"))
    huge = {key: np.full_like(g, 3e38) if g.dtype == np.float32 else g
            for key, g in grads_of(watched.params, 1, RANK).items()}
    watched.refuses(
        lambda: watched.opt.update(watched.params, huge), FloatingPointError,
        "grads['table'][0, 0] is inf", f"sum of {SIZE} ranks"
    )
    large = {key: np.full_like(g, 1e200) if g.dtype == np.float64 else g
             for key, g in grads_of(watched.params, 1, RANK).items()}
    clipping = Watched(lambda: fo.Adam(clip_norm=1.0))
    clipping.refuses(
        lambda: clipping.opt.update(clipping.params, large), FloatingPointError, "too large"
    )
    each = Watched(lambda: fo.Adam(clip_norm_per_key=1.0))
    each.refuses(lambda: each.opt.update(each.params, large), FloatingPointError, "too large")


@program
def differences():
    """Ranks that differ in anything that must be equal: the message says where and in what."""
    watched = Watched()
    params, grads = watched.params, grads_of(watched.params, 1, RANK)
    named = f"rank {LAST} of {SIZE}"

    def on_last(value):
        return value if RANK == LAST else None

    order = list(reversed(params)) if RANK == LAST else list(params)
    turned = {key: params[key] for key in order}
    watched.refuses(lambda: watched.opt.update(turned, {k: grads[k] for k in order}),
                    ValueError, named, "params['cube']")
    more = dict(params)
    if RANK == LAST:
        more["more"] = np.zeros(3)
    watched.refuses(
        lambda: watched.opt.update(more, {key: grads.get(key, np.zeros(3)) for key in more}),
        ValueError, named, "params['more']",
    )
    for shape, dtype, text in (((7,), np.float64, "(7,)"), ((6,), np.float32, "float32")):
        new = np.zeros(shape, dtype) if RANK == LAST else np.zeros(6)
        watched.refuses(
            lambda new=new: watched.opt.update({**params, "new": new}, {**grads, "new": new + 1}),
            ValueError, named, text,
        )
    opt = watched.opt.opt
    for name, other in (("lr", 0.02), ("clip_norm", 2.0), ("nonfinite", "skip"), ("average", 0.5)):
        before = getattr(opt, name)
        setattr(opt, name, on_last(other) or before)
        refused(lambda: watched.opt.update(params, grads), ValueError, named, name)
        setattr(opt, name, before)
        watched.go_on()
    opt.lr = (lambda step: 0.1 + step) if RANK == LAST else (lambda step: 0.2 + step)
    refused(lambda: watched.opt.update(params, grads), ValueError, named, "lr")
    opt.lr = 0.01
    watched.go_on()
    state = watched.opt.state_dict()
    refused(
        lambda: watched.opt.load_state_dict({**state, "iter": 5} if RANK == LAST else state),
        ValueError, "differ",
    )
    watched.go_on()
    for name, other in (("updates", 9), ("carried", (0.5,))):
        theirs = {**state, "parameters": dict(state["parameters"])}
        if RANK == LAST:
            theirs["parameters"]["W"] = {**state["parameters"]["W"], name: other}
        fresh = Sharded(CASES["AdamW"]())
        refused(lambda s=theirs, o=fresh: o.load_state_dict(s), ValueError, "state", "differ")
    for option in ({"lr": 0.5}, {"trust_ratio": True}):
        chosen = fo.Group(lambda key, p: key == ("b" if RANK == LAST else "W"), **option)
        grouped, new = Sharded(fo.Adam(groups=[chosen])), new_params()
        refused(
            lambda o=grouped, p=new: o.update(p, grads), ValueError, named, "params['W'] is of"
        )
        check_same("params", new, new_params())
    counted = Watched()
    if RANK == LAST:
        counted.opt._engine.restore({}, 7, 0, 0)
    refused(lambda: counted.opt.update(params, grads), ValueError, named, "opt.iter is 7")
    refused(lambda: Watched(lambda: fo.Adam(lr=0.1 if RANK == LAST else 0.2)), ValueError, "lr is")
    refused(lambda: Watched(fo.SGD if RANK == LAST else fo.Adam), ValueError, "SGD")


@program
def interrupts():
    """An exception of any kind in one rank, while it makes ready: all raise, none hangs."""
    watched = Watched()
    params, good = watched.params, grads_of(watched.params, 1, RANK)

    class Odd(dict):
        """Gradients of which reading raises."""

        def __init__(self, problem):
            super().__init__(good)
            self.problem = problem

        def items(self):
            raise self.problem

        keys = values = __iter__ = __getitem__ = items

    class Own(Exception):
        pass

    for problem, here, there in (
        (KeyboardInterrupt(), KeyboardInterrupt, RuntimeError),
        (MemoryError("no room"), MemoryError, MemoryError),
        (SystemExit(3), SystemExit, RuntimeError),
        (Own("mine"), RuntimeError, RuntimeError),
    ):
        if SIZE == 1:
            here = type(problem)

        def fn(params, problem=problem):
            if RANK == LAST:
                raise problem
            return good

        watched.refuses(
            lambda fn=fn: watched.opt.step(params, fn), here if RANK == LAST else there,
            f"rank {LAST} of {SIZE}" if SIZE > 1 else "",
        )

    def schedule(step):
        if step == 3 and RANK == LAST:
            raise ZeroDivisionError("by the schedule")
        return 0.01

    later = Watched(lambda: fo.Adam(lr=schedule))
    later.go_on()
    later.go_on()
    refused(
        lambda: later.opt.update(later.params, good), ZeroDivisionError, "by the schedule"
    )


@program
def signals():
    """Ctrl-C at any moment of an update: it was made in every rank, or in none."""
    params = new_params({"W": ((300, 1000), np.float32), "b": ((1000,), np.float64)})
    opt = Sharded(fo.Adam(clip_norm=1.0))
    grads = grads_of(params, 0, RANK)
    opt.update(params, grads)
    before = time.perf_counter()
    opt.update(params, grads)
    lasts = time.perf_counter() - before
    main = threading.main_thread().ident
    for k in range(12):
        count, pause, hit = opt.opt.iter, lasts * (k / 10), False
        timer = threading.Timer(pause, signal.pthread_kill, (main, signal.SIGINT))

        def fn(params, timer=timer):
            if RANK == LAST:
                timer.start()
            return grads

        try:
            try:
                opt.step(params, fn)
            finally:
                if RANK == LAST:
                    timer.join()
        except (KeyboardInterrupt, RuntimeError):
            hit = True
        try:
            time.sleep(0)
        except KeyboardInterrupt:
            hit = True
        every = MPI.COMM_WORLD.allgather((opt.opt.iter, params["W"].tobytes()))
        assert len(set(every)) == 1, (k, [one[0] for one in every])
        assert hit or opt.opt.iter == count + 1 or RANK != LAST


@program
def bad_use():
    """What a Sharded is not made of, and how its optimizer is not used."""
    adam = fo.Adam()
    for opt, kind, text in (
        (fo.SoftBatch(fo.Adam()), TypeError, "SoftBatch"), (fo.RK45(), TypeError, "RK45"),
        (Sharded(adam), TypeError, "Sharded already"), ("Adam", TypeError, "str"),
        (adam, RuntimeError, "is divided"), (fo.Muon(rest=fo.AdamW()).rest, TypeError, "rest of"),
        (fo.Momentum(lookahead=True), ValueError, "lookahead"),
    ):
        refused(lambda opt=opt: Sharded(opt), kind, text)
    # one rank alone is refused, and the others do not wait for it
    here = f"rank {LAST} of {SIZE}" if SIZE > 1 else ""
    for opt, kind, text in (
        (fo.Adam(state_dtype="int8"), ValueError, "state_dtype"), ("Adam", TypeError, "str"),
    ):
        refused(lambda opt=opt: Sharded(opt if RANK == LAST else fo.Adam()), kind, here, text)
    for comm, kind, text in (
        ("COMM_WORLD", TypeError, "str"), (MPI.COMM_NULL, (TypeError, ValueError), "comm"),
    ):
        refused(lambda comm=comm: Sharded(fo.Adam(), comm), kind, text)
    watched = Watched()
    opt, params = watched.opt.opt, watched.params
    grads = grads_of(params, 1, RANK)
    for call in (
        lambda: opt.update(params, grads), lambda: opt.save("nowhere"), opt.state_dict, opt.reset,
        lambda: opt.load_state_dict(CASES["AdamW"]().state_dict()),
        lambda: opt.averaged(params).__enter__(),
    ):
        refused(call, RuntimeError, "Sharded")
    refused(lambda: watched.opt.update({"x": 5.0}, {"x": 1.0}), TypeError, "np.array")
    refused(lambda: setattr(watched.opt, "comm", None), AttributeError, "comm")
    refused(lambda: setattr(watched.opt.opt, "agc", 0.1), ValueError, "clip_norm")
    if SIZE > 1:
        cut = Watched(fo.Adam)
        cut.opt.opt.trust_ratio = True
        refused(
            lambda: cut.opt.update(cut.params, grads), ValueError, "divided among the ranks"
        )
        cut.opt.opt.trust_ratio = False
        cut.go_on()
    own = MPI.COMM_WORLD.Split(RANK % 2)
    half = Sharded(fo.SGD(lr=0.5), own)
    x = {"x": np.zeros(5000)}
    half.update(x, {"x": np.full(5000, float(RANK + 1))})
    mean = sum(r + 1 for r in range(SIZE) if r % 2 == RANK % 2) / own.size
    assert (x["x"] == -0.5 * mean).all()


# ------------------------------------------------ saving and averages


@program
def averages():
    """The averages, and the point of schedule-free rules, take the weights' place in every rank."""
    for name, method in (
        ("AdamW", "averaged"), ("skip", "averaged"), ("schedule-free", "evaluation")
    ):
        pair = Pair(CASES[name])
        pair.params["table"] = np.asfortranarray(pair.params["table"])
        for _ in range(3):
            pair.update()
        ours, theirs = getattr(pair.ours, method), getattr(pair.theirs.opt, method)
        with ours(pair.params), theirs(pair.reference):
            check_same(method, pair.params, pair.reference)
            refused(pair.update, RuntimeError, method)
        pair.update()
        pair.check_state()
    refused(lambda: Sharded(fo.Adam()).evaluation({}), AttributeError, "Adam")
    pair = Pair(CASES["AdamW"])
    pair.update()
    lacking = {key: p for key, p in pair.params.items() if key != "b" or RANK != LAST}
    refused(lambda: pair.ours.averaged(lacking).__enter__(), KeyError, "'b'")
    pair.update()


@program
def used_before():
    """The state of an optimizer that has made updates is divided."""
    opt, twin = CASES["AdamW"](), CASES["AdamW"]()
    params = new_params()
    for step in range(2):
        grads = grads_of(params, step, 0)
        opt.update(params, grads)
    twin.load_state_dict(opt.state_dict())
    pair = Pair.__new__(Pair)
    pair.ours, pair.theirs, pair.params = Sharded(opt), fo.SoftBatch(twin, every=SIZE), params
    pair.reference, pair.step = copies(params), 5
    for _ in range(2):
        pair.update()
    pair.check_state()
    if SIZE > 1:
        odd = fo.Adam()
        odd.update({"x": np.zeros(3)}, {"x": np.full(3, 1.0 + RANK)})
        refused(lambda: Sharded(odd), ValueError, "differ")


# Where the programs below save and load; set by the test.
folder = os.environ.get("FOLDER", "")
SAVED = ("AdamW", "skip", "groups", "Adafactor", "schedule-free", "Rprop", "trust")


@program
def save():
    """Save in both ways after three updates."""
    for name in SAVED:
        pair = Pair(CASES[name])
        for _ in range(3):
            pair.update()
        pair.ours.save(f"{folder}/{name}.whole")
        pair.ours.save(f"{folder}/{name}.parts", whole=False)
        if RANK == 0:
            np.savez(f"{folder}/{name}.start", **pair.params)


@program
def load():
    """Any number of ranks goes on from any file to the same bits, and so does one optimizer."""
    for name in SAVED:
        for kind in ("whole", "parts"):
            params = dict(np.load(f"{folder}/{name}.start.npz"))
            opt = Sharded(CASES[name]())
            opt.load(f"{folder}/{name}.{kind}")
            plain = CASES[name]()
            plain.load(f"{folder}/{name}.whole")
            check_same_state(opt.state_dict(), plain.state_dict())
            state = plain.state_dict()
            pair = Pair.__new__(Pair)
            pair.ours, pair.theirs, pair.step = opt, fo.SoftBatch(plain, every=SIZE), 3
            pair.params, pair.reference = params, copies(params)
            pair.update()
            pair.update()
            pair.check_state()
            opt.load(f"{folder}/{name}.{kind}")          # into one that has made updates
            check_same_state(opt.state_dict(), state)


@program
def load_refused():
    """Files that are damaged, missing, mixed or of another optimizer; nothing has changed then."""
    watched = Watched()
    path = f"{folder}/AdamW.parts"
    size = next(int(one.rsplit("-", 1)[1]) for one in os.listdir(folder)
                if one.startswith("AdamW.parts."))

    def attempt(change, kind, text):
        MPI.COMM_WORLD.Barrier()
        if RANK == 0:
            shutil.rmtree(f"{folder}/copy", ignore_errors=True)
            os.mkdir(f"{folder}/copy")
            for r in range(size):
                shutil.copy(f"{path}.{r}-of-{size}", f"{folder}/copy/a.{r}-of-{size}")
            change(f"{folder}/copy/a")
        MPI.COMM_WORLD.Barrier()
        watched.refuses(lambda: watched.opt.load(f"{folder}/copy/a"), kind, text)

    last = size - 1
    if size > 1:
        attempt(lambda a: os.remove(f"{a}.{last}-of-{size}"), ValueError, "missing")
        attempt(
            lambda a: shutil.copy(
                f"{folder}/skip.parts.{last}-of-{size}", f"{a}.{last}-of-{size}"
            ), ValueError, "different saves",
        )
    attempt(lambda a: shutil.copy(f"{folder}/AdamW.whole", a), ValueError, "several states")
    attempt(
        lambda a: shutil.copy(f"{a}.0-of-{size}", f"{a}.0-of-9"), ValueError, "several states"
    )

    def flip(a):
        with open(f"{a}.{last}-of-{size}", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))

    attempt(flip, ValueError, "damaged")
    watched.refuses(lambda: watched.opt.load(f"{folder}/skip.whole"), ValueError, "Momentum")
    watched.refuses(lambda: watched.opt.load(folder), ValueError, "is a folder")
    watched.refuses(lambda: watched.opt.load_state_dict(5), TypeError, "int")
    for make, dtype, kind, text in (
        (lambda: fo.Adam(state_dtype="int8"), np.float32, ValueError, "load(path, convert=True)"),
        (lambda: fo.Adam(master=True), np.float16, TypeError, "float16 parameter"),
    ):
        other, x = make(), {"x": np.ones(3, dtype)}
        other.update(x, {"x": x["x"] + 1})
        saved = other.state_dict()
        refused(lambda s=saved: Sharded(fo.Adam()).load_state_dict(s), kind, text)
    refused(lambda: Sharded(other), kind, text)
    watched.refuses(lambda: watched.opt.load(f"{folder}/nothing"), OSError, "nothing")
    watched.refuses(lambda: watched.opt.save(f"{folder}/no/folder"), OSError, "rank 0" * (SIZE > 1))
    watched.refuses(
        lambda: watched.opt.save(f"{folder}/no/folder", whole=False), OSError, "folder"
    )


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        PROGRAMS[wanted]()
        MPI.COMM_WORLD.Barrier()
        if RANK == 0:
            print(wanted, "is well", flush=True)
