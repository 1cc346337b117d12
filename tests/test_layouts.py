"""Any layout in memory gives the same bits."""

import numpy as np
import pytest
from helpers import (
    BY_ELEMENT,
    CASES,
    LAYOUTS,
    assert_same_arrays,
    assert_same_bits,
    copies,
    every_dtype,
    every_rule,
    every_rule_by_element,
    every_stateful_rule,
    read_only,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastoptim as fo
from fastoptim import kernels


@pytest.mark.parametrize("param_layout", LAYOUTS)
@every_dtype
@every_rule
def test_every_layout_with_every_other(case, dtype, param_layout):
    """A key for every layout that the gradient may have."""
    rng = np.random.default_rng(5)
    expected = {key: rng.standard_normal((4, 5, 6)).astype(dtype) for key in LAYOUTS}
    params = {key: LAYOUTS[param_layout](p) for key, p in expected.items()}
    mine = params.copy()
    opt, oracle = case.ours(), case.oracle()
    for _ in range(3):
        grads = {key: rng.standard_normal((4, 5, 6)).astype(dtype) for key in LAYOUTS}
        given = {key: LAYOUTS[key](g) for key, g in grads.items()}
        opt.update(params, given)
        oracle.update(expected, grads)
        assert all(np.array_equal(given[key], g) for key, g in grads.items())
    assert all(params[key] is p for key, p in mine.items())
    assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_a_new_array_of_another_layout_under_an_old_key(case):
    rng = np.random.default_rng(6)
    expected = {"x": rng.standard_normal((4, 5, 6))}
    params = {"x": expected["x"].copy()}
    opt, oracle = case.ours(), case.oracle()
    for layout in [*LAYOUTS.values(), np.copy]:
        params["x"] = layout(params["x"])
        g = rng.standard_normal((4, 5, 6))
        opt.update(params, {"x": g})
        oracle.update(expected, {"x": g})
        assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_columns_of_one_table_as_two_parameters(case):
    """Interleaved in memory, but no element shared: allowed, and gradients may alternate too."""
    rng = np.random.default_rng(7)
    start = rng.random((50, 8))
    table = start.copy()
    params = {"a": table[:, :3], "b": table[:, 3:]}
    expected = {"a": start[:, :3].copy(), "b": start[:, 3:].copy()}
    opt, oracle = case.ours(), case.oracle()
    for _ in range(4):
        g = rng.standard_normal((50, 8))
        opt.update(params, {"a": g[:, :3], "b": g[:, 3:]})
        oracle.update(expected, {"a": g[:, :3], "b": g[:, 3:]})
    assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_read_only_gradient(case):
    g = read_only(np.ones(5))
    params, expected = {"x": np.ones(5)}, {"x": np.ones(5)}
    opt, oracle = case.ours(), case.oracle()
    opt.update(params, {"x": g})
    oracle.update(expected, {"x": g})
    assert_same_bits(opt, oracle, params, expected)


@every_rule
def test_stride_0_gradient(case):
    g = np.broadcast_to(np.float64(0.5), (30, 4))
    params, expected = {"x": np.ones((30, 4))}, {"x": np.ones((30, 4))}
    opt, oracle = case.ours(), case.oracle()
    for _ in range(2):
        opt.update(params, {"x": g})
        oracle.update(expected, {"x": g})
    assert_same_bits(opt, oracle, params, expected)


# Gradients of a and b that lie on what is written: on a, on b, or on the room that a is a part of.
ALIASES = {
    "the parameter itself": lambda a, b, room: {"a": a, "b": b},
    "the other parameter": lambda a, b, room: {"a": b, "b": a},
    "itself shifted": lambda a, b, room: {"a": room[1 : 1 + a.size], "b": b},
    "itself reversed": lambda a, b, room: {"a": a[::-1], "b": b},
    "one for both": lambda a, b, room: {"a": a, "b": a},
}


@pytest.mark.parametrize("gradients", ALIASES.values(), ids=ALIASES)
@every_rule
def test_gradient_that_overlaps_a_parameter_is_copied_first(case, gradients):
    rng = np.random.default_rng(8)
    n = 5000
    room = rng.standard_normal(n + 2)
    params = {"a": room[:n], "b": rng.standard_normal(n)}
    expected = copies(params)
    opt, oracle = case.ours(), case.oracle()
    for _ in range(3):
        grads = gradients(params["a"], params["b"], room)
        oracle.update(expected, copies(grads))
        opt.update(params, grads)
        assert_same_bits(opt, oracle, params, expected)


@every_stateful_rule
def test_gradient_that_is_the_optimizers_state(case):
    g = np.random.default_rng(9).random(3000)
    for slot in case.slots:
        params, opt = {"x": np.ones(3000)}, case.ours()
        other, twin = {"x": np.ones(3000)}, case.ours()
        opt.update(params, {"x": g})
        twin.update(other, {"x": g})
        opt.update(params, {"x": getattr(opt, slot)["x"]})
        twin.update(other, {"x": getattr(twin, slot)["x"].copy()})
        assert_same_bits(opt, twin, params, other)


@every_rule
def test_gradients_may_lie_in_one_buffer_and_between_parameters(case):
    rng = np.random.default_rng(10)
    buffer = rng.standard_normal(4000)
    params = {"a": buffer[:1000], "b": buffer[2000:3000]}
    grads = {"a": buffer[1000:2000], "b": buffer[3000:]}
    expected, kept = copies(params), copies(grads)
    opt, oracle = case.ours(), case.oracle()
    for _ in range(3):
        opt.update(params, grads)
        oracle.update(expected, kept)
    assert_same_bits(opt, oracle, params, expected)
    assert_same_arrays(grads, kept, "grads")


def always(x):
    """A property that is x."""
    return property(lambda self: x)


def lying(a, **lies):
    """The same memory as an array that says something of itself that is not so."""
    said = {name: always(x) for name, x in lies.items()}
    return a.view(type("Lying", (np.ndarray,), said))


def honest(a):
    """An array as NumPy sees it, whatever it says of itself."""
    return np.ndarray.view(a, np.ndarray)


class Writeable:
    writeable = aligned = c_contiguous = f_contiguous = True


LIES = {
    "dtype": {"dtype": np.dtype("f4")},
    "byte order": {"dtype": np.dtype("=f8")},
    "shape": {"shape": (50_000,), "ndim": 1},
    "size": {"size": 50_000, "nbytes": 400_000, "itemsize": 8},
    "strides": {"strides": (80_000, 8)},
    "flags": {"flags": Writeable()},
    "view": {"view": None, "reshape": None},
}


@pytest.mark.parametrize("name", LIES)
@every_dtype
@every_rule
def test_what_an_array_says_of_itself_is_not_believed(case, name, dtype):
    """Parameter, gradient and rows that lie, in memory that is right."""
    rng = np.random.default_rng(12)
    layouts = {"a": "C", "b": "F", "c": "C", "d": "every other row"}
    expected = {key: rng.standard_normal((4, 3)).astype(dtype) for key in layouts}
    params = {}
    for key, layout in layouts.items():
        params[key] = lying(LAYOUTS[layout](expected[key]), **LIES[name])
    memory = {key: honest(p) for key, p in params.items()}
    opt, oracle = case.ours(zero_grads=True), case.oracle()
    for _ in range(3):
        grads = {key: rng.standard_normal((4, 3)).astype(dtype) for key in expected}
        given = {key: lying(g.copy(), **LIES[name]) for key, g in grads.items()}
        if case in BY_ELEMENT:
            given["c"] = fo.Rows(np.arange(4), given["c"])
        opt.update(params, given)
        oracle.update(expected, grads)
        assert_same_bits(opt, oracle, memory, expected)


# Half as many bytes as the update would write, or twice as many, or as many of another kind.
every_wrong_dtype = pytest.mark.parametrize("wrong", [np.int32, np.float16, ">f4", "f8", complex])


def said_to_be_float32(shape, dtype):
    return lying(np.ones(shape, dtype), dtype=np.dtype("f4"))


@pytest.mark.parametrize("place", ["parameter", "gradient", "rows"])
@every_wrong_dtype
def test_an_array_that_says_a_dtype_that_is_taken(wrong, place):
    params = {"a": np.ones(5, np.float32), "W": np.ones((5, 1), np.float32)}
    grads = {key: np.ones_like(p) for key, p in params.items()}
    bad, opt = said_to_be_float32((5, 1), wrong), fo.Momentum()
    given, given_grads = dict(params), dict(grads)
    if place == "parameter":
        given["W"] = bad
    elif place == "gradient":
        given_grads["W"] = bad
    else:
        given_grads["W"] = fo.Rows(range(5), bad)
    with pytest.raises(TypeError, match=r"\['W'\].* (must be|has|is) "):
        opt.update(given, given_grads)
    assert (opt.iter, dict(opt.v)) == (0, {})
    assert all((p == 1).all() for p in params.values())
    assert (honest(bad) == 1).all()


@every_wrong_dtype
def test_a_step_with_an_array_that_says_a_dtype_that_is_taken(wrong):
    good, bad = np.ones(5, np.float32), said_to_be_float32(5, wrong)
    for param, grad in [(bad, good), (good, bad)]:
        with pytest.raises(TypeError, match="must be float32|but param is"):
            kernels.step("sgd", param, grad, (), (0.5,))
    assert (good == 1).all()
    assert (honest(bad) == 1).all()


def test_a_read_only_gradient_that_says_it_is_not():
    g = read_only(np.ones(3))
    lies = lying(g, flags=Writeable())
    params = {"W": np.ones(3)}
    for grad in (lies, fo.Rows([0, 1, 2], lies)):
        with pytest.raises(ValueError, match="is read-only, and zero_grads=True writes it"):
            fo.SGD(zero_grads=True).update(params, {"W": grad})
    assert (g == 1).all()
    assert (params["W"] == 1).all()


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@every_rule
def test_matrix(case):
    a = np.arange(6.0).reshape(2, 3)
    params, expected = {"x": np.matrix(a)}, {"x": a.copy()}
    opt, oracle = case.ours(), case.oracle()
    opt.update(params, {"x": np.matrix(a + 1)})
    oracle.update(expected, {"x": a + 1})
    assert type(params["x"]) is np.matrix
    assert_same_bits(opt, oracle, params, expected)
    for slot in opt.state_dict()["parameters"]["x"]["state"]:
        assert type(getattr(opt, slot)["x"]) is np.ndarray


@every_rule
def test_memmap_is_written_through(case, tmp_path):
    path, a = tmp_path / "w.bin", np.arange(3000, dtype=np.float32)
    a.tofile(path)
    params = {"x": np.memmap(path, np.float32, mode="r+")}
    expected = {"x": a.copy()}
    grads = {"x": np.ones(3000, np.float32)}
    opt, oracle = case.ours(), case.oracle()
    opt.update(params, grads)
    oracle.update(expected, grads)
    params["x"].flush()
    assert np.array_equal(np.fromfile(path, np.float32), expected["x"])


def test_memmap_opened_for_reading_is_refused(tmp_path):
    path = tmp_path / "w.bin"
    np.ones(4).tofile(path)
    with pytest.raises(ValueError, match=r"read-only.*'r\+'"):
        CASES[0].ours().update({"x": np.memmap(path, float, mode="r")}, {"x": np.ones(4)})


@every_rule_by_element
def test_state_is_laid_out_like_the_parameter(case):
    p = np.asfortranarray(np.ones((3, 4)))
    opt = case.ours()
    opt.update({"x": p}, {"x": p.copy(order="K")})
    for slot in case.slots:
        state = getattr(opt, slot)["x"]
        assert state.shape == p.shape
        assert state.strides == p.strides
        assert state.flags.writeable


@st.composite
def views(draw, shape):
    """A slicing that picks a view of this shape out of a larger array, and its axes' order."""
    steps = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    starts = [draw(st.integers(0, 2)) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    return steps, starts, order


def picked(n, step, start):
    """The slice of n elements, each a step from the next, whose lowest is at start."""
    if n == 0:
        return slice(0, 0)
    if step > 0:
        return slice(start, start + n * step, step)
    highest = start + (n - 1) * -step
    below = start - 1 if start > 0 else None
    return slice(highest, below, step)


def lay_out(a, view):
    """Copy an array into such a view of a larger one."""
    steps, starts, order = view
    sizes = []
    for n, step, start in zip(a.shape, steps, starts, strict=True):
        sizes.append(start + max(1, n) * abs(step) + 2)
    room = np.full(sizes, np.nan, a.dtype)
    room = room.transpose(order).copy(order="C").transpose(np.argsort(order))
    index = [picked(n, step, s) for n, step, s in zip(a.shape, steps, starts, strict=True)]
    out = room[(..., *index)]
    out[...] = a
    return out


@settings(max_examples=150)
@given(st.data())
def test_hypothesis_layouts(data):
    case = data.draw(st.sampled_from(CASES))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    p_view, g_view = data.draw(views(shape)), data.draw(views(shape))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    expected = {"x": np.asarray(rng.standard_normal(shape), dtype)}
    params = {"x": lay_out(expected["x"], p_view)}
    assert np.array_equal(params["x"], expected["x"])
    opt, oracle = case.ours(), case.oracle()
    for _ in range(3):
        g = np.asarray(rng.standard_normal(shape), dtype)
        opt.update(params, {"x": lay_out(g, g_view)})
        oracle.update(expected, {"x": g})
    assert_same_bits(opt, oracle, params, expected)
    base = params["x"].base
    if base is not None and base.dtype == dtype:
        assert np.isnan(base).sum() == base.size - params["x"].size  # nothing beside it is written
