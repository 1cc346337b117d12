"""Schedule-free rules: the paper's three points, their weights, and where to evaluate."""

import copy
import pickle

import numpy as np
import pytest
from helpers import arrays, assert_same_arrays, copies, every_dtype, packed, strided

import fastoptim as fo

SHAPES = {"W": (30, 41), "big": (3, 1025), "b": (7,), "e": (0,), "s": ()}
RULES = [fo.ScheduleFreeSGD, fo.ScheduleFreeAdamW]
every_free_rule = pytest.mark.parametrize("cls", RULES)
RATES = [0.0, 0.05, 0.1, 0.3, 0.3, 0.2, 0.4, 0.1]


def rates(step):
    """A learning rate that rises from 0, falls, rises above what it was, and stays low."""
    return RATES[min(step, len(RATES) - 1)]


def random_grads(rng, params):
    return {
        key: rng.standard_normal(np.shape(p)).astype(np.asarray(p).dtype)
        for key, p in params.items()
    }


def trained(cls, params, steps=9, seed=0, **options):
    """An optimizer after some updates of all parameters."""
    rng, opt = np.random.default_rng(seed), cls(**{"lr": rates, **options})
    for _ in range(steps):
        opt.update(params, random_grads(rng, params))
    return opt


def beta_of(opt):
    return opt.beta if isinstance(opt, fo.ScheduleFreeSGD) else opt.beta1


def expected_point(opt, params):
    """x as it is said to be computed, to the bit."""
    points = {}
    for key, p in params.items():
        factor = p.dtype.type(1.0 - beta_of(opt))
        points[key] = p - factor * opt.d[key]
    return points


# ---------------------------------------------------------------- the recursion


@every_free_rule
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 1.0])
def test_the_three_points_of_the_paper(cls, beta):
    """x is the mean of all z so far, each with the weight of the largest rate by then, squared."""
    rng, decay = np.random.default_rng(1), 0.1
    y = rng.standard_normal(20)
    params, z, v = {"W": y.copy()}, y.copy(), np.zeros(20)
    name = "beta" if cls is fo.ScheduleFreeSGD else "beta1"
    opt = cls(lr=rates, weight_decay=decay, **{name: beta})
    points, weights = [], []
    for t in range(1, 13):
        g, lr = rng.standard_normal(20), rates(t - 1)
        direction = g
        if cls is fo.ScheduleFreeAdamW:
            v = 0.999 * v + 0.001 * g**2
            direction = g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        z = z - lr * (direction + decay * y)
        points.append(z)
        weights.append(max(RATES[:t]) ** 2)
        x = np.average(points, axis=0, weights=weights) if any(weights) else z
        y = (1 - beta) * z + beta * x
        opt.update(params, {"W": g})
        np.testing.assert_allclose(params["W"], y, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(params["W"] + beta * opt.d["W"], z, rtol=1e-12, atol=1e-13)
        with opt.evaluation(params):
            np.testing.assert_allclose(params["W"], x, rtol=1e-12, atol=1e-13)


@every_free_rule
def test_a_decoupled_decay_is_not_clipped(cls):
    """It is part of the step, taken at y, and the parameter itself is not scaled."""
    options = {"lr": 0.1, "weight_decay": 0.5, "decoupled": True}
    one, other = ({"W": np.full(3, 8.0)} for _ in "12")
    free, clipped = cls(**options), cls(**options, clip_value=1.0)
    free.update(one, {"W": np.ones(3)})
    clipped.update(other, {"W": np.full(3, 1.0)})
    assert_same_arrays(one, other, "params")
    np.testing.assert_allclose(one["W"], 8.0 - 0.1 - 0.1 * 0.5 * 8.0, rtol=1e-6)


@every_free_rule
@pytest.mark.parametrize("scale", [1e-200, 1e120])
def test_weights_neither_vanish_nor_overflow(cls, scale):
    opt = cls(lr=lambda step: scale * (1 + (step > 1)))
    carried = None
    for lr, share in ((1, 1.0), (1, 1 / 2), (2, 2 / 3), (2, 2 / 5), (1, 2 / 7)):
        opt.lr = scale * lr
        scalars, carried = opt.carried_on(1, carried)
        np.testing.assert_allclose(scalars[-1], share, rtol=1e-15)


@every_free_rule
def test_a_rate_of_0_moves_nothing(cls):
    params = {"W": np.ones(4)}
    opt = trained(cls, params, lr=0.0)
    np.testing.assert_array_equal(params["W"], 1.0)
    with opt.evaluation(params):
        np.testing.assert_array_equal(params["W"], 1.0)
    assert opt.coefficients(3)[-1] == 0.0


@every_free_rule
def test_what_is_written_into_the_parameters_stays(cls):
    """It moves z and x, too: what training adds is the same wherever it takes place."""
    here, there = {"W": np.zeros(5)}, {"W": np.zeros(5)}
    first, second = trained(cls, here), trained(cls, there)
    there["W"] += 64.0
    for opt, params in ((first, here), (second, there)):
        for _ in range(3):
            opt.update(params, {"W": np.full(5, 0.5)})
    np.testing.assert_allclose(there["W"] - 64.0, here["W"], rtol=0, atol=1e-12)
    with first.evaluation(here), second.evaluation(there):
        np.testing.assert_allclose(there["W"] - 64.0, here["W"], rtol=0, atol=1e-12)


# ---------------------------------------------------------------- what is kept for each key


def test_keys_with_the_same_count_and_other_rates_have_other_weights():
    """Each key is as if it had an optimizer of its own, given the rates of its updates."""
    rng = np.random.default_rng(2)
    present = ["ab", "a", "b", "ab", "b", "a", "abc", "abc", "ac"]
    start = {key: rng.standard_normal(6) for key in "abc"}
    params, alone = copies(start), copies(start)
    opt, own = fo.ScheduleFreeSGD(lr=rates), {key: fo.ScheduleFreeSGD() for key in "abc"}
    for step, keys in enumerate(present):
        here = {key: p for key, p in params.items() if key != "c" or step > 5}
        grads = random_grads(rng, here)
        opt.update(here, {key: g if key in keys else None for key, g in grads.items()})
        for key in keys:
            own[key].lr = rates(step)
            own[key].update({key: alone[key]}, {key: grads[key]})
    assert_same_arrays(params, alone, "params")
    for key in "abc":
        assert_same_arrays({key: opt.d[key]}, dict(own[key].d), "d")


@every_free_rule
def test_groups_have_rates_and_betas_of_their_own(cls):
    name = "beta" if cls is fo.ScheduleFreeSGD else "beta1"
    params = {"W": np.ones((3, 4)), "b": np.ones(5)}
    opt = trained(cls, params, groups=[fo.Group("b", lr=0.25, **{name: 0.5})])
    rng = np.random.default_rng(0)
    alone = {"W": np.ones((3, 4)), "b": np.ones(5)}
    own = {"W": cls(lr=rates), "b": cls(lr=0.25, **{name: 0.5})}
    for _ in range(9):
        grads = random_grads(rng, alone)
        for key, one in own.items():
            one.update({key: alone[key]}, {key: grads[key]})
    assert_same_arrays(params, alone, "params")
    points = {key: expected_point(one, {key: alone[key]})[key] for key, one in own.items()}
    with opt.evaluation(params):
        assert_same_arrays(params, points, "points")


@pytest.mark.parametrize("how", ["state_dict", "file", "deepcopy", "pickle", "training"])
@every_free_rule
def test_training_goes_on_to_the_bit(cls, how, tmp_path):
    """With rates that are assigned, which nobody could find again: they are kept."""
    if how in ("file", "training"):
        pytest.importorskip("safetensors")
    rng = np.random.default_rng(3)
    whole, params = ({"W": np.ones((3, 4), np.float32)} for _ in "12")
    opt, other = cls(), cls()
    for step in range(8):
        grads = random_grads(rng, whole)
        if step == 4:
            saved = other
            if how == "state_dict":
                other = cls()
                other.load_state_dict(saved.state_dict())
            elif how == "file":
                saved.save(tmp_path / "state")
                other = cls()
                other.load(tmp_path / "state")
            elif how == "deepcopy":
                other = copy.deepcopy(saved)
            elif how == "pickle":
                other = pickle.loads(pickle.dumps(saved))
            else:
                fo.save(tmp_path / "all", {"opt": saved, "params": params})
                loaded = fo.load(tmp_path / "all")
                other, params = loaded["opt"], loaded["params"]
        opt.lr = other.lr = RATES[step]
        opt.update(whole, grads)
        other.update(params, grads)
        assert_same_arrays(params, whole, "params")
    with opt.evaluation(whole), other.evaluation(params):
        assert_same_arrays(params, whole, "points")


@pytest.mark.parametrize(
    "carried",
    [None, (), (1.0,), (1.0, 0.1, 0.1), (1, 0.1), (-1.0, 0.1), (float("nan"), 0.1),
     (1.0, float("inf")), "ab", {"total": 1.0}],
)
def test_a_state_that_carries_something_else(carried):
    params, opt = {"W": np.ones(3)}, fo.ScheduleFreeSGD()
    opt.update(params, {"W": np.ones(3)})
    saved = opt.state_dict()
    if carried is None:
        del saved["parameters"]["W"]["carried"]
    else:
        saved["parameters"]["W"]["carried"] = carried
    with pytest.raises(ValueError, match="carried|must carry 2 finite floats of at least 0, got"):
        opt.load_state_dict(saved)
    other = fo.ScheduleFreeSGD()
    other.update({"W": np.ones(3)}, {"W": np.ones(3)})
    assert opt.state_dict()["parameters"]["W"]["carried"] == (1.0, 1.0)
    opt.reset()
    again = {"W": np.ones(3)}
    opt.update(again, {"W": np.ones(3)})
    assert opt.state_dict()["parameters"]["W"]["carried"] == (1.0, 1.0)


def test_rules_that_carry_nothing_save_nothing_of_it():
    opt = fo.Adam()
    opt.update({"W": np.ones(3)}, {"W": np.ones(3)})
    assert "carried" not in opt.state_dict()["parameters"]["W"]


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_an_update_that_is_not_made_has_no_weight(nonfinite):
    one, other = ({"W": np.ones(3)} for _ in "12")
    first = fo.ScheduleFreeSGD(0.1, nonfinite=nonfinite)
    second = fo.ScheduleFreeSGD(0.1)
    for step in range(4):
        first.lr = second.lr = RATES[step + 1]
        if step == 2:
            first.lr = 100.0
            bad = {"W": np.array([1.0, np.nan, 1.0])}
            if nonfinite == "raise":
                with pytest.raises(FloatingPointError):
                    first.update(one, bad)
            else:
                first.update(one, bad)
            first.lr = second.lr
        for opt, params in ((first, one), (second, other)):
            opt.update(params, {"W": np.full(3, 0.5)})
    assert_same_arrays(one, other, "params")


@every_free_rule
def test_a_soft_batch_is_one_step_of_the_average(cls):
    one, other = ({"W": np.ones((4, 3)), "b": np.ones(3)} for _ in "12")
    batch, opt = fo.SoftBatch(cls(lr=rates), every=2), cls(lr=rates)
    rng = np.random.default_rng(4)
    for _ in range(6):
        grads = random_grads(rng, one)
        batch.update(one, grads)
        batch.update(one, grads)
        opt.update(other, grads)
    assert_same_arrays(one, other, "params")
    with batch.opt.evaluation(one), opt.evaluation(other):
        assert_same_arrays(one, other, "points")


@every_free_rule
def test_rows_that_are_not_touched_keep_their_points(cls):
    table, dense = np.ones((6, 3)), np.ones((2, 3))
    opt, other = cls(lr=rates), cls(lr=rates)
    rng = np.random.default_rng(5)
    for _ in range(7):
        values = rng.standard_normal((2, 3))
        opt.update({"E": table}, {"E": fo.Rows(np.array([4, 1]), values)})
        other.update({"E": dense}, {"E": values})
    untouched = [0, 2, 3, 5]
    with opt.evaluation({"E": table}), other.evaluation({"E": dense}):
        np.testing.assert_array_equal(table[untouched], 1.0)
        np.testing.assert_array_equal(table[[4, 1]], dense)
    np.testing.assert_array_equal(table[untouched], 1.0)
    np.testing.assert_array_equal(table[[4, 1]], dense)
    kept = table[4] - (1.0 - beta_of(opt)) * opt.d["E"][4]
    opt.update({"E": table}, {"E": fo.Rows(np.array([0]), np.ones((1, 3)))})
    with opt.evaluation({"E": table}):
        np.testing.assert_array_equal(table[4], kept)


# ---------------------------------------------------------------- the point to evaluate at


@every_dtype
@every_free_rule
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, strided, packed])
def test_there_and_back(layout, cls, dtype):
    params, again = (
        {key: layout(a) if a.ndim else a for key, a in drawn.items()}
        for drawn in (arrays(np.random.default_rng(1), SHAPES, dtype) for _ in "12")
    )
    opt = trained(cls, params)
    weights, state = copies(params), copies(opt.d)
    points = expected_point(opt, weights)
    with opt.evaluation(params) as given:
        assert given is params
        assert_same_arrays(params, points, "points")
    assert_same_arrays(params, weights, "params")
    assert_same_arrays(opt.d, state, "d")
    for one, arrays_of in ((opt, params), (trained(cls, again), again)):
        one.update(arrays_of, {key: np.ones_like(p) for key, p in arrays_of.items()})
    assert_same_arrays(params, again, "params of the next update")


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_whatever_is_raised_the_parameters_come_back(raised):
    params = {"W": np.ones(5)}
    opt = trained(fo.ScheduleFreeSGD, params)
    weights = copies(params)
    with pytest.raises(raised), opt.evaluation(params):
        raise raised
    assert_same_arrays(params, weights, "params")
    opt.update(params, {"W": np.ones(5)})


def test_before_the_first_update_nothing_is_elsewhere():
    params = {"W": np.ones(3), "x": 2.0}
    with fo.ScheduleFreeSGD().evaluation(params):
        assert (params["W"].tolist(), params["x"]) == ([1.0] * 3, 2.0)


def test_only_what_has_been_updated():
    params = {"a": np.ones(2), "new": np.ones(2)}
    opt = trained(fo.ScheduleFreeSGD, {"a": params["a"]})
    before = copies(params)
    with opt.evaluation(params):
        assert params["a"].tolist() != before["a"].tolist()
        assert params["new"].tolist() == before["new"].tolist()
    assert_same_arrays(params, before, "params")


def test_lists_and_numbers():
    pair = [np.array([8.0, 8.0]), 8.0, np.float32(8.0)]
    opt = fo.ScheduleFreeSGD(lr=1.0, beta=0.5)
    for _ in range(2):
        opt.update(pair, [np.array([4.0, 4.0]), 4.0, np.float32(4.0)])
    with opt.evaluation(pair):
        assert (pair[0].tolist(), pair[1], pair[2]) == ([2.0, 2.0], 2.0, 2.0)
        assert (type(pair[1]), type(pair[2])) == (float, np.float32)
    assert (pair[0].tolist(), pair[1], pair[2]) == ([1.0, 1.0], 1.0, 1.0)
    assert (type(pair[1]), type(pair[2])) == (float, np.float32)


@pytest.mark.parametrize(
    "act",
    [
        lambda opt, params: opt.update(params, {"W": np.ones(5)}),
        lambda opt, params: opt.state_dict(),
        lambda opt, params: opt.load_state_dict(fo.ScheduleFreeSGD().state_dict()),
        lambda opt, params: opt.reset(),
        lambda opt, params: opt.evaluation(params).__enter__(),
        lambda opt, params: opt.averaged(params).__enter__(),
    ],
)
def test_what_must_wait_until_the_parameters_are_back(act):
    params = {"W": np.ones(5)}
    opt = trained(fo.ScheduleFreeSGD, params, average=0.5)
    weights = copies(params)
    with (
        opt.evaluation(params),
        pytest.raises(RuntimeError, match=r"evaluate at; leave `with opt.evaluation\(params\)` fi"),
    ):
        act(opt, params)
    assert_same_arrays(params, weights, "params")
    with opt.averaged(params), pytest.raises(RuntimeError, match="hold their averages, and this"):
        act(opt, params)


def test_an_entered_context_is_not_entered_again():
    params = {"W": np.ones(5)}
    context = trained(fo.ScheduleFreeSGD, params).evaluation(params)
    for _ in range(2):
        with context, pytest.raises(RuntimeError, match=r"opt.evaluation\(params\) makes another"):
            context.__enter__()


@pytest.mark.parametrize(
    ("own", "params", "error", "words"),
    [
        (np.ones(5), {}, KeyError, "params has no key 'W', which has been updated"),
        (np.ones(5), {"W": np.ones(6)}, ValueError, r"params\['W'\] has shape \(6,\)"),
        (np.ones(5), {"W": np.ones(5, np.float32)}, TypeError, r"params\['W'\] is float32"),
        (np.ones(5), {"W": np.broadcast_to(1.0, 5)}, ValueError, "read-only"),
        (np.ones(5), {"W": 1.0}, ValueError, r"is a number, but its state has shape \(5,\)"),
        (1.0, {"W": np.float32(1.0)}, TypeError, r"params\['W'\] is float32, but its state is flo"),
        (np.ones(5), np.ones(5), TypeError, "params must be a dict or a list"),
    ],
)
def test_what_cannot_hold_its_point(own, params, error, words):
    opt = trained(fo.ScheduleFreeSGD, {"W": own})
    before = copy.deepcopy(params)
    with pytest.raises(error, match=words), opt.evaluation(params):
        pass
    np.testing.assert_equal(params, before)
    opt.update({"W": own}, {"W": own})


@pytest.mark.filterwarnings("error")
def test_a_point_that_is_not_finite_warns_of_nothing():
    params = {"W": np.ones(3)}
    opt = trained(fo.ScheduleFreeSGD, params)
    params["W"][:] = opt.d["W"][:] = np.array([np.inf, 1e308, np.nan])
    with opt.evaluation(params):
        assert np.isnan(params["W"]).tolist() == [True, False, True]


def test_two_keys_on_one_memory():
    opt = trained(fo.ScheduleFreeSGD, {"a": np.ones(2), "b": np.ones(2)})
    a = np.zeros(3)
    with pytest.raises(ValueError, match="share memory"), opt.evaluation({"a": a[:2], "b": a[1:]}):
        pass
    np.testing.assert_array_equal(a, np.zeros(3))


@pytest.mark.parametrize("opt", [fo.Adam(), fo.SGD(average=0.5), fo.Rprop()], ids=repr)
def test_other_rules_are_evaluated_where_their_parameters_are(opt):
    assert not hasattr(opt, "evaluation")
    with pytest.raises(AttributeError, match="the parameters themselves are the point to evaluate"):
        opt.evaluation({"W": np.ones(3)})
    assert "evaluation" not in dir(opt)


def test_warmup_is_a_schedule():
    with pytest.raises(TypeError, match=r"a rate that rises is a schedule: lr=fastoptim.schedules"):
        fo.ScheduleFreeAdamW(warmup_steps=10)
    with pytest.raises(TypeError, match="has no 'momentum'; here it is beta"):
        fo.ScheduleFreeSGD(momentum=0.9)
