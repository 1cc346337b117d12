"""Every hyperparameter is checked when it is given and when it is set, is live, and matters."""

import copy
import math
import re

import numpy as np
import pytest
from helpers import CASES, EVERY_CLASS, every_number, slots_by_start

import fastoptim as fo
from fastoptim.optimizer.base import Optimizer


def ends(interval):
    """The two ends of an interval such as "[0, 1)"."""
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def outside(interval):
    """Numbers just outside an interval, and far."""
    low, high = ends(interval)
    numbers = [math.nan, math.inf, -math.inf]
    numbers.append(low if interval[0] == "(" else np.nextafter(low, -math.inf))
    if math.isfinite(high):
        numbers.append(high if interval[-1] == ")" else np.nextafter(high, math.inf))
    return numbers


def inside(interval):
    """The ends that belong to an interval, and a number between them."""
    low, high = ends(interval)
    numbers = [low + 0.25 if math.isinf(high) else (low + high) / 2]
    if interval[0] == "[":
        numbers.append(low)
    if interval[-1] == "]":
        numbers.append(high)
    return numbers


@every_number
def test_outside_the_interval(cls, field):
    interval = field.metadata["check"].text
    opt = cls()
    for value in outside(interval):
        text = re.escape(f"{field.name} must be in {interval}, got")
        with pytest.raises(ValueError, match=text):
            cls(**{field.name: value})
        with pytest.raises(ValueError, match=text):
            setattr(opt, field.name, value)
        assert getattr(opt, field.name) == field.default


@every_number
def test_inside_the_interval(cls, field):
    for value in inside(field.metadata["check"].text):
        opt = cls(**{field.name: value})
        assert getattr(opt, field.name) == value
        opt = cls()
        setattr(opt, field.name, value)
        assert getattr(opt, field.name) == value
        assert len(opt.coefficients(1)) > 0


@pytest.mark.parametrize(
    "value",
    ["0.1", None, True, np.True_, 1j, [0.1], np.array([0.1]), np.array(True), Ellipsis],
    ids=repr,
)
@every_number
def test_wrong_type(cls, field, value):
    with pytest.raises(TypeError, match=f"{field.name} must be a number in"):
        cls(**{field.name: value})
    opt = cls()
    with pytest.raises(TypeError, match=f"{field.name} must be a number in"):
        setattr(opt, field.name, value)
    assert getattr(opt, field.name) == field.default


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, np.array, lambda x: np.array(x, "f4")],
    ids=["float32", "float64", "array", "array of float32"],
)
@every_number
def test_numbers_of_numpy_become_floats(cls, field, kind):
    number = 0.5 if 0.5 in field.metadata["check"] else 1.5
    opt = cls(**{field.name: kind(number)})
    assert type(getattr(opt, field.name)) is float
    assert getattr(opt, field.name) == number


@pytest.mark.parametrize("value", [1, np.int32(1), np.array(1)], ids=repr)
def test_integers_become_floats(value):
    assert type(fo.SGD(lr=value).lr) is float


def test_an_integer_too_large_for_a_float():
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\)"):
        fo.SGD(lr=10**400)


# Values that matter where half the default would not: it is outside the interval, or makes no
# difference that ten steps could show.
TELLING = {
    ("AdaBelief", "eps"): 1e-8,
    ("Adafactor", "eps1"): 1e-6,
    ("Adafactor", "eps2"): 2.0,
    ("Rprop", "eta_plus"): 1.1,
    ("Rprop", "step_min"): 0.02,
    ("Rprop", "step_max"): 0.005,
}


def telling_value(cls, field):
    """A value of a hyperparameter that gives another result than the default."""
    return TELLING.get((cls.__name__, field.name), 0.5 * field.default or 0.25)


def bits_after(opt, params, rng, updates):
    for _ in range(updates):
        opt.update(params, {key: rng.standard_normal(50) * 1e-3 for key in params})
    return [p.tobytes() for p in params.values()]


@every_number
def test_every_hyperparameter_given_changes_the_result(cls, field):
    """No argument is accepted and ignored."""
    opt, usual = cls(**{field.name: telling_value(cls, field)}), cls()
    bits = bits_after(opt, {"x": np.ones(50)}, np.random.default_rng(0), 10)
    assert bits != bits_after(usual, {"x": np.ones(50)}, np.random.default_rng(0), 10)


@every_number
def test_every_hyperparameter_assigned_changes_the_result(cls, field):
    # What only fresh state takes can only matter to a key that comes after the assignment.
    late = field.name in slots_by_start(cls)

    def bits_with(assigned):
        opt, params, rng = cls(), {"x": np.ones(50)}, np.random.default_rng(0)
        bits_after(opt, params, rng, 1)
        setattr(opt, field.name, assigned)
        return bits_after(opt, {"new": np.ones(50)} if late else params, rng, 9)

    assert bits_with(telling_value(cls, field)) != bits_with(field.default)


@pytest.mark.parametrize("case", [c for c in CASES if c.options], ids=repr)
def test_every_choice_changes_the_result(case):
    def trained(opt):
        params = {"x": np.ones(5)}
        if isinstance(opt, fo.Adafactor):
            opt.lr = 1.0  # 1/√t falls below it at the second update
        if isinstance(opt, fo.LARS):
            opt.weight_decay = 0.1  # by which its forms differ
        for size in (1.0, 0.5, -0.01):  # AMSGrad's maximum is not the last v, a sign is another
            opt.update(params, {"x": size * np.arange(1.0, 6.0)})   # LAMB sees through a factor
        return params["x"].tobytes()

    others = [c for c in CASES if c.cls is case.cls and c.options != case.options]
    assert others
    for other in others:
        assert trained(case.ours()) != trained(other.ours())


def test_choice():
    with pytest.raises(ValueError, match=r"form must be one of \('published', 'listing'\), got 'x"):
        fo.Nesterov(form="x")
    with pytest.raises(TypeError, match="form must be one of"):
        fo.Nesterov(form=1)


@pytest.mark.parametrize("cls", [fo.MaxNorm, fo.UnitNorm])
def test_a_class_in_place_of_a_constraint(cls):
    with pytest.raises(TypeError, match=rf"constraint must be .*; write .*{cls.__name__}\("):
        fo.SGD(constraint=cls)


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_unknown_names(cls):
    with pytest.raises(TypeError, match=f"{cls.__name__} has no 'learning_rate'; here it is lr"):
        cls(learning_rate=0.1)
    with pytest.raises(TypeError, match=f"{cls.__name__} has no hyperparameter 'speed'; it has lr"):
        cls(speed=0.1)
    opt = cls()
    with pytest.raises(AttributeError, match=f"{cls.__name__} has no .* 'speed'; it has lr"):
        opt.speed = 1
    with pytest.raises(AttributeError, match="did you mean 'lr'"):
        opt.LR = 1
    with pytest.raises(AttributeError):
        opt.iter = 0


def test_state_cannot_be_replaced_unseen():
    opt = fo.Momentum()
    opt.update({"x": np.ones(2)}, {"x": np.ones(2)})
    with pytest.raises(AttributeError, match="v cannot be replaced; write into its arrays"):
        opt.v = {}
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.v["x"] = np.ones(2)


def test_state_can_be_written_in_place():
    opt, params = fo.Momentum(lr=1, alpha=0.5), {"x": np.zeros(2)}
    opt.update(params, {"x": np.zeros(2)})
    opt.v["x"][...] = 8
    opt.update(params, {"x": np.zeros(2)})
    assert params["x"].tolist() == [4, 4]


def test_order_of_arguments_and_defaults():
    assert repr(fo.SGD(0.5)) == "SGD(lr=0.5)"
    assert repr(fo.SGD()) == "SGD(lr=0.01)"
    assert repr(fo.Momentum()) == "Momentum(lr=0.01, alpha=0.9)"
    assert repr(fo.Nesterov()) == "Nesterov(lr=0.01, mu=0.9, form='published')"
    assert repr(fo.AdaGrad()) == "AdaGrad(lr=0.01, eps=1e-07)"
    assert repr(fo.RMSprop()) == "RMSprop(lr=0.01, decay_rate=0.99, eps=1e-07)"
    assert repr(fo.Adam()) == "Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-07)"
    assert repr(fo.AdamW()) == (
        "AdamW(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01, decoupled=True)"
    )
    assert repr(fo.HeavyBall()) == "HeavyBall(lr=0.01, mu=0.9, dampening=0.0, nesterov=False)"
    assert repr(fo.Lion()) == (
        "Lion(lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.001, decoupled=True)"
    )
    assert "weight_decay=0.0" in repr(fo.Lion(weight_decay=0))
    assert "weight_decay" not in repr(fo.Adam(weight_decay=0))
    assert repr(fo.Adam(amsgrad=True)).endswith("eps=1e-07, amsgrad=True)")
    assert repr(fo.Adam(1, 0.5, 0.25, 0.125)) == "Adam(lr=1.0, beta1=0.5, beta2=0.25, eps=0.125)"


def test_eps_that_float32_would_round_to_nothing():
    with pytest.raises(ValueError, match=r"eps must be 0 or at least 1.4e-45"):
        fo.Adam(eps=1e-50)
    fo.Adam(eps=1.5e-45)
    fo.Adam(eps=0)


def test_a_number_that_must_not_be_0_in_float32_either():
    with pytest.raises(ValueError, match=r"lr must be at least 1.4e-45, below which float32"):
        fo.FTRL(lr=1e-50)


def test_step_sizes_that_contradict_each_other():
    opt, params = fo.Rprop(step_min=1.0), {"x": np.ones(2)}
    opt.step_max = 0.5
    with pytest.raises(ValueError, match=r"step_min must be at most step_max, got 1.0 and 0.5"):
        opt.update(params, {"x": np.ones(2)})
    assert (params["x"] == 1).all()
    assert opt.iter == 0


def test_coefficient_that_float32_cannot_hold():
    opt, params = fo.SGD(lr=1e39), {"x": np.ones(2, np.float32)}
    with pytest.raises(ValueError, match=r"coefficient of 1e\+39, which float32 cannot hold"):
        opt.update(params, {"x": np.ones(2, np.float32)})
    assert (params["x"] == 1).all()
    assert opt.iter == 0
    wide = {"x": np.ones(2)}
    opt.update(wide, {"x": np.ones(2)})
    assert (wide["x"] == -1e39).all()


def test_coefficient_that_is_not_finite():
    opt = fo.Nesterov(lr=1.7e308, mu=0.9)
    with pytest.raises(ValueError, match="coefficient of inf"):
        opt.update({"x": np.ones(2)}, {"x": np.ones(2)})


def test_base_class_is_not_a_rule():
    with pytest.raises(TypeError, match="use one, such as fastoptim.SGD"):
        Optimizer()


def test_a_subclass_of_a_rule_is_that_rule():
    class Mine(fo.Adam):
        def coefficients(self, t):
            return super().coefficients(1)

    a, b = {"x": np.ones(5)}, {"x": np.ones(5)}
    mine, adam = Mine(lr=0.1), fo.Adam(lr=0.1)
    mine.update(a, {"x": np.ones(5)})
    adam.update(b, {"x": np.ones(5)})
    assert np.array_equal(a["x"], b["x"])
    assert np.array_equal(mine.v["x"], adam.v["x"])
    assert repr(mine) == "Mine(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-07)"


def test_attributes_stay_and_optimizers_are_not_shared():
    opt = fo.SGD(lr=0.5)
    with pytest.raises(AttributeError, match="lr cannot be deleted"):
        del opt.lr
    assert opt.lr == 0.5
    with pytest.raises(TypeError, match=r"use copy.deepcopy"):
        copy.copy(opt)
