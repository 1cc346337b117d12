"""Sparse gradients of the usual kind take a compiled way; what is unusual takes the other."""

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import assert_same_array, assert_same_bits, every_dtype, read_only

import fastoptim as fo
from fastoptim.kernels.update import intake

FORMS = [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.csc_matrix]
SHAPES = [(1, 90), (90, 1), (7, 30), (5, 0), (0, 5)]
KINDS = [(sp.csr_array, (90,)), *product(FORMS, SHAPES)]
WIDTHS = [np.int32, np.int64]


class OwnCSR(sp.csr_array):
    """A class of somebody else's, whose parts may be anything."""


def compressed(form, values, minor, bounds, shape, width=np.int32):
    """A sparse array of these very parts: SciPy neither sorts nor converts them."""
    g = form(shape, dtype=values.dtype)
    g.data, g.indices, g.indptr = values, np.asarray(minor, width), np.asarray(bounds, width)
    return g


def random_parts(rng, n_major, n_minor, dtype):
    """Rows of random length, some empty: their places in no order, a few of them twice."""
    counts = rng.integers(0, 6, n_major) if n_minor else np.zeros(n_major, int)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    minor = rng.integers(0, max(n_minor, 1), bounds[-1])
    return rng.standard_normal(bounds[-1]).astype(dtype), minor, bounds


@pytest.fixture
def no_other_way(monkeypatch):
    """Refuse the way of unusual gradients."""
    real = intake.row_grad

    def refuse(key, g, *rest):
        assert isinstance(g, fo.Rows), "this gradient is as usual"
        return real(key, g, *rest)

    monkeypatch.setattr(intake, "row_grad", refuse)


@pytest.fixture
def the_other_way(monkeypatch):
    """Count the gradients that take the way of unusual ones."""
    real, taken = intake.row_grad, []
    monkeypatch.setattr(intake, "row_grad", lambda *a: taken.append(a[0]) or real(*a))
    return taken


def places(columns, n_minor, minor, bounds, shape):
    """The place of each stored element in the parameter, counted in C order."""
    major = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return np.asarray(minor) * shape[-1] + major if columns else major * n_minor + minor


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("form", "shape"), KINDS)
@every_dtype
def test_usual_gradients_are_rows_of_one_element(no_other_way, form, shape, width, dtype):
    """Duplicates and no order included: sums are in the order in which elements are stored."""
    columns = form in (sp.csc_array, sp.csc_matrix)
    n_minor = shape[0] if columns else shape[-1]
    n_major = 1 if len(shape) == 1 else shape[1] if columns else shape[0]
    rng = np.random.default_rng(0)
    opt, params = fo.Adam(lr=0.1), {"W": rng.standard_normal(shape).astype(dtype)}
    same, flat = fo.Adam(lr=0.1), {"W": params["W"].reshape(-1).copy()}
    for _ in range(3):
        values, minor, bounds = random_parts(rng, n_major, n_minor, dtype)
        g = compressed(form, values, minor, bounds, shape, width)
        index = places(columns, n_minor, minor, bounds, shape)
        opt.update(params, {"W": g})
        same.update(flat, {"W": fo.Rows(index, values)})
    assert_same_array(params["W"].reshape(-1), flat["W"], "W")
    for slot in ("m", "v"):
        assert_same_array(getattr(opt, slot)["W"].reshape(-1), getattr(same, slot)["W"], slot)


def test_zeroing_and_room_behind_the_last_bound(no_other_way):
    for values, left in (([1.0, 2.0], []), ([1.0, 2.0, 5.0], [5.0])):
        values = np.array(values)
        minor = [3, 1, 1][:len(values)]
        params = {"w": np.zeros((1, 4))}
        g = compressed(sp.csr_array, values, minor, [0, 2], (1, 4))
        fo.SGD(lr=1.0).update(params, {"w": g})
        np.testing.assert_array_equal(params["w"], [[0, -2, 0, -1]])
        np.testing.assert_array_equal(values, [1.0, 2.0, *left])
        fo.SGD(lr=1.0, zero_grads=True).update(params, {"w": g})
        np.testing.assert_array_equal(params["w"], [[0, -4, 0, -2]])
        assert not values.any()


def test_a_parameter_in_another_layout(no_other_way):
    params = {"W": np.zeros((2, 3)).T}
    g = sp.csr_array(np.array([[0, 1.0], [2.0, 0], [0, 3.0]]))
    fo.SGD(lr=1.0).update(params, {"W": g})
    np.testing.assert_array_equal(params["W"], [[0, -1], [-2, 0], [0, -3]])


def test_data_that_lie_on_the_parameter(no_other_way):
    """The gradient is what stood there before the update."""
    memory = np.arange(1.0, 5.0)
    g = compressed(sp.csr_array, memory[1:3], [3, 1], [0, 2], (4,))
    fo.SGD(lr=1.0).update({"w": memory}, {"w": g})
    np.testing.assert_array_equal(memory, [1, 2 - 3, 3, 4 - 2])


def unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)
    odd = memory[1:].view(a.dtype)
    odd[:] = a
    return odd


def every_second(a):
    return np.repeat(a, 2)[::2]


# the other way: (form, what is done to the parts of the gradient)
UNUSUAL = {
    "a subclass": (OwnCSR, {}),
    "coordinates": (sp.coo_array, {}),
    "values with gaps": (sp.csr_array, {"data": every_second}),
    "indices with gaps": (sp.csr_array, {"indices": every_second}),
    "bounds with gaps": (sp.csr_array, {"indptr": every_second}),
    "values backwards": (sp.csr_array, {"data": lambda a: a[::-1].copy()[::-1]}),
    "values unaligned": (sp.csr_array, {"data": unaligned}),
    "indices unaligned": (sp.csr_array, {"indices": unaligned}),
    "values of a subclass": (sp.csr_array, {"data": lambda a: a.view(np.memmap)}),
    "indices of another byte order": (sp.csr_array, {"indices": lambda a: a.astype(">i4")}),
    "bounds of another byte order": (sp.csr_array, {"indptr": lambda a: a.astype(">i4")}),
    "two widths": (sp.csr_array, {"indices": lambda a: a.astype(np.int64)}),
    "two widths, columns": (sp.csc_array, {"indptr": lambda a: a.astype(np.int64)}),
    "16 bits": (sp.csr_array, {
        "indices": lambda a: a.astype(np.int16), "indptr": lambda a: a.astype(np.int16),
    }),
    "unsigned": (sp.csr_array, {
        "indices": lambda a: a.astype(np.uint32), "indptr": lambda a: a.astype(np.uint32),
    }),
}


@pytest.mark.parametrize("row", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_gradients_give_the_same_bits(the_other_way, row):
    form, parts = row
    rng = np.random.default_rng(1)
    values, minor, bounds = random_parts(rng, 6, 8, np.float64)
    usual = compressed(sp.csr_array, values, minor, bounds, (6, 8))
    usual.sum_duplicates()
    unusual = form(usual)
    for name, change in parts.items():
        setattr(unusual, name, change(getattr(unusual, name)))
    params, twin = {"W": np.ones((6, 8))}, {"W": np.ones((6, 8))}
    opt, same = fo.Adam(), fo.Adam()
    for _ in range(2):
        same.update(twin, {"W": usual})
        assert not the_other_way
        opt.update(params, {"W": unusual})
        assert the_other_way.pop() == "W"
    assert_same_bits(opt, same, params, twin)


BOUNDS = r"grads\['W'\]\.indptr does not bound"
BEYOND = r"grads\['W'\] has an index along axis {} that is not in \[0, {}\)"
# what W (4, 2) and grads cannot be: indices, bounds, error, text
REFUSED = {
    "beyond": ([0, 2], [0, 1, 2, 2, 2], IndexError, BEYOND.format(1, 2)),
    "negative": ([-1, 0], [0, 1, 2, 2, 2], IndexError, BEYOND.format(1, 2)),
    "far beyond": ([0, 2**31 - 1], [0, 1, 2, 2, 2], IndexError, BEYOND.format(1, 2)),
    "too far": ([0, 1], [0, 1, 2, 2, 3], ValueError, BOUNDS),
    "too far, and back": ([0, 1], [0, 2**31 - 1, 2, 2, 2], ValueError, BOUNDS),
    "too few": ([0, 1], [0, 1, 2, 2], ValueError, BOUNDS),
    "too many": ([0, 1], [0, 1, 2, 2, 2, 2], ValueError, BOUNDS),
    "none": ([0, 1], [], ValueError, BOUNDS),
    "start": ([0, 1], [1, 1, 2, 2, 2], ValueError, BOUNDS),
    "negative start": ([0, 1], [-1, 1, 2, 2, 2], ValueError, BOUNDS),
    "order": ([0, 1], [0, 2, 1, 2, 2], ValueError, BOUNDS),
    "negative bound": ([0, 1], [0, -1, 2, 2, 2], ValueError, BOUNDS),
    "more indices": ([0, 1, 1], [0, 1, 2, 2, 2], ValueError, "3 indices for 2 data"),
    "fewer indices": ([0], [0, 1, 1, 1, 1], ValueError, "1 indices for 2 data"),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refused_and_nothing_changed(row, form, width):
    """As a CSR array of W, and as a CSC array of its transpose, where axes change places."""
    minor, bounds, error, text = row
    columns = form is sp.csc_array
    shape = (2, 4) if columns else (4, 2)
    params, opt = {"W": np.ones(shape), "b": np.ones(1)}, fo.Adam()
    g = compressed(form, np.ones(2), minor, bounds, shape, width)
    text = text.replace("axis 1", "axis 0") if columns else text
    for updates in (0, 1):
        before = {key: p.copy() for key, p in params.items()}
        with pytest.raises(error, match=text):
            opt.update(params, {"b": np.ones(1), "W": g})
        assert opt.iter == updates
        assert_same_bits(opt, opt, params, before)
        opt.update(params, {"b": np.ones(1), "W": form(np.eye(*shape))})


def swapped(g):
    """With values of a byte order that this machine has not."""
    g.data = g.data.astype(g.data.dtype.newbyteorder())
    return g


def test_another_shape_or_dtype_than_the_parameters(the_other_way):
    params = {"W": np.ones((4, 2))}
    for g, error, text in (
        (sp.csr_array((2, 4)), ValueError, r"has shape \(2, 4\), but params\['W'\] has shape"),
        (sp.csr_array((4,)), ValueError, r"has shape \(4,\), but params\['W'\] has shape"),
        (sp.csr_array(np.eye(4, 3)[:, [0, 2, 1]] * [1, 0, 1]), ValueError, r"shape \(4, 3\), but"),
        (swapped(sp.csr_array(np.eye(4, 2))), TypeError, r"\.data has dtype .f8, which is"),
        (sp.csr_array((4, 2), dtype=np.float32), TypeError, r"grads\['W'\]\.data is float32, but"),
        (sp.csr_array((4, 2), dtype=complex), TypeError, r"\.data must be float32 or float64"),
    ):
        with pytest.raises(error, match=text):
            fo.SGD().update(params, {"W": g})
        assert the_other_way.pop() == "W"
    assert (params["W"] == 1).all()
    with pytest.raises(ValueError, match=r"has shape \(1, 4\), but params\['w'\] has shape \(4,\)"):
        fo.SGD().update({"w": np.ones(4)}, {"w": sp.csr_array(np.eye(1, 4))})


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_parts_with_two_axes(the_other_way, name):
    g = sp.csr_array(np.eye(4, 2))
    setattr(g, name, getattr(g, name)[:, None])
    params = {"W": np.ones((4, 2))}
    with pytest.raises(ValueError, match=rf"grads\['W'\]\.{name} must be one-dimensional"):
        fo.SGD().update(params, {"W": g})
    assert (params["W"] == 1).all()


def test_a_read_only_gradient_is_fine(no_other_way):
    params = {"w": np.zeros((1, 3))}
    g = compressed(sp.csr_array, read_only(np.ones(2)), [0, 2], [0, 2], (1, 3))
    g.indices, g.indptr = read_only(g.indices), read_only(g.indptr)
    fo.SGD(lr=1.0).update(params, {"w": g})
    np.testing.assert_array_equal(params["w"], [[-1, 0, -1]])
