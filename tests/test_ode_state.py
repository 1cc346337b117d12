"""Heun, RK23 and RK45 in real training: schedules, saving, copies, what is refused."""

import copy
import warnings

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import schedules

ALL = [fo.Heun, fo.RK23, fo.RK45]
every_method = pytest.mark.parametrize("method", ALL, ids=lambda m: m.__name__)
CASES = {
    "Heun": lambda **more: fo.Heun(**({"lr": 0.05} | more)),
    "RK23": lambda **more: fo.RK23(**({"lr": 0.05} | more)),
    "RK45": lambda **more: fo.RK45(**({"lr": 0.05} | more)),
    "RK23, tolerances": lambda: fo.RK23(1.0, 1e-3, 1e-5),
    "RK45, tolerances": lambda: fo.RK45(1.0, 1e-3, 1e-5),
    "RK45, deterministic": lambda: fo.RK45(1.0, 1e-3, 1e-5, deterministic=True),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def start():
    return {"W": np.linspace(-2, 2, 1500), "b": np.linspace(0, 1, 4, dtype=np.float32), "x": 0.5}


def fn(p):
    return float(np.sum(p["W"] ** 2)), {key: x * x * x + x for key, x in p.items()}


def bits(params):
    return [np.asarray(p).tobytes() for p in params.values()]


def numbers(opt):
    return opt.iter, opt.time, opt.step_size, getattr(opt, "rejected", None), repr(opt)


@every_method
def test_lr_has_a_default(method):
    assert method().lr == method().step_size == 0.01
    other = method()
    other.lr = 0.5
    assert (other.lr, method().lr) == (0.5, 0.01)


# ---------------------------------------------------------------- schedules

@every_method
def test_a_schedule_is_the_number_it_gives_at_each_step(method):
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.1 / (1 + step)

    a, b, opt, by_hand = start(), start(), method(schedule), method()
    for step in range(5):
        by_hand.lr = 0.1 / (1 + step)
        assert opt.step_size == by_hand.step_size
        asked.clear()
        opt.step(a, fn)
        by_hand.step(b, fn)
        assert set(asked) == {step}
        assert bits(a) == bits(b)
        assert opt.time == by_hand.time
    assert opt.lr is schedule


@every_method
def test_a_schedule_that_ends_at_0_stays_where_it_is(method):
    params, opt = start(), method(schedules.linear(0.1, 0.0, 2))
    for _ in range(2):
        opt.step(params, fn)
    before, time = bits(params), opt.time
    opt.step(params, fn)
    assert bits(params) == before
    assert (opt.iter, opt.time, opt.step_size) == (3, time, 0.0)


@pytest.mark.parametrize(
    ("schedule", "error", "text"),
    [
        (lambda step: -1.0, ValueError, r"lr must be in \[0, inf\), got -1.0"),
        (lambda step: float("nan"), ValueError, "lr must be in"),
        (lambda step: "x", TypeError, "lr must be a number"),
        (lambda step: 1 / 0, ZeroDivisionError, "division"),
        (lambda step: 1e300, ValueError, "which float32 cannot hold"),
    ],
)
@every_method
def test_a_bad_schedule_changes_nothing(method, schedule, error, text):
    params, opt = start(), method(0.01)
    opt.step(params, fn)
    before, time = bits(params), opt.time
    opt.lr = schedule
    with pytest.raises(error, match=text):
        opt.step(params, fn)
    assert (bits(params), opt.iter, opt.time) == (before, 1, time)
    opt.lr = 0.01
    opt.step(params, fn)
    assert opt.iter == 2


def tenth(step):
    return 0.1


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("method", [fo.RK23, fo.RK45])
def test_a_schedule_and_tolerances_are_refused_in_any_order(method, name):
    with pytest.raises(ValueError, match="lr cannot be a schedule together with rtol or atol"):
        method(tenth, **{name: 1e-3})
    opt = method(0.1, **{name: 1e-3})
    with pytest.raises(ValueError, match="lr cannot be a schedule"):
        opt.lr = tenth
    opt = method(tenth)
    with pytest.raises(ValueError, match="lr cannot be a schedule"):
        setattr(opt, name, 1e-3)
    assert (opt.lr, opt.rtol, opt.atol) == (tenth, None, None)
    with pytest.raises(TypeError, match=f"{name} must be a number"):
        method(0.1, **{name: tenth})


# ---------------------------------------------------------------- saving

def through_dict(opt, other, path):
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    return other


def through_file(opt, other, path):
    opt.save(path)
    other.load(path)
    return other


def through_deepcopy(opt, other, path):
    return copy.deepcopy(opt)


@pytest.mark.parametrize("way", [through_dict, through_file, through_deepcopy])
@every_case
def test_training_goes_on_as_if_it_had_never_stopped(case, way, tmp_path):
    params, opt = start(), case()
    for _ in range(3):
        opt.step(params, fn)
    again = copy.deepcopy(params)
    resumed = way(opt, type(opt)(), tmp_path / "ode.safetensors")
    assert numbers(resumed) == numbers(opt)
    for _ in range(5):
        assert opt.step(params, fn) == resumed.step(again, fn)
        assert bits(params) == bits(again)
        assert numbers(resumed) == numbers(opt)


@every_case
def test_a_state_is_plain_and_its_own(case):
    params, opt = start(), case()
    opt.step(params, fn)
    saved = opt.state_dict()
    kept = copy.deepcopy(saved)
    assert set(saved) == {
        "format", "fastoptim", "rule", "iter", "time", "step_size", "rejected", "hyperparameters",
        "schedules",
    }
    opt.step(params, fn)
    assert saved == kept


def test_a_schedule_is_not_saved():
    def schedule(step):
        return 0.5**step

    opt, params = fo.Heun(schedule), start()
    opt.step(params, fn)
    saved = opt.state_dict()
    assert saved["hyperparameters"]["lr"] is None
    assert list(saved["schedules"]) == ["lr"]
    twin = fo.Heun(schedule)
    twin.load_state_dict(saved)
    assert numbers(twin) == numbers(opt)
    other = fo.Heun(0.25)
    with pytest.warns(UserWarning, match="lr was a schedule when this state was saved"):
        other.load_state_dict(saved)
    assert (other.lr, other.iter) == (0.25, 1)
    fresh = fo.Heun(0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="was a schedule"):
            fresh.load_state_dict(saved)
    assert (fresh.iter, fresh.time) == (0, 0.0)
    assert copy.deepcopy(opt).lr is schedule


def altered(**changes):
    return lambda saved: saved | changes


def without(name):
    return lambda saved: {key: value for key, value in saved.items() if key != name}


def hyper(**changes):
    return lambda saved: saved | {"hyperparameters": saved["hyperparameters"] | changes}


BAD_STATES = {
    "no dict": (lambda saved: [1], TypeError, "a state is a dict"),
    "another format": (altered(format=2), ValueError, "the state has format 2"),
    "another method": (altered(rule="RK23"), ValueError, "the state is of RK23, this .* RK45"),
    "a rule": (lambda saved: fo.Adam().state_dict(), ValueError, "the state is of Adam"),
    "no iter": (without("iter"), ValueError, "the state has no 'iter'"),
    "no time": (without("time"), ValueError, "the state has no 'time'"),
    "no step size": (without("step_size"), ValueError, "no 'step_size'"),
    "no rejected": (without("rejected"), ValueError, "no 'rejected'"),
    "negative iter": (altered(iter=-1), ValueError, "iter must be a whole number"),
    "iter of floats": (altered(iter=1.5), ValueError, "iter must be a whole number"),
    "time": (altered(time=float("nan")), ValueError, r"time must be in \[0, inf\)"),
    "step size": (altered(step_size=0.0), ValueError, r"step_size must be in \(0, inf\)"),
    "rejected": (altered(rejected=True), ValueError, "rejected must be a whole number"),
    "lr": (hyper(lr=-1.0), ValueError, "lr must be in"),
    "unknown": (hyper(beta=1.0), ValueError, "hyperparameters are"),
}


@pytest.mark.parametrize("row", BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_replaces_nothing(row):
    change, error, text = row
    params, opt = start(), fo.RK45(0.5, 1e-3)
    opt.step(params, fn)
    before, saved = numbers(opt), fo.RK45(0.25, 1e-4).state_dict()
    with pytest.raises(error, match=text):
        opt.load_state_dict(change(saved))
    assert numbers(opt) == before
    opt.step(params, fn)
    assert opt.iter == 2


def test_a_state_with_tolerances_and_a_schedule_here():
    opt = fo.RK45(lambda step: 0.1)
    with pytest.raises(ValueError, match="lr cannot be a schedule"):
        opt.load_state_dict(fo.RK45(0.1, 1e-3).state_dict())
    assert opt.rtol is None


@every_method
def test_a_step_under_way_is_neither_saved_nor_loaded_nor_copied(method, tmp_path):
    params, opt, saved = start(), method(0.1), method(0.2).state_dict()
    tried = []

    def nosy(p):
        for call in (
            opt.state_dict, lambda: opt.load_state_dict(saved), lambda: copy.deepcopy(opt),
            lambda: opt.save(tmp_path / "x"),
        ):
            with pytest.raises(RuntimeError, match="in the middle of a step"):
                call()
            tried.append(1)
        return fn(p)

    opt.step(params, nosy)
    assert tried
    assert (opt.iter, opt.lr) == (1, 0.1)
    assert not (tmp_path / "x").exists()


@every_method
def test_no_shallow_copy(method):
    with pytest.raises(TypeError, match="deepcopy"):
        copy.copy(method())


@every_method
def test_a_soft_batch_says_why_not(method):
    with pytest.raises(TypeError, match=f"opt is a {method.__name__}, which needs gradients"):
        fo.SoftBatch(method())
