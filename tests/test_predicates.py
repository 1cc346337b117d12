"""Groups by predicate: a function of a key and of what a parameter is picks the keys."""

import copy
from functools import partial

import numpy as np
import pytest
from helpers import assert_same_arrays, copies, every_rule
from test_state import through_a_copy, through_a_dict, through_a_file

import fastoptim as fo

SHAPES = {"conv.W": (3, 2, 2), "conv.b": (3,), "W": (4, 3), "norm": (4,), "scale": ()}
SMALL = {"conv.b", "norm", "scale"}


def arrays(dtype=np.float64, shapes=SHAPES):
    rng = np.random.default_rng(0)
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}


def train(opt, params, seed):
    rng = np.random.default_rng(seed)
    for _ in range(3):
        grads = {key: rng.standard_normal(p.shape).astype(p.dtype) for key, p in params.items()}
        opt.update(params, grads)


def is_small(key, p):
    return p.ndim < 2


def by_predicate(case, predicate=is_small, **values):
    return case.ours(lr=0.02, groups=[fo.Group("norm", lr=0.5), fo.Group(predicate, **values)])


class Asked:
    """A predicate that remembers what it was asked."""

    def __init__(self, predicate=is_small):
        self.predicate, self.of = predicate, []

    def __call__(self, key, p):
        self.of.append((key, p.shape, p.dtype))
        return self.predicate(key, p)


# ---------------------------------------------------------------- which keys


@every_rule
def test_a_predicate_is_the_patterns_that_pick_the_same_keys(case):
    """To the bit, beside patterns; the first group that a key matches counts."""
    patterns = [fo.Group("norm", lr=0.5), *(fo.Group(key, lr=0.25) for key in SMALL)]
    one, two = by_predicate(case, lr=0.25), case.ours(lr=0.02, groups=patterns)
    params = arrays()
    others = copies(params)
    train(one, params, 1)
    train(two, others, 1)
    assert_same_arrays(params, others, "params")


def test_what_a_predicate_sees():
    seen = {}

    def look(key, p):
        seen[key] = p.shape, p.dtype, p.ndim, p.size, p.nbytes
        return True

    params = {"a": np.ones((2, 3), np.float32), "b": 1.0, ("c", 1): np.ones(4).view(np.matrix)}
    grads = {"a": params["a"].copy(), "b": 2.0, ("c", 1): np.ones((1, 4))}
    fo.SGD(groups=[fo.Group(look, lr=1.0)]).update(params, grads)
    assert seen == {
        "a": ((2, 3), np.float32, 2, 6, 24),
        "b": ((), np.float64, 0, 1, 8),
        ("c", 1): ((1, 4), np.float64, 2, 4, 32),
    }


@pytest.mark.parametrize("soft", [False, True])
def test_each_key_is_asked_for_once_when_it_is_first_seen(soft):
    asked = Asked()
    opt = fo.Momentum(groups=[fo.Group(asked, lr=1.0)])
    update = fo.SoftBatch(opt, every=2).update if soft else opt.update
    params = arrays()
    for _ in range(5):
        update(params, params)
    assert [key for key, _, _ in asked.of] == list(SHAPES)
    late = {**params, "late": np.ones(3)}
    for _ in range(4):
        update(late, late)
    assert [key for key, _, _ in asked.of] == [*SHAPES, "late"]


def test_a_key_that_comes_with_another_shape_before_the_first_update():
    """A refused call has said nothing: what is updated is what was asked about."""
    asked = Asked()
    opt = fo.SGD(0.5, groups=[fo.Group(asked, lr=1.0)])
    with pytest.raises(KeyError):
        opt.update({"x": np.ones(2)}, {"y": np.ones(2)})
    with pytest.raises(ValueError, match="shape"):
        opt.update({"x": np.ones(2)}, {"x": np.ones(3)})
    params = {"x": np.zeros((2, 2)), "b": np.zeros(1)}
    opt.update(params, {"x": np.ones((2, 2)), "b": np.ones(1)})
    assert (params["x"] == -0.5).all()
    assert (params["b"] == -1.0).all()


def test_look_ahead_of_a_group():
    opt = fo.Momentum(0.1, alpha=0.5, lookahead=True, groups=[fo.Group(is_small, alpha=0.25)])
    params = {"W": np.ones((2, 2)), "b": np.ones(2)}
    opt.update(params, copies(params))
    ahead = opt.lookahead(params)
    assert (ahead["W"] == params["W"] + 0.5 * opt.v["W"]).all()
    assert (ahead["b"] == params["b"] + 0.25 * opt.v["b"]).all()


def test_what_it_is_called():
    def norms(key, p):
        return True

    assert repr(fo.Group(norms, lr=0.5)) == "Group(norms, lr=0.5)"
    text = repr(fo.Group(lambda key, p: True, lr=0.5))
    line = test_what_it_is_called.__code__.co_firstlineno + 5
    assert text == f"Group(<lambda at test_predicates.py:{line}>, lr=0.5)"
    assert "partial" in repr(fo.Group(partial(is_small), lr=0.5))
    opt = fo.SGD(groups=[fo.Group(norms, lr=1e50)])
    with pytest.raises(ValueError, match=r"params\['x'\].*\(group norms\)"):
        opt.update({"x": np.ones(1, np.float32)}, {"x": np.ones(1, np.float32)})


# ---------------------------------------------------------------- bad predicates

BAD = {
    "one argument": (lambda key: True, TypeError, r"called with a key and its parameter.*\(key\)"),
    "three": (lambda key, p, q: True, TypeError, r"takes \(key, p, q\)"),
    "no function": (3, TypeError, "pattern must be a text such as.*or a predicate such as"),
}


@pytest.mark.parametrize(("predicate", "error", "text"), BAD.values(), ids=BAD)
def test_what_is_no_predicate(predicate, error, text):
    with pytest.raises(error, match=text):
        fo.Group(predicate, lr=0.5)


REFUSED = {
    "not a bool": (lambda key, p: p.ndim, TypeError, "must return True or False, got 1 .int."),
    "nothing": (lambda key, p: None, TypeError, "must return True or False, got None"),
    "elements": (lambda key, p: p.mean() > 0, AttributeError, "shape, dtype, .* and no 'mean'"),
    "its own": (lambda key, p: 1 / 0, ZeroDivisionError, "division by zero"),
    "no key": (lambda key, p: p.ndim > 7, ValueError, r"<lambda at .*> matches no key|Group\("),
}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("predicate", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_a_predicate_that_cannot_be_used(predicate, error, text, soft):
    """Nothing has changed, and the note names the predicate and the key."""
    opt = fo.Adam(groups=[fo.Group(predicate, lr=0.5)])
    params = {"x": np.ones(2), "y": np.ones(2)}
    update = fo.SoftBatch(opt, every=1).update if soft else opt.update
    with pytest.raises(error, match=text) as raised:
        update(params, copies(params))
    if error is not ValueError:
        (note,) = raised.value.__notes__
        assert note.startswith("the group's predicate <lambda at test_predicates.py:")
        assert note.endswith("was asked for 'x'")
    assert (params["x"] == 1).all()
    assert opt.iter == 0
    assert len(opt.m) == 0


def test_a_predicate_that_raises_for_a_later_key():
    opt = fo.Adam(groups=[fo.Group(lambda key, p: key[0] == "b", lr=0.5)])
    params = {"a": np.ones(2), "b": np.ones(2)}
    opt.update(params, copies(params))
    before, state = copies(params), opt.state_dict()
    params[3] = before[3] = np.ones(1)
    with pytest.raises(TypeError, match="not subscriptable"):
        opt.update(params, copies(params))
    assert_same_arrays(params, before, "params")
    assert str(opt.state_dict()) == str(state)


def test_what_is_no_parameter_is_named_before_the_group():
    opt = fo.SGD(groups=[fo.Group(lambda key, p: False, lr=0.5)])
    with pytest.raises(TypeError, match=r"params\['x'\] must be a NumPy array"):
        opt.update({"x": "text"}, {"x": np.ones(2)})


# ---------------------------------------------------------------- saved state


@pytest.mark.parametrize("through", [through_a_file, through_a_dict, through_a_copy])
@every_rule
def test_training_goes_on(case, through, tmp_path):
    params = arrays(np.float32)
    opt = by_predicate(case, lr=0.25, weight_decay=0.5)
    train(opt, params, 1)
    saved = copies(params)
    other = by_predicate(case, lambda key, p: key in SMALL, lr=0.125, weight_decay=0.0)
    other = through(opt, other, tmp_path / "state")
    assert other.groups[1].lr == 0.25
    train(opt, params, 9)
    train(other, saved, 9)
    assert_same_arrays(params, saved, "params")
    for slot in opt.kernels[opt.kernel]:
        assert_same_arrays(getattr(opt, slot), getattr(other, slot), slot)


def state_of(*groups):
    opt, params = fo.SGD(groups=[*groups]), arrays()
    opt.update(params, copies(params))
    return opt.state_dict()


SMALL_ONES = fo.Group(is_small, lr=0.5)
OTHERS = {
    "another predicate": (
        [SMALL_ONES], [fo.Group(lambda key, p: p.ndim == 1, lr=0.5)],
        r"the state has 'scale' in the group <lambda.*puts it in no group; give the group the "
        r"predicate that it had",
    ),
    "into a later group": (
        [SMALL_ONES, fo.Group("*", lr=0.1)],
        [fo.Group(lambda key, p: key == "norm", lr=0.5), fo.Group("*", lr=0.1)],
        r"the state has 'conv.b' in the group <lambda.*in the group '\*'",
    ),
    "a pattern here": (
        [SMALL_ONES], [fo.Group("*b", lr=0.5)], r"groups are \[a predicate\], .* are \['\*b'\]",
    ),
    "a pattern there": (
        [fo.Group("*b", lr=0.5)], [SMALL_ONES], r"groups are \['\*b'\], .* are \[a predicate\]",
    ),
    "other hyperparameters": (
        [SMALL_ONES], [fo.Group(is_small, weight_decay=0.5)],
        r"the state's group is_small sets \['lr'\], this optimizer's \['weight_decay'\]",
    ),
}


@pytest.mark.parametrize(("theirs", "ours", "text"), OTHERS.values(), ids=OTHERS)
def test_a_state_of_other_groups(theirs, ours, text):
    opt = fo.SGD(groups=ours)
    before = str(opt.state_dict())
    with pytest.raises(ValueError, match=text):
        opt.load_state_dict(state_of(*theirs))
    assert str(opt.state_dict()) == before


DAMAGED = {
    "missing": (lambda record: record.pop("group"), "the state has no 'group'"),
    "not a number": (lambda record: record.update(group="1"), "'group' of the state is a str"),
    "too large": (lambda record: record.update(group=7), "the state has 'W' in group 7"),
}


@pytest.mark.parametrize(("damage", "text"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_state(damage, text):
    saved = copy.deepcopy(state_of(SMALL_ONES))
    damage(saved["parameters"]["W"])
    with pytest.raises(ValueError, match=text):
        fo.SGD(groups=[SMALL_ONES]).load_state_dict(saved)


def test_a_state_without_predicates_is_as_it_was():
    saved = state_of(fo.Group("*b", lr=0.5))
    assert saved["groups"] == [{"pattern": "*b", "hyperparameters": {"lr": 0.5}, "schedules": {}}]
    assert all("group" not in record for record in saved["parameters"].values())
