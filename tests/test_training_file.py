"""One file for a whole training: to the bit as if it had never stopped, or an error."""

import concurrent.futures
import copy
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
import warnings
from itertools import count

import numpy as np
import pytest
from helpers import arrays, assert_same_arrays, assert_same_averages, environment_with, every_rule

import fastoptim as fo
from fastoptim import checkpoint
from fastoptim.checkpoint import file as of_file
from fastoptim.checkpoint import header
from fastoptim.checkpoint.tree import Stored
from fastoptim.schedules import arithmetic
from fastoptim.training import build, generators, into, objects, schedules
from fastoptim.training import file as of_training

pytest.importorskip("safetensors")
pytest.importorskip("xxhash")

SHAPES = {"W": (30, 4), "b": (7,), "s": ()}
LINEAR = fo.schedules.linear(0.1, 0.0, steps=9)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.safetensors"


class Derived(fo.Adam):
    """A class of a user's."""


class Adam(fo.SGD):
    """A class of a user's, with a name of the library's."""


def function(step):
    return 0.5


def predicate(key, p):
    return p.ndim == 1


def through_a_file(tree, path):
    fo.save(path, tree)
    return fo.load(path)


def through_many_keys(tree, path):
    """As if there were very many keys."""
    limit = of_file.LONG_HEADER
    of_file.LONG_HEADER = -1
    try:
        fo.save(path, tree)
    finally:
        of_file.LONG_HEADER = limit
    return fo.load(path)


def through_a_pickle(tree, path):
    return pickle.loads(pickle.dumps(tree))


ways = pytest.mark.parametrize("way", [through_a_file, through_many_keys, through_a_pickle])


def same_state(one, other):
    """Whether two nested states are the same, arrays to the bit."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same_state(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_state, one, other))
    return one == other


# ---------------------------------------------------------------- to the bit


def train(tree, steps):
    """Train a rule: gradients, and how often, from the tree's own generator."""
    for _ in range(steps):
        grads = arrays(tree["rng"], SHAPES, tree["params"]["W"].dtype)
        tree["opt"].update(tree["params"], grads)
        tree["epoch"] += 1


@ways
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_rule
def test_resumed_training_is_training_that_never_stopped(case, dtype, way, path):
    rng = np.random.default_rng(3)
    opt = case.ours(
        lr=LINEAR, average=0.9, clip_norm=3.0,
        groups=[fo.Group("b", lr=0.5 * fo.schedules.warmup(LINEAR, 2) + 0.01)],
    )
    params = arrays(rng, SHAPES, dtype)
    params["W"] = np.asfortranarray(params["W"])
    tree = {"params": params, "opt": opt, "rng": rng, "epoch": 0}
    train(tree, 3)
    then = way(tree, path)
    assert type(then["opt"]) is type(opt)
    assert repr(then["opt"]) == repr(opt)
    assert same_state(then["opt"].state_dict(), opt.state_dict())
    assert then["params"]["W"].flags.f_contiguous
    train(tree, 3)
    train(then, 3)
    assert then["epoch"] == 6
    assert same_state(then["opt"].state_dict(), opt.state_dict())
    assert_same_averages(then["opt"], opt)
    assert_same_arrays(then["params"], params, "params")
    assert then["rng"].random() == rng.random()


def valley(params):
    x = params["x"]
    return float((x**2).sum()), {"x": 2 * x}


METHODS = {
    "Heun": lambda: fo.Heun(lr=LINEAR), "RK23": lambda: fo.RK23(rtol=1e-4),
    "RK45": lambda: fo.RK45(atol=1e-6, deterministic=True),
}


@ways
@pytest.mark.parametrize("name", METHODS)
def test_methods(name, way, path):
    opt, params = METHODS[name](), {"x": np.arange(4.0)}
    for _ in range(3):
        opt.step(params, valley)
    then = way({"opt": opt, "params": params}, path)
    assert then["opt"].state_dict() == opt.state_dict()
    assert repr(then["opt"]) == repr(opt)
    for _ in range(3):
        assert opt.step(params, valley) == then["opt"].step(then["params"], valley)
    assert then["opt"].state_dict() == opt.state_dict()
    assert_same_arrays(then["params"], params, "params")


@ways
def test_a_soft_batch_in_the_middle(way, path):
    soft = fo.SoftBatch(fo.Adam(lr=LINEAR), every=3, reduce="sum")
    params, rng = {"W": np.ones((5, 2)), "E": np.ones((6, 2))}, np.random.default_rng(0)

    def call(soft, params, rng):
        return soft.update(params, {
            "W": rng.normal(size=(5, 2)), "E": fo.Rows([4, 1, 4], rng.normal(size=(3, 2))),
        })

    for _ in range(5):
        call(soft, params, rng)
    then = way({"soft": soft, "params": params, "rng": rng}, path)
    assert (then["soft"].pending, repr(then["soft"])) == (2, repr(soft))
    assert same_state(then["soft"].state_dict(), soft.state_dict())
    for _ in range(2):
        assert call(soft, params, rng) == call(then["soft"], then["params"], then["rng"])
    assert same_state(then["soft"].state_dict(), soft.state_dict())
    assert_same_arrays(then["params"], params, "params")


def test_own_rules(path):
    pytest.importorskip("numba")
    import custom_rules

    mine = custom_rules.Adam  # which has a name of the library's
    opt, params = mine(lr=0.1), {"x": np.ones(5)}
    opt.update(params, {"x": np.ones(5)})
    fo.save(path, [opt, params])
    with pytest.raises(ValueError, match=r"tree\[0\]: Adam is a class of yours: .*classes=\[Adam"):
        fo.load(path)
    for then in (fo.load(path, classes=[mine]), pickle.loads(pickle.dumps([opt, params]))):
        assert type(then[0]) is mine
        twin = copy.deepcopy(params), copy.deepcopy(opt)
        twin[1].update(twin[0], {"x": np.full(5, 3.0)})
        then[0].update(then[1], {"x": np.full(5, 3.0)})
        assert_same_arrays(then[1], twin[0], "params")
        assert same_state(then[0].state_dict(), twin[1].state_dict())


def test_derived_classes(path):
    fo.save(path, {"one": Derived(lr=0.5), "two": Adam(lr=0.25), "three": fo.Adam(lr=0.125)})
    then = fo.load(path, classes=[Adam, Derived])
    assert [type(opt) for opt in then.values()] == [Derived, Adam, fo.Adam]
    assert [opt.lr for opt in then.values()] == [0.5, 0.25, 0.125]


# ---------------------------------------------------------------- schedules, generators

S = fo.schedules
SCHEDULES = [
    S.constant(0.1), S.cosine_decay(0.1, 5), S.cosine_restarts(0.1, 5), S.cyclic(0.1, 0.2, 3),
    S.exponential_decay(0.1, 0.5), S.inverse_time_decay(0.1, 0.5), LINEAR,
    S.join([LINEAR, 0.5, S.constant(0.25)], [2, 4]), S.one_cycle(0.1, 10), S.per_epoch(LINEAR, 3),
    S.piecewise_constant([0.1, 0.2, 0.3], [2, 4]), S.piecewise_interpolate([0.1, 0.2, 0.3], [2, 4]),
    S.plateau(0.1, patience=2, value=0.05, best=0.3, bad=1), S.polynomial_decay(0.1, 5),
    S.ramp(0.1, 0.2, 0.01), S.warmup(S.cosine_decay(0.1, 5), 3),
    2.0 * S.warmup(LINEAR, 2) - S.ramp(0.1, 0.2, 0.01) / 3, LINEAR - 0.001 + 0.002,
]


def test_every_schedule_is_in_the_table():
    assert {type(one).__name__ for one in SCHEDULES} == {*S.__all__, "chained", "combined"}
    assert set(schedules.CLASSES) == {*S.__all__, "chained", "combined"}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: type(one).__name__)
def test_schedules(path, schedule):
    then = through_a_file([schedule, fo.SGD(lr=schedule)], path)
    for one in (then[0], then[1].lr):
        assert type(one) is type(schedule)
        assert one == schedule
        assert [one(step) for step in range(12)] == [schedule(step) for step in range(12)]


@ways
def test_a_shared_plateau_stays_shared(way, path):
    rate = S.plateau(0.1, factor=0.5, patience=0)
    opt = fo.SGD(lr=rate * 2, groups=[fo.Group("b", lr=rate)])
    rate.observe(1.0)
    then = way({"opt": opt, "rate": rate, "other": S.plateau(0.1)}, path)
    assert then["rate"] == rate
    then["rate"].observe(2.0)
    assert (then["opt"].current("lr"), then["opt"].current("lr", 0)) == (0.1, 0.05)
    assert then["other"] == S.plateau(0.1)
    assert opt.current("lr") == 0.2


@pytest.mark.parametrize("name", generators.CLASSES)
@pytest.mark.parametrize("seed", [None, 5, [1, 2**40], np.random.SeedSequence(3, spawn_key=(1, 2))])
def test_generators(path, name, seed):
    rng = np.random.Generator(getattr(np.random, name)(seed))
    rng.spawn(2)
    rng.integers(10, size=3, dtype=np.uint32)  # one half of a word stays
    rng.normal(size=5)
    then = through_a_file(rng, path)
    expected = copy.deepcopy(rng)
    here = np.random.Generator(getattr(np.random, name)(99))
    assert fo.load(path, into=here) is here
    for one in (then, here):
        twin = copy.deepcopy(expected)
        for _ in range(3):
            assert one.integers(1000, dtype=np.uint32) == twin.integers(1000, dtype=np.uint32)
            assert one.normal() == twin.normal()
    assert then.spawn(1)[0].random() == expected.spawn(1)[0].random()


# ---------------------------------------------------------------- formats


def test_plain_trees_are_written_as_before(path, tmp_path):
    tree = {"params": {"W": np.ones(2)}, "text": '{"object":["x",1]}', "n": 3, ("a", 1): [None]}
    fo.save(path, tree)
    checkpoint.save(tmp_path / "plain", tree)
    of_both = []
    for one in (path, tmp_path / "plain"):
        with open(one, "rb", buffering=0) as file:
            of_both.append(header.Header(file, str(one), str(one), of_file.safetensors()).metadata)
    assert of_both[0] == of_both[1]
    assert of_both[0]["format_version"] == "1"
    assert same_state(fo.load(tmp_path / "plain"), tree)
    assert same_state(checkpoint.load(path), tree)


def test_files_of_optimizers_are_read_as_trees(path):
    opt = fo.SGD(lr=0.25)
    opt.save(path)
    assert same_state(fo.load(path), opt.state_dict())


def test_files_with_objects_are_refused_elsewhere(path):
    fo.save(path, fo.SGD(lr=0.25))
    for read in (checkpoint.load, fo.SGD().load):
        with pytest.raises(ValueError, match=r"holds optimizers, .*fastoptim.load\(path\)"):
            read(path)


def test_nothing_of_it_is_pickled(path, monkeypatch):
    def refuse(*args, **named):
        raise AssertionError

    for name in ("dumps", "dump", "loads", "load"):
        monkeypatch.setattr(pickle, name, refuse)
    tree = {"opt": fo.Adam(lr=LINEAR), "rng": np.random.default_rng(0), "rk": fo.Heun()}
    assert through_a_file(tree, path)["opt"].lr == LINEAR


# ---------------------------------------------------------------- what cannot go in, or come out

SHARED, RNG = fo.SGD(), np.random.default_rng(0)
NOT_SAVED = {
    "twice": ({"a": SHARED, "b": [SHARED]}, ValueError, r"tree\['b'\]\[0\] is the same SGD as"),
    "within": ([SHARED, fo.SoftBatch(SHARED)], ValueError, r"tree\[1\] is the same SGD as tree"),
    "rng twice": ({"a": RNG, "b": RNG}, ValueError, r"tree\['b'\] is the same PCG64"),
    "function": ({"a": function}, TypeError, r"tree\['a'\] must be .*an optimizer.*builtins.funct"),
    "class": ({"a": fo.SGD}, TypeError, r"tree\['a'\] must be .*got builtins.type"),
    "RandomState": ([np.random.RandomState(0)], TypeError, r"tree\[0\] must be .*RandomState"),
    "integers": ({"a": np.arange(3)}, TypeError, r"tree\['a'\] must be an array of float32"),
    "key": ({"a": {b"x": fo.SGD()}}, TypeError, r"the key of tree\['a'\]\[b'x'\]"),
}


@pytest.mark.parametrize("name", NOT_SAVED)
def test_what_cannot_be_saved(path, name):
    tree, kind, message = NOT_SAVED[name]
    checkpoint.save(path, "old")
    with pytest.raises(kind, match=message):
        fo.save(path, tree)
    assert checkpoint.load(path) == "old"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_key_that_a_file_cannot_hold(path):
    opt = fo.SGD(average=0.5)
    opt.update({b"x": np.ones(2)}, {b"x": np.ones(2)})
    with pytest.raises(TypeError, match=r"params has the key b'x'"):
        fo.save(path, {"opt": opt})
    assert not path.exists()


def test_an_optimizer_in_the_middle_of_a_step(path):
    opt, params = fo.Heun(), {"x": np.ones(2)}

    def fn(params):
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            fo.save(path, {"opt": opt})
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            pickle.dumps(opt)
        return {"x": params["x"].copy()}

    opt.step(params, fn)
    assert not path.exists()


def test_no_update_while_it_is_written(path, monkeypatch):
    """Not even from a thread that comes in between: the file would be of two moments."""
    opt, soft, params = fo.SGD(), fo.SoftBatch(fo.SGD(), 2), {"x": np.ones(2)}
    write, refused = of_file.write, []

    def meanwhile(*args):
        for one in (opt, soft, soft.opt):
            with pytest.raises(RuntimeError) as info:
                one.update(params, {"x": np.ones(2)})
            refused.append(info.value)
        write(*args)

    monkeypatch.setattr(of_file, "write", meanwhile)
    fo.save(path, {"list": [opt], "tuple": (1, {"soft": soft})})
    assert len(refused) == 3
    assert params["x"].all()
    soft.update(params, {"x": np.ones(2)})
    opt.update(params, {"x": np.ones(2)})


def test_more_optimizers_than_the_stack_has_room_for(path):
    """Each inside the call of the one before it, 20,000 would end the process."""
    fo.save(path, [fo.SGD() for _ in range(20_000)])
    assert len(checkpoint.file.read(path)) == 20_000


def test_averaged_weights_are_not_saved(path):
    opt, params = fo.SGD(average=0.5), {"x": np.ones(2)}
    opt.update(params, {"x": np.ones(2)})
    with opt.averaged(params):
        for call in (lambda: fo.save(path, {"opt": opt}), lambda: fo.save(path, fo.SoftBatch(opt))):
            with pytest.raises(RuntimeError):
                call()
    assert not path.exists()


INSTEAD = r"fastoptim.load\(path, into=\{'o': …\}\)"
CODE = {
    "schedule": (lambda: fo.SGD(lr=function), r"tree\['o'\]: lr was <function function"),
    "lambda": (lambda: fo.Heun(lr=lambda step: 0.1), r"tree\['o'\]: lr was <function <lambda>"),
    "inside": (
        lambda: fo.SGD(lr=S.warmup(function, 2)), r"tree\['o'\]: lr was warmup of <function func"
    ),
    "of a group": (
        lambda: fo.SGD(groups=[fo.Group("b", lr=function)]), r"tree\['o'\]: lr was <function func"
    ),
    "predicate": (
        lambda: fo.SGD(groups=[fo.Group(predicate, lr=0.5)]), r"tree\['o'\]: one of its groups has"
    ),
    "soft": (
        lambda: fo.SoftBatch(fo.SGD(lr=function)), r"tree\['o'\]: lr was <function function"
    ),
    "alone": (lambda: S.warmup(function, 2), r"tree\['o'\]: warmup of <function function .* has"),
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_no_part_of_a_file(path, name):
    make, message = CODE[name]
    fo.save(path, {"o": make(), "n": 3})
    with pytest.raises(ValueError, match=message + ".*" + INSTEAD):
        fo.load(path)
    if name != "alone":  # the way out that the message names
        opt = make()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fo.load(path, into={"o": opt}) == {"o": opt, "n": 3}


def test_a_lost_function_is_a_warning(path):
    fo.save(path, {"o": fo.SGD(lr=function)})
    opt = fo.SGD(lr=0.3)
    with pytest.warns(UserWarning, match="lr was a schedule when this state was saved, <function"):
        fo.load(path, into={"o": opt})
    assert opt.lr == 0.3
    other, x = fo.SGD(lr=0.3, weight_decay=0.5), np.ones(2)
    fo.save(path, {"o": fo.SGD(lr=function), "x": np.zeros(2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            fo.load(path, into={"o": other, "x": x})
    assert other.weight_decay == 0.5
    assert x.all()


NO_CLASSES = [
    (fo.SGD, TypeError, r"classes must be a list of classes, such as \[SGD\]"),
    ([3], TypeError, "classes must be classes of optimizers, got 3"),
    ([int], TypeError, "classes must be classes of optimizers, got <class 'int'>"),
    ([Adam, fo.Adam], ValueError, "classes has two of the name 'Adam'"),
]


@pytest.mark.parametrize(("classes", "kind", "message"), NO_CLASSES)
def test_wrong_classes(path, classes, kind, message):
    fo.save(path, fo.SGD())
    with pytest.raises(kind, match=message):
        fo.load(path, classes=classes)


def forge(path, stored):
    """Write a file as a later version of the library might, or someone else."""
    of_file.write(path, {"o": 0.0}, None)
    of_file.write(path, {"o": object()}, lambda x, place: stored)


def changed(make, *place, value):
    stored = objects.Writer().describe(make(), lambda: "")
    tree = stored.content
    for name in place[:-1]:
        tree = tree[name]
    tree[place[-1]] = value
    return stored


MT = lambda: np.random.Generator(np.random.MT19937(0))  # noqa: E731
SPAWNING = lambda: np.random.default_rng(0)  # noqa: E731
PHILOX = lambda: np.random.Generator(np.random.Philox(0))  # noqa: E731
FORGED = {
    "kind": (Stored("socket", 1), "it is a 'socket', which this version of fastoptim does not"),
    "rule": (changed(fo.SGD, "state", "rule", value="eval"), "has no eval"),
    "own": (changed(fo.SGD, "own", value=True), "SGD is a class of yours"),
    "number": (changed(fo.SGD, "state", "hyperparameters", "lr", value=-1.0), r"lr must be in \[0"),
    "name": (changed(fo.SGD, "state", "hyperparameters", "x", value=1.0), "x"),
    "nothing": (Stored("optimizer", {}), "state"),
    "no dict": (Stored("optimizer", 3), "int"),
    "schedule": (
        Stored("schedule", {"schedule": "system", "arguments": {}}), "no schedule 'system'"
    ),
    "arguments": (
        Stored("schedule", {"schedule": "linear", "arguments": {"a": 1}}), "linear cannot be made"
    ),
    "bits": (changed(MT, "state", "bit_generator", value="os"), "has no bit generator 'os'"),
    "pos": (changed(MT, "state", "state", "pos", value=10**6), "pos is 1000000"),
    "key": (changed(MT, "state", "state", "key", value=("uint32", [1])), "not as NumPy's MT19937"),
    "dtype": (changed(MT, "state", "state", "key", value=("O", [1])), "an array of 'O'"),
    "buffer": (changed(PHILOX, "state", "buffer_pos", value=5), "buffer_pos is 5"),
    "pool": (changed(SPAWNING, "seed", "pool_size", value=10**5), "has pool_size=100000, at most"),
    "negative": (changed(PHILOX, "state", "buffer_pos", value=-1), "buffer_pos is -1"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_save_does_not_write(path, name):
    stored, message = FORGED[name]
    forge(path, stored)
    with pytest.raises((ValueError, KeyError, TypeError), match=message) as info:
        fo.load(path)
    assert str(path) in str(info.value)
    assert "tree['o']" in str(info.value).replace("\\'", "'")


def test_every_bit(path):
    fo.save(path, {"o": fo.SGD(lr=LINEAR), "r": np.random.default_rng(0), "x": np.ones(2)})
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        with pytest.raises(ValueError, match="load another copy|use the version"):
            fo.load(path)
    for n in range(0, len(data), 7):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match="load another copy"):
            fo.load(path)


# ---------------------------------------------------------------- into what is there


def whole_training(lr=LINEAR, seed=1):
    """Something of each kind, some updates old."""
    rng = np.random.default_rng(seed)
    params = {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=5), "x": 0.5}
    rate = S.plateau(0.1)
    tree = {
        "params": params, "opt": fo.Adam(lr=lr, average=0.5, groups=[fo.Group("b", lr=rate)]),
        "soft": fo.SoftBatch(fo.Momentum(lr=0.5), every=3), "rk": fo.RK45(rtol=1e-3), "rng": rng,
        "rate": rate, "list": [np.ones(2), "text"], "epoch": seed,
    }
    for _ in range(seed):
        rate.observe(1.0 + seed)
        grads = {"W": rng.normal(size=(3, 4)), "b": rng.normal(size=5), "x": 0.1}
        tree["opt"].update(params, grads)
        tree["soft"].update({"W": params["W"]}, {"W": grads["W"]})
        tree["rk"].step({"x": np.ones(2)}, valley)
    return tree


def flat(x):
    """Nested values as what can be compared."""
    if isinstance(x, dict):
        return tuple((key, flat(value)) for key, value in x.items())
    if isinstance(x, (list, tuple)):
        return tuple(map(flat, x))
    return (x.dtype.str, x.shape, x.tobytes()) if isinstance(x, np.ndarray) else x


def snapshot(tree):
    """All that there is, as plain values."""
    return flat({
        "params": tree["params"], "list": tree["list"], "epoch": tree["epoch"],
        "rng": tree["rng"].bit_generator.state, "rate": vars(tree["rate"]),
        **{name: tree[name].state_dict() for name in ("opt", "soft", "rk")},
    })


def test_into(path):
    tree, here = whole_training(seed=4), whole_training(lr=0.3, seed=2)
    fo.save(path, tree)
    objects, params = dict(here), dict(here["params"])
    rate = here["rate"]
    then = fo.load(path, into=here)
    assert snapshot(then) == snapshot(here) == snapshot(tree)
    for name, one in objects.items():
        if name != "epoch":
            assert then[name] is one
    assert here["params"]["W"] is params["W"]
    assert here["opt"].lr == LINEAR  # where there was a number
    assert here["opt"].groups[0].lr is rate
    for one in (tree, here):
        one["opt"].update(one["params"], {"W": np.ones((3, 4)), "b": np.ones(5), "x": 1.0})
    assert snapshot(here) == snapshot(tree)


def test_into_a_part(path):
    fo.save(path, whole_training())
    params = {"W": np.zeros((3, 4)), "b": np.zeros(5), "x": 0.0}
    then = fo.load(path, into={"params": params})
    assert then["params"] is params
    assert snapshot(then) == snapshot(whole_training())


def test_a_schedule_that_is_there_stays(path):
    fo.save(path, fo.SGD(lr=LINEAR))
    opt = fo.SGD(lr=function)
    assert fo.load(path, into=opt) is opt
    assert opt.lr is function


def read_only(a):
    a.flags.writeable = False
    return a


TWICE = fo.SGD()
NOT_INTO = {
    "unknown key": ({"y": 1}, KeyError, "the file has no 'y'; the file's keys are"),
    "missing key": ({"params": {"W": np.ones((3, 4))}}, KeyError, r"\['params'\]: into has no 'b'"),
    "shape": ({"list": [np.ones(3), ""]}, ValueError, r"float64 \(2,\) in the file, and float64"),
    "dtype": ({"list": [np.ones(2, "f4"), ""]}, ValueError, "in the file, and float32"),
    "length": ({"list": [np.ones(2)]}, ValueError, "the file has 2 items, into 1"),
    "read-only": ({"list": [read_only(np.ones(2)), ""]}, ValueError, "of into is read-only"),
    "tuple": ({"list": (np.ones(2), "")}, TypeError, "a plain value in a tuple, which cannot be"),
    "array": ({"epoch": np.ones(2)}, TypeError, "is a plain value in the file, and an array in"),
    "number": ({"list": [1, ""]}, TypeError, "is an array in the file, and a plain value in into"),
    "dict": ({"list": {}}, TypeError, "is a list in the file, and a dict in into"),
    "list": ({"params": []}, TypeError, "is a dict in the file, and a list in into"),
    "rule": ({"opt": fo.SGD()}, ValueError, "the state is of Adam, this optimizer is SGD"),
    "groups": ({"opt": fo.Adam()}, ValueError, r"groups are \['b'\], this optimizer's are \[\]"),
    "kind": ({"rk": fo.SGD()}, TypeError, "is a Runge–Kutta method in the file, and an opt"),
    "method": ({"rk": fo.RK23()}, ValueError, "the state is of RK45, this optimizer is RK23"),
    "soft": ({"soft": fo.SoftBatch(fo.Momentum(), 2)}, ValueError, "every=3, this SoftBatch 2"),
    "bits": ({"rng": MT()}, ValueError, "a generator of MT19937 here, the file one of PCG64"),
    "plateau": ({"rate": S.plateau(0.2)}, ValueError, "the plateau of the state has start=0.1"),
    "schedule": ({"rate": LINEAR}, TypeError, r"\['rate'\] of into must be a dict.*got fastoptim"),
    "object": ({"rng": object()}, TypeError, "of into must be .* got builtins.object"),
    "masked": ({"list": [np.ma.ones(2), ""]}, TypeError, "of into must be .*MaskedArray"),
    "twice": ({"list": [TWICE, TWICE]}, TypeError, "is an array in the file, and an optimizer in"),
}


@pytest.mark.parametrize("name", NOT_INTO)
def test_what_cannot_take_it_over(path, name):
    part, kind, message = NOT_INTO[name]
    fo.save(path, whole_training(seed=4))
    here = whole_training(seed=2)
    before = snapshot(here)
    bad = {**here, **part}
    with pytest.raises(kind, match=message) as info:
        fo.load(path, into={name: bad[name] for name in sorted(bad)})
    assert str(path) in str(info.value) or name in ("schedule", "object", "masked")
    assert snapshot(here) == before


def test_one_object_at_two_places(path):
    fo.save(path, [fo.SGD(), fo.SGD()])
    with pytest.raises(ValueError, match=r"the same SGD here and at tree\[0\]"):
        fo.load(path, into=[TWICE, TWICE])


def test_one_array_at_two_places(path):
    fo.save(path, {"a": np.ones(2), "b": np.full(2, 2.0)})
    W = np.zeros(2)
    with pytest.raises(ValueError, match=r"tree\['b'\] of into is the same array as tree\['a'\]"):
        fo.load(path, into={"a": W, "b": W})
    assert W.tolist() == [0.0, 0.0]
    fo.save(path, {"a": np.ones((2, 3)), "b": np.ones((2, 3), order="F")})  # tied weights
    W = np.zeros((2, 3))
    fo.load(path, into={"a": W, "b": W})
    assert (W == 1.0).all()


@pytest.mark.parametrize("given", ["opt", "rate", "other", "opt rate", "rate opt", "soft"])
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_new_shares_a_plateau_that_is_there(path, given, order):
    def make():
        rate = S.plateau(0.5, factor=0.5, patience=0)
        other = fo.RK23(lr=rate)
        soft = fo.SoftBatch(fo.SGD(lr=1.0, groups=[fo.Group("b", lr=rate / 2)]), 2)
        return {"opt": fo.SGD(lr=rate * 2), "rate": rate, "other": other, "soft": soft}

    tree = make()
    tree["rate"].observe(1.0)
    tree["rate"].observe(1.0)
    fo.save(path, dict([*tree.items()][::order]))
    here = make()
    then = fo.load(path, into={name: here[name] for name in given.split()})
    for name in given.split():
        assert then[name] is here[name]
    assert list(then) == list(tree)[::order]
    rate = then["rate"]
    assert rate == tree["rate"]
    assert then["opt"].lr.left is then["other"].lr is rate
    assert then["soft"].opt.groups[0].lr.left is rate


def test_a_file_that_is_nested_too_deeply(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(of_file, "to_json", lambda *given: ("[" * 800 + "]" * 800, []))
        of_file.write(path, None)
    with pytest.raises(ValueError, match="nested too deeply|maximum recursion depth"):
        fo.load(path)


def test_a_seed_with_a_large_pool_is_not_saved(path):
    seed = np.random.SeedSequence(1, pool_size=2000)
    with pytest.raises(ValueError, match=r"tree\['r'\] cannot be saved: .* pool_size=2000"):
        fo.save(path, {"r": np.random.Generator(np.random.PCG64(seed))})
    assert not path.exists()


class Full(dict):
    """A dict that no longer takes anything, which shows only when it is written to."""

    def __setitem__(self, key, value):
        raise MemoryError


def test_a_failure_in_the_middle_is_undone(path):
    fo.save(path, whole_training(seed=4) | {"z": {"n": 1}})
    here = whole_training(seed=2)
    before = snapshot(here)
    with pytest.raises(MemoryError):
        fo.load(path, into=here | {"z": Full(n=0)})
    assert snapshot(here) == before
    here["opt"].update(here["params"], {"W": np.ones((3, 4)), "b": np.ones(5), "x": 1.0})


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_the_norm_is_there_again_after_a_failure(soft, measured, path):
    """It is in no saved state, so what undoes a load has it besides."""
    def trained(lr):
        opt, params = fo.SGD(lr=lr, norm=measured), {"W": np.zeros(2)}
        opt.update(params, {"W": np.array([3.0, 4.0])})
        return opt, fo.SoftBatch(opt, every=2) if soft else opt

    fo.save(path, {"opt": trained(0.5)[1], "z": {"n": 1}})
    opt, here = trained(0.1)
    with pytest.raises(MemoryError):
        fo.load(path, into={"opt": here, "z": Full(n=0)})
    assert (opt.lr, opt.grad_norm) == (0.1, 5.0 if measured else None)
    fo.load(path, into={"opt": here, "z": {"n": 0}})
    assert (opt.lr, opt.grad_norm) == (0.5, None)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its last reference goes
def test_interrupted_at_every_line(path):
    """All is taken over, or nothing: Ctrl-C at any line of Python."""
    ours = {module.__file__ for module in (into, build, of_training, objects)}
    fo.save(path, whole_training(seed=2))
    after = snapshot(whole_training(seed=2))
    seen = set()
    for n in count():
        here = whole_training(seed=1)
        before, left = snapshot(here), [n]

        def trace(frame, event, arg, left=left):
            if frame.f_code.co_filename not in ours:
                return None
            if event == "line":
                left[0] -= 1
                if left[0] == -1:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            fo.load(path, into=here)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        now = snapshot(here)
        assert now in (before, after), n
        seen.add(now == after)
        if left[0] >= 0:
            break
    assert seen == {True, False}


def test_killed_while_saving(path):
    """After a kill the file is the one that was there, or the one after it."""
    code = """
import sys, numpy as np, fastoptim as fo
opt, params, rng = fo.Adam(), {"W": np.zeros(40_000)}, np.random.default_rng(0)
for epoch in range(1_000_000):
    opt.update(params, {"W": rng.normal(size=40_000)})
    fo.save(sys.argv[1], {"params": params, "opt": opt, "rng": rng, "epoch": epoch})
    print(epoch, flush=True)
"""
    for wait in (0.0, 0.013, 0.029):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True,
            env=environment_with(),
        )
        assert process.stdout.readline() == "0\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        printed = process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        told = int(printed[-1]) if printed else 0
        then = fo.load(path)
        assert then["epoch"] in (told, told + 1)
        assert then["opt"].iter == then["epoch"] + 1


# ---------------------------------------------------------------- pickle


def test_pickled_by_the_state_of_its_parts():
    opt = fo.SGD(lr=function, groups=[fo.Group(predicate, lr=0.5), fo.Group("W", lr=LINEAR)])
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt.update(params, {key: np.ones_like(p) for key, p in params.items()})
    soft = fo.SoftBatch(opt, 2)
    soft.update(params, {key: np.ones_like(p) for key, p in params.items()})
    one, two, group = pickle.loads(pickle.dumps((opt, soft, opt.groups[0])))
    assert two.opt is one
    assert one.lr is function
    assert one.groups[0].pattern is predicate
    assert one.groups[1].lr == LINEAR
    assert (group.pattern, dict(group.hyperparameters)) == (predicate, {"lr": 0.5})
    assert same_state(two.state_dict(), soft.state_dict())
    adam = fo.Adam()
    adam.update({"x": np.ones(3)}, {"x": np.array([1.5, 2.5, 3.5])})
    assert pickle.dumps(fo.SoftBatch(adam)).count(adam.m["x"].tobytes()) == 1
    one.groups[0].lr = 0.25  # bound to its optimizer
    assert (one.current("lr", 0), opt.current("lr", 0)) == (0.25, 0.5)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(fo.SGD(lr=lambda step: 0.1))


def one_update(opt):
    params = {"x": np.ones(3)}
    opt.update(params, {"x": np.ones(3)})
    return opt, params["x"]


def test_sent_to_another_process():
    opt = one_update(fo.Adam(lr=LINEAR))[0]
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as pool:
        then, x = pool.submit(one_update, opt).result()
    again, expected = one_update(opt)
    assert np.array_equal(x, expected)
    assert same_state(then.state_dict(), again.state_dict())


def test_joblib(tmp_path):
    joblib = pytest.importorskip("joblib")
    opt = one_update(fo.Adam(lr=LINEAR))[0]
    joblib.dump(opt, tmp_path / "opt")
    assert same_state(joblib.load(tmp_path / "opt").state_dict(), opt.state_dict())


def test_the_table_of_schedules_has_no_others():
    for name in ("chained", "combined"):
        assert schedules.CLASSES[name] is getattr(arithmetic, name)
