"""The gradient at the future position."""

import numpy as np
import pytest
from helpers import arrays, assert_same_arrays, copies, every_dtype

import fastoptim as fo
from fastoptim import listings

SHAPES = {"W": (30, 41), "b": (7,), "e": (0,), "s": ()}


def gradient(params):
    """Of Σ(p⁴ + p²)/2, and the loss."""
    loss = sum(float(((p**4 + p**2) / 2).sum()) for p in params.values())
    return loss, {key: np.asarray(2 * p**3 + p, dtype=p.dtype) for key, p in params.items()}


@every_dtype
def test_step_is_nesterovs_gradient_at_the_future_position(dtype, threads):
    rng = np.random.default_rng(0)
    expected = arrays(rng, SHAPES, dtype)
    params = copies(expected)
    opt, oracle = fo.Momentum(lr=0.01, alpha=0.8, lookahead=True), listings.Momentum(0.01, 0.8)
    for _ in range(6):
        ahead = {key: np.asarray(p + 0.8 * oracle.v.get(key, 0)) for key, p in expected.items()}
        loss, grads = gradient(ahead)
        before = copies(params)
        position = opt.lookahead(params)
        assert_same_arrays(position, ahead, "position")
        assert_same_arrays(params, before, "params")
        assert opt.step(params, gradient) == loss
        oracle.update(expected, grads)
        assert_same_arrays(params, expected, "params")
        assert_same_arrays(opt.v, oracle.v, "v")


def test_it_is_the_reformulated_rule_seen_from_elsewhere():
    """p + αv moves as the parameters of Nesterov (arXiv 1212.0901) do."""
    seen, plain = {"x": np.array([5.0, 1.0])}, {"x": np.array([5.0, 1.0])}
    opt, nesterov = fo.Momentum(0.005, 0.5, lookahead=True), fo.Nesterov(0.005, 0.5)
    for _ in range(50):
        opt.step(seen, lambda p: {"x": np.array([2.0, 100.0]) * p["x"]})
        nesterov.update(plain, {"x": np.array([2.0, 100.0]) * plain["x"]})
        assert np.allclose(opt.lookahead(seen)["x"], plain["x"], rtol=1e-12, atol=1e-15)


def test_memory_is_used_again():
    params, opt = {"x": np.ones(1000), "y": np.ones((20, 30))[:, ::2]}, fo.Momentum()
    first = opt.lookahead(params)
    assert np.array_equal(first["x"], params["x"])
    opt.update(params, {"x": np.ones(1000), "y": np.ones((20, 15))})
    second = opt.lookahead(params)
    assert np.shares_memory(first["x"], second["x"])
    assert np.shares_memory(first["y"], second["y"])
    assert not first["x"].flags.writeable
    assert not np.shares_memory(first["x"], params["x"])


def test_flag_and_function():
    opt = fo.Momentum(lookahead=True)
    assert repr(opt) == "Momentum(lr=0.01, alpha=0.9, lookahead=True)"
    assert opt.lookahead
    assert opt.lookahead == True  # noqa: E712
    opt.lookahead = False
    assert not opt.lookahead
    assert repr(opt) == "Momentum(lr=0.01, alpha=0.9)"
    with pytest.raises(TypeError, match="lookahead must be True or False"):
        opt.lookahead = 1
    with pytest.raises(TypeError, match="lookahead concerns the whole update"):
        fo.Group("x", lookahead=True)
    state = fo.Momentum(lookahead=True).state_dict()
    assert state["hyperparameters"]["lookahead"] is True
    other = fo.Momentum()
    other.load_state_dict(state)
    assert other.lookahead


def test_lists_floats_none_and_groups():
    opt, params = fo.Momentum(1.0, 0.5), [np.zeros(2), 0.0, np.zeros(2)]
    opt.update(params, [np.ones(2), 1.0, None])
    ahead = opt.lookahead(params)
    assert ahead[0].tolist() == [-1.5, -1.5]
    assert ahead[1] == -1.5
    assert ahead[2].tolist() == [0, 0]
    opt = fo.Momentum(1.0, alpha=lambda step: 0.5 * step, groups=[fo.Group("a", alpha=0.25)])
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    opt.update(params, {"a": np.ones(1), "b": np.ones(1)})
    assert {key: p[0] for key, p in opt.lookahead(params).items()} == {"a": -1.25, "b": -1.5}


def test_what_it_gives_is_no_parameter():
    opt, params = fo.Momentum(lookahead=True), {"x": np.ones(1000)}
    given = opt.lookahead(params)
    with pytest.raises(ValueError, match="read-only"):
        opt.lookahead(given)
    given["x"].flags.writeable = True
    with pytest.raises(ValueError, match=r"params\['x'\] is memory of this optimizer's own"):
        opt.step(given, lambda p: {"x": np.ones(1000)})
    opt.step(params, lambda p: {"x": np.ones(1000)})
    assert opt.iter == 1


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (np.ones((2, 2)), ValueError, r"params\['W'\] has shape \(2, 2\), but its state has shape "
         r"\(4,\) from earlier updates; use another key"),
        (np.ones(4, np.float32), TypeError, r"params\['W'\] is float32, but its state is float64 "
         r"from earlier updates; convert"),
    ],
)
def test_another_shape_or_dtype_is_said_of_the_parameter(bad, error, text):
    opt, params = fo.Momentum(lookahead=True), {"W": np.ones(4)}
    opt.step(params, lambda p: {"W": p["W"]})
    calls = []
    for call in (opt.lookahead, lambda p: opt.step(p, calls.append)):
        with pytest.raises(error, match=text):
            call({"W": bad})
    assert not calls
    opt.step(params, lambda p: {"W": p["W"]})
    assert opt.iter == 2


@pytest.mark.parametrize(
    ("fn", "error"),
    [
        (lambda p: {"y": p["x"]}, KeyError),
        (lambda p: None, TypeError),
        (lambda p: 1 / 0, ZeroDivisionError),
    ],
)
def test_errors_change_nothing(fn, error):
    opt, params = fo.Momentum(lookahead=True), {"x": np.ones(3)}
    opt.update(params, {"x": np.ones(3)})
    before, v = params["x"].copy(), opt.v["x"].copy()
    with pytest.raises(error):
        opt.step(params, fn)
    assert np.array_equal(params["x"], before)
    assert np.array_equal(opt.v["x"], v)
    opt.step(params, lambda p: {"x": p["x"]})
