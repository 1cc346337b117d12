"""Sharpness-aware minimisation: the gradient at p + ρ g/‖g‖, around any optimizer."""

import copy
import pickle
import re

import numpy as np
import pytest
from helpers import arrays, assert_same_arrays, copies, every_dtype
from reference import global_norm

import fastoptim as fo
from fastoptim import listings

SHAPES = {"W": (60, 41), "b": (7,), "e": (0,), "s": ()}


def gradient(params):
    """Of Σ(p⁴ + p²)/2, and the loss."""
    loss = sum(float(((p**4 + p**2) / 2).sum()) for p in params.values())
    return loss, {key: np.asarray(2 * p**3 + p, dtype=p.dtype) for key, p in params.items()}


def shifted(params, rho, sign=lambda key: 1):
    """The oracle's point, and the loss where it started."""
    loss, grads = gradient(params)
    factor = rho / global_norm(grads)
    return loss, {
        key: np.asarray(p + p.dtype.type(sign(key) * factor) * grads[key])
        for key, p in params.items()
    }


@every_dtype
def test_step_is_the_rule_with_the_gradient_at_the_shifted_point(dtype, threads):
    expected = arrays(np.random.default_rng(0), SHAPES, dtype)
    params = copies(expected)
    opt, oracle = fo.SAM(fo.Momentum(lr=0.01, alpha=0.8), rho=0.3), listings.Momentum(0.01, 0.8)
    for step in range(4):
        start, seen = copies(params), []

        def fn(given, seen=seen):
            assert given is params
            seen.append(copies(given))
            return gradient(given)

        loss, there = shifted(expected, 0.3)
        assert opt.step(params, fn) == loss
        assert len(seen) == 2
        assert_same_arrays(seen[0], start, "first call")
        assert_same_arrays(seen[1], there, "second call")
        oracle.update(expected, gradient(there)[1])
        assert_same_arrays(params, expected, "params")
        assert_same_arrays(opt.opt.v, oracle.v, "v")
        assert opt.iter == step + 1


LAYOUTS = {
    "fortran": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@every_dtype
def test_no_layout_changes_a_bit(layout, dtype):
    plain = arrays(np.random.default_rng(1), {"W": (60, 41)}, dtype)
    other = {"W": layout(plain["W"].copy())}
    for params in (plain, other):
        opt = fo.SAM(fo.Adam(lr=0.1), rho=0.2)
        for _ in range(3):
            opt.step(params, lambda p: (0.0, {"W": layout(gradient(p)[1]["W"])}))
    assert np.array_equal(plain["W"], other["W"])


def test_groups_that_maximize_shift_down():
    params = {"up": np.array([1.0, 2.0]), "down": np.array([3.0])}
    seen = []

    def fn(given):
        seen.append(copies(given))
        return gradient(given)

    _, there = shifted(params, 0.5, lambda key: -1 if key == "up" else 1)
    fo.SAM(fo.SGD(groups=[fo.Group("up", maximize=True)]), rho=0.5).step(params, fn)
    assert_same_arrays(seen[1], there, "second call")


def test_options_see_the_second_gradient_alone():
    options = {"weight_decay": 0.1, "clip_norm": 0.5, "average": 0.5}
    params, expected = {"x": np.array([1.0, 2.0])}, {"x": np.array([1.0, 2.0])}
    opt, plain = fo.SAM(fo.Adam(0.1, **options), rho=0.2), fo.Adam(0.1, **options)
    for _ in range(3):
        opt.step(params, gradient)
        plain.update(expected, gradient(shifted(expected, 0.2)[1])[1])
    assert_same_arrays(params, expected, "params")
    assert_same_arrays(opt.opt.average_of, plain.average_of, "average")
    assert opt.opt.grad_norm == plain.grad_norm


def test_around_look_ahead_the_shift_starts_ahead():
    params, expected = {"x": np.array([1.0, 2.0])}, {"x": np.array([1.0, 2.0])}
    opt = fo.SAM(fo.Momentum(0.1, 0.5, lookahead=True), rho=0.2)
    oracle = listings.Momentum(0.1, 0.5)
    for _ in range(3):
        ahead = {"x": expected["x"] + 0.5 * oracle.v.get("x", 0)}
        loss, there = shifted(ahead, 0.2)
        assert opt.step(params, gradient) == loss
        oracle.update(expected, gradient(there)[1])
        assert_same_arrays(params, expected, "params")


def test_a_soft_batch_inside_has_a_shift_for_each_call():
    params = {"x": np.array([1.0, 2.0])}
    start = copies(params)
    soft = fo.SAM(fo.SoftBatch(fo.SGD(0.1), every=2), rho=0.2)
    for scale in (1.0, 4.0):
        soft.step(params, lambda p, scale=scale: {"x": scale * gradient(p)[1]["x"]})
    there = shifted(start, 0.2)[1]          # ρ g/‖g‖ is the same for any multiple of g
    g = gradient(there)[1]["x"]
    expected = copies(start)
    fo.SGD(0.1).update(expected, {"x": (1.0 * g + 4.0 * g) * 0.5})
    assert np.allclose(params["x"], expected["x"], rtol=1e-14, atol=0)
    assert soft.iter == 1
    with pytest.raises(TypeError, match=r"got SAM; SAM goes around: SAM\(SoftBatch\(opt\), rho\)"):
        fo.SoftBatch(fo.SAM(fo.SGD()))


def test_around_a_method_each_stage_is_shifted():
    params, expected = {"x": np.array([1.0, 2.0]), "y": 0.5}, {"x": np.array([1.0, 2.0]), "y": 0.5}
    whole = fo.SAM(fo.Heun(0.1), rho=0.2)

    def sharp(p):
        here = {key: np.asarray(x) for key, x in p.items()}
        return gradient(shifted(here, 0.2)[1])[1]

    plain = fo.Heun(0.1)
    for _ in range(3):
        whole.step(params, lambda p: gradient({key: np.asarray(x) for key, x in p.items()}))
        plain.step(expected, sharp)
    assert np.array_equal(params["x"], expected["x"])
    assert params["y"] == expected["y"]
    assert type(params["y"]) is float
    assert whole.iter == 3


def test_rho_is_live_and_may_be_a_schedule():
    opt, params, radii = fo.SAM(fo.SGD(0.0)), {"x": np.array([3.0, 4.0])}, []

    def fn(p):
        radii.append(float(np.linalg.norm(p["x"] - [3.0, 4.0])))
        return {"x": p["x"].copy()}

    opt.step(params, fn)
    opt.rho = 0.5
    opt.step(params, fn)
    opt.rho = fo.schedules.linear(0.0, 1.0, 4)
    opt.step(params, fn)
    assert np.allclose(radii[1::2], [0.05, 0.5, 0.5], rtol=1e-12)
    assert repr(fo.SAM(fo.SGD(lr=0.1))) == "SAM(SGD(lr=0.1), rho=0.05)"


BAD = {
    "class": (lambda: fo.SAM(fo.SGD), TypeError, r"opt must be .*got SGD; write SGD\(\)"),
    "parameters": (lambda: fo.SAM({"x": 1}), TypeError, "opt must be an optimizer.*got dict"),
    "negative": (lambda: fo.SAM(fo.SGD(), -1), ValueError, r"rho must be in \[0, inf\), got -1"),
    "text": (lambda: fo.SAM(fo.SGD(), "x"), TypeError, r"rho must be a number in \[0, inf\)"),
    "name": (lambda: fo.SAM(fo.SGD(), radius=1), TypeError, "SAM has no hyperparameter 'radius'"),
    "attribute": (lambda: setattr(fo.SAM(fo.SGD()), "roh", 1), AttributeError, "mean 'rho'"),
    "shallow": (lambda: copy.copy(fo.SAM(fo.SGD())), TypeError, "use copy.deepcopy"),
}


@pytest.mark.parametrize(("make", "error", "text"), BAD.values(), ids=BAD)
def test_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def stage(at, then):
    """A fn whose call number `at` does something else than give the gradient."""
    calls = []

    def fn(p):
        calls.append(1)
        return then(p) if len(calls) == at else gradient(p)

    return fn


def interrupt(p):
    raise KeyboardInterrupt("now")


def alter(p):
    p["x"][0] += 1
    return gradient(p)


def replace(p):
    p["x"] = p["x"].copy()
    return gradient(p)


FAULTS = {
    "raises": (lambda p: 1 / 0, ZeroDivisionError, "zero"),
    "interrupted": (interrupt, KeyboardInterrupt, "now"),
    "None": (lambda p: None, TypeError, "fn returned None"),
    "other key": (lambda p: {"y": p["x"]}, KeyError, "grads has no gradient|'x'"),
    "shape": (lambda p: {"x": np.ones(3)}, ValueError, r"grads\['x'\] has shape"),
    "altered": (alter, RuntimeError, r"fn altered params\['x'\]"),
    "replaced": (replace, RuntimeError, r"in the place of params\['x'\]"),
}


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize(("then", "error", "text"), FAULTS.values(), ids=FAULTS)
def test_whatever_is_raised_nothing_has_changed(then, error, text, at):
    opt, params = fo.SAM(fo.Momentum(), rho=0.5), {"x": np.array([1.0, 2.0])}
    opt.step(params, gradient)
    x, before, v = params["x"], params["x"].copy(), opt.opt.v["x"].copy()
    with pytest.raises(error, match=text):
        opt.step(params, stage(at, then))
    assert params["x"] is x
    assert np.array_equal(x, before)
    assert np.array_equal(opt.opt.v["x"], v)
    assert opt.iter == 1
    opt.step(params, gradient)
    assert opt.iter == 2


def test_zero_grads_is_refused_before_fn_is_called():
    opt, calls = fo.SAM(fo.SGD(groups=[fo.Group("x", zero_grads=True)])), []
    with pytest.raises(ValueError, match="set zero_grads=False"):
        opt.step({"x": np.ones(2)}, calls.append)
    assert calls == []


def test_fn_may_return_the_parameters_or_one_buffer():
    """The gradient of ½|p|² is p; a network writes both gradients to one place."""
    params, other, expected = ({"x": np.array([3.0, 4.0])} for _ in range(3))
    buffer = np.empty(2)

    def fill(p):
        buffer[...] = p["x"]
        return {"x": buffer}

    fo.SAM(fo.SGD(0.1), rho=0.5).step(params, lambda p: p)
    fo.SAM(fo.SGD(0.1), rho=0.5).step(other, fill)
    there = expected["x"] + 0.5 / 5.0 * expected["x"]
    expected["x"] -= 0.1 * there
    assert np.array_equal(params["x"], expected["x"])
    assert np.array_equal(other["x"], expected["x"])


SMALL = {
    "zero": (np.zeros(2), "f4"),
    "beyond float32": (np.array([1e-45, 0.0], "f4"), "f4"),
    "beyond float64": (np.array([5e-324, 0.0]), "f8"),
}


@pytest.mark.parametrize(("g", "dtype"), SMALL.values(), ids=SMALL)
def test_a_gradient_without_direction_shifts_nothing(g, dtype):
    seen, params = [], {"x": np.ones(2, dtype)}
    fo.SAM(fo.SGD()).step(
        params, lambda p: (seen.append(p["x"].copy()), {"x": g.astype(dtype)})[1]
    )
    assert len(seen) == 2
    assert np.array_equal(seen[0], seen[1])


def test_gradients_that_are_not_finite_are_left_to_the_optimizer():
    bad = {"x": np.array([1.0, np.nan])}
    for nonfinite in ("skip", "raise", "propagate"):
        opt, params, calls = fo.SAM(fo.SGD(nonfinite=nonfinite)), {"x": np.ones(2)}, []
        if nonfinite == "raise":
            with pytest.raises(FloatingPointError, match=re.escape("grads['x']")):
                opt.step(params, lambda p, calls=calls: (calls.append(1), bad)[1])
        else:
            opt.step(params, lambda p, calls=calls: (calls.append(1), bad)[1])
        assert calls == [1]
        assert opt.opt.skipped == (nonfinite == "skip")
        assert np.isnan(params["x"]).any() == (nonfinite == "propagate")


def test_none_shifts_and_updates_nothing():
    params, seen = {"x": np.array([3.0, 4.0]), "y": np.ones(2)}, []

    def fn(p):
        seen.append(copies(p))
        return {"x": p["x"].copy(), "y": None}

    fo.SAM(fo.SGD(0.1), rho=1.0).step(params, fn)
    assert np.allclose(seen[1]["x"], [3.6, 4.8], rtol=1e-15)
    assert seen[1]["y"].tolist() == params["y"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("way", ["state_dict", "file", "deepcopy", "pickle"])
@pytest.mark.parametrize("soft", [False, True])
def test_training_goes_on_to_the_bit(way, soft, tmp_path):
    def make():
        inner = fo.Adam(lr=0.1)
        return fo.SAM(fo.SoftBatch(inner, every=2) if soft else inner, rho=0.2)

    params, opt = {"x": np.array([1.0, 2.0])}, make()
    opt.rho = 0.3
    for _ in range(3):
        opt.step(params, gradient)
    other, twin = copies(params), make()
    if way == "deepcopy":
        twin = copy.deepcopy(opt)
        assert twin.opt is not opt.opt
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(opt))
    elif way == "file":
        opt.save(tmp_path / "sam.safetensors")
        twin.load(tmp_path / "sam.safetensors")
    else:
        twin.load_state_dict(opt.state_dict())
    assert twin.rho == 0.3
    for _ in range(3):
        opt.step(params, gradient)
        twin.step(other, gradient)
    assert twin.iter == opt.iter
    assert_same_arrays(other, params, "params")


STATES = {
    "of a rule": (lambda s: s["optimizer"], ValueError, "the state is of SGD, this optimizer is"),
    "rho": (
        lambda s: {**s, "hyperparameters": {"rho": -1.0}}, ValueError, "rho must be in",
    ),
    "inside": (
        lambda s: {**s, "hyperparameters": {"rho": 1.0}, "optimizer": {}}, ValueError,
        "no 'format'",
    ),
    "none inside": (
        lambda s: {k: v for k, v in s.items() if k != "optimizer"}, ValueError, "no 'optimizer'",
    ),
}


@pytest.mark.parametrize(("change", "error", "text"), STATES.values(), ids=STATES)
def test_a_state_that_does_not_fit_replaces_nothing(change, error, text):
    opt = fo.SAM(fo.SGD())
    with pytest.raises(error, match=text):
        opt.load_state_dict(change(opt.state_dict()))
    assert opt.rho == 0.05


def test_a_schedule_that_is_lost_is_warned_of():
    saved = fo.SAM(fo.SGD(), rho=lambda step: 0.1).state_dict()
    opt = fo.SAM(fo.SGD())
    with pytest.warns(UserWarning, match="rho was a schedule when this state was saved"):
        opt.load_state_dict(saved)
    assert opt.rho == 0.05


def test_a_step_within_a_step_is_refused():
    opt, params = fo.SAM(fo.SGD()), {"x": np.ones(2)}
    with pytest.raises(RuntimeError, match="in the middle of a step"):
        opt.step(params, lambda p: opt.step(p, gradient))
    assert params["x"].tolist() == [1.0, 1.0]
    opt.step(params, gradient)


def test_a_path_has_the_losses_where_the_steps_began():
    path = fo.trace(fo.SAM(fo.SGD(0.1), rho=0.2), {"x": np.array([1.0, 2.0])}, gradient, steps=3)
    losses = [gradient(path.at(k))[0] for k in range(4)]
    assert path.losses.tolist() == losses
    assert path.name == "SAM(SGD(lr=0.1), rho=0.2)"


class Watched(fo.SAM):
    """Keeps the norms that it divided by."""

    norms = ()

    def factor(self, radius, norm):
        vars(self)["norms"] = (*self.norms, norm)
        return super().factor(radius, norm)


@every_dtype
def test_the_norm_has_the_bits_of_clip_norms(dtype, threads):
    rng, opt, plain, expected = np.random.default_rng(2), Watched(fo.SGD()), fo.SGD(norm=True), []
    for _ in range(12):
        grads = arrays(rng, {"W": (70, 61), "b": (1000,)}, dtype)
        params = {key: np.zeros_like(g) for key, g in grads.items()}
        opt.step(params, lambda p, grads=grads: grads)
        plain.update(params, grads)
        expected.append(global_norm(grads))
        assert opt.norms[-1] == plain.grad_norm
    assert list(opt.norms) == expected


@pytest.mark.parametrize("wrapped", [fo.SAM, fo.SoftBatch, lambda opt: fo.SAM(fo.SoftBatch(opt))])
@pytest.mark.parametrize("first", [0, 1])
def test_a_copy_of_both_shares_one_optimizer(wrapped, first):
    """As the two do that are copied, whichever of them comes first."""
    opt = fo.SGD()
    both = copy.deepcopy([opt, wrapped(opt)][:: -1 if first else 1])
    plain, inside = both[first], both[1 - first]
    while not isinstance(inside, fo.SGD):
        inside = inside.opt
    assert inside is plain is not opt


def test_no_parameters_are_none_to_shift():
    assert fo.SAM(fo.SGD()).step({}, lambda params: (1.0, {})) == 1.0
