"""The entry for people who have no dict."""

import numpy as np
import pytest
from helpers import assert_same_array, every_dtype, every_rule_by_element, read_only

import fastoptim as fo
from fastoptim.kernels import RULES, step


@pytest.mark.parametrize("n", [0, 1, 1023, 1025, 200_000])
@every_dtype
@every_rule_by_element
def test_same_bits_as_the_listing(case, dtype, n):
    rng = np.random.default_rng(0)
    expected = {"x": rng.standard_normal(n).astype(dtype)}
    bare = case.without_decay
    p, opt, oracle = expected["x"].copy(), case.ours(**bare), case.oracle(**bare)
    state = [np.full_like(p, start) for start in case.starts_of_slots(opt).values()]
    for t in (1, 2, 3):
        g = rng.standard_normal(n).astype(dtype)
        oracle.update(expected, {"x": g})
        step(opt.kernel, p, g, state, opt.coefficients(t))
    assert_same_array(p, expected["x"], "param")
    for slot, a in zip(case.slots, state, strict=True):
        assert_same_array(a, getattr(oracle, slot)["x"], slot)


def good():
    return {
        "rule": "adam", "param": np.ones(4), "grad": np.ones(4),
        "state": (np.ones(4), np.ones(4)), "coefficients": fo.Adam().coefficients(1),
    }


shared = np.ones(6)
ROWS = {
    "rule": ({"rule": "adams"}, ValueError, "rule must be one of sgd, momentum.*got 'adams'"),
    "list": ({"param": [1.0]}, TypeError, "param must be a NumPy array, got list"),
    "integers": ({"param": np.ones(4, int)}, TypeError, "param must be float32 or float64"),
    "big-endian": ({"grad": np.ones(4, ">f8")}, TypeError, "grad must be float32 or float64"),
    "mixed": ({"grad": np.ones(4, "f4")}, TypeError, "grad is float32, but param is float64"),
    "mixed state": ({"state": (np.ones(4), np.ones(4, "f4"))}, TypeError, r"state\[1\] is float32"),
    "masked": ({"param": np.ma.ones(4)}, TypeError, "param must be a NumPy array, got Masked"),
    "two axes": ({"param": np.ones((2, 2))}, ValueError, r"param must be one-dim.*reshape\(-1\)"),
    "strided": ({"grad": np.ones(8)[::2]}, ValueError, "grad must be one-dimensional and contig"),
    "read-only": ({"param": read_only(np.ones(4))}, ValueError, "param is read-only"),
    "read-only state": (
        {"state": (read_only(np.ones(4)), np.ones(4))}, ValueError, r"state\[0\] is read-only",
    ),
    "short": ({"grad": np.ones(3)}, ValueError, "grad has 3 elements, but param has 4"),
    "short state": ({"state": (np.ones(4), np.ones(9))}, ValueError, r"state\[1\] has 9 elements"),
    "few slots": ({"state": (np.ones(4),)}, ValueError, "state of 'adam' is 2 arrays, got 1"),
    "no tuple": ({"state": np.ones((2, 4))}, TypeError, "state must be a tuple of arrays"),
    "few coefficients": ({"coefficients": (1.0,)}, ValueError, "'adam' has 5 coefficients, got 1"),
    "text for a number": (
        {"coefficients": (1.0, "a", 1.0, 1.0, 0.0)}, TypeError,
        r"coefficients\[1\] must be a number, got 'a'",
    ),
    "text of a number": (
        {"coefficients": ("1", 1, 1, 1, 0)}, TypeError,
        r"coefficients\[0\] must be a number, got '1'",
    ),
    "None for a number": (
        {"coefficients": [1, 1, 1, None, 0]}, TypeError, r"\[3\] must be a number",
    ),
    "two axes of numbers": ({"coefficients": np.ones((5, 2))}, TypeError, r"\[0\] must be a num"),
    "half": ({"param": np.ones(4, "f2")}, TypeError, "param must be float32 or float64, got <f2"),
    "nan": ({"coefficients": (1, 1, np.nan, 1, 0)}, ValueError, "coefficients must be finite"),
    "shared": ({"param": shared[:4], "grad": shared[2:]}, ValueError, "param and grad share"),
    "shared state": ({"state": (shared[:4], shared[2:])}, ValueError, r"state\[0\] and state\[1\]"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_refused_and_nothing_changed(row):
    change, error, text = row
    arguments = good() | change
    written = [arguments["param"], *arguments["state"]]
    before = [np.array(x) for x in written]
    with pytest.raises(error, match=text):
        step(**arguments)
    for a, b in zip(written, before, strict=True):
        assert np.array_equal(a, b)


class Emptying:
    """A number that empties lists when it is asked for."""

    def __init__(self, *lists):
        self.lists = lists

    def __float__(self):
        for one in self.lists:
            one.clear()
        return 0.5


def test_a_number_that_empties_the_lists():
    """What was given counts: a number's own code runs before anything is looked at."""
    g, expected = np.array([1.0, -2.0]), [np.ones(2), np.zeros(2), np.zeros(2)]
    step("adam", expected[0], g, tuple(expected[1:]), (0.5,) * 5)
    p, state, coefficients = np.ones(2), [np.zeros(2), np.zeros(2)], []
    coefficients += [Emptying(coefficients, state)] * 5
    m, v = state
    step("adam", p, g, state, coefficients)
    assert state == coefficients == []
    for a, b in zip((p, m, v), expected, strict=True):
        assert np.array_equal(a, b)


def test_what_a_numbers_own_code_raises_is_not_hidden():
    class Broken:
        def __float__(self):
            raise ZeroDivisionError("mine")

    p = np.ones(2)
    with pytest.raises(ZeroDivisionError, match="mine"):
        step("sgd", p, np.ones(2), (), (Broken(),))
    assert (p == 1).all()


def test_float32_coefficient_overflow():
    p = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="finite in float32"):
        step("sgd", p, np.ones(3, np.float32), (), (1e39,))


def test_read_only_gradient_is_fine():
    p = np.ones(4)
    step("sgd", p, read_only(np.ones(4)), (), (0.5,))
    assert (p == 0.5).all()


def test_a_view_of_a_larger_array():
    W = np.ones((3, 4), np.float32)
    step("sgd", W.reshape(-1), np.ones(12, np.float32), (), (0.5,))
    assert (W == 0.5).all()


def test_rules_are_capsules():
    assert {type(capsule).__name__ for capsule in RULES.values()} == {"PyCapsule"}
