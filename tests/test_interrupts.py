"""An interrupt at any instruction of Python: an update was made as a whole, or not at all.

A signal is handled between two instructions of Python. A trace function that raises does the same
at an instruction of our choice, so each test goes through all of them, one after the other.
"""

import copy
import sys
from itertools import count

import numpy as np
import pytest
import scipy.sparse

import fastoptim as fo

F32 = np.float32
pytestmark = pytest.mark.usefixtures("no_collection")


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the n-th line of what is called."""

    def __init__(self, n):
        self.left, self.raised = n, False

    def __call__(self, frame, event, arg):
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise KeyboardInterrupt
        return self

    def during(self, function, *arguments):
        """Call a function; return what it returns, None if it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return function(*arguments)
        except KeyboardInterrupt:
            return None
        finally:
            sys.settrace(before)


def flat_dict(tree, place=()):
    """A tree of dicts and arrays as one dict of bytes and values."""
    if isinstance(tree, dict):
        parts = (flat_dict(value, (*place, key)) for key, value in tree.items())
        return {place: tuple(tree)} | {key: v for part in parts for key, v in part.items()}
    if isinstance(tree, np.ndarray):
        return {place: (tree.tobytes(), tree.shape, tree.dtype.str)}
    return {place: tree}


def snapshot(thing, params):
    """All that there is: parameters, state, counters, what waits."""
    return flat_dict({"params": dict(params), "state": thing.state_dict()})


def odd_table():
    return np.asfortranarray(np.arange(24, dtype=F32).reshape(6, 4))


def strided(n):
    return np.arange(2 * n, dtype=F32)[::2]


# Each: parameters, and a function that makes gradients anew.
KINDS = {
    "flat": lambda: ({"a": np.ones(5, F32)}, lambda: {"a": np.full(5, 0.5, F32)}),
    "strided": lambda: (
        {"a": strided(5), "b": strided(7)[::-1]},
        lambda: {"a": np.full(5, 0.5, F32), "b": np.ones(14, F32)[::2]},
    ),
    "numbers": lambda: (
        {"a": strided(5), "x": 2.0, "y": F32(3), "c": np.ones(3, F32)},
        lambda: {"a": np.ones(5, F32), "x": 0.5, "y": F32(2), "c": np.ones(3, F32)},
    ),
    "rows": lambda: (
        {"E": np.ones((6, 4), F32), "F": odd_table(), "x": 1.0},
        lambda: {
            "E": fo.Rows([3, 1, 3], np.ones((3, 4), F32)), "x": 0.5,
            "F": fo.Rows([5, 0, 5], np.ones((3, 8), F32)[:, ::2]),
        },
    ),
    "elements": lambda: (
        {"F": odd_table(), "a": np.ones(3, F32)},
        lambda: {
            "F": scipy.sparse.coo_array(
                (np.ones(3, F32), ([1, 5, 1], [2, 0, 2])), shape=(6, 4)
            ),
            "a": np.ones(3, F32),
        },
    ),
}
OPTIONS = {
    "bare": {},
    "all": {"clip_norm": 0.5, "average": 0.5, "weight_decay": 0.1, "zero_grads": True,
            "nonfinite": "raise"},
    "codes": {"state_dtype": "bfloat16"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
all_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def numbers_of(grad):
    if isinstance(grad, fo.Rows):
        return grad.values
    return grad.data if scipy.sparse.issparse(grad) else np.asarray(grad)


def are_zero(grads):
    return [not numbers_of(g).any() for g in grads.values()]


@all_options
@every_kind
@pytest.mark.parametrize("updates", [0, 1], ids=["first", "second"])
def test_update(kind, options, updates):
    def start():
        params, fresh_grads = KINDS[kind]()
        opt = fo.Adam(lr=0.1, **options)
        for _ in range(updates):
            opt.update(params, fresh_grads())
        return opt, params, fresh_grads

    opt, params, fresh_grads = start()
    before = snapshot(opt, params)
    opt.update(params, fresh_grads())
    after = snapshot(opt, params)
    for n in count():
        opt, params, _ = start()
        grads, interrupt = fresh_grads(), Interrupt(n)
        interrupt.during(opt.update, params, grads)
        made = opt.iter > updates
        assert snapshot(opt, params) == (after if made else before)
        assert set(are_zero(grads)) == {made and "zero_grads" in options}
        if not made:
            opt.update(params, fresh_grads())
            assert snapshot(opt, params) == after
        if not interrupt.raised:
            break
    assert n > 1


@all_options
@every_kind
@pytest.mark.parametrize("call", [0, 1])
def test_soft_batch(kind, options, call):
    """The interrupted call is made again unless it counted; then all is as if it never was."""
    def start():
        params, fresh_grads = KINDS[kind]()
        return fo.SoftBatch(fo.Adam(lr=0.1, **options), every=2), params, fresh_grads

    soft, params, fresh_grads = start()
    after = [snapshot(soft, params)]
    for _ in range(3):
        soft.update(params, fresh_grads())
        after.append(snapshot(soft, params))
    for n in count():
        soft, params, _ = start()
        for _ in range(call):
            soft.update(params, fresh_grads())
        grads, interrupt, pending = fresh_grads(), Interrupt(n), soft.pending
        interrupt.during(soft.update, params, grads)
        counted = soft.pending != pending
        assert snapshot(soft, params) == after[call + counted]
        assert set(are_zero(grads)) == {counted and "zero_grads" in options}
        for _ in range(call + counted, 3):
            soft.update(params, fresh_grads())
        assert snapshot(soft, params) == after[3]
        if not interrupt.raised:
            break
    assert n > 10


def test_rows_and_then_a_dense_gradient_in_a_soft_batch():
    rows = {"E": fo.Rows([1, 3], np.ones((2, 2)))}
    dense = {"E": np.full((4, 2), 2.0)}
    for n in count():
        params, interrupt = {"E": np.zeros((4, 2))}, Interrupt(n)
        soft = fo.SoftBatch(fo.SGD(lr=1.0), every=3, reduce="sum")
        soft.update(params, rows)
        interrupt.during(soft.update, params, dense)
        if soft.pending == 1:
            soft.update(params, dense)
        soft.update(params, rows)
        assert params["E"][:, 0].tolist() == [-2, -4, -2, -4]
        if not interrupt.raised:
            break


@all_options
@every_kind
def test_flush(kind, options):
    def start():
        params, fresh_grads = KINDS[kind]()
        soft = fo.SoftBatch(fo.Adam(lr=0.1, **options), every=9)
        for _ in range(2):
            soft.update(params, fresh_grads())
        return soft, params, fresh_grads

    def finish():
        soft.flush()
        soft.update(params, fresh_grads())
        return snapshot(soft, params)

    soft, params, fresh_grads = start()
    before, after = snapshot(soft, params), finish()
    for n in count():
        soft, params, _ = start()
        interrupt = Interrupt(n)
        interrupt.during(soft.flush)
        assert soft.opt.iter == (soft.pending == 0)
        if soft.pending:
            assert snapshot(soft, params) == before
        assert finish() == after
        if not interrupt.raised:
            break
    assert n > 1


@every_kind
def test_discard_and_load(kind):
    params, fresh_grads = KINDS[kind]()
    saved = fo.SoftBatch(fo.Momentum(), every=3)
    for _ in range(4):
        saved.update(params, fresh_grads())
    state = saved.state_dict()
    for method in (lambda soft: soft.load_state_dict(state), lambda soft: soft.discard()):
        for n in count():
            params, _ = KINDS[kind]()
            soft, interrupt = fo.SoftBatch(fo.Momentum(), every=3), Interrupt(n)
            for _ in range(5):
                soft.update(params, fresh_grads())
            twin = copy.deepcopy(soft)
            before = snapshot(soft, params)
            method(twin)
            interrupt.during(method, soft)
            assert snapshot(soft, params) in (before, snapshot(twin, params))
            method(soft)
            assert snapshot(soft, params) == snapshot(twin, params)
            if not interrupt.raised:
                break
        assert n > 0



def test_load_of_an_optimizer():
    """Numbers of groups, hyperparameters, state and counters are the old ones or the new ones."""

    def trained(lr, updates):
        groups = [fo.Group("b", lr=lr / 2, weight_decay=0.1)]
        opt = fo.Momentum(lr=lr, average=0.5, groups=groups)
        params = {"a": np.ones(3), "b": np.ones(2)}
        for _ in range(updates):
            opt.update(params, {"a": np.ones(3), "b": np.ones(2)})
        return opt

    new = trained(0.5, 3).state_dict()
    for n in count():
        opt = trained(0.1, 1)
        old, interrupt = flat_dict(opt.state_dict()), Interrupt(n)
        interrupt.during(opt.load_state_dict, new)
        after = flat_dict(opt.state_dict())
        assert after in (old, flat_dict(new)), n
        if not interrupt.raised:
            break
    assert n > 20
    assert after == flat_dict(new)


@pytest.mark.parametrize("inside", [
    lambda: fo.Momentum(lr=0.1), lambda: fo.SoftBatch(fo.Momentum(lr=0.1), every=2),
    lambda: fo.Heun(lr=0.1),
])
def test_load_of_sam(inside):
    """What is inside and rho are the old ones or the new ones, together."""

    def trained(rho, steps):
        sam, params = fo.SAM(inside(), rho), {"a": np.ones(3)}
        for _ in range(steps):
            sam.step(params, lambda p: {"a": 2 * p["a"]})
        return sam

    new = trained(0.5, 3).state_dict()
    for n in count():
        sam = trained(0.1, 1)
        old, interrupt = flat_dict(sam.state_dict()), Interrupt(n)
        interrupt.during(sam.load_state_dict, new)
        after = flat_dict(sam.state_dict())
        assert after in (old, flat_dict(new)), n
        if not interrupt.raised:
            break
    assert n > 20
    assert after == flat_dict(new)
