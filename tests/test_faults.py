"""A call that fails at any of its places has changed nothing, and is forgotten.

Each test goes through all places at which a call can fail in one way: memory that cannot be had, a
method of the caller's own classes, a line of Python. After each fault everything is as it was, and
then good calls give the bits of a twin that never saw the fault.

One call is different: the last of a soft batch, if the sums are made and then the new value of
a number cannot be put back. That discards the batch, and says so.
"""

import functools
import os
import sys
from itertools import count

import numpy as np
import pytest
import scipy.sparse
from helpers import (
    TESTS,
    ArrayFault,
    CallFault,
    LineFault,
    bytes_at_peak,
    output_of,
    packed,
    run_code,
    strided,
    touch,
)

import fastoptim as fo

F32 = np.float32
pytestmark = pytest.mark.usefixtures("no_collection")

# ---------------------------------------------------------------- the caller's own classes


class Key:
    """A key whose own methods may fail; one with the same name is equal to it."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        touch()
        return hash(self.name)

    def __eq__(self, other):
        touch()
        return self.name == other.name

    def __str__(self):
        touch()
        return self.name

    def __repr__(self):
        return f"Key({self.name!r})"


class Container:
    """A mapping whose own methods may fail, to write before and after it is done."""

    def __init__(self, given):
        self.own = dict(given)

    def keys(self):
        touch()
        return self.own.keys()

    def __getitem__(self, key):
        touch()
        return self.own[key]

    def __setitem__(self, key, value):
        touch()
        self.own[key] = value
        touch()


class Real(float):
    """A number that may fail to be made."""

    def __new__(cls, x):
        touch()
        return float.__new__(cls, x)


class Array(np.ndarray):
    """An array of which a view may fail to be made."""

    def __array_finalize__(self, other):
        touch()


class TouchyRows(fo.Rows):
    """Rows whose attributes may fail."""

    @property
    def index(self):
        touch()
        return self._index

    @property
    def values(self):
        touch()
        return self._values

    @property
    def unique(self):
        touch()
        return self._unique


def touchy_attribute(name):
    def get(self):
        touch()
        return self.__dict__[name]

    def put(self, value):
        self.__dict__[name] = value

    return property(get, put)


class TouchyCSR(scipy.sparse.csr_array):
    """A sparse gradient whose attributes may fail."""

    data = touchy_attribute("data")
    indices = touchy_attribute("indices")
    indptr = touchy_attribute("indptr")


class TouchyAdam(fo.Adam):
    """A rule whose own methods may fail."""

    def coefficients(self, t):
        touch()
        return super().coefficients(t)

    def group_of(self, key, p):
        touch()
        return super().group_of(key, p)

    def check_keys(self, keys, arrays):
        touch()
        super().check_keys(keys, arrays)


def touchy_schedule(step):
    touch()
    return 0.1 / (1 + step)


# ---------------------------------------------------------------- what is updated


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


def table(shape=(6, 4)):
    """A table whose rows do not lie one after the other."""
    return np.asfortranarray(np.arange(np.prod(shape), dtype=F32).reshape(shape))


def elements(shape, places, kind=scipy.sparse.coo_array):
    """A sparse gradient of ones."""
    return kind((ones(len(places)), tuple(zip(*places, strict=True))), shape=shape)


def flat(**options):
    params = {"a": ones(5), "b": ones(3, 2)}
    return fo.Adam(lr=0.1, **options), params, lambda: {"a": ones(5) / 2, "b": ones(3, 2)}


def in_other_layouts(**options):
    params = {"s": strided(ones(7)), "F": table(), "p": packed(ones(4)), "d": ones(2, dtype=float)}
    return fo.Adam(lr=0.1, **options), params, lambda: {
        "s": ones(7)[::-1], "F": ones(6, 4), "p": strided(ones(4)), "d": ones(2, dtype=float),
    }


def numbers(**options):
    params = {"a": ones(5), "x": 2.0, "y": F32(3), "z": np.array(4.0)}
    return fo.Adam(lr=0.1, **options), params, lambda: {
        "a": ones(5), "x": 0.5, "y": np.array(2, F32), "z": 1,
    }


def rows(**options):
    params = {"E": ones(70, 4), "F": table(), "u": ones(6, 4), "a": ones(3)}
    return fo.Adam(lr=0.1, **options), params, lambda: {
        "E": fo.Rows([65, 1, 65], ones(3, 4)), "F": fo.Rows([5, 0, 5], ones(3, 8)[:, ::2]),
        "u": fo.Rows([4, 2], ones(2, 4), unique=True), "a": ones(3),
    }


def single_elements(**options):
    params = {"E": ones(6, 4), "F": table(), "a": ones(3)}
    return fo.Adam(lr=0.1, **options), params, lambda: {
        "E": elements((6, 4), [(1, 2), (5, 0), (1, 2)]), "a": ones(3),
        "F": elements((6, 4), [(0, 0), (5, 3)], scipy.sparse.csr_array),
    }


def rows_and_then_dense(**options):
    """Every other gradient of E and of F is dense."""
    params, calls = {"E": ones(6, 4), "F": table()}, iter(range(99))

    def fresh():
        if next(calls) % 2:
            return {"E": ones(6, 4), "F": elements((6, 4), [(0, 0), (5, 3)])}
        return {"E": fo.Rows([3, 1, 3], ones(3, 4)), "F": table()}

    return fo.Adam(lr=0.1, **options), params, fresh


def rows_and_elements(**options):
    """Every other gradient of E is of elements."""
    params, calls = {"E": ones(6, 4)}, iter(range(99))

    def fresh():
        if next(calls) % 2:
            return {"E": elements((6, 4), [(1, 2), (5, 0)])}
        return {"E": fo.Rows([3, 1, 3], ones(3, 4))}

    return fo.Adam(lr=0.1, **options), params, fresh


def on_each_others_memory(**options):
    """Parameters that are columns of one table; a gradient that is one of them, if it stays."""
    columns = ones(6, 2)
    params = {"l": columns[:, 0], "r": columns[:, 1], "a": ones(6), "E": ones(6, 4)}

    def fresh():
        alike = columns[:, 0] if not options.get("zero_grads") else ones(6)
        return {"l": ones(6), "r": ones(6), "a": alike, "E": fo.Rows([1, 1], ones(2, 4))}

    return fo.Adam(lr=0.1, **options), params, fresh


def groups(**options):
    """Schedules of an optimizer and of a group, one of which decides which kernel runs."""
    own = [fo.Group("b*", lr=lambda step: 0.5 / (1 + step)), fo.Group("E", weight_decay=0.2)]
    opt = fo.SGD(lr=lambda step: 0.1 / (1 + step), groups=own, **options)
    params = {"a": ones(5), "b": ones(3), "E": ones(6, 4)}
    return opt, params, lambda: {"a": ones(5), "b": ones(3), "E": fo.Rows([1, 1], ones(2, 4))}


def huge(**options):
    """Finite gradients whose squares are not."""
    opt = fo.SGD(lr=0.1, **{**options, "clip_norm": None})
    return opt, {"a": ones(5, dtype=float)}, lambda: {"a": np.full(5, 1e200)}


def new_keys(**options):
    """Keys that come later; from the third call on there are others beside the first one."""
    opt, params = fo.Adam(lr=0.1, **options), {"a": ones(5)}
    calls = iter(range(99))

    def fresh():
        if next(calls) == 2:
            params.update({"b": table(), "E": ones(6, 4), "x": 1.0})
        grads = {"a": ones(5), "b": ones(6, 4), "E": fo.Rows([1, 1], ones(2, 4)), "x": 0.5}
        return {key: grads[key] for key in params}

    return opt, params, fresh


def kernel_that_changes(**options):
    """Before the third call centered and momentum are switched on, and the average."""
    opt, params = fo.RMSprop(lr=0.1, **{**options, "average": None}), {"a": ones(5), "F": table()}
    calls = iter(range(99))

    def fresh():
        if next(calls) == 2:
            opt.centered, opt.momentum, opt.average = True, 0.5, 0.5
        return {"a": ones(5), "F": fo.Rows([1, 1], ones(2, 4))}

    return opt, params, fresh


def own_classes(**options):
    names = [Key("a"), Key("b"), Key("E"), Key("S"), Key("x"), Key("y")]
    groups = [fo.Group("b", lr=touchy_schedule)]
    opt = TouchyAdam(lr=touchy_schedule, groups=groups, **options)
    values = [ones(5).view(Array), table(), ones(6, 4), ones(6, 4), 1.0, Real(2.0)]
    params = Container(zip(names, values, strict=True))

    def fresh():
        grads = [
            strided(ones(5)).view(Array), ones(6, 4), TouchyRows([1, 1], ones(2, 4)),
            TouchyCSR(elements((6, 4), [(1, 2), (5, 0)])), Real(0.5), 0.25,
        ]
        return Container(zip([Key(key.name) for key in names], grads, strict=True))

    return opt, params, fresh


def own_rule(**options):
    opt = TouchyAdam(lr=touchy_schedule, nonfinite="raise", **options)
    return opt, {"a": ones(5), "E": ones(6, 4)}, lambda: {"a": ones(5), "E": ones(6, 4)}


def own_keys(**options):
    """Equal keys that are not the same, in dicts."""
    opt, params = fo.Adam(lr=0.1, **options), {Key("a"): ones(5), Key("F"): table(), Key("x"): 1.0}
    return opt, params, lambda: {
        Key("a"): ones(5), Key("F"): fo.Rows([1, 1], ones(2, 4)), Key("x"): 1.0,
    }


KINDS = [
    flat, in_other_layouts, numbers, rows, single_elements, rows_and_then_dense, rows_and_elements,
    on_each_others_memory, groups, huge, new_keys, kernel_that_changes,
]
WITH_NUMBERS = [numbers, new_keys, own_classes, own_keys]

OPTIONS = {
    "bare": {},
    "all": {
        "clip_norm": 0.5, "average": 0.5, "weight_decay": 0.1, "zero_grads": True,
        "nonfinite": "raise",
    },
    "others": {"clip_value": 0.2, "weight_decay": 0.1, "decoupled": True, "maximize": True},
    "codes": {"state_dtype": "bfloat16"},
}

# ---------------------------------------------------------------- the calls


def update(play):
    play.opt.update(play.params, play.grads)


def add(play):
    play.soft.update(play.params, play.grads)


def flush(play):
    play.soft.flush()


def discard(play):
    play.soft.discard()


def load_optimizer(play):
    play.opt.load_state_dict(play.saved)


def load(play):
    play.soft.load_state_dict(play.saved)


# Each: calls that are made before, and the one that fails.
CALLS = {
    "first update": ([], update),
    "third update": ([update, update], update),
    "first call of a batch": ([], add),
    "second call of a batch": ([add], add),
    "last call of a batch": ([add, add], add),
    "last call of a batch after an update": ([update, add, add], add),
    "first call of a second batch": ([add, add, add], add),
    "last call of a second batch": ([add, add, add, add, add], add),
    "flush": ([add, add], flush),
    "discard": ([add, add], discard),
    "load": ([add, add, add, add], load),
    "load of an optimizer": ([update, update, update], load_optimizer),
}
# The kinds and calls that are interrupted, and those that Python's own memory runs out in.
INTERRUPTED = [
    (on_each_others_memory, "first update"), (groups, "first update"), (groups, "third update"),
    (groups, "flush"), (groups, "load of an optimizer"), (huge, "last call of a batch"),
    (new_keys, "third update"), (new_keys, "last call of a batch"),
    (kernel_that_changes, "third update"), (own_classes, "first update"),
]
STARVED = [
    ("flat", "last call of a batch"), ("numbers", "third update"), ("rows", "first update"),
    ("rows", "second call of a batch"), ("new_keys", "flush"), ("flat", "load"),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class Play:
    """An optimizer and a soft batch of it, up to a call that may fail."""

    def __init__(self, kind, options, call):
        before, self.call = call
        self.kind = kind
        self.opt, self.params, self.fresh = kind(**options)
        self.soft = fo.SoftBatch(self.opt, every=3)
        for one in before:
            self.make(one)
        self.saved = None
        if self.call is load:
            self.saved = self.soft.state_dict()
            self.make(add)
            self.make(add)
        if self.call is load_optimizer:
            self.saved = self.opt.state_dict()
            self.make(update)
        self.grads = self.fresh()

    def make(self, call):
        self.grads = self.fresh()
        call(self)

    def go_on(self):
        """Make two more calls; return all that there is then."""
        self.make(add)
        self.make(update)
        return self.seen()

    def seen(self):
        """All that there is, without telling one array from another."""
        return bare(self.identities())

    def identities(self):
        """All that there is, each array with its id."""
        store, batch = self.opt.engine.store, self.soft._adder.batch
        slots = {slot for slots in self.opt.kernels.values() for slot in slots}
        return {
            "params": contents(self.params), "grads": contents(self.grads),
            "counters": [self.opt.iter, self.opt.skipped, self.soft.pending],
            "records": {name_of(key): of_record(record) for key, record in store.records.items()},
            "views": {slot: bare(contents(getattr(self.opt, slot))) for slot in slots},
            "averages": bare(contents(self.opt.average_of)),
            "numbers": {
                name: Id(id(value)) if callable(value) else value
                for values in (vars(self.opt), *(one.hyperparameters for one in self.opt.groups))
                for name, value in values.items()
                if name not in ("engine", "live_plan", "fixed_plan", "groups")
            },
            "batch": {name_of(key): of_waiting(one) for key, one in batch.waiting.items()},
            "params of the batch": Id(id(batch.params)),
        }


class Id(int):
    """Which object it is."""


def name_of(key):
    return key.name if isinstance(key, Key) else key


def fingerprint(x):
    """What a value is: its bits, layout and identity."""
    if isinstance(x, np.ndarray):
        return (Id(id(x)), x.tobytes(), x.shape, x.strides, x.dtype.str)
    if isinstance(x, fo.Product):
        return (Id(id(x)), fingerprint(x.x), fingerprint(x.d))
    if isinstance(x, fo.Rows):
        return (Id(id(x)), fingerprint(x._index), fingerprint(x._values))
    if scipy.sparse.issparse(x):
        return (Id(id(x)), fingerprint(x.data))
    return (Id(id(x)), x)


def contents(container):
    own = container.own if isinstance(container, Container) else container
    return [(name_of(key), fingerprint(value)) for key, value in own.items()]


def of_record(record):
    return {
        "t": record.t, "group": record.group, "state": contents(record.state),
        "average": fingerprint(record.average), "order": record.described()["order"],
    }


def of_waiting(one):
    """What waits of a key; an array that is kept for later is zeros."""
    if not one.dense:
        assert one.array is None or not one.array.any()
    rows = None
    if one.rows is not None:
        rows = (Id(id(one.rows)), *(a.tobytes() for a in one.rows.rows()))
    return (one.dense, fingerprint(one.array) if one.dense else None, rows)


def bare(tree):
    """Without ids."""
    if isinstance(tree, dict):
        return {key: bare(value) for key, value in tree.items() if not isinstance(value, Id)}
    if isinstance(tree, (list, tuple)):
        return [bare(one) for one in tree if not isinstance(one, Id)]
    return tree


# ---------------------------------------------------------------- the tests


def fail_everywhere(fault, kind, options, call):
    """Let a call fail at each of its places, one after the other."""
    twin = Play(kind, options, call)
    call[1](twin)
    after, in_the_end = twin.seen(), twin.go_on()
    for n in count():
        play, here = Play(kind, options, call), fault(n)
        before = play.identities()
        problem = here.during(lambda play=play: call[1](play))
        if problem is not None:
            assert here.is_behind(problem), problem
            if is_discarded(play, problem):
                assert_discarded(play, before, kind, options, call)
                continue
            assert play.identities() == before, (n, problem)
            call[1](play)
        assert play.seen() == after, n
        assert play.go_on() == in_the_end, n
        if not here.reached:
            return


def is_discarded(play, problem):
    """Whether a batch was given up: all gradients were added, and then a number was not taken."""
    notes = " ".join(getattr(problem, "__notes__", []))
    if play.call is not add or play.kind not in WITH_NUMBERS or play.soft.pending:
        return False
    return "it was discarded" in notes


def assert_discarded(play, before, kind, options, call):
    """The batch is as after `discard`, and all else as before."""
    twin, now = Play(kind, options, call), play.identities()
    assert not play.soft.flush()
    for part in set(now) - {"batch", "params of the batch", "counters", "grads"}:
        assert now[part] == before[part], part
    assert now["counters"][:2] == before["counters"][:2]
    twin.soft.discard()
    assert play.go_on() == twin.go_on()


@every_call
@every_kind
def test_no_memory_for_an_array(kind, call):
    fail_everywhere(ArrayFault, kind, OPTIONS["all"], call)


@pytest.mark.parametrize("kind", [in_other_layouts, rows], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("options", [OPTIONS["bare"], OPTIONS["others"]], ids=["bare", "others"])
@pytest.mark.parametrize("call", ["first update", "last call of a batch"])
def test_no_memory_with_other_options(kind, options, call):
    fail_everywhere(ArrayFault, kind, options, CALLS[call])


@functools.cache
def python_survives():
    """Whether CPython itself survives a lack of memory: 3.13.0 crashes in a generator."""
    done = run_code("""
        import gc
        import _testcapi

        gc.disable()
        for n in range(60):
            _testcapi.set_nomemory(n, n + 1)
            try:
                [{}, *(one for one in ())]
            except MemoryError:
                pass
            finally:
                _testcapi.remove_mem_hooks()
        """)
    return done.returncode == 0


@pytest.mark.parametrize(("kind", "call"), STARVED)
def test_no_memory_for_an_object(kind, call):
    """Python's own memory; in a process of its own, since CPython may not survive it."""
    pytest.importorskip("_testcapi")
    if not python_survives():
        pytest.skip("this CPython crashes without memory, in plain Python code")
    output_of(
        f"""
        import gc
        import test_faults as faults
        from helpers import ObjectFault

        gc.disable()
        kind, options, call = faults.{kind}, faults.OPTIONS["all"], faults.CALLS[{call!r}]
        faults.fail_everywhere(ObjectFault, kind, options, call)
        """,
        PYTHONPATH=os.pathsep.join([TESTS, *sys.path]),
    )


@pytest.mark.parametrize("call", [name for name in CALLS if "second" not in name])
@pytest.mark.parametrize("kind", [own_classes, own_keys], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("problem", "options"), [(ZeroDivisionError, "others"), (KeyboardInterrupt, "all")]
)
def test_own_classes(kind, options, call, problem):
    fail_everywhere(lambda n: CallFault(n, problem), kind, OPTIONS[options], CALLS[call])


@pytest.mark.parametrize(("kind", "call"), INTERRUPTED)
def test_interrupts(kind, call):
    """What test_interrupts.py does not go through."""
    fail_everywhere(lambda n: LineFault(n, KeyboardInterrupt), kind, OPTIONS["all"], CALLS[call])


def test_a_rule_that_raises_what_a_sum_would():
    """Only a sum that is not finite discards the batch."""
    fail_everywhere(lambda n: CallFault(n, FloatingPointError), own_rule, {}, CALLS["flush"])


# ---------------------------------------------------------------- two faults of other stations


def test_rows_to_be_zeroed_that_move_onto_a_parameter():
    """Duplicate rows are summed elsewhere, so the overlap check must look at what is zeroed."""
    opt, params = fo.SGD(lr=1.0, zero_grads=True), {"E": ones(4, 2), "W": ones(3, 2)}
    index, grad = [1, 1, 2], ones(3, 2)
    for _ in range(2):
        opt.update(params, {"E": fo.Rows(index, ones(3, 2)), "W": grad})
    before = params["W"].copy()
    with pytest.raises(ValueError, match="share memory"):
        opt.update(params, {"E": fo.Rows(index, params["W"]), "W": grad})
    assert np.array_equal(params["W"], before)


LARGE = 1_000_000  # elements; a float32 array of them is a thousand times the limit
SMALL = 4096  # bytes


@pytest.mark.parametrize("n_calls", [1, 2])
def test_no_state_before_the_first_update(n_calls):
    """A call of the first batch needs the same memory whether the rule has state or not."""
    def peak(rule):
        params, grads = {"a": ones(LARGE)}, {"a": ones(LARGE)}

        def first_calls():
            soft = fo.SoftBatch(rule(average=0.5, clip_norm=1.0), every=3)
            for _ in range(n_calls):
                soft.update(params, grads)

        return bytes_at_peak(first_calls, times=2)

    assert abs(peak(fo.Adam) - peak(fo.SGD)) < SMALL
    assert peak(fo.Adam) < 1.5 * 4 * LARGE                  # the sum, and no second array
