"""What users of the book's optimizers do, and of the other libraries they come from."""

import collections
import copy
import sys

import numpy as np
import pytest
from helpers import (
    arrays,
    assert_same_arrays,
    assert_same_bits,
    copies,
    every_dtype,
    every_rule,
)

import fastoptim as fo
from fastoptim.optimizer.base import checks_of


@every_rule
def test_assigning_lr_between_steps(case):
    rng = np.random.default_rng(0)
    expected = {"x": rng.random(100)}
    params = {"x": expected["x"].copy()}
    opt, oracle = case.ours(), case.oracle()
    allowed = checks_of(case.cls)["lr"]
    for lr in [lr for lr in (0.1, 0.01, 0.0, 1.0) if lr in allowed]:
        opt.lr = oracle.lr = lr
        g = rng.standard_normal(100)
        opt.update(params, {"x": g})
        oracle.update(expected, {"x": g})
        assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_fresh_gradient_arrays_at_every_step(case):
    """Back-propagation allocates new gradients each time, often where the old ones were."""
    rng = np.random.default_rng(1)
    shapes = {"W1": (30, 20), "b1": (20,), "W2": (20, 5), "b2": (5,)}
    expected = arrays(rng, shapes, np.float32)
    params = copies(expected)
    opt, oracle = case.ours(), case.oracle()
    for _ in range(30):
        grads = arrays(rng, shapes, np.float32)
        opt.update(params, grads)
        oracle.update(expected, grads)
        del grads
    assert_same_bits(opt, oracle, params, expected)


def test_one_sgd_for_several_networks():
    """Same keys, other arrays, even other shapes and dtypes: SGD keeps nothing of them."""
    opt, rng = fo.SGD(lr=0.5), np.random.default_rng(2)
    nets = [{"W": rng.random(shape)} for shape in [(2, 3), (2, 3), (4,), ()]]
    nets.append({"W": np.ones(3, np.float32)})
    for _ in range(3):
        for net in nets:
            before = net["W"].copy()
            opt.update(net, {"W": np.ones_like(net["W"])})
            assert np.array_equal(net["W"], before - np.asarray(0.5, before.dtype))
    assert opt.iter == 15


@every_rule
def test_one_optimizer_for_several_dicts(case):
    """Other keys: each keeps its own state and its own step count."""
    rng = np.random.default_rng(3)
    opt = case.ours()
    nets = {
        "a": {"a.W": rng.random(9), "a.b": rng.random(2)},
        "b": {"b.W": rng.random(9), "b.b": rng.random(2)},
    }
    expected = {name: copies(net) for name, net in nets.items()}
    oracles = {name: case.oracle() for name in nets}
    for name in "abbabaab":
        grads = {key: rng.random(p.shape) for key, p in nets[name].items()}
        opt.update(nets[name], grads)
        oracles[name].update(expected[name], grads)
        assert_same_arrays(nets[name], expected[name], name)
    assert opt.iter == 8


@every_rule
def test_python_float_parameters_are_written_back(case):
    """The book's first demonstration: f(x, y) = x²/20 + y² from (−7, 2), on plain floats."""
    opt, oracle = case.ours(), case.oracle()
    params = {"x": -7.0, "y": 2.0}
    expected = {"x": np.array(-7.0), "y": np.array(2.0)}
    for _ in range(30):
        opt.update(params, {"x": params["x"] / 10.0, "y": 2.0 * params["y"]})
        grads = {"x": expected["x"] / 10.0, "y": 2.0 * expected["y"]}
        oracle.update(expected, grads)
        assert type(params["x"]) is float
        assert params == {"x": float(expected["x"]), "y": float(expected["y"])}


@pytest.mark.parametrize(
    ("p", "g"),
    [
        (3.0, 1), (3.0, 1.0), (3.0, np.float64(1)), (3.0, np.array(1.0)), (3.0, np.int64(1)),
        (np.float64(3), 1.0), (np.float32(3), 1.0), (np.float32(3), np.float32(1)),
        (np.array(3.0), 1.0), (np.array(3.0), np.float64(1)), (np.array(3, "f4"), np.float32(1)),
    ],
    ids=repr,
)
@every_rule
def test_scalars_of_all_kinds(case, p, g):
    dtype = np.asarray(p).dtype
    params, expected = {"x": copy.copy(p)}, {"x": np.array(p, dtype)}
    opt, oracle = case.ours(), case.oracle()
    for _ in range(3):
        opt.update(params, {"x": g})
        oracle.update(expected, {"x": np.asarray(g, dtype)})
    assert type(params["x"]) is type(p)
    assert_same_bits(opt, oracle, {"x": np.asarray(params["x"], dtype)}, expected)


@every_rule
def test_lists(case):
    rng = np.random.default_rng(4)
    expected = {0: rng.random((3, 2)), 1: rng.random(2), 2: np.array(5.0)}
    params = [expected[0].copy(), expected[1].copy(), 5.0]
    opt, oracle = case.ours(), case.oracle()
    for _ in range(4):
        grads = [rng.random((3, 2)), rng.random(2), 0.25]
        opt.update(params, grads)
        oracle.update(expected, {0: grads[0], 1: grads[1], 2: np.array(0.25)})
    assert type(params[2]) is float
    now = {0: params[0], 1: params[1], 2: np.array(params[2])}
    assert_same_bits(opt, oracle, now, expected)


@every_rule
def test_tuples_of_arrays(case):
    params = (np.ones(3), np.ones(2))
    case.ours().update(params, (np.ones(3), np.ones(2)))
    assert (params[0] != 1).all()
    assert (params[1] != 1).all()


class Layers(collections.abc.Mapping):
    """A mapping that is no dict."""

    def __init__(self, **arrays):
        self.arrays = arrays

    def __getitem__(self, key):
        return self.arrays[key]

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)


@pytest.mark.parametrize("kind", [collections.OrderedDict, Layers, collections.UserDict])
@every_rule
def test_any_mapping(case, kind):
    params, grads = kind(W=np.ones(3), b=np.ones(2)), kind(b=np.ones(2), W=np.ones(3))
    plain = {"W": np.ones(3), "b": np.ones(2)}
    case.ours().update(params, grads)
    case.oracle().update(plain, {"W": np.ones(3), "b": np.ones(2)})
    assert np.array_equal(params["W"], plain["W"])
    assert np.array_equal(params["b"], plain["b"])


def test_floats_in_another_mapping_are_written_back():
    params = collections.UserDict(x=1.0)
    fo.SGD(lr=0.25).update(params, {"x": 1.0})
    assert params["x"] == 0.75


@every_rule
def test_keys_of_any_kind(case):
    keys = [0, ("layer", 1), None, frozenset("a"), 2.5, b"w"]
    params = {key: np.ones(2) for key in keys}
    opt = case.ours()
    opt.update(params, {key: np.ones(2) for key in keys})
    assert all((p != 1).all() for p in params.values())
    for slot in case.slots:
        assert set(getattr(opt, slot)) == set(keys)


@every_rule
@every_dtype
def test_none_skips_parameter_state_and_step_count(case, dtype):
    """As if that parameter had an optimizer of its own, which was not called."""
    rng = np.random.default_rng(5)
    shapes = {"a": (5,), "b": (7,), "c": (3, 3)}
    start = arrays(rng, shapes, dtype)
    params = copies(start)
    opt, oracles = case.ours(), {key: case.oracle() for key in shapes}
    skipped = [{"b"}, set(), {"a", "b"}, {"c"}, set(), {"b", "c"}]
    for skip in skipped:
        grads = arrays(rng, shapes, dtype)
        opt.update(params, grads | dict.fromkeys(skip))
        for key in set(shapes) - skip:
            oracles[key].update({key: start[key]}, grads)
        assert_same_arrays(params, start, "params")
        for slot in case.slots:
            expected = {}
            for oracle in oracles.values():
                expected |= getattr(oracle, slot)
            assert_same_arrays(getattr(opt, slot), expected, slot)
    assert opt.iter == len(skipped)


@every_rule
def test_keys_that_come_go_and_come_back(case):
    rng = np.random.default_rng(6)
    start = {key: rng.random(6) for key in "abc"}
    params = copies(start)
    opt, oracles = case.ours(), {key: case.oracle() for key in "abc"}
    for present in ["a", "ab", "b", "abc", "c", "cba", "a"]:
        grads = {key: rng.random(6) for key in present}
        opt.update({key: params[key] for key in present}, grads)
        for key in present:
            oracles[key].update({key: start[key]}, grads)
        assert_same_arrays(params, start, "params")


@every_rule
def test_parameter_replaced_by_another_array_of_its_shape(case):
    """cs231n's habit: params[k] = new array. State goes by key, not by array."""
    rng = np.random.default_rng(7)
    expected = {"x": rng.random(20)}
    params = {"x": expected["x"].copy()}
    opt, oracle = case.ours(), case.oracle()
    for _ in range(5):
        params["x"] = params["x"].copy()
        g = rng.random(20)
        opt.update(params, {"x": g})
        oracle.update(expected, {"x": g})
    assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_empty_dicts(case):
    opt = case.ours()
    opt.update({}, {})
    assert opt.iter == 1


@every_rule
def test_zero_size_gets_state_and_counts(case):
    opt, params = case.ours(), {"x": np.ones((0, 3))}
    opt.update(params, {"x": np.ones((0, 3))})
    assert opt.iter == 1
    for slot in case.slots:
        assert getattr(opt, slot)["x"].shape == (0, 3)


def test_update_returns_none():
    assert fo.SGD().update({"x": np.ones(1)}, {"x": np.ones(1)}) is None


@every_rule
def test_gradients_are_left_alone_and_let_go(case):
    params, g = {"x": np.ones(5)}, np.full(5, 0.5)
    opt = case.ours()
    held = sys.getrefcount(g)
    for _ in range(3):
        opt.update(params, {"x": g})
    assert sys.getrefcount(g) == held
    assert (g == 0.5).all()


@every_rule
def test_parameters_are_let_go(case):
    p, opt = np.ones(5), case.ours()
    held = sys.getrefcount(p)
    opt.update({"x": p}, {"x": np.ones(5)})
    assert sys.getrefcount(p) == held


@every_rule
def test_state_is_empty_before_the_first_update(case):
    opt = case.ours()
    assert opt.iter == 0
    for slot in case.slots:
        assert dict(getattr(opt, slot)) == {}
