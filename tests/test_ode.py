"""Heun, RK23, RK45: SciPy's classes as the oracle, orders of convergence, exact bits, errors."""

import copy
import math
import threading
import types

import numpy as np
import pytest
import scipy.integrate
from helpers import (
    LAYOUTS,
    PAST_THRESHOLD,
    bytes_at_peak,
    bytes_kept,
    copies,
    every_dtype,
    every_layout_of_both,
    read_only,
    strided,
    use_threads,
)

import fastoptim as fo
from fastoptim.kernels import use

ADAPTIVE = {"RK23": (fo.RK23, scipy.integrate.RK23), "RK45": (fo.RK45, scipy.integrate.RK45)}
ALL = [fo.Heun, fo.RK23, fo.RK45]
SCALE = np.array([1.0, 4.0, 20.0])
every_method = pytest.mark.parametrize("method", ALL, ids=lambda m: m.__name__)
# Each method with fixed steps, and within tolerances where it can.
WAYS = {
    "Heun": (fo.Heun, {}),
    "RK23": (fo.RK23, {}),
    "RK45": (fo.RK45, {}),
    "RK23 within tolerances": (fo.RK23, {"rtol": 1e-3}),
    "RK45 within tolerances": (fo.RK45, {"rtol": 1e-3}),
}
every_way = pytest.mark.parametrize(("method", "tolerances"), WAYS.values(), ids=WAYS)
every_pair = pytest.mark.parametrize(("ours", "theirs"), ADAPTIVE.values(), ids=ADAPTIVE)


# ---------------------------------------------------------------- the oracle

def quadratic(y):
    return np.linspace(0.1, 30, y.size) * y


def rosenbrock(y):
    g = np.zeros_like(y)
    g[:-1] = -400 * y[:-1] * (y[1:] - y[:-1] ** 2) - 2 * (1 - y[:-1])
    g[1:] += 200 * (y[1:] - y[:-1] ** 2)
    return g


def stiff(y):
    """A valley with walls that grow: steps have to be taken back."""
    return np.linspace(1, 50, y.size) * y + 40 * y**3


@pytest.fixture
def no_blas(monkeypatch):
    """SciPy's matrices times vectors with sums rounded once, not as this processor's BLAS does.

    The error is a small difference of large terms: with RK45 BLAS's rounding alone took 0.16 to
    0.54 of the tolerance, by processor.
    """
    monkeypatch.setattr(np, "dot", lambda a, b: np.array([math.fsum(row) for row in a * b]))


SHAPES = {"W": (3, 4), "b": (4,), "c": (), "none": (0, 3), "T": (2, 3, 4)}
VIEWS = {
    "W": np.asfortranarray, "b": strided, "c": np.copy, "none": np.copy, "T": LAYOUTS["reversed"],
}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())


def split(y):
    """A vector as a dict of parameters."""
    params, start = {}, 0
    for key, shape in SHAPES.items():
        end = start + math.prod(shape)
        params[key] = y[start:end].reshape(shape)
        start = end
    return params


def join(params):
    """A dict of parameters as a vector."""
    return np.concatenate([np.asarray(params[key]).ravel() for key in SHAPES])


# The error is a difference of slopes: of its 16 digits as many are lost as h k is larger than it.
# With Rosenbrock's steep slopes, atol=1e-6 leaves 11 equal digits of the step size, 1e-3 leaves 12.
PROBLEMS = {
    "quadratic": (quadratic, 0.01, 1e-3, 1e-6),
    "Rosenbrock": (rosenbrock, 0.01, 1e-3, 1e-3),
    "first step much too long": (stiff, 1.0, 1e-3, 1e-6),
    "first step much too short": (stiff, 1e-9, 1e-3, 1e-3),
    "tighter": (quadratic, 0.1, 1e-5, 1e-8),
}


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
@every_pair
def test_step_by_step_with_scipy(ours, theirs, problem, deterministic, no_blas):
    gradient, h, rtol, atol = PROBLEMS[problem]
    y = np.random.default_rng(1).standard_normal(SIZE)
    params = {key: VIEWS[key](a) for key, a in split(y).items()}
    calls = []

    def fn(p):
        calls.append(1)
        assert {key: a.shape for key, a in p.items()} == SHAPES
        assert all(a.dtype == np.float64 for a in p.values())
        return split(gradient(join(p)))

    opt = ours(h, rtol, atol, deterministic=deterministic)
    oracle = theirs(lambda t, y: -gradient(y), 0.0, y, np.inf, first_step=h, rtol=rtol, atol=atol)
    per_trial = oracle.n_stages
    for n in range(1, 26):
        with np.errstate(over="ignore", invalid="ignore"):  # what is taken back may have overflowed
            assert opt.step(params, fn) is None
            oracle.step()
        assert opt.time == pytest.approx(oracle.t, rel=1e-12, abs=0)
        assert opt.step_size == pytest.approx(oracle.h_abs, rel=1e-12, abs=0)
        # scipy evaluates once before the first step and once more in every trial of its own
        assert opt.rejected == (oracle.nfev - 1) // per_trial - n
        assert opt.iter == n
        # atol: an element on its way through 0 keeps the rounding of when it was larger
        np.testing.assert_allclose(join(params), oracle.y, rtol=1e-12, atol=1e-13)
    reused = n - 1 if deterministic else 0
    assert len(calls) == per_trial * (n + opt.rejected) + n - reused
    if problem == "first step much too long":
        assert opt.rejected > 1


@every_pair
def test_late_in_time_steps_are_whole_digits_of_it(ours, theirs, no_blas):
    """Where time has few digits left for h, both round h to them, and begin with ten of them."""
    y = np.random.default_rng(7).standard_normal(SIZE)
    params, opt = split(y.copy()), ours(1e-6, 1e-3, 1e-6)
    opt.load_state_dict(opt.state_dict() | {"time": 1e10})
    oracle = theirs(lambda t, y: -quadratic(y), 1e10, y, np.inf, first_step=1e-6)
    for _ in range(8):
        opt.step(params, lambda p: split(quadratic(join(p))))
        oracle.step()
        assert opt.time == oracle.t
        assert opt.step_size == pytest.approx(oracle.h_abs, rel=1e-12, abs=0)
        np.testing.assert_allclose(join(params), oracle.y, rtol=1e-12, atol=1e-13)


def test_default_tolerances_are_scipys():
    for given in ({"rtol": 1e-3}, {"atol": 1e-6}):
        params, full = {"x": SCALE.copy()}, {"x": SCALE.copy()}
        a, b = fo.RK45(0.1, **given), fo.RK45(0.1, 1e-3, 1e-6)
        for _ in range(5):
            a.step(params, lambda p: {"x": SCALE * p["x"]})
            b.step(full, lambda p: {"x": SCALE * p["x"]})
        assert params["x"].tobytes() == full["x"].tobytes()
        assert a.step_size == b.step_size != 0.1


# ---------------------------------------------------------------- order, and fixed steps' bits

@pytest.mark.parametrize(("method", "order"), [(fo.Heun, 2), (fo.RK23, 3), (fo.RK45, 5)])
def test_order_of_convergence(method, order):
    """x' = y, y' = −x(1 + x²/10), against a solution with steps a hundred times as short."""

    def end(method, n):
        params, opt = {"x": np.array([1.0]), "y": np.zeros(1)}, method(2 / n)
        for _ in range(n):
            opt.step(params, lambda p: {"x": -p["y"], "y": p["x"] * (1 + p["x"] ** 2 / 10)})
        assert opt.time == 2
        return np.concatenate([params["x"], params["y"]])

    exact = end(fo.RK45, 2048)
    errors = [np.linalg.norm(end(method, n) - exact) for n in (16, 32, 64)]
    measured = np.log2(errors[:-1]) - np.log2(errors[1:])
    assert np.all(np.abs(measured - order) < 0.3), measured


A = {
    fo.Heun: [[1.0], [0.5, 0.5]],
    fo.RK23: [[1 / 2], [0, 3 / 4], [2 / 9, 1 / 3, 4 / 9]],
    fo.RK45: [
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ],
}


def listing(rows, p, gradient, h):
    """A fixed step in NumPy, from left to right; scalars are rounded once, to the array's dtype."""
    slopes = [gradient(p)]
    for row in rows:
        terms = []
        for weight, slope in zip(row, slopes, strict=True):
            if weight != 0:
                terms.append(p.dtype.type(-h * weight) * slope)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        x = p + total
        slopes.append(gradient(x))
    return x


def cubic(x):
    return x * x * x + x


@every_dtype
@every_method
def test_fixed_steps_bit_for_bit(method, dtype, isa, threads):
    """Equal bits, not only 1e-12: kernels and NumPy round the same sums in the same order."""
    rng = np.random.default_rng(2)
    sizes = [0, 1, 127, 128, 129, 1023, 1025, PAST_THRESHOLD]
    expected = [rng.standard_normal(n).astype(dtype) for n in sizes]
    params = [p.copy() for p in expected]
    opt = method(0.01)
    for _ in range(3):
        opt.step(params, lambda p: [cubic(x) for x in p])
        expected = [listing(A[method], p, cubic, 0.01) for p in expected]
        for p, e in zip(params, expected, strict=True):
            assert p.tobytes() == e.tobytes()
    assert (opt.iter, opt.time, opt.step_size) == (3, 0.01 + 0.01 + 0.01, 0.01)


def adaptive_run(method, dtype):
    rng = np.random.default_rng(3)
    params = {n: rng.standard_normal(n).astype(dtype) for n in (0, 1, 5000, PAST_THRESHOLD)}
    opt = method(0.5, 1e-4, 1e-6)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(4):
            opt.step(params, lambda p: {key: cubic(x) for key, x in p.items()})
    return [p.tobytes() for p in params.values()], opt.step_size, opt.time, opt.rejected


@every_dtype
@pytest.mark.parametrize("method", [fo.RK23, fo.RK45])
def test_adaptive_steps_have_the_same_bits_everywhere(method, dtype, isa, threads):
    """The norm's too: else step sizes would differ."""
    bits, step_size, time, rejected = adaptive_run(method, dtype)
    use("baseline")
    use_threads(1)
    assert (bits, step_size, time, rejected) == adaptive_run(method, dtype)
    assert rejected > 0


@every_pair
def test_float32_follows_scipy_as_far_as_its_digits_go(ours, theirs, no_blas):
    y = np.random.default_rng(4).standard_normal(100)
    params = {"x": y.astype(np.float32)}
    opt = ours(0.01, 1e-2, 1e-3)
    tolerances = {"rtol": 1e-2, "atol": 1e-3}
    oracle = theirs(lambda t, y: -quadratic(y), 0.0, y, np.inf, first_step=0.01, **tolerances)
    for _ in range(5):
        opt.step(params, lambda p: {"x": quadratic(p["x"]).astype(np.float32)})
        oracle.step()
    assert params["x"].dtype == np.float32
    assert opt.step_size == pytest.approx(oracle.h_abs, rel=1e-3)
    np.testing.assert_allclose(params["x"], oracle.y, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- deterministic

def counted(fn):
    def wrapped(p):
        wrapped.calls += 1
        return fn(p)

    wrapped.calls = 0
    return wrapped


@pytest.mark.parametrize("method", [fo.RK23, fo.RK45])
def test_deterministic_saves_one_call_per_step_and_changes_nothing(method):
    runs, calls = [], []
    for deterministic in (False, True):
        params, opt = {"x": SCALE.copy()}, method(0.3, 1e-4, 1e-7, deterministic=deterministic)
        # fsum: a sum with one right answer, wherever the array lies
        fn = counted(lambda p: (math.fsum(SCALE * p["x"] ** 2) / 2, {"x": SCALE * p["x"]}))
        losses = [opt.step(params, fn) for _ in range(10)]
        runs.append((params["x"].tobytes(), opt.time, opt.step_size, opt.rejected, losses))
        calls.append(fn.calls)
    assert runs[0] == runs[1]
    assert calls[0] - calls[1] == 9


def step_and_count(opt, params, fn):
    before = fn.calls
    opt.step(params, fn)
    return fn.calls - before


def test_deterministic_looks_at_the_bits_of_the_parameters():
    params, opt = {"x": SCALE.copy(), "y": np.ones(2)}, fo.RK45(0.001, 0.1, 0.1, deterministic=True)
    fn = counted(lambda p: {key: 2 * x for key, x in p.items()})
    assert [step_and_count(opt, params, fn) for _ in range(3)] == [7, 6, 6]
    params["y"][1] = np.nextafter(params["y"][1], 2)
    assert [step_and_count(opt, params, fn) for _ in range(2)] == [7, 6]
    moved = {key: p.copy() for key, p in params.items()}  # the same bits elsewhere will do
    assert step_and_count(opt, moved, fn) == 6
    moved["z"] = np.ones(1)
    assert step_and_count(opt, moved, fn) == 7

    def fails(p):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        opt.step(moved, fails)
    assert step_and_count(opt, moved, fn) == 7
    moved["x"] += 1
    opt.lr = 0.001
    with pytest.raises(ArithmeticError):
        opt.step(moved, fails)
    assert step_and_count(opt, moved, fn) == 7  # x is where they are, but the slope is of before
    opt.deterministic = False
    assert [step_and_count(opt, moved, fn) for _ in range(2)] == [6, 7]


def test_deterministic_knows_other_parameters_in_fresh_memory():
    """Memory that was just allocated is all zeros, as these parameters are."""
    opt = fo.RK45(0.1, 0.1, 0.1, deterministic=True)
    fn = counted(lambda p: {key: x - 1 for key, x in p.items()})
    assert step_and_count(opt, {"x": np.zeros(3)}, fn) == 7
    assert step_and_count(opt, {"y": np.zeros(4)}, fn) == 7


def test_mini_batches_are_never_mixed_without_deterministic():
    """The first stage of every step sees its own batch."""
    batches = np.random.default_rng(5).standard_normal((4, 3))
    params, opt = {"x": SCALE.copy()}, fo.RK23(0.01, 1e-2, 1e-2)
    for batch in batches:
        expected = math.fsum((params["x"] - batch) ** 2) / 2
        loss = opt.step(
            params, lambda p, b=batch: (math.fsum((p["x"] - b) ** 2) / 2, {"x": p["x"] - b})
        )
        assert loss == expected


# ---------------------------------------------------------------- habits of fn and of params

@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grad_layout", LAYOUTS)
@every_method
def test_any_layout_gives_the_same_bits(method, layout, grad_layout):
    start = np.random.default_rng(6).standard_normal((4, 5, 6))
    plain, params = {"x": start.copy()}, {"x": LAYOUTS[layout](start)}
    mine, a, b = params["x"], method(0.01), method(0.01)
    for _ in range(2):
        a.step(plain, lambda p: {"x": cubic(p["x"])})
        b.step(params, lambda p: {"x": LAYOUTS[grad_layout](cubic(p["x"]))})
    assert params["x"] is mine
    assert np.array_equal(params["x"], plain["x"])


@every_way
def test_gradients_in_buffers_that_fn_uses_again(method, tolerances):
    fresh, params, buffer = {"x": np.ones(3)}, {"x": np.ones(3)}, np.empty(3)
    a, b = method(0.01, **tolerances), method(0.01, **tolerances)
    for _ in range(4):
        a.step(fresh, lambda p: {"x": cubic(p["x"])})
        b.step(params, lambda p: {"x": np.add(p["x"] ** 2 * p["x"], p["x"], out=buffer)})
        np.testing.assert_allclose(params["x"], fresh["x"], rtol=1e-14)
    frozen = np.broadcast_to(1.0, (3,))  # read-only, and every stride 0
    b.step(params, lambda p: {"x": frozen})


def gradient_of_half_the_square(p):
    return {"a": p["a"], "b": p["b"][:]}


def gradient_of_the_product(p):
    return {"a": p["b"], "b": p["a"]}


@pytest.mark.parametrize("fn", [gradient_of_half_the_square, gradient_of_the_product])
@every_method
def test_gradients_that_are_what_fn_was_given(method, fn, threads):
    n = PAST_THRESHOLD
    params = {"a": np.linspace(0, 1, n), "b": np.linspace(2, 1, n)}
    expected = copies(params)
    opt, oracle = method(0.1), method(0.1)
    for _ in range(2):
        opt.step(params, fn)
        oracle.step(expected, lambda p: copies(fn(p)))
    for key in params:
        assert params[key].tobytes() == expected[key].tobytes()


@every_method
def test_lists_floats_and_other_mappings(method):
    arrays, opt = [SCALE.copy(), np.ones(())], method(0.01)
    assert opt.step(arrays, lambda p: (1.5, [p[0], p[1]])) == 1.5
    named = {"x": SCALE.copy(), "y": 1.0, "z": np.float32(1)}

    def fn(p):
        assert type(p["y"]) is float
        assert type(p["z"]) is np.float32
        return {"x": p["x"], "y": p["y"], "z": p["z"]}

    method(0.01).step(named, fn)
    assert named["x"].tobytes() == arrays[0].tobytes()
    assert type(named["y"]) is float
    assert named["y"] == arrays[1]
    assert type(named["z"]) is np.float32
    frozen = types.MappingProxyType({"x": SCALE.copy()})
    method(0.01).step(frozen, lambda p: {"x": p["x"]})
    assert frozen["x"].tobytes() == arrays[0].tobytes()
    method(0.01).step([], lambda p: [])
    two = [np.ones(1), np.ones(1)]
    method(0.01).step(two, lambda p: (p[0], p[1]))  # a tuple of two gradients, no loss
    assert two[0] == two[1] < 1


@every_method
def test_none_leaves_a_parameter(method):
    params = {"x": SCALE.copy(), "y": np.ones(2)}
    method(0.1).step(params, lambda p: {"x": p["x"], "y": None})
    assert (params["y"] == 1).all()
    assert (params["x"] < SCALE).all()


def test_where_all_is_flat_the_step_grows_and_stays_finite():
    params, opt = {"x": np.ones(3, np.float32)}, fo.RK45(1.0, 1e-3)
    for _ in range(100):
        opt.step(params, lambda p: {"x": 0 * p["x"]})
    assert (params["x"] == 1).all()
    assert opt.step_size == 1e30
    assert math.isfinite(opt.time)


def test_a_step_too_far_is_taken_back_even_if_it_overflows():
    params, opt = {"x": np.full(3, 1e5, np.float32)}, fo.RK45(1.0, 1e-3)
    with np.errstate(all="ignore"):
        opt.step(params, lambda p: {"x": p["x"] ** 3})
    assert opt.rejected > 5
    assert np.isfinite(params["x"]).all()


def test_hyperparameters_are_live():
    opt, params = fo.RK45(0.1, 1e-3), {"x": SCALE.copy()}
    opt.step(params, lambda p: {"x": p["x"]})
    assert opt.step_size != 0.1
    opt.lr = 0.2
    assert opt.step_size == 0.2
    opt.rtol = None
    opt.step(params, lambda p: {"x": p["x"]})
    assert opt.step_size == 0.2
    assert repr(opt) == "RK45(lr=0.2, rtol=None, atol=None, deterministic=False)"
    other = copy.deepcopy(opt)
    other.step(params, lambda p: {"x": p["x"]})
    assert (opt.iter, other.iter) == (2, 3)


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("lr", 0, ValueError, r"lr must be in \(0, inf\), got 0"),
        ("lr", math.nan, ValueError, r"lr must be in"),
        ("lr", "x", TypeError, r"lr must be a number"),
        ("rtol", 0.0, ValueError, r"rtol must be in \[2.22.*e-14, inf\), got 0.0"),
        ("atol", -1, ValueError, r"atol must be in \[0, inf\), got -1"),
        ("atol", [1e-3], TypeError, r"atol must be a number"),
        ("deterministic", 1, TypeError, r"deterministic must be True or False, got 1"),
    ],
)
def test_hyperparameters_are_checked(name, value, error, text):
    with pytest.raises(error, match=text):
        fo.RK45(**({"lr": 0.1} | {name: value}))
    opt = fo.RK45(0.1)
    with pytest.raises(error, match=text):
        setattr(opt, name, value)
    assert repr(opt) == repr(fo.RK45(0.1))


@pytest.mark.parametrize("name", ["step_size", "time", "iter", "rejected", "rtoll"])
def test_what_cannot_be_assigned(name):
    with pytest.raises(AttributeError):
        setattr(fo.RK45(0.1), name, 1)


# ---------------------------------------------------------------- errors: nothing has changed

W, B = np.ones((2, 3)), np.ones(3)
BAD_RETURNS = {
    "nothing": (lambda p: None, TypeError, "fn returned None"),
    "missing key": (lambda p: {"W": p["W"]}, KeyError, r"grads has no 'b'"),
    "unknown key": (lambda p: p | {"c": B}, KeyError, r"grads has 'c', which params has not"),
    "another key": (lambda p: {"W": W, "c": B}, KeyError, r"no 'b'.*has 'c'"),
    "shape": (lambda p: p | {"W": B}, ValueError, r"grads\['W'\] has shape \(3,\).*never broadc"),
    "dtype": (lambda p: p | {"b": B.astype("f")}, TypeError, r"grads\['b'\] is float32, but"),
    "integers": (lambda p: (1.0, p | {"b": np.ones(3, int)}), TypeError, r"got int64"),
    "byte order": (lambda p: p | {"b": B.astype(">f8")}, TypeError, r"byte order"),
    "masked": (lambda p: p | {"b": np.ma.array(B)}, TypeError, r"masked array"),
    "no array": (lambda p: p | {"b": [1.0, 1.0, 1.0]}, TypeError, r"got list"),
    "a list": (lambda p: [p["W"], p["b"]], TypeError, r"both be dicts or both be lists"),
    "an array": (lambda p: p["W"], TypeError, r"grads must be a dict or a list"),
    "all None": (lambda p: dict.fromkeys(p), ValueError, r"every gradient is None"),
    "raises": (lambda p: 1 / 0, ZeroDivisionError, "division"),
}


def good(p):
    return {"W": p["W"] * 2, "b": p["b"] * 3}


def after(calls, bad):
    """A good gradient for so many calls, then a bad one."""
    made = 0

    def fn(p):
        nonlocal made
        made += 1
        return good(p) if made <= calls else bad(p)

    return fn


def snapshot(opt, params):
    return (
        [np.asarray(p).tobytes() for p in params.values()], opt.time, opt.step_size, opt.iter,
        getattr(opt, "rejected", 0),
    )


@pytest.mark.parametrize("row", BAD_RETURNS.values(), ids=BAD_RETURNS)
@every_way
def test_a_bad_gradient_at_any_stage_changes_nothing(method, tolerances, row):
    bad, error, text = row
    opt, params = method(0.01, **tolerances), {"W": W.copy(), "b": strided(B)}
    opt.step(params, good)
    before = snapshot(opt, params)
    evaluations = len(A[method]) + 1 if tolerances else len(A[method])
    for stage in range(evaluations):
        with pytest.raises(error, match=text):
            opt.step(params, after(stage, bad))
        assert snapshot(opt, params) == before
    opt.step(params, good)
    assert opt.iter == 2


TABLE = np.ones(6)
BAD_PARAMS = {
    "read-only": ({"x": read_only(np.ones(3))}, ValueError, r"params\['x'\] is read-only"),
    "integer": ({"x": np.ones(3, int)}, TypeError, r"params\['x'\] must be float32 or float64"),
    "Python integer": ({"x": 3}, TypeError, r"params\['x'\] must be a float"),
    "overlap": ({"x": TABLE[:4], "y": TABLE[2:]}, ValueError, r"'x'\] and params\['y'\] share"),
    "overlaps itself": (
        {"x": np.lib.stride_tricks.as_strided(np.ones(1), (5,), (0,))}, ValueError, "itself",
    ),
    "float that cannot be written": (
        types.MappingProxyType({"x": 3.0}), TypeError, r"mappingproxy cannot be written",
    ),
    "bare array": (np.ones(3), TypeError, r"params must be a dict or a list"),
}


@pytest.mark.parametrize("row", BAD_PARAMS.values(), ids=BAD_PARAMS)
@every_method
def test_bad_parameters_are_refused_before_fn_is_called(method, row):
    params, error, text = row
    opt, fn = method(0.1), counted(lambda p: p)
    with pytest.raises(error, match=text):
        opt.step(params, fn)
    assert fn.calls == opt.iter == opt.time == 0
    opt.step({"x": np.ones(3)}, fn)


@pytest.mark.parametrize("method", [fo.RK23, fo.RK45])
def test_numbers_that_no_step_can_help(method):
    opt, params = method(0.1, 1e-6, 0.0), {"W": W.copy(), "b": B.copy()}
    opt.step(params, good)
    before = snapshot(opt, params)
    nan = {"W": W, "b": np.array([1, np.nan, 1])}
    fn = counted(lambda p: nan)
    with pytest.raises(FloatingPointError, match=r"grads\['b'\] is not finite at index \(1,\)"):
        opt.step(params, fn)
    assert fn.calls == len(A[method]) + 1  # found in the first trial
    assert snapshot(opt, params) == before
    with pytest.raises(FloatingPointError, match=r"error of params\['b'\] is not finite"):
        opt.step(params, after(1, lambda p: nan))
    assert snapshot(opt, params) == before
    jump = 1e16  # the slope is turned round wherever it leads: the error stays with any step

    rng = np.random.default_rng(0)

    def noise(p):
        return {key: jump * rng.standard_normal(x.shape) for key, x in p.items()}

    with pytest.raises(RuntimeError, match="the error is too large even with a step of"):
        opt.step(params, noise)
    assert snapshot(opt, params) == before
    opt.step(params, good)
    assert opt.iter == 2


@every_method
def test_one_step_at_a_time(method):
    opt, params = method(0.1), {"x": np.ones(3)}

    def again(p):
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            opt.step(params, again)
        return {"x": p["x"]}

    opt.step(params, again)
    worker = threading.Thread(target=opt.step, args=(params, lambda p: {"x": p["x"]}))
    worker.start()
    worker.join()
    assert opt.iter == 2


# ---------------------------------------------------------------- memory

def deterministic_rk23(lr, **tolerances):
    return fo.RK23(lr, deterministic=True, **tolerances)


def deterministic_rk45(lr, **tolerances):
    return fo.RK45(lr, deterministic=True, **tolerances)


@every_layout_of_both
@pytest.mark.parametrize(
    ("method", "tolerances"),
    [
        *WAYS.values(), (deterministic_rk23, {"rtol": 1e-3}), (deterministic_rk45, {"rtol": 1e-3}),
    ],
)
def test_no_allocation_that_grows(method, tolerances, layout, grad_layout):
    ones = np.ones((1000, 500))
    params, grads = {"x": LAYOUTS[layout](ones)}, {"x": LAYOUTS[grad_layout](ones)}
    opt = method(0.01, **tolerances)

    def step():
        opt.step(params, lambda p: grads)

    step()
    step()
    assert bytes_at_peak(step) < 16_384
    assert bytes_kept(step) < 16_384


def at_the_first_alone(stage):
    return stage == 1


def at_all_but_the_first(stage):
    return stage > 1


@pytest.mark.parametrize("is_given", [at_the_first_alone, at_all_but_the_first])
@pytest.mark.parametrize("make", [fo.Heun, fo.RK23, lambda: fo.RK45(rtol=1e-3)])
def test_a_gradient_that_is_none_at_some_stages_is_refused(make, is_given):
    """None leaves a parameter where it is, and half a step would move it."""
    opt, params, stage = make(), {"x": np.ones(2), "y": np.ones(2)}, 0

    def fn(p):
        nonlocal stage
        stage += 1
        return {"x": p["x"], "y": p["y"] if is_given(stage) else None}

    with pytest.raises(ValueError, match=r"grads\['y'\] is None at one stage"):
        opt.step(params, fn)
    assert (params["x"] == 1).all()
    assert (params["y"] == 1).all()
    assert opt.iter == 0
    opt.step(params, lambda p: {"x": p["x"], "y": None})
    opt.step(params, lambda p: {"x": None, "y": p["y"]})
    assert opt.iter == 2
    assert (params["y"] != 1).all()
