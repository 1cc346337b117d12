"""Soft batches: k calls are one update with the mean gradient, to the bit."""

import collections
import copy
import threading

import numpy as np
import pytest
from helpers import (
    arrays,
    assert_same_array,
    assert_same_bits,
    every_class,
    every_dtype,
    every_rule,
)

import fastoptim as fo

SHAPES = {"W": (30, 41), "b": (7,), "e": (0,), "s": ()}
OPTIONS = [
    {}, {"weight_decay": 0.1}, {"clip_value": 0.5}, {"clip_norm": 2.0, "maximize": True},
    {"average": 0.5},
]


def summed(batch, factor):
    """The sum in the order of the calls, from zero, times a factor."""
    total = {key: np.zeros_like(g) for key, g in batch[0].items()}
    for grads in batch:
        for key, g in grads.items():
            total[key] += g
    return {key: np.asarray(g * factor) for key, g in total.items()} if factor != 1 else total


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("every", [1, 3])
@every_dtype
@every_class
def test_a_batch_is_one_update(case, dtype, every, reduce, options):
    rng = np.random.default_rng(0)
    expected = arrays(rng, SHAPES, dtype)
    params = {key: p.copy() for key, p in expected.items()}
    opt, oracle = case.ours_with(options), case.oracle_with(options)
    soft = fo.SoftBatch(opt, every=every, reduce=reduce)
    for batch_number in range(3):
        batch = [arrays(rng, SHAPES, dtype) for _ in range(every)]
        for k, grads in enumerate(batch):
            kept = {key: g.copy() for key, g in grads.items()}
            assert soft.update(params, grads) is (k == every - 1)
            assert soft.pending == (k + 1) % every
            for key in grads:
                assert_same_array(grads[key], kept[key], key)
        oracle.update(expected, summed(batch, 1.0 / every if reduce == "mean" else 1.0))
        assert_same_bits(opt, oracle, params, expected)
        assert opt.iter == batch_number + 1


def test_large_arrays_on_all_threads(threads):
    rng = np.random.default_rng(0)
    p = {"x": np.zeros(200_001, np.float32)}
    batch = [{"x": rng.standard_normal(200_001, dtype=np.float32)} for _ in range(4)]
    soft = fo.SoftBatch(fo.SGD(lr=1.0))
    for grads in batch:
        soft.update(p, grads)
    assert_same_array(p["x"], -summed(batch, 0.25)["x"], "x")


@every_rule
def test_flush_takes_the_mean_of_what_is_there(case):
    rng = np.random.default_rng(1)
    expected = arrays(rng, SHAPES, np.float64)
    params = {key: p.copy() for key, p in expected.items()}
    opt, oracle = case.ours(), case.oracle()
    soft = fo.SoftBatch(opt, every=5)
    assert soft.flush() is False
    for size in (2, 5, 3):
        batch = [arrays(rng, SHAPES, np.float64) for _ in range(size)]
        for grads in batch:
            soft.update(params, grads)
        assert soft.flush() is (size != 5)
        assert soft.pending == 0
        oracle.update(expected, summed(batch, 1.0 / size))
        assert_same_bits(opt, oracle, params, expected)


def test_lists_and_floats_and_odd_layouts():
    params = [np.zeros((3, 4))[:, ::2], 2.0]
    soft = fo.SoftBatch(fo.SGD(lr=1.0), every=2)
    for g in (1.0, 3.0):
        soft.update(params, [np.full((2, 3), g).T, g])
    assert (params[0] == -2).all()
    assert params[1] == 0.0


def test_none_adds_nothing():
    params = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros(2)}
    opt = fo.Momentum(lr=1.0)
    soft, one = fo.SoftBatch(opt, every=2), np.ones(2)
    soft.update(params, {"a": one, "b": None, "c": None})
    soft.update(params, {"a": one, "b": one, "c": None})
    assert {key: p[0] for key, p in params.items()} == {"a": -1.0, "b": -0.5, "c": 0.0}
    assert set(opt.v) == {"a", "b"}


def test_zero_grads_at_every_call():
    params, soft = {"x": np.zeros(2)}, fo.SoftBatch(fo.SGD(lr=1.0, zero_grads=True), every=2)
    g = np.ones(2)
    soft.update(params, {"x": g})
    assert (g == 0).all()
    g[:] = 3
    assert soft.update(params, {"x": g})
    assert (g == 0).all()
    assert (params["x"] == -2).all()


def test_one_buffer_for_all_gradients():
    params, soft, g = {"x": np.zeros(2)}, fo.SoftBatch(fo.SGD(lr=1.0), every=2), np.ones(2)
    soft.update(params, {"x": g})
    g[:] = 3
    soft.update(params, {"x": g})
    assert (params["x"] == -2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_rule
def test_a_bad_call_under_skip_poisons_nothing(case, bad):
    rng = np.random.default_rng(2)
    expected = arrays(rng, SHAPES, np.float32)
    params = {key: p.copy() for key, p in expected.items()}
    opt = case.ours_with({"clip_norm": 5.0}, nonfinite="skip")
    oracle = case.oracle_with({"clip_norm": 5.0})
    soft = fo.SoftBatch(opt, every=2)
    batch = [arrays(rng, SHAPES, np.float32) for _ in range(2)]
    wrong = {key: g.copy() for key, g in batch[0].items()}
    wrong["b"][3] = bad
    assert [soft.update(params, g) for g in (wrong, batch[0], wrong, batch[1])] == [
        False, False, False, True,
    ]
    assert opt.skipped == 2
    assert opt.iter == 1
    oracle.update(expected, summed(batch, 0.5))
    assert_same_bits(opt, oracle, params, expected)


def test_a_bad_call_under_raise_changes_nothing():
    params, soft = {"x": np.zeros(2)}, fo.SoftBatch(fo.SGD(lr=1.0, nonfinite="raise"), every=2)
    soft.update(params, {"x": np.ones(2)})
    with pytest.raises(FloatingPointError, match=r"grads\['x'\]\[1\] is nan"):
        soft.update(params, {"x": np.array([0, np.nan])})
    assert soft.pending == 1
    assert soft.update(params, {"x": np.full(2, 3.0)})
    assert (params["x"] == -2).all()


def test_a_sum_that_overflows_is_left_out_under_skip():
    params = {"x": np.zeros(2, np.float32)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0, nonfinite="skip"), every=2)
    huge = np.full(2, 3e38, np.float32)
    assert [soft.update(params, {"x": huge}) for _ in range(2)] == [False, False]
    assert soft.opt.skipped == 1
    assert soft.pending == 0
    for _ in range(2):
        soft.update(params, {"x": np.ones(2, np.float32)})
    assert (params["x"] == -1).all()


@pytest.mark.parametrize(
    ("grads", "error"),
    [
        ({"x": np.ones(3)}, ValueError), ({"y": np.ones(2)}, KeyError), ({}, KeyError),
        ({"x": np.ones(2, np.float32)}, TypeError), ({"x": None}, ValueError), (3, TypeError),
    ],
)
def test_refused_and_nothing_changed(grads, error):
    params, soft = {"x": np.zeros(2)}, fo.SoftBatch(fo.SGD(lr=1.0), every=2)
    soft.update(params, {"x": np.ones(2)})
    with pytest.raises(error):
        soft.update(params, grads)
    assert soft.pending == 1
    soft.update(params, {"x": np.full(2, 3.0)})
    assert (params["x"] == -2).all()


def test_an_update_refused_at_the_end_of_a_batch_is_not_lost():
    rates = [0.5, -1.0]
    params = {"x": np.zeros(2)}
    soft = fo.SoftBatch(fo.SGD(lr=lambda step: rates[0]), every=2)
    soft.update(params, {"x": np.ones(2)})
    rates[0] = np.nan
    with pytest.raises(ValueError, match="lr must be"):
        soft.update(params, {"x": np.ones(2)})
    assert soft.pending == 1
    rates[0] = 1.0
    assert soft.update(params, {"x": np.ones(2)})
    assert (params["x"] == -1).all()


def test_other_parameters_in_the_middle_of_a_batch():
    soft = fo.SoftBatch(fo.SGD(), every=2)
    soft.update({"x": np.zeros(2)}, {"x": np.ones(2)})
    with pytest.raises(KeyError, match="params has no 'x', which had gradients earlier"):
        soft.update({"y": np.zeros(2)}, {"y": np.ones(2)})
    with pytest.raises(ValueError, match=r"params\['x'\] is float64 \(3,\), but was float64"):
        soft.update({"x": np.zeros(3)}, {"x": np.ones(3)})
    assert soft.pending == 1
    assert soft.flush()
    soft.update({"x": np.zeros(3)}, {"x": np.ones(3)})


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((fo.SGD(), 0), ValueError, "every must be a whole number of at least 1, got 0"),
        ((fo.SGD(), 2.0), TypeError, "every must be a whole number"),
        ((fo.SGD(), True), TypeError, "every must be a whole number"),
        ((fo.SGD(), 2, "max"), ValueError, r"reduce must be one of \('mean', 'sum'\)"),
        ((fo.SGD, 2), TypeError, "opt must be an optimizer"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        fo.SoftBatch(*arguments)


@every_rule
def test_state_resumes_in_the_middle_of_a_batch(case):
    rng = np.random.default_rng(3)
    params = arrays(rng, SHAPES, np.float32)
    soft = fo.SoftBatch(case.ours(), every=3)
    for _ in range(4):
        soft.update(params, arrays(rng, SHAPES, np.float32))
    other, twin = fo.SoftBatch(case.ours(), every=3), copy.deepcopy(soft)
    other.load_state_dict(soft.state_dict())
    copies = [{key: p.copy() for key, p in params.items()} for _ in range(2)]
    assert other.pending == twin.pending == 1
    for _ in range(3):
        grads = arrays(rng, SHAPES, np.float32)
        done = {soft.update(params, grads), other.update(copies[0], grads)}
        done.add(twin.update(copies[1], grads))
        assert len(done) == 1
    for mine in copies:
        for key in params:
            assert_same_array(mine[key], params[key], key)
    fresh = fo.SoftBatch(case.ours(), every=3)
    fresh.load_state_dict(soft.state_dict())
    with pytest.raises(ValueError, match=r"flush\(params\) must be told"):
        fresh.flush()
    with pytest.raises(ValueError, match="the state has every=3, this SoftBatch 2"):
        fo.SoftBatch(case.ours(), every=2).load_state_dict(soft.state_dict())


# ---------------------------------------------------------------- found by a user who tried


def test_groups_that_change_in_the_middle_of_a_batch():
    params = {"a": np.zeros(1), "b": np.zeros(1)}
    grads = {"a": np.ones(1), "b": np.ones(1)}
    opt = fo.SGD(1.0, groups=[fo.Group("a", lr=0.5), fo.Group("b", lr=0.25)])
    soft = fo.SoftBatch(opt, every=3)
    soft.update(params, grads)
    opt.groups = []
    soft.update(params, grads)
    assert soft.update(params, grads)
    assert params == {"a": -1.0, "b": -1.0}


LAST_CALLS = {
    "update": (2, lambda soft, params: soft.update(params, {"E": None, "b": np.ones(1)})),
    "flush": (3, lambda soft, params: soft.flush(params)),
}


@pytest.mark.parametrize(("every", "last_call"), LAST_CALLS.values(), ids=LAST_CALLS)
def test_rows_do_not_go_into_another_table(every, last_call):
    """The last call has no gradient for the table whose rows wait, and the table is another."""
    soft = fo.SoftBatch(fo.SGD(lr=1.0), every=every)
    rows = fo.Rows([1], np.ones((1, 2)))
    soft.update({"E": np.zeros((5, 2)), "b": np.zeros(1)}, {"E": rows, "b": np.ones(1)})
    params = {"E": np.zeros((50, 2)), "b": np.zeros(1)}
    with pytest.raises(ValueError, match=r"is float64 \(50, 2\), but was float64 \(5, 2\) earlier"):
        last_call(soft, params)
    assert soft.pending == 1
    assert not params["E"].any()
    assert not params["b"].any()


def test_a_call_without_keys_does_not_wait():
    soft = fo.SoftBatch(fo.SGD(), every=2)
    assert not soft.update({}, {})
    assert soft.pending == 0


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match="would share what waits; use copy.deepcopy"):
        copy.copy(fo.SoftBatch(fo.SGD()))


def test_flush_with_fewer_keys_is_refused():
    params, soft = {"a": np.zeros(1), "b": np.zeros(1)}, fo.SoftBatch(fo.SGD(1.0), every=4)
    soft.update(params, {"a": np.ones(1), "b": np.full(1, 100.0)})
    b = params.pop("b")
    with pytest.raises(KeyError, match="params has no 'b', which had gradients"):
        soft.flush()
    assert soft.pending == 1
    assert (params["a"] == 0).all()
    soft.flush(params | {"b": b})
    assert params["a"] == -1
    assert b == -100


def test_a_copy_of_a_waiting_batch_knows_no_parameters():
    params, soft = {"a": np.zeros(1)}, fo.SoftBatch(fo.SGD(1.0), every=4)
    soft.update(params, {"a": np.ones(1)})
    twin, others = copy.deepcopy((soft, params))
    with pytest.raises(ValueError, match=r"flush\(params\) must be told"):
        twin.flush()
    twin.flush(others)
    assert params["a"] == 0
    assert others["a"] == -1


def test_the_last_call_refused_leaves_the_batch_as_it_was():
    params = {"x": np.zeros(1)}
    soft = fo.SoftBatch(fo.SGD(1.0, clip_norm=1.0, zero_grads=True), every=2)
    soft.update(params, {"x": np.ones(1)})
    g = np.full(1, 1e200)
    with pytest.raises(FloatingPointError, match="too large for the norm"):
        soft.update(params, {"x": g})
    assert soft.pending == 1
    assert g == 1e200
    assert soft.update(params, {"x": np.full(1, 0.5)})
    assert params["x"] == -0.75


def test_a_sum_that_overflows_is_discarded_under_raise():
    params, huge = {"x": np.zeros(1, np.float32)}, np.full(1, 3e38, np.float32)
    soft = fo.SoftBatch(fo.SGD(1.0, nonfinite="raise"), every=2)
    soft.update(params, {"x": huge})
    with pytest.raises(FloatingPointError, match=r"grads\['x'\]\[0\] is inf") as caught:
        soft.update(params, {"x": huge})
    assert "the sum of 2 calls, each finite; it was discarded" in caught.value.__notes__[0]
    assert soft.pending == 0
    assert params["x"] == 0
    for _ in range(2):
        soft.update(params, {"x": np.ones(1, np.float32)})
    assert params["x"] == -1


def test_what_a_soft_batch_was_made_with_stays():
    soft = fo.SoftBatch(fo.SGD())
    for name in ("every", "reduce", "pending", "opt", "evry"):
        with pytest.raises(AttributeError, match=f"{name} cannot be set"):
            setattr(soft, name, 1)


def test_sums_of_another_shape_are_refused():
    soft, params = fo.SoftBatch(fo.SGD(), every=2), {"x": np.zeros(2)}
    for _ in range(3):
        soft.update(params, {"x": np.ones(2)})
    state = soft.state_dict()
    state["sums"]["x"] = np.ones(5)
    with pytest.raises(ValueError, match=r"the sum of 'x' is float64 \(5,\), its parameter"):
        fo.SoftBatch(fo.SGD(), every=2).load_state_dict(state)
    state["sums"] = None
    with pytest.raises(ValueError, match="'sums' of the state is a NoneType"):
        fo.SoftBatch(fo.SGD(), every=2).load_state_dict(state)


# ---------------------------------------------------------------- flushes that raise, and threads

def test_the_norms_factor_of_one_call_is_refused_at_once():
    params = {"x": np.zeros(2, np.float32)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0, clip_norm=1e-20), every=2)
    for _ in range(2):
        with pytest.raises(ValueError, match="clip_norm=1e-20 of SGD"):
            soft.update(params, {"x": np.full(2, 1e30, np.float32)})
        assert soft.pending == 0
    soft.opt.clip_norm = None
    done = [soft.update(params, {"x": np.ones(2, np.float32)}) for _ in range(6)]
    assert done == [False, True] * 3
    assert (params["x"] == -3).all()


def test_the_norms_factor_of_the_sum_discards_the_batch():
    params = {"x": np.zeros(1, np.float32), "E": np.zeros((3, 1), np.float32)}
    g = {"x": np.full(1, 8e24, np.float32), "E": None}
    soft = fo.SoftBatch(fo.SGD(lr=1.0, clip_norm=1e-20), every=2, reduce="sum")
    assert not soft.update(params, g)
    with pytest.raises(ValueError, match="clip_norm=1e-20 of SGD") as caught:
        soft.update(params, g)
    assert "the sum of 2 calls, each finite; it was discarded" in caught.value.__notes__[0]
    assert soft.pending == 0
    assert soft.opt.iter == 0
    soft.opt.clip_norm = None
    one = {"x": np.ones(1, np.float32), "E": fo.Rows([1], np.ones((1, 1), np.float32))}
    assert [soft.update(params, one) for _ in range(6)] == [False, True] * 3
    assert params["x"] == -6
    assert params["E"].ravel().tolist() == [0, -6, 0]


def test_a_flush_that_raises_can_be_repeated():
    params = {"x": np.zeros(1, np.float32)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0, clip_norm=1e-20), every=3, reduce="sum")
    for _ in range(2):
        soft.update(params, {"x": np.full(1, 8e24, np.float32)})
    for _ in range(2):
        with pytest.raises(ValueError, match="clip_norm=1e-20 of SGD"):
            soft.flush()
        assert soft.pending == 2
    soft.opt.clip_norm = None
    assert soft.flush()
    assert params["x"] == -np.float32(16e24)


def test_a_schedule_is_asked_once_per_call():
    asked = []
    opt = fo.SGD(lambda step: asked.append(step) or 1.0)
    soft, params = fo.SoftBatch(opt, every=2), {"x": np.zeros(1)}
    for _ in range(4):
        soft.update(params, {"x": np.ones(1)})
    assert asked == [0, 0, 1, 1]
    assert params["x"] == -2


GRADS = {
    "a number beside none": lambda: {"x": 2.0, "y": None},
    "a number beside rows": lambda: {"x": 2.0, "y": fo.Rows([1], np.ones((1, 2)))},
    "a mapping": lambda: collections.UserDict({"x": 2.0, "y": np.ones((3, 2))}),
    "a dict of numbers": lambda: {"x": 2.0, "y": np.ones((3, 2))},
    "a NumPy number": lambda: {"x": np.float64(2.0), "y": None},
    "a list": lambda: [2.0, None],
    "a list with rows": lambda: [2.0, fo.Rows([1, 1], np.ones((2, 4))[:, ::2])],
}


@pytest.mark.parametrize("p", [1.0, np.array(1.0)], ids=["number", "array"])
@pytest.mark.parametrize("make", GRADS.values(), ids=GRADS)
def test_gradients_of_numbers_are_zeroed(make, p):
    soft, grads = fo.SoftBatch(fo.SGD(lr=1.0, zero_grads=True), every=2), make()
    by_position = isinstance(grads, list)
    params = {"x": copy.copy(p), "y": np.zeros((3, 2))}
    params = list(params.values()) if by_position else params
    x, y = (0, 1) if by_position else ("x", "y")
    kind = type(grads[x])
    for call in range(2):
        if call:
            again = make()
            for key in (x, y):
                grads[key] = again[key]
        soft.update(params, grads)
        assert grads[x] == 0
        assert type(grads[x]) is kind
        if isinstance(grads[y], fo.Rows):
            assert not grads[y].values.any()
        elif grads[y] is not None:
            assert not grads[y].any()
    assert params[x] == -1
    assert soft.opt.iter == 1


class Waiting(collections.UserDict):
    """Gradients that wait, when they are read, until told to go on."""

    def __init__(self, data):
        self.reached, self.go = threading.Event(), threading.Event()
        super().__init__(data)

    def __getitem__(self, key):
        self.reached.set()
        assert self.go.wait(20)
        return super().__getitem__(key)


CALLS = {
    "update": lambda soft, params: soft.update(params, {"x": np.ones(1)}),
    "flush": lambda soft, params: soft.flush(),
    "discard": lambda soft, params: soft.discard(),
    "state_dict": lambda soft, params: soft.state_dict(),
    "load_state_dict": lambda soft, params: soft.load_state_dict(
        fo.SoftBatch(fo.SGD(lr=1.0), every=2).state_dict()
    ),
    "deepcopy": lambda soft, params: copy.deepcopy(soft),
    "save": lambda soft, params: soft.save("nowhere"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_thread_at_a_time(call):
    soft, params = fo.SoftBatch(fo.SGD(lr=1.0), every=2), {"x": np.zeros(1)}
    soft.update(params, {"x": np.ones(1)})
    grads = Waiting({"x": np.ones(1)})
    thread = threading.Thread(target=soft.update, args=(params, grads))
    thread.start()
    try:
        assert grads.reached.wait(20)
        with pytest.raises(RuntimeError, match="this SoftBatch is in the middle of a call, in ano"):
            call(soft, params)
    finally:
        grads.go.set()
        thread.join()
    assert soft.pending == 0
    assert params["x"] == -1
    assert not soft.update(params, {"x": np.ones(1)})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pending": 2}, r"pending must be in \[0, 2\), got 2"),
        ({"pending": 7}, r"pending must be in \[0, 2\), got 7"),
        ({"pending": -1}, "pending must be a whole number"),
        ({"pending": 0}, "the state has pending=0, but 2 sums of gradients"),
        ({"sums": {}, "rows": {}}, "the state has pending=1, but 0 sums of gradients"),
    ],
)
def test_a_state_that_does_not_fit_itself(change, text):
    params = {"x": np.zeros(2), "E": np.zeros((3, 2))}
    soft = fo.SoftBatch(fo.SGD(), every=2)
    soft.update(params, {"x": np.ones(2), "E": fo.Rows([1], np.ones((1, 2)))})
    before = soft.state_dict()
    with pytest.raises(ValueError, match=text):
        soft.load_state_dict(before | change)
    assert soft.pending == 1
    assert soft.update(params, {"x": np.ones(2), "E": None})
    fresh = fo.SoftBatch(fo.SGD(), every=2)
    fresh.load_state_dict(before)
    assert fresh.pending == 1


@pytest.mark.parametrize("around", [lambda opt: fo.SoftBatch(opt, 2), fo.SAM])
@pytest.mark.parametrize("first", [False, True])
def test_what_one_copy_shares_stays_shared(around, first):
    opt = fo.SGD()
    tree = {"opt": opt} if first else {}
    tree |= {"a": around(opt), "b": around(opt), "opt": opt}
    twin = copy.deepcopy(tree)
    assert twin["a"].opt is twin["b"].opt is twin["opt"]
    assert twin["opt"] is not opt


def test_a_copy_shares_nothing():
    params = {"E": np.zeros((3, 2)), "x": np.zeros(2)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0), every=3)
    soft.update(params, {"E": fo.Rows([1], np.ones((1, 2))), "x": np.ones(2)})
    twin = copy.deepcopy(soft)
    assert soft.flush()
    others = {"E": np.zeros((3, 2)), "x": np.zeros(2)}
    assert twin.flush(others)
    for key in params:
        assert_same_array(others[key], params[key], key)
    assert (others["E"][1] == -1).all()
