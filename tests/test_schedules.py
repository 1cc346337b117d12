"""Schedules: exact numbers at every corner, the conventions of the others, arguments checked."""

import copy
import dataclasses
import math
import pickle
import re

import numpy as np
import pytest
from helpers import CLASSES

import fastoptim as fo
from fastoptim import schedules as s

EXAMPLES = [
    s.constant(0.1),
    s.linear(0.1, 0.01, 90),
    s.piecewise_constant([0.1, 0.05, 0.01], [10, 20]),
    s.piecewise_constant([0.1], []),
    s.exponential_decay(0.1, 0.96, 10),
    s.exponential_decay(0.1, 0.96, 10, True),
    s.inverse_time_decay(0.1, 1e-3),
    s.cosine_decay(0.1, 50, 0.001),
    s.warmup(s.cosine_decay(0.1, 50), 10),
    s.warmup(0.1, 10),
    s.per_epoch(s.exponential_decay(0.1, 0.9), 10),
    s.per_epoch(0.1, 10),
    s.ramp(0.5, 0.99, 0.01),
    s.linear(0.1, 0.01, 90) - 0.001 + 0.002,
    s.polynomial_decay(0.1, 50, 0.01, 2.0),
    s.cosine_restarts(0.1, 10, 0.001, 2, 0.9),
    s.piecewise_interpolate([0.1, 0.5, 0.01], [10.5, 40], "cosine"),
    s.piecewise_interpolate([0.1], []),
    s.one_cycle(0.1, 50),
    s.one_cycle(0.1, 50, 0.25, 10.0, 100.0, "linear", True),
    s.cyclic(0.01, 0.1, 5),
    s.cyclic(0.01, 0.1, 5, 8, "triangular2"),
    s.cyclic(0.01, 0.1, 5, 8, "exp_range", 0.99),
    s.join([s.linear(0.01, 0.1, 3), 0.1, s.cosine_decay(0.1, 20)], [3, 30]),
    s.plateau(0.1, 0.5, 3, 1e-3, 1e-4, 2, 0.01, "max", 2),
    s.plateau(0.1, 0.5, value=0.05, best=1.5, bad=3, cooling=1),
    s.plateau(0.1, 0.5, every=3, gathered=2, mean=None),
    0.5 * s.linear(0.1, 0.01, 90) + 0.001,
    (1 - s.ramp(0.5, 0.99, 0.01)) * s.cosine_decay(0.1, 50) / 3,
]
every_schedule = pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)


@every_schedule
def test_repr_round_trips(schedule):
    again = eval(repr(schedule), {name: getattr(s, name) for name in s.__all__})
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert [again(step) for step in range(100)] == [schedule(step) for step in range(100)]


@every_schedule
def test_python_floats_come_out(schedule):
    for step in (0, 1, 7, 10**6):
        assert type(schedule(step)) is float


def test_numpy_arguments_become_python_numbers():
    schedule = s.linear(np.float32(0.5), np.array(1), np.int64(4))
    assert repr(schedule) == "linear(start=0.5, stop=1.0, steps=4)"
    assert type(schedule(1)) is float
    values = np.array([0.5, 0.25])
    assert s.piecewise_constant(values, np.array([3])) == s.piecewise_constant([0.5, 0.25], [3])


@every_schedule
def test_frozen(schedule):
    name = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, name, 1.0)


def test_all_names_are_covered():
    names = {type(schedule).__name__ for schedule in EXAMPLES}
    assert names == set(s.__all__) | {"chained", "combined"}


@every_schedule
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_copies_are_equal(schedule, again):
    twin = again(schedule)
    assert twin == schedule
    assert hash(twin) == hash(schedule)
    assert [twin(step) for step in range(100)] == [schedule(step) for step in range(100)]


def test_constant():
    assert [s.constant(3)(step) for step in (0, 5, 10**9)] == [3.0] * 3


def test_linear():
    down = s.linear(0.3, 0.1, 3)
    assert [down(step) for step in (0, 3, 4, 10**9)] == [0.3, 0.1, 0.1, 0.1]
    assert down(1) == 0.3 + (0.1 - 0.3) * (1 / 3)
    assert s.linear(0, 1, 1)(0) == 0.0
    assert s.linear(0, 1, 1)(1) == 1.0


def test_piecewise_constant():
    f = s.piecewise_constant([3, 2, 1], [1, 5])
    assert [f(step) for step in (0, 1, 4, 5, 6, 10**9)] == [3.0, 2.0, 2.0, 1.0, 1.0, 1.0]


def test_exponential_decay():
    smooth = s.exponential_decay(2.0, 0.81, 2)
    assert [smooth(step) for step in (0, 1, 2)] == [2.0, 2.0 * 0.81**0.5, 2.0 * 0.81]
    stairs = s.exponential_decay(2.0, 0.81, 2, staircase=True)
    assert [stairs(step) for step in (0, 1, 2, 3)] == [2.0, 2.0, 2.0 * 0.81, 2.0 * 0.81]
    assert s.exponential_decay(1.0, 0.5)(5000) == 0.0


def test_inverse_time_decay():
    f = s.inverse_time_decay(0.5, 0.25)
    assert [f(step) for step in (0, 4, 12)] == [0.5, 0.25, 0.125]


def test_cosine_decay():
    f = s.cosine_decay(1.0, 3, 0.2)
    assert [f(step) for step in (0, 3, 4)] == [1.0, 0.2, 0.2]
    assert f(1) == pytest.approx(0.2 + 0.8 * 0.75, rel=1e-15)


def test_ramp():
    up = s.ramp(0.5, 0.99, 0.01)
    assert up(0) == 0.5
    assert up(7) == 0.5 + 0.01 * 7
    assert [up(step) for step in (49, 50, 10**9)] == [0.99] * 3
    down = s.ramp(1, -1, 0.75)
    assert [down(step) for step in range(5)] == [1.0, 0.25, -0.5, -1.0, -1.0]
    assert s.ramp(0.5, 0.5, 0.1)(3) == 0.5


def test_warmup():
    f = s.warmup(s.linear(1.0, 0.0, 4), 2)
    assert [f(step) for step in range(8)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert s.warmup(0.3, 1)(0) == 0.3
    assert s.warmup(lambda step: np.float32(step + 1), 4)(10) == 7.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (s.constant, "value"),
        (lambda x: s.linear(x, 1, 1), "start"),
        (lambda x: s.linear(1, x, 1), "stop"),
        (lambda x: s.piecewise_constant([0, x], [1]), "values[1]"),
        (lambda x: s.exponential_decay(x, 0.5), "start"),
        (lambda x: s.inverse_time_decay(x, 0.5), "start"),
        (lambda x: s.cosine_decay(x, 1), "start"),
        (lambda x: s.cosine_decay(1, 1, x), "stop"),
        (lambda x: s.ramp(x, 1, 1), "start"),
        (lambda x: s.ramp(1, x, 1), "stop"),
        (lambda x: s.warmup(x, 1), "schedule"),
        (lambda x: s.per_epoch(x, 1), "schedule"),
        (lambda x: s.polynomial_decay(x, 1), "start"),
        (lambda x: s.polynomial_decay(1, 1, x), "stop"),
        (lambda x: s.cosine_restarts(x, 1), "start"),
        (lambda x: s.cosine_restarts(1, 1, x), "stop"),
        (lambda x: s.piecewise_interpolate([0, x], [1]), "values[1]"),
        (lambda x: s.one_cycle(x, 10), "peak"),
        (lambda x: s.one_cycle(1, 10).momentum(low=x), "low"),
        (lambda x: s.one_cycle(1, 10).momentum(high=x), "high"),
        (lambda x: s.cyclic(x, 1, 1), "start"),
        (lambda x: s.cyclic(0, x, 1), "peak"),
        (lambda x: s.cyclic(0, 1, 1).momentum(low=x), "low"),
        (lambda x: s.cyclic(0, 1, 1).momentum(high=x), "high"),
        (lambda x: s.join([1, x], [1]), "schedules[1]"),
    ],
)
def test_numbers_are_finite(make, name, value):
    message = re.escape(f"{name} must be in (-inf, inf), got {value!r}")
    with pytest.raises(ValueError, match=message):
        make(value)
    with pytest.raises(TypeError, match=re.escape(f"{name} must be a number in (-inf, inf)")):
        make("0.1")
    with pytest.raises(TypeError, match=re.escape(f"{name} must be a number in (-inf, inf)")):
        make(True)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda n: s.linear(0, 1, n), "steps"),
        (lambda n: s.cosine_decay(1, n), "steps"),
        (lambda n: s.exponential_decay(1, 0.5, n), "every"),
        (lambda n: s.warmup(1, n), "steps"),
        (lambda n: s.per_epoch(1, n), "updates"),
        (lambda n: s.piecewise_constant([0, 1], [n]), "boundaries[0]"),
        (lambda n: s.polynomial_decay(1, n), "steps"),
        (lambda n: s.cosine_restarts(1, n), "steps"),
        (lambda n: s.cosine_restarts(1, 1, growth=n), "growth"),
        (lambda n: s.cyclic(0, 1, n), "up"),
        (lambda n: s.join([0, 1], [n]), "boundaries[0]"),
        (lambda n: s.plateau(1, every=n), "every"),
    ],
)
def test_steps_are_whole(make, name):
    for value in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match=re.escape(f"{name} must be in [1, inf), got")):
            make(value)
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a whole number in [1, inf)")):
        make(1.5)
    with pytest.raises(TypeError, match=re.escape(f"{name} must be a number in [1, inf)")):
        make(None)
    assert make(2.0) == make(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: s.exponential_decay(1, 0.0), ValueError, "rate must be in (0, inf), got 0.0"),
        (lambda: s.exponential_decay(1, -1), ValueError, "rate must be in (0, inf), got -1"),
        (lambda: s.exponential_decay(1, 0.5, 1, 1), TypeError, "staircase must be True or False"),
        (lambda: s.inverse_time_decay(1, -1), ValueError, "rate must be in [0, inf), got -1"),
        (lambda: s.ramp(0, 1, 0), ValueError, "step must be in (0, inf), got 0"),
        (lambda: s.ramp(1, 0, -0.1), ValueError, "step must be in (0, inf), got -0.1"),
        (
            lambda: s.piecewise_constant([1, 2, 3], [5, 5]), ValueError,
            "boundaries must increase strictly, got 5 after 5",
        ),
        (
            lambda: s.piecewise_constant([1, 2], [1, 2]), ValueError,
            "values must be one more than boundaries, got 2 values and 2 boundaries",
        ),
        (lambda: s.piecewise_constant(1, [1]), TypeError, "values must be a sequence of numbers"),
        (lambda: s.piecewise_constant([1, 2], "1"), TypeError, "boundaries must be a sequence"),
        (lambda: s.polynomial_decay(1, 1, power=0), ValueError, "power must be in (0, inf), got 0"),
        (lambda: s.cosine_restarts(1, 1, decay=0), ValueError, "decay must be in (0, 1], got 0"),
        (lambda: s.cosine_restarts(1, 1, decay=1.5), ValueError, "decay must be in (0, 1], got"),
        (
            lambda: s.piecewise_interpolate([1, 2], [0]), ValueError,
            "boundaries[0] must be in (0, inf), got 0",
        ),
        (
            lambda: s.piecewise_interpolate([1, 2, 3], [2, 2]), ValueError,
            "boundaries must increase strictly, got 2.0 after 2.0",
        ),
        (
            lambda: s.piecewise_interpolate([1], [2]), ValueError,
            "values must be one more than boundaries, got 1 values and 1 boundaries",
        ),
        (
            lambda: s.piecewise_interpolate([1], [], "round"), ValueError,
            "shape must be one of ('linear', 'cosine'), got 'round'",
        ),
        (lambda: s.one_cycle(1, 10, 0.0), ValueError, "rise must be in (0, 1), got 0.0"),
        (lambda: s.one_cycle(1, 10, 1.0), ValueError, "rise must be in (0, 1), got 1.0"),
        (lambda: s.one_cycle(1, 10, 0.1), ValueError, "rise * steps must be more than 1"),
        (lambda: s.one_cycle(1, 1), ValueError, "rise * steps must be more than 1"),
        (lambda: s.one_cycle(1, 10, div=0), ValueError, "div must be in (0, inf), got 0"),
        (lambda: s.one_cycle(1, 10, final_div=0), ValueError, "final_div must be in (0, inf)"),
        (lambda: s.one_cycle(1, 10, shape="cos"), ValueError, "shape must be one of ('cosine', "),
        (lambda: s.one_cycle(1, 10, three_phases=1), TypeError, "three_phases must be True or"),
        (
            lambda: s.one_cycle(1, 10, 0.55, three_phases=True), ValueError,
            "with three_phases 2 * rise * steps must be less than steps + 1, got rise=0.55 of",
        ),
        (lambda: s.cyclic(0, 1, 1, 0), ValueError, "down must be in [1, inf), got 0"),
        (lambda: s.cyclic(0, 1, 1, shape="saw"), ValueError, "shape must be one of ('triangular',"),
        (lambda: s.cyclic(0, 1, 1, rate=0.5), ValueError, "rate must be given with shape='exp_r"),
        (lambda: s.cyclic(0, 1, 1, shape="exp_range"), ValueError, "rate must be given with shap"),
        (
            lambda: s.cyclic(0, 1, 1, shape="exp_range", rate=1.5), ValueError,
            "rate must be in (0, 1], got 1.5",
        ),
        (lambda: s.one_cycle(1e308, 10, div=0.1), ValueError, "peak / div and peak / div / fi"),
        (lambda: s.one_cycle(1e9, 10, final_div=1e-308), ValueError, "peak / div and peak / div /"),
        (lambda: s.join(0.1, []), TypeError, "schedules must be a sequence of schedules, got 0.1"),
        (
            lambda: s.join([0.1, 0.2], [2, 3]), ValueError,
            "schedules must be one more than boundaries, got 2 schedules and 2 boundaries",
        ),
        (
            lambda: s.join([1, 2, 3], [3, 2]), ValueError,
            "boundaries must increase strictly, got 2 after 3",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_per_epoch():
    seen = []

    def rate(epoch):
        seen.append(epoch)
        return np.float32(epoch + 0.5)

    f = s.per_epoch(rate, 3)
    assert [f(step) for step in range(7)] == [0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 2.5]
    assert seen == [0, 0, 0, 1, 1, 1, 2]
    assert type(f(0)) is float
    assert s.per_epoch(0.3, 5)(99) == 0.3


LARGEST = np.finfo(float).max


@pytest.mark.parametrize(
    ("schedule", "numbers"),
    [
        (s.linear(-1e308, 1e308, 4), [-1e308, -5e307, 0.0, 5e307, 1e308]),
        (s.linear(LARGEST, -LARGEST, 2), [LARGEST, 0.0, -LARGEST]),
        (s.cosine_decay(1e308, 10, -1e308), [1e308]),
        (s.cosine_decay(LARGEST, 2, -LARGEST), [LARGEST]),
        (s.exponential_decay(1e-300, 2.0, 1, True), [1e-300 * 2.0**step for step in range(1023)]),
        (s.exponential_decay(0.0, 2.0, 1), [0.0] * 3000),
    ],
    ids=repr,
)
def test_numbers_whose_difference_or_power_is_beyond_the_floats(schedule, numbers):
    assert [schedule(step) for step in range(len(numbers))] == numbers


def test_cosine_of_numbers_whose_difference_is_beyond_the_floats():
    large, small = s.cosine_decay(1e308, 40, -1e308), s.cosine_decay(1.0, 40, -1.0)
    for step in range(41):
        assert large(step) == pytest.approx(1e308 * small(step), rel=1e-14, abs=1e293)


def test_a_power_beyond_the_floats_of_a_number_that_is_not():
    grown = s.exponential_decay(1e-300, 2.0)
    assert grown(1100) == pytest.approx(1e-300 * 2.0**1000 * 2.0**100, rel=1e-12)


@pytest.mark.parametrize("staircase", [False, True])
def test_growth_without_end_is_infinite_and_refused_by_an_optimizer(staircase):
    grown = s.exponential_decay(1.0, 2.0, 1, staircase)
    assert grown(1023) == 2.0**1023
    assert grown(1100) == grown(10**6) == math.inf
    assert s.exponential_decay(-1.0, 2.0, 1, staircase)(1100) == -math.inf
    opt, params = fo.SGD(lr=s.exponential_decay(1.0, 2.0**512, 1, staircase)), {"x": np.zeros(2)}
    opt.update(params, {"x": np.zeros(2)})
    opt.update(params, {"x": np.zeros(2)})
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\), got inf") as problem:
        opt.update(params, {"x": np.zeros(2)})
    note = f"lr is a schedule: {opt.lr!r} gave inf at step 2"
    assert problem.value.__notes__ == [note]
    assert opt.iter == 2


def test_polynomial_decay():
    f = s.polynomial_decay(1.0, 4, 0.5, 3.0)
    assert [f(step) for step in (0, 1, 2, 4, 5)] == [1.0, 0.5 + 0.5 * 0.75**3, 0.5625, 0.5, 0.5]


def test_cosine_restarts():
    f = s.cosine_restarts(1.0, 3, 0.2, 2, 0.5)
    ends = [0, 3, 9, 21]
    assert [f(step) for step in ends] == [1.0, 0.5, 0.25, 0.125]
    for i in range(3):
        wave = s.cosine_decay(0.5**i, 3 * 2**i, 0.2)
        for step in range(ends[i], ends[i + 1]):
            assert f(step) == wave(step - ends[i])
    assert s.cosine_restarts(1.0, 4)(4 * 10**15) == 1.0


def test_piecewise_interpolate():
    f = s.piecewise_interpolate([1, 3, 2], [2.5, 4])
    assert [f(step) for step in (0, 1, 2, 3, 4, 5)] == [
        1.0, 1 + 2 * (1 / 2.5), 1 + 2 * (2 / 2.5), 3 - 0.5 / 1.5, 2.0, 2.0
    ]
    g = s.piecewise_interpolate([1, 3, 2], [2, 4], "cosine")
    assert [g(step) for step in range(6)] == pytest.approx([1, 2, 3, 2.5, 2, 2], rel=1e-15)


def test_one_cycle():
    f = s.one_cycle(1.0, 9, 1 / 3, 4.0, 2.0, "linear")
    assert [f(step) for step in (0, 2, 8, 9, 10**9)] == [0.25, 1.0, 0.125, 0.125, 0.125]
    assert f(1) == 0.625
    g = s.one_cycle(1.0, 12, 0.25, 4.0, 2.0, "linear", three_phases=True)
    assert [g(step) for step in (0, 1, 2, 3, 4, 11, 12)] == [
        0.25, 0.625, 1.0, 0.625, 0.25, 0.125, 0.125
    ]
    high = g.momentum(0.5, 0.75)
    assert [high(step) for step in (0, 1, 2, 3, 4, 7, 11)] == [
        0.75, 0.625, 0.5, 0.625, 0.75, 0.75, 0.75
    ]


def test_cyclic():
    f = s.cyclic(1.0, 2.0, 2, 4)
    cycle = [1.0, 1.5, 2.0, 1.75, 1.5, 1.25]
    assert [f(step) for step in range(18)] == cycle * 3
    assert s.cyclic(1.0, 2.0, 2) == s.cyclic(1.0, 2.0, 2, 2)
    assert s.cyclic(0.0, 1.0, 1, shape="triangular2")(2 * 5000 + 1) == 0.0
    g = s.cyclic(0.0, 1.0, 2, shape="exp_range", rate=0.5)
    assert [g(step) for step in range(7)] == [0, 0.25, 0.25, 0.0625, 0, 2**-6, 2**-6]
    assert f.momentum(0.5, 0.75)(2) == 0.5
    assert f.momentum(0.5, 0.75)(6) == 0.75


def test_join():
    asked = []

    def one(step):
        asked.append(step)
        return np.float32(step)

    f = s.join([one, 9, one, 8], [2, 5, 6])
    assert [f(step) for step in range(8)] == [0.0, 1.0, 9.0, 9.0, 9.0, 0.0, 8.0, 8.0]
    assert asked == [0, 1, 0]
    assert type(f(0)) is float


# ---------------------------------------------------------------- in every rule


def assigned(opt, schedule, step):
    """What the schedule does, by hand."""
    opt.lr = schedule(step)
    opt.groups[0].lr = 0.5 * schedule(step)


@every_schedule
def test_in_every_rule_and_in_groups(schedule):
    """As lr of each rule and of a group: the numbers of assignments before each update."""
    for cls in CLASSES:
        a, b = ({key: np.ones(7) for key in "xy"} for _ in range(2))
        scheduled = cls(lr=schedule, groups=[fo.Group("y", lr=0.5 * schedule)])
        by_hand = cls(lr=1.0, groups=[fo.Group("y", lr=1.0)])
        rng = np.random.default_rng(0)
        for step in range(5):
            grads = {key: rng.standard_normal(7) for key in "xy"}
            assigned(by_hand, schedule, step)
            scheduled.update(a, grads)
            by_hand.update(b, grads)
        for key in "xy":
            assert np.array_equal(a[key], b[key]), cls
            for slot in cls.kernels[scheduled.kernel]:
                ours, theirs = (getattr(opt, slot)[key] for opt in (scheduled, by_hand))
                assert np.array_equal(ours, theirs), (cls, slot)


@every_schedule
def test_in_soft_batches(schedule):
    """The step is that of whole batches."""
    a, b = {"x": np.ones(5)}, {"x": np.ones(5)}
    soft, plain = fo.SoftBatch(fo.Adam(lr=schedule), every=2, reduce="sum"), fo.Adam()
    for step in range(6):
        g = np.linspace(-1, step, 5)
        plain.lr = schedule(step)
        assert soft.update(a, {"x": g}) is False
        assert soft.update(a, {"x": g}) is True
        plain.update(b, {"x": g + g})
        assert np.array_equal(a["x"], b["x"])


@every_schedule
@pytest.mark.parametrize("method", [fo.Heun, fo.RK23, fo.RK45])
def test_in_runge_kutta_methods(schedule, method):
    a, b = {"x": np.ones(5)}, {"x": np.ones(5)}
    scheduled, by_hand = method(schedule), method()
    for step in range(5):
        if schedule(step):      # a step of 0 is a schedule's alone
            by_hand.lr = schedule(step)
            by_hand.step(b, lambda p: {"x": p["x"] ** 3})
        scheduled.step(a, lambda p: {"x": p["x"] ** 3})
        assert np.array_equal(a["x"], b["x"])
    assert scheduled.iter == 5
