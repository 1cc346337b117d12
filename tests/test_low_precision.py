"""State that is kept in 16 or 8 bits: to the bit against the oracle, by every way to an update."""

import copy
import pickle
import sys
import time

import numpy as np
import pytest
from codes_oracle import Coded, blocks, random_bits, rounded
from helpers import (
    BY_ELEMENT,
    CASES,
    LAYOUTS,
    ONE_EACH,
    OPTIONS,
    PAST_THRESHOLD,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    bytes_kept,
    copies,
    every_dtype,
    put,
    random_rows,
    summed_rows,
)

import fastoptim as fo
from fastoptim.optimizer.state_dtypes import NAMES, code_of, numbers_of

SHAPES = {"W": (30, 41), "T": (3, 600), "b": (7,), "c": (1025,), "e": (0,), "s": ()}


def suits(case, state_dtype):
    """Whether all slots of a rule can be kept so."""
    try:
        for slots in (case.slots, *case.cls.factored.values()):
            for slot in slots:
                code_of(case.cls, slot, state_dtype)
    except ValueError:
        return False
    return True


def of_cases(cases):
    """Each state_dtype with each rule that it suits."""
    pairs = [(name, case) for name in NAMES for case in cases if suits(case, name)]
    ids = [f"{name}-{case!r}" for name, case in pairs]
    return pytest.mark.parametrize(("name", "case"), pairs, ids=ids)


every_state_dtype = pytest.mark.parametrize("name", NAMES)
ADAM = next(case for case in ONE_EACH if case.cls is fo.Adam)


def pair(case, name, dtype, options=None, shapes=SHAPES, **hyper):
    """Random numbers, a rule and its oracle, and equal parameters for both."""
    rng = np.random.default_rng(0)
    expected = arrays(rng, shapes, dtype)
    params = copies(expected)
    of_ours = {"state_dtype": name, "rounding_seed": 7, **hyper}
    if options is None:
        ours, oracle = case.ours(**of_ours), case.oracle()
    else:
        ours, oracle = case.ours_with(options, **of_ours), case.oracle_with(options)
    return rng, ours, Coded(oracle, ours), params, expected


def state_of(opt, slot):
    """A slot of all keys as numbers."""
    signed = getattr(type(opt), slot).signed
    found = {}
    for key, one in opt.engine.store.records.items():
        dtype = one.described()["dtype"]
        a = numbers_of(one.state, slot, one.coding, signed, dtype)
        if a is not None:
            found[key] = a.copy()
    return found


def assert_same(ours, oracle, params, expected):
    """All parameters and all state, decoded, are the oracle's to the bit."""
    assert_same_arrays(params, expected, "params")
    for slot in (*ours.kernels[ours.kernel], *ours.factored.get(ours.kernel, ())):
        assert_same_arrays(state_of(ours, slot), getattr(oracle, slot), slot)


def kept(opt):
    """Copies of all arrays that an optimizer keeps, codes as they are, by key and name."""
    return {
        (key, slot): a.copy()
        for key, one in opt.engine.store.records.items() for slot, a in one.state.items()
    }


def assert_same_codes(ours, theirs):
    """Two sets that `kept` gave have the same bits."""
    assert set(ours) == set(theirs)
    for place, a in ours.items():
        assert a.dtype == theirs[place].dtype
        assert a.shape == theirs[place].shape
        assert a.tobytes() == theirs[place].tobytes(), place


def train(ours, oracle, rng, params, expected, dtype, steps=3):
    """Update both with the same gradients, and compare each time."""
    shapes = {key: p.shape for key, p in expected.items()}
    for _ in range(steps):
        grads = arrays(rng, shapes, dtype)
        oracle.update(expected, copies(grads))
        ours.update(params, grads)
        assert_same(ours, oracle, params, expected)


# ---------------------------------------------------------------- rules and options


@every_dtype
@of_cases(CASES)
def test_rules(case, name, dtype):
    rng, ours, oracle, params, expected = pair(case, name, dtype)
    train(ours, oracle, rng, params, expected, dtype)


@of_cases(ONE_EACH)
def test_instruction_sets(case, name, isa):
    rng, ours, oracle, params, expected = pair(case, name, np.float32)
    train(ours, oracle, rng, params, expected, np.float32, 2)


@every_dtype
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@of_cases(ONE_EACH)
def test_options(case, name, dtype, options):
    if not case.takes(options):
        with pytest.raises(ValueError, match="trust_ratio"):
            case.ours_with(options)
        return
    rng, ours, oracle, params, expected = pair(case, name, dtype, options)
    for _ in range(2):
        grads = arrays(rng, SHAPES, dtype)
        theirs = copies(grads)
        oracle.update(expected, theirs)
        ours.update(params, grads)
    assert_same(ours, oracle, params, expected)
    assert_same_averages(ours, oracle)
    assert_same_arrays(grads, theirs, "grads")


@every_dtype
@of_cases([case for case in ONE_EACH if case.slots])
def test_threads(case, name, dtype, threads):
    shapes = {"W": (301, PAST_THRESHOLD // 300), "c": (PAST_THRESHOLD,), "b": (3,)}
    rng, ours, oracle, params, expected = pair(case, name, dtype, shapes=shapes)
    train(ours, oracle, rng, params, expected, dtype, 1)


@every_state_dtype
@pytest.mark.parametrize("options", [{}, {"trust_ratio": True}, {"agc": 0.3}], ids=str)
def test_threads_with_options(name, options, threads):
    shapes = {"W": (301, PAST_THRESHOLD // 300), "c": (PAST_THRESHOLD,), "b": (3,)}
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, options, shapes)
    train(ours, oracle, rng, params, expected, np.float32, 2)


@every_dtype
@every_state_dtype
def test_special_numbers(name, dtype, isa):
    """NaN, infinities and subnormal numbers in the state: a block of 8 bits has NaN in common."""
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3e38, -3e38, 1.0, 1e-30]
    g = np.zeros(1000, dtype)
    g[:11], g[300:306], g[600:606] = special, special[5:], 1e-40
    expected, params = {"x": np.ones(1000, dtype)}, {"x": np.ones(1000, dtype)}
    ours = fo.Momentum(state_dtype=name)
    oracle = Coded(next(c for c in ONE_EACH if c.cls is fo.Momentum).oracle(), ours)
    for _ in range(3):
        with np.errstate(all="ignore"):
            oracle.update(expected, {"x": g})
        ours.update(params, {"x": g})
        assert_same(ours, oracle, params, expected)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("options", [{}, {"trust_ratio": True}], ids=["fast", "apart"])
@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@every_state_dtype
def test_layouts(name, layout, grad_layout, options):
    shapes = {"x": (6, 30, 20)}
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, options, shapes)
    params = {"x": LAYOUTS[layout](params["x"])}
    for _ in range(2):
        g = arrays(rng, shapes, np.float32)
        oracle.update(expected, g)
        ours.update(params, {"x": LAYOUTS[grad_layout](g["x"])})
    assert_same(ours, oracle, params, expected)


@every_state_dtype
def test_layouts_past_the_threshold(name, threads):
    shapes = {"x": (301, PAST_THRESHOLD // 300)}
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, shapes=shapes)
    params = {"x": np.asfortranarray(params["x"])}
    g = arrays(rng, shapes, np.float32)
    oracle.update(expected, g)
    ours.update(params, {"x": g["x"][:, ::-1].copy()[:, ::-1]})
    assert_same(ours, oracle, params, expected)


# ---------------------------------------------------------------- gradients of rows


@every_dtype
@pytest.mark.parametrize("layout", ["C", "F", "every other row"])
@pytest.mark.parametrize("row", [(7,), (300,), (5, 100), ()], ids=str)
@of_cases([case for case in BY_ELEMENT if case.slots])
def test_rows(case, name, dtype, row, layout):
    """Duplicates are summed; rows that no gradient touches keep their codes to the bit."""
    shape = (50, *row)
    if name == "int8" and not row:
        opt = case.ours(state_dtype=name)
        params = {"E": np.ones(shape, dtype)}
        with pytest.raises(ValueError, match="blocks of up to 256 elements; give whole rows"):
            opt.update(params, {"E": fo.Rows([1], np.ones(1, dtype))})
        assert (params["E"] == 1).all()
        assert opt.iter == 0
        return
    rng, ours, oracle, params, expected = pair(case, name, dtype, shapes={"E": shape})
    params["E"] = LAYOUTS[layout](params["E"])
    whole = arrays(rng, {"E": shape}, dtype)
    oracle.update(expected, copies(whole))
    ours.update(params, whole)
    for _ in range(2):
        index, values = random_rows(rng, shape, dtype, 20)
        before, rows = kept(ours), summed_rows(index, values)
        oracle.update_rows(expected, "E", *rows)
        ours.update(params, {"E": fo.Rows(index, values)})
        assert_same(ours, oracle, params, expected)
        untouched = np.setdiff1d(np.arange(50), rows[0])
        for (key, slot), a in kept(ours).items():
            a, b = a.reshape(50, -1), before[key, slot].reshape(50, -1)
            assert a[untouched].tobytes() == b[untouched].tobytes(), slot


@every_state_dtype
def test_rows_past_the_threshold(name, threads):
    shape = (2000, 130)
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, shapes={"E": shape})
    rows = np.sort(rng.choice(2000, PAST_THRESHOLD // 130 + 1, replace=False))
    values = arrays(rng, {"": (len(rows), 130)}, np.float32)[""]
    oracle.update_rows(expected, "E", rows, values)
    ours.update(params, {"E": fo.Rows(rows, values)})
    assert_same(ours, oracle, params, expected)


@every_state_dtype
def test_rows_with_trust_ratio_or_norm(name):
    """Options that look at rows: clipping by the norm of all gradients."""
    shape = (50, 30)
    rng, ours, oracle, params, expected = pair(
        ADAM, name, np.float32, {"clip_norm": 1.0}, {"E": shape}
    )
    index, values = random_rows(rng, shape, np.float32, 20)
    rows, sums = summed_rows(index, values)
    oracle.update_rows(expected, "E", rows, sums)
    ours.update(params, {"E": fo.Rows(index, values)})
    assert_same(ours, oracle, params, expected)


# ---------------------------------------------------------------- what a random bit depends on


def test_the_bits_are_those_of_seed_number_step_slot_and_element():
    """Each of the five changes them, and nothing else is asked."""
    given = {"seed": 1, "number": 2, "step": 3, "slot": 0, "elements": np.arange(1000)}
    bits = random_bits(**given)
    for changed in (
        {"seed": 2}, {"number": 1}, {"step": 4}, {"slot": 1}, {"slot": 2},
        {"elements": np.arange(1, 1001)},
    ):
        assert (random_bits(**given | changed) == bits).mean() < 0.01


@every_state_dtype
def test_keys_that_come_later_and_gradients_of_none(name):
    """A key's number is its place among the first updates, and its step counts its own."""
    dtype, shapes = np.float32, {"a": (300,), "b": (300,), "c": (300,)}
    rng, ours, _, params, expected = pair(ADAM, name, dtype, shapes=shapes)
    oracles = {key: Coded(ADAM.oracle(), ours) for key in "bac"}   # each key has its own step
    for number, key in enumerate("bac"):
        oracles[key].numbers[key], oracles[key].steps[key] = number, 0
    for keys in ("b", "ab", "ab", "abc", "c", "ac"):
        grads = arrays(rng, shapes, dtype)
        for key in keys:
            oracles[key].update({key: expected[key]}, {key: grads[key]})
        ours.update(params, {key: grads[key] if key in keys else None for key in "abc"})
        assert_same_arrays(params, expected, "params")
        for slot in ("m", "v"):
            found = state_of(ours, slot)
            for key in found:
                assert_same_array(found[key], getattr(oracles[key], slot)[key], f"{slot} of {key}")


@every_state_dtype
def test_another_seed_rounds_otherwise(name):
    results = []
    for seed in (0, 0, 1):
        opt, params = fo.Momentum(state_dtype=name, rounding_seed=seed), {"x": np.ones(999)}
        opt.update(params, {"x": np.linspace(0.1, 1, 999)})
        results.append(kept(opt)["x", "v"])
    assert (results[0] == results[1]).all()
    assert 0.1 < (results[0] != results[2]).mean() < 0.9


@every_state_dtype
@every_dtype
def test_rounding_has_the_right_mean(name, dtype):
    """A velocity that hardly changes at a step: the mean of many roundings is the number."""
    n, steps = 4096, 64
    x = np.linspace(-1, 1, n).astype(dtype)
    total = np.zeros(n)
    for step in range(steps):
        opt = fo.Momentum(1.0, state_dtype=name, rounding_seed=step)
        opt.update({"x": np.zeros(n, dtype)}, {"x": -x})
        total += state_of(opt, "v")["x"]
    off = total / steps - x
    gap = np.maximum(abs(x), 2.0**-16) * (2.0**-7 if name == "bfloat16" else 2.0**-2)
    assert (abs(off) <= gap * 6 / (2 * np.sqrt(steps))).all()      # 6 standard deviations
    assert abs((off / gap).mean()) < 6 / (2 * np.sqrt(steps * n))


def test_a_slow_decay_is_not_lost():
    """To the nearest, v would stay at 1: 0.001 of it is less than half a step of 2⁻⁷."""
    opt, params = fo.RMSprop(decay_rate=0.999, state_dtype="bfloat16"), {"x": np.zeros(10000, "f4")}
    opt.update(params, {"x": np.full(10000, 1000**0.5, "f4")})
    first = state_of(opt, "h")["x"].mean()
    for _ in range(200):
        opt.update(params, {"x": np.zeros(10000, "f4")})
    assert state_of(opt, "h")["x"].mean() == pytest.approx(first * 0.999**200, rel=0.003)


# ---------------------------------------------------------------- other rules and helpers


@every_state_dtype
def test_groups_with_other_state_dtypes(name):
    groups = [fo.Group("b*", state_dtype=name), fo.Group("c", state_dtype=None)]
    other = NAMES[1 - NAMES.index(name)]
    rng = np.random.default_rng(0)
    shapes = {"a": (300,), "b": (20, 30), "c": (300,)}
    expected = arrays(rng, shapes, np.float32)
    params = copies(expected)
    ours = fo.Adam(state_dtype=other, groups=groups)
    oracles = [Coded(ADAM.oracle(), fo.Adam(state_dtype=one)) for one in (other, name)]
    for one in oracles:
        one.numbers.update(a=0, b=1)
        one.steps.update(a=0, b=0)
    plain = ADAM.oracle()
    for _ in range(3):
        grads = arrays(rng, shapes, np.float32)
        oracles[0].update({"a": expected["a"]}, grads)
        oracles[1].update({"b": expected["b"]}, grads)
        plain.update({"c": expected["c"]}, grads)
        ours.update(params, grads)
    assert_same_arrays(params, expected, "params")
    types = {key: ours.engine.store.records[key].state["m"].dtype.name for key in params}
    of = {"bfloat16": "uint16", "int8": "uint8"}
    assert types == {"a": of[other], "b": of[name], "c": "float32"}


@every_state_dtype
def test_a_soft_batch(name):
    shapes = {"W": (30, 41), "b": (7,)}
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, shapes=shapes)
    soft = fo.SoftBatch(ours, every=2)
    for _ in range(3):
        first, second = arrays(rng, shapes, np.float32), arrays(rng, shapes, np.float32)
        soft.update(params, first)
        soft.update(params, second)
        mean = {k: (np.float32(0) + first[k] + second[k]) * np.float32(0.5) for k in shapes}
        oracle.update(expected, mean)
        assert_same(ours, oracle, params, expected)


@every_state_dtype
def test_a_rule_of_ones_own(name):
    pytest.importorskip("numba")

    @fo.rule(state=("v", "h"), int8={"v": "signed", "h": "unsigned"}, lr=0.1)
    def own(p, g, v, h, lr):
        v = 0.5 * v + g
        h = 0.5 * h + g * g
        return p - lr * v / (np.sqrt(h) + 0.1), v, h

    class Oracle:
        def __init__(self):
            self.v, self.h = {}, {}

        def update(self, params, grads):
            for key, p in params.items():
                v = self.v.setdefault(key, np.zeros_like(p))
                h = self.h.setdefault(key, np.zeros_like(p))
                v[...] = 0.5 * v + grads[key]
                h[...] = 0.5 * h + grads[key] * grads[key]
                p -= 0.1 * v / (np.sqrt(h) + 0.1)

    rng = np.random.default_rng(0)
    expected = arrays(rng, SHAPES, np.float32)
    params = copies(expected)
    ours = own(state_dtype=name)
    oracle = Coded(Oracle(), ours)
    train(ours, oracle, rng, params, expected, np.float32)
    assert not own.h.signed


OWN_BAD = [
    (["v"], TypeError, "int8 must be a dict such as"),
    ({"w": "signed"}, ValueError, r"int8 names 'w', and the state arrays are \['v'\]"),
    ({"v": "float"}, ValueError, "must be 'signed' or 'unsigned', got 'float'"),
]


@pytest.mark.parametrize(("int8", "error", "text"), OWN_BAD)
def test_a_rule_of_ones_own_with_bad_codes(int8, error, text):
    with pytest.raises(error, match=text):
        fo.rule(state=("v",), int8=int8, lr=0.1)


def test_a_rule_of_ones_own_that_says_nothing_of_8_bits():
    pytest.importorskip("numba")

    @fo.rule(state=("v",), lr=0.1)
    def own(p, g, v, lr):
        return p - lr * (v + g), v + g

    with pytest.raises(ValueError, match=r"own's v: rule was not given int8=\{'v': …\}; use"):
        own(state_dtype="int8")


@every_state_dtype
@every_dtype
def test_muon_and_its_rest(name, dtype):
    """The matrices' momentum is the listing's, rounded; the rest has the bits of its own rule."""
    rng = np.random.default_rng(0)
    shapes = {"W": (20, 30), "b": (300,)}
    expected = arrays(rng, shapes, dtype)
    params = copies(expected)
    ours = fo.Muon(state_dtype=name, rest=fo.Adam(state_dtype=name, rounding_seed=3))
    rest = Coded(ADAM.oracle(), fo.Adam(state_dtype=name, rounding_seed=3))
    rest.numbers["b"], rest.steps["b"] = 1, 0
    v = np.zeros(shapes["W"], dtype)
    for step in (1, 2, 3):
        grads = arrays(rng, shapes, dtype)
        rest.update({"b": expected["b"]}, {"b": grads["b"]})
        ours.update(params, grads)
        v += (1 - ours.momentum) * (grads["W"] - v)
        random = random_bits(0, 0, step, 0, np.arange(600).reshape(20, 30))
        v[...] = rounded(v, name, True, random)
        assert_same_array(state_of(ours, "v")["W"], v, "v")
        assert_same_array(params["b"], expected["b"], "b")
        assert_same_array(state_of(ours.rest, "v")["b"], rest.v["b"], "v of the rest")


@every_dtype
@every_state_dtype
def test_look_ahead(name, dtype):
    params = arrays(np.random.default_rng(0), {"W": (30, 41), "s": ()}, dtype)
    ours = fo.Momentum(lr=0.1, lookahead=True, state_dtype=name)
    seen = []

    def fn(p):
        seen.append(copies(p))
        return {key: x**3 for key, x in p.items()}

    for _ in range(3):
        v, before = state_of(ours, "v"), copies(params)
        ours.step(params, fn)
        for key, p in before.items():
            ahead = p + dtype(0.9) * v[key] if key in v else p
            assert_same_array(seen[-1][key], np.asarray(ahead, dtype), key)
    v, before = state_of(ours, "v"), copies(params)
    for key, x in ours.lookahead(params).items():
        assert_same_array(x, np.asarray(before[key] + dtype(0.9) * v[key]), key)


@every_dtype
@pytest.mark.parametrize("cls", [fo.ScheduleFreeSGD, fo.ScheduleFreeAdamW])
def test_evaluation(cls, dtype):
    rng = np.random.default_rng(0)
    shapes = {"W": (30, 41), "s": ()}
    params = arrays(rng, shapes, dtype)
    opt = cls(state_dtype="bfloat16")
    for _ in range(3):
        opt.update(params, arrays(rng, shapes, dtype))
    y, d = copies(params), state_of(opt, "d")
    with opt.evaluation(params):
        for key, p in params.items():
            x = y[key] - dtype(1.0 - 0.9) * d[key]
            assert_same_array(p, np.asarray(x), key)
    assert_same_arrays(params, y, "params")


@every_state_dtype
def test_averages_keep_the_parameters_dtype(name):
    rng, ours, oracle, params, expected = pair(ADAM, name, np.float32, {"average": 0.9})
    train(ours, oracle, rng, params, expected, np.float32)
    assert_same_averages(ours, oracle)
    average, weights = copies(ours.average_of), copies(params)
    with ours.averaged(params):
        assert_same_arrays(params, average, "params")
    assert_same_arrays(params, weights, "params")


@every_state_dtype
def test_sam_goes_around(name):
    def fn(p):
        return 0.0, {key: x**3 for key, x in p.items()}

    results = []
    for wrapped in (True, False):
        params = arrays(np.random.default_rng(0), {"W": (30, 41)}, np.float32)
        opt = fo.Adam(state_dtype=name)
        if wrapped:
            fo.SAM(opt, rho=0.05).step(params, fn)
        else:
            g = fn(params)[1]["W"]
            factor = 0.05 / float(np.linalg.norm(g.astype(float)))
            opt.update(params, {"W": (params["W"] + np.float32(factor) * g) ** 3})
        results.append(kept(opt)["W", "m"])
    same = (results[0] == results[1]).mean()
    assert same > 0.99      # the norm's last bit is the listing's of SAM


@every_state_dtype
def test_trace(name):
    def fn(p):
        return {"x": 2 * p["x"]}

    params = {"x": np.array([3.0, 1.0])}
    path = fo.trace(fo.Adam(lr=0.1, state_dtype=name), params, fn, steps=5)
    opt, params = fo.Adam(lr=0.1, state_dtype=name), {"x": np.array([3.0, 1.0])}
    for _ in range(5):
        opt.update(params, fn(params))
    assert np.array_equal(path.positions["x"][-1], params["x"])


# ---------------------------------------------------------------- what is refused changes nothing


@every_state_dtype
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("options", [{}, {"trust_ratio": True}], ids=["fast", "apart"])
def test_a_call_that_is_left_out_changes_no_code(name, options, layout):
    opt = fo.Adam(state_dtype=name, nonfinite="skip", **options)
    params = {"W": LAYOUTS[layout](np.ones((30, 41, 2)))}
    good = {"W": np.full((30, 41, 2), 0.3)}
    opt.update(params, good)
    before, weights = kept(opt), copies(params)
    opt.update(params, {"W": np.full((30, 41, 2), np.nan)})
    assert opt.skipped == 1
    with pytest.raises(ValueError, match="shape"):
        opt.update(params, {"W": np.ones(3)})
    opt.nonfinite = "raise"
    with pytest.raises(FloatingPointError):
        opt.update(params, {"W": np.full((30, 41, 2), np.inf)})
    assert_same_codes(kept(opt), before)
    assert_same_arrays(params, weights, "params")
    other = fo.Adam(state_dtype=name, **options)
    again = {"W": np.ones((30, 41, 2))}
    for _ in range(2):
        other.update(again, good)
    opt.update(params, good)
    assert_same_codes(kept(opt), kept(other))
    assert (params["W"] == again["W"]).all()


@every_state_dtype
def test_what_is_flushed(name, threads):
    """Subnormal state is zero with denormals="flush"; without it is what the codes hold."""
    if sys.platform == "win32":
        return
    n = 200_000
    g = np.full(n, 1e-39, np.float32)
    opt, params = fo.Momentum(1.0, denormals="flush", state_dtype=name), {"x": np.zeros(n, "f4")}
    opt.update(params, {"x": g})
    assert (state_of(opt, "v")["x"] == 0).all()


def test_the_first_update_of_many_keys_takes_as_long_for_each():
    def time_of(n):
        params = {k: np.ones(4, np.float32) for k in range(n)}
        opt, begun = fo.Adam(state_dtype="int8"), time.thread_time()
        opt.update(params, copies(params))
        return time.thread_time() - begun

    few, many = (min(time_of(n) for _ in range(3)) for n in (500, 8000))
    assert many < 4 * 16 * few


@pytest.mark.parametrize("options", [{}, {"trust_ratio": True}], ids=["fast", "apart"])
def test_an_update_keeps_no_memory(options):
    opt, params = fo.Adam(state_dtype="int8", **options), {"x": np.ones((300, 300))}
    grads = {"x": np.ones((300, 300))}
    opt.update(params, grads)
    assert bytes_kept(lambda: opt.update(params, grads)) < 5000


# ---------------------------------------------------------------- bad arguments

BAD = [
    ({"state_dtype": "int4"}, ValueError, "must be None, 'bfloat16' or 'int8', got 'int4'"),
    ({"state_dtype": np.float16}, ValueError, "None keeps state in the parameter's own dtype"),
    ({"state_dtype": 8}, TypeError, "state_dtype must be None, 'bfloat16' or 'int8', got 8"),
    ({"state_dtype": {"m": "int8"}}, TypeError, "state_dtype must be None, 'bfloat16' or 'int8'"),
    ({"state_dtype": lambda step: "int8"}, TypeError, "state_dtype must be None, 'bfloat16'"),
    ({"rounding_seed": -1}, ValueError, "rounding_seed must be"),
    ({"rounding_seed": 2**64}, ValueError, "rounding_seed must be a whole number below"),
    ({"rounding_seed": 1.5}, TypeError, "rounding_seed must be"),
    ({"rounding_seed": lambda step: 1}, TypeError, "rounding_seed must be"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), BAD)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        fo.Adam(**arguments)
    with pytest.raises(error, match=text):
        fo.Adam(groups=[fo.Group("x", **arguments)])
    opt = fo.Adam()
    with pytest.raises(error, match=text):
        setattr(opt, *next(iter(arguments.items())))
    assert repr(opt) == repr(fo.Adam())


UNFIT = [
    (fo.FTRL, {"state_dtype": "int8"}, "FTRL's h: the parameter is a function of h and z"),
    (fo.Rprop, {"state_dtype": "int8"}, "Rprop's g_prev: its signs say how far to go; use"),
    (fo.Adam, {"state_dtype": "int8", "amsgrad": True}, "v_max: a maximum of rounded numbers"),
    (fo.ScheduleFreeSGD, {"state_dtype": "int8"}, "d: it is a difference of parameters"),
    (fo.RMSprop, {"state_dtype": "int8", "centered": True}, "use state_dtype=None"),
    (fo.RMSprop, {"state_dtype": "bfloat16", "centered": True}, "m: h − m² would be their"),
]


@pytest.mark.parametrize(("cls", "arguments", "text"), UNFIT)
def test_slots_that_a_dtype_does_not_suit(cls, arguments, text):
    """Said when an optimizer is made; and at its update, where the choice comes later."""
    with pytest.raises(ValueError, match=text):
        cls(**arguments)
    name = arguments["state_dtype"]
    others = {key: x for key, x in arguments.items() if key != "state_dtype"}
    with pytest.raises(ValueError, match=text):
        cls(**others, groups=[fo.Group("x", state_dtype=name)])
    opt, params = cls(**others), {"x": np.ones(3)}
    opt.state_dtype = name
    with pytest.raises(ValueError, match=text):
        opt.update(params, {"x": np.ones(3)})
    assert (params["x"] == 1).all()
    assert opt.iter == 0


def test_a_choice_that_a_schedule_makes():
    opt = fo.RMSprop(momentum=lambda step: 0.5, centered=True, state_dtype="bfloat16")
    with pytest.raises(ValueError, match="does not suit RMSprop's m"):
        opt.update({"x": np.ones(3)}, {"x": np.ones(3)})


def test_it_cannot_change_after_the_first_update():
    opt = fo.Adam(state_dtype="int8", groups=[fo.Group("b", lr=1.0), fo.Group("c", lr=2.0)])
    opt.groups[0].state_dtype = "bfloat16"
    params = {key: np.ones(9) for key in "xbc"}
    opt.update(params, dict.fromkeys("xbc", np.ones(9)))
    for thing, name in ((opt, "int8"), (opt.groups[0], "bfloat16"), (opt.groups[1], "int8")):
        with pytest.raises(ValueError, match=f"state_dtype is {name!r} and cannot change"):
            thing.state_dtype = None
        thing.state_dtype = name
    opt.update(params, dict.fromkeys("xbc", np.ones(9)))
    opt.reset()
    opt.state_dtype = None


def test_a_group_that_changes_in_the_first_batch():
    """What a soft batch noted of a key is forgotten with it."""
    opt = fo.Adam(groups=[fo.Group("x", lr=0.1)])
    soft, params = fo.SoftBatch(opt, every=2), {"x": np.asfortranarray(np.ones((4, 5)))}
    soft.update(params, {"x": np.ones((4, 5))})
    opt.groups[0].state_dtype = "int8"
    soft.update(params, {"x": np.ones((4, 5))})
    assert opt.engine.store.records["x"].state["m"].dtype == np.uint8


# ---------------------------------------------------------------- what a user sees


def test_bfloat16_is_seen_as_it_is():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    opt, params = fo.Adam(state_dtype="bfloat16"), {"x": np.ones((3, 4), "f4"), "s": np.ones(())}
    opt.update(params, {"x": np.ones((3, 4), "f4"), "s": np.ones(())})
    m = opt.m["x"]
    assert m.dtype == ml_dtypes.bfloat16
    assert_same_array(m.astype(np.float32), state_of(opt, "m")["x"], "m")
    m[0, 0] = 5.0
    assert state_of(opt, "m")["x"][0, 0] == 5.0
    assert opt.m["s"].dtype == np.float64
    assert "bfloat16" in repr(opt.m)


def test_without_ml_dtypes(monkeypatch):
    """State is updated and saved without it; only to look at it needs the package."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    opt, params = fo.Adam(state_dtype="bfloat16"), {"x": np.ones(4)}
    opt.update(params, {"x": np.ones(4)})
    copy.deepcopy(opt).load_state_dict(opt.state_dict())
    assert list(opt.m) == ["x"]
    with pytest.raises(ImportError, match=r"pip install 'fastoptim\[lowbits\]'"):
        opt.m["x"]


def test_int8_is_seen_as_numbers():
    opt, params = fo.Adam(state_dtype="int8"), {"x": np.ones((3, 300), "f4")}
    opt.update(params, {"x": np.full((3, 300), -1.0, "f4")})
    m, v = opt.m["x"], opt.v["x"]
    assert isinstance(m, fo.Int8Array)
    assert (m.shape, m.ndim, m.size, len(m), m.dtype) == ((3, 300), 2, 900, 3, np.float32)
    assert m.nbytes == 900 + 4 * 6
    assert (m.signed, v.signed) == (True, False)
    assert_same_array(np.asarray(m), state_of(opt, "m")["x"], "m")
    assert_same_array(m[1], state_of(opt, "m")["x"][1], "m[1]")
    assert np.asarray(m, np.float64).dtype == np.float64
    assert repr(m) == "Int8Array(shape=(3, 300), signed, nbytes=924)"
    for change in (
        lambda: m.__setitem__((0, 0), 1.0), lambda: m.codes.__setitem__((0, 0), 1),
        lambda: m.largest.__setitem__(0, 1.0),
    ):
        with pytest.raises((TypeError, ValueError), match="in place|read-only"):
            change()
    with pytest.raises(ValueError, match="made when they are asked for"):
        np.array(m, copy=False)


def test_int8_computes_as_its_numbers():
    opt, params = fo.Adam(state_dtype="int8"), {"x": np.ones((3, 300), "f4")}
    opt.update(params, {"x": np.linspace(-1.0, 1.0, 900, dtype="f4").reshape(3, 300)})
    m, v = opt.m["x"], opt.v["x"]
    numbers, squares = np.asarray(m), np.asarray(v)
    assert_same_array(2 * m, 2 * numbers, "2 * m")
    assert_same_array(m / np.sqrt(v), numbers / np.sqrt(squares), "m / √v")
    assert_same_array(np.add.reduce(m, axis=0), numbers.sum(axis=0), "sum")
    assert (m == opt.m["x"]).all()
    assert (m != v).any()
    for change in (lambda: np.add(numbers, 1, out=m), lambda: np.negative(m, out=m)):
        with pytest.raises(TypeError, match="cannot be written in place.*convert=True"):
            change()
    assert_same_array(np.asarray(opt.m["x"]), numbers, "m")


# ---------------------------------------------------------------- saved and loaded


def trained(cls=fo.Adam, steps=3, dtype=np.float32, **options):
    rng = np.random.default_rng(1)
    params = arrays(rng, SHAPES, dtype)
    opt = cls(**options)
    for _ in range(steps):
        opt.update(params, arrays(rng, SHAPES, dtype))
    return opt, params


def by_dict(opt, new, tmp_path):
    new.load_state_dict(opt.state_dict())
    return new


def by_file(opt, new, tmp_path):
    pytest.importorskip("safetensors")
    opt.save(tmp_path / "opt")
    new.load(tmp_path / "opt")
    return new


def by_training_file(opt, new, tmp_path):
    pytest.importorskip("safetensors")
    fo.save(tmp_path / "all", {"opt": opt})
    return fo.load(tmp_path / "all")["opt"]


def into_what_is_there(opt, new, tmp_path):
    pytest.importorskip("safetensors")
    fo.save(tmp_path / "all", {"opt": opt})
    fo.load(tmp_path / "all", into={"opt": new})
    return new


WAYS = [
    by_dict, by_file, by_training_file, into_what_is_there,
    lambda opt, new, path: pickle.loads(pickle.dumps(opt)),
    lambda opt, new, path: copy.deepcopy(opt),
]


@every_dtype
@every_state_dtype
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", [fo.Adam, fo.Adafactor, fo.Yogi, fo.LAMB])
def test_training_goes_on_to_the_bit(cls, way, name, dtype, tmp_path):
    opt, params = trained(cls, dtype=dtype, state_dtype=name, rounding_seed=5)
    new = way(opt, cls(state_dtype=name), tmp_path)
    assert_same_codes(kept(new), kept(opt))
    twins = copies(params)
    rng = np.random.default_rng(2)
    for _ in range(2):
        grads = arrays(rng, {**SHAPES, "later": (300,)}, dtype)
        params.setdefault("later", np.ones(300, dtype))
        twins.setdefault("later", np.ones(300, dtype))
        opt.update(params, grads)
        new.update(twins, copies(grads))
        assert_same_arrays(twins, params, "params")
        assert_same_codes(kept(new), kept(opt))


@pytest.mark.parametrize("way", [by_dict, by_file])
@pytest.mark.parametrize("keys", ["xyz", "zyx"])
def test_numbers_of_keys_are_saved(way, keys, tmp_path):
    """Not those of the order in which a state has them."""
    opt = fo.Momentum(state_dtype="bfloat16")
    params = {key: np.ones(300) for key in keys}
    opt.update(params, {key: np.full(300, 0.1) for key in keys})
    saved = opt.state_dict()
    saved["parameters"] = dict(sorted(saved["parameters"].items()))
    new = fo.Momentum(state_dtype="bfloat16")
    new.load_state_dict(saved)
    new = way(new, fo.Momentum(state_dtype="bfloat16"), tmp_path)
    numbers = {key: one.described()["number"] for key, one in new.engine.store.records.items()}
    assert numbers == {key: number for number, key in enumerate(keys)}


@pytest.mark.parametrize("then", [None, *NAMES])
@pytest.mark.parametrize("now", [None, *NAMES])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_converted(then, now, dtype, tmp_path):
    """Each number is the nearest that the other dtype has; refused unless it is asked for."""
    pytest.importorskip("safetensors")
    opt, params = trained(dtype=dtype, state_dtype=then, rounding_seed=5)
    opt.save(tmp_path / "opt")
    fo.save(tmp_path / "all", {"opt": opt})
    new, other, third = [fo.Adam(state_dtype=now) for _ in range(3)]
    if then != now:
        text = f"state_dtype is {then!r} in the state and {now!r} in this optimizer; .*convert=True"
        for load in (
            lambda: new.load(tmp_path / "opt"), lambda: new.load_state_dict(opt.state_dict()),
            lambda: fo.load(tmp_path / "all", into={"opt": new}),
        ):
            with pytest.raises(ValueError, match=text):
                load()
        assert (new.iter, new.state_dtype, kept(new)) == (0, now, {})
    new.load(tmp_path / "opt", convert=True)
    other.load_state_dict(opt.state_dict(), convert=True)
    fo.load(tmp_path / "all", into={"opt": third}, convert=True)
    assert_same_codes(kept(new), kept(other))
    assert_same_codes(kept(new), kept(third))
    assert (new.state_dtype, new.rounding_seed, new.iter) == (now, 5, 3)
    for slot in ("m", "v"):
        before, after = state_of(opt, slot), state_of(new, slot)
        for key, a in before.items():
            if then == now or now is None or not a.ndim:
                assert_same_array(after[key], a, f"{slot} of {key}")
            elif now == "bfloat16":
                assert (abs(after[key] - a) <= 2.0**-8 * abs(a)).all()
            else:
                flat, got = a.ravel(), after[key].ravel()
                for block in blocks(a.shape) if a.size else ():
                    largest = abs(flat[block]).max()
                    least = largest * (2.1e-6 if slot == "m" else 3.2e-11)
                    assert (abs(got - flat)[block] <= abs(flat[block]) / 8 + least).all()
    new.update(params, arrays(np.random.default_rng(3), SHAPES, dtype))
    types = {None: np.dtype(dtype).name, "bfloat16": "uint16", "int8": "uint8"}
    assert new.engine.store.records["W"].state["m"].dtype.name == types[now]


@every_state_dtype
def test_converted_from_fortran_order(name):
    """Codes are in C order, whatever the order of the state was."""
    opt, params = fo.Adam(), {"x": np.asfortranarray(np.ones((5, 7)))}
    g = np.arange(35.0).reshape(5, 7)
    opt.update(params, {"x": np.asfortranarray(g)})
    new = fo.Adam(state_dtype=name)
    new.load_state_dict(opt.state_dict(), convert=True)
    oracle, expected = Coded(ADAM.oracle(), new), {"x": np.ascontiguousarray(params["x"])}
    oracle.oracle.m, oracle.oracle.v = state_of(new, "m"), state_of(new, "v")
    oracle.oracle.iter, oracle.numbers["x"], oracle.steps["x"] = 1, 0, 1
    oracle.update(expected, {"x": g})
    new.update(params, {"x": g})
    assert_same(new, oracle, params, expected)


def test_convert_of_other_things():
    opt = fo.Adam(state_dtype="int8", groups=[fo.Group("b", state_dtype="bfloat16")])
    soft, params = fo.SoftBatch(opt, 2), {"a": np.ones(300), "b": np.ones(300)}
    for _ in range(3):
        soft.update(params, {"a": np.ones(300), "b": np.ones(300)})
    new = fo.SoftBatch(fo.Adam(groups=[fo.Group("b", state_dtype="int8")]), 2)
    with pytest.raises(ValueError, match="^state_dtype is 'int8' in the state and None"):
        new.load_state_dict(soft.state_dict())
    half = fo.SoftBatch(fo.Adam(state_dtype="int8", groups=[fo.Group("b", state_dtype="int8")]), 2)
    with pytest.raises(ValueError, match="^b: state_dtype is 'bfloat16' in the state and 'int8'"):
        half.load_state_dict(soft.state_dict())
    new.load_state_dict(soft.state_dict(), convert=True)
    assert new.pending == 1
    types = [new.opt.engine.store.records[key].state["m"].dtype for key in "ab"]
    assert types == [np.float64, np.uint8]
    sam = fo.SAM(fo.Adam(state_dtype="int8"))
    sam.load_state_dict(fo.SAM(trained()[0]).state_dict(), convert=True)
    assert sam.opt.engine.store.records["W"].state["m"].dtype == np.uint8
    with pytest.raises(TypeError, match="convert is for state of another state_dtype"):
        fo.SAM(fo.Heun()).load_state_dict(fo.SAM(fo.Heun()).state_dict(), convert=True)
    with pytest.raises(TypeError, match="convert must be True or False, got 1"):
        fo.Adam().load_state_dict(trained()[0].state_dict(), convert=1)


def test_convert_without_anything_to_convert_into(tmp_path):
    with pytest.raises(ValueError, match="give them as into, or leave convert out"):
        fo.load(tmp_path / "missing", convert=True)


def test_convert_to_what_does_not_suit():
    opt, _ = trained(amsgrad=True)
    new = fo.Adam(state_dtype="int8")
    with pytest.raises(ValueError, match="does not suit Adam's v_max"):
        new.load_state_dict(opt.state_dict(), convert=True)
    assert new.iter == 0


def test_states_of_earlier_versions():
    saved = trained()[0].state_dict()
    for name in ("state_dtype", "rounding_seed"):
        del saved["hyperparameters"][name]
    new = fo.Adam(rounding_seed=3)
    new.load_state_dict(saved)
    assert (new.iter, new.rounding_seed) == (3, 3)
    with pytest.raises(ValueError, match="state_dtype is None in the state and 'int8' in this"):
        fo.Adam(state_dtype="int8").load_state_dict(saved)


OF_W = ("parameters", "W")
DAMAGED = [
    ("int8", (*OF_W, "coding"), "int4", "has coding 'int4', not None|has slots"),
    ("int8", (*OF_W, "coding"), None, "has slots"),
    ("bfloat16", (*OF_W, "coding"), "int4", "has coding 'int4', not None"),
    ("bfloat16", (*OF_W, "coding"), "int8", "signed slots|as its m"),
    ("int8", (*OF_W, "number"), 6, "should have a number from 0 to 5"),
    ("int8", (*OF_W, "number"), "0", "should have a number from 0 to 5"),
    ("int8", (*OF_W, "order"), "F", "has order 'F', and that of codes is 'C'"),
    ("int8", (*OF_W, "signed"), ["v"], r"has the signed slots \['v'\], this rule has \['m'\]"),
    ("int8", (*OF_W, "state", "m"), np.zeros((30, 41), "u2"), "uint8 .* as its m, got uint16"),
    ("int8", (*OF_W, "state", "m"), np.zeros((30, 40), "u1"), r"as its m, got uint8 \(30, 40\)"),
    ("int8", (*OF_W, "state", "m.largest"), np.zeros(29, "f4"), "as its m.largest, got float32"),
    ("int8", (*OF_W, "state", "m.largest"), np.zeros(30), "as its m.largest, got float64"),
    ("int8", (*OF_W, "state", "m.largest"), -np.ones(30, "f4"), "negative or infinite"),
    ("int8", (*OF_W, "state", "x.largest"), np.zeros(30, "f4"), "has slots"),
    ("bfloat16", (*OF_W, "state", "v"), np.zeros((30, 41), "f4"), "uint16 .* as its v"),
    ("bfloat16", (*OF_W, "state", "v.largest"), np.zeros(30, "f4"), "has slots"),
    ("bfloat16", ("parameters", "s", "coding"), "bfloat16", r"shape \(\) has none"),
    ("bfloat16", ("hyperparameters", "state_dtype"), "int4", "state_dtype must be None"),
    ("bfloat16", ("hyperparameters", "rounding_seed"), -1, "rounding_seed must be"),
]


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize(("name", "place", "value", "text"), DAMAGED)
def test_damaged_states(name, place, value, text, convert):
    opt, _ = trained(state_dtype=name)
    saved = opt.state_dict()
    put(saved, place, value)
    new = fo.Adam(state_dtype=name)
    with pytest.raises(ValueError, match=text):
        new.load_state_dict(saved, convert=convert)
    assert (new.iter, kept(new)) == (0, {})


def test_inspect_shows_numbers(tmp_path, capsys):
    pytest.importorskip("safetensors")
    from fastoptim.cli.main import main

    opt, _ = trained(state_dtype="int8")
    opt.save(tmp_path / "opt")
    assert main(["inspect", str(tmp_path / "opt")]) == 0
    shown = capsys.readouterr().out
    norm = np.linalg.norm(state_of(opt, "m")["W"].astype(float))
    assert f"{norm:.6g}" in shown
    assert "largest" not in shown
