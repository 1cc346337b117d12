"""A schedule gives what assigning its numbers by hand gives, whatever of the update it changes."""

import numpy as np
import pytest
from helpers import assert_same_array, every_class

import fastoptim as fo
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import checks_of, may_be_schedule


def numbers(*values):
    """A schedule that gives these numbers in turn, and the last one for ever."""
    return lambda step: values[min(step, len(values) - 1)]


SCHEDULES = {
    "lr": numbers(0.1, 0.05, 0.0, 0.2),
    "weight_decay": numbers(0.0, 0.1, 0.3, 0.0),
    "clip_value": numbers(1.0, 0.5, 0.1),
    "clip_norm": numbers(10.0, 1.0, 0.1),
    "clip_norm_per_key": numbers(10.0, 1.0, 0.1),
    "agc": numbers(10.0, 1.0, 0.1),
    "average": numbers(0.5, 0.9, 0.0),
}
MORE = {
    "of a decoupled decay": (fo.AdamW, {"lr": SCHEDULES["lr"]}),
    "of both factors of a decay": (
        fo.AdamW, {"lr": SCHEDULES["lr"], "weight_decay": SCHEDULES["weight_decay"]},
    ),
    "that chooses another kernel": (fo.RMSprop, {"momentum": numbers(0.0, 0.0, 0.5, 0.0)}),
    "that new state starts at": (fo.AdaGrad, {"initial": numbers(0.0, 1.0, 2.0)}),
    "of the momentum": (fo.Momentum, {"alpha": numbers(0.5, 0.9, 0.0)}),
}


def same(ours, by_hand, schedules, groups=()):
    """Train with schedules and with assignments; a key comes late, one misses a gradient."""
    rng = np.random.default_rng(0)
    a = {"a": rng.standard_normal(5), "b.bias": rng.standard_normal(3)}
    b = {key: x.copy() for key, x in a.items()}
    for step in range(6):
        if step == 2:
            a["late"], b["late"] = np.ones(4), np.ones(4)
        grads = {key: rng.standard_normal(x.shape) for key, x in a.items()}
        if step == 4:
            grads["a"] = None
        for name, schedule in schedules.items():
            setattr(by_hand, name, schedule(step))
        for k, name, schedule in groups:
            setattr(by_hand.groups[k], name, schedule(step))
        ours.update(a, grads)
        by_hand.update(b, grads)
        for key in a:
            assert_same_array(a[key], b[key], key)
    for slot in {name for slots in ours.kernels.values() for name in slots}:
        assert set(getattr(ours, slot)) == set(getattr(by_hand, slot))
        for key, state in getattr(by_hand, slot).items():
            assert_same_array(getattr(ours, slot)[key], state, f"{slot}[{key!r}]")
    for key, average in by_hand.average_of.items():
        assert_same_array(ours.average_of[key], average, f"average_of[{key!r}]")


def test_every_option_that_may_be_a_schedule_is_tried_as_one():
    options = {name for name, check in checks_of(Optimizer).items() if may_be_schedule(check)}
    assert set(SCHEDULES) == {"lr", *options}


@every_class
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_the_assignments(case, name):
    schedule = SCHEDULES[name] if name != "lr" else numbers(0.1, 0.05, 0.2)
    same(case.ours(**{name: schedule}), case.ours(), {name: schedule})


@pytest.mark.parametrize(("cls", "schedules"), MORE.values(), ids=MORE.keys())
def test_schedules_that_change_more_than_a_coefficient(cls, schedules):
    same(cls(**schedules), cls(), schedules)


def test_groups_inherit_schedules_and_have_their_own():
    lr, decay, alpha = numbers(0.1, 0.2, 0.3), numbers(0.0, 0.5), numbers(0.1, 0.9)
    groups = [fo.Group("*.bias", weight_decay=decay), fo.Group("late", lr=0.5, alpha=alpha)]
    by_hand = [fo.Group("*.bias", weight_decay=0.0), fo.Group("late", lr=0.5, alpha=0.1)]
    with pytest.raises(ValueError, match="matches no key"):
        same(fo.Momentum(lr=lr, groups=groups), fo.Momentum(groups=by_hand), {"lr": lr})
    same(
        fo.Momentum(lr=lr, groups=groups[:1]), fo.Momentum(groups=by_hand[:1]), {"lr": lr},
        [(0, "weight_decay", decay)],
    )
    groups = [fo.Group("a", lr=0.5, alpha=alpha, decoupled=True, weight_decay=decay)]
    by_hand = [fo.Group("a", lr=0.5, alpha=0.1, decoupled=True, weight_decay=0.0)]
    same(
        fo.Momentum(lr=lr, groups=groups), fo.Momentum(groups=by_hand), {"lr": lr},
        [(0, "weight_decay", decay), (0, "alpha", alpha)],
    )


def test_an_assignment_in_between_is_seen():
    lr = numbers(0.1, 0.2, 0.3)
    ours, by_hand = fo.Momentum(lr=lr), fo.Momentum()
    a, b, g = {"x": np.ones(3)}, {"x": np.ones(3)}, {"x": np.ones(3)}
    for step in range(4):
        if step == 2:
            ours.alpha = by_hand.alpha = 0.5
        by_hand.lr = lr(step)
        ours.update(a, g)
        by_hand.update(b, g)
    assert_same_array(a["x"], b["x"], "x")


def test_pipelines_are_kept_while_only_numbers_change(monkeypatch):
    """What an update with a schedule costs is asking it: nothing else is made anew."""
    from fastoptim.optimizer import plan

    made = []
    real = plan.pipeline_of

    def counted(*arguments):
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(plan, "pipeline_of", counted)
    opt = fo.AdamW(lr=numbers(0.1, 0.2), weight_decay=numbers(0.1, 0.2), average=numbers(0.5, 0.6))
    for _ in range(5):
        opt.update({"x": np.ones(3)}, {"x": np.ones(3)})
    assert len(made) == 1


def test_what_a_schedule_raises_says_which_and_when():
    def broken(step):
        raise ZeroDivisionError("mine")

    params, opt = {"x": np.ones(3)}, fo.Momentum(lr=0.1)
    opt.update(params, {"x": np.ones(3)})
    opt.alpha = broken
    with pytest.raises(ZeroDivisionError, match="mine") as raised:
        opt.update(params, {"x": np.ones(3)})
    assert f"alpha is a schedule: {broken!r} was asked at step 1" in raised.value.__notes__
    assert opt.iter == 1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("name", "of_a_group"),
    [
        ("clip_norm", False), ("clip_value", False), ("clip_value", True),
        ("clip_norm_per_key", False), ("clip_norm_per_key", True),
    ],
)
def test_a_schedule_may_turn_clipping_on_and_off(name, of_a_group, late):
    clip = {name: lambda step: 0.5 if (step >= 2) == late else None}
    opt = fo.SGD(lr=1.0, **({"groups": [fo.Group("x", **clip)]} if of_a_group else clip))
    params, seen = {"x": np.zeros(1)}, []
    for _ in range(4):
        opt.update(params, {"x": -np.ones(1)})
        seen.append(float(params["x"][0]))
    assert seen == ([1.0, 2.0, 2.5, 3.0] if late else [0.5, 1.0, 2.0, 3.0])


def test_a_group_s_schedule_may_not_add_a_second_way_of_clipping():
    late = fo.Group("x", clip_value=lambda step: None if step < 1 else 0.5)
    opt, params = fo.SGD(lr=1.0, clip_norm=1.0, groups=[late]), {"x": np.zeros(1)}
    opt.update(params, {"x": np.ones(1)})
    with pytest.raises(ValueError, match="clip_value and clip_norm, one of them set by a group"):
        opt.update(params, {"x": np.ones(1)})
    assert (opt.iter, params["x"][0]) == (1, -1.0)
