"""Gradients that are products: the update is that of their tiles, made by NumPy, bit for bit."""

import copy
import os
import pickle
import re
import sys
import warnings

import numpy as np
import pytest
import test_faults as faults
from helpers import (
    EVERY_CLASS,
    TESTS,
    LineFault,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    assert_same_bits,
    bytes_at_peak,
    copies,
    every_class_with_every_option,
    every_dtype,
    every_rule,
    output_of,
)

import fastoptim as fo
from fastoptim import product
from fastoptim.demo import mlp
from fastoptim.kernels.update import products

F32, F64 = np.float32, np.float64
SHAPES = {"W": (37, 29), "V": (70, 33)}
BATCH = 6


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut small products, too: into tiles of less than a block, and of more than one."""
    monkeypatch.setattr(product, "CUT_FROM", 3000)
    monkeypatch.setattr(product, "TILE_BYTES", 900)
    monkeypatch.setattr(product, "LEAST_ROWS", 4)
    monkeypatch.setattr(product, "DOT_BELOW", 0)


@pytest.fixture(params=["whole", "tiles"])
def cut(request):
    """Products of small shapes as they come, or cut."""
    if request.param == "tiles":
        request.getfixturevalue("small_tiles")
    return request.param


def factors(rng, shape, dtype, batch=BATCH):
    """The factors of a product, a few of whose elements are zero."""
    drawn = arrays(rng, {"x": (batch, shape[0]), "d": (batch, shape[1])}, dtype)
    return fo.Product(drawn["x"], drawn["d"])


def by_hand(grad):
    """A gradient as NumPy makes it, each tile in memory of its own."""
    if not isinstance(grad, fo.Product):
        return grad
    whole = np.full(grad.shape, np.nan, grad.dtype)
    with np.errstate(all="ignore"):
        for rows in grad.tiles():
            tile = np.empty((rows.stop - rows.start, grad.shape[1]), grad.dtype)
            multiply = np.dot if whole.nbytes < product.DOT_BELOW else np.matmul
            multiply(grad.x[:, rows].T, grad.d, out=tile)
            whole[rows] = tile
    return whole


def draw(rng, dtype=F32, shapes=SHAPES):
    """A product for each matrix, and an array for a bias."""
    grads = {key: factors(rng, shape, dtype) for key, shape in shapes.items()}
    return grads | {"b": arrays(rng, {"b": (5,)}, dtype)["b"]}


def start(rng, dtype=F32, shapes=SHAPES):
    return arrays(rng, shapes | {"b": (5,)}, dtype)


def dense(grads):
    return {key: by_hand(g) for key, g in grads.items()}


# ---------------------------------------------------------------- the bits


@pytest.mark.usefixtures("cut")
@every_dtype
@every_rule
def test_every_rule(case, dtype):
    rng = np.random.default_rng(0)
    expected = start(rng, dtype)
    params = copies(expected)
    opt, oracle = case.ours_with({}), case.oracle_with({})
    for _ in range(3):
        grads = draw(rng, dtype)
        oracle.update(expected, dense(grads))
        opt.update(params, grads)
        assert_same_bits(opt, oracle, params, expected)
    assert opt.iter == 3


@pytest.mark.usefixtures("cut")
@every_dtype
@every_class_with_every_option
def test_every_option(case, options, dtype):
    options = {name: value for name, value in options.items() if name != "zero_grads"}
    rng = np.random.default_rng(1)
    expected = start(rng, dtype)
    params = copies(expected)
    opt, oracle = case.ours_with(options), case.oracle_with(options)
    for _ in range(3):
        grads = draw(rng, dtype)
        oracle.update(expected, dense(grads))
        opt.update(params, grads)
        assert_same_bits(opt, oracle, params, expected)
        assert_same_averages(opt, oracle)


def trained(make, grads_of, shapes=SHAPES, dtype=F32, steps=3, layout=np.copy):
    """An optimizer and parameters after steps with what a function makes of products."""
    rng = np.random.default_rng(2)
    opt = make()
    params = {key: layout(p) for key, p in start(rng, dtype, shapes).items()}
    for _ in range(steps):
        opt.update(params, grads_of(draw(rng, dtype, shapes)))
    return opt, params


def assert_same_training(make, **how):
    """Products give what the arrays of their tiles give: parameters, state, averages, counters."""
    ours, theirs = trained(make, dict, **how), trained(make, dense, **how)
    assert_same_state(ours, theirs)
    return ours


def assert_same_state(ours, theirs):
    (opt, params), (other, expected) = ours, theirs
    assert_same_arrays(params, expected, "params")
    assert set(opt.updates_of) == set(other.updates_of)
    for slots in {*opt.kernels.values(), *opt.factored.values()}:
        for slot in slots:
            assert_same_arrays(getattr(opt, slot), getattr(other, slot), slot)
    assert_same_averages(opt, other)
    assert (opt.iter, opt.skipped, opt.clipped) == (other.iter, other.skipped, other.clipped)
    assert opt.grad_norm == other.grad_norm


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_every_class_as_with_arrays(cls):
    rest = {"rest": fo.AdamW()} if cls is fo.Muon else {}
    assert_same_training(
        lambda: cls(norm=True, average=0.9, **rest), shapes={"W": (37, 29), "V": (33, 70)}
    )


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    "options",
    [
        {"norm": True}, {"clip_norm": 0.5}, {"clip_norm_per_key": 0.5}, {"nonfinite": "raise"},
        {"groups": [fo.Group("W", clip_norm_per_key=0.5, lr=0.5), fo.Group("b", trust_ratio=True)]},
        {"groups": [fo.Group("V", centralize=True)], "clip_norm": 0.5, "average": "mean"},
        {"denormals": "flush", "lr": fo.schedules.linear(0.0, 0.5, 5)},
    ],
    ids=str,
)
@every_dtype
def test_norms_and_groups(options, dtype):
    options = options | {"groups": copy.deepcopy(options.get("groups", []))}
    opt, _ = assert_same_training(lambda: fo.Adam(**copy.deepcopy(options)), dtype=dtype)
    assert opt.clipped == (3 if "clip" in str(options) else 0)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("shape", [(4, 700), (500, 2), (129, 8), (64, 64), (37, 1), (31, 1024)])
@every_dtype
def test_blocks_of_the_norm_that_lie_in_several_tiles(shape, dtype):
    assert_same_training(lambda: fo.Adam(clip_norm=0.1), shapes={"W": shape}, dtype=dtype)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("of_blas", [1, 2])
def test_threads(monkeypatch, of_blas):
    """Tiles go on one thread beside a BLAS with several, and on all of ours beside one with one."""
    monkeypatch.setattr(product, "CUT_FROM", 1)
    monkeypatch.setattr(product, "TILE_BYTES", 600_000)
    monkeypatch.setattr(products, "blas_threads", lambda: of_blas)
    shapes = {"W": (330, 1100), "b": (5,)}
    rng = np.random.default_rng(3)
    results = []
    for grads_of in (dict, dense):
        rng = np.random.default_rng(3)
        opt, params = fo.Adam(clip_norm=1.0), arrays(rng, shapes, F32)
        for _ in range(2):
            grads = {"W": factors(rng, shapes["W"], F32), "b": np.ones(5, F32)}
            assert len(grads["W"].tiles()) == 3
            opt.update(params, grads_of(grads))
        results.append((opt, params))
    assert_same_state(*results)


def test_a_large_product_is_cut_as_it_comes():
    n = 2048
    rng = np.random.default_rng(4)
    grad = factors(rng, (n, n), F32, 32)
    assert len(grad.tiles()) > 1
    results = []
    for g in (grad, by_hand(grad)):
        opt, params = fo.Momentum(), {"W": np.zeros((n, n), F32)}
        opt.update(params, {"W": g})
        results.append((opt, params))
    assert_same_state(*results)


def test_the_gradient_is_not_made():
    n = 2048
    grad = factors(np.random.default_rng(4), (n, n), F32, 4)
    for options in ({}, {"clip_norm": 1.0}):
        opt, params = fo.SGD(**options), {"W": np.zeros((n, n), F32)}
        peak = bytes_at_peak(lambda: opt.update(params, {"W": grad}), times=2)  # noqa: B023
        assert peak < 4 * n * n // 2


# ---------------------------------------------------------------- layouts and overlaps


def strided(a):
    return np.repeat(a, 2, axis=1)[:, ::2]


FACTORS = {
    "F": np.asfortranarray, "strided": strided, "reversed": lambda a: a[::-1].copy()[::-1],
    "part": lambda a: np.pad(a, 2)[2:-2, 2:-2], "read-only": lambda a: sealed(a),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "not aligned": lambda a: not_aligned(a),
}


def sealed(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def not_aligned(a):
    packed = np.zeros(a.shape, np.dtype([("flag", "u1"), ("x", a.dtype)]))
    packed["x"] = a
    return packed["x"]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("layout", FACTORS.values(), ids=FACTORS)
def test_layouts_of_the_factors(layout):
    """Those that a BLAS cannot use are copied: the same numbers, and the products of the copies."""
    rng = np.random.default_rng(5)
    given = factors(rng, SHAPES["V"], F32)
    as_given = fo.Product(layout(given.x), layout(given.d))
    usable = layout in (FACTORS["F"], FACTORS["part"], FACTORS["subclass"], FACTORS["read-only"])
    params, expected = {"V": np.ones(SHAPES["V"], F32)}, {"V": np.ones(SHAPES["V"], F32)}
    fo.SGD().update(params, {"V": as_given})
    fo.SGD().update(expected, {"V": by_hand(as_given if usable else given)})
    assert_same_arrays(params, expected, "params")


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("shape", [(37, 29), (0, 4), (4, 0), (1, 1), (1, 900), (900, 1)])
def test_small_batches_and_odd_shapes(batch, shape):
    grad = factors(np.random.default_rng(6), shape, F64, batch)
    params, expected = {"W": np.ones(shape)}, {"W": np.ones(shape)}
    fo.Adam(norm=True).update(params, {"W": grad})
    fo.Adam(norm=True).update(expected, {"W": by_hand(grad)})
    assert_same_arrays(params, expected, "params")


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("layout", [np.asfortranarray, strided], ids=["F", "strided"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"trust_ratio": True}], ids=str)
def test_layouts_of_the_parameter(layout, options):
    def laid(a):
        return layout(a) if a.ndim == 2 else a

    assert_same_training(lambda: fo.Adam(average=0.5, **options), layout=laid)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("factor", ["x", "d"])
@pytest.mark.parametrize("of", ["itself", "another", "the state"])
def test_factors_on_memory_that_is_written(factor, of):
    """A factor is read as it was before the update, whatever the update writes there."""
    rng = np.random.default_rng(7)
    opt = fo.Momentum(lr=0.5)
    params = arrays(rng, {"W": (37, 37), "A": (37, 37)}, F32)
    plain = {key: np.ones_like(p) for key, p in params.items()}
    opt.update(params, plain)
    for _ in range(2):
        there = {"itself": params["W"], "another": params["A"], "the state": opt.v["W"]}[of]
        given = {"x": rng.standard_normal((37, 37), F32), "d": rng.standard_normal((37, 37), F32)}
        grad = fo.Product(**{**given, factor: there})
        twin, expected = copy.deepcopy(opt), copies(params)
        twin.update(expected, {"W": by_hand(grad), "A": plain["A"]})
        opt.update(params, {"W": grad, "A": plain["A"]})
        assert_same_arrays(params, expected, "params")
        assert_same_arrays(opt.v, twin.v, "v")


# ---------------------------------------------------------------- not finite


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("options", [{"nonfinite": "skip"}, {"nonfinite": "raise"}], ids=str)
def test_not_finite(options):
    grads = draw(np.random.default_rng(8))
    grads["V"].x[2, 60] = np.inf
    opt, params = fo.Adam(**options), start(np.random.default_rng(9))
    before = copies(params)
    if "skip" in options.values():
        opt.update(params, grads)
        assert opt.skipped == 1
    else:
        words = r"^grads\['V'\]\[60, 0\] is (-?inf|nan); nothing"
        with pytest.raises(FloatingPointError, match=words):
            opt.update(params, grads)
    assert_same_arrays(params, before, "params")
    assert opt.iter == 0


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("option", ["clip_norm", "clip_norm_per_key", "nonfinite"])
def test_finite_numbers_whose_squares_are_not(option):
    x = np.full((1, 37), 1e200)
    opt = fo.SGD(**{option: "raise" if option == "nonfinite" else 1.0})
    params = {"W": np.ones((37, 29))}
    grads = {"W": fo.Product(x, np.ones((1, 29)))}
    if option == "nonfinite":
        opt.update(params, grads)
        assert opt.iter == 1
        return
    with pytest.raises(FloatingPointError, match="finite, but (their|its) squares are too large"):
        opt.update(params, grads)
    assert (params["W"] == 1).all()


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("options", [{}, {"norm": True}], ids=str)
def test_products_warn_of_nothing(options):
    """A warning is Python, and between two tiles there must be none."""
    huge = np.full((2, 37), 3e38, F32)
    params = {"W": np.ones((37, 37), F32)}
    opt, before = fo.SGD(**options), np.geterr()
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.update(params, {"W": fo.Product(huge, huge)})
    assert np.isinf(params["W"]).all()
    assert np.geterr() == before


@pytest.mark.usefixtures("small_tiles")
def test_no_python_runs_while_arrays_are_written():
    opt, params = fo.Adam(clip_norm=0.1), start(np.random.default_rng(10))
    opt.update(params, draw(np.random.default_rng(11)))
    seen = []

    def look(frame, event, arg):
        seen.append((event, params["W"].tobytes() + params["V"].tobytes(), opt.iter))

    grads, before = draw(np.random.default_rng(12)), params["W"].tobytes() + params["V"].tobytes()
    sys.setprofile(look)
    try:
        opt.update(params, grads)
    finally:
        sys.setprofile(None)
    assert seen
    assert all((bits == before) == (done == 1) for _, bits, done in seen)


# ---------------------------------------------------------------- soft batches, points elsewhere


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"trust_ratio": True}], ids=str)
def test_soft_batches(options):
    results = []
    for grads_of in (dict, dense):
        rng = np.random.default_rng(13)
        params, opt = start(rng), fo.Adam(**options)
        soft = fo.SoftBatch(opt, every=3)
        for n in range(7):
            grads = draw(rng)
            if n == 1:                          # an array between two products
                grads["W"] = by_hand(grads["W"])
            soft.update(params, grads_of(grads))
        assert (soft.pending, opt.iter) == (1, 2)
        soft.flush()
        results.append((opt, params))
    assert_same_state(*results)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    "make",
    [
        lambda: fo.Momentum(lookahead=True), lambda: fo.Nesterov(), lambda: fo.SAM(fo.Adam()),
        lambda: fo.Heun(lr=0.1), lambda: fo.RK45(lr=0.1), lambda: fo.RK23(lr=0.1, rtol=1e-3),
        lambda: fo.SAM(fo.SoftBatch(fo.SGD(), every=2)), lambda: fo.ScheduleFreeAdamW(),
    ],
)
def test_steps_with_functions(make):
    t = np.random.default_rng(14).standard_normal((BATCH, 29))
    x = np.random.default_rng(15).standard_normal((BATCH, 37))

    def fit(grads_of, params):
        d = (x @ params["W"] - t) / 10
        return float((d * d).sum()), grads_of({"W": fo.Product(x, d)})

    results = []
    for grads_of in (dict, dense):
        opt, params = make(), {"W": np.zeros((37, 29))}
        losses = [opt.step(params, lambda p: fit(grads_of, p)) for _ in range(4)]  # noqa: B023
        results.append((losses, params))
    assert results[0][0] == results[1][0]
    assert_same_arrays(results[0][1], results[1][1], "params")


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("make", [lambda: fo.Momentum(lookahead=True), lambda: fo.SAM(fo.SGD())])
def test_factors_in_memory_that_moves_back(make):
    """Factors that are a parameter are those of the point at which the function was called."""
    results = []
    for grads_of in (dict, dense):
        opt, params = make(), {"W": np.eye(37, dtype=F32)}
        for _ in range(3):
            opt.step(params, lambda p: grads_of({"W": fo.Product(p["W"], p["W"])}))  # noqa: B023
        results.append(params)
    assert_same_arrays(*results, "params")


def test_trace():
    x = np.array([[1.0, 2.0]])

    def fit(p):
        return {"W": fo.Product(x, x @ p["W"])}

    path = fo.trace(fo.SGD(lr=0.1), {"W": np.ones((2, 2))}, fit, 3)
    again = fo.trace(
        fo.SGD(lr=0.1), {"W": np.ones((2, 2))}, lambda p: {"W": x.T @ (x @ p["W"])}, 3
    )
    np.testing.assert_allclose(path.gradient_norms, again.gradient_norms)
    assert np.isfinite(path.gradient_norms).all()


def test_saved_state_goes_on(tmp_path):
    rng = np.random.default_rng(16)
    params, opt = start(rng), fo.Adam()
    opt.update(params, draw(rng))
    opt.save(tmp_path / "opt")
    twin, expected, grads = fo.Adam(), copies(params), draw(rng)
    twin.load(tmp_path / "opt")
    twin.update(expected, dense(grads))
    opt.update(params, grads)
    assert_same_state((opt, params), (twin, expected))


def test_the_network():
    """The network of the demonstration gives products on request, of the same factors."""
    rng = np.random.default_rng(17)
    x, t = rng.standard_normal((8, 20), F32), rng.integers(0, 4, 8)
    params = mlp.init([20, 16, 4], 0)
    products_of, arrays_of = (mlp.gradients(params, x, t, products=one) for one in (True, False))
    assert list(products_of) == list(arrays_of)
    for key, g in products_of.items():
        assert isinstance(g, fo.Product) == (key[0] == "W")
        assert_same_array(np.asarray(g), arrays_of[key], key)


# ---------------------------------------------------------------- the class


def test_what_a_product_says():
    x, d = np.arange(6.0).reshape(2, 3), np.ones((2, 4))
    grad = fo.Product(x, d)
    assert (grad.shape, grad.dtype) == ((3, 4), F64)
    assert repr(grad) == "Product(float64 (3, 4), batch 2)"
    assert grad.x is x
    assert grad.d is d
    for whole in (grad.asarray(), np.asarray(grad), grad.made()):
        assert_same_array(whole, x.T @ d, "product")
    assert np.asarray(grad, F32).dtype == F32
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(grad, copy=False)
    for name in ("x", "d", "other"):
        with pytest.raises(AttributeError):
            setattr(grad, name, d)
    twin = pickle.loads(pickle.dumps(grad))
    assert_same_array(twin.x, x, "x")


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1), (4096, 4096), (4097, 4099), (100_000, 60), (40, 2_000_000), (31, 2_000_000),
        (0, 5), (5, 0),
    ],
)
@pytest.mark.parametrize("itemsize", [4, 8])
def test_tiles(shape, itemsize):
    """They cover the rows in order, are of two lengths at most, and depend on the shape alone."""
    tiles = product.tiles_of(*shape, itemsize)
    assert [i for rows in tiles for i in range(rows.start, rows.stop)] == list(range(shape[0]))
    lengths = {rows.stop - rows.start for rows in tiles}
    assert max(lengths) - min(lengths) <= 1
    n_bytes = shape[0] * shape[1] * itemsize
    assert (len(tiles) == 1) == (n_bytes < product.CUT_FROM or shape[0] <= product.LEAST_ROWS)
    if len(tiles) > 1:
        assert min(lengths) >= product.LEAST_ROWS // 2
        most = max(product.TILE_BYTES, product.LEAST_ROWS * shape[1] * itemsize)
        assert max(lengths) * shape[1] * itemsize <= most


ONE, W = np.ones((2, 3)), np.ones((3, 4))
REFUSED = {
    "vector x": (np.ones(3), np.ones((1, 4)), ValueError, r"x must have two axes.*x\[None, :\]"),
    "vector d": (ONE, np.ones(4), ValueError, r"d must have two.*a batch of one: d\[None, :\]"),
    "three axes": (np.ones((2, 3, 1)), W, ValueError, r"got shape \(2, 3, 1\)$"),
    "batches": (ONE, W, ValueError, r"x has shape \(2, 3\) and d has shape \(3, 4\)"),
    "dtypes": (ONE, ONE.astype(F32), TypeError, r"x is float64, but d is .*astype\(np.float64\)"),
    "integers": (np.ones((2, 3), int), ONE, TypeError, "x must be float32 or float64, got int64"),
    "complex": (ONE, ONE * 1j, TypeError, "d must be float32 or float64, got complex128"),
    "objects": (ONE.astype(object), ONE, TypeError, "x must be float32 or float64, got object"),
    "half": (ONE.astype(np.float16), ONE, TypeError, "got float16"),
    "byte order": (ONE.astype(">f8"), ONE, TypeError, "byte order"),
    "masked": (np.ma.masked_array(ONE), ONE, TypeError, "x is a masked array"),
    "list": ([[1.0]], ONE, TypeError, "x must be a NumPy array of float32 or float64, got list"),
    "None": (ONE, None, TypeError, "d must be a NumPy array of float32 or float64, got NoneType"),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_bad_factors(row):
    x, d, error, words = row
    with pytest.raises(error, match=words):
        fo.Product(x, d)


LIKE_W = fo.Product(ONE, np.ones((2, 4)))
REFUSED_BY_UPDATE = {
    "vector": ({}, np.ones(12), LIKE_W, ValueError, r"shape \(12,\), and a product has two axes"),
    "three axes": ({}, np.ones((3, 2, 2)), LIKE_W, ValueError, r"two axes; pass an array: grads\["),
    "number": ({}, 1.0, LIKE_W, ValueError, r"has shape \(\), and a product"),
    "shape": (
        {}, np.ones((3, 5)), LIKE_W, ValueError,
        r"of shape \(3, 4\), but params\['W'\] has shape \(3, 5\)",
    ),
    "exchanged": ({}, np.ones((4, 3)), LIKE_W, ValueError, "exchange x and d"),
    "dtype": (
        {}, np.ones((3, 4), F32), LIKE_W, TypeError,
        r"grads\['W'\].x is float64, but params\['W'\] is float32",
    ),
    "zero_grads": (
        {"zero_grads": True}, W, LIKE_W, TypeError, r"grads\['W'\] is a Product, and there is no",
    ),
}


@pytest.mark.parametrize("row", REFUSED_BY_UPDATE.values(), ids=REFUSED_BY_UPDATE)
@pytest.mark.parametrize("soft", [False, True])
def test_bad_products(row, soft):
    options, p, grad, error, words = row
    opt = fo.Adam(**options)
    params = {"a": np.ones(2), "W": p}
    before = {key: np.copy(a) for key, a in params.items()}
    call = fo.SoftBatch(opt, every=1).update if soft else opt.update
    with pytest.raises(error, match=words):
        call(params, {"a": np.ones(2), "W": grad})
    for key, a in before.items():
        assert_same_array(params[key], a, key)
    assert (opt.iter, list(opt.m)) == (0, [])


def test_factors_that_were_reshaped_since():
    x = np.ones((2, 3))
    grad = fo.Product(x, np.ones((2, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x.shape = (3, 2)
    words = re.escape("grads['W'].x has shape (3, 2) and grads['W'].d has shape (2, 4)")
    with pytest.raises(ValueError, match=words):
        fo.SGD().update({"W": np.ones((3, 4))}, {"W": grad})


def test_runge_kutta_checks_products():
    with pytest.raises(ValueError, match="exchange x and d"):
        fo.Heun(lr=0.1).step({"W": np.ones((4, 3))}, lambda p: {"W": LIKE_W})


# ---------------------------------------------------------------- faults


def with_products(**options):
    params = {"a": faults.ones(5), "W": faults.ones(12, 8), "F": faults.table((12, 8))}
    options.pop("zero_grads", None)
    return fo.Adam(lr=0.1, **options), params, lambda: {
        "a": faults.ones(5), "W": fo.Product(faults.ones(2, 12), faults.strided(faults.ones(2, 8))),
        "F": fo.Product(faults.ones(2, 12), faults.ones(2, 8)),
    }


def cut_all(monkeypatch):
    for name, value in {"CUT_FROM": 1, "TILE_BYTES": 100, "LEAST_ROWS": 2}.items():
        monkeypatch.setattr(product, name, value)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("call", ["first update", "third update", "last call of a batch"])
@pytest.mark.parametrize(
    "fault", [faults.ArrayFault, lambda n: LineFault(n, KeyboardInterrupt)],
    ids=["memory", "interrupt"],
)
def test_faults(fault, call, monkeypatch):
    cut_all(monkeypatch)
    faults.fail_everywhere(fault, with_products, faults.OPTIONS["all"], faults.CALLS[call])


@pytest.mark.parametrize("call", ["third update", "second call of a batch"])
def test_no_memory_for_an_object(call):
    """Also while tiles are made and arrays are written: such a tile is made once more."""
    pytest.importorskip("_testcapi")
    if not faults.python_survives():
        pytest.skip("this CPython crashes without memory, in plain Python code")
    output_of(
        f"""
        import gc
        import test_faults as faults
        import test_products
        from fastoptim import product
        from helpers import ObjectFault

        gc.disable()
        product.CUT_FROM, product.TILE_BYTES, product.LEAST_ROWS = 1, 100, 2
        kind, options = test_products.with_products, faults.OPTIONS["all"]
        faults.fail_everywhere(ObjectFault, kind, options, faults.CALLS[{call!r}])
        """,
        PYTHONPATH=os.pathsep.join([TESTS, *sys.path]),
    )


# ---------------------------------------------------------------- state of 8 and 16 bits


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5, "average": 0.9}, {"trust_ratio": True}])
@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
@every_dtype
def test_state_of_codes(dtype, state_dtype, options):
    """Tiles have the codes and the blocks of the whole, rows of more than one block, too."""
    shapes = {"W": (37, 29), "V": (21, 300)}
    rng = np.random.default_rng(2)
    params = start(rng, dtype, shapes)
    expected = copies(params)
    opt, twin = (fo.Adam(state_dtype=state_dtype, **options) for _ in range(2))
    for _ in range(3):
        grads = draw(rng, dtype, shapes)
        twin.update(expected, dense(grads))
        opt.update(params, grads)
        assert_same_arrays(params, expected, "params")
        for key in params:
            ours, theirs = (one.engine.store.records[key].state for one in (opt, twin))
            assert {n: a.tobytes() for n, a in ours.items()} == {
                n: a.tobytes() for n, a in theirs.items()
            }


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("master", [True, False])
def test_parameters_of_16_bits(master):
    """Their products are made whole."""
    rng = np.random.default_rng(2)
    params = {"W": rng.normal(size=(37, 29)).astype(np.float16)}
    expected = copies(params)
    opt, twin = fo.Adam(master=master), fo.Adam(master=master)
    for _ in range(3):
        grads = {"W": factors(rng, (37, 29), F32)}
        twin.update(expected, dense(grads))
        opt.update(params, grads)
        assert (params["W"] == expected["W"]).all()
