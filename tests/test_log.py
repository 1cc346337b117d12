"""What a training log asks an optimizer: rates, norms, counters; and reset."""

import copy

import numpy as np
import pytest
from helpers import arrays, copies, every_class, every_dtype
from reference import global_norm

import fastoptim as fo

SHAPES = {"W": (30, 41), "b": (7,), "c": (1025,), "s": ()}


def ones(n):
    return np.ones(n)


# ---------------------------------------------------------------- current


def test_current_is_what_the_next_update_uses():
    rate, other = fo.schedules.linear(0.0, 1.0, 4), fo.schedules.linear(1.0, 0.0, 4)
    opt = fo.SGD(rate, groups=[fo.Group("b", lr=other), fo.Group("c", weight_decay=0.5)])
    params = {key: np.zeros(1) for key in "abc"}
    for step in range(4):
        rates = [opt.current("lr"), *(opt.current("lr", group=k) for k in (0, 1))]
        assert rates == [rate(step), other(step), rate(step)]
        assert opt.current("lr", opt.groups[0]) == other(step)
        assert (opt.current("weight_decay"), opt.current("weight_decay", 1)) == (0.0, 0.5)
        before = copies(params)
        opt.update(params, {key: ones(1) for key in "abc"})
        assert [before[key][0] - params[key][0] for key in "ab"] == pytest.approx(rates[:2])
    assert opt.lr is rate


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("learning_rate",), AttributeError, "SGD has no 'learning_rate'"),
        (("groups",), AttributeError, "SGD has no hyperparameter 'groups'"),
        (("lr", 1), ValueError, "this optimizer has 1 groups, counted from 0, got 1"),
        (("lr", -1), ValueError, "this optimizer has 1 groups, counted from 0, got -1"),
        (("lr", "b"), TypeError, "group must be one of opt.groups or its index, got 'b'"),
        (("lr", True), TypeError, "group must be one of opt.groups or its index, got True"),
        (("lr", fo.Group("b", lr=1.0)), ValueError, "is none of this optimizer's groups"),
    ],
)
def test_what_current_refuses(arguments, error, words):
    opt = fo.SGD(groups=[fo.Group("b", lr=1.0)])
    with pytest.raises(error, match=words):
        opt.current(*arguments)


# ---------------------------------------------------------------- the norm


@every_dtype
@pytest.mark.parametrize("options", [{"norm": True}, {"clip_norm": 3.0}, {"clip_norm": 1e6}])
def test_the_norm_is_that_of_the_oracle(options, dtype):
    rng = np.random.default_rng(0)
    params, opt = arrays(rng, SHAPES, dtype), fo.Adam(**options)
    assert (opt.grad_norm, opt.clipped) == (None, 0)
    clipped = 0
    for scale in (1.0, 0.01, 1.0):
        grads = {key: (scale * a).astype(dtype) for key, a in arrays(rng, SHAPES, dtype).items()}
        opt.update(params, grads)
        norm = global_norm(grads)
        clipped += norm > options.get("clip_norm", np.inf)
        assert (opt.grad_norm, opt.clipped) == (norm, clipped)


@every_class
def test_measuring_changes_no_bit(case):
    rng = np.random.default_rng(1)
    params, one, other = arrays(rng, SHAPES, np.float32), case.ours_with({}), case.ours_with({})
    other.norm, others = True, copies(params)
    for _ in range(3):
        grads = arrays(rng, SHAPES, np.float32)
        one.update(params, grads)
        other.update(others, grads)
    for key in SHAPES:
        np.testing.assert_array_equal(params[key], others[key], strict=True)
    assert (one.grad_norm is None, other.grad_norm is None) == (True, False)


def test_the_norm_of_a_soft_batch_is_that_of_its_mean():
    opt = fo.SGD(lr=1.0, clip_norm=1.0)
    soft, params = fo.SoftBatch(opt, every=2), {"W": np.zeros(2)}
    soft.update(params, {"W": np.array([6.0, 0.0])})
    assert (opt.grad_norm, opt.clipped) == (None, 0)    # no update was made
    soft.update(params, {"W": np.array([0.0, 8.0])})
    assert (opt.grad_norm, opt.clipped) == (5.0, 1)


def test_a_refused_update_and_one_that_is_left_out_change_neither():
    opt, params = fo.SGD(clip_norm=1.0, nonfinite="raise"), {"W": np.zeros(2)}
    opt.update(params, {"W": np.array([3.0, 4.0])})
    with pytest.raises(FloatingPointError):
        opt.update(params, {"W": np.array([np.nan, 4.0])})
    assert (opt.grad_norm, opt.clipped) == (5.0, 1)
    opt.nonfinite = "skip"
    opt.update(params, {"W": np.array([np.inf, 4.0])})
    assert (opt.grad_norm, opt.clipped, opt.skipped) == (5.0, 1, 1)
    opt.nonfinite, opt.clip_norm = "propagate", None
    opt.update(params, {"W": np.array([1.0, 0.0])})      # measures nothing
    assert opt.grad_norm == 5.0


def test_a_norm_that_float64_does_not_hold_is_infinite():
    """Only clipping cannot go on with it."""
    opt, params = fo.SGD(norm=True), {"W": np.zeros(2)}
    opt.update(params, {"W": np.array([1e200, 1e200])})
    assert opt.grad_norm == np.inf
    opt.update(params, {"W": np.array([np.nan, 1.0])})
    assert np.isnan(opt.grad_norm)


# ---------------------------------------------------------------- counters


def test_updates_of():
    opt, params = fo.Momentum(), {"a": ones(2), "b": ones(3)}
    assert opt.updates_of == {}
    opt.update(params, {"a": ones(2), "b": None})
    opt.update(params, {"a": ones(2), "b": ones(3)})
    assert (opt.updates_of, opt.iter) == ({"a": 2, "b": 1}, 2)


def test_counters_are_saved_and_copied(tmp_path):
    opt, params = fo.SGD(clip_norm=1.0), {"W": np.zeros(2)}
    opt.update(params, {"W": np.array([3.0, 4.0])})
    opt.save(tmp_path / "state")
    loaded, twin, told = fo.SGD(), copy.deepcopy(opt), fo.SGD()
    loaded.load(tmp_path / "state")
    told.load_state_dict(opt.state_dict())
    assert [one.clipped for one in (loaded, twin, told)] == [1, 1, 1]
    assert loaded.updates_of == {"W": 1}


def test_a_state_of_a_version_without_these():
    saved = fo.SGD(clip_norm=1.0).state_dict()
    del saved["clipped"], saved["hyperparameters"]["norm"]
    opt = fo.SGD(norm=True)
    opt.load_state_dict(saved)
    assert (opt.clipped, opt.clip_norm, opt.norm) == (0, 1.0, True)
    del saved["hyperparameters"]["clip_norm"]
    with pytest.raises(ValueError, match="the state's hyperparameters are"):
        opt.load_state_dict(saved)


# ---------------------------------------------------------------- reset


@every_class
def test_after_a_reset_training_is_that_of_a_new_optimizer(case):
    rng = np.random.default_rng(2)
    used, fresh = case.ours_with({"average": 0.9}), case.ours_with({"average": 0.9})
    params = arrays(rng, SHAPES, np.float32)
    for _ in range(3):
        used.update(params, arrays(rng, SHAPES, np.float32))
    others = copies(params)
    used.reset()
    assert (used.iter, used.updates_of, used.clipped, used.grad_norm) == (0, {}, 0, None)
    for _ in range(2):
        grads = arrays(rng, SHAPES, np.float32)
        used.update(params, copies(grads))
        fresh.update(others, copies(grads))
    for key in SHAPES:
        np.testing.assert_array_equal(params[key], others[key], strict=True)
        np.testing.assert_array_equal(used.average_of[key], fresh.average_of[key], strict=True)
    for slot in used.kernels[used.kernel]:
        for key, a in getattr(fresh, slot).items():
            np.testing.assert_array_equal(getattr(used, slot)[key], a, strict=True)


def test_after_a_reset_shapes_and_groups_may_be_others():
    opt = fo.Momentum(groups=[fo.Group("W", lr=0.5)])
    opt.update({"W": ones(2)}, {"W": ones(2)})
    with pytest.raises(ValueError, match="groups cannot change"):
        opt.groups = []
    opt.reset()
    opt.groups = []
    opt.update({"W": ones(3)}, {"W": ones(3)})
    assert opt.v["W"].shape == (3,)


@pytest.mark.parametrize("option", ["clip_norm", "clip_norm_per_key", "norm"])
@pytest.mark.parametrize("seed", range(10))     # another order has the same norm now and then
def test_the_norm_of_rows_is_that_of_the_same_rows_in_any_order(option, seed):
    rng = np.random.default_rng(seed)
    values, order = rng.standard_normal((300, 7)), rng.permutation(300)
    found = []
    for index, v in ((np.arange(300), values), (order, values[order])):
        opt, params = fo.SGD(lr=1.0, **{option: option == "norm" or 1.0}), {"E": np.zeros((300, 7))}
        opt.update(params, {"E": fo.Rows(index, v, unique=True)})
        found.append((opt.grad_norm, params["E"]))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1], strict=True)
