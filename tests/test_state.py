"""Saving and going on: to the bit as if training had never stopped, and strictly checked."""

import copy
import os
import warnings

import numpy as np
import pytest
from helpers import (
    CASES,
    REMOVED,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    every_dtype,
    every_rule,
    every_rule_by_element,
    put,
)

import fastoptim as fo

SHAPES = {"W": (30, 41), "b": (7,), "e": (0,), "s": ()}
OPTIONS = [{}, {"average": 0.9, "weight_decay": 0.1, "clip_norm": 3.0}]


def train(opt, params, rng, steps):
    for _ in range(steps):
        opt.update(params, arrays(rng, SHAPES, params["W"].dtype))


def assert_same_optimizer(a, b):
    assert repr(a) == repr(b)
    assert (a.iter, a.skipped) == (b.iter, b.skipped)
    for slot in a.kernels[a.kernel]:
        assert_same_arrays(getattr(a, slot), getattr(b, slot), slot)
    assert_same_averages(a, b)


def through_a_file(opt, other, path):
    pytest.importorskip("safetensors")
    opt.save(path)
    other.load(path)
    return other


def through_a_dict(opt, other, path):
    other.load_state_dict(opt.state_dict())
    return other


def through_a_copy(opt, other, path):
    return copy.deepcopy(opt)


@pytest.mark.parametrize("through", [through_a_file, through_a_dict, through_a_copy])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "options"])
@every_dtype
@every_rule
def test_resumed_training_is_training_that_never_stopped(case, dtype, options, through, tmp_path):
    rng = np.random.default_rng(0)
    params = arrays(rng, SHAPES, dtype)
    params["W"] = np.asfortranarray(params["W"])
    opt = case.ours(lr=0.02, groups=[fo.Group("b", lr=0.5)], **options)
    train(opt, params, rng, 3)
    saved = {key: p.copy(order="K") for key, p in params.items()}
    other = through(opt, case.ours(groups=[fo.Group("b", lr=0.1)]), tmp_path / "state")
    assert_same_optimizer(opt, other)
    train(opt, params, np.random.default_rng(9), 3)
    train(other, saved, np.random.default_rng(9), 3)
    assert_same_optimizer(opt, other)
    assert_same_arrays(params, saved, "params")


@every_rule_by_element
def test_state_follows_its_layout(case):
    """Loaded state lies like the parameter did, so that updates stay one pass."""
    opt, params = case.ours(), {"x": np.asfortranarray(np.ones((3, 4)))}
    opt.update(params, {"x": params["x"].copy(order="K")})
    other = case.ours()
    other.load_state_dict(opt.state_dict())
    for slot in case.slots:
        assert getattr(other, slot)["x"].flags.f_contiguous


@every_rule
def test_a_state_dict_is_a_snapshot(case):
    opt, params = case.ours(average=0.5), {"x": np.ones(5)}
    opt.update(params, {"x": np.ones(5)})
    state = opt.state_dict()
    before = copy.deepcopy(state)
    opt.update(params, {"x": np.ones(5)})
    other = case.ours()
    other.load_state_dict(state)
    other.update({"x": np.ones(5)}, {"x": np.ones(5)})
    record, kept = state["parameters"]["x"], before["parameters"]["x"]
    assert_same_arrays(record["state"], kept["state"], "state")
    assert set(record["state"]) == set(case.slots)
    assert_same_array(record["average"], kept["average"], "average")
    assert record["updates"] == 1


def leaves(tree):
    """All keys and values of nested dicts, and all values of nested lists and tuples."""
    if isinstance(tree, dict):
        return list(tree) + leaves(list(tree.values()))
    if isinstance(tree, (list, tuple)):
        found = []
        for value in tree:
            found += leaves(value)
        return found
    return [tree]


@every_rule
def test_a_state_dict_is_plain(case):
    opt = case.ours(groups=[fo.Group("x", lr=1.0)])
    opt.update({"x": np.ones(2)}, {"x": np.ones(2)})
    plain = {str, int, float, bool, type(None), np.ndarray}
    assert {type(leaf) for leaf in leaves(opt.state_dict())} <= plain


def test_keys_of_many_kinds(tmp_path):
    pytest.importorskip("safetensors")
    keys = ["W", "__metadata__", "", "a/b", "ß", 0, 2.5, True, None, ("layer", 1, (2, "x"))]
    params = {key: np.ones(3) for key in keys}
    opt, other = fo.Adam(), fo.Adam()
    opt.update(params, {key: np.ones(3) for key in keys})
    opt.save(tmp_path / "state")
    other.load(tmp_path / "state")
    assert set(other.m) == set(keys)
    opt = fo.Adam()
    opt.update({frozenset("a"): np.ones(3)}, {frozenset("a"): np.ones(3)})
    with pytest.raises(TypeError, match="frozenset"):
        opt.save(tmp_path / "other")
    assert os.listdir(tmp_path) == ["state"]


UNSAVED = {
    "bytes": (b"W", r"params has the key b'W', a bytes, which a file cannot hold; to be saved, a "),
    "NumPy integer": (np.int64(3), r"params has the key .*3.*, a int64, .* must be a str, int, fl"),
    "inside a tuple": (("W", b"x"), r"params has the key \('W', b'x'\), a tuple, .*tuple of these"),
}


MAKERS = {
    "an optimizer": fo.Adam,
    "the optimizer of a soft batch": lambda: fo.SoftBatch(fo.Adam(), every=1),
    "the sum of a soft batch": lambda: fo.SoftBatch(fo.Adam(), every=2),
}


@pytest.mark.parametrize(("key", "text"), UNSAVED.values(), ids=UNSAVED)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_key_that_a_file_cannot_hold(key, text, make, tmp_path):
    pytest.importorskip("safetensors")
    opt = make()
    opt.update({key: np.ones(3)}, {key: np.ones(3)})
    with pytest.raises(TypeError, match=text):
        opt.save(tmp_path / "state")
    assert os.listdir(tmp_path) == []
    opt.update({key: np.ones(3)}, {key: np.ones(3)})


def two_rates(value):
    """An optimizer with a learning rate and another one in a group."""
    return fo.SGD(lr=value, groups=[fo.Group("b", lr=value)], average=0.5)


def updated_ones(opt, updates):
    params = {"a": np.ones(2), "b": np.ones(2)}
    for _ in range(updates):
        opt.update(params, {"a": np.ones(2), "b": np.ones(2)})
    return opt


@pytest.mark.parametrize(("passing", "error"), [(0, "^lr was a"), (1, "b: lr was a")])
@pytest.mark.parametrize("through", [through_a_file, through_a_dict])
def test_a_warning_that_is_an_error_comes_before_anything_is_replaced(
    through, passing, error, tmp_path
):
    """The first of two warnings is the error, or passes and the second is the error."""
    opt = updated_ones(two_rates(fo.schedules.linear(1.0, 0.5, 10)), 3)
    other = updated_ones(two_rates(0.25), 1)
    before = copy.deepcopy(other)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("error")
        if passing:
            warnings.filterwarnings("always", "^lr")
        with pytest.raises(UserWarning, match=error):
            through(opt, other, tmp_path / "state")
    assert len(seen) == passing
    assert_same_optimizer(other, before)


def test_each_schedule_is_warned_of_once():
    opt = updated_ones(two_rates(fo.schedules.linear(1.0, 0.5, 10)), 3)
    other = updated_ones(two_rates(0.25), 1)
    with pytest.warns(UserWarning, match="lr was a schedule") as seen:
        other.load_state_dict(opt.state_dict())
    assert [str(w.message)[:6] for w in seen] == ["lr was", "b: lr "]
    assert [w.filename for w in seen] == [__file__] * 2
    assert other.iter == 3
    assert other.lr == 0.25


def test_schedules_are_code():
    opt, params = fo.SGD(lr=fo.schedules.linear(1.0, 0.5, 10)), {"x": np.zeros(1)}
    opt.update(params, {"x": np.ones(1)})
    state = opt.state_dict()
    assert state["hyperparameters"]["lr"] is None
    assert state["schedules"] == {"lr": repr(opt.lr)}
    other = fo.SGD(lr=0.25)
    with pytest.warns(UserWarning, match=r"lr was a schedule .*linear\(.*is 0.25 now"):
        other.load_state_dict(state)
    assert other.lr == 0.25
    again = fo.SGD(lr=opt.lr)
    again.load_state_dict(state)
    a, b = {"x": params["x"].copy()}, {"x": params["x"].copy()}
    opt.update(a, {"x": np.ones(1)})
    again.update(b, {"x": np.ones(1)})
    assert a == b
    grouped = fo.SGD(groups=[fo.Group("x", lr=lambda step: 0.5)])
    plain = fo.SGD(groups=[fo.Group("x", lr=0.25)])
    with pytest.warns(UserWarning, match="x: lr was a schedule"):
        plain.load_state_dict(grouped.state_dict())
    assert copy.deepcopy(opt).lr is opt.lr


@pytest.fixture
def trained():
    opt, params = fo.Adam(lr=0.1), {"W": np.ones((2, 3)), "b": np.ones(3, np.float32)}
    opt.update(params, {"W": np.ones((2, 3)), "b": np.ones(3, np.float32)})
    return opt, params


def record_of(p):
    """What a state says of a parameter after one update."""
    opt = fo.Adam()
    opt.update({"x": p}, {"x": np.ones_like(p)})
    return opt.state_dict()["parameters"]["x"]


HYPERPARAMETERS = fo.Adam(lr=0.1).state_dict()["hyperparameters"]
W = ("parameters", "W")
# Each: a place in the state of Adam with W (2, 3) and b (3,), what is put there, and the error.
BAD = {
    "format": (("format",), 2, ValueError, "has format 2, .* reads 1"),
    "rule": (("rule",), "SGD", ValueError, "state is of SGD, .* is Adam"),
    "iter": (("iter",), -1, ValueError, "iter must be a whole number"),
    "too large": (("iter",), 10**30, ValueError, "iter must be a whole"),
    "skipped": (("skipped",), "x", ValueError, "skipped must be a whole"),
    "lr": (("hyperparameters", "lr"), -1.0, ValueError, "lr must be in"),
    "unknown": (("hyperparameters", "speed"), 1.0, ValueError, "hyperparameters are"),
    "both clips": (
        ("hyperparameters",), HYPERPARAMETERS | {"clip_norm": 1.0, "clip_value": 1.0}, ValueError,
        "both clip_value and clip_norm",
    ),
    "groups": (("groups",), [{"pattern": "x"}], ValueError, r"groups are \['x'\]"),
    "no parameters": (("parameters",), None, ValueError, "is a NoneType"),
    "missing key": (("parameters", "b"), REMOVED, KeyError, "this optimizer has"),
    "other key": (("parameters", "c"), record_of(np.ones(3)), KeyError, "parameters"),
    "other shape": (
        W, record_of(np.ones(6)), ValueError,
        r"params\['W'\] is float64 \(2, 3\), the state's is float64 \(6,\)",
    ),
    "dtype name": ((*W, "dtype"), "int8", ValueError, "has dtype 'int8'"),
    "updates": ((*W, "updates"), 1.5, ValueError, "updates must be"),
    "order": ((*W, "order"), "K", ValueError, "order 'K'"),
    "average": ((*W, "average"), np.zeros(2), ValueError, "average"),
    "shape": (
        (*W, "state", "m"), np.zeros(6), ValueError,
        r"the state of 'W' should have float64 \(2, 3\) as its m, got float64 \(6,\)",
    ),
    "dtype": (
        (*W, "state", "v"), np.zeros((2, 3), np.float32), ValueError, "as its v, got float32",
    ),
    "no array": ((*W, "state", "v"), [0], ValueError, "got list"),
    "slot": ((*W, "state", "w"), np.zeros((2, 3)), ValueError, r"has slots \['m', 'v', 'w'\]"),
    "slot missing": ((*W, "state", "v"), REMOVED, ValueError, r"has only the slots \['m'\]"),
}


def assert_refused(trained, state, error, text):
    """Nothing is replaced, and training goes on."""
    opt, params = trained
    before = copy.deepcopy(opt)
    opt.lr = before.lr = 0.3
    with pytest.raises(error, match=text):
        opt.load_state_dict(state)
    assert_same_optimizer(opt, before)
    opt.update(params, {"W": np.ones((2, 3)), "b": np.ones(3, np.float32)})


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_a_wrong_state_is_refused(row, trained):
    place, value, error, text = row
    state = trained[0].state_dict()
    put(state, place, value)
    assert_refused(trained, state, error, text)


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [([1], TypeError, "a state is a dict"), ({}, ValueError, "the state has no 'format'")],
)
def test_what_is_no_state_is_refused(state, error, text, trained):
    assert_refused(trained, state, error, text)


def test_a_state_of_another_shape_is_refused_at_the_update(trained):
    opt, _ = trained
    other = fo.Adam()
    other.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match=r"params\['W'\] has shape \(4,\), but its state has"):
        other.update({"W": np.ones(4), "b": np.ones(3, np.float32)},
                     {"W": np.ones(4), "b": np.ones(3, np.float32)})


def test_files_that_are_not_it(trained, tmp_path):
    pytest.importorskip("safetensors")
    opt, _ = trained
    path = tmp_path / "state"
    opt.save(path)
    content = path.read_bytes()
    for name, data in [
        ("short", content[:-1]), ("long", content + b"x"), ("empty", b""), ("text", b"hello"),
        ("flipped", content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]),
    ]:
        (tmp_path / name).write_bytes(data)
        before = copy.deepcopy(opt)
        with pytest.raises(ValueError, match=name):
            opt.load(tmp_path / name)
        assert_same_optimizer(opt, before)
    with pytest.raises(FileNotFoundError):
        opt.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="state is of Adam, this optimizer is SGD"):
        fo.SGD().load(path)


@every_rule
def test_switching_a_rules_kernel_keeps_what_it_shares(case):
    """A state array that a new choice needs starts fresh; the others go on."""
    others = [c for c in CASES if c.cls is case.cls and c.options != case.options]
    for other in others:
        opt, params = case.ours(), {"x": np.ones(5)}
        opt.update(params, {"x": np.ones(5)})
        kept = {slot: getattr(opt, slot)["x"] for slot in case.slots}
        for name, value in other.options.items():
            setattr(opt, name, value)
        opt.update(params, {"x": np.ones(5)})
        for slot in set(case.slots) & set(other.slots):
            assert np.shares_memory(getattr(opt, slot)["x"], kept[slot])
        assert np.isfinite(params["x"]).all()


@every_rule
def test_oracle_of_a_resumed_run(case):
    """The same again without the library's own copy: the oracle goes on, too."""
    oracle, expected = case.oracle(), {"x": np.ones(50)}
    opt, params = case.ours(), {"x": np.ones(50)}
    for step in range(6):
        g = np.sin(np.arange(50.0) + step)
        oracle.update(expected, {"x": g.copy()})
        opt.update(params, {"x": g})
        assert_same_array(params["x"], expected["x"], "x")
        fresh = case.ours()
        fresh.load_state_dict(opt.state_dict())
        opt = fresh


def test_groups_must_set_the_same():
    one = fo.SGD(groups=[fo.Group("a", lr=0.5)])
    two = fo.SGD(groups=[fo.Group("a", weight_decay=0.5)])
    with pytest.raises(ValueError, match=r"group 'a' sets .*lr.*'weight_decay'"):
        two.load_state_dict(one.state_dict())


@pytest.mark.parametrize("shape", [(3, 0), (3, 2), (3, 1)])
def test_sums_of_elements_with_two_axes(shape):
    """One number belongs to each place: others would be read past their memory, or left out."""
    sp = pytest.importorskip("scipy.sparse")
    soft, params = fo.SoftBatch(fo.SGD(), every=3), {"W": np.zeros((3, 3))}
    soft.update(params, {"W": sp.csr_array(np.eye(3))})
    state = soft.state_dict()
    good = state["rows"]["W"]["values"]
    state["rows"]["W"]["values"] = np.ones(shape)
    with pytest.raises(ValueError, match=r"the sum of 'W' .*values must be one-dimensional, got"):
        soft.load_state_dict(state)
    state["rows"]["W"]["values"] = good
    soft.load_state_dict(state)
    assert soft.flush(params)
    assert np.array_equal(params["W"], -0.01 * np.eye(3))
