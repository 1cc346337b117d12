"""Parameters and gradients of float16 and bfloat16, to the bit."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from codes_oracle import nearest_half, random_bits, stochastic_half, wide
from helpers import CASES, LAYOUTS, arrays, assert_same_array, copies, use_threads
from scipy.sparse import dok_array

import fastoptim as fo
from fastoptim import Rows
from fastoptim.rows import Elements

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
SHAPES = {"W": (30, 41), "b": (7,), "c": (2, 515), "e": (0,), "s": ()}
PARAM = 6       # the place of the parameter among the slots: it has random bits of its own

every_half = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
every_master = pytest.mark.parametrize("master", [True, False], ids=["master", "no master"])
every_grad = pytest.mark.parametrize("wide_grads", [False, True], ids=["same", "float32"])
every_state = pytest.mark.parametrize("state_dtype", [None, "bfloat16"])


class Twin:
    """The same optimizer on float32, whose numbers are rounded after each update."""

    def __init__(self, make, params, master, seed=0):
        self.opt, self.master, self.seed = make(), master, seed
        self.dtypes = {key: p.dtype for key, p in params.items()}
        self.params = {key: wide(p) for key, p in params.items()}
        self.steps = dict.fromkeys(params, 0)
        self.numbers = {}

    def update(self, grads):
        given = {
            key: g if g is None or isinstance(g, Rows) else wide(g) for key, g in grads.items()
        }
        self.opt.update(self.params, given)
        for key, g in given.items():
            if g is not None:
                self.numbers.setdefault(key, len(self.numbers))
                self.steps[key] += 1
                if not self.master:
                    touched = None if not isinstance(g, Rows) else np.unique(g.index)
                    self.round(key, touched)

    def round(self, key, touched):
        p = self.params[key]
        bits = random_bits(
            self.seed, self.numbers[key], self.steps[key], PARAM, np.arange(p.size)
        ).reshape(p.shape)
        new = wide(stochastic_half(p, self.dtypes[key], bits))
        if touched is None:
            p[...] = new
        else:
            p[touched] = new[touched]

    def codes(self, key):
        return nearest_half(self.params[key], self.dtypes[key])


def random_halves(rng, shapes, dtype):
    return {key: a.astype(dtype) for key, a in arrays(rng, shapes, np.float32).items()}


def assert_same_params(params, twin):
    for key, p in params.items():
        expected = twin.codes(key)
        assert p.dtype == expected.dtype
        assert_same_halves(p, expected, key)


def assert_same_halves(a, b, name):
    """Same numbers of 16 bits: widening is exact, and leaves a zero its sign."""
    assert a.dtype == b.dtype, name
    assert_same_array(wide(a), wide(b), name)


def assert_same_state(opt, twin):
    for key, record in twin.opt.engine.store.records.items():
        ours = opt.engine.store.records[key]
        for name, a in record.state.items():
            assert_same_array(ours.state[name], a, f"{name}[{key!r}]")
        if record.average is not None:
            assert_same_array(opt.average_of[key], record.average, f"average_of[{key!r}]")
        if twin.master:
            assert_same_array(ours.state["master"], twin.params[key], f"master_of[{key!r}]")


def train(make, dtype, master, wide_grads, shapes=SHAPES, steps=3, layout=None, **options):
    """Train a rule and its twin, and compare all after each update."""
    rng = np.random.default_rng(0)
    params = random_halves(rng, shapes, dtype)
    twin = Twin(lambda: make(**options), params, master)
    opt = make(master=master, **options)
    if layout is not None:
        params = {key: layout(p) for key, p in params.items()}
    for _ in range(steps):
        grads = random_halves(rng, shapes, np.float32 if wide_grads else dtype)
        given = copies(grads) if layout is None else {k: layout(g) for k, g in grads.items()}
        opt.update(params, given)
        twin.update(copies(grads))
        assert_same_params(params, twin)
        assert_same_state(opt, twin)
        if options.get("zero_grads"):
            assert all((wide(g) == 0).all() for g in given.values())
    return opt, params, twin


FIT = [case for case in CASES if case.cls is not fo.Muon]


@every_half
@every_master
@pytest.mark.parametrize("case", FIT, ids=repr)
def test_every_rule(case, dtype, master, isa):
    train(case.ours, dtype, master, False)


@every_half
@every_master
def test_muon_with_a_rest(dtype, master):
    shapes = {"W": (30, 41), "b": (7,)}
    train(
        lambda **o: fo.Muon(rest=fo.AdamW(**o), to_rest=["b"], **o), dtype, master, False, shapes
    )


@every_half
@every_master
@every_grad
@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.03, "decoupled": True, "average": 0.9}, {"weight_decay": 0.1},
        {"clip_value": 0.3}, {"clip_norm": 1.0}, {"clip_norm_per_key": 1.0, "zero_grads": True},
        {"zero_grads": True}, {"agc": 0.1}, {"centralize": True}, {"trust_ratio": True},
        {"constraint": (-0.5, 0.5)}, {"constraint": fo.MaxNorm(1.0)}, {"maximize": True},
        {"nonfinite": "raise"}, {"average": "mean"},
    ],
    ids=str,
)
def test_options(options, dtype, master, wide_grads):
    train(fo.Adam, dtype, master, wide_grads, **options)


@every_half
@every_master
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(layout, dtype, master):
    for options in ({}, {"trust_ratio": True, "zero_grads": True}):
        train(fo.Adam, dtype, master, False, {"W": (5, 6, 70)}, layout=layout, **options)


@every_half
@every_master
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_threads(n, dtype, master):
    use_threads(n)
    try:
        train(fo.Adam, dtype, master, False, {"W": (400, 401), "b": (3,)})
    finally:
        use_threads(1)


@every_half
@every_master
@every_grad
def test_rows(dtype, master, wide_grads):
    rng = np.random.default_rng(0)
    params = random_halves(rng, {"E": (50, 12), "b": (40,)}, dtype)
    twin = Twin(lambda: fo.Adam(zero_grads=True), params, master)
    opt = fo.Adam(master=master, zero_grads=True)
    for _ in range(4):
        grads, wide_ones = {}, {}
        for key, p in params.items():
            index = rng.integers(0, len(p), 9)
            values = rng.normal(size=(9, *p.shape[1:])).astype(np.float32 if wide_grads else dtype)
            grads[key], wide_ones[key] = Rows(index, values), Rows(index, wide(values).copy())
        opt.update(params, grads)
        twin.update(wide_ones)
        assert_same_params(params, twin)
        assert_same_state(opt, twin)
        assert all((wide(g.values) == 0).all() for g in grads.values())


@every_half
@every_master
def test_products(dtype, master):
    rng = np.random.default_rng(0)
    x, d = (rng.normal(size=(5, n)).astype(np.float32) for n in (30, 41))
    params = random_halves(rng, {"W": (30, 41)}, dtype)
    same = copies(params)
    opt, other = fo.Adam(master=master), fo.Adam(master=master)
    for _ in range(2):
        opt.update(params, {"W": fo.Product(x, d)})
        other.update(same, {"W": fo.Product(x, d).made()})
    assert_same_halves(params["W"], same["W"], "W")


@every_half
@every_master
def test_elements_of_a_matrix(dtype, master):
    params = random_halves(np.random.default_rng(0), {"W": (5, 6)}, dtype)
    twin = Twin(fo.SGD, params, master)
    fo.SGD(master=master).update(
        params, {"W": Elements(np.array([3, 20]), np.ones(2, np.float32))}
    )
    before = twin.params["W"].copy()
    twin.opt.update(twin.params, {"W": Elements(np.array([3, 20]), np.ones(2, np.float32))})
    if not master:
        bits = random_bits(0, 0, 1, PARAM, np.arange(30)).reshape(5, 6)
        new = wide(stochastic_half(twin.params["W"], dtype, bits))
        twin.params["W"] = np.where(twin.params["W"] == before, before, new)
    assert_same_params(params, twin)


@every_half
@every_master
@every_grad
def test_soft_batches(dtype, master, wide_grads):
    rng = np.random.default_rng(0)
    shapes = {"W": (30, 41), "b": (7,)}
    params = random_halves(rng, shapes, dtype)
    twin = Twin(lambda: fo.SoftBatch(fo.Adam(), every=3), params, True)
    soft = fo.SoftBatch(fo.Adam(master=master), every=3)
    for step in range(3):
        grads = random_halves(rng, shapes, np.float32 if wide_grads else dtype)
        soft.update(params, grads)
        twin.opt.update(twin.params, {key: wide(g) for key, g in grads.items()})
        if step < 2:
            assert soft.pending == step + 1
    if not master:
        twin.master = False
        for number, key in enumerate(shapes):
            twin.numbers[key], twin.steps[key] = number, 1
            twin.round(key, None)
    assert_same_params(params, twin)


@every_half
@every_master
def test_soft_batches_of_rows(dtype, master):
    """Calls with rows, and one of them with a dense gradient, too."""
    rng = np.random.default_rng(0)
    params = random_halves(rng, {"E": (9, 5), "F": (9, 5)}, dtype)
    again = copies(params)
    soft = fo.SoftBatch(fo.Adam(master=master), every=3, reduce="sum")
    sums = {key: np.zeros((9, 5), np.float32) for key in params}
    for step in range(3):
        grads = {}
        for key in params:
            index, values = rng.integers(0, 9, 4), rng.normal(size=(4, 5)).astype(dtype)
            total = np.zeros((9, 5), np.float32)
            np.add.at(total, index, wide(values))
            sums[key] += total
            grads[key] = total if (key, step) == ("F", 1) else Rows(index, values)
        assert soft.update(params, grads) == (step == 2)
    rows = np.flatnonzero(sums["E"].any(axis=1))
    fo.Adam(master=master).update(again, {"E": Rows(rows, sums["E"][rows]), "F": sums["F"]})
    for key, p in params.items():
        assert_same_halves(p, again[key], key)


@every_half
def test_halves_and_floats_in_one_dict(dtype):
    rng = np.random.default_rng(0)
    h, f = rng.normal(size=(9, 8)).astype(dtype), rng.normal(size=5).astype(np.float32)
    params = {"h": h, "f": f}
    alone = {"f": params["f"].copy()}
    opt, other = fo.Adam(), fo.Adam()
    for _ in range(3):
        g = rng.normal(size=5).astype(np.float32)
        opt.update(params, {"h": np.ones((9, 8), dtype), "f": g})
        other.update(alone, {"f": g})
    assert_same_array(params["f"], alone["f"], "f")
    assert list(opt.master_of) == ["h"]


@every_half
@every_master
@every_state
def test_training_goes_on_after_a_reload(dtype, master, state_dtype, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"W": (30, 41), "b": (7,)}
    params = random_halves(rng, shapes, dtype)
    opt = fo.Adam(master=master, state_dtype=state_dtype, rounding_seed=5)
    grads = [random_halves(rng, shapes, dtype) for _ in range(4)]
    for g in grads[:2]:
        opt.update(params, g)
    opt.save(tmp_path / "state")
    loaded, given = (fo.Adam(master=master, state_dtype=state_dtype) for _ in range(2))
    loaded.load(tmp_path / "state")
    given.load_state_dict(opt.state_dict())
    twins = [loaded, given, copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    for twin in twins:
        theirs = copies(params)
        for g in grads[2:]:
            twin.update(theirs, g)
        mine, again = copies(params), copy.deepcopy(opt)
        for g in grads[2:]:
            again.update(mine, g)
        for key in shapes:
            assert_same_halves(theirs[key], mine[key], key)


REFUSED = {
    "another gradient": (
        {}, lambda p, d: {"W": np.ones((3, 4))}, TypeError, "is float64, but params\\['W'\\] is",
    ),
    "another shape": (
        {}, lambda p, d: {"W": np.ones((4, 3), d)}, ValueError, "reshape it",
    ),
    "the other half": (
        {}, lambda p, d: {"W": np.ones((3, 4), next(o for o in DTYPES.values() if o != d))},
        TypeError, "whose gradient is",
    ),
    "a number": (
        {}, lambda p, d: {"W": 1.0}, TypeError, "NumPy array of b?float16 or float32, got float",
    ),
    "a scalar of NumPy": (
        {}, lambda p, d: {"W": d.type(1)}, TypeError,
        r"array of b?float16 or float32, got b?float16; pass np.asarray\(grads\['W'\]\)",
    ),
    "rows of float64": (
        {}, lambda p, d: {"W": Rows([0], np.ones((1, 4)))}, TypeError,
        r"grads\['W'\].values is float64, but params\['W'\] is b?float16, whose gradient is",
    ),
    "rows of the other half": (
        {}, lambda p, d: {
            "W": Rows([0], np.ones((1, 4), next(o for o in DTYPES.values() if o != d)))
        }, TypeError, r"grads\['W'\].values is b?float16, but .* whose gradient is",
    ),
    "a sparse array of float64": (
        {}, lambda p, d: {"W": dok_array(np.ones((3, 4)))}, TypeError,
        r"grads\['W'\] is float64, but params\['W'\] is b?float16, whose gradient is",
    ),
    "a sparse array in another format": (
        {}, lambda p, d: {"W": dok_array(np.ones((3, 4), np.float32))}, TypeError,
        "in the format 'dok'",
    ),
    "product of float64": (
        {}, lambda p, d: {"W": fo.Product(np.ones((2, 3)), np.ones((2, 4)))},
        TypeError, "whose products are of float32; convert both factors",
    ),
    "product of exchanged factors": (
        {}, lambda p, d: {"W": fo.Product(np.ones((2, 4), "f4"), np.ones((2, 3), "f4"))},
        ValueError, r"product of x.T and d, of shape \(4, 3\).*exchange x and d",
    ),
    "product with zero_grads": (
        {"zero_grads": True},
        lambda p, d: {"W": fo.Product(np.ones((2, 3), "f4"), np.ones((2, 4), "f4"))},
        TypeError, "is a Product, and there is no gradient that zero_grads=True",
    ),
    "not finite": (
        {"nonfinite": "raise"}, lambda p, d: {"W": np.full((3, 4), np.nan, d)},
        FloatingPointError, r"grads\['W'\]\[0, 0\] is nan",
    ),
}


@every_half
@pytest.mark.parametrize(("options", "grads", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(options, grads, error, words, dtype):
    params = {"W": np.ones((3, 4), dtype)}
    opt = fo.Adam(**options)
    with pytest.raises(error, match=words):
        opt.update(params, grads(params, dtype))
    assert opt.iter == 0
    assert not opt.master_of
    assert (wide(params["W"]) == 1).all()


@every_half
def test_what_cannot_change(dtype):
    params, grads = {"W": np.ones((3, 4), dtype)}, {"W": np.ones((3, 4), dtype)}
    opt = fo.Adam()
    opt.update(params, grads)
    with pytest.raises(ValueError, match="master is True and cannot change"):
        opt.master = False
    with pytest.raises(TypeError, match="is float32, but it was"):
        opt.update({"W": np.ones((3, 4), np.float32)}, {"W": np.ones((3, 4), np.float32)})
    with pytest.raises(ValueError, match="read-only"):
        opt.update({"W": frozen(params["W"])}, grads)
    with pytest.raises(ValueError, match="not in C order"):
        opt.update({"W": np.asfortranarray(params["W"])}, {"W": Rows([0], np.ones((1, 4), dtype))})
    assert opt.iter == 1


def test_a_group_without_master_of_a_used_optimizer():
    params, grads = {"W": np.ones(4, np.float16)}, {"W": np.ones(4, np.float16)}
    opt = fo.Adam(groups=[fo.Group("W", master=True)])
    opt.update(params, grads)
    with pytest.raises(ValueError, match="master is True and cannot change"):
        opt.groups[0].master = False
    assert opt.iter == 1


@every_half
@every_master
def test_a_groups_master_is_saved_and_loaded(dtype, master, tmp_path):
    """Whatever the optimizer's own master is, and that of the other groups."""
    rng = np.random.default_rng(0)
    shapes = {"W": (5, 4), "b": (4,)}
    params, grads = random_halves(rng, shapes, dtype), random_halves(rng, shapes, dtype)

    def fresh(of_group=not master):
        return fo.Adam(master=master, groups=[fo.Group("b", master=of_group)])

    opt = fresh()
    opt.update(params, grads)
    opt.save(tmp_path / "state")
    new, given = fresh(), fresh()
    new.load(tmp_path / "state")
    given.load_state_dict(opt.state_dict())
    twins = [opt, new, given, copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    trained = [copies(params) for _ in twins]
    for twin, theirs in zip(twins, trained, strict=True):
        twin.update(theirs, grads)
        assert list(twin.master_of) == ["W" if master else "b"]
        for key in shapes:
            assert_same_halves(theirs[key], trained[0][key], key)


@every_half
def test_a_state_with_another_master_is_refused(dtype):
    params, grads = {"b": np.ones(4, dtype)}, {"b": np.ones(4, dtype)}
    opt = fo.Adam(master=False)
    opt.update(params, grads)
    state = opt.state_dict()
    for new in (fo.Adam(), fo.Adam(master=False, groups=[fo.Group("b", master=True)])):
        if not new.groups:
            with pytest.raises(ValueError, match="no copy in float32, and .* master=True for it"):
                new.load_state_dict(state)
        else:
            new.update({"b": np.ones(4, dtype)}, grads)
            saved = new.state_dict()
            del saved["parameters"]["b"]["state"]["master"]
            with pytest.raises(ValueError, match="no copy in float32, and .* master=True for it"):
                new.load_state_dict(saved)
        assert new.iter == len(new.groups)


def test_a_parameter_of_halves_overlaps_nothing():
    memory = np.ones(20, np.float16)
    with pytest.raises(ValueError, match="memory"):
        fo.SGD().update({"a": memory[:12], "b": memory[8:]},
                        {"a": np.ones(12, np.float16), "b": np.ones(12, np.float16)})
    assert (memory == 1).all()


def test_a_master_is_memory_that_is_written():
    params, grads = {"a": np.ones(4, np.float16)}, {"a": np.ones(4, np.float16)}
    opt = fo.SGD(lr=0.5, weight_decay=0.5, decoupled=True)
    opt.update(params, grads)
    master = opt.master_of["a"]
    both = {**params, "b": master}
    with pytest.raises(ValueError, match=r"master\['a'\] and params\['b'\] share"):
        opt.update(both, {**grads, "b": np.ones(4, np.float32)})
    expected = master * np.float32(1 - 0.25) - np.float32(0.5) * master
    opt.update(params, {"a": master})           # read as it was, though the decay writes it first
    assert_same_array(opt.master_of["a"], expected, "master")
    opt.zero_grads = True
    with pytest.raises(ValueError, match=r"share memory"):
        opt.update(params, {"a": master})
    assert opt.iter == 2


@every_half
def test_a_key_without_state_that_changes_its_shape(dtype):
    """It keeps its number, which says how it is rounded, and which a saved state has."""
    opt, fresh = fo.SGD(lr=0.1, master=False), fo.SGD(lr=0.1, master=False)
    opt.update({"a": np.ones(3, dtype)}, {"a": np.ones(3, dtype)})
    params, other = {"a": np.ones(400, dtype)}, {"a": np.ones(400, dtype)}
    opt.update(params, {"a": np.ones(400, dtype)})
    fresh.update(other, {"a": np.ones(400, dtype)})
    assert_same_halves(params["a"], other["a"], "a")
    saved = opt.state_dict()
    assert saved["parameters"]["a"]["number"] == 0
    fo.SGD(lr=0.1, master=False).load_state_dict(saved)


def test_a_gradient_on_a_parameters_memory_is_copied():
    memory = np.arange(24, dtype=np.float16)
    params, grads = {"a": memory[:16]}, {"a": memory[8:]}
    expected = memory[:16] - np.float32(0.5) * memory[8:].astype(np.float32)
    fo.SGD(lr=0.5).update(params, grads)
    assert_same_halves(params["a"], expected.astype(np.float16), "a")


def test_averaged_is_refused():
    params = {"W": np.ones(4, np.float16)}
    opt = fo.SGD(average=0.9)
    opt.update(params, {"W": np.ones(4, np.float16)})
    with pytest.raises(TypeError, match="read opt.average_of"), opt.averaged(params):
        pass
    assert opt.average_of["W"].dtype == np.float32


@every_master
def test_evaluation_is_refused_and_the_message_says_what_to_compute(master):
    rng = np.random.default_rng(0)
    params = random_halves(rng, {"W": (30, 41)}, np.float16)
    opt = fo.ScheduleFreeSGD(lr=0.1, master=master)
    for _ in range(3):
        opt.update(params, random_halves(rng, {"W": (30, 41)}, np.float16))
    words = r"y - \(1 - β\) \* opt.d\['W'\], where y is"
    with pytest.raises(TypeError, match=words), opt.evaluation(params):
        pass
    y = opt.master_of["W"] if master else params["W"].astype(np.float32)
    same = fo.ScheduleFreeSGD(lr=0.1)
    same.update({"W": y.copy()}, {"W": np.zeros((30, 41), np.float32)})
    same.d["W"][...] = opt.d["W"]
    now = {"W": y.copy()}
    with same.evaluation(now):
        assert_same_array(y - np.float32(1 - opt.beta) * opt.d["W"], now["W"], "W")


@every_half
@pytest.mark.parametrize(
    "step",
    [
        lambda p, g: fo.Momentum(lookahead=True).step(p, lambda params: g),
        lambda p, g: fo.SAM(fo.SGD()).step(p, lambda params: g),
        lambda p, g: fo.RK45().step(p, lambda params: g),
    ],
    ids=["look-ahead", "SAM", "RK45"],
)
def test_methods_that_move_all_parameters_are_refused(step, dtype):
    params = {"W": np.ones(4, dtype)}
    with pytest.raises(TypeError, match=r"\['W'\] must be float32 or.*look-ahead, SAM, Run"):
        step(params, {"W": np.ones(4, dtype)})
    assert (wide(params["W"]) == 1).all()


@every_half
def test_arrays_of_16_bits_are_not_saved(dtype, tmp_path):
    with pytest.raises(TypeError, match=r"tree\['W'\] .*float16; .astype\(np.float32\) has"):
        fo.save(tmp_path / "all", {"W": np.ones(4, dtype)})
    assert not (tmp_path / "all").exists()


@every_master
def test_a_state_with_the_other_master_is_refused(master):
    params = {"W": np.ones(4, np.float16)}
    opt, other = fo.Adam(master=master), fo.Adam(master=not master)
    opt.update(params, {"W": np.ones(4, np.float16)})
    with pytest.raises(ValueError, match=f"load it into one that has master={master}"):
        other.load_state_dict(opt.state_dict())
    assert other.iter == 0


def test_masters_may_be_written():
    params, grads = {"W": np.ones(4, np.float16)}, {"W": np.zeros(4, np.float16)}
    opt = fo.SGD()
    opt.update(params, grads)
    opt.master_of["W"][...] = 3.0
    opt.update(params, grads)
    assert (params["W"] == 3).all()


@every_half
def test_rounding_is_unbiased(dtype):
    """The mean of many roundings is the number, to the error that as many draws have."""
    x = np.float32(1.0 + 2.0**-12)
    params = {"W": np.full(100_000, 1.0, dtype)}
    fo.SGD(lr=1.0, master=False).update(params, {"W": np.full(100_000, -(2.0**-12), np.float32)})
    step = float(np.finfo(dtype).eps) if dtype == np.float16 else 2.0**-7
    seen = wide(params["W"]).astype(np.float64)
    assert set(np.unique(seen)) <= {1.0, 1.0 + step}
    share = 2.0**-12 / step
    assert abs(seen.mean() - x) < 6 * step * np.sqrt(share * (1 - share) / 100_000)


def frozen(a):
    a = a.copy()
    a.flags.writeable = False
    return a
