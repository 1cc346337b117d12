"""A plateau: what it is told decides, and what it was told is saved with its optimizer."""

import copy
import dataclasses
import math
import pickle
import re
import warnings
from itertools import count

import numpy as np
import pytest
from test_interrupts import Interrupt

import fastoptim as fo
from fastoptim import schedules as s

PAST = [5.0, 4.0, 4.0, 4.5, 4.2, 3.9, 4.1, 4.3]


def told(schedule, losses=PAST):
    for loss in losses:
        schedule.observe(loss)
    return schedule


def new(start=0.5, **more):
    return s.plateau(start, **({"factor": 0.5, "patience": 1, "cooldown": 1} | more))


# ---------------------------------------------------------------- what it observes


def test_every_number_on_the_way():
    rate, seen = new(), []
    for loss in PAST:
        fell = rate.observe(loss)
        seen.append((fell, rate(99), rate.best, rate.bad, rate.cooling))
    assert seen == [
        (False, 0.5, 5.0, 0, 0), (False, 0.5, 4.0, 0, 0), (False, 0.5, 4.0, 1, 0),
        (True, 0.25, 4.0, 0, 1), (False, 0.25, 4.0, 0, 0), (False, 0.25, 3.9, 0, 0),
        (False, 0.25, 3.9, 1, 0), (True, 0.125, 3.9, 0, 1),
    ]


def test_it_does_not_fall_below_stop():
    rate = s.plateau(0.5, 0.5, patience=0, stop=0.2)
    assert [rate.observe(1.0) for _ in range(4)] == [False, True, True, False]
    assert rate(0) == 0.2


def test_means_of_several_losses():
    rate = s.plateau(0.5, 0.5, patience=0, every=2)
    assert [rate.observe(x) for x in (1.0, 3.0, 1.0, 1.0, 0.0, 4.0)] == [False] * 5 + [True]
    assert (rate.best, rate.gathered, rate.mean) == (1.0, 0, 0.0)
    rate.observe(7)
    assert (rate.gathered, rate.mean) == (1, 7.0)
    rate.observe(math.nan)
    assert (rate(0), rate.best, rate.mean) == (0.125, 1.0, 0.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_no_improvement(loss, mode):
    rate = s.plateau(0.5, 0.5, patience=1, mode=mode)
    assert [rate.observe(x) for x in (loss, 1.0, loss, loss)] == [False, False, False, True]
    assert rate.best == 1.0
    two = s.plateau(0.5, 0.5, patience=0, every=2)
    assert [two.observe(x) for x in (loss, 1.0)] == [False, True]
    assert two.best is None


def test_a_mean_beyond_the_floats_is_no_improvement():
    rate = s.plateau(0.5, 0.5, patience=0, every=3)
    assert [rate.observe(1e308) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    "loss", [1, np.float32(1), np.float64(1), np.int32(1), np.array(1.0), np.array(1, "f4")],
    ids=repr,
)
def test_any_number_is_a_loss(loss):
    assert told(s.plateau(0.1), [loss]).best == 1.0
    assert type(told(s.plateau(0.1), [loss]).best) is float


def test_numbers_of_other_libraries_are_losses():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    for loss in (torch.tensor(0.5), jnp.float32(0.5)):
        assert told(s.plateau(0.1), [loss]).best == 0.5


@pytest.mark.parametrize("loss", [None, "1", True, np.ones(2), np.ones(1), 1j, [1.0]], ids=repr)
@pytest.mark.parametrize("every", [1, 3])
def test_what_is_no_loss_changes_nothing(loss, every):
    rate = told(new(every=every), PAST[:4])
    before = copy.deepcopy(rate)
    with pytest.raises(TypeError, match="loss must be a number, got"):
        rate.observe(loss)
    assert rate == before


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"start": -1}, ValueError, "start must be in [0, inf), got -1"),
        ({"start": math.nan}, ValueError, "start must be in [0, inf), got nan"),
        ({"factor": 1.0}, ValueError, "factor must be in (0, 1), got 1.0"),
        ({"factor": 0}, ValueError, "factor must be in (0, 1), got 0"),
        ({"patience": -1}, ValueError, "patience must be in [0, inf), got -1"),
        ({"patience": 1.5}, ValueError, "patience must be a whole number in [0, inf), got 1.5"),
        ({"patience": None}, TypeError, "patience must be a number in [0, inf)"),
        ({"rtol": 1.5}, ValueError, "rtol must be in [0, 1], got 1.5"),
        ({"atol": -1.0}, ValueError, "atol must be in [0, inf), got -1.0"),
        ({"cooldown": -1}, ValueError, "cooldown must be in [0, inf), got -1"),
        ({"stop": -1}, ValueError, "stop must be in [0, inf), got -1"),
        ({"stop": 0.2}, ValueError, "stop must be at most start=0.1, got 0.2"),
        ({"mode": "low"}, ValueError, "mode must be one of ('min', 'max'), got 'low'"),
        ({"value": 0.2}, ValueError, "value must be at most start=0.1, got 0.2"),
        ({"best": math.inf}, ValueError, "best must be in (-inf, inf), got inf"),
        ({"bad": -1}, ValueError, "bad must be in [0, inf), got -1"),
        ({"cooling": 0.5}, ValueError, "cooling must be a whole number"),
        ({"gathered": 1}, ValueError, "gathered must be less than every=1, got 1"),
        ({"mean": "x"}, TypeError, "mean must be a number"),
    ],
)
def test_wrong_arguments(given, error, text):
    with pytest.raises(error, match=re.escape(text)):
        s.plateau(**({"start": 0.1} | given))


def test_its_past_is_compared_shown_and_copied():
    rate, fresh = told(new()), new()
    assert rate != fresh
    assert hash(rate) == hash(fresh)
    assert eval(repr(rate), vars(s)) == rate
    assert repr(new()) == (
        "plateau(start=0.5, factor=0.5, patience=1, rtol=0.0001, atol=0.0, cooldown=1, stop=0.0, "
        "mode='min', every=1)"
    )
    assert repr(rate) == repr(new())[:-1] + ", value=0.125, best=3.9, cooling=1)"
    for twin in (copy.copy(rate), copy.deepcopy(rate), pickle.loads(pickle.dumps(rate))):
        assert twin == rate
        told(twin)
        assert twin != rate
    other = dataclasses.replace(rate, patience=7)
    assert (other.value, other.best, other.patience) == (rate.value, rate.best, 7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rate.best = 0.0


@pytest.mark.parametrize(
    "around",
    [
        lambda p: p * 0.5,
        lambda p: p + p * 2,
        lambda p: s.warmup(p, 3),
        lambda p: s.per_epoch(p, 3),
        lambda p: s.join([0.1, s.warmup(1 - p, 2)], [4]),
    ],
)
def test_what_is_made_of_it_observes(around):
    rate = new()
    made = around(rate)
    assert [made.observe(loss) for loss in PAST] == [i in (3, 7) for i in range(8)]
    assert rate == told(new())


def test_two_in_one():
    a, b = new(), new(patience=3, factor=0.1)
    both = a + b
    assert [both.observe(1.0) for _ in range(5)] == [False, False, True, False, True]
    assert (a(0), b(0)) == (0.25, 0.05)


@pytest.mark.parametrize("schedule", [s.linear(0.1, 0, 5), s.warmup(0.1, 3), s.constant(1) * 2])
def test_what_has_none_does_not(schedule):
    with pytest.raises(TypeError, match="has no plateau in it, so no loss can be observed"):
        schedule.observe(1.0)


# ---------------------------------------------------------------- in training


def rules():
    return [fo.SGD, fo.Adam, fo.FTRL, fo.AdaMax]


@pytest.mark.parametrize("cls", rules())
def test_an_optimizer_follows_it(cls):
    rate = new()
    opt, by_hand = cls(lr=rate), cls(lr=0.5)
    a, b = {"x": np.ones(9)}, {"x": np.ones(9)}
    rng = np.random.default_rng(0)
    for loss in PAST:
        g = rng.standard_normal(9)
        opt.update(a, {"x": g})
        by_hand.update(b, {"x": g})
        opt.lr.observe(loss)
        by_hand.lr = rate.value
    assert rate == told(new())
    assert np.array_equal(a["x"], b["x"])


# ---------------------------------------------------------------- saving


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


every_way = pytest.mark.parametrize("through", [through_a_file, through_a_dict, through_a_copy])


def optimizer(rate):
    """Plateaus everywhere: alone, wrapped, in a group, twice."""
    return fo.Adam(
        lr=rate, beta1=s.warmup(new(start=0.9), 3) * 0.9,
        groups=[fo.Group("b", lr=rate * 0.5), fo.Group("c", weight_decay=new(every=3))],
    )


def plateaus(opt):
    return [
        opt.lr, opt.beta1.left.schedule, opt.groups[0].lr.left, opt.groups[1].weight_decay
    ]


def train(opt, params, losses, seed):
    rng = np.random.default_rng(seed)
    for loss in losses:
        opt.update(params, {key: rng.standard_normal(p.shape) for key, p in params.items()})
        for one in {id(one): one for one in plateaus(opt)}.values():
            one.observe(loss)


@pytest.mark.parametrize("many", range(1, len(PAST)))
@every_way
def test_training_goes_on_as_if_it_had_never_stopped(through, many, tmp_path):
    opt, params = optimizer(new()), {key: np.ones(5) for key in "abc"}
    train(opt, params, PAST[:many], 0)
    given = new()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = through(opt, optimizer(given), tmp_path / "state")
    assert plateaus(other) == plateaus(opt)
    for ours, theirs in zip(plateaus(other), plateaus(opt), strict=True):
        assert ours is not theirs
    assert other.groups[0].lr.left is other.lr
    if through is not through_a_copy:
        assert other.lr is given     # so that the variable goes on observing
    kept = {key: p.copy() for key, p in params.items()}
    train(opt, params, PAST[many:] + PAST, 1)
    train(other, kept, PAST[many:] + PAST, 1)
    assert repr(opt) == repr(other)
    for key, p in params.items():
        assert np.array_equal(p, kept[key])


@pytest.mark.parametrize("through", [through_a_file, through_a_dict, through_a_copy])
def test_soft_batches_and_methods_keep_it(through, tmp_path):
    soft = fo.SoftBatch(fo.SGD(lr=new()), every=2)
    soft.update({"x": np.ones(3)}, {"x": np.ones(3)})
    told(soft.opt.lr)
    other = through(soft, fo.SoftBatch(fo.SGD(lr=new()), every=2), tmp_path / "soft")
    assert other.opt.lr == soft.opt.lr
    assert other.opt.lr is not soft.opt.lr
    for method in (fo.Heun, fo.RK23, fo.RK45):
        opt = method(new() / 2)
        told(opt.lr)
        opt.step({"x": np.ones(3)}, lambda p: p)
        other = through(opt, method(new() / 2), tmp_path / "method")
        assert other.lr == opt.lr
        assert other.lr.left is not opt.lr.left
        assert other.step_size == opt.step_size == 0.0625


def test_a_copy_keeps_who_shares():
    rate = told(new())
    opt = fo.SGD(lr=rate)
    twin, of_twin = copy.deepcopy((opt, rate))
    assert twin.lr is of_twin
    assert of_twin is not rate
    steady = s.linear(0.1, 0.2, 3)
    assert copy.deepcopy(fo.SGD(lr=steady)).lr is steady


def test_a_state_without_a_plateau_has_no_word_of_it():
    for opt in (fo.SGD(lr=s.linear(0.1, 0, 5), groups=[fo.Group("x", lr=0.1)]), fo.Heun(0.1)):
        saved = opt.state_dict()
        assert "plateaus" not in saved
        assert all("plateaus" not in group for group in saved.get("groups", []))


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        (new(), 0.25, r"lr had a plateau when .*, plateau\(.*, and is 0.25 now; what was obs"),
        (new(), s.linear(1, 0, 9), r"lr had a plateau when .*, and is linear\(.* now; what was"),
        (0.25, new(), r"lr has a plateau, plateau\(.*, and had none when this state was saved"),
        (s.linear(1, 0, 9), new() * 2, r"lr has a plateau, \(plateau\(.*, and had none when"),
    ],
)
@pytest.mark.parametrize("make", [
    lambda lr: fo.SGD(lr=lr),
    lambda lr: fo.SGD(groups=[fo.Group("x", lr=lr)]),
    lambda lr: fo.Heun(lr),
])
def test_a_plateau_that_is_missing_is_warned_of(make, then, now, text):
    then, now = copy.deepcopy((then, now))
    if hasattr(then, "observe") and not isinstance(then, s.linear):
        told(then)
    saved = make(then).state_dict()
    opt = make(now)
    before = repr(opt)
    with pytest.warns(UserWarning, match=text) as seen:
        opt.load_state_dict(saved)
    assert repr(opt) == before
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=text):
            opt.load_state_dict(saved)


def state_of(rate):
    return fo.SGD(lr=rate).state_dict()


def changed(**more):
    saved = state_of(told(new()))
    saved["plateaus"]["lr"][0] |= more
    return saved


def two_pasts():
    a, b = new(), told(new())
    return fo.SGD(lr=a, groups=[fo.Group("x", lr=b)]).state_dict()


SHARED = new()
REFUSED = {
    "arguments": (
        lambda: state_of(told(new(patience=7, stop=0.01))), lambda: fo.SGD(lr=new()),
        "lr: the plateau of the state has patience=7 (here 1), stop=0.01 (here 0.0); load into one",
    ),
    "of a group": (
        lambda: fo.SGD(groups=[fo.Group("x", lr=new(mode="max"))]).state_dict(),
        lambda: fo.SGD(groups=[fo.Group("x", lr=new())]),
        "x: lr: the plateau of the state has mode='max' (here 'min')",
    ),
    "one more": (
        lambda: state_of(new() + new()), lambda: fo.SGD(lr=new()),
        "lr has 1 plateaus here and 2 in the state",
    ),
    "two pasts": (
        two_pasts, lambda: fo.SGD(lr=SHARED, groups=[fo.Group("x", lr=SHARED)]),
        "one plateau stands here where the state has two with different pasts",
    ),
    "a wrong number": (
        lambda: changed(bad=-1), lambda: fo.SGD(lr=new()),
        "lr: a plateau of the state cannot be: bad must be in [0, inf), got -1",
    ),
    "a wrong type": (
        lambda: changed(value="x"), lambda: fo.SGD(lr=new()),
        "lr: a plateau of the state cannot be: value must be a number",
    ),
    "a field too many": (
        lambda: changed(speed=1.0), lambda: fo.SGD(lr=new()),
        "lr: a plateau of the state must be a dict of start, factor, patience",
    ),
    "no dict": (
        lambda: state_of(new()) | {"plateaus": {"lr": [1]}}, lambda: fo.SGD(lr=new()),
        "lr: a plateau of the state must be a dict of start",
    ),
    "no list": (
        lambda: state_of(new()) | {"plateaus": {"lr": 1}}, lambda: fo.SGD(lr=new()),
        "'plateaus' of the state must be a dict of lists",
    ),
    "nothing": (
        lambda: state_of(new()) | {"plateaus": None}, lambda: fo.SGD(lr=new()),
        "'plateaus' of the state must be a dict of lists",
    ),
}


@pytest.mark.parametrize(("saved", "make", "text"), REFUSED.values(), ids=REFUSED)
def test_a_plateau_that_differs_is_refused(saved, make, text):
    opt = make()
    before = repr(opt)
    with pytest.raises(ValueError, match=re.escape(text)):
        opt.load_state_dict(saved())
    assert repr(opt) == before


def test_other_arguments_after_loading():
    """What the refusal says to do."""
    rate = new()
    opt = fo.SGD(lr=rate)
    opt.load_state_dict(state_of(told(new())))
    opt.lr = dataclasses.replace(opt.lr, patience=7)
    assert (opt.lr.patience, opt.lr.value, opt.lr.best) == (7, 0.125, 3.9)


# ---------------------------------------------------------------- interrupts


def at_every_line(make, function, state):
    """Interrupt a function at each of its lines; it did all, or nothing."""
    for n in count():
        thing = make()
        before = state(thing)
        interrupt = Interrupt(n)
        interrupt.during(function, thing)
        if not interrupt.raised:
            break
        assert state(thing) in (before, after(make, function, state))
    assert n > 3


def after(make, function, state):
    thing = make()
    function(thing)
    return state(thing)


@pytest.mark.parametrize(("every", "before"), [(1, 3), (2, 2), (2, 3)])
def test_an_interrupted_observation(every, before, no_collection):
    at_every_line(
        lambda: told(new(every=every), PAST[:before]), lambda rate: rate.observe(9.0), repr
    )


@pytest.mark.parametrize("make", [lambda: fo.SGD(lr=new()), lambda: fo.Heun(new() * 2)])
def test_an_interrupted_load(make, no_collection):
    trained = make()
    told(trained.lr)
    trained.step({"x": np.ones(2)}, lambda p: p)
    saved = trained.state_dict()
    at_every_line(make, lambda opt: opt.load_state_dict(saved), lambda opt: (opt.iter, repr(opt)))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_losses_below_0_want_no_share(mode):
    """A share of a negative best counts standing still as an improvement; with rtol=0 none does."""
    by_share = s.plateau(1.0, factor=0.5, patience=0, mode=mode)
    by_amount = s.plateau(1.0, factor=0.5, patience=0, rtol=0.0, atol=0.01, mode=mode)
    for _ in range(3):
        by_share.observe(-10.0)
        by_amount.observe(-10.0)
    assert (by_share.value, by_amount.value) == (1.0, 0.25)
