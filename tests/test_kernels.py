"""What the library's own modules call: a wrong argument is refused before memory is read by it."""

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import kernels
from fastoptim.kernels import RULES
from fastoptim.kernels.update.checks import containers as checks
from fastoptim.kernels.update.engine import Engine
from fastoptim.kernels.update.pipeline import Pipeline, Plan

F32 = np.float32


def pipeline(rule="momentum", slots=("v",), starts=(0.0,), coefficients=lambda t: (0.1, 0.9)):
    return Pipeline(RULES[rule], slots, starts, coefficients)


def test_the_public_names():
    """What other people's code may call; the rest is for the library's own modules."""
    assert kernels.__all__ == ["ISA", "RULES", "available_isas", "capsule", "step"]


@pytest.mark.parametrize(
    "pipelines", [[None], [pipeline(), None], [pipeline(), 3], [Pipeline]],
    ids=["None", "None behind one", "a number behind one", "the class"],
)
def test_pipelines_that_are_none(pipelines):
    with pytest.raises(TypeError, match="pipelines must be a list of Pipeline, got"):
        Plan(pipelines)


def test_a_plan_that_is_none():
    params, engine = {"x": np.ones(3)}, Engine()
    with pytest.raises(TypeError, match="plan"):
        engine.update(params, {"x": np.ones(3)}, None)
    assert (params["x"] == 1).all()
    engine.update(params, {"x": np.ones(3)}, Plan([pipeline()]))
    assert (params["x"] != 1).all()


@pytest.mark.parametrize(
    ("slots", "starts"),
    [((), ()), (("v", "w"), (0.0, 0.0)), (tuple("abcdefgh"), (0.0,) * 8), (("v",), ()),
     ((), (0.0,)), (("v",), (0.0, 0.0))],
)
def test_as_many_slots_as_the_rule_has(slots, starts):
    text = rf"'momentum' has 1 state arrays, got {len(slots)} names and {len(starts)} starts"
    with pytest.raises(ValueError, match=text):
        pipeline(slots=slots, starts=starts)


@pytest.mark.parametrize("group", [-1, -(2**31)])
def test_a_group_below_zero(group):
    params, chosen = {"a": np.ones(3), "x": np.ones(3)}, {"a": 0, "x": group}
    engine, plan = Engine(lambda key, p: chosen[key]), Plan([pipeline()])
    with pytest.raises(ValueError, match=rf"the group of 'x' is {group}; .*counted from 0"):
        engine.update(params, dict(params), plan)
    assert engine.store.iter == 0
    assert all((p == 1).all() for p in params.values())
    chosen["x"] = 0
    engine.update(params, {key: np.ones(3) for key in params}, plan)
    assert engine.store.iter == 1


@pytest.mark.parametrize("group", [1, 2**31 - 1])
def test_a_group_without_a_pipeline(group):
    params, engine = {"x": np.ones(3)}, Engine(lambda key, p: group)
    with pytest.raises(RuntimeError, match="the groups changed in the middle"):
        engine.update(params, {"x": np.ones(3)}, Plan([pipeline()]))
    assert (params["x"] == 1).all()


COALESCED = {
    "short": ([1, 0], np.ones(3, F32), 4, 2, ValueError, "2 rows of 2 elements are 4, got 3"),
    "long": ([1, 0], np.ones(5, F32), 4, 2, ValueError, "2 rows of 2 elements are 4, got 5"),
    "flat": ([1, 0], np.ones(4, F32), 4, 2, ValueError, "values must have a row for each"),
    "int8": ([1, 0], np.ones(4, np.int8), 4, 2, TypeError, "values must be an array of float32"),
    "half": ([1, 0], np.ones(4, np.float16), 4, 2, TypeError, "values must be an array of float32"),
    "byte order": ([1, 0], np.ones(4, ">f4"), 4, 2, TypeError, "values must be an array of float"),
    "list": ([1, 0], [1.0, 1.0, 1.0, 1.0], 4, 2, TypeError, "values must be an array of float32"),
    "strided": ([1, 0], np.ones(8, F32)[::2], 4, 2, ValueError, "contiguous and aligned"),
    "negative length": ([1, 0], np.ones(0, F32), 4, -1, ValueError, "at least 0, got 4 and -1"),
    "negative table": ([1, 0], np.ones(4, F32), -1, 2, ValueError, "at least 0, got -1 and 2"),
    "index of floats": ([1.0, 0.0], np.ones(4, F32), 4, 2, TypeError, "array of integers"),
    "index with two axes": ([[1, 0]], np.ones(4, F32), 4, 2, TypeError, "array of integers"),
    "beyond": ([4, 0], np.ones((2, 2), F32), 4, 2, IndexError, "but the parameter has 4 rows"),
}


@pytest.mark.parametrize("name", COALESCED)
def test_rows_that_cannot_be_summed(name):
    index, values, table, length, error, text = COALESCED[name]
    with pytest.raises(error, match=text):
        kernels.coalesced("grads['E']", np.array(index), values, table, length)


# ---------------------------------------------------------------- what an error suggests


@pytest.fixture
def compared(monkeypatch):
    """What difflib was given to compare: pairs of a text and texts."""
    seen, real = [], checks.get_close_matches

    def spy(text, others, n):
        seen.append((text, list(others)))
        return real(text, others, n)

    monkeypatch.setattr(checks, "get_close_matches", spy)
    return seen


def test_a_thousand_wrong_keys_are_not_all_compared(compared):
    """difflib's work grows with the product of the lengths of every pair."""
    keys = [f"encoder.layer.{i}.attention.self.query.weight" for i in range(1000)]
    params = {key: np.ones(1) for key in keys}
    grads = {key.replace("weight", "weigth"): np.ones(1) for key in reversed(keys)}
    with pytest.raises(KeyError, match="Did you mean") as problem:
        fo.SGD().update(params, grads)
    for key in keys[:3]:
        assert f"{key.replace('weight', 'weigth')!r} for {key!r}" in str(problem.value)
    assert len(compared) == 3
    assert all(len(others) <= 16 for _, others in compared)


def test_long_keys_are_not_compared(compared):
    long = "x" * 100_000
    for wrong, right in [(long, long + "y"), ("W", long), (long, "W")]:
        with pytest.raises(KeyError, match="To leave a parameter as it is, give None"):
            fo.SGD().update({right: np.ones(1)}, {wrong: np.ones(1)})
    assert all(len(text) <= 100 and not others for text, others in compared)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("W1", "dW1"), ("weight", "wieght"), ("conv.bias", "conv_bias"), ("bias", "baïs")],
)
def test_a_key_that_is_alike_is_suggested(right, wrong):
    others = {f"layer.{i}.kernel": np.ones(1) for i in range(100)}
    with pytest.raises(KeyError, match=f"Did you mean '{wrong}' for '{right}'"):
        fo.SGD().update({**others, right: np.ones(1)}, {**others, wrong: np.ones(1)})
