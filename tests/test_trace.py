"""fastoptim.trace: the path is that of a loop of steps, to the bit, and is kept faithfully."""

import copy
import pickle
import time

import numpy as np
import pytest
from helpers import CLASSES, ONE_EACH, assert_same_array, assert_same_arrays, copies
from scipy import sparse

import fastoptim as fo
from fastoptim import tracing

STEPS = 6
START = {"W": np.linspace(-1, 1, 12).reshape(4, 3), "b": np.array([0.5, -0.25])}


def fn(params):
    """A loss without symmetries, and its gradients."""
    W, b = params["W"], params["b"]
    loss = float((W**4).sum() / 4 + (b * b).sum() + W[0, 0] * b[1])
    grads = {"W": W**3, "b": 2 * b}
    grads["W"][0, 0] += b[1]
    grads["b"][1] += W[0, 0]
    return loss, grads


def norm(grads):
    return np.sqrt(sum((np.asarray(g, float) ** 2).sum() for g in grads.values()))


def by_hand(opt, params, fn, steps):
    """Positions, losses and times of a loop of steps."""
    positions, losses = {key: [np.array(p)] for key, p in params.items()}, []
    times = [getattr(opt, "time", None)]
    for _ in range(steps):
        losses.append(opt.step(params, fn))
        times.append(getattr(opt, "time", None))
        for key in params:
            positions[key].append(np.array(params[key]))
    return {key: np.array(kept) for key, kept in positions.items()}, losses, times


METHODS = {
    "Heun": lambda: fo.Heun(lr=0.05),
    "RK23 fixed": lambda: fo.RK23(lr=0.05),
    "RK45 adaptive": lambda: fo.RK45(lr=0.05, rtol=1e-4),
    "RK23 deterministic": lambda: fo.RK23(lr=0.5, rtol=1e-3, deterministic=True),
    "RK45 deterministic": lambda: fo.RK45(lr=0.05, rtol=1e-4, deterministic=True),
    "soft batch": lambda: fo.SoftBatch(fo.Adam(lr=0.05), every=3),
    "soft batch that looks ahead": lambda: fo.SoftBatch(fo.Momentum(lr=0.05, lookahead=True), 2),
    "look-ahead": lambda: fo.Momentum(lr=0.05, lookahead=True),
    "schedule": lambda: fo.SGD(lr=fo.schedules.linear(0.1, 0.0, 10)),
    "groups": lambda: fo.SGD(lr=0.1, groups=[fo.Group("b", lr=0.01)]),
    **{repr(case): case.ours for case in ONE_EACH},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_the_path_is_that_of_a_loop_of_steps(make, dtype):
    params = {key: p.astype(dtype) for key, p in START.items()}
    theirs, opt, twin = copies(params), make(), make()
    positions, losses, times = by_hand(twin, theirs, fn, STEPS)
    trace = fo.trace(opt, params, fn, steps=STEPS)
    assert trace.steps == STEPS
    assert trace.ended == "steps"
    assert_same_arrays(trace.positions, positions, "positions")
    assert_same_arrays(params, theirs, "params")
    assert_same_array(trace.losses, np.array([*losses, fn(theirs)[0]]), "losses")
    if isinstance(opt, tracing.RungeKutta):
        assert_same_array(trace.flow_time, np.array(times), "flow_time")
    else:
        assert trace.flow_time is None
    # the optimizer's state goes on
    more, _, _ = by_hand(twin, theirs, fn, 3)
    assert_same_arrays(fo.trace(opt, params, fn, steps=3).positions, more, "positions")


@pytest.mark.parametrize("make", [
    METHODS[name] for name in METHODS if "ahead" not in name
], ids=[name for name in METHODS if "ahead" not in name])
def test_losses_and_norms_are_those_of_the_positions(make):
    trace = fo.trace(make(), copies(START), fn, steps=STEPS)
    for k in range(STEPS + 1):
        loss, grads = fn(trace.at(k))
        assert trace.losses[k] == loss
        assert trace.gradient_norms[k] == pytest.approx(norm(grads), rel=1e-14)


def test_losses_and_norms_are_those_of_the_points_looked_ahead_at():
    seen = []

    def watched(params):
        seen.append(fn(params))
        return seen[-1]

    trace = fo.trace(fo.Momentum(lr=0.05, lookahead=True), copies(START), watched, steps=STEPS)
    assert_same_array(trace.losses, np.array([loss for loss, _ in seen]), "losses")
    assert trace.gradient_norms == pytest.approx([norm(grads) for _, grads in seen], rel=1e-14)
    assert trace.losses[2] != fn(trace.at(2))[0]


def test_every_class_is_here():
    assert {case.cls for case in ONE_EACH} == set(CLASSES)


def test_a_rule_of_ones_own():
    @fo.rule(state=("s",), lr=0.1)
    def Tugged(p, g, s, lr):
        s += g
        return p - lr * g - 0.01 * s, s

    one, other = copies(START), copies(START)
    positions, _, _ = by_hand(Tugged(), other, fn, STEPS)
    assert_same_arrays(fo.trace(Tugged(), one, fn, STEPS).positions, positions, "positions")


def rows_twice(params):
    return {"W": fo.Rows(np.array([1, 3, 1]), np.array([[1.0, 2, 2], [0, 4, 3], [2.0, 2, 1]]))}


def matrix_twice(params):
    index = np.array([1, 1, 3, 3]), np.array([0, 0, 1, 2])
    return {"W": sparse.coo_array((np.array([1.0, 2.0, 4.0, 3.0]), index), shape=(4, 3))}


@pytest.mark.parametrize(("grads_of", "size"), [(rows_twice, 9 + 16 + 9 + 16 + 9),
                                              (matrix_twice, 9 + 16 + 9)])
def test_gradients_of_rows(grads_of, size):
    """Rows and elements that are there twice are summed before they are squared."""
    one, other = {"W": START["W"].copy()}, {"W": START["W"].copy()}
    positions, _, _ = by_hand(fo.Adam(), other, grads_of, 3)
    trace = fo.trace(fo.Adam(), one, grads_of, 3)
    assert_same_arrays(trace.positions, positions, "positions")
    assert trace.losses is None
    assert trace.gradient_norms == pytest.approx([np.sqrt(size)] * 4, rel=1e-15)
    assert repr(trace).endswith(": 3 steps>")


def test_lists():
    params = [np.array([3.0, 4.0]), np.array(1.0)]
    trace = fo.trace(fo.SGD(lr=0.5), params, lambda p: (0.0, [p[0], None]), steps=2)
    assert_same_array(trace.positions[0], np.array([[3, 4], [1.5, 2], [0.75, 1]]), "0")
    assert_same_array(trace.positions[1], np.ones(3), "1")
    assert list(trace.gradient_norms) == [5, 2.5, 1.25]
    at = trace.at(1)
    assert isinstance(at, list)
    assert_same_array(at[0], np.array([1.5, 2]), "at")


def test_numbers_of_python():
    params = {"x": 8.0, "y": np.float32(2)}
    params["y"] = np.array(params["y"])
    seen = []

    def square(p):
        seen.append(type(p["x"]))
        return p["x"] * p["x"], {"x": 2 * p["x"], "y": np.zeros((), np.float32)}

    trace = fo.trace(fo.SGD(lr=0.25), params, square, steps=3)
    assert_same_array(trace.positions["x"], np.array([8.0, 4, 2, 1]), "x")
    assert trace.positions["y"].dtype == np.float32
    assert params["x"] == 1.0
    assert type(trace.at(1)["x"]) is float
    assert trace.at(1)["y"].shape == ()
    assert set(seen) == {float}


class Network:
    """A mapping only in that it has keys, as some networks are."""

    def __init__(self):
        self.arrays = copies(START)

    def keys(self):
        return self.arrays.keys()

    def __getitem__(self, key):
        return self.arrays[key]


def test_anything_that_has_keys():
    network, params = Network(), copies(START)

    def through(given):
        loss, grads = fn(given)
        mapping = Network()
        mapping.arrays = grads
        return loss, mapping

    trace = fo.trace(fo.Adam(), network, through, steps=2)
    assert_same_arrays(
        trace.positions, fo.trace(fo.Adam(), params, fn, steps=2).positions, "positions"
    )
    assert trace.gradient_norms[0] == pytest.approx(norm(fn(START)[1]), rel=1e-14)


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_path_of_an_optimizer_that_has_made_steps(make):
    """A deterministic method begins with a gradient that it has kept, and calls fn elsewhere."""
    params, opt, twin = copies(START), make(), make()
    theirs = copies(params)
    for _ in range(4):
        opt.step(params, fn)
        twin.step(theirs, fn)
    positions, losses, _ = by_hand(twin, theirs, fn, 3)
    seen = []
    trace = fo.trace(opt, params, fn, steps=3, stop=seen.append)
    assert_same_arrays(trace.positions, positions, "positions")
    assert_same_array(trace.losses, np.array([*losses, fn(theirs)[0]]), "losses")
    assert [now.loss for now in seen] == list(trace.losses)
    if isinstance(opt, tracing.RungeKutta):  # all others may look ahead
        expected = [norm(fn(trace.at(step))[1]) for step in range(4)]
        assert np.allclose(trace.gradient_norms, expected, rtol=1e-12)


def test_memory_that_fn_uses_again():
    loss, grads = np.empty(()), {"x": np.empty(1)}

    def same(p):
        loss[...], grads["x"][0] = p["x"][0] ** 2, 2 * p["x"][0]
        return loss, grads

    trace = fo.trace(fo.SGD(lr=0.25), {"x": np.array([8.0])}, same, steps=2)
    assert list(trace.losses) == [64, 16, 4]
    assert list(trace.gradient_norms) == [16, 8, 4]


def test_memory_that_fn_uses_again_with_a_gradient_from_the_step_before():
    grads = {"x": np.empty(1)}

    def same(p):
        grads["x"][:] = p["x"] ** 3
        return float(p["x"][0]), grads

    def new(p):
        return float(p["x"][0]), {"x": p["x"] ** 3}

    for before in (0, 2):
        norms = []
        for fn in (same, new):
            opt, params = fo.RK45(rtol=1e-6, deterministic=True), {"x": np.ones(1)}
            for _ in range(before):
                opt.step(params, fn)
            norms.append(fo.trace(opt, params, fn, 4).gradient_norms)
        assert_same_array(*norms, "gradient_norms")


def test_zeroed_gradients_are_measured_before():
    trace = fo.trace(fo.SGD(lr=0.25, zero_grads=True), {"x": np.array(8.0)}, square, steps=1)
    assert list(trace.gradient_norms) == [16, 8]


# ---------------------------------------------------------------- stop


def square(p):
    return float(p["x"] ** 2), {"x": 2 * p["x"]}


def eight():
    return {"x": np.array(8.0)}


def test_stop_below_a_gradient():
    opt, params = fo.SGD(lr=0.25), eight()
    trace = fo.trace(opt, params, square, stop=1.0)  # 16, 8, 4, 2, 1: 1 is not below 1
    assert list(trace.gradient_norms) == [16, 8, 4, 2, 1, 0.5]
    assert (trace.ended, trace.steps, opt.iter, float(params["x"])) == ("gradient", 5, 5, 0.25)
    assert all(len(a) == 6 for a in (trace.losses, trace.time, trace.positions["x"]))


def test_stop_takes_the_sum_of_all_elements():
    """So gradients that cancel end the path, too; those of several keys are added."""
    grads = {"a": np.array([3.0, 1.0]), "b": np.array(-4.5)}
    params = {"a": np.zeros(2), "b": np.array(0.0)}
    assert fo.trace(fo.SGD(), params, lambda p: grads, stop=0.6).steps == 0
    assert fo.trace(fo.SGD(), params, lambda p: grads, steps=3, stop=0.4).steps == 3


def test_stop_at_the_end_of_all_steps():
    trace = fo.trace(fo.SGD(lr=0.25), eight(), square, steps=5, stop=1.0)
    assert (trace.steps, trace.ended) == (5, "gradient")


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_callable_stop_sees_the_position_and_the_step_is_not_made(make):
    seen = []

    def stop(now):
        seen.append((now, {key: p.copy() for key, p in now.params.items()}))
        with pytest.raises(ValueError, match="read-only"):
            now.params["W"][0, 0] = 9
        return now.step == 3

    opt, params, other = make(), copies(START), copies(START)
    trace = fo.trace(opt, params, fn, stop=stop)
    assert (trace.steps, trace.ended) == (3, "callable")
    whole = fo.trace(make(), other, fn, steps=3)
    assert_same_arrays(trace.positions, whole.positions, "positions")
    assert_same_arrays(params, other, "params")
    assert [now.step for now, _ in seen] == [0, 1, 2, 3]
    for now, at in seen:
        assert_same_arrays(at, trace.at(now.step), "params of Now")
        assert now.loss == trace.losses[now.step]
        assert norm(now.grads) == pytest.approx(trace.gradient_norms[now.step], rel=1e-14)
    more, less = fo.trace(opt, params, fn, steps=2), copies(START)
    assert_same_arrays(
        more.at(2), fo.trace(make(), less, fn, steps=5).at(5), "after the path that was stopped"
    )


def test_no_steps():
    trace = fo.trace(fo.Adam(), eight(), square, steps=0)
    assert (trace.steps, list(trace.losses), list(trace.time)) == (0, [64], [0])


# ---------------------------------------------------------------- what a Trace is


def test_time_is_that_of_the_steps_alone(monkeypatch):
    """Not that of keeping the path."""
    clock = [0.0]
    monkeypatch.setattr(tracing, "perf_counter", lambda: clock[0])
    measured = tracing.norm_and_sum

    def slow(grads):
        clock[0] += 100
        return measured(grads)

    monkeypatch.setattr(tracing, "norm_and_sum", slow)

    def ticking(p):
        clock[0] += 2
        return square(p)

    trace = fo.trace(fo.SGD(), eight(), ticking, steps=3)
    assert list(trace.time) == [0, 2, 4, 6]


def test_time_is_in_seconds():
    def slow(p):
        time.sleep(0.01)
        return square(p)

    trace = fo.trace(fo.SGD(), eight(), slow, steps=2)
    assert (np.diff(trace.time) >= 0.01).all()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_trace_can_be_copied_and_sent(again):
    trace = fo.trace(fo.Heun(), {"x": 8.0}, square, steps=3)
    twin = again(trace)
    assert_same_arrays(twin.positions, trace.positions, "positions")
    assert repr(twin) == repr(trace)
    assert type(twin.at(1)["x"]) is float
    assert trace != twin
    assert trace == trace


def test_what_is_kept_is_no_view():
    params = eight()
    trace = fo.trace(fo.SGD(lr=0.25), params, square, steps=1)
    params["x"][...] = 5
    trace.at(0)["x"][...] = 7
    assert list(trace.positions["x"]) == [8, 4]


def test_a_path_to_infinity_is_kept_without_a_warning():
    trace = fo.trace(fo.SGD(lr=1e200), eight(), lambda p: {"x": 1e200 * p["x"]}, steps=3)
    assert not np.isfinite(trace.gradient_norms[1:]).any()


# ---------------------------------------------------------------- bad input

BAD = [
    (TypeError, "opt must be an optimizer of fastoptim, got int", {"opt": 3}),
    (TypeError, "got its class; write SGD()", {"opt": fo.SGD}),
    (TypeError, "fn must be a function of params, got dict", {"fn": {}}),
    (TypeError, "steps must be a whole number of at least 0, got 3.0", {"steps": 3.0}),
    (TypeError, "steps must be a whole number of at least 0, got True", {"steps": True}),
    (ValueError, "steps must be a whole number of at least 0, got -1", {"steps": -1}),
    (TypeError, "stop must be a number, a callable or None, got '1'", {"stop": "1"}),
    (TypeError, "stop must be a number, a callable or None, got True", {"stop": True}),
    (ValueError, "stop must be in (0, inf), got 0", {"stop": 0}),
    (ValueError, "stop must be in (0, inf), got nan", {"stop": float("nan")}),
    (ValueError, "stop must be in (0, inf), got inf", {"stop": float("inf")}),
    (TypeError, "params must be a dict or a list of NumPy arrays, got NoneType", {"params": None}),
    (TypeError, "params must be a dict or a list of NumPy arrays, got ndarray; put the array",
     {"params": np.zeros(2)}),
    (TypeError, "params['x'] must be a float or an array", {"params": {"x": 3}}),
    (TypeError, "fn returned None", {"fn": lambda p: None}),
    (TypeError, "fn's loss must be a number, got str", {"fn": lambda p: ("low", {"x": p["x"]})}),
    (TypeError, "fn's loss must be a number, got ndarray",
     {"fn": lambda p: (np.zeros(2), {"x": p["x"]})}),
    (KeyError, "grads has no 'x'", {"fn": lambda p: {"y": p["x"]}}),
    (TypeError, "grads['x'] must be", {"fn": lambda p: {"x": "steep"}}),
    (ValueError, "shape", {"fn": lambda p: (0.0, {"x": np.zeros(3)})}),
]


@pytest.mark.parametrize(("error", "text", "given"), BAD, ids=[text for _, text, _ in BAD])
def test_bad_input_changes_nothing(error, text, given):
    opt, params = fo.Adam(), eight()
    call = {"opt": opt, "params": params, "fn": square} | given
    with pytest.raises(error) as caught:
        fo.trace(**call)
    assert text in str(caught.value)
    assert (opt.iter, float(params["x"])) == (0, 8.0)


def test_a_fault_on_the_way_leaves_what_the_last_step_left():
    opt, params = fo.SGD(lr=0.25), eight()

    def failing(p):
        if p["x"] < 3:
            raise ZeroDivisionError
        return square(p)

    with pytest.raises(ZeroDivisionError):
        fo.trace(opt, params, failing)
    assert (opt.iter, float(params["x"])) == (2, 2.0)


# ---------------------------------------------------------------- SoftBatch.step


def test_a_step_of_a_soft_batch_is_an_update_of_it():
    soft, other = fo.SoftBatch(fo.Adam(lr=0.1), every=3), fo.SoftBatch(fo.Adam(lr=0.1), every=3)
    params, theirs = copies(START), copies(START)
    for k in range(7):
        loss, grads = fn(theirs)
        assert soft.step(params, fn) == loss
        other.update(theirs, grads)
        assert soft.pending == other.pending == (k + 1) % 3
        assert_same_arrays(params, theirs, "params")
    assert soft.step(params, lambda p: fn(p)[1]) is None


def test_a_step_of_a_soft_batch_looks_ahead():
    """Every call of a batch evaluates at p + αv, of the v that the last whole batch left."""
    soft = fo.SoftBatch(fo.Momentum(lr=0.25, alpha=0.5, lookahead=True), every=2)
    params, seen = eight(), []

    def watched(p):
        seen.append(float(p["x"]))
        return square(p)

    for _ in range(4):
        soft.step(params, watched)
    assert seen == [8, 8, 2, 2]  # v = −0.25·16 = −4, p = 4, p + v/2 = 2
    assert float(params["x"]) == 4 + (0.5 * -4 - 0.25 * 4)


def test_a_refused_step_of_a_soft_batch_changes_nothing():
    soft, params = fo.SoftBatch(fo.SGD(), every=2), eight()
    with pytest.raises(KeyError):
        soft.step(params, lambda p: {"y": 1.0})
    assert (soft.pending, float(params["x"])) == (0, 8)


# ---------------------------------------------------------------- problems


@pytest.mark.parametrize("problem", fo.problems.ALL.values(), ids=fo.problems.ALL)
def test_gradients_of_problems_are_right(problem):
    rng = np.random.default_rng(0)
    for _ in range(5):
        at = rng.uniform(-2, 2, len(problem.first))
        _, grads = problem(problem.start(*at))
        for k, key in enumerate(problem.first):
            step = 1e-6 * (np.arange(len(at)) == k)
            above, below = (problem(problem.start(*(at + s)))[0] for s in (step, -step))
            assert grads[key] == pytest.approx((above - below) / 2e-6, abs=1e-5)


@pytest.mark.parametrize("problem", fo.problems.ALL.values(), ids=fo.problems.ALL)
def test_minima_of_problems(problem):
    """The gradient is 0 there, the loss rises around, and the deepest comes first."""
    depths = [problem(problem.start(*at))[0] for at in problem.minima]
    assert depths == sorted(depths)
    for at in problem.minima:
        loss, grads = problem(problem.start(*at))
        assert not any(grads.values())
        for shift in np.vstack([np.eye(len(at)), -np.eye(len(at))]):
            assert problem(problem.start(*(np.array(at) + 1e-3 * shift)))[0] > loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("problem", fo.problems.ALL.values(), ids=fo.problems.ALL)
def test_problems_take_every_dtype_and_whole_numbers(problem, dtype):
    params = {key: p.astype(dtype) for key, p in problem.start().items()}
    assert all(g.dtype == dtype for g in problem(params)[1].values())
    fo.SGD().step(params, problem)
    fo.SGD().step(problem.start(*[1] * len(params)), problem)
    fo.SGD().step(dict(problem.first), problem)


def test_a_start_of_another_length():
    with pytest.raises(ValueError, match=r"valley has 2 parameters \(x, y\), got 3 numbers"):
        fo.problems.valley.start(1, 2, 3)


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_sam_around_a_deterministic_method_is_looked_at_where_each_step_begins(tolerance):
    """Its steps begin with a gradient that is known, so the first call of fn is elsewhere."""
    opt = fo.SAM(fo.RK23(lr=0.1, rtol=tolerance, deterministic=True))

    def fn(params):
        return float(params["x"] @ params["x"]), {"x": 2.0 * params["x"]}

    opt.step({"x": np.array([4.0, 1.0])}, fn)       # a step before the path begins
    path = fo.trace(opt, {"x": np.array([4.0, 1.0])}, fn, steps=4)
    there = path.positions["x"]
    np.testing.assert_allclose(path.losses, (there**2).sum(axis=1), rtol=1e-15)
    norms = 2 * np.sqrt((there**2).sum(axis=1))
    np.testing.assert_allclose(path.gradient_norms, norms, rtol=1e-15)
    assert path.flow_time is not None
    assert path.flow_time[-1] == opt.opt.time
