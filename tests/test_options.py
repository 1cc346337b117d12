"""Every option with every rule, bit for bit against plain NumPy around the listing."""

import copy
import math

import numpy as np
import pytest
from helpers import (
    OPTIONS,
    all_pairs,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    assert_same_bits,
    copies,
    every_class,
    every_class_with_every_option,
    every_dtype,
    every_option,
    every_rule,
    read_only,
)
from reference import ORACLES, Staged, global_norm

import fastoptim as fo
from fastoptim.kernels import driver
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import checks_of

SHAPES = {"W": (30, 41), "b": (7,), "c": (1025,), "e": (0,), "s": ()}


def pair(case, options, dtype, shapes=SHAPES):
    """Random numbers, a rule and its oracle with the options, and equal parameters for both."""
    rng = np.random.default_rng(0)
    expected = arrays(rng, shapes, dtype)
    params = copies(expected)
    return rng, case.ours_with(options), case.oracle_with(options), params, expected


def test_every_option_is_among_those_that_all_rules_are_run_with():
    tried = {name for options in OPTIONS.values() for name in options}
    elsewhere = {"average_from", "denormals", "groups", "nonfinite", "norm"}
    elsewhere |= {"state_dtype", "rounding_seed"}       # test_low_precision.py
    elsewhere |= {"master", "state_dir"}                # test_half.py, test_state_dir.py
    assert set(checks_of(Optimizer)) == tried | elsewhere


@every_dtype
@every_class_with_every_option
def test_option(case, dtype, options, isa):
    rng, ours, oracle, params, expected = pair(case, options, dtype)
    for _ in range(4):
        grads = arrays(rng, SHAPES, dtype)
        theirs = copies(grads)
        oracle.update(expected, theirs)
        ours.update(params, grads)
        assert_same_bits(ours, oracle, params, expected)
        assert_same_averages(ours, oracle)
        assert_same_arrays(grads, theirs, "grads")


@pytest.mark.parametrize("name", ["all with clip_value", "all with clip_norm"])
@every_class
def test_option_past_the_thread_threshold(case, name, threads):
    options = OPTIONS[name]
    shapes = {"W": (400, 401), "b": (3,)}
    rng, ours, oracle, params, expected = pair(case, options, np.float32, shapes)
    for _ in range(2):
        grads = arrays(rng, shapes, np.float32)
        oracle.update(expected, copies(grads))
        ours.update(params, grads)
    assert_same_bits(ours, oracle, params, expected)
    assert_same_averages(ours, oracle)


@every_class_with_every_option
def test_option_with_strided_arrays(case, options):
    """Copied parameters and gradients pass the same stages; zeroed gradients are the caller's."""
    shapes = {"W": (20, 11), "b": (7,)}
    rng, ours, oracle, params, expected = pair(case, options, np.float64, shapes)
    params = {key: np.repeat(p, 2, axis=-1)[..., ::2] for key, p in params.items()}
    for _ in range(3):
        grads = arrays(rng, shapes, np.float64)
        oracle.update(expected, copies(grads))
        given = {key: np.repeat(g, 3, axis=-1)[..., ::3] for key, g in grads.items()}
        ours.update(params, given)
        if ours.zero_grads:
            assert all((g == 0).all() for g in given.values())
            assert all((g.base != 0).any() for g in given.values())
    assert_same_bits(ours, oracle, params, expected)
    assert_same_averages(ours, oracle)


@every_class_with_every_option
def test_option_set_on_a_running_optimizer(case, options):
    """On after two steps and off again after two more."""
    rng, ours, oracle, params, expected = pair(case, {}, np.float64)
    default = {name: getattr(ours, name) for name in options}
    for step in range(6):
        values = options if step in (2, 3) else default
        for name, value in values.items():
            setattr(ours, name, value)
            setattr(oracle, name, value)
        grads = arrays(rng, SHAPES, np.float64)
        oracle.update(expected, copies(grads))
        ours.update(params, grads)
        assert_same_bits(ours, oracle, params, expected)


@every_option
def test_special_numbers_pass_the_stages_as_in_numpy(options, isa):
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, 1.0], np.float32)
    p, g = all_pairs(values, values, np.float32)
    if "clip_norm" in options:
        g = np.where(np.isfinite(g), g, 1)
        g = np.where(abs(g) > 1e30, 5, g)
    expected, params = {"x": p.copy()}, {"x": p.copy()}
    ours, oracle = fo.SGD(**options), Staged(ORACLES["SGD"](), **options)
    with np.errstate(all="ignore"):
        oracle.update(expected, {"x": g.copy()})
    ours.update(params, {"x": g.copy()})
    assert_same_array(params["x"], expected["x"], "x")


# ---------------------------------------------------------------- clipping


def test_global_norm_is_the_norm():
    rng = np.random.default_rng(0)
    grads = arrays(rng, SHAPES, np.float64)
    squares = sum((g**2).sum() for g in grads.values())
    assert global_norm(grads) == pytest.approx(math.sqrt(squares), rel=1e-14)


@pytest.mark.parametrize(
    "layout", [np.copy, np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]]
)
def test_clip_norm_brings_the_norm_to_the_bound(layout):
    g = layout(np.full((300, 300), 2.0))
    params = {"x": layout(np.zeros((300, 300)))}
    fo.SGD(lr=1.0, clip_norm=6.0).update(params, {"x": g})
    assert np.allclose(params["x"], -6.0 / 300, rtol=1e-15)


def test_clip_norm_spans_the_whole_dict_and_both_dtypes():
    params = {"a": np.zeros(4), "b": np.zeros(5, np.float32)}
    fo.SGD(lr=1.0, clip_norm=1.0).update(params, {"a": np.ones(4), "b": np.ones(5, np.float32)})
    assert params["a"][0] == -1 / 3
    assert params["b"][0] == np.float32(-1 / 3)


def test_norm_too_large_for_float64():
    opt, params = fo.SGD(clip_norm=1.0), {"x": np.ones(3)}
    with pytest.raises(FloatingPointError, match="too large for the norm"):
        opt.update(params, {"x": np.full(3, 1e200)})
    assert (params["x"] == 1).all()
    assert opt.iter == 0


def test_both_clips_are_an_error():
    with pytest.raises(ValueError, match="clip_value and clip_norm cannot both be set"):
        fo.SGD(clip_value=1.0, clip_norm=1.0)
    opt = fo.SGD(clip_value=1.0)
    with pytest.raises(ValueError, match="set clip_value=None first"):
        opt.clip_norm = 1.0
    assert opt.clip_norm is None
    opt.clip_value = None
    opt.clip_norm = 1.0


def test_clip_value_of_a_group_beside_clip_norm():
    opt, params = fo.SGD(clip_norm=1.0, groups=[fo.Group("x", clip_value=1.0)]), {"x": np.ones(3)}
    with pytest.raises(ValueError, match="clip_value and clip_norm, one of them set by a group"):
        opt.update(params, {"x": np.ones(3)})
    assert (params["x"] == 1).all()


# ---------------------------------------------------------------- values that are refused

BAD = [
    ("weight_decay", -0.1, ValueError, r"weight_decay must be in \[0, inf\)"),
    ("weight_decay", math.nan, ValueError, r"weight_decay must be in \[0, inf\)"),
    ("weight_decay", "0.1", TypeError, r"weight_decay must be a number in"),
    ("weight_decay", None, TypeError, r"weight_decay must be a number in"),
    ("decoupled", 1, TypeError, "decoupled must be True or False, got 1"),
    ("clip_value", 0, ValueError, r"clip_value must be in \(0, inf\), got 0"),
    ("clip_norm", 0, ValueError, r"clip_norm must be in \(0, inf\), got 0"),
    ("clip_norm", math.inf, ValueError, r"clip_norm must be in \(0, inf\), got inf"),
    ("clip_norm", True, TypeError, "clip_norm must be a number"),
    ("maximize", "yes", TypeError, "maximize must be True or False"),
    ("zero_grads", None, TypeError, "zero_grads must be True or False"),
    ("average", 1.0, ValueError, r"average must be in \[0, 1\), got 1.0"),
    ("average", -0.1, ValueError, r"average must be in \[0, 1\)"),
    ("nonfinite", "ignore", ValueError, r"nonfinite must be one of \('propagate', 'skip', 'raise'"),
    ("denormals", "maybe", ValueError, r"denormals must be one of \('keep', 'flush'\)"),
    ("groups", fo.Group("x", lr=1), TypeError, "groups must be a list of fastoptim.Group"),
    ("groups", [1], TypeError, "groups must be a list of fastoptim.Group, got 1 in it"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD)
@every_rule
def test_bad_option(case, name, value, error, text):
    with pytest.raises(error, match=text):
        case.ours(**{name: value})
    opt = case.ours()
    before = repr(opt)
    with pytest.raises(error, match=text):
        setattr(opt, name, value)
    assert repr(opt) == before


@every_rule
def test_options_are_keyword_only(case):
    fields = [f for f in case.cls.__dataclass_fields__.values() if not f.kw_only]
    with pytest.raises(TypeError, match="the others are given by name"):
        case.cls(*(f.default for f in fields), 0.1)


def test_repr_shows_options_that_are_on():
    assert repr(fo.SGD(weight_decay=0.5)) == "SGD(lr=0.01, weight_decay=0.5)"
    group = fo.Group("*.b", lr=0.5)
    assert repr(fo.SGD(groups=[group])) == "SGD(lr=0.01, groups=(Group('*.b', lr=0.5),))"
    assert eval(repr(fo.SGD(maximize=True)), vars(fo)).maximize is True


# ---------------------------------------------------------------- zero_grads


# Each: the gradients of a and b, made with the parameter b, and what the error says.
UNFIT_FOR_ZEROS = {
    "read-only": (lambda b: [np.ones(4), read_only(np.ones(4))], r"grads\['b'\] is read-only"),
    "the parameter": (lambda b: [np.ones(4), b], "would wipe both"),
    "one for both": (lambda b: [np.ones(4)] * 2, "would wipe both"),
    "stride 0": (
        lambda b: [np.ones(4), np.lib.stride_tricks.as_strided(np.ones(1), (4,), (0,))],
        r"grads\['b'\] overlaps itself",
    ),
}


@pytest.mark.parametrize(("gradients", "text"), UNFIT_FOR_ZEROS.values(), ids=UNFIT_FOR_ZEROS)
@every_rule
def test_gradients_that_cannot_be_zeroed(case, gradients, text):
    params = {"a": np.ones(4), "b": np.ones(4)}
    a, b = gradients(params["b"])
    opt = case.ours(zero_grads=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=text):
            opt.update(params, {"a": a, "b": b})
    assert (params["a"] == 1).all()
    assert (a == 1).all()
    assert (b == 1).all()
    assert opt.iter == 0


def test_zeroed_gradients_of_floats():
    params, grads = {"x": 3.0, "y": np.array(3.0)}, {"x": 1, "y": np.float64(1)}
    fo.SGD(lr=1.0, zero_grads=True).update(params, grads)
    assert params["x"] == 2.0
    assert params["y"] == 2.0
    assert grads == {"x": 0, "y": 0.0}
    assert type(grads["x"]) is int


# ---------------------------------------------------------------- nonfinite


@pytest.mark.parametrize(("bad", "clip"), [(np.nan, {}), (-np.inf, {"clip_norm": 1.0})])
@every_dtype
@every_class
def test_skip_changes_nothing_else(case, dtype, bad, clip):
    shapes = {"W": (400, 401), "b": (7,)}
    rng, ours, oracle, params, expected = pair(case, clip, dtype, shapes)
    ours.nonfinite = "skip"
    ours.average = oracle.average = 0.5
    skipped = 0
    for step in range(4):
        grads = arrays(rng, shapes, dtype)
        if step in (0, 2):
            wrong = copies(grads)
            key = "W" if step == 0 else "b"
            wrong[key][-1] = bad
            assert ours.update(params, wrong) is None
            skipped += 1
            assert ours.skipped == skipped
            assert ours.iter == step
            assert_same_averages(ours, oracle)
        ours.update(params, grads)
        oracle.update(expected, copies(grads))
        assert_same_bits(ours, oracle, params, expected)
        assert_same_averages(ours, oracle)


def bad_at(*places, order="C"):
    """A gradient of shape (40, 50) with NaN in some places."""
    g = np.ones((40, 50), order=order)
    for place in places:
        g[place] = np.nan
    return g


@pytest.mark.parametrize(
    ("grads", "text"),
    [
        ({"W": bad_at((31, 7), (32, 1))}, r"grads\['W'\]\[31, 7\] is nan; nothing was updated"),
        ({"W": bad_at((31, 7), (32, 1), order="F")}, r"grads\['W'\]\[31, 7\] is nan"),
        ({"a": np.array([0, 0, np.inf, 0, np.nan])}, r"grads\['a'\]\[2\] is inf"),
        ({"s": np.array(-np.inf)}, r"grads\['s'\] is -inf"),
        ({"s": -math.inf}, r"grads\['s'\] is -inf"),
    ],
)
def test_raise_names_key_and_first_index(grads, text):
    opt = fo.Adam(nonfinite="raise")
    params = {"a": np.ones(5), "W": np.ones((40, 50)), "s": np.array(1.0)}
    good = {key: np.ones_like(p) for key, p in params.items()}
    with pytest.raises(FloatingPointError, match=text):
        opt.update(params, good | grads)
    assert all((p == 1).all() for p in params.values())
    assert opt.iter == opt.skipped == 0
    opt.update(params, good)
    assert opt.iter == 1


@every_dtype
def test_large_finite_gradients_are_finite(dtype):
    opt, params = fo.SGD(lr=0.0, nonfinite="raise"), {"x": np.ones(9, dtype)}
    opt.update(params, {"x": np.full(9, np.finfo(dtype).max, dtype)})
    assert opt.iter == 1


# ---------------------------------------------------------------- denormals


@pytest.mark.skipif(not driver.can_flush(), reason="this processor cannot flush")
@every_dtype
@every_class
def test_flush_in_every_worker_and_only_there(case, dtype, threads):
    tiny = np.finfo(dtype).tiny
    n = 200_000
    g = np.full(n, tiny / 4, dtype)
    for mode, expected in [("keep", -(tiny / 4)), ("flush", 0)]:
        params = {"x": np.zeros(n, dtype)}
        fo.SGD(lr=1.0, denormals=mode).update(params, {"x": g})
        assert (params["x"] == dtype(expected)).all()
    assert dtype(tiny) * dtype(0.5) != 0  # the caller's own mode
    params = {"x": np.full(n, 0.5, dtype)}
    opt = case.ours(denormals="flush")
    opt.update(params, {"x": g})
    for slot in set(case.slots) - {"g_prev"}:       # a copy is no arithmetic
        state = abs(getattr(opt, slot)["x"])
        assert ((state == 0) | (state >= tiny)).all()


# ---------------------------------------------------------------- groups


@every_rule
def test_groups_are_optimizers_of_their_own(case):
    """Each key as its own optimizer with the hyperparameters of its group would have it."""
    groups = [
        fo.Group("*.bias", lr=0.5, weight_decay=0.0),
        fo.Group("emb*", maximize=True, average=0.9),
        fo.Group("*.b*", lr=123.0),  # the first match wins
    ]
    opt = case.ours_with({"weight_decay": 0.01}, lr=0.1, groups=groups)
    rng = np.random.default_rng(0)
    own = {
        "a.W": {},
        "a.bias": {"lr": 0.5, "weight_decay": 0.0},
        "emb.W": {"maximize": True, "average": 0.9},
        "emb.bias": {"lr": 0.5, "weight_decay": 0.0},
        "c.beta": {"lr": 123.0},
    }
    start = {key: rng.standard_normal(50) for key in own}
    params = copies(start)
    oracles = {}
    for key, values in own.items():
        options = {"weight_decay": 0.01} | values
        lr = options.pop("lr", 0.1)
        oracles[key] = case.oracle_with(options, lr=lr)
    for _ in range(5):
        grads = {key: rng.standard_normal(50) for key in own}
        opt.update(params, grads)
        for key, oracle in oracles.items():
            oracle.update({key: start[key]}, {key: grads[key].copy()})
            assert_same_array(params[key], start[key], key)
    assert set(opt.average_of) == {"emb.W"}
    assert_same_array(opt.average_of["emb.W"], oracles["emb.W"].average_of["emb.W"], "average")


def test_groups_are_live_and_checked():
    group = fo.Group("x", lr=0.5)
    opt, params = fo.SGD(groups=[group]), {"x": np.zeros(1), "y": np.zeros(1)}
    opt.groups[0].lr = 0.25
    opt.update(params, {"x": np.ones(1), "y": np.ones(1)})
    assert params["x"] == -0.25
    opt.groups[0].weight_decay = 1.0
    opt.update(params, {"x": np.zeros(1), "y": np.zeros(1)})
    assert params["x"] == -0.25 + 0.25 * 0.25
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\), got -1"):
        opt.groups[0].lr = -1
    with pytest.raises(TypeError, match=r"Group\('x'\) cannot set 'LR'"):
        opt.groups[0].LR = 1
    with pytest.raises(AttributeError, match="give a group to an optimizer first"):
        group.lr = 1
    assert group.lr == 0.5
    with pytest.raises(ValueError, match="groups cannot change after the first update"):
        opt.groups = []


@pytest.mark.parametrize(
    ("pattern", "values", "error", "text"),
    [
        ("x", {"clip_norm": 1.0}, TypeError, "clip_norm concerns the whole update"),
        ("x", {"nonfinite": "skip"}, TypeError, "nonfinite concerns the whole update"),
        (3, {"lr": 1.0}, TypeError, "pattern must be a text"),
        ("x", {}, TypeError, "gives no hyperparameter"),
    ],
)
def test_bad_groups(pattern, values, error, text):
    with pytest.raises(error, match=text):
        fo.Group(pattern, **values)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"alpha": 0.5}, TypeError, r"Group\('x'\) cannot set 'alpha'"),
        ({"lr": -1}, ValueError, r"lr must be in \[0, inf\), got -1"),
    ],
)
def test_groups_that_do_not_fit_the_rule(values, error, text):
    with pytest.raises(error, match=text):
        fo.SGD(groups=[fo.Group("x", **values)])


def test_a_pattern_that_matches_no_key():
    opt = fo.Adam(groups=[fo.Group("W*", lr=0.1), fo.Group("*.bais", lr=0.5)])
    params = {"W": np.ones(2), "a.bias": np.ones(2)}
    with pytest.raises(ValueError, match=r"Group\('\*\.bais', lr=0.5\) matches no key"):
        opt.update(params, {"W": np.ones(2), "a.bias": np.ones(2)})
    assert (params["W"] == 1).all()
    assert opt.iter == 0


def test_keys_that_are_no_texts():
    opt = fo.SGD(lr=0.5, groups=[fo.Group("1", lr=0.25)])
    params = [np.zeros(1), np.zeros(1)]
    opt.update(params, [np.ones(1), np.ones(1)])
    assert [float(p[0]) for p in params] == [-0.5, -0.25]


def test_a_form_by_group():
    opt = fo.Nesterov(groups=[fo.Group("b", form="listing")])
    params = {"a": np.ones(9), "b": np.ones(9)}
    apart = {"a": np.ones(9), "b": np.ones(9)}
    one, two = fo.Nesterov(), fo.Nesterov(form="listing")
    for _ in range(3):
        g = np.ones(9)
        opt.update(params, {"a": g, "b": g})
        one.update({"a": apart["a"]}, {"a": g})
        two.update({"b": apart["b"]}, {"b": g})
    assert np.array_equal(params["a"], apart["a"])
    assert np.array_equal(params["b"], apart["b"])
    assert not np.array_equal(params["a"], params["b"])


# ---------------------------------------------------------------- schedules


@every_rule
def test_schedule_equals_assignment(case):
    """lr as a function of the completed updates, and as an attribute set before each."""
    a, b = {"x": np.ones(20)}, {"x": np.ones(20)}
    scheduled = case.ours(lr=lambda step: 0.1 / (1 + step), weight_decay=lambda step: 0.01 * step)
    assigned = case.ours()
    rng = np.random.default_rng(0)
    for step in range(6):
        g = rng.standard_normal(20)
        assigned.lr, assigned.weight_decay = 0.1 / (1 + step), 0.01 * step
        scheduled.update(a, {"x": g})
        assigned.update(b, {"x": g})
        assert_same_bits(scheduled, assigned, a, b)


def test_schedules_in_groups():
    opt = fo.SGD(lr=1.0, groups=[fo.Group("x", lr=lambda step: 2.0**-step)])
    params = {"x": np.zeros(1), "y": np.zeros(1)}
    for _ in range(3):
        opt.update(params, {"x": np.ones(1), "y": np.ones(1)})
    assert params["x"] == -1.75
    assert params["y"] == -3


def updates_until_a_schedule_fails(case, schedule, error, text):
    """The schedule fails at the third update; return what was raised."""
    opt, params = case.ours(lr=schedule), {"x": np.ones(4)}
    for _ in range(2):
        opt.update(params, {"x": np.ones(4)})
    before = params["x"].copy()
    with pytest.raises(error, match=text) as caught:
        opt.update(params, {"x": np.ones(4)})
    assert np.array_equal(params["x"], before)
    assert opt.iter == 2
    opt.lr = 0.1
    opt.update(params, {"x": np.ones(4)})
    return caught.value


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (math.nan, ValueError, r"lr must be in .*, got nan"),
        (-1.0, ValueError, r"lr must be in .*, got -1"),
        ("x", TypeError, "lr must be a number"),
        (None, TypeError, "lr must be a number"),
    ],
)
@every_rule
def test_a_schedule_that_returns_no_learning_rate(case, value, error, text):
    def schedule(step):
        return value if step == 2 else 0.1

    raised = updates_until_a_schedule_fails(case, schedule, error, text)
    assert "lr is a schedule" in raised.__notes__[0]
    assert "at step 2" in raised.__notes__[0]


@every_rule
def test_a_schedule_that_raises(case):
    def schedule(step):
        if step == 2:
            raise IndexError("no more rates")
        return 0.1

    updates_until_a_schedule_fails(case, schedule, IndexError, "no more rates")


@pytest.mark.parametrize(
    "number", [np.float32(0.5), np.array(0.5), np.int64(1), 1, np.array(0.5, "f4")], ids=repr
)
def test_schedules_that_return_other_libraries_numbers(number):
    opt, params = fo.SGD(lr=lambda step: number), {"x": np.zeros(1)}
    opt.update(params, {"x": np.ones(1)})
    assert params["x"] == -float(number)


def test_a_choice_cannot_be_scheduled():
    with pytest.raises(TypeError, match="form must be one of"):
        fo.Nesterov(form=lambda step: "listing")


# ---------------------------------------------------------------- closures


@every_rule
def test_step_is_update_with_the_functions_gradients(case):
    a, b = {"x": np.ones(9)}, {"x": np.ones(9)}
    one, two = case.ours(), case.ours()
    for k in range(3):
        loss = one.step(a, lambda p: (float((p["x"] ** 2).sum()), {"x": 2 * p["x"]}))
        assert loss == float((b["x"] ** 2).sum())
        two.update(b, {"x": 2 * b["x"]})
        assert np.array_equal(a["x"], b["x"])
        assert one.iter == k + 1
    assert one.step(a, lambda p: {"x": p["x"]}) is None
    with pytest.raises(KeyError, match="grads has no 'x'"):
        one.step(a, lambda p: {"X": p["x"]})
    assert one.step([np.ones(2), np.ones(2)], lambda p: (p[0] * 1, p[1] * 1)) is None


# ---------------------------------------------------------------- found by a user who tried


OTHER, NOT_FINITE = {"W": np.ones(3)}, {"W": np.array([1, np.nan, 1])}


def a_refused_call(opt):
    with pytest.raises(ValueError, match="shape"):
        opt.update(OTHER, {"W": np.ones(2)})


def a_call_that_raises(opt):
    opt.nonfinite = "raise"
    with pytest.raises(FloatingPointError):
        opt.update(OTHER, NOT_FINITE)


def a_skipped_call(opt):
    opt.nonfinite = "skip"
    opt.update(OTHER, NOT_FINITE)
    assert opt.skipped == 1


def a_call_that_waits(opt):
    assert fo.SoftBatch(opt, every=2).update(OTHER, {"W": np.ones(3)}) is False


@pytest.mark.parametrize(
    "call", [a_refused_call, a_call_that_raises, a_skipped_call, a_call_that_waits]
)
def test_a_call_that_is_not_carried_out_keeps_what_was_there(call):
    """Another shape under an old key of a rule without state would make a new record."""
    opt, params = fo.SGD(0.1), {"W": np.ones(2)}
    opt.update(params, {"W": np.ones(2)})
    call(opt)
    record = opt.state_dict()["parameters"]["W"]
    assert record["shape"] == (2,)
    assert record["updates"] == 1


def test_an_average_is_state_and_holds_its_shape():
    opt = fo.SGD(0.1, average=0.5)
    opt.update({"W": np.ones(2)}, {"W": np.ones(2)})
    with pytest.raises(ValueError, match=r"its state has shape \(2,\)"):
        opt.update({"W": np.ones(3)}, {"W": np.ones(3)})
    assert set(opt.average_of) == {"W"}


def test_a_strided_gradient_that_moves_onto_a_parameter():
    room = np.arange(8.0) + 1
    W, opt = room[:4], fo.SGD(0.1, zero_grads=True)
    opt.update({"W": W}, {"W": np.ones(8)[::2]})
    before = room.copy()
    with pytest.raises(ValueError, match="would wipe both"):
        opt.update({"W": W}, {"W": room[::2]})
    assert np.array_equal(room, before)


def test_only_gradients_that_are_zeroed_must_be_apart():
    shared = np.ones(2)
    params = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    opt = fo.SGD(1.0, groups=[fo.Group("a", zero_grads=True)])
    opt.update(params, {"a": np.ones(2), "b": shared, "c": shared})
    assert (params["c"] == -1).all()
    opt.update(params, {"a": shared, "b": shared, "c": shared})  # read before it is wiped
    assert (params["b"] == -2).all()
    assert (params["c"] == -2).all()
    assert (shared == 0).all()


@pytest.mark.parametrize("options", [{"weight_decay": 1e300}, {"clip_value": 1e-50}])
def test_factors_that_float32_cannot_hold(options):
    params = {"x": np.ones(2, np.float32)}
    with pytest.raises(ValueError, match=r"a factor of 1e.*, which float32 cannot hold"):
        fo.SGD(0.1, **options).update(params, {"x": np.ones(2, np.float32)})
    assert (params["x"] == 1).all()
    fo.SGD(0.1, **options).update({"x": np.ones(2)}, {"x": np.zeros(2)})


def test_a_schedule_is_asked_once_per_update():
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.1

    opt = fo.SGD(schedule, groups=[fo.Group("x", weight_decay=0.1)])
    for _ in range(2):
        opt.update({"x": np.ones(1), "y": np.ones(1)}, {"x": np.ones(1), "y": np.ones(1)})
    assert asked == [0, 1]


@pytest.mark.parametrize("value", [np.True_, np.ones(1), np.ones(2), "0.1"])
def test_what_no_schedule_may_return(value):
    with pytest.raises(TypeError, match="lr must be a number") as caught:
        fo.SGD(lambda step: value).update({"x": np.ones(1)}, {"x": np.ones(1)})
    assert "lr is a schedule" in caught.value.__notes__[0]


def test_groups_keep_their_checks():
    opt = fo.SGD(groups=[fo.Group("a", lr=0.5)])
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.groups[0].hyperparameters["lr"] = -5.0
    assert copy.deepcopy(fo.Group("a", lr=0.5)).lr == 0.5


def test_a_choice_may_be_a_text_of_numpy():
    opt = fo.SGD(nonfinite=np.str_("skip"))
    assert opt.nonfinite == "skip"
    opt.update({"x": np.ones(1)}, {"x": np.ones(1)})


# ---------------------------------------------------------------- what float32 cannot hold

def narrow(x=1.0):
    return {"b": np.full(2, x, np.float32)}


def wide(x=1.0):
    return {"a": np.full(2, x)}


TINY, HUGE = r"which float32 cannot hold \(it would be 0\)", "which float32 cannot hold"
# Each: an optimizer, and what the error says that an update of a float32 parameter b raises.
UNFIT = {
    "clip_norm": (
        lambda: fo.SGD(clip_norm=1e-20),
        r"clip_norm=1e-20 of SGD gives params\['b'\] a factor of [457].*e-51, which float32 cannot",
    ),
    "clip_value": (
        lambda: fo.Momentum(clip_value=1e-50),
        r"clip_value=1e-50 of Momentum gives params\['b'\] a factor of 1e-50, which float32",
    ),
    "weight_decay": (
        lambda: fo.Adam(weight_decay=1e-60),
        r"weight_decay=1e-60 of Adam gives params\['b'\] a factor of 1e-60",
    ),
    "decoupled": (
        lambda: fo.SGD(lr=1e20, weight_decay=1e20, decoupled=True),
        r"weight_decay=1e\+20 of SGD gives params\['b'\] a factor of -1e\+40, which float32",
    ),
    "of a group": (
        lambda: fo.SGD(groups=[fo.Group("a*", lr=0.5), fo.Group("b*", clip_value=1e-50)]),
        r"clip_value=1e-50 of SGD gives params\['b'\] \(group 'b\*'\) a factor of 1e-50",
    ),
    "lr of a group": (
        lambda: fo.SGD(groups=[fo.Group("a", lr=1e50), fo.Group("b", lr=1e-50)]),
        rf"coefficient of 1e-50, {TINY}: SGD\(lr=1e-50\) at update 1 of params\['b'\] "
        r"\(group 'b'\), got \(1e-50,\); use 0 or at least 1.4e-45, where a schedule that decays",
    ),
    "large lr": (
        lambda: fo.SGD(lr=1e39), rf"coefficient of 1e\+39, {HUGE}: SGD\(lr=1e\+39\) at update 1",
    ),
    "small lr": (
        lambda: fo.Momentum(lr=1e-50), rf"coefficient of 1e-50, {TINY}: Momentum\(lr=1e-50, alpha",
    ),
    "a schedule's end": (
        lambda: fo.RMSprop(fo.schedules.exponential_decay(1e-40, 1e-10, 1)),
        rf"coefficient of 1.*e-50, {TINY}: RMSprop\(lr=1.*e-50, decay_rate=0.99, eps=1e-07",
    ),
    "small eps": (
        lambda: fo.AdamW(eps=1e-44), rf"coefficient of 3.*e-46, {TINY}: AdamW\(.*eps=1e-44",
    ),
}


@pytest.mark.parametrize("soft", [False, True], ids=["update", "soft batch"])
@pytest.mark.parametrize("row", UNFIT.values(), ids=UNFIT)
def test_a_factor_that_float32_cannot_hold(row, soft):
    """It concerns float32 parameters alone, those of its group, and the one call."""
    make, text = row
    opt, params = make(), wide() | narrow()
    call = fo.SoftBatch(opt, every=1).update if soft else opt.update
    call(params, wide(1e30) | {"b": None})      # float64 holds it
    before = params["a"].copy()
    for grads in (wide(1e30) | narrow(1e30), {"a": None} | narrow(1e30)):
        with pytest.raises(ValueError, match=text):
            call(params, grads)
        assert_same_array(params["a"], before, "a")
        assert (params["b"] == 1).all()
    assert opt.iter == 1
    call(params, wide(1e30) | {"b": None})
    assert opt.iter == 2
    assert (params["b"] == 1).all()


def test_a_factor_of_one_call_does_not_outlive_it():
    opt, params = fo.SGD(lr=1.0, clip_norm=1e-20), narrow(0.0)
    with pytest.raises(ValueError, match="clip_norm=1e-20"):
        opt.update(params, narrow(1e30))
    opt.update(params, narrow(0.0))
    opt.update(wide(), wide(1e60))
    opt.update(params, narrow(0.0))
    opt.clip_norm = None
    opt.update(params, narrow())
    assert params["b"].tolist() == [-1, -1]
    assert opt.iter == 4


@pytest.mark.parametrize(
    "opt",
    [
        fo.Nesterov(lr=1.0, mu=1e-30), fo.Momentum(lr=1.0, alpha=1e-50), fo.SGD(lr=0.0),
        fo.RMSprop(lr=1.0, decay_rate=0.0, momentum=1e-50), fo.Lion(lr=1.0, beta2=1e-50),
        fo.Adam(eps=0.0),
    ],
    ids=repr,
)
def test_shares_may_be_as_small_as_they_like(opt):
    """A velocity of which nothing is kept is no velocity; that is what was asked for."""
    params = narrow()
    for _ in range(2):
        opt.update(params, narrow(2.0))
    assert np.isfinite(params["b"]).all()


def test_an_own_rule_may_have_coefficients_as_small_as_it_likes():
    pytest.importorskip("numba")

    @fo.rule(beta=0.9, coefficients=lambda t, beta: {"beta_t": beta ** (1000 * t)})
    def corrected(p, g, beta_t):
        return p - g * beta_t - g

    opt, params = corrected(), narrow()
    for _ in range(2):
        opt.update(params, narrow())
    assert params["b"].tolist() == [-1, -1]


def test_a_coefficient_that_is_not_finite_names_rule_and_key():
    text = r"coefficient of inf: Nesterov\(lr=1.7e\+308, mu=0.9, .* at update 1 of params\['a'\]"
    with pytest.raises(ValueError, match=text):
        fo.Nesterov(lr=1.7e308).update(wide(), wide())
    with pytest.raises(ValueError, match=r"a factor of -inf, which float64 cannot hold"):
        fo.SGD(lr=1e300, weight_decay=1e300, decoupled=True).update(wide(), wide())


# ---------------------------------------------------------------- an average that starts late

@pytest.mark.parametrize("n", [2, 5000])
def test_a_gradient_on_an_average_that_starts_now(n):
    """The average is written by the update, so the gradient that lies on it is read first."""
    opt, params = fo.SGD(lr=1.0), {"a": np.ones(n), "b": np.ones(n)}
    grads = {"a": np.ones(n), "b": np.ones(n)}
    opt.update(params, grads)
    opt.average = 0.5
    opt.update(params, grads)
    grads["b"] = opt.average_of["a"]
    for _ in range(2):
        expected = params["b"] - opt.average_of["a"]
        opt.update(params, grads)
        assert_same_array(params["b"], expected, "b")


# ---------------------------------------------------------------- a norm for each key


@pytest.mark.parametrize("first", ["clip_value", "clip_norm", "clip_norm_per_key"])
@pytest.mark.parametrize("second", ["clip_value", "clip_norm_per_key"])
def test_one_way_of_clipping_at_most(first, second):
    opt = fo.SGD(**{first: 1.0})
    if first == second:
        setattr(opt, second, 2.0)
        return
    with pytest.raises(ValueError, match=f"cannot both be set; set {first}=None first"):
        setattr(opt, second, 2.0)
    opt = fo.SGD(groups=[fo.Group("W", **{second: 1.0})], **{first: 1.0})
    with pytest.raises(ValueError, match="one of them set by a group, cannot go together"):
        opt.update({"W": np.ones(2)}, {"W": np.ones(2)})


@every_dtype
def test_the_norm_of_a_key_is_that_of_its_own_gradient(dtype):
    params = {"a": np.zeros(2, dtype), "b": np.zeros(2, dtype), "c": np.zeros((0,), dtype)}
    opt = fo.SGD(lr=1.0, clip_norm_per_key=1.0, groups=[fo.Group("c", clip_norm_per_key=None)])
    grads = {"a": np.array([3, 4], dtype), "b": np.array([0, 0.5], dtype), "c": np.zeros(0, dtype)}
    opt.update(params, grads)
    expected = -np.array([3, 4], dtype) * dtype(1 / 5)
    np.testing.assert_array_equal(params["a"], expected, strict=True)
    np.testing.assert_array_equal(params["b"], np.array([0, -0.5], dtype), strict=True)
    assert (opt.clipped, opt.grad_norm) == (1, math.sqrt(25.25))


def test_of_a_soft_batch_the_sum_is_clipped():
    """Neither its parts, nor anything else, whichever of both was too long."""
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0, clip_norm_per_key=1.0), every=2)
    soft.update(params, {"a": np.array([6.0, 0.0]), "b": np.array([8.0, 0.0])})
    soft.update(params, {"a": np.array([0.0, 8.0]), "b": np.array([-8.0, 1.0])})
    np.testing.assert_array_equal(params["a"], [-3 * (1 / 5), -4 * (1 / 5)])
    np.testing.assert_array_equal(params["b"], [0.0, -0.5])


def test_rows_of_a_key_have_the_norm_of_their_sums():
    params = {"E": np.zeros((5, 2))}
    opt = fo.SGD(lr=1.0, clip_norm_per_key=1.0)
    opt.update(params, {"E": fo.Rows([3, 3], np.array([[1.0, 4.0], [2.0, 0.0]]))})
    np.testing.assert_array_equal(params["E"][3], [-3 * (1 / 5), -4 * (1 / 5)])


def test_squares_of_a_key_that_float64_does_not_hold():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    opt = fo.SGD(clip_norm_per_key=1.0)
    with pytest.raises(FloatingPointError, match=r"grads\['b'\] is finite, but its squares"):
        opt.update(params, {"a": np.ones(2), "b": np.array([1e200, 1.0])})
    assert (params["a"] == 0).all()
    assert opt.iter == 0


def test_a_factor_of_a_key_that_float32_does_not_hold():
    params = {"W": np.zeros(2, np.float32)}
    opt = fo.SGD(clip_norm_per_key=1e-30)
    with pytest.raises(ValueError, match="clip_norm_per_key=1e-30 of SGD gives"):
        opt.update(params, {"W": np.array([1e30, 0], np.float32)})
    assert (params["W"] == 0).all()
