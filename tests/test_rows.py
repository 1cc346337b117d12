"""Gradients of some rows: the touched rows get the dense update, the others nothing at all."""

import copy
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import (
    OF_ELEMENTS,
    OPTIONS,
    arrays,
    assert_same_array,
    assert_same_averages,
    assert_same_bits,
    bytes_at_peak,
    bytes_kept,
    copies,
    every_class_by_element,
    every_dtype,
    every_rule_by_element,
    random_rows,
    read_only,
    summed_rows,
    use_threads,
)
from reference import global_norm

import fastoptim as fo
from fastoptim.kernels import use

F32, F64 = np.float32, np.float64
SHAPES = [(60,), (60, 1), (50, 3), (40, 15), (40, 16), (30, 100), (9, 2500), (20, 4, 7), (5, 0)]


def lazily(case, opt, oracle, params, key, rows, sums):
    """The dense update with zeros elsewhere, and everything elsewhere put back."""
    p = params[key]
    before = {slot: np.full_like(p, start) for slot, start in case.starts_of_slots(opt).items()}
    before["average_of"] = p.copy()
    for slot in before:
        held = getattr(oracle, slot, {})
        if key in held:
            before[slot] = held[key].copy()
    p_before = p.copy()
    dense = np.zeros_like(p)
    dense[rows] = sums
    oracle.update({key: p}, {key: dense})
    others = np.ones(len(p), bool)
    others[rows] = False
    p[others] = p_before[others]
    for slot in before:
        held = getattr(oracle, slot, {})
        if key in held:
            held[key][others] = before[slot][others]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_dtype
@every_rule_by_element
def test_touched_rows_get_the_dense_update(case, dtype, shape):
    rng = np.random.default_rng(0)
    expected = arrays(rng, {"E": shape}, dtype)
    params = copies(expected)
    opt, oracle = case.ours_with({}), case.oracle_with({})
    for r in (7, 0, 1, 25, 80):
        index, values = random_rows(rng, shape, dtype, r)
        rows, sums = summed_rows(index, values)
        with np.errstate(all="ignore"):
            lazily(case, opt, oracle, expected, "E", rows, sums)
        index_before, values_before = index.copy(), values.copy()
        opt.update(params, {"E": fo.Rows(index, values)})
        assert_same_bits(opt, oracle, params, expected)
        assert_same_array(values, values_before, "values")
        np.testing.assert_array_equal(index, index_before)
    assert opt.iter == 5


@pytest.mark.parametrize("options", OF_ELEMENTS.values(), ids=OF_ELEMENTS)
@every_dtype
@every_class_by_element
def test_every_option(case, dtype, options):
    """Of one parameter, all of whose other rows are zero: then the norm is that of the rows."""
    rng = np.random.default_rng(1)
    expected = arrays(rng, {"E": (32, 32)}, dtype)      # one block, each row the lanes of a norm
    params = {"E": expected["E"].copy()}
    opt, oracle = case.ours_with(options), case.oracle_with(options)
    for _ in range(4):
        index, values = random_rows(rng, (32, 32), dtype, 20)
        rows, sums = summed_rows(index, values)
        lazily(case, opt, oracle, expected, "E", rows, sums)
        opt.update(params, {"E": fo.Rows(index, values)})
        assert_same_bits(opt, oracle, params, expected)
        assert_same_averages(opt, oracle)
        if opt.zero_grads:
            assert not values.any()


@pytest.mark.parametrize("shape", [(500,), (300, 5), (200, 33), (40, 2000), (20, 4, 7)], ids=str)
@pytest.mark.parametrize("how", ["in order", "shuffled", "unique"])
@pytest.mark.parametrize("name", ["none", "all with clip_value", "all with clip_norm"])
@every_class_by_element
def test_rows_that_cover_the_table_are_the_dense_update(case, name, how, shape):
    rng = np.random.default_rng(2)
    options = OPTIONS.get(name, {}) | {"nonfinite": "skip"}
    by_rows = arrays(rng, {"E": shape, "b": (3,)}, F32)
    dense = copies(by_rows)
    one, other = case.ours_with(options), case.ours_with(options)
    for _ in range(3):
        grads = arrays(rng, {"E": shape, "b": (3,)}, F32)
        order = np.arange(shape[0]) if how == "in order" else rng.permutation(shape[0])
        rows = fo.Rows(order, grads["E"][order], unique=how == "unique")
        one.update(by_rows, {"E": rows, "b": grads["b"].copy()})
        other.update(dense, grads)
        assert_same_bits(one, other, by_rows, dense)


@every_dtype
@every_class_by_element
def test_no_thread_count_and_no_instruction_set_changes_a_bit(case, dtype, threads, isa):
    rng = np.random.default_rng(3)
    start = arrays(rng, {"E": (5000, 40)}, dtype)
    index, values = random_rows(rng, (5000, 40), dtype, 6000)
    index[:1500] = 3                                     # more than one thread's share
    params, opt = copies(start), case.ours(clip_norm=5.0)
    alone, twin = copies(start), case.ours(clip_norm=5.0)
    for _ in range(2):
        opt.update(params, {"E": fo.Rows(index, values)})
    use("baseline")
    use_threads(1)
    for _ in range(2):
        twin.update(alone, {"E": fo.Rows(index, values)})
    assert_same_bits(opt, twin, params, alone)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("layout", ["C", "Fortran", "backwards", "not aligned"])
def test_rows_and_dense_agree_in_any_layout(layout, clip_norm):
    rng = np.random.default_rng(15)
    for _ in range(20):
        start, g = rng.standard_normal((300, 40)), rng.standard_normal((300, 40))
        plain = {"E": start.copy()}
        fo.SGD(clip_norm=clip_norm).update(plain, {"E": g})
        for grad in (fo.Rows(np.arange(300), g), layouts(g)[layout]):
            params = {"E": layouts(start)[layout]}
            fo.SGD(clip_norm=clip_norm).update(params, {"E": grad})
            assert_same_array(params["E"], plain["E"], "E")


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_unique_and_order_change_no_bit(clip_norm):
    rng = np.random.default_rng(4)
    index = rng.permutation(1000)[:300]
    values = rng.standard_normal((300, 33))
    results = []
    for order in (np.arange(300), np.argsort(index), rng.permutation(300)):
        for unique in (False, True):
            params, opt = {"E": np.ones((1000, 33))}, fo.Adam(clip_norm=clip_norm)
            opt.update(params, {"E": fo.Rows(index[order], values[order], unique=unique)})
            results.append((params["E"], opt.m["E"], opt.v["E"]))
    for result in results:
        for a, b in zip(result, results[0], strict=True):
            assert_same_array(a, b, "E")


def test_the_norm_is_that_of_the_summed_rows():
    rng = np.random.default_rng(5)
    index, values = random_rows(rng, (400, 33), F32, 700)
    rows, sums = summed_rows(index, values)
    params, other = {"E": np.zeros((400, 33), F32)}, {"E": np.zeros((400, 33), F32)}
    fo.SGD(lr=1.0, clip_norm=2.0).update(params, {"E": fo.Rows(index, values)})
    factor = F32(2.0 / global_norm({"E": sums}))
    other["E"][rows] -= factor * sums
    assert_same_array(params["E"], other["E"], "E")


INTEGERS = [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, ">i4"]
INDICES = {np.dtype(kind).str: np.array([7, 3, 7, 0], kind) for kind in INTEGERS} | {
    "list": [7, 3, 7, 0],
    "strided": np.repeat([7, 3, 7, 0], 3)[::3],
    "read-only": read_only(np.array([7, 3, 7, 0])),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_any_integers_will_do_as_an_index(index):
    params = {"x": np.zeros(9)}
    fo.SGD(lr=1.0).update(params, {"x": fo.Rows(index, np.array([1.0, 2.0, 4.0, 8.0]))})
    np.testing.assert_array_equal(params["x"], [-8, 0, 0, -2, 0, 0, 0, -5, 0])


def layouts(a):
    """The same numbers in memory of every shape, by name."""
    every_second_row = np.zeros((2 * a.shape[0], a.shape[1] + 3), a.dtype)[::2, 1:-2]
    every_second_row[...] = a
    not_aligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    not_aligned[...] = a
    with warnings.catch_warnings(action="ignore"):
        matrix = np.asmatrix(a.copy())
    return {
        "C": a.copy(),
        "Fortran": np.asfortranarray(a),
        "every second row of a wider table": every_second_row,
        "backwards": a[::-1].copy()[::-1],
        "backwards in both": a[::-1, ::-1].copy()[::-1, ::-1],
        "not aligned": not_aligned,
        "matrix": matrix,
    }


@pytest.mark.parametrize("options", OF_ELEMENTS.values(), ids=OF_ELEMENTS)
@every_class_by_element
def test_any_layout_of_parameter_and_values(case, options):
    rng = np.random.default_rng(6)
    start = arrays(rng, {"E": (40, 20)}, F32)["E"]
    batches = [random_rows(rng, (40, 20), F32, r) for r in (30, 0, 9)]
    plain, flat = case.ours_with(options), {"E": start.copy()}
    for index, values in batches:
        plain.update(flat, {"E": fo.Rows(index, values.copy())})
    for name, table in layouts(start).items():
        opt, params = case.ours_with(options), {"E": table}
        for index, values in batches:
            given = layouts(values)[name]
            opt.update(params, {"E": fo.Rows(index, given)})
            if opt.zero_grads:
                assert not np.asarray(given).any()
        assert_same_bits(opt, plain, params, flat)
        assert_same_averages(opt, plain)


def test_the_same_table_by_rows_and_as_a_whole():
    """One step count, one state, however a gradient comes."""
    rng = np.random.default_rng(7)
    expected = arrays(rng, {"E": (30, 20)}, F64)
    params = {"E": expected["E"].copy()}
    opt, whole = fo.Adam(), fo.Adam()
    for step in range(6):
        g = arrays(rng, {"E": (30, 20)}, F64)
        whole.update(expected, g)
        opt.update(params, {"E": fo.Rows(np.arange(30), g["E"])} if step % 2 else g)
        assert_same_bits(opt, whole, params, expected)


def test_step_counts_are_the_parameters():
    """Also where a step touches nothing: Adam's third step is its third for every row."""
    params, opt = {"E": np.zeros((3, 1)), "x": np.zeros(1)}, fo.Adam(lr=1.0)
    none = fo.Rows([], np.zeros((0, 1)))
    opt.update(params, {"E": none, "x": np.ones(1)})
    opt.update(params, {"E": none, "x": None})
    np.testing.assert_array_equal(params["E"], 0)
    opt.update(params, {"E": fo.Rows([1], np.ones((1, 1))), "x": np.ones(1)})
    assert opt.iter == 3
    p, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    fo.kernels.step("adam", p, np.ones(1), (m, v), opt.coefficients(3))
    np.testing.assert_array_equal(params["E"], [[0], p, [0]])
    assert opt.state_dict()["parameters"]["x"]["updates"] == 2


def test_groups_and_schedules():
    params = {"in.E": np.zeros((4, 2)), "out.E": np.zeros((4, 2))}
    opt = fo.SGD(lr=lambda t: 1.0 + t, groups=[fo.Group("out.*", lr=10.0)])
    for _ in range(2):
        opt.update(params, {key: fo.Rows([2, 2], np.ones((2, 2))) for key in params})
    np.testing.assert_array_equal(params["in.E"][2], -6.0)
    np.testing.assert_array_equal(params["out.E"][2], -40.0)


def test_lists_of_arrays():
    params = [np.zeros((3, 2)), np.zeros(2)]
    fo.SGD(lr=1.0).update(params, [fo.Rows([1], np.ones((1, 2))), np.ones(2)])
    np.testing.assert_array_equal(params[0], [[0, 0], [-1, -1], [0, 0]])


def test_values_in_the_table_itself():
    """A gradient that lies on the parameter is read before anything is written."""
    for index in ([0, 1, 2], [2, 0, 1], [1, 1, 2]):
        table = np.arange(12.0).reshape(4, 3) + 1
        apart = {"E": table.copy()}
        rows, sums = summed_rows(np.array(index), table[1:].copy())
        apart["E"][rows] -= sums
        fo.SGD(lr=1.0).update({"E": table}, {"E": fo.Rows(index, table[1:])})
        assert_same_array(table, apart["E"], "E")


def test_checkpoints_go_on_to_the_bit(tmp_path):
    rng = np.random.default_rng(8)
    batches = [random_rows(rng, (50, 20), F32, 30) for _ in range(6)]
    params, opt = {"E": np.ones((50, 20), F32)}, fo.Adam()
    expected, twin = {"E": np.ones((50, 20), F32)}, fo.Adam()
    for batch, (index, values) in enumerate(batches):
        if batch == 3:
            opt.save(tmp_path / "state")
            opt = fo.Adam()
            opt.load(tmp_path / "state")
        opt.update(params, {"E": fo.Rows(index, values)})
        twin.update(expected, {"E": fo.Rows(index, values)})
    assert_same_bits(opt, twin, params, expected)


def test_memory_is_that_of_the_rows():
    """Neither a dense gradient nor a copy of the table."""
    params, opt = {"E": np.zeros((200_000, 64), F32)}, fo.SGD()
    rows = fo.Rows(np.arange(100)[::-1] % 50, np.ones((100, 64), F32))

    def update():
        opt.update(params, {"E": rows})

    update()
    assert bytes_at_peak(update) < 100_000
    assert bytes_kept(update) < 100_000


# ---------------------------------------------------------------- errors


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


MAKING = {
    "floats": (lambda: fo.Rows(np.array([1.0]), ones(1, 2)), TypeError,
               "index must be of integers, got float64"),
    "a mask": (lambda: fo.Rows(np.array([True, False]), ones(2, 2)), TypeError,
               r"index must be of integers, got bool; np.flatnonzero\(index\) gives the rows"),
    "text": (lambda: fo.Rows(["a"], ones(1, 2)), TypeError, "index must be of integers, got <U1"),
    "floats, none of them": (lambda: fo.Rows(np.zeros(0), ones(0, 2)), TypeError,
                             "index must be of integers, got float64"),
    "masked": (lambda: fo.Rows(np.ma.array([1, 2], mask=[0, 1]), ones(2, 2)), TypeError,
               r"index is a masked array; pass index.compressed\(\)"),
    "two axes": (lambda: fo.Rows([[1], [2]], ones(2, 2)), ValueError,
                 r"index must be one-dimensional, got shape \(2, 1\)"),
    "a number": (lambda: fo.Rows(3, ones(1, 2)), ValueError, r"one-dimensional, got shape \(\)"),
    "fewer values": (lambda: fo.Rows([1, 2, 3], ones(2, 2)), ValueError,
                     r"index has 3 row numbers, but values has 2 rows \(shape \(2, 2\)\)"),
    "a list": (lambda: fo.Rows([1], [[1.0]]), TypeError,
               "values must be a NumPy array, got list"),
    "0-d values": (lambda: fo.Rows([1], np.array(1.0)), ValueError, "must have a first axis"),
    "unique": (lambda: fo.Rows([1], ones(1, 2), unique=1), TypeError,
               "unique must be True or False, got 1"),
}


@pytest.mark.parametrize("row", MAKING.values(), ids=MAKING)
def test_rows_that_cannot_be(row):
    make, error, text = row
    with pytest.raises(error, match=text):
        make()


def sparse(shape=(4, 2), dtype=F32):
    return sp.csr_array(np.eye(*shape, dtype=dtype))


def with_coordinate(axis, value):
    coo = sparse().tocoo()
    coo.coords[axis][-1] = value
    return coo


def bounded(*bounds):
    csr = sparse()
    csr.indptr = np.array(bounds, np.int32)
    return csr


def floating_indices():
    csr = sparse()
    csr.indices = csr.indices + 0.25
    return csr


def broken_coo():
    """One row for three columns, which NumPy would broadcast."""
    coo = sparse((4, 2)).tocoo()
    coo.coords = (coo.coords[0][:1], coo.coords[1])
    return coo


def changed(form, **parts):
    """A sparse array, two of whose elements are stored, with other parts put in."""
    g = sparse().asformat(form)
    for name, value in parts.items():
        setattr(g, name, value)
    return g


NO_BOUNDS = r"grads\['E'\]\.indptr does not bound 4 rows or columns of 2 indices and 2 data in"
# E (4, 2), x (5,) and s () are float32
REFUSED = {
    "beyond": ("E", fo.Rows([0, 4], ones(2, 2)), IndexError,
               r"grads\['E'\].index\[1\] is 4, but the parameter has 4 rows"),
    "negative": ("E", fo.Rows([-1], ones(1, 2)), IndexError,
                 r"grads\['E'\].index\[0\] is -1; rows are counted from 0, up to 3"),
    "beyond any": ("E", fo.Rows(np.array([2**64 - 1], np.uint64), ones(1, 2)), IndexError,
                   "is 18446744073709551615, but the parameter has 4 rows"),
    "duplicates": ("E", fo.Rows([1, 3, 1], ones(3, 2), unique=True), ValueError,
                   r"grads\['E'\].index has row 1 twice, at 0 and 2, but unique=True"),
    "duplicates in order": ("E", fo.Rows([1, 1], ones(2, 2), unique=True), ValueError,
                            r"row 1 twice, at 0 and 1"),
    "row shape": ("E", fo.Rows([1], ones(1, 3)), ValueError,
                  r"grads\['E'\].values has rows of shape \(3,\), but a row of params\['E'\] "
                  r"\(shape \(4, 2\)\) has shape \(2,\)"),
    "flat values": ("E", fo.Rows([1], ones(1)), ValueError, r"rows of shape \(\)"),
    "values too deep": ("x", fo.Rows([1], ones(1, 1)), ValueError, r"rows of shape \(1,\)"),
    "a number has no rows": ("s", fo.Rows([0], ones(1)), ValueError, "is a number and has no rows"),
    "dtype": ("E", fo.Rows([1], ones(1, 2, dtype=F64)), TypeError,
              r"grads\['E'\].values is float64, but params\['E'\] is float32; convert"),
    "integers": ("E", fo.Rows([1], np.ones((1, 2), int)), TypeError,
                 r"grads\['E'\].values must be float32 or float64, got int64"),
    "byte order": ("E", fo.Rows([1], ones(1, 2, dtype=">f4")), TypeError, "byte order"),
    "masked": ("E", fo.Rows([1], np.ma.ones((1, 2), F32)), TypeError, "masked array"),
    "sparse shape": ("E", sparse((2, 4)), ValueError,
                     r"grads\['E'\] has shape \(2, 4\), but params\['E'\] has shape \(4, 2\)"),
    "sparse dtype": ("E", sparse(dtype=F64), TypeError, r"grads\['E'\].data is float64"),
    "sparse integers": ("E", sparse(dtype=int), TypeError, r"grads\['E'\].data must be float32"),
    "sparse format": ("E", sparse().todok(), TypeError,
                      r"grads\['E'\] is sparse in the format 'dok'; pass grads\['E'\].tocsr\(\)"),
    "sparse row": ("E", with_coordinate(0, 4), IndexError,
                   r"index along axis 0 that is not in \[0, 4\)"),
    "sparse column": ("E", with_coordinate(1, -1), IndexError,
                      r"index along axis 1 that is not in \[0, 2\)"),
    "sparse bounds, too far": ("E", bounded(0, 100_000_000, 2, 2, 2), ValueError, NO_BOUNDS),
    "sparse bounds, end": ("E", bounded(0, 1, 2, 2, 3), ValueError, NO_BOUNDS),
    "sparse bounds, few": ("E", bounded(0, 1, 2), ValueError, NO_BOUNDS),
    "sparse bounds, start": ("E", bounded(1, 1, 2, 2, 2), ValueError, NO_BOUNDS),
    "sparse bounds, order": ("E", bounded(0, 2, 1, 2, 2), ValueError, NO_BOUNDS),
    "sparse bounds, negative": ("E", bounded(0, -5, 2, 2, 2), ValueError, NO_BOUNDS),
    "sparse, floats": ("E", floating_indices(), TypeError,
                       r"index along axis 1 of float64, not integers"),
    "sparse, one row": ("E", broken_coo(), ValueError, r"indices for .* values; one of the two"),
    "sparse, data with two axes": ("E", changed("csr", data=ones(3, 2)), ValueError,
                                   r"grads\['E'\]\.data must be one-dimensional, got shape \(3,"),
    "sparse, data without elements": ("E", changed("csr", data=ones(2, 0)), ValueError,
                                      r"\.data must be one-dimensional, got shape \(2, 0\)"),
    "sparse, data longer": ("E", changed("csr", data=ones(3)), ValueError,
                            r"grads\['E'\] has 2 indices for 3 data; one of the two arrays was"),
    "sparse columns, data longer": ("E", changed("csc", data=ones(3)), ValueError,
                                    r"has 2 indices for 3 data"),
    "sparse, fewer data": ("E", changed("csr", data=ones(1)), ValueError, "does not bound"),
    "coordinates, data with two axes": ("E", changed("coo", data=ones(2, 2)), ValueError,
                                        r"\.data must be one-dimensional"),
    "sparse, list": ("E", changed("csr", indices=[0, 1]), TypeError,
                     r"grads\['E'\]\.indices must be an array of integers, got list; convert it: "
                     r"np\.asarray\(grads\['E'\]\.indices, np\.intp\)"),
    "sparse, list of bounds": ("E", changed("csr", indptr=[0, 1, 2, 2, 2]), TypeError,
                               r"grads\['E'\]\.indptr must be an array of integers, got list"),
    "sparse, bounds of floats": ("E", changed("csr", indptr=np.array([0, 1, 2, 2, 2.0])), TypeError,
                                 r"grads\['E'\]\.indptr must be of integers, got float64; convert"),
    "sparse, bounds with two axes": ("E", changed("csr", indptr=np.zeros((5, 1), int)), ValueError,
                                     r"\.indptr must be one-dimensional, got shape \(5, 1\)"),
    "sparse, indices with two axes": ("E", changed("csr", indices=np.zeros((2, 1), int)),
                                      ValueError, r"\.indices must be one-dimensional"),
    "three coordinates": ("E", changed("coo", coords=(np.array([0, 1]),) * 3), ValueError,
                          r"grads\['E'\]\.coords are 3 arrays, but params\['E'\] has 2 axes"),
    "coordinates in a list": ("E", changed("coo", coords=([0, 1], np.array([0, 1]))), TypeError,
                              r"grads\['E'\]\.coords\[0\] must be an array of integers, got list"),
    "a pair": ("E", ([1], ones(1, 2)), TypeError, r"grads\['E'\] must be a NumPy array"),
}


def bits_and_state(opt, params):
    return {key: p.tobytes() for key, p in params.items()}, repr(opt.state_dict())


@pytest.mark.parametrize("updates", [0, 2])
@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
@every_class_by_element
def test_refused_and_nothing_changed(case, row, updates):
    key, grad, error, text = row
    params = {"a": ones(2), "E": ones(4, 2), "x": ones(5), "s": np.ones((), F32), "z": ones(2)}
    good = {k: np.ones_like(p) for k, p in params.items()}
    opt = case.ours()
    for _ in range(updates):
        opt.update(params, good)
    before = bits_and_state(opt, params)
    with pytest.raises(error, match=text):
        opt.update(params, good | {key: grad})
    assert bits_and_state(opt, params) == before
    opt.update(params, good | {"E": fo.Rows([3, 0, 3], ones(3, 2))})    # and goes on
    assert opt.iter == updates + 1


def test_not_finite():
    values = ones(3, 2)
    values[1, 1] = np.nan
    params = {"E": ones(4, 2)}
    with pytest.raises(FloatingPointError, match=r"grads\['E'\].values\[1, 1\] is nan"):
        fo.SGD(nonfinite="raise").update(params, {"E": fo.Rows([2, 0, 2], values)})
    opt = fo.SGD(nonfinite="skip")
    opt.update(params, {"E": fo.Rows([2, 0, 2], values)})
    assert (opt.iter, opt.skipped) == (0, 1)
    huge = np.full((2, 2), 3e38, F32)
    with pytest.raises(FloatingPointError, match=r"\.values is finite, but the sum"):
        fo.SGD(nonfinite="raise").update(params, {"E": fo.Rows([1, 1], huge)})
    with pytest.raises(FloatingPointError, match=r"grads\['E'\].data\[0\] is inf"):
        fo.SGD(nonfinite="raise").update(params, {"E": sparse() * F32(np.inf)})
    assert (params["E"] == 1).all()


@pytest.mark.parametrize("what", ["values", "data"])
def test_zeroing_what_cannot_be_written(what):
    grad = fo.Rows([1, 0], ones(2, 2)) if what == "values" else sparse()
    getattr(grad, what).flags.writeable = False
    params = {"E": ones(4, 2)}
    with pytest.raises(ValueError, match=rf"grads\['E'\]\.{what} is read-only"):
        fo.SGD(zero_grads=True).update(params, {"E": grad})
    table = ones(4, 2)
    with pytest.raises(ValueError, match=r"grads\['E'\]\.values .*share memory|share memory"):
        fo.SGD(zero_grads=True).update({"E": table}, {"E": fo.Rows([1, 0], table[:2])})
    assert (table == 1).all()


def test_an_index_that_another_thread_changes_is_checked_as_it_is_used():
    """What is walked is a copy: the array may be anything the moment after."""
    index = np.array([1, 0])

    class Meanwhile(fo.SGD):
        def coefficients(self, t):          # called when all gradients have been checked
            index[:] = [3, 2]
            return super().coefficients(t)

    for unique in (False, True):
        index[:] = [1, 0]
        params = {"E": ones(4, 2)}
        Meanwhile(lr=1.0).update(params, {"E": fo.Rows(index, ones(2, 2), unique)})
        np.testing.assert_array_equal(params["E"], [[0, 0], [0, 0], [1, 1], [1, 1]])
    index[:] = 10**9
    with pytest.raises(IndexError, match="is 1000000000"):
        fo.SGD().update({"E": ones(4, 2)}, {"E": fo.Rows(index, ones(2, 2))})


def test_an_index_that_was_resized_is_refused():
    index, coo = np.array([1, 0]), sparse().tocoo()
    rows = fo.Rows(index, ones(2, 2))
    index.resize(3, refcheck=False)
    coo.data = coo.data[:1]
    for grad in (rows, coo):
        with pytest.raises(ValueError, match="indices for .* values; one of the two"):
            fo.SGD().update({"E": ones(4, 2)}, {"E": grad})


def test_rows_says_what_it_is():
    rows = fo.Rows([1, 1], ones(2, 3))
    assert repr(rows) == "Rows(2 rows, float32 (2, 3), unique=False)"
    with pytest.raises(AttributeError):
        rows.index = np.array([1])
    with pytest.raises(AttributeError):
        rows.indices = np.array([1])        # misspelt


# ---------------------------------------------------------------- sparse arrays


def formats(coo):
    """One sparse array in every form that is taken, duplicates and no order included."""
    coordinates = [np.tile(c, 2) for c in coo.coords]
    twice = sp.coo_array((np.tile(coo.data, 2), coordinates), coo.shape)
    forms = {"coo": coo, "coo with duplicates": twice}
    if coo.ndim == 2:
        forms |= {
            "csr": coo.tocsr(), "csc": coo.tocsc(), "csr_matrix": sp.csr_matrix(coo),
            "coo_matrix": sp.coo_matrix(coo),
        }
    return forms


@pytest.mark.parametrize("shape", [(50, 4), (7, 300), (90,)], ids=str)
@every_dtype
@every_rule_by_element
def test_sparse_arrays_are_rows_of_one_element(case, dtype, shape):
    rng = np.random.default_rng(9)
    start = arrays(rng, {"W": shape}, dtype)["W"]
    dense = np.where(rng.random(shape) < 0.3, rng.standard_normal(shape), 0).astype(dtype)
    for name, g in formats(sp.coo_array(dense)).items():
        opt, params = case.ours(), {"W": start.copy()}
        same, flat = case.ours(), {"W": start.reshape(-1).copy()}
        index = np.flatnonzero(dense)
        values = dense.reshape(-1)[index]
        if name == "coo with duplicates":
            values = values + values
        for _ in range(3):
            opt.update(params, {"W": g})
            same.update(flat, {"W": fo.Rows(index, values)})
        assert_same_array(params["W"].reshape(-1), flat["W"], name)
        for slot in case.slots:
            assert_same_array(getattr(opt, slot)["W"].reshape(-1), getattr(same, slot)["W"], name)


@pytest.mark.parametrize("rule", [fo.SGD, fo.AdaGrad, fo.FTRL])
def test_where_zeros_change_nothing_sparse_is_dense(rule):
    rng = np.random.default_rng(10)
    dense = np.where(rng.random((60, 9)) < 0.2, rng.standard_normal((60, 9)), 0)
    one, other = {"W": np.zeros((60, 9))}, {"W": np.zeros((60, 9))}
    a, b = rule(), rule()
    for _ in range(3):
        a.update(one, {"W": sp.csr_array(dense)})
        b.update(other, {"W": dense})
    assert_same_bits(a, b, one, other)


def test_sparse_with_other_layouts_and_zeroing():
    g = sp.csr_array(np.array([[0, 1.0], [2.0, 0], [0, 3.0]]))
    params = {"W": np.zeros((2, 3)).T}
    fo.SGD(lr=1.0, zero_grads=True).update(params, {"W": g})
    np.testing.assert_array_equal(params["W"], [[0, -1], [-2, 0], [0, -3]])
    assert not g.data.any()


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        (sp.csr_array, [[0, 1.0], [2.0, 0], [0, 3.0]]),
        (sp.csc_array, [[0, 1.0], [2.0, 0], [0, 3.0]]),
        (sp.csr_array, [0, 2.0, 0, 1.0]),
    ],
    ids=["csr", "csc", "1-D"],
)
def test_what_lies_behind_a_sparse_array_is_not_of_it(form, numbers):
    """Data beyond the last bound are room, to SciPy too."""
    dense = np.array(numbers)
    g = form(dense)
    g.data = np.append(g.data, [5.0, 5.0])
    g.indices = np.append(g.indices, [1, 1]).astype(g.indices.dtype)
    np.testing.assert_array_equal(g.toarray(), dense)
    params = {"W": np.zeros_like(dense)}
    fo.SGD(lr=1.0, zero_grads=True).update(params, {"W": g})
    np.testing.assert_array_equal(params["W"], -dense)
    assert not g.data.any()


# ---------------------------------------------------------------- soft batches


every_soft_option = pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.5}, {"weight_decay": 0.1}], ids=str
)


def random_sparse(rng, shape, dtype):
    """A table most of whose elements are zero."""
    return np.where(rng.random(shape) < 0.1, rng.standard_normal(shape), 0).astype(dtype)


@every_soft_option
@every_dtype
@every_class_by_element
def test_a_soft_batch_of_rows_is_one_update(case, dtype, options):
    rng = np.random.default_rng(11)
    shape, every = (40, 20), 5
    params = arrays(rng, {"E": shape, "b": (3,)}, dtype)
    expected = copies(params)
    opt, whole = case.ours_with(options), case.ours_with(options)
    soft = fo.SoftBatch(opt, every=every)
    for _ in range(2):
        total, touched, biases = np.zeros(shape, dtype), np.zeros(40, bool), np.zeros(3, dtype)
        for _ in range(every):
            index, values = random_rows(rng, shape, dtype, int(rng.integers(0, 30)))
            b = arrays(rng, {"b": (3,)}, dtype)["b"]
            soft.update(params, {"E": fo.Rows(index, values), "b": b})
            rows, sums = summed_rows(index, values)
            total[rows] += sums
            touched[rows] = True
            biases += b
        rows, factor = np.flatnonzero(touched), dtype(1 / every)
        whole.update(expected, {"E": fo.Rows(rows, total[rows] * factor), "b": biases * factor})
        assert_same_bits(opt, whole, params, expected)


@every_soft_option
@every_dtype
@every_class_by_element
def test_a_soft_batch_of_sparse_arrays_is_one_update(case, dtype, options):
    rng = np.random.default_rng(11)
    shape, every = (40, 20), 5
    params = arrays(rng, {"E": shape, "b": (3,)}, dtype)
    expected = copies(params)
    opt, whole = case.ours_with(options), case.ours_with(options)
    soft = fo.SoftBatch(opt, every=every)
    for _ in range(2):
        total, touched, biases = np.zeros(shape, dtype), np.zeros(shape, bool), np.zeros(3, dtype)
        for _ in range(every):
            dense = random_sparse(rng, shape, dtype)
            b = arrays(rng, {"b": (3,)}, dtype)["b"]
            soft.update(params, {"E": sp.csr_array(dense), "b": b})
            total += dense
            touched |= dense != 0
            biases += b
        places, factor = np.nonzero(touched), dtype(1 / every)
        mean = sp.coo_array((total[places] * factor, places), shape)
        whole.update(expected, {"E": mean, "b": biases * factor})
        assert_same_bits(opt, whole, params, expected)


def test_a_soft_batch_of_rows_that_cover_the_table_is_dense():
    rng = np.random.default_rng(12)
    one, other = {"E": np.ones((30, 20), F32)}, {"E": np.ones((30, 20), F32)}
    a, b = fo.SoftBatch(fo.Adam(), every=3), fo.SoftBatch(fo.Adam(), every=3)
    for _ in range(6):
        g = arrays(rng, {"E": (30, 20)}, F32)["E"] * F32(-1)     # with negative zeros
        order = rng.permutation(30)
        a.update(one, {"E": fo.Rows(order, g[order])})
        b.update(other, {"E": g})
    assert_same_bits(a.opt, b.opt, one, other)


@pytest.mark.parametrize("first", ["rows", "dense"])
def test_rows_and_dense_in_one_soft_batch(first):
    """The sum is dense then."""
    rng = np.random.default_rng(13)
    params, expected = {"E": np.ones((30, 20))}, {"E": np.ones((30, 20))}
    soft, whole = fo.SoftBatch(fo.Adam(), every=4, reduce="sum"), fo.Adam()
    for _ in range(2):
        total = np.zeros((30, 20))
        for k in range(4):
            if (k % 2 == 0) == (first == "rows"):
                index, values = random_rows(rng, (30, 20), F64, 25)
                rows, sums = summed_rows(index, values)
                total[rows] += sums
                soft.update(params, {"E": fo.Rows(index, values)})
            else:
                g = rng.standard_normal((30, 20))
                total += g
                soft.update(params, {"E": g})
        whole.update(expected, {"E": total})
        assert_same_bits(soft.opt, whole, params, expected)


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 20), (5, 3, 4)], ids=str)
@pytest.mark.parametrize("first", ["rows", "sparse"])
def test_rows_and_sparse_in_one_soft_batch(first, shape):
    """Single elements are then what was touched, whole rows of them included."""
    rng = np.random.default_rng(14)
    params, expected = {"E": np.ones(shape)}, {"E": np.ones(shape)}
    soft, whole = fo.SoftBatch(fo.Adam(), every=5, reduce="sum"), fo.Adam()
    for _ in range(2):
        total, touched = np.zeros(shape), np.zeros(shape, bool)
        for k in range(5):
            if (k % 2 == 0) == (first == "rows"):
                index, values = random_rows(rng, shape, F64, 4)
                rows, sums = summed_rows(index, values)
                total[rows] += sums
                touched[rows] = True
                soft.update(params, {"E": fo.Rows(index, values)})
            else:
                dense = random_sparse(rng, shape, F64)
                total += dense
                touched |= dense != 0
                soft.update(params, {"E": sp.coo_array(dense)})
        places = np.nonzero(touched)
        whole.update(expected, {"E": sp.coo_array((total[places], places), shape)})
        assert_same_bits(soft.opt, whole, params, expected)


def through_a_file(soft, path):
    new = fo.SoftBatch(fo.Adam(), every=4)
    soft.save(path)
    new.load(path)
    return new


def through_a_dict(soft, path):
    new = fo.SoftBatch(fo.Adam(), every=4)
    new.load_state_dict(soft.state_dict())
    return new


def through_a_copy(soft, path):
    return copy.deepcopy(soft)


def batches_of_rows(rng):
    return [fo.Rows(*random_rows(rng, (30, 20), F32, 25)) for _ in range(8)]


def batches_of_elements(rng):
    return [sp.csr_array(random_sparse(rng, (30, 20), F32)) for _ in range(8)]


@pytest.mark.parametrize("stop", [2, 5, 7])
@pytest.mark.parametrize("batches", [batches_of_rows, batches_of_elements])
@pytest.mark.parametrize("through", [through_a_file, through_a_dict, through_a_copy])
def test_a_soft_batch_of_rows_is_kept(tmp_path, through, batches, stop):
    params, soft = {"E": np.ones((30, 20), F32)}, fo.SoftBatch(fo.Adam(), every=4)
    expected, twin = {"E": np.ones((30, 20), F32)}, fo.SoftBatch(fo.Adam(), every=4)
    for batch, grad in enumerate(batches(np.random.default_rng(14))):
        if batch == stop:
            soft = through(soft, tmp_path / "soft")
        soft.update(params, {"E": grad})
        twin.update(expected, {"E": grad})
    assert soft.opt.iter == 2
    assert_same_bits(soft.opt, twin.opt, params, expected)


def test_a_soft_batch_refuses_rows_at_once():
    params, soft = {"E": ones(4, 2)}, fo.SoftBatch(fo.SGD(lr=1.0), every=2)
    soft.update(params, {"E": fo.Rows([1, 1], ones(2, 2))})
    for bad in (fo.Rows([4], ones(1, 2)), fo.Rows([1], ones(1, 3)), sparse((2, 4))):
        with pytest.raises((IndexError, ValueError)):
            soft.update(params, {"E": bad})
    assert soft.pending == 1
    soft.update(params, {"E": fo.Rows([1], ones(1, 2))})
    np.testing.assert_array_equal(params["E"], [[1, 1], [-0.5, -0.5], [1, 1], [1, 1]])


@pytest.mark.parametrize("shape", [(5, 2), (2, 4), (8,)], ids=str)
@pytest.mark.parametrize("grad", [fo.Rows([1], ones(1, 2)), sparse()], ids=["rows", "sparse"])
def test_a_soft_batch_is_not_flushed_into_another_table(grad, shape):
    params, other = {"E": ones(4, 2)}, {"E": ones(*shape)}
    soft = fo.SoftBatch(fo.SGD(lr=1.0), every=3)
    soft.update(params, {"E": grad})
    with pytest.raises(ValueError, match=r"is float32 \(.*\), but was float32 \(4, 2\) earlier"):
        soft.flush(other)
    assert (other["E"] == 1).all()
    assert soft.pending == 1
    assert soft.flush()
    assert not (params["E"] == 1).all()


def test_a_soft_batch_zeroes_values():
    values, params = ones(2, 2), {"E": ones(4, 2)}
    soft = fo.SoftBatch(fo.SGD(zero_grads=True), every=2)
    soft.update(params, {"E": fo.Rows([1, 1], values)})
    assert not values.any()
    soft.discard()
    soft.update(params, {"E": fo.Rows([0], ones(1, 2))})
    soft.flush()
    assert (params["E"][1] == 1).all()


@pytest.mark.parametrize("damage", [
    {"index": np.array([9.0])}, {"index": np.array([-1.0])}, {"index": np.array([0.5])},
    {"index": None}, {"values": np.ones((1, 3), F32)}, {"values": None}, {"shape": (1,)},
])
def test_a_damaged_state_of_rows_is_refused(damage):
    soft = fo.SoftBatch(fo.SGD(), every=3)
    soft.update({"E": ones(4, 2)}, {"E": fo.Rows([1], ones(1, 2))})
    saved = soft.state_dict()
    saved["rows"]["E"] |= damage
    with pytest.raises(ValueError, match="sum of 'E'"):
        fo.SoftBatch(fo.SGD(), every=3).load_state_dict(saved)


@every_class_by_element
def test_every_optimizer_takes_rows(case):
    params = {"E": ones(4, 2)}
    case.cls().update(params, {"E": fo.Rows([1], ones(1, 2))})
    assert (params["E"][[0, 2, 3]] == 1).all()
    assert (params["E"][1] != 1).all()


@pytest.mark.parametrize("soft", [False, True], ids=["update", "soft batch"])
@every_rule_by_element
def test_rows_without_elements_between_other_keys(case, soft, isa):
    expected = {"a": np.ones(2), "E": np.zeros((3, 0)), "b": np.ones(2)}
    params = copies(expected)
    opt, twin = case.ours(), case.ours()
    update = fo.SoftBatch(opt, every=1).update if soft else opt.update
    for index in ([1], [0, 2, 0], []):
        grads = {"a": np.ones(2), "E": fo.Rows(index, np.zeros((len(index), 0))), "b": np.ones(2)}
        update(params, grads)
        twin.update(expected, grads | {"E": np.zeros((3, 0))})
        for key in params:
            assert_same_array(params[key], expected[key], key)
    assert opt.iter == 3


@pytest.mark.parametrize("slot", ["v", "average_of"])
@pytest.mark.parametrize("shape", [(3000,), (3000, 1), (1, 3000), (100, 30)], ids=str)
def test_another_shape_given_to_a_state_array(slot, shape):
    """It is the user's own view that has it: a table that is gathered row by row is safe."""
    expected = {"a": np.ones((30, 200))[:, ::2]}
    params = {"a": np.ones((30, 200))[:, ::2]}
    opt, twin = (fo.Momentum(average=0.5) for _ in range(2))
    for step in range(4):
        grads = {"a": fo.Rows([3, 1, 29], np.full((3, 100), step + 1.0))}
        opt.update(params, grads)
        twin.update(expected, grads)
        getattr(opt, slot)["a"].shape = shape
    assert_same_array(params["a"], expected["a"], "a")
    for name in ("v", "average_of"):
        assert_same_array(getattr(opt, name)["a"].ravel(), getattr(twin, name)["a"].ravel(), name)
    copy.deepcopy(opt).update(params, grads)
    assert opt.state_dict()["parameters"]["a"]["state"]["v"].shape == (30, 100)


@pytest.mark.parametrize("rows", [False, True])
def test_state_arrays_are_live(rows):
    params = {"a": np.zeros((4, 6))[:, ::2]}
    grads = {"a": fo.Rows([2], np.zeros((1, 3))) if rows else np.zeros((4, 3))}
    opt = fo.Momentum(alpha=0.5)
    opt.update(params, grads)
    assert np.shares_memory(opt.v["a"], opt.v["a"])
    opt.v["a"][...] = 8.0
    opt.update(params, grads)
    assert (params["a"][2] == 4.0).all()
    assert (opt.v["a"][2] == 4.0).all()
    opt.load_state_dict(opt.state_dict())
    opt.v["a"][...] = 2.0
    opt.update(params, grads)
    assert (params["a"][2] == 5.0).all()
