"""Options that look at whole tensors: each against a few lines of NumPy and its norms."""

import math

import numpy as np
import pytest

import fastoptim as fo

NORM = np.linalg.norm


def stepped(opt, p, g):
    """A parameter after one update."""
    params = {"x": p.copy()}
    opt.update(params, {"x": g.copy()})
    return params["x"]


def drawn(*shape):
    """A parameter and a gradient."""
    rng = np.random.default_rng(11)
    return rng.standard_normal(shape), rng.standard_normal(shape)


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (30, 41), (3, 4, 300)], ids=str)
@pytest.mark.parametrize("make", [fo.SGD, fo.Adam, fo.AdamW, fo.RMSprop, fo.Lion, fo.LAMB])
def test_a_trusted_step_has_the_length_of_the_parameter_times_the_rate(make, shape):
    p, g = drawn(*shape)
    near(NORM(stepped(make(lr=0.1, trust_ratio=True), p, g) - p), 0.1 * NORM(p))


@pytest.mark.parametrize(("bounds", "ratio"), [((0.0, 0.3), 0.3), ((50, 60), 50), ((0, 99), None)])
def test_a_trust_ratio_within_bounds(bounds, ratio):
    p, g = drawn(30, 41)
    if ratio is None:
        ratio = NORM(p) / NORM(g)
    near(stepped(fo.SGD(lr=0.1, trust_ratio=bounds), p, g), p - 0.1 * ratio * g)


def test_the_step_has_what_decay_adds():
    p, g = drawn(30, 41)
    step = g + 0.3 * p
    expected = p - 0.1 * NORM(p) / NORM(step) * step
    for decoupled in (False, True):
        opt = fo.SGD(lr=0.1, trust_ratio=True, weight_decay=0.3, decoupled=decoupled)
        near(stepped(opt, p, g), expected)


def test_lamb():
    """Algorithm 2 of the paper, the second step too."""
    p, g = drawn(30, 41)
    opt, params, m, v = fo.LAMB(lr=0.1, weight_decay=0.3), {"x": p.copy()}, 0.0, 0.0
    for t in (1, 2):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        r = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.3 * p
        p = p - 0.1 * NORM(p) / NORM(r) * r
        opt.update(params, {"x": g.copy()})
        near(params["x"], p)


@pytest.mark.parametrize("form", ["published", "norm_of_sum"])
def test_lars(form):
    p, g = drawn(30, 41)
    opt, params = fo.LARS(lr=0.1, trust=0.5, eps=0.2, weight_decay=0.3, form=form), {"x": p.copy()}
    v = 0.0
    for _ in range(2):
        below = NORM(g) + 0.3 * NORM(p) if form == "published" else NORM(g + 0.3 * p)
        v = 0.9 * v - 0.1 * 0.5 * NORM(p) / (below + 0.2) * (g + 0.3 * p)
        p = p + v
        opt.update(params, {"x": g.copy()})
        near(params["x"], p)


@pytest.mark.parametrize("shape", [(30, 41), (700, 60), (3, 4, 30)], ids=str)
def test_adaptive_clipping_of_columns(shape):
    p, g = drawn(*shape)
    p[..., 0] = 1e-9
    axes = tuple(range(p.ndim - 1))
    most = 0.5 * np.maximum(NORM(p.reshape(-1, shape[-1]), axis=0), 1e-3)
    factor = np.minimum(1, most / np.sqrt((g**2).sum(axis=axes)))
    near(stepped(fo.SGD(lr=1.0, agc=0.5), p, g), p - factor * g)


@pytest.mark.parametrize("shape", [(5000,), (1, 50), (50, 1), (1, 50, 1), ()], ids=str)
def test_adaptive_clipping_of_what_is_one_vector(shape):
    p, g = drawn(*shape)
    factor = min(1, 0.5 * max(NORM(p.ravel()), 1e-3) / NORM(g.ravel()))
    near(stepped(fo.SGD(lr=1.0, agc=0.5), np.asarray(p), np.asarray(g)), p - factor * g)


@pytest.mark.parametrize("shape", [(30, 41), (3, 4, 300), (1, 2000)], ids=str)
def test_rows_of_a_centred_gradient_sum_to_zero(shape):
    _, g = drawn(*shape)
    after = stepped(fo.SGD(lr=1.0, centralize=True), np.zeros(shape), g)
    axes = tuple(range(1, len(shape)))
    near(after.sum(axis=axes), np.zeros(shape[0]))
    near(after, g.mean(axis=axes, keepdims=True) - g)


@pytest.mark.parametrize("shape", [(7,), (7, 1)], ids=str)
def test_rows_of_one_element_are_not_centred(shape):
    p, g = drawn(*shape)
    np.testing.assert_array_equal(stepped(fo.SGD(lr=1.0, centralize=True), p, g), p - g)


def test_clipping_comes_before_the_mean_and_decay_after():
    p, g = drawn(30, 41)
    opt = fo.SGD(lr=1.0, clip_norm=2.0, centralize=True, weight_decay=0.1, maximize=True)
    seen = -2.0 / NORM(g) * g
    near(stepped(opt, p, g), p - (seen - seen.mean(axis=1, keepdims=True) + 0.1 * p))


@pytest.mark.parametrize("shape", [(30, 41), (700, 60), (3, 4, 30), (1, 20), (20, 1)], ids=str)
@pytest.mark.parametrize("per", ["column", "row"])
def test_norms_after_a_constraint(per, shape):
    p, g = drawn(*shape)
    free = p - 0.1 * g
    axes = tuple(range(1, len(shape))) if per == "row" else tuple(range(len(shape) - 1))
    norms = np.sqrt((free**2).sum(axis=axes, keepdims=True))
    middle = float(np.median(norms))
    near(stepped(fo.SGD(lr=0.1, constraint=fo.UnitNorm(per)), p, g), free / norms)
    after = stepped(fo.SGD(lr=0.1, constraint=fo.MaxNorm(middle, per)), p, g)
    near(after, free * np.minimum(1, middle / norms))
    small = np.broadcast_to(norms < middle, shape)
    np.testing.assert_array_equal(after[small], free[small])


def test_a_vector_has_one_norm():
    p, g = drawn(5000)
    for constraint in ("unit_norm", fo.UnitNorm("row"), fo.MaxNorm(1), fo.MaxNorm(1, "row")):
        near(NORM(stepped(fo.SGD(constraint=constraint), p, g)), 1)


@pytest.mark.parametrize(
    ("constraint", "low", "high"),
    [("nonnegative", 0, math.inf), ((-0.5, 0.25), -0.5, 0.25), ([-math.inf, 0], -math.inf, 0)],
)
def test_bounds(constraint, low, high):
    p, g = drawn(30, 41)
    after = stepped(fo.SGD(lr=0.1, constraint=constraint), p, g)
    np.testing.assert_array_equal(after, np.clip(p - 0.1 * g, low, high))
