"""Schedules: exact numbers at every corner, the conventions of the others, arguments checked."""

import dataclasses
import math
import re

import numpy as np
import pytest

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
    assert {type(schedule).__name__ for schedule in EXAMPLES} == set(s.__all__)


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
    make(2.0)


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


def test_equals_optax():
    optax = pytest.importorskip("optax")
    pairs = [
        (s.constant(0.1), optax.constant_schedule(0.1)),
        (s.linear(0.1, 0.01, 30), optax.linear_schedule(0.1, 0.01, 30)),
        (
            s.piecewise_constant([1.0, 0.5, 0.05], [10, 30]),
            optax.piecewise_constant_schedule(1.0, {10: 0.5, 30: 0.1}),
        ),
        (s.exponential_decay(0.1, 0.9, 7), optax.exponential_decay(0.1, 7, 0.9)),
        (
            s.exponential_decay(0.1, 0.9, 7, staircase=True),
            optax.exponential_decay(0.1, 7, 0.9, staircase=True),
        ),
        (s.cosine_decay(0.1, 40, 0.01), optax.cosine_decay_schedule(0.1, 40, alpha=0.1)),
        (
            s.warmup(optax.cosine_decay_schedule(0.1, 40), 10),
            s.warmup(s.cosine_decay(0.1, 40), 10),
        ),
    ]
    for ours, theirs in pairs:
        for step in range(60):
            expected = pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-8)
            assert ours(step) == expected, (ours, step)
    rises = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 50)
    ours = s.warmup(s.cosine_decay(0.1, 40), 10)
    for step in range(9):
        assert ours(step) == pytest.approx(float(rises(step + 1)), rel=1e-5)
    for step in range(10, 60):
        assert ours(step) == pytest.approx(float(rises(step)), rel=1e-5, abs=1e-8)


def test_equals_torch():
    torch = pytest.importorskip("torch")
    rates = torch.optim.lr_scheduler

    def sequence(make):
        opt = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        schedule = make(opt)
        for _ in range(30):
            yield opt.param_groups[0]["lr"]
            opt.step()
            schedule.step()

    pairs = [
        (s.exponential_decay(0.1, 0.9), lambda opt: rates.ExponentialLR(opt, 0.9)),
        (s.exponential_decay(0.1, 0.9, 4, True), lambda opt: rates.StepLR(opt, 4, 0.9)),
        (
            s.piecewise_constant([0.1, 0.01, 0.001], [5, 9]),
            lambda opt: rates.MultiStepLR(opt, [5, 9], 0.1),
        ),
        (s.cosine_decay(0.1, 30, 0.01), lambda opt: rates.CosineAnnealingLR(opt, 30, 0.01)),
        (
            s.warmup(s.exponential_decay(0.1, 0.9), 4),
            lambda opt: rates.SequentialLR(
                opt,
                [
                    rates.LambdaLR(opt, lambda step: (step + 1) / 4),
                    rates.ExponentialLR(opt, 0.9),
                ],
                [4],
            ),
        ),
    ]
    for ours, make in pairs:
        for step, theirs in enumerate(sequence(make)):
            assert ours(step) == pytest.approx(theirs, rel=1e-12), (ours, step)
