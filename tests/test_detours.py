"""Arrays in any place and order: what cannot be used where it lies is copied."""

import copy

import numpy as np
import pytest
from helpers import assert_same_array, use_threads
from hypothesis import given
from hypothesis import strategies as st

import fastoptim as fo

F32, F64 = np.float32, np.float64
dtypes = st.sampled_from([F32, F64])


# ---------------------------------------------------------------- layouts

OPTIONS = {
    "bare": {},
    "decay": {"weight_decay": 0.1, "maximize": True},
    "decoupled": {"weight_decay": 0.1, "decoupled": True, "average": 0.5},
    "clip_norm": {"clip_norm": 0.5, "zero_grads": True},
    "all": {"clip_value": 0.3, "weight_decay": 0.1, "average": 0.5, "zero_grads": True,
            "nonfinite": "raise"},
}


def laid_out(a, order, steps, offset):
    """Return a copy of an array with its axes in another order in memory, and with gaps.

    `order` lists the axes from the longest stride to the shortest; `steps` is how many places of
    its axis each element takes, less than 0 to go backwards; the first byte is `offset` bytes from
    an aligned place.
    """
    room = [abs(step) * n for step, n in zip(steps, a.shape, strict=True)]
    n_bytes = int(np.prod([room[axis] for axis in order], initial=1)) * a.itemsize
    memory = np.zeros(n_bytes + 64, np.uint8)[offset:offset + n_bytes]
    grid = memory.view(a.dtype).reshape([room[axis] for axis in order])
    grid = grid.transpose(np.argsort(order))
    view = grid[(..., *(slice(None, None, step) for step in steps))]
    view[...] = a
    return view


@st.composite
def layouts(draw, ndim):
    order = draw(st.permutations(range(ndim)))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, -1, -3]), min_size=ndim, max_size=ndim))
    return list(order), steps, draw(st.sampled_from([0, 0, 0, 4, 1]))


@st.composite
def cases(draw):
    shape = draw(
        st.sampled_from([
            (7,), (3000,), (5, 1, 3), (40, 50), (3, 700), (700, 3), (130, 520), (17, 1030),
            (8, 3, 5, 5), (2, 33, 4, 29), (0, 4), (),
        ])
    )
    return shape, draw(layouts(len(shape))), draw(layouts(len(shape))), draw(dtypes)


@given(cases(), st.sampled_from(list(OPTIONS)), st.integers(1, 3))
def test_no_layout_changes_a_bit(case, options, threads):
    shape, p_layout, g_layout, dtype = case
    use_threads(threads)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    params, expected = {"x": laid_out(x, *p_layout)}, {"x": x.copy()}
    opt, twin = (fo.Adam(lr=0.1, **OPTIONS[options]) for _ in range(2))
    for _ in range(3):
        g = rng.standard_normal(shape).astype(dtype)
        grads, plain = {"x": laid_out(g, *g_layout)}, {"x": g.copy()}
        opt.update(params, grads)
        twin.update(expected, plain)
        assert_same_array(params["x"], expected["x"], "x")
        assert_same_array(grads["x"], plain["x"], "gradient")
    for name in ("m", "v"):
        assert_same_array(getattr(opt, name)["x"], getattr(twin, name)["x"], name)
    if "average" in OPTIONS[options]:
        assert_same_array(opt.average_of["x"], twin.average_of["x"], "average")


@given(cases(), st.booleans())
def test_no_layout_changes_a_bit_of_a_soft_batch(case, zero_grads):
    shape, p_layout, g_layout, dtype = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    params, expected = {"x": laid_out(x, *p_layout)}, {"x": x.copy()}
    soft, twin = (
        fo.SoftBatch(fo.Momentum(lr=0.1, zero_grads=zero_grads), every=2) for _ in range(2)
    )
    for _ in range(4):
        g = rng.standard_normal(shape).astype(dtype)
        grads, plain = {"x": laid_out(g, *g_layout)}, {"x": g.copy()}
        soft.update(params, grads)
        twin.update(expected, plain)
        assert_same_array(params["x"], expected["x"], "x")
        assert_same_array(grads["x"], plain["x"], "gradient")


@given(cases())
def test_gaps_are_left_alone(case):
    """What lies between a strided parameter's elements is not the parameter's."""
    shape, layout, _, dtype = case
    all_bits = np.full(np.dtype(dtype).itemsize, 255, np.uint8).view(dtype)
    view = laid_out(np.full(shape, all_bits), *layout)
    memory = view
    while memory.base is not None:
        memory = memory.base
    gaps = memory == 0
    memory[gaps] = 99
    view[...] = 1
    fo.SGD(lr=1.0).update({"x": view}, {"x": np.ones(shape, dtype)})
    assert (view == 0).all()
    assert (memory[gaps] == 99).all()


# ---------------------------------------------------------------- overlaps

@st.composite
def slices(draw):
    """A piece of an array of 60 elements, as a one-dimensional view or a matrix."""
    start = draw(st.integers(0, 50))
    n = draw(st.integers(0, 9))
    step = draw(st.sampled_from([1, 1, 1, 2, 3, -1]))
    if draw(st.booleans()):
        return lambda memory: memory[start:start + 8].reshape(2, 4)
    if step < 0:
        return lambda memory: memory[start:start + n][::-1]
    return lambda memory: memory[start:start + n * step:step]


def share_any(arrays):
    """Whether two of some arrays have an element in common."""
    return any(
        np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i]
    )


@given(
    st.lists(st.tuples(slices(), slices(), st.booleans()), min_size=1, max_size=4),
    st.booleans(), st.integers(0, 3),
)
def test_overlaps_are_what_numpy_says(pieces, zero_grads, changed):
    """Written arrays that share memory are refused; a gradient on written memory is copied first.

    The second update has the same arrays, the third has one of them elsewhere.
    """
    memory = np.arange(60.0)
    opt = fo.Momentum(lr=0.5, zero_grads=zero_grads)
    twin = fo.Momentum(lr=0.5)
    for step in range(3):
        params, grads = {}, {}
        for k, (of_params, of_grads, own) in enumerate(pieces):
            params[k] = of_params(memory)
            if step == 2 and k == changed:
                params[k] = params[k].copy()
            grads[k] = np.ones(params[k].shape)
            if not own and of_grads(memory).shape == params[k].shape:
                grads[k] = of_grads(memory)
        written = [*params.values(), *(grads.values() if zero_grads else ())]
        before = memory.copy()
        if share_any(written):
            with pytest.raises(ValueError, match=r"share memory|is read-only"):
                opt.update(params, grads)
            assert (memory == before).all()
            assert opt.iter == step
            return
        expected = {k: p.copy() for k, p in params.items()}
        twin.update(expected, {k: g.copy() for k, g in grads.items()})
        opt.update(params, grads)
        for k, p in params.items():
            assert_same_array(p, expected[k], f"params[{k}]")
            assert_same_array(opt.v[k], twin.v[k], f"v[{k}]")


# ---------------------------------------------------------------- the optimizer's own state

def loaded(opt):
    fresh = fo.Momentum(lr=0.1, zero_grads=opt.zero_grads)
    fresh.load_state_dict(opt.state_dict())
    return fresh


def loaded_again(opt):
    opt.load_state_dict(opt.state_dict())
    return opt


RENEWED = {"as it was": lambda opt: opt, "loaded": loaded, "loaded again": loaded_again,
           "copied": copy.deepcopy}
every_renewal = pytest.mark.parametrize("renewed", RENEWED.values(), ids=RENEWED)


def trained(**options):
    opt = fo.Momentum(lr=0.1, **options)
    opt.update({"a": np.arange(4.0)}, {"a": np.ones(4)})
    return opt


@every_renewal
def test_a_parameter_that_is_the_state_is_refused(renewed):
    opt = renewed(trained())
    with pytest.raises(ValueError, match=r"and the optimizer's v\['a'\] share memory"):
        opt.update({"a": opt.v["a"]}, {"a": np.ones(4)})


@every_renewal
def test_a_gradient_that_is_the_state_is_not_wiped(renewed):
    opt = renewed(trained(zero_grads=True))
    with pytest.raises(ValueError, match="share memory, and zero_grads=True would wipe both"):
        opt.update({"a": np.zeros(4)}, {"a": opt.v["a"]})
    assert (opt.v["a"] == -0.1).all()


@every_renewal
def test_a_gradient_that_is_the_state_is_copied_first(renewed):
    params, expected = {"a": np.arange(40_000.0)}, {"a": np.arange(40_000.0)}
    opt, twin = fo.Momentum(lr=0.1), fo.Momentum(lr=0.1)
    for one, its in ((opt, params), (twin, expected)):
        one.update(its, {"a": np.arange(40_000.0)})
    opt = renewed(opt)
    opt.update(params, {"a": opt.v["a"][::-1]})
    twin.update(expected, {"a": twin.v["a"][::-1].copy()})
    assert_same_array(params["a"], expected["a"], "a")
    assert_same_array(opt.v["a"], twin.v["a"], "v")


def test_the_state_of_a_kernel_that_is_chosen_again_is_not_overwritten():
    """Kernels of RMSprop: one with h and m, one with h and v, then the first one again."""
    params, expected = {"a": np.linspace(-1, 1, 40_000)}, {"a": np.linspace(-1, 1, 40_000)}
    opt, twin = fo.RMSprop(centered=True), fo.RMSprop(centered=True)
    for one, its in ((opt, params), (twin, expected)):
        one.update(its, {"a": np.linspace(1, 2, 40_000)})
        one.centered, one.momentum = False, 0.5
        one.update(its, {"a": np.linspace(0, 1, 40_000)})
        one.centered, one.momentum = True, 0.0
    with pytest.raises(ValueError, match="share memory"):
        opt.update({"a": opt.m["a"]}, {"a": np.ones(40_000)})
    opt.update(params, {"a": opt.m["a"][::-1]})
    twin.update(expected, {"a": twin.m["a"][::-1].copy()})
    assert_same_array(params["a"], expected["a"], "a")
    assert_same_array(opt.m["a"], twin.m["a"], "m")


def test_a_refused_overlap_is_refused_again_and_the_good_call_after_it_is_not():
    memory, opt = np.zeros(10), fo.SGD(lr=1.0)
    good = {"a": memory[:5], "b": memory[5:]}
    bad = {"a": memory[:6], "b": memory[5:]}
    opt = fo.SGD(lr=1.0)
    for _ in range(2):
        opt.update(good, {"a": np.ones(5), "b": np.ones(5)})
        for _ in range(2):
            with pytest.raises(ValueError, match="share memory"):
                opt.update(bad, {"a": np.ones(6), "b": np.ones(5)})
    assert (memory == -2).all()
