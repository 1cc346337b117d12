"""Arithmetic with schedules gives schedules, and ``opt.lr *= 0.5`` works with one in place."""

import copy
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import schedules as s
from fastoptim.schedules.arithmetic import chained

WITH = "what a schedule is combined with must be a number or a schedule, got"
UP, DOWN = s.linear(0.1, 0.7, 9), s.cosine_decay(0.9, 8, 0.3)


@pytest.mark.parametrize("expression", [
    "up * 0.3", "0.3 * up", "up / 3", "up + 0.3", "0.3 + up", "up - 0.3", "1 - up",
    "(up + 0.3) * 0.7 - 0.1", "up + down", "up - down", "up * down", "(up + down) / 2",
    "up * (1 - down) + 0.1", "up * narrow", "step * up",
])
def test_the_number_is_that_of_the_numbers(expression):
    made = eval(expression, {
        "up": UP, "down": DOWN, "narrow": np.float32, "step": lambda step: step,
    })
    for step in range(12):
        numbers = {"up": UP(step), "down": DOWN(step), "narrow": float(step), "step": step}
        assert made(step) == eval(expression, numbers)
        assert type(made(step)) is float


@pytest.mark.parametrize(
    "number", [2, np.float32(2), np.float64(2), np.int64(2), np.array(2.0), np.array(2, "f4")],
    ids=repr,
)
def test_any_number_on_either_side(number):
    for made, same in (
        (UP * number, UP * 2.0), (number * UP, 2.0 * UP), (UP + number, UP + 2.0),
        (number + UP, 2.0 + UP), (UP - number, UP - 2.0), (number - UP, 2.0 - UP),
        (UP / number, UP / 2.0),
    ):
        assert made == same
        assert repr(made) == repr(same)


def test_repr_is_the_expression():
    assert repr(1 - s.constant(0.5) * 0.25) == "(1.0 - (constant(value=0.5) * 0.25))"
    made = 2 * UP - (UP / 4 + DOWN) * UP
    assert eval(repr(made), vars(s)) == made


def test_factors_of_factors_become_one():
    assert UP * 0.5 * 0.3 == UP * (0.5 * 0.3)
    assert UP / 2 / 5 == UP / 10
    assert UP * 3 / 4 == UP * 0.75
    assert UP / 4 * 3 == UP * 0.75
    rate = UP
    for _ in range(5000):
        rate *= 0.999
        rate /= 0.998
    assert rate(9) == pytest.approx(0.7 * float((Fraction(999, 998)) ** 5000), rel=1e-11)
    assert repr(rate).count("(") == 2


def test_factors_whose_product_is_no_number_stay_two():
    large = s.constant(1e-300) * 1e200 * 1e200
    assert large(0) == 1e-300 * 1e200 * 1e200
    small = s.constant(1e300) * 1e-200 * 1e-200
    assert small(0) == 1e300 * 1e-200 * 1e-200
    assert (UP * 0 * 3)(5) == 0.0


def test_many_changes_in_place_keep_their_numbers(tmp_path):
    """Thousands of them are called, shown, copied, compared, pickled and saved."""
    two = ("-", 0.0013), ("+", 0.1), ("-", 0.0013), ("*", 0.7)
    rate, numbers = chained(UP, two * 730), [UP(step) for step in range(12)]
    for k in range(1500):
        if k >= 1460:                       # each change is checked with all before it
            rate -= 0.0013
            rate = rate * 0.7 if k % 2 else rate + 0.1
        numbers = [x - 0.0013 for x in numbers]
        numbers = [x * 0.7 if k % 2 else x + 0.1 for x in numbers]
    assert [rate(step) for step in range(12)] == numbers
    assert repr(rate).startswith("((((")
    assert repr(rate).endswith(" - 0.0013) + 0.1) - 0.0013) * 0.7)")
    opt = fo.SGD(lr=rate)
    fo.save(tmp_path / "file", {"opt": opt})
    for other in (
        copy.deepcopy(rate), pickle.loads(pickle.dumps(rate)), fo.load(tmp_path / "file")["opt"].lr
    ):
        assert other == rate
        assert hash(other) == hash(rate)


def test_a_chain_is_the_expression():
    made = (UP - 0.5) * 2 * 3 - 0.25 + DOWN
    assert repr(made) == f"(((({UP!r} - 0.5) * 6.0) - 0.25) + {DOWN!r})"
    assert eval(repr(made), vars(s)) == made
    assert (UP - 1) * 3 / 3 == (UP - 1) * 1.0
    assert UP * 2 / 2 - 1 == UP * 1 - 1


@pytest.mark.parametrize("change", [-0.5, 0.25])
def test_a_plateau_in_a_chain_is_told(change):
    plateau = s.plateau(0.5, factor=0.5, patience=0)
    rate = plateau + change - change
    rate.observe(1.0)
    assert rate.observe(2.0)
    assert (plateau(0), rate(0)) == (0.25, 0.25)


@pytest.mark.parametrize(("steps", "error", "text"), [
    (["-", 1.0], TypeError, "steps must be pairs of operator and number, got ['-', 1.0]"),
    ((1.0,), TypeError, "steps must be pairs of operator and number"),
    ((("-", 1.0, 2.0),), TypeError, "steps must be pairs"),
    ((("-", UP),), TypeError, "steps must be pairs"),
    ((("^", 1.0),), ValueError, "operator must be"),
    ((("-", "1"),), TypeError, "right must be a number"),
    ((("-", float("nan")),), ValueError, "right must be in"),
    ((("/", 0.0),), ValueError, "a schedule cannot be divided by 0"),
])
def test_what_a_chain_cannot_be(steps, error, text):
    with pytest.raises(error, match=re.escape(text)):
        chained(UP, steps)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: UP * "2", TypeError, f"{WITH} '2' (str)"),
        (lambda: "2" + UP, TypeError, f"{WITH} '2' (str)"),
        (lambda: UP * True, TypeError, f"{WITH} True (bool)"),
        (lambda: None - UP, TypeError, f"{WITH} None (NoneType)"),
        (lambda: UP * np.ones(2), TypeError, f"{WITH} array("),
        (lambda: np.ones(2) + UP, TypeError, f"{WITH} array("),
        (lambda: UP / DOWN, TypeError, "a schedule is divided by numbers alone, got cosine_decay("),
        (lambda: 1 / UP, TypeError, "unsupported operand type(s) for /: 'int' and 'linear'"),
        (lambda: UP / 0, ValueError, "a schedule cannot be divided by 0"),
        (lambda: UP * float("nan"), ValueError, "right must be in (-inf, inf), got nan"),
        (lambda: float("inf") * UP, ValueError, "left must be in (-inf, inf), got inf"),
    ],
)
def test_what_cannot_be_combined(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


def places(opt):
    """Where the learning rates of an optimizer with one group are."""
    return opt, opt.groups[0]


@pytest.mark.parametrize(
    "start", [0.5, s.linear(0.5, 0.25, 4), s.warmup(s.plateau(0.5), 2)], ids=repr
)
def test_a_learning_rate_is_changed_in_place(start):
    opt = fo.SGD(lr=start, groups=[fo.Group("b", lr=start)])
    params = {"a": np.ones(3), "b": np.ones(3)}
    by_hand = {"a": np.ones(3), "b": np.ones(3)}
    g = np.array([1.0, 2.0, 3.0])
    factors = [1.0, 0.3, 0.3]
    for step in range(3):
        if step == 1:
            for place in places(opt):
                place.lr *= 0.3
        opt.update(params, {"a": g, "b": g})
        lr = start(step) if callable(start) else start
        for p in by_hand.values():
            p -= lr * factors[step] * g
    for key, p in params.items():
        assert np.array_equal(p, by_hand[key])
    opt.lr /= 2
    opt.lr += 0.125
    assert (opt.lr if isinstance(start, float) else opt.lr(2)) == (lr * 0.3 / 2 + 0.125)


def test_a_changed_rate_is_checked_as_any():
    opt = fo.Adam(lr=0.1)
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\), got -0.1"):
        opt.lr *= -1
    assert opt.lr == 0.1
    opt = fo.Heun(lr=s.constant(0.5))
    opt.lr *= 0.5
    assert opt.step_size == 0.25
