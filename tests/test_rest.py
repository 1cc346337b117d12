"""An optimizer inside another one: its keys have the bits that it gives alone."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
from helpers import (
    CLASSES,
    OPTIONS,
    arrays,
    assert_same_arrays,
    copies,
    every_dtype,
    put,
)

import fastoptim as fo
from fastoptim import schedules

SHAPES = {"a.W": (4, 5), "a.b": (5,), "emb.W": (6, 3), "scale": (), "k": (2, 2, 3)}
MATRICES = ["a.W"]
OTHERS = [key for key in SHAPES if key not in MATRICES]


def only(keys, arrays_by_key):
    return {key: arrays_by_key[key] for key in keys}


def trained(opt, steps=4, dtype=np.float64, keys=tuple(SHAPES), change=None):
    rng = np.random.default_rng(0)
    params = only(keys, arrays(rng, SHAPES, dtype))
    for step in range(steps):
        if change is not None:
            change(opt, step)
        opt.update(params, only(keys, arrays(rng, SHAPES, dtype)))
    return params


def assert_as_apart(make, matrices=None, steps=4, dtype=np.float64, change=lambda opt, step: None):
    """The keys of rest are those of an optimizer alone, the matrices those of Muon alone."""
    opt = fo.Muon(0.02, rest=make(), to_rest="emb*", **(matrices or {}))
    params = trained(opt, steps, dtype, change=lambda opt, step: change(opt.rest, step))
    alone = make()
    expected = trained(alone, steps, dtype, OTHERS, change)
    own = trained(fo.Muon(0.02, **(matrices or {})), steps, dtype, MATRICES)
    assert_same_arrays(only(OTHERS, params), expected, "params")
    assert_same_arrays(only(MATRICES, params), own, "params")
    for slot in alone.kernels[alone.kernel]:
        assert_same_arrays(getattr(opt.rest, slot), getattr(alone, slot), slot)
    assert list(opt.v) == MATRICES
    assert opt.iter == opt.rest.iter == alone.iter
    return opt, alone


@every_dtype
@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not fo.Adafactor])
def test_every_rule(cls, dtype):
    assert_as_apart(cls, dtype=dtype)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_rest_are_its_own(options):
    """Those of single keys; zeroed gradients are thrown away here, and tested below."""
    options = {name: value for name, value in options.items() if name != "clip_norm"}
    opt, alone = assert_as_apart(lambda: fo.Adam(0.01, **options))
    assert_same_arrays(opt.average_of, alone.average_of, "average_of")


def test_options_of_muon_are_its_own():
    options = {"clip_value": 0.5, "weight_decay": 0.3, "maximize": True}
    assert_as_apart(lambda: fo.Adam(0.01), options)


def test_zeroed_gradients():
    for of_muon, of_rest in ((False, True), (True, False)):
        opt = fo.Muon(zero_grads=of_muon, rest=fo.SGD(zero_grads=of_rest))
        params = {"W": np.ones((2, 2)), "b": np.ones(2)}
        grads = copies(params)
        opt.update(params, grads)
        assert (grads["W"] == (not of_muon)).all()
        assert (grads["b"] == (not of_rest)).all()


def test_groups_and_schedules_of_both():
    def make():
        return fo.AdamW(
            schedules.linear(0.1, 0.0, 10),
            groups=[fo.Group("*.b", lr=lambda step: 0.5 / (1 + step)), fo.Group("k", beta1=0.5)],
        )

    assert_as_apart(make, {"groups": [fo.Group("a.*", momentum=0.5)]})
    assert_as_apart(make, {"groups": [fo.Group("a.W", weight_decay=lambda step: 0.1 * step)]})


def test_averages_that_begin_later():
    assert_as_apart(lambda: fo.SGD(0.1, average="mean", average_from=2))
    assert_as_apart(lambda: fo.SGD(0.1, average="mean", average_from=2), {"average": "mean"})
    opt = fo.Muon(average=0.5, rest=fo.SGD())
    trained(opt)
    opt.rest.average = "mean"
    with pytest.raises(ValueError, match="average='mean' should begin after average_from=0"):
        trained(opt, 1)
    opt.rest.average_from = 4
    trained(opt, 1)
    assert set(opt.average_of) == set(SHAPES)


def test_its_numbers_are_live():
    def change(opt, step):
        opt.lr = 0.1 / (1 + step)
        if step == 2:
            opt.groups[0].lr = 0.7

    assert_as_apart(lambda: fo.Adam(0.5, groups=[fo.Group("k", lr=0.01)]), change=change)


def test_a_rule_of_ones_own():
    pytest.importorskip("numba")

    @fo.rule(state=("v",), lr=0.1)
    def mine(p, g, v, lr):
        v = v + g
        return p - lr * v, v

    assert_as_apart(mine)


def test_muon_has_its_own_copy():
    given = fo.Adam(0.1, groups=[fo.Group("b", lr=0.2)])
    opt = fo.Muon(rest=given)
    opt.rest.lr = 0.5
    opt.rest.groups[0].lr = 0.6
    assert (given.lr, given.groups[0].lr) == (0.1, 0.2)
    given.update({"b": np.ones(2)}, {"b": np.ones(2)})
    assert opt.rest.iter == 0


# ---------------------------------------------------------------- who has which key


def test_patterns_and_predicates():
    shapes = {"W": (2, 2), "head.W": (2, 2), "big": (2, 30), 7: (3, 3)}
    params = {key: np.ones(shape) for key, shape in shapes.items()}
    for to_rest in (["head*", lambda key, p: p.size > 50 or key == 7], ("big", "head.W", "7")):
        opt = fo.Muon(rest=fo.SGD(0.0), to_rest=to_rest)
        opt.update(params, copies(params))
        assert list(opt.v) == ["W"]
    for to_rest in ("W", lambda key, p: key == "W"):
        opt = fo.Muon(rest=fo.SGD(0.0), to_rest=to_rest)
        opt.update(params, copies(params))
        assert list(opt.v) == ["head.W", "big", 7]


def test_a_pattern_that_matches_no_key():
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    predicate = lambda key, p: False  # noqa: E731
    lambda_ = r"<lambda at test_rest.py:\d+>"
    for to_rest, name in ((["b", "heda*"], r"'heda\*'"), (predicate, lambda_)):
        opt = fo.Muon(rest=fo.SGD(), to_rest=to_rest)
        message = f"{name} of to_rest matches no key; the keys are 'W', 'b'"
        with pytest.raises(ValueError, match=message):
            opt.update(params, copies(params))
        assert (opt.iter, params["b"].tolist()) == (0, [1.0, 1.0])


@pytest.mark.parametrize("where", ["own", "rest"])
def test_a_group_of_a_key_that_the_other_one_has(where):
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    own, of_rest = [fo.Group("b" if where == "own" else "W", lr=0.5)], [fo.Group("W", lr=0.5)]
    opt = fo.Muon(groups=own, rest=fo.SGD(groups=[] if where == "own" else of_rest))
    keys = "'W'" if where == "own" else "'b'"
    with pytest.raises(ValueError, match=f"matches no key; the keys are {keys}$"):
        opt.update(params, copies(params))


def test_to_rest_needs_a_rest():
    opt = fo.Muon(to_rest="head*")
    message = r"to_rest=\('head\*',\) needs an optimizer for these keys: rest="
    with pytest.raises(ValueError, match=message):
        opt.update({"W": np.ones((2, 2))}, {"W": np.ones((2, 2))})


def test_who_has_which_key_is_fixed_by_the_first_update():
    opt = fo.Muon()
    opt.rest = fo.SGD()
    opt.to_rest = "head"
    opt.groups = [fo.Group("W", lr=0.5)]
    opt.rest.groups = [fo.Group("b", lr=0.25)]
    params = {"W": np.ones((2, 2)), "head": np.ones((2, 2)), "b": np.ones(2)}
    opt.update(params, copies(params))
    assert (params["b"] == 0.75).all()
    assert (params["head"] == 0.99).all()
    for name, value in (("rest", fo.Adam()), ("rest", None), ("to_rest", "W"), ("groups", [])):
        with pytest.raises(ValueError, match=f"{name} cannot change after the first update"):
            setattr(opt, name, value)
    with pytest.raises(ValueError, match="groups cannot change after the first update"):
        opt.rest.groups = []


def test_a_key_that_a_soft_batch_has_seen_may_still_go_elsewhere():
    opt, params = fo.Muon(), {"W": np.ones((2, 2))}
    soft = fo.SoftBatch(opt, 2)
    soft.update(params, copies(params))
    soft.discard()
    opt.rest, opt.to_rest = fo.SGD(0.5), "W"
    soft.update(params, copies(params))
    soft.update(params, copies(params))
    assert list(opt.v) == []
    assert (params["W"] == 0.5).all()


def test_a_refused_call_may_be_repaired():
    opt, params = fo.Muon(), {"W": np.ones((2, 2)), "b": np.ones(2)}
    with pytest.raises(ValueError, match="rest="):
        opt.update(params, copies(params))
    opt.rest = fo.SGD(0.25)
    opt.update(params, copies(params))
    assert (params["b"] == 0.75).all()


# ---------------------------------------------------------------- what is refused

NO_REST = [
    (fo.AdamW, TypeError, r"an optimizer of fastoptim or None, got AdamW; write AdamW\(\)"),
    (3, TypeError, "rest must be an optimizer of fastoptim or None, got int"),
    (fo.SoftBatch(fo.SGD()), TypeError, "got SoftBatch"),
    (fo.SAM(fo.SGD()), TypeError, "got SAM"),
    (fo.RK45(), TypeError, "got RK45"),
    (fo.Muon(), TypeError, "rest cannot be Muon"),
    (fo.SGD(clip_norm=1.0), ValueError, r"clip_norm concerns the whole .* clip_norm=1.0 to the"),
    (fo.SGD(norm=True), ValueError, "norm concerns the whole update"),
    (fo.SGD(nonfinite="skip"), ValueError, "nonfinite concerns the whole update"),
    (fo.SGD(denormals="flush"), ValueError, "denormals concerns the whole update"),
    (fo.Momentum(lookahead=True), ValueError, "lookahead concerns the whole update"),
]


@pytest.mark.parametrize(("rest", "kind", "message"), NO_REST)
def test_what_cannot_be_inside(rest, kind, message):
    with pytest.raises(kind, match=message):
        fo.Muon(rest=rest)
    opt = fo.Muon()
    with pytest.raises(kind, match=message):
        opt.rest = rest
    assert opt.rest is None


def test_an_optimizer_that_has_state_cannot_be_inside():
    given = fo.Momentum()
    given.update({"b": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(ValueError, match="rest has made 1 updates, .* give a new Momentum"):
        fo.Muon(rest=given)


def test_options_of_the_whole_are_refused_later_too():
    opt, params = fo.Muon(rest=fo.SGD()), {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt.rest.clip_norm = 1.0
    for _ in range(2):
        with pytest.raises(ValueError, match="clip_norm concerns the whole update, and rest is"):
            opt.update(params, copies(params))
    opt.rest.clip_norm = None
    opt.update(params, copies(params))
    with pytest.raises(TypeError, match="rest concerns the whole update and cannot be in a group"):
        fo.Group("b", rest=None)


@pytest.mark.parametrize(
    ("name", "value"), [("clip_value", 0.5), ("clip_norm_per_key", 0.5), ("agc", 0.5)]
)
@pytest.mark.parametrize("by_group", [False, True])
def test_what_is_clipped_with_all_keys_is_not_clipped_again(name, value, by_group):
    rest = fo.SGD(**{name: value})
    if by_group:
        rest = fo.SGD(groups=[fo.Group("b", **{name: value})])
    opt, params = fo.Muon(clip_norm=1.0, rest=rest), {"W": np.ones((2, 2)), "b": np.ones(3)}
    before = copies(params)
    for clip_norm in (1.0, lambda step: 1.0):
        opt.clip_norm = clip_norm
        for _ in range(2):
            with pytest.raises(ValueError, match=f"clips the gradients of all keys, so {name} of"):
                opt.update(params, copies(params))
        assert_same_arrays(params, before, "params")
    opt.clip_norm = None
    opt.update(params, copies(params))
    assert opt.iter == 1


def test_clipping_that_a_schedule_turns_on_is_refused_at_every_update():
    rest = fo.SGD(clip_value=lambda step: None if step < 2 else 0.5)
    opt, params = fo.Muon(clip_norm=1.0, rest=rest), {"W": np.ones((2, 2)), "b": np.ones(3)}
    for _ in range(2):
        opt.update(params, copies(params))
    for _ in range(3):
        with pytest.raises(ValueError, match="clips the gradients of all keys, so clip_value of"):
            opt.update(params, copies(params))
    assert opt.iter == 2


@pytest.mark.parametrize("around", [{}, {"clip_norm": lambda step: 1.0}, {"lr": lambda step: 0.1}])
@pytest.mark.parametrize(("cls", "name"), [(fo.SGD, "lr"), (fo.AdaGrad, "initial")])
def test_a_schedule_of_rest_is_asked_once_per_update(cls, name, around):
    asked = []
    rest = cls(**{name: lambda step: asked.append(step) or 0.1})
    opt, params = fo.Muon(rest=rest, **around), {"W": np.ones((2, 2)), "b": np.ones(3)}
    for _ in range(3):
        opt.update(params, copies(params))
    assert asked == [0, 1, 2]


ALONE = [
    lambda opt, params: opt.update(params, params),
    lambda opt, params: opt.step(params, lambda params: params),
    lambda opt, params: opt.state_dict(),
    lambda opt, params: opt.load_state_dict(fo.SGD().state_dict()),
    lambda opt, params: opt.save("nothing"),
    lambda opt, params: opt.reset(),
    lambda opt, params: opt.averaged(params).__enter__(),
    lambda opt, params: fo.SoftBatch(opt).update(params, params),
    lambda opt, params: fo.SAM(opt).step(params, lambda params: copies(params)),
    lambda opt, params: fo.save("nothing", {"opt": opt}),
]


@pytest.mark.parametrize("use", ALONE)
def test_it_cannot_be_used_alone(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opt, params = fo.Muon(rest=fo.SGD(average=0.5)), {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt.update(params, copies(params))
    before = copies(params)
    with pytest.raises(RuntimeError, match="this SGD is the rest of a Muon, which updates, saves"):
        use(opt.rest, params)
    assert_same_arrays(params, before, "params")
    assert opt.iter == 1
    opt.update(params, copies(params))
    assert not list(tmp_path.iterdir())


def test_factors_name_the_group_of_the_inner_one():
    """Its groups are counted behind Muon's."""
    shapes = {"W": (2, 2), "b": (2,), "c": (2,)}
    params = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    opt = fo.Muon(
        groups=[fo.Group("W", lr=0.5)],
        rest=fo.SGD(groups=[fo.Group("c", lr=0.5), fo.Group("b", lr=1e-60)]),
    )
    message = r"SGD\(lr=1e-60\) at update 1 of params\['b'\] \(group 'b'\)"
    with pytest.raises(ValueError, match=message):
        opt.update(params, copies(params))
    assert opt.current("lr") == 0.001
    opt.groups = [fo.Group("W", lr=0.5), fo.Group("W", lr=0.25)]     # the same, one place behind
    with pytest.raises(ValueError, match=message):
        opt.update(params, copies(params))
    opt = fo.Muon(rest=fo.SGD(weight_decay=1e60))
    message = r"weight_decay=1e\+60 of SGD gives params\['b'\] a factor"
    with pytest.raises(ValueError, match=message):
        opt.update(params, copies(params))


def test_a_refused_call_changes_nothing_of_either():
    bad = {
        "W": (np.ones((3, 2)), ValueError), "b": (np.ones(3), ValueError),
        "c": (np.ones(2, np.float32), TypeError),
    }
    opt = fo.Muon(rest=fo.Adam(), nonfinite="raise")
    params = {"W": np.ones((2, 3)), "b": np.ones(2), "c": np.ones(2)}
    opt.update(params, copies(params))
    before, v, m = copies(params), copies(opt.v), copies(opt.rest.m)
    for key, (g, kind) in bad.items():
        with pytest.raises(kind, match=key):
            opt.update(params, copies(params) | {key: g})
    for key in params:
        g = np.full_like(params[key], np.nan)
        with pytest.raises(FloatingPointError, match=key):
            opt.update(params, copies(params) | {key: g})
    assert_same_arrays(params, before, "params")
    assert_same_arrays(opt.v, v, "v")
    assert_same_arrays(opt.rest.m, m, "m")
    assert opt.iter == 1


# ---------------------------------------------------------------- with everything else


def test_rows_go_to_rest():
    rows, dense = fo.Rows([1, 1], np.ones((2, 3))), np.zeros((6, 3))
    dense[1] = 2.0
    for g in (rows, scipy.sparse.csr_array(dense)):
        opt = fo.Muon(rest=fo.Adam(), to_rest="emb")
        params = {"W": np.ones((2, 2)), "emb": np.ones((6, 3))}
        opt.update(params, {"W": np.ones((2, 2)), "emb": g})
        assert (params["emb"][[0, 2, 3, 4, 5]] == 1).all()
        assert (params["emb"][1] < 1).all()


def test_clipping_is_by_the_norm_of_all_keys():
    params = {"W": np.zeros((2, 2)), "b": np.zeros(4)}
    opt = fo.Muon(clip_norm=1.0, rest=fo.SGD(1.0))
    opt.update(params, {"W": np.full((2, 2), 3.0), "b": np.full(4, 4.0)})
    assert opt.grad_norm == 10.0
    np.testing.assert_allclose(params["b"], -0.4, rtol=1e-15)
    np.testing.assert_allclose(opt.v["W"], 0.05 * 0.3, rtol=1e-12)


def test_numbers():
    params = {"W": np.ones((2, 2)), "x": 5.0}
    opt = fo.Muon(rest=fo.SGD(0.5))
    opt.update(params, {"W": np.ones((2, 2)), "x": 2.0})
    assert params["x"] == 4.0


def test_lists():
    params = [np.ones((2, 2)), np.ones(3)]
    opt = fo.Muon(rest=fo.SGD(0.5))
    opt.update(params, [np.ones((2, 2)), np.ones(3)])
    assert (params[1] == 0.5).all()


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_soft_batches(reduce):
    rng = np.random.default_rng(0)
    start = arrays(rng, SHAPES, np.float64)
    a, b = copies(start), copies(start)
    make = lambda: fo.Muon(0.1, rest=fo.Adam(), to_rest="emb*")  # noqa: E731
    soft, opt = fo.SoftBatch(make(), 2, reduce), make()
    for _ in range(3):
        first, second = arrays(rng, SHAPES, np.float64), arrays(rng, SHAPES, np.float64)
        assert not soft.update(a, first)
        assert soft.update(a, second)
        opt.update(b, {
            key: (first[key] + second[key]) * (0.5 if reduce == "mean" else 1.0) for key in first
        })
    assert_same_arrays(only(OTHERS, a), only(OTHERS, b), "params")
    assert_same_arrays(soft.opt.v, opt.v, "v")
    np.testing.assert_allclose(a["a.W"], b["a.W"], rtol=1e-12, atol=1e-12)


def test_sam_shifts_the_keys_of_both():
    """Each against its own `maximize`."""
    params, seen = {"W": np.zeros((2, 2)), "b": np.zeros(3)}, []

    def fn(params):
        seen.append(copies(params))
        return {"W": np.full((2, 2), 2.0), "b": np.full(3, 4.0)}

    sam = fo.SAM(fo.Muon(groups=[fo.Group("W", lr=0.0)], rest=fo.SGD(0.0, maximize=True)), rho=8.0)
    sam.step(params, fn)
    np.testing.assert_allclose(seen[1]["W"], 2.0)
    np.testing.assert_allclose(seen[1]["b"], -4.0)


def test_averaged_weights():
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt = fo.Muon(average=0.5, rest=fo.SGD(1.0, average=0.5))
    opt.update(params, copies(params))
    with opt.averaged(params):
        assert params["b"].tolist() == [0.5, 0.5]
    assert params["b"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("cls", [fo.ScheduleFreeSGD, fo.ScheduleFreeAdamW])
def test_a_schedule_free_rest_is_evaluated_at_its_point(cls):
    """The point of its own keys, by their groups; the matrices stay, and all come back."""
    def make():
        return cls(0.1, groups=[fo.Group("k", **{cls.beta_name: 0.5})])

    opt = fo.Muon(0.02, rest=make(), groups=[fo.Group("a*", lr=0.1)])
    alone = make()
    keys = ["a.W", "a.b", "scale", "k"]
    params, expected = trained(opt, keys=keys), trained(alone, keys=keys[1:])
    before = copies(params)
    with opt.rest.evaluation(params) as inside, alone.evaluation(expected):
        assert inside is params
        assert_same_arrays(only(keys[1:], params), expected, "the point")
        assert (params["a.W"] == before["a.W"]).all()
        assert all((params[key] != before[key]).any() for key in keys[1:])
        with pytest.raises(RuntimeError, match=r"leave `with opt.evaluation"):
            opt.update(params, copies(params))
    assert_same_arrays(params, before, "params")
    opt.update(params, copies(params))
    with pytest.raises(AttributeError, match=r"a schedule-free rest has it: opt.rest.evaluation\("):
        opt.evaluation(params)


def test_current_and_counters():
    opt = fo.Muon(lambda step: 1.0 / (1 + step), rest=fo.SGD(lambda step: 2.0 / (1 + step)))
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt.update(params, copies(params))
    opt.update(params, {"W": np.ones((2, 2)), "b": None})
    assert (opt.current("lr"), opt.rest.current("lr")) == (1 / 3, 2 / 3)
    assert opt.updates_of == {"W": 2, "b": 1}
    opt.reset()
    assert (opt.iter, opt.rest.iter, dict(opt.v)) == (0, 0, {})


# ---------------------------------------------------------------- saved and copied


def full():
    return fo.Muon(
        schedules.linear(0.1, 0.0, 20), average=0.5, clip_norm=2.0, to_rest=["emb*"],
        groups=[fo.Group("a.*", momentum=0.5)],
        rest=fo.AdamW(
            schedules.cosine_decay(0.1, 20),
            groups=[fo.Group("k", weight_decay=schedules.constant(0.5)), fo.Group("s*", lr=0.5)],
        ),
    )


def continues(first, params, second, others):
    """Both go on alike, to the bit: the products are the same ones."""
    rng = np.random.default_rng(5)
    for _ in range(3):
        grads = arrays(rng, SHAPES, np.float64)
        first.update(params, copies(grads))
        second.update(others, copies(grads))
    assert_same_arrays(params, others, "params")
    assert_same_arrays(first.v, second.v, "v")
    for slot in "mv":
        assert_same_arrays(getattr(first.rest, slot), getattr(second.rest, slot), slot)
    assert first.iter == second.iter


def through_state(opt, tmp_path):
    twin = full()
    twin.load_state_dict(opt.state_dict())
    return twin


def through_file(opt, tmp_path):
    opt.save(tmp_path / "opt")
    twin = full()
    twin.load(tmp_path / "opt")
    return twin


def through_training_file(opt, tmp_path):
    fo.save(tmp_path / "all", {"opt": opt, "epoch": 3})
    return fo.load(tmp_path / "all")["opt"]


def through_into(opt, tmp_path):
    fo.save(tmp_path / "all", {"opt": opt, "epoch": 3})
    twin = full()
    twin.rest.lr = 0.5                      # takes the file's schedule
    fo.load(tmp_path / "all", into={"opt": twin})
    return twin


def through_deepcopy(opt, tmp_path):
    return copy.deepcopy(opt)


def through_pickle(opt, tmp_path):
    return pickle.loads(pickle.dumps(opt))


WAYS = [
    through_state, through_file, through_training_file, through_into, through_deepcopy,
    through_pickle,
]


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_save_and_copy(way, tmp_path):
    opt = full()
    params = trained(opt)
    twin = way(opt, tmp_path)
    assert repr(twin) == repr(opt)
    assert twin.rest is not opt.rest
    continues(opt, params, twin, copies(params))


@pytest.mark.parametrize("way", [through_deepcopy, through_pickle, through_training_file])
def test_plateaus_are_copied(way, tmp_path):
    plateau = schedules.plateau(0.1, patience=0)
    opt = fo.Muon(0.1, rest=fo.SGD(plateau, groups=[fo.Group("b", lr=plateau)]))
    params = {"W": np.ones((2, 2)), "b": np.ones(2), "c": np.ones(2)}
    opt.update(params, copies(params))
    twin = way(opt, tmp_path)
    for _ in range(3):
        opt.rest.lr.observe(1.0)
    assert opt.rest.current("lr") < 0.1
    assert twin.rest.current("lr") == twin.rest.current("lr", 0) == 0.1
    assert twin.rest.lr is twin.rest.groups[0].lr


def test_what_its_plateaus_have_observed_is_loaded(tmp_path):
    def make():
        plateau = schedules.plateau(0.1, patience=0)
        return fo.Muon(0.1, rest=fo.SGD(plateau)), plateau

    opt, plateau = make()
    for _ in range(3):
        plateau.observe(1.0)
    lr = opt.rest.current("lr")
    assert lr < 0.1
    twin, _ = make()
    twin.load_state_dict(opt.state_dict())
    assert twin.rest.current("lr") == lr
    fo.save(tmp_path / "all", {"opt": opt, "rate": plateau})
    twin, theirs = make()
    found = fo.load(tmp_path / "all", into={"opt": twin})
    assert twin.rest.current("lr") == lr
    assert found["rate"] is twin.rest.lr is theirs


def test_a_copy_of_the_inner_one_is_without_state():
    opt = fo.Muon(rest=fo.Adam(0.5, groups=[fo.Group("b", lr=0.25)]))
    opt.update({"W": np.ones((2, 2)), "b": np.ones(2)}, {"W": np.ones((2, 2)), "b": np.ones(2)})
    for twin in (copy.deepcopy(opt.rest), pickle.loads(pickle.dumps(opt.rest))):
        assert (twin.iter, twin.lr, twin.groups[0].lr) == (0, 0.5, 0.25)
        twin.update({"b": np.ones(2)}, {"b": np.ones(2)})
        assert opt.iter == 1
    assert fo.Muon(rest=opt.rest).rest.lr == 0.5


BAD_STATES = [
    (("rest", "rule"), "SGD", "the state's rest is of SGD, this optimizer's is AdamW"),
    (("rest", "to_rest"), ["other*"], r"the state's to_rest is \['other\*'\], this optimizer's is"),
    (("rest", "hyperparameters", "beta1"), 1.5, r"beta1 must be in \[0, 1\)"),
    (("rest", "groups"), [], "the state's groups are"),
    (("rest",), None, "'rest' of the state is a NoneType"),
    (("parameters", "emb.W", "group"), 0, "'emb.W' in no group, and .* puts it in rest"),
    (("parameters", "k", "group"), 0, "'k' in no group, and .* puts it in the group 'k' of rest"),
    (("parameters", "a.W", "group"), 2, "'a.W' in rest, and .* puts it in the group 'a"),
    (("parameters", "a.W", "state"), {"m": np.ones((4, 5))}, "has slots"),
]


@pytest.mark.parametrize(("place", "value", "message"), BAD_STATES)
def test_bad_states(place, value, message):
    opt = full()
    trained(opt)
    saved = opt.state_dict()
    put(saved, place, value)
    twin = full()
    with pytest.raises((ValueError, TypeError), match=message):
        twin.load_state_dict(saved)
    assert (twin.iter, dict(twin.v)) == (0, {})


def test_a_state_with_a_rest_and_one_without():
    plain, with_rest = fo.Muon(), fo.Muon(rest=fo.SGD())
    with pytest.raises(ValueError, match="this optimizer has no rest, and the state has one"):
        plain.load_state_dict(with_rest.state_dict())
    with pytest.raises(ValueError, match="this optimizer has a rest, and the state has no"):
        with_rest.load_state_dict(plain.state_dict())


def test_a_predicate_is_not_in_a_file(tmp_path):
    make = lambda: fo.Muon(rest=fo.SGD(), to_rest=lambda key, p: key == "head")  # noqa: E731
    opt = make()
    params = {"W": np.ones((2, 2)), "head": np.ones((2, 2))}
    opt.update(params, copies(params))
    fo.save(tmp_path / "all", {"opt": opt})
    with pytest.raises(ValueError, match="to_rest has a predicate, which is code"):
        fo.load(tmp_path / "all")
    twin = make()
    fo.load(tmp_path / "all", into={"opt": twin})
    assert twin.iter == 1
    other = fo.Muon(rest=fo.SGD(), to_rest=lambda key, p: key == "W")
    with pytest.raises(ValueError, match="the state has 'W' in no group, and this optimizer puts"):
        fo.load(tmp_path / "all", into={"opt": other})


def test_a_schedule_of_rest_is_told_of():
    opt = fo.Muon(rest=fo.SGD(lambda step: 0.1))
    twin = fo.Muon(rest=fo.SGD(0.5))
    with pytest.warns(UserWarning, match="rest: lr was a schedule when this state was saved"):
        twin.load_state_dict(opt.state_dict())
    assert twin.rest.lr == 0.5
