"""Options that look at whole tensors: what is refused, and what is saved."""

import copy
import math
import pickle

import numpy as np
import pytest
from helpers import arrays, assert_same_arrays, assert_same_averages, assert_same_bits, copies

import fastoptim as fo

F32 = np.float32

# ---------------------------------------------------------------- what is refused

ANY_CONSTRAINT = r"constraint must be None, 'nonnegative', 'unit_norm', bounds such as \(-1, 1\), "
ANY_RATIO = r"trust_ratio must be True, False, or bounds such as \(0, 10\), got "
BAD = [
    ("agc", 0, ValueError, r"agc must be in \(0, inf\), got 0"),
    ("agc", math.inf, ValueError, r"agc must be in \(0, inf\), got inf"),
    ("agc", math.nan, ValueError, r"agc must be in \(0, inf\), got nan"),
    ("agc", True, TypeError, r"agc must be a number in \(0, inf\), got True"),
    ("agc", "0.1", TypeError, r"agc must be a number in \(0, inf\), got '0.1'"),
    ("centralize", 1, TypeError, "centralize must be True or False, got 1"),
    ("centralize", None, TypeError, "centralize must be True or False, got None"),
    ("trust_ratio", None, TypeError, ANY_RATIO + "None"),
    ("trust_ratio", 1, TypeError, ANY_RATIO + "1"),
    ("trust_ratio", "yes", TypeError, ANY_RATIO + "'yes'"),
    ("trust_ratio", np.array([0, 1.0]), TypeError, ANY_RATIO + "array"),
    ("trust_ratio", (1, 2, 3), ValueError, ANY_RATIO + r"\(1, 2, 3\)"),
    ("trust_ratio", (False, True), TypeError, ANY_RATIO + "False"),
    ("trust_ratio", (0, "1"), TypeError, ANY_RATIO + "'1'"),
    ("trust_ratio", (math.nan, 1), ValueError, ANY_RATIO + r"\(nan, 1\)"),
    ("trust_ratio", (2, 1), ValueError, r"0 <= low <= high and high > 0, got \(2, 1\)"),
    ("trust_ratio", (-1, 1), ValueError, r"0 <= low <= high and high > 0, got \(-1, 1\)"),
    ("trust_ratio", (0, 0), ValueError, r"0 <= low <= high and high > 0, got \(0, 0\)"),
    ("trust_ratio", (math.inf, math.inf), ValueError, "must have a finite lower bound, got"),
    ("constraint", True, TypeError, ANY_CONSTRAINT),
    ("constraint", 1.0, TypeError, ANY_CONSTRAINT),
    ("constraint", "nonneg", ValueError, ANY_CONSTRAINT + r".* got 'nonneg'"),
    ("constraint", fo.MaxNorm, TypeError, ANY_CONSTRAINT),
    ("constraint", lambda step: "nonnegative", TypeError, ANY_CONSTRAINT),
    ("constraint", np.array([0, 1.0]), TypeError, ANY_CONSTRAINT),
    ("constraint", {}, ValueError, ANY_CONSTRAINT + r".* got \{\}"),
    ("constraint", (1,), ValueError, ANY_CONSTRAINT + r".* got \(1,\)"),
    ("constraint", (0, True), TypeError, ANY_CONSTRAINT + ".* got True"),
    ("constraint", (math.nan, 1), ValueError, ANY_CONSTRAINT + r".* got \(nan, 1\)"),
    ("constraint", (1, 0), ValueError, r"must be \(low, high\) with low <= high, got \(1, 0\)"),
    ("constraint", (math.inf, math.inf), ValueError, "must have a finite number within, got"),
    ("constraint", [-math.inf, -math.inf], ValueError, "must have a finite number within, got"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), BAD)
def test_bad_option(name, value, error, text):
    """At construction, on assignment, of a group, and in a saved state."""
    group = fo.Group("x", agc=1.0, centralize=True, trust_ratio=True, constraint=None)
    opt = fo.Adam(groups=[group])
    before = repr(opt)
    saved = opt.state_dict()
    saved["hyperparameters"][name] = value
    attempts = [
        lambda: fo.Adam(**{name: value}),
        lambda: setattr(opt, name, value),
        lambda: fo.Adam(groups=[fo.Group("x", **{name: value})]),
        lambda: setattr(opt.groups[0], name, value),
        lambda: opt.load_state_dict(saved),
    ]
    for attempt in attempts:
        with pytest.raises(error, match=text):
            attempt()
    assert repr(opt) == before


WITHOUT_STEPS = {
    fo.FTRL: "sets the parameter from its state", fo.LARS: "scales its gradients already",
    fo.ScheduleFreeSGD: "makes no step", fo.ScheduleFreeAdamW: "makes no step",
}


@pytest.mark.parametrize(("cls", "text"), WITHOUT_STEPS.items(), ids=lambda x: str(x)[-20:])
def test_rules_that_have_no_step_to_scale(cls, text):
    opt = cls(trust_ratio=False)
    for value in (True, (0, 1)):
        attempts = [
            lambda v=value: cls(trust_ratio=v), lambda v=value: setattr(opt, "trust_ratio", v),
            lambda v=value: cls(groups=[fo.Group("x", trust_ratio=v)]),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError, match=f"scales the step of a rule, and .* ?{text}"):
                attempt()
    assert opt.trust_ratio is False


@pytest.mark.parametrize("other", ["clip_value", "clip_norm", "clip_norm_per_key"])
def test_two_ways_of_clipping(other):
    with pytest.raises(ValueError, match=f"{other} and agc cannot both be set"):
        fo.SGD(agc=0.1, **{other: 1.0})
    opt = fo.SGD(agc=0.1)
    with pytest.raises(ValueError, match="set agc=None first"):
        setattr(opt, other, 1.0)
    if other != "clip_norm":
        opt.groups = [fo.Group("W", **{other: 1.0})]
        with pytest.raises(ValueError, match="one of them set by a group, cannot go together"):
            opt.update({"W": np.ones(2)}, {"W": np.ones(2)})


A_NORM, AN_AXIS = r"c must be .*in \(0, inf\)", r"per must be one of \('column', 'row'\)"
BAD_CONSTRAINTS = [
    (lambda: fo.MaxNorm(0), ValueError, A_NORM + ", got 0"),
    (lambda: fo.MaxNorm(math.inf), ValueError, A_NORM + ", got inf"),
    (lambda: fo.MaxNorm(math.nan), ValueError, A_NORM + ", got nan"),
    (lambda: fo.MaxNorm("1"), TypeError, A_NORM + ", got '1'"),
    (lambda: fo.MaxNorm(1, "rows"), ValueError, AN_AXIS + ", got 'rows'"),
    (lambda: fo.UnitNorm("rows"), ValueError, AN_AXIS + ", got 'rows'"),
    (lambda: fo.UnitNorm(1), TypeError, AN_AXIS + ", got 1"),
    (lambda: fo.UnitNorm(None), TypeError, AN_AXIS + ", got None"),
]


@pytest.mark.parametrize(("make", "error", "text"), BAD_CONSTRAINTS)
def test_bad_constraint(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_constraint_does_not_change():
    """Nobody would check the new number, nor see it."""
    constraint = fo.MaxNorm(2.0)
    for name in ("most", "per", "c"):
        with pytest.raises(AttributeError, match=r"of MaxNorm\(2.0\) cannot be assigned"):
            setattr(constraint, name, "row")
    assert constraint == fo.MaxNorm(2) != fo.MaxNorm(2, per="row")
    assert fo.UnitNorm() != fo.MaxNorm(1.0)
    assert hash(constraint) == hash(fo.MaxNorm(2))


# Each: options, and the option that the error names; float64 has all of them.
UNFIT = {
    "agc": ({"agc": 1e-60}, "agc=1e-60"),
    "largest norm": ({"constraint": fo.MaxNorm(1e-60)}, r"constraint=MaxNorm\(1e-60\)"),
    "upper bound": ({"constraint": (0, 1e60)}, r"constraint=\(0.0, 1e\+60\)"),
    "lower bound": ({"constraint": (-1e60, 0)}, r"constraint=\(-1e\+60, 0.0\)"),
    "a bound that would be 0": ({"constraint": (1e-60, 1)}, r"constraint=\(1e-60, 1.0\)"),
    "a ratio": ({"trust_ratio": (1e60, math.inf)}, r"trust_ratio=\(1e\+60, inf\)"),
    "a ratio of 0": ({"trust_ratio": (0, 1e-60)}, r"trust_ratio=\(0.0, 1e-60\)"),
    "where a step begins": (
        {"trust_ratio": True, "weight_decay": 1e-60, "decoupled": True}, "weight_decay=1e-60"
    ),
}


@pytest.mark.parametrize("row", UNFIT.values(), ids=UNFIT)
def test_numbers_that_float32_cannot_hold(row):
    options, text = row
    opt, params = fo.SGD(lr=1.0, **options), {"a": np.ones(2), "b": np.ones(2, F32)}
    opt.update(params, {"a": np.ones(2), "b": None})
    before = copies(params)
    with pytest.raises(ValueError, match=rf"{text} of SGD gives params\['b'\] .* float32 cannot h"):
        opt.update(params, {"a": np.ones(2), "b": np.ones(2, F32)})
    assert_same_arrays(params, before, "params")
    assert opt.iter == 1


# ---------------------------------------------------------------- saved and copied


def through_a_file(opt, path):
    pytest.importorskip("safetensors")
    opt.save(path)
    other = type(opt)()
    other.load(path)
    return other


def through_a_dict(opt, path):
    other = type(opt)()
    other.load_state_dict(opt.state_dict())
    return other


def through_a_training(opt, path):
    pytest.importorskip("safetensors")
    fo.save(path, {"opt": opt})
    return fo.load(path)["opt"]


WAYS = {
    "file": through_a_file, "dict": through_a_dict, "training": through_a_training,
    "pickle": lambda opt, path: pickle.loads(pickle.dumps(opt)),
    "copy": lambda opt, path: copy.deepcopy(opt),
}
SAVED = [
    {"agc": 0.1, "centralize": True, "trust_ratio": True, "constraint": fo.MaxNorm(0.7, "row")},
    {"trust_ratio": (0.5, math.inf)}, {"trust_ratio": (0, 2)},
    *[{"constraint": c} for c in (
        "nonnegative", "unit_norm", (-math.inf, 1.0), [0.1, math.inf], fo.UnitNorm(),
        fo.UnitNorm(per="row"), fo.MaxNorm(0.25),
    )],
]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_saved_goes_on(way, tmp_path):
    """With every value that an option may have; a group's, too, where the way has groups."""
    for k, options in enumerate(SAVED):
        rng = np.random.default_rng(k)
        opt = fo.Momentum(lr=0.05, **options)
        params = arrays(rng, {"W": (5, 40), "b": (3,)}, F32)
        opt.update(params, arrays(rng, {"W": (5, 40), "b": (3,)}, F32))
        other, theirs = way(opt, tmp_path / f"{k}.st"), copies(params)
        assert repr(other) == repr(opt)
        assert type(other.constraint) is type(opt.constraint)
        assert other.constraint == opt.constraint
        grads = arrays(rng, {"W": (5, 40), "b": (3,)}, F32)
        opt.update(params, copies(grads))
        other.update(theirs, grads)
        assert_same_bits(opt, other, params, theirs)
        assert_same_averages(opt, other)


@pytest.mark.parametrize("way", ["file", "dict", "training", "pickle", "copy"])
def test_what_a_group_has_is_saved(way, tmp_path):
    group = fo.Group("W", constraint=fo.MaxNorm(0.3, per="row"), trust_ratio=(0, 2), agc=0.5)
    opt, params = fo.SGD(lr=0.5, groups=[group]), {"W": np.ones((2, 3))}
    opt.update(params, {"W": np.ones((2, 3))})
    if way in ("file", "dict"):
        other = fo.SGD(groups=[fo.Group("W", constraint=None, trust_ratio=False, agc=None)])
        if way == "file":
            pytest.importorskip("safetensors")
            opt.save(tmp_path / "x")
            other.load(tmp_path / "x")
        else:
            other.load_state_dict(opt.state_dict())
    else:
        other = WAYS[way](opt, tmp_path / "x")
    assert repr(other) == repr(opt)
    assert other.groups[0].constraint == fo.MaxNorm(0.3, per="row")


def test_states_of_before_these_options():
    """They say nothing of them, and nothing changes."""
    options = {"agc": 0.1, "centralize": True, "trust_ratio": (0.0, 2.0), "constraint": (0.0, 1.0)}
    opt, saved = fo.Adam(**options), fo.Adam(lr=0.5).state_dict()
    for name in options:
        del saved["hyperparameters"][name]
    opt.load_state_dict(saved)
    assert opt.lr == 0.5
    assert {name: getattr(opt, name) for name in options} == options


@pytest.mark.parametrize("saved", [
    {"constraint": "max_norm"}, {"constraint": "max_norm", "most": -1.0, "per": "row"},
    {"constraint": "max_norm", "most": 1.0, "per": "diagonal"}, {"constraint": "unit_norm"},
    {"constraint": "other", "most": 1.0, "per": "row"}, {"most": 1.0, "per": "row"},
])
def test_a_damaged_constraint_in_a_state(saved):
    opt = fo.SGD(lr=0.5, constraint="unit_norm")
    state = fo.SGD().state_dict()
    state["hyperparameters"]["constraint"] = saved
    with pytest.raises(ValueError, match="must be"):
        opt.load_state_dict(state)
    assert (opt.lr, opt.constraint) == (0.5, "unit_norm")
