"""The promise: bit for bit the NumPy listing's result, parameters and state."""

from functools import lru_cache

import numpy as np
import pytest
from helpers import (
    PAST_THRESHOLD,
    all_pairs,
    arrays,
    assert_same_bits,
    copies,
    every_dtype,
    every_rule,
    strided,
)

import fastoptim as fo
from fastoptim.kernels import table

BLOCK = table.block_length()
SIZES = [0, 1, 7, 8, 15, 16, 17, 1023, 1024, 1025]
STEPS = 20


@lru_cache
def lesson(shapes, dtype, steps):
    """The start and the gradients of all steps; the same for every rule, so drawn only once."""
    rng = np.random.default_rng(1)
    start = arrays(rng, dict(shapes), dtype)
    return start, [arrays(rng, dict(shapes), dtype) for _ in range(steps)]


def train(case, dtype, shapes, steps, view=np.copy):
    """Run ours and the oracle from the same start, and compare after every step."""
    start, lessons = lesson(tuple(shapes.items()), dtype, steps)
    expected = copies(start)
    params = {key: view(p) for key, p in start.items()}
    ours, oracle = case.ours(), case.oracle()
    with np.errstate(all="ignore"):
        for grads in lessons:
            oracle.update(expected, grads)
            ours.update(params, {key: view(g) for key, g in grads.items()})
            assert_same_bits(ours, oracle, params, expected)
    assert ours.iter == steps


@every_rule
@every_dtype
@pytest.mark.parametrize("view", [np.copy, strided])
def test_all_sizes_on_all_instruction_sets(case, dtype, view, isa):
    train(case, dtype, {f"n{n}": (n,) for n in SIZES}, STEPS, view)


@every_rule
@every_dtype
def test_past_the_thread_threshold(case, dtype, threads, isa):
    train(case, dtype, {"W": (PAST_THRESHOLD,)}, STEPS)


@every_rule
@every_dtype
def test_past_the_thread_threshold_strided(case, dtype, threads):
    train(case, dtype, {"W": (PAST_THRESHOLD,)}, 3, strided)


@every_rule
def test_many_arrays_cut_among_threads(case, threads):
    """Cuts fall inside arrays, between them, and beside empty ones."""
    rng = np.random.default_rng(0)
    sizes = [0, *rng.integers(0, 5000, size=60).tolist(), 0, 0]
    train(case, np.float32, {k: (n,) for k, n in enumerate(sizes)}, 5)


@every_rule
def test_both_dtypes_in_one_dict(case, threads):
    rng = np.random.default_rng(2)
    shapes = {"a": (300, 101), "b": (7,), "c": (40_000,), "d": ()}
    narrow, wide = arrays(rng, shapes, np.float32), arrays(rng, shapes, np.float64)
    expected = narrow | {key.upper(): p for key, p in wide.items()}
    params = copies(expected)
    ours, oracle = case.ours(), case.oracle()
    for _ in range(5):
        grads = {key: rng.standard_normal(p.shape).astype(p.dtype) for key, p in params.items()}
        oracle.update(expected, grads)
        ours.update(params, grads)
    assert_same_bits(ours, oracle, params, expected)


@every_rule
@every_dtype
def test_special_numbers(case, dtype, isa):
    """Infinities, NaN, signed zeros, subnormals and the largest numbers, all with all."""
    info = np.finfo(dtype)
    numbers = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny]
    numbers += [info.smallest_subnormal, -info.smallest_subnormal, info.tiny / 8, 1e-20, 1e20]
    p, g = all_pairs(numbers, numbers, dtype)
    expected, params = {"x": p.copy()}, {"x": p.copy()}
    ours, oracle = case.ours(), case.oracle()
    with np.errstate(all="ignore"):
        for sign in (1, 1, -1, 1):
            oracle.update(expected, {"x": g * dtype(sign)})
            ours.update(params, {"x": g * dtype(sign)})
            assert_same_bits(ours, oracle, params, expected)


def shuffled(rng, arrays_by_key):
    """The same dict with its keys in another order."""
    return {key: arrays_by_key[key] for key in rng.permutation(list(arrays_by_key))}


@every_rule
def test_key_order_does_not_matter(case):
    rng = np.random.default_rng(3)
    shapes = {f"k{i}": (i * 37 % 101,) for i in range(30)}
    start = arrays(rng, shapes, np.float32)
    a, b = copies(start), copies(start)
    first, second = case.ours(), case.ours()
    for _ in range(4):
        grads = arrays(rng, shapes, np.float32)
        first.update(a, grads)
        b = shuffled(rng, b)
        second.update(b, shuffled(rng, grads))
    assert_same_bits(first, second, a, b)


@every_rule
def test_a_thousand_steps(case):
    """Bias corrections and lerps stay with the listing in the long run."""
    train(case, np.float32, {"W": (5, 3)}, 1000)


@every_rule
def test_the_oracle_does_not_leave_float32(case):
    """Under NumPy 2 an np.float64 scalar would turn the listing's temporaries into float64."""
    oracle, params = case.oracle(), {"x": np.ones(3, np.float32)}
    oracle.update(params, {"x": np.ones(3, np.float32)})
    for slot in case.slots:
        assert getattr(oracle, slot)["x"].dtype == np.float32


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 3])
def test_nothing_outside_a_span_is_touched(n):
    """Sentinels before and behind parameters stay as they are."""
    room = np.full(n + 200, 7, np.float32)
    params = {"x": room[100 : 100 + n]}
    fo.Adam(lr=0.1).update(params, {"x": np.ones(n, np.float32)})
    assert (room[:100] == 7).all()
    assert (room[100 + n :] == 7).all()
    assert (params["x"] != 7).all()
