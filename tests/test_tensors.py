"""Options that look at whole tensors: the oracle's bits for any layout, threads, rows, numbers."""

import copy

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import (
    LAYOUTS,
    Case,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    assert_same_bits,
    copies,
    every_dtype,
    random_rows,
    strided,
    summed_rows,
)
from reference import ORACLES, Staged

import fastoptim as fo

F32, F64 = np.float32, np.float64


def in_fortran_order(a):
    return a.copy(order="F")

# Each: a rule, its own hyperparameters, and options of which at least one looks at whole tensors.
LOOKS = {
    "agc": (fo.Momentum, {}, {"agc": 0.05}),
    "centralize": (
        fo.Momentum, {}, {"centralize": True, "weight_decay": 0.1, "clip_norm_per_key": 2.0}
    ),
    "trust_ratio": (fo.SGD, {"lr": 0.1}, {"trust_ratio": (0.2, 8.0), "clip_norm": 3.0}),
    "LAMB": (fo.LAMB, {}, {"trust_ratio": True, "weight_decay": 0.1, "decoupled": True}),
    "LARS": (fo.LARS, {"trust": 0.5}, {"weight_decay": 0.1, "centralize": True, "agc": 0.3}),
    "columns": (fo.SGD, {"lr": 0.5}, {"constraint": fo.MaxNorm(0.7)}),
    "rows": (fo.Adam, {"lr": 0.5}, {"constraint": fo.UnitNorm(per="row"), "average": 0.5}),
    "all": (fo.Adam, {"lr": 0.1, "amsgrad": True}, {
        "agc": 0.3, "centralize": True, "weight_decay": 0.1, "decoupled": True, "average": 0.5,
        "trust_ratio": True, "constraint": fo.MaxNorm(0.7, per="row"), "maximize": True,
        "zero_grads": True,
    }),
}
every_look = pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)


def both(look, **more):
    """An optimizer and its oracle."""
    cls, hyper, options = look
    case = Case(cls, {})
    return case.ours_with(options | more, **hyper), case.oracle_with(options | more, **hyper)


def assert_same(opt, oracle, params, expected):
    assert_same_bits(opt, oracle, params, expected)
    assert_same_averages(opt, oracle)


def updates(look, shapes, dtype, n=2, layout=np.copy, of_grads=np.copy):
    """Update with random gradients, every array in its layout; all bits must be the oracle's."""
    rng = np.random.default_rng(3)
    opt, oracle = both(look)
    expected = arrays(rng, shapes, dtype)
    params = {key: layout(p) for key, p in expected.items()}
    for _ in range(n):
        grads = arrays(rng, shapes, dtype)
        given = {key: of_grads(g) for key, g in grads.items()}
        opt.update(params, given)
        oracle.update(expected, grads)
        assert_same(opt, oracle, params, expected)
        assert_same_arrays(given, grads, "grads")
    return opt, params


# ---------------------------------------------------------------- sizes, layouts, threads

SIZES = (0, 1, 31, 32, 33, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 5000)
SHAPES = [
    (), (2, 1), (1, 1), (3, 0), (0, 3), (3, 255), (3, 513), (511, 3), (2, 3, 300), (3, 1, 2, 40),
    (1, 3, 1, 5), (2, 1030), (1030, 2),
    *[(n,) for n in SIZES], *[(1, n) for n in SIZES], *[(n, 1) for n in SIZES],
]


@every_dtype
@every_look
def test_any_size(look, dtype):
    """At the edges of tiles, blocks and pieces; all in one update."""
    updates(look, {shape: shape for shape in SHAPES}, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_look
def test_any_layout(look, layout):
    """A key for every layout that the gradient may have, and tiles that end within a row."""
    rng = np.random.default_rng(5)
    opt, oracle = both(look)
    dtype = F32 if layout in ("C", "axes 1 0 2", "packed record") else F64
    expected = arrays(rng, dict.fromkeys(LAYOUTS, (3, 7, 40)), dtype)
    params = {key: LAYOUTS[layout](p) for key, p in expected.items()}
    for _ in range(2):
        grads = arrays(rng, dict.fromkeys(LAYOUTS, (3, 7, 40)), dtype)
        given = {key: LAYOUTS[key](g) for key, g in grads.items()}
        opt.update(params, given)
        oracle.update(expected, grads)
        assert_same(opt, oracle, params, expected)
        assert_same_arrays(given, grads, "grads")


@every_look
def test_a_new_array_of_another_layout_under_an_old_key(look):
    rng = np.random.default_rng(6)
    opt, oracle = both(look)
    expected = arrays(rng, {"x": (3, 7, 40)}, F64)
    params = copies(expected)
    for layout in [*LAYOUTS.values(), np.copy]:
        params["x"] = layout(params["x"])
        grads = arrays(rng, {"x": (3, 7, 40)}, F64)
        opt.update(params, copies(grads))
        oracle.update(expected, grads)
        assert_same(opt, oracle, params, expected)


# Gradients of a and b that lie on what is written.
ALIASES = {
    "the other": lambda a, b: {"a": b, "b": a},
    "itself, turned": lambda a, b: {"a": a[::-1], "b": b[:, ::-1]},
    "one for both": lambda a, b: {"a": a, "b": a},
}


@pytest.mark.parametrize("gradients", ALIASES.values(), ids=ALIASES)
@every_look
def test_a_gradient_that_lies_on_a_parameter(look, gradients):
    rng = np.random.default_rng(7)
    opt, oracle = both(look, zero_grads=False)
    expected = arrays(rng, {"a": (30, 41), "b": (30, 41)}, F64)
    params = {"a": expected["a"].copy(), "b": in_fortran_order(expected["b"])}
    for _ in range(2):
        oracle.update(expected, copies(gradients(**expected)))
        opt.update(params, gradients(**params))
        assert_same(opt, oracle, params, expected)


@pytest.mark.parametrize("name", ["trust_ratio", "columns"])
def test_another_shape_under_the_key_of_a_rule_without_state(name):
    opt, oracle = both(LOOKS[name])
    rng = np.random.default_rng(10)
    for shape in ((30, 41), (3, 4), (60, 50), (7,), ()):
        expected = arrays(rng, {"x": shape}, F32)
        params = {"x": in_fortran_order(expected["x"])}
        grads = arrays(rng, {"x": shape}, F32)
        opt.update(params, copies(grads))
        oracle.update(expected, grads)
        assert_same(opt, oracle, params, expected)


@pytest.mark.parametrize("of_grads", [np.copy, in_fortran_order], ids=["C", "F"])
@every_look
def test_any_number_of_threads(look, of_grads, threads):
    """Tensors larger than a window of keys, and than what one thread sums; small ones between."""
    shapes = {"b": (3,), "W": (300, 450), "c": (33, 7), "V": (450, 2, 150), "d": (1025,)}
    updates(look, shapes, F32 if of_grads is np.copy else F64, n=1, of_grads=of_grads)


@every_look
def test_the_order_of_keys_changes_no_bit(look):
    cls, hyper, options = look
    options = {name: x for name, x in options.items() if name != "clip_norm"}
    shapes = {"a": (40, 30), "b": (7,), "c": (300, 9), "d": ()}
    opt, params = updates((cls, hyper, options), shapes, F32)
    other, turned = updates((cls, hyper, options), shapes, F32)
    rng = np.random.default_rng(8)
    grads = arrays(rng, shapes, F32)
    opt.update(params, copies(grads))
    other.update(dict(reversed(turned.items())), copies(grads))
    assert_same_bits(opt, other, params, turned)


@every_look
def test_both_dtypes_numbers_and_keys_without_gradient_in_one_update(look):
    rng = np.random.default_rng(9)
    opt, oracle = both(look)
    expected = arrays(rng, {"W": (9, 40), "y": ()}, F64) | arrays(rng, {"V": (40, 30)}, F32)
    expected |= {"z": np.array(2.0)} | arrays(rng, {"U": (12, 5)}, F64)
    params = copies(expected) | {"y": float(expected["y"]), "z": float(expected["z"])}
    params["U"] = np.asfortranarray(params["U"])
    params = {"none": np.ones((2, 3))} | params
    for _ in range(3):
        grads = {
            key: np.array(rng.standard_normal(p.shape), p.dtype) for key, p in expected.items()
        }
        given = copies(grads) | {"none": None, "y": float(grads["y"]), "z": float(grads["z"])}
        given["U"] = in_fortran_order(grads["U"])
        opt.update(params, given)
        oracle.update(expected, grads)
        seen = {key: np.array(p) for key, p in params.items() if key != "none"}
        assert_same(opt, oracle, seen, expected)
    assert type(params["y"]) is float
    assert (params["none"] == 1).all()


# ---------------------------------------------------------------- gradients of rows


def step_of_rows(opt, oracle, p, rows, sums, key="E"):
    """Update the touched rows of a table by the oracle, as a small table of its own."""
    tables = {slot: getattr(oracle, slot) for slot in opt.kernels[opt.kernel]}
    if opt.average is not None:
        tables["average_of"] = oracle.average_of
    whole = {}
    for name, table in tables.items():
        whole[name] = table.get(key, p.copy() if name == "average_of" else np.zeros_like(p))
        table[key] = whole[name][rows]
    few = {key: p[rows]}
    oracle.update(few, {key: sums})
    p[rows] = few[key]
    for name, table in tables.items():
        whole[name][rows] = table[key]
        table[key] = whole[name]


OF_ROWS = {name: look for name, look in LOOKS.items() if name != "columns"}
every_look_at_rows = pytest.mark.parametrize("look", OF_ROWS.values(), ids=OF_ROWS)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(60, 5), (40, 16), (9, 1500), (20, 4, 7), (60, 1)], ids=str)
@every_look_at_rows
def test_rows_are_a_small_tensor(look, shape, order):
    """Norms are those of the touched rows; rows that come twice are summed first."""
    rng = np.random.default_rng(1)
    dtype = F32 if shape[0] > 20 else F64
    opt, oracle = both(look)
    expected = arrays(rng, {"E": shape}, dtype)
    params = {"E": expected["E"].copy(order=order)}
    for count in (7, 40, 12):
        index, values = random_rows(rng, shape, dtype, count)
        rows, sums = summed_rows(index, values)
        assert len(rows) > 1
        step_of_rows(opt, oracle, expected["E"], rows, sums)
        opt.update(params, {"E": fo.Rows(index, values)})
        assert_same(opt, oracle, params, expected)
        assert opt.zero_grads == (not values.any())


@pytest.mark.parametrize("name", ["agc", "trust_ratio", "LAMB", "LARS"])
def test_rows_of_a_vector(name):
    rng = np.random.default_rng(2)
    opt, oracle = both(LOOKS[name])
    expected = arrays(rng, {"E": (3000,)}, F32)
    params = copies(expected)
    for _ in range(3):
        index, values = random_rows(rng, (3000,), F32, 1500)
        rows, sums = summed_rows(index, values)
        step_of_rows(opt, oracle, expected["E"], rows, sums)
        opt.update(params, {"E": fo.Rows(index, values)})
        assert_same(opt, oracle, params, expected)


@every_look_at_rows
def test_rows_on_any_number_of_threads(look, threads):
    rng = np.random.default_rng(4)
    opt, oracle = both(look)
    expected = arrays(rng, {"E": (3000, 50)}, F32)
    params = copies(expected)
    index, values = random_rows(rng, (3000, 50), F32, 4000)
    rows, sums = summed_rows(index, values)
    step_of_rows(opt, oracle, expected["E"], rows, sums)
    opt.update(params, {"E": fo.Rows(index, values)})
    assert_same(opt, oracle, params, expected)


def test_one_row_has_columns_of_one_element():
    """The table is a matrix however many of its rows have come."""
    params = {"E": np.full((3, 2), 2.0)}
    fo.SGD(lr=1.0, agc=0.25).update(params, {"E": fo.Rows([1], np.array([[4.0, 0.25]]))})
    np.testing.assert_array_equal(params["E"], [[2, 2], [1.5, 1.75], [2, 2]])


@pytest.mark.parametrize("look", [LOOKS["trust_ratio"], LOOKS["LAMB"]], ids=["SGD", "LAMB"])
def test_elements_of_a_sparse_matrix_have_a_norm(look):
    rng = np.random.default_rng(5)
    dense = np.where(rng.random((40, 30)) < 0.2, rng.standard_normal((40, 30)), 0)
    (opt, _), (same, _) = both(look), both(look)
    params = {"E": rng.standard_normal((40, 30))}
    flat = {"E": params["E"].ravel().copy()}
    index = np.flatnonzero(dense)
    for _ in range(2):
        opt.update(params, {"E": sp.csr_array(dense)})
        same.update(flat, {"E": fo.Rows(index, dense.ravel()[index])})
        assert_same_array(params["E"].ravel(), flat["E"], "E")


SPARSE = sp.csr_array(np.array([[0, 1.0], [0, 0], [2.0, 0]]))
ROWS = fo.Rows([0, 2], np.ones((2, 2)))
# Each: options, the shape of E, its gradient, and what the error says.
UNKNOWN = {
    "agc of elements": ({"agc": 0.1}, (3, 2), SPARSE, r"agc needs whole rows, and grads\['E'\] is"),
    "means of elements": (
        {"centralize": True}, (3, 2), SPARSE, r"centralize needs whole rows, .* fastoptim.Rows, or"
    ),
    "column norms of rows": (
        {"constraint": fo.MaxNorm(1)}, (3, 2), ROWS, r"MaxNorm\(1.0\) is on the norm of whole colu"
    ),
    "unit norms of rows": (
        {"constraint": "unit_norm"}, (3, 2), ROWS, "norms of rows are possible, with fastoptim.Row"
    ),
    "row norms of elements": (
        {"constraint": fo.UnitNorm("row")}, (3, 2), SPARSE, "on the norm of whole rows, and grads"
    ),
    "the norm of a vector": (
        {"constraint": fo.MaxNorm(1, "row")}, (3,), fo.Rows([0], np.ones(1)),
        "on the norm of all elements of a tensor with one axis",
    ),
}


@pytest.mark.parametrize("row", UNKNOWN.values(), ids=UNKNOWN)
def test_what_some_rows_do_not_say(row):
    options, shape, grad, text = row
    opt, params = fo.Momentum(**options), {"b": np.ones((2, 2)), "E": np.ones(shape)}
    opt.update(params, {"b": np.ones((2, 2)), "E": None})
    before = copies(params) | {"v": opt.v["b"].copy()}
    with pytest.raises(TypeError, match=text):
        opt.update(params, {"b": np.ones((2, 2)), "E": grad})
    assert_same_arrays(params | {"v": opt.v["b"]}, before, "params")
    assert (opt.iter, set(opt.v)) == (1, {"b"})
    off = dict.fromkeys(options, None) | ({"centralize": False} if "centralize" in options else {})
    free = fo.Momentum(**options, groups=[fo.Group("E", **off)])
    free.update(params, {"b": np.ones((2, 2)), "E": grad})
    assert free.iter == 1


# ---------------------------------------------------------------- with other options


def test_a_group_has_its_own():
    """And those of other groups are as they would be alone."""
    of_groups = {
        "a": {"agc": None}, "b": {"trust_ratio": False}, "c": {"constraint": fo.MaxNorm(0.3)},
        "d": {"trust_ratio": (0.0, 0.5), "constraint": None, "centralize": True}, "e": {},
    }
    options = {
        "agc": 0.2, "trust_ratio": True, "constraint": "unit_norm", "weight_decay": 0.1,
        "decoupled": True,
    }
    rng = np.random.default_rng(0)
    groups = [fo.Group(key, **own) for key, own in of_groups.items() if own]
    opt = fo.Adam(**options, groups=groups)
    oracles = {
        key: Staged(ORACLES["Adam"](), **(options | own)) for key, own in of_groups.items()
    }
    expected = arrays(rng, dict.fromkeys(of_groups, (30, 41)), F64)
    params = copies(expected)
    for _ in range(3):
        grads = arrays(rng, dict.fromkeys(of_groups, (30, 41)), F64)
        opt.update(params, grads)
        for key, oracle in oracles.items():
            oracle.update({key: expected[key]}, {key: grads[key]})
        assert_same_arrays(params, expected, "params")


@pytest.mark.parametrize("cls", [fo.SGD, fo.Adam, fo.Momentum])
def test_schedules(cls):
    """Of the rate that steps are measured by, and of agc, which may turn it off.

    At a rate of 0 only velocity is left, which nothing measures.
    """
    rng = np.random.default_rng(1)
    rates, shares = [0.5, 0.0, 0.01, 0.2], [0.3, None, 0.05, 0.2]
    options = {"trust_ratio": True, "weight_decay": 0.1, "decoupled": True}
    opt = cls(lr=rates.__getitem__, agc=shares.__getitem__, **options)
    oracle = Staged(ORACLES[cls.__name__](), **options)
    expected = arrays(rng, {"W": (30, 41), "b": (9,)}, F64)
    params = copies(expected)
    for rate, share in zip(rates, shares, strict=True):
        grads = arrays(rng, {"W": (30, 41), "b": (9,)}, F64)
        oracle.lr, oracle.agc = rate, share
        oracle.oracle.lr = rate
        opt.update(params, grads)
        oracle.update(expected, grads)
        assert_same_bits(opt, oracle, params, expected)


@pytest.mark.parametrize("layout", [np.copy, in_fortran_order], ids=["C", "F"])
@every_look
def test_a_soft_batch_is_one_update_with_the_mean(look, layout):
    rng = np.random.default_rng(2)
    opt, oracle = both(look, zero_grads=False)
    expected = arrays(rng, {"W": (30, 41), "b": (600,)}, F32)
    params = {key: layout(p) for key, p in expected.items()}
    soft = fo.SoftBatch(opt, every=3)
    for _ in range(2):
        batch = [arrays(rng, {"W": (30, 41), "b": (600,)}, F32) for _ in range(3)]
        for grads in batch:
            soft.update(params, grads)
        first, second, third = batch
        mean = {key: F32(1 / 3) * (g + second[key] + third[key]) for key, g in first.items()}
        oracle.update(expected, mean)
        assert_same(opt, oracle, params, expected)


@every_look_at_rows
def test_a_soft_batch_of_rows(look):
    rng = np.random.default_rng(3)
    opt, oracle = both(look, zero_grads=False)
    expected = arrays(rng, {"E": (40, 9)}, F64)
    params = copies(expected)
    soft = fo.SoftBatch(opt, every=2)
    parts = [random_rows(rng, (40, 9), F64, 12) for _ in range(2)]
    of_each = [summed_rows(*part) for part in parts]
    rows, sums = summed_rows(*(np.concatenate(x) for x in zip(*of_each, strict=True)))
    for part in parts:
        soft.update(params, {"E": fo.Rows(*part)})
    step_of_rows(opt, oracle, expected["E"], rows, 0.5 * sums)
    assert_same(opt, oracle, params, expected)


def test_an_average_is_of_projected_parameters():
    """Also a mean whose key has had fewer updates than the optimizer."""
    opt = fo.SGD(lr=0.5, constraint="unit_norm", average="mean", trust_ratio=True, agc=1.0)
    params = {"a": np.array([3.0, 4.0]), "b": np.array([3.0, 4.0])}
    seen = {"a": [], "b": []}
    for step in range(4):
        of_b = None if step in (0, 2) else np.array([0.5, -1.0])
        opt.update(params, {"a": np.array([1.0, 2.0]), "b": of_b})
        for key in ("a", "b") if of_b is not None else ("a",):
            seen[key].append(params[key].copy())
            assert np.linalg.norm(params[key]) == pytest.approx(1, rel=1e-15)
    for key, points in seen.items():
        np.testing.assert_allclose(opt.average_of[key], np.mean(points, axis=0), rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_look
def test_gradients_that_are_not_finite(look, bad):
    """As NumPy goes on with them; left out; or refused."""
    rng = np.random.default_rng(4)
    shapes = {"W": (6, 300), "b": (7,)}
    wrong = arrays(rng, shapes, F64)
    wrong["W"][2, 17] = bad
    for how in ("propagate", "skip", "raise"):
        opt, oracle = both(look)
        opt.nonfinite = how
        expected = arrays(rng, shapes, F64)
        params = copies(expected)
        grads = arrays(rng, shapes, F64)
        opt.update(params, copies(grads))
        oracle.update(expected, copies(grads))
        if how == "propagate":
            with np.errstate(all="ignore"):
                oracle.update(expected, copies(wrong))
            opt.update(params, copies(wrong))
        elif how == "skip":
            opt.update(params, copies(wrong))
        else:
            with pytest.raises(FloatingPointError, match=r"grads\['W'\]\[2, 17\]"):
                opt.update(params, copies(wrong))
        assert (opt.iter, opt.skipped) == (2 if how == "propagate" else 1, how == "skip")
        assert_same(opt, oracle, params, expected)


@pytest.mark.parametrize("make", [np.copy, in_fortran_order, strided, "rows"])
def test_gradients_whose_squares_float64_does_not_hold(make):
    """agc names the key, and changes nothing; so it does for one unit among others."""
    opt, params = fo.Momentum(agc=0.1), {"a": np.ones((2, 3)), "b": np.ones((2, 3))}
    opt.update(params, {"a": np.ones((2, 3)), "b": np.ones((2, 3))})
    before = copies(params) | {"va": opt.v["a"].copy(), "vb": opt.v["b"].copy()}
    g = np.ones((2, 3))
    g[1, 2] = 1e200
    huge = fo.Rows([0, 1], g) if make == "rows" else make(g)
    with pytest.raises(FloatingPointError, match=r"grads\['b'\] is finite, but its squares are"):
        opt.update(params, {"a": np.ones((2, 3)), "b": huge})
    after = params | {"va": opt.v["a"], "vb": opt.v["b"]}
    assert_same_arrays(after, before, "params")
    assert opt.iter == 1


# Where a norm is 0 there is nothing to be in proportion to: options, p and g, and p afterwards.
ZEROS = {
    "trust ratio of a zero parameter": ({"trust_ratio": True}, 0.0, 4.0, -2.0),
    "trust ratio of a zero gradient": ({"trust_ratio": True}, 3.0, 0.0, 3.0),
    "bounds of a ratio that is not there": ({"trust_ratio": (3, 9)}, 0.0, 4.0, -2.0),
    "agc of a zero parameter": ({"agc": 500.0}, 0.0, 4.0, -0.25),
    "agc of a zero gradient": ({"agc": 0.1}, 3.0, 0.0, 3.0),
    "unit norm of zeros": ({"constraint": "unit_norm"}, 0.0, 0.0, 0.0),
    "largest norm of zeros": ({"constraint": fo.MaxNorm(1)}, 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize("row", ZEROS.values(), ids=ZEROS)
@every_dtype
def test_norms_of_zero(row, dtype):
    options, p, g, after = row
    params = {"x": np.array([p, 0], dtype)}
    fo.SGD(lr=0.5, **options).update(params, {"x": np.array([g, 0], dtype)})
    np.testing.assert_array_equal(params["x"], np.array([after, 0], dtype), strict=True)


def test_lars_where_a_norm_is_0():
    for p, g, after in ((0.0, 4.0, -2.0), (3.0, 0.0, 3.0)):
        params = {"x": np.array([p, 0])}
        fo.LARS(lr=0.5).update(params, {"x": np.array([g, 0])})
        np.testing.assert_array_equal(params["x"], [after, 0])


@every_look
def test_a_rate_of_zero_moves_nothing_but_into_bounds(look):
    opt, _ = both(look)
    opt.lr = 0.0
    opt.constraint = None
    params = arrays(np.random.default_rng(6), {"W": (30, 41)}, F64)
    before = copies(params)
    opt.update(params, arrays(np.random.default_rng(7), {"W": (30, 41)}, F64))
    np.testing.assert_array_equal(params["W"], before["W"])


@every_dtype
@every_look
def test_subnormal_numbers_and_huge_ones(look, dtype):
    """With "keep" they are NumPy's; norms are the same with "flush"."""
    tiny = float(np.finfo(dtype).tiny)
    p = np.array([[1.0, 0, tiny / 4], [2.0, -tiny / 8, 3.0]], dtype)
    g = np.array([[tiny / 2, 1.0, 0], [0.5, tiny / 4, -1.0]], dtype)
    opt, oracle = both(look)
    params, expected = {"x": p.copy()}, {"x": p.copy()}
    for scale in (1.0, 1e30, 1e-30):
        grads = {"x": dtype(scale) * g}
        opt.update(params, copies(grads))
        with np.errstate(all="ignore"):
            oracle.update(expected, grads)
        assert_same(opt, oracle, params, expected)


def test_norms_have_subnormal_numbers_also_where_they_are_flushed():
    """Ten thousand of them are longer than the one element that is not subnormal."""
    g = np.full(10_001, F32(1.1e-38))
    g[0] = 5e-37
    params, opt = {"x": np.zeros_like(g)}, fo.SGD(lr=1.0, agc=6e-34)
    try:
        opt.denormals = "flush"
    except ValueError:
        assert opt.denormals == "keep"      # a processor without the mode
    opt.update(params, {"x": g})
    assert params["x"][0] == pytest.approx(-g[0] * 6e-37 / np.linalg.norm(g.astype(F64)), rel=1e-6)


@every_look
def test_on_and_off_again_in_other_layouts(look):
    """What was made for an option is not in the way of the bare rule, nor of the option later."""
    _, _, options = look
    opt, oracle = both(look)
    off = {name: getattr(both((look[0], look[1], {}))[0], name) for name in options}
    rng = np.random.default_rng(8)
    expected = arrays(rng, {"W": (30, 41)}, F64)
    params = copies(expected)
    for k, now in enumerate((options, off, options, off)):
        params["W"] = [np.copy, in_fortran_order][k // 2](params["W"])
        oracle.average_of = {} if now.get("average") is None else oracle.average_of
        for name, value in now.items():
            setattr(opt, name, value)
            setattr(oracle, name, value)
        grads = arrays(rng, {"W": (30, 41)}, F64)
        opt.update(params, copies(grads))
        oracle.update(expected, grads)
        assert_same_bits(opt, oracle, params, expected)


# Norms so small that float32 does not hold their inverse: options, p, g.
SMALL = {
    "a step": ({"trust_ratio": True}, [1, 0, 2], [1e-42, 0, 1e-43]),
    "a parameter": ({"constraint": "unit_norm"}, [1e-42, 0, 1e-43], [0, 0, 0]),
    "a row": ({"constraint": fo.UnitNorm(per="row")}, [[1e-42, 0], [3, 4]], [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize("row", SMALL.values(), ids=SMALL)
def test_factors_stay_finite(row):
    options, p, g = row
    opt, oracle = fo.SGD(lr=0.5, **options), Staged(ORACLES["SGD"](lr=0.5), **options)
    params, expected = {"x": np.array(p, F32)}, {"x": np.array(p, F32)}
    grads = {"x": np.array(g, F32)}
    for _ in range(3):
        oracle.update(expected, copies(grads))
        opt.update(params, copies(grads))
        assert_same(opt, oracle, params, expected)
        assert np.isfinite(params["x"]).all()
    if "constraint" in options:
        np.testing.assert_allclose(np.linalg.norm(params["x"], axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("how", ["F", "rows"])
def test_steps_larger_than_a_cache(how):
    """64 MiB of them, whose rows begin anywhere in memory."""
    shape = (33_000, 514) if how == "rows" else (4097, 4099)
    params = {"x": np.ones(shape, F32)}
    g = np.ones(shape, F32)
    grad = fo.Rows(np.arange(shape[0]), g, unique=True) if how == "rows" else g.T.copy().T
    fo.SGD(lr=0.5, trust_ratio=True).update(params, {"x": grad})
    assert params["x"].min() == params["x"].max() == 0.5


# ---------------------------------------------------------------- numbers as parameters


def assert_same_state(a, b):
    """Two states of optimizers, to the bit."""
    assert a.keys() == b.keys()
    for key, x in a.items():
        if isinstance(x, dict):
            assert_same_state(x, b[key])
        elif isinstance(x, np.ndarray):
            assert_same_array(x, b[key], key)
        else:
            assert x == b[key], key


class Sealed(dict):
    """A dict that takes no number below zero."""

    def __setitem__(self, key, value):
        if np.ndim(value) == 0 and value < 0:
            raise OSError("sealed")
        super().__setitem__(key, value)


@every_look
def test_a_number_that_cannot_be_put_back(look):
    """It is found out after the number's own norms, and nothing else has changed."""
    opt, oracle = both(look, constraint=None, maximize=False)
    params = Sealed(W=np.ones((5, 40)), x=0.5, b=np.ones(3))
    expected = {key: np.array(p) for key, p in params.items()}
    calm = {"W": np.ones((5, 40)), "x": -1.0, "b": np.ones(3)}
    opt.lr = oracle.lr = 40.0
    opt.agc = oracle.agc = None
    for owner in (oracle, getattr(oracle, "oracle", oracle)):
        owner.lr = 40.0
    opt.update(params, {key: np.array(g) for key, g in calm.items()})
    oracle.update(expected, {key: np.array(g) for key, g in calm.items()})
    steep = calm | {"x": 1e9}
    for _ in range(20):
        kept = copy.deepcopy(opt.state_dict()), {k: np.array(p) for k, p in params.items()}
        try:
            opt.update(params, {key: np.array(g) for key, g in steep.items()})
        except OSError:
            break
        oracle.update(expected, {key: np.array(g) for key, g in steep.items()})
    else:
        raise AssertionError("no number below zero")
    assert_same_arrays({k: np.array(p) for k, p in params.items()}, kept[1], "params")
    assert_same_state(opt.state_dict(), kept[0])
    now = {key: np.array(p) for key, p in params.items()}
    assert_same(opt, oracle, now, expected)
