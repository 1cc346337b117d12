"""Muon against its listing, under every option and layout; what it refuses; what fails on the way.

Matrix products round as the BLAS pleases, so parameters are compared within a tolerance. The
momentum is element by element, and is compared to the bit.
"""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from helpers import (
    LAYOUTS,
    OPTIONS,
    arrays,
    assert_same_array,
    assert_same_arrays,
    copies,
    every_dtype,
    every_option,
    use_threads,
)
from reference import OF_MATRICES, Staged

import fastoptim as fo
from fastoptim.kernels.update import newton_schulz
from fastoptim.kernels.update.orthogonal import ROWS, symmetric

Oracle = OF_MATRICES["Muon"]
SHAPES = {
    "wide": (5, 9), "tall": (9, 4), "square": (6, 6), "row": (1, 7), "column": (7, 1), "0": (0, 3),
}
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}
CHOICES = [
    {}, {"nesterov": False}, {"ns_steps": 1}, {"ns_steps": 4}, {"adjust_lr": "match_rms_adamw"},
    {"bias_correction": True}, {"bias_correction": True, "nesterov": False},
    {"ns_coefficients": (2.0, -1.5, 0.5)}, {"eps": 10.0}, {"momentum": 0.0},
]


def random_grads(rng, dtype, shapes=SHAPES):
    return arrays(rng, shapes, dtype)


def assert_close(ours, expected, dtype, name):
    assert set(ours) == set(expected)
    for key, a in expected.items():
        assert ours[key].dtype == a.dtype == dtype
        np.testing.assert_allclose(
            ours[key], a, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype], err_msg=f"{name}[{key!r}]"
        )


def compare(ours, oracle, dtype, steps=5, layout=np.copy, grad_layout=np.copy, shapes=SHAPES):
    """Train both; the momentum has the same bits, the parameters are close."""
    rng = np.random.default_rng(1)
    start = arrays(rng, shapes, dtype)
    params, expected = {key: layout(p) for key, p in start.items()}, copies(start)
    for _ in range(steps):
        grads = random_grads(rng, dtype, shapes)
        given = {key: grad_layout(g) for key, g in grads.items()}
        seen = copies(given)
        ours.update(params, given)
        oracle.update(expected, grads)
        assert_close(params, expected, dtype, "params")
        assert_same_arrays(given, grads if ours.zero_grads else seen, "grads")
    return params, expected


@every_dtype
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_listing(choice, dtype):
    ours, oracle = fo.Muon(0.02, **choice), Oracle(0.02, **choice)
    compare(ours, oracle, dtype)
    assert_same_arrays(ours.v, oracle.v, "v")


@every_dtype
@every_option
def test_options(options, dtype):
    options = {"weight_decay": 0.0, "decoupled": False, **options}
    ours = fo.Muon(0.02, **options)
    oracle = Staged(Oracle(0.02, weight_decay=0.0), **options)
    compare(ours, oracle, dtype)
    assert_close(ours.average_of, oracle.average_of, dtype, "average_of")
    coupled = options["weight_decay"] and not options["decoupled"]
    if not coupled and not options.get("agc"):      # else g has p's rounding
        assert_same_arrays(ours.v, oracle.v, "v")


@every_dtype
@pytest.mark.parametrize("grad_layout", ["C", "F", "every other column", "packed record"])
@pytest.mark.parametrize(
    "layout", ["C", "F", "reversed", "every other row", "every other column", "packed record"]
)
@pytest.mark.parametrize("options", [{}, OPTIONS["all with clip_norm"]], ids=["bare", "all"])
def test_layouts(layout, grad_layout, options, dtype):
    """Whatever the layout, and with the stages around it."""
    options = {"weight_decay": 0.0, "decoupled": False, **options}
    oracle = Staged(Oracle(0.02, weight_decay=0.0), **options)
    if options.get("zero_grads") and "record" in grad_layout:
        options = options | {"zero_grads": False}
        oracle.zero_grads = False
    ours = fo.Muon(0.02, **options)
    shapes = {"wide": (5, 9), "tall": (9, 4)}
    if options.get("zero_grads") and grad_layout != "C":
        grad_layout = "F"       # others cannot be set to zero
    compare(ours, oracle, dtype, 3, LAYOUTS[layout], LAYOUTS[grad_layout], shapes)
    assert_same_arrays(ours.v, oracle.v, "v")


def test_two_matrices_share_what_they_are_made_with():
    """Each key's direction is its own; a larger matrix that comes later moves what they share."""
    ours, oracle = fo.Muon(0.02), Oracle(0.02)
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 5)}
    params, expected = {}, {}
    for late in ({}, {"b": (40, 30)}, {"c": (2, 2)}, {}):
        shapes = shapes | late
        for key, shape in late.items() or shapes.items():
            if key not in params:
                params[key] = rng.standard_normal(shape)
                expected[key] = params[key].copy()
        grads = {key: rng.standard_normal(p.shape) for key, p in params.items()}
        ours.update(params, grads)
        oracle.update(expected, grads)
        assert_close(params, expected, np.float64, "params")


def test_a_key_of_another_shape_after_a_reset():
    opt = fo.Muon(0.02)
    for shape in ((3, 4), (4, 3)):
        compare(opt, Oracle(0.02), np.float64, shapes={"a": shape})
        opt.reset()


def test_memory_is_what_the_page_says():
    """An array like each matrix, one like the largest, two of its shorter side; then no more."""
    opt, side = fo.Muon(0.02, weight_decay=0.0), {"a": 300, "b": 310}
    params = {key: np.ones((n, n)) for key, n in side.items()}
    grads = copies(params)
    first = {"a": params["a"]}
    fo.Muon().update(first, {"a": grads["a"]})      # what Python keeps from its first call on
    tracemalloc.start()
    try:
        opt.update(first, {"a": grads["a"]})
        opt.update(params, grads)
        opt.update(params, grads)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        opt.update(params, grads)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    a, b = params["a"].nbytes, params["b"].nbytes
    momentum = a + b
    assert kept < momentum + a + b + b + 2 * b + a // 4
    assert after <= kept + 4096
    assert peak < kept + 65_536


@every_dtype
@pytest.mark.parametrize("n", [1, 2, 3, 2 * ROWS - 1, 2 * ROWS, 2 * ROWS + 1, 3 * ROWS + 5])
def test_a_symmetric_product_is_the_product(n, dtype):
    x = np.random.default_rng(0).standard_normal((n, 33)).astype(dtype)
    out = np.full((n, n), np.nan, dtype)
    symmetric(x, out)
    np.testing.assert_allclose(out, x @ x.T, rtol=1e-4, atol=1e-3 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (30, 6), (6, 30), (600, 300)])
def test_singular_values_come_near_1_and_the_vectors_stay(shape):
    """The step of a matrix without small singular values is nearly orthogonal."""
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    g = u * np.linspace(0.5, 1.0, min(shape)) @ v
    params = {"W": np.zeros(shape)}
    fo.Muon(1.0, 0.0, False, weight_decay=0.0).update(params, {"W": g})
    step = u.T @ -params["W"] @ v.T / np.sqrt(max(1, shape[0] / shape[1]))
    values = np.diag(step)
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    np.testing.assert_allclose(step, np.diag(values), atol=1e-10)


def test_the_objective_falls():
    rng = np.random.default_rng(0)
    target, params = rng.standard_normal((20, 10)), {"W": np.zeros((20, 10))}
    opt = fo.Muon(lambda step: 0.2 * (1 - step / 60), weight_decay=0.0)
    losses = []
    for _ in range(60):
        grads = {"W": params["W"] - target}
        losses.append(float((grads["W"] ** 2).sum()))
        opt.update(params, grads)
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("n", [1, 2])
def test_threads_and_denormals(n):
    use_threads(n)
    shapes = {"a": (300, 200), "b": (20, 30)}
    ours, oracle = fo.Muon(0.02, denormals="flush"), Oracle(0.02)
    compare(ours, oracle, np.float64, 2, shapes=shapes)
    assert_same_arrays(ours.v, oracle.v, "v")


def test_a_gradient_of_none_leaves_the_matrix():
    opt, params = fo.Muon(), {"a": np.ones((2, 3)), "b": np.ones((3, 2))}
    opt.update(params, {"a": None, "b": np.ones((3, 2))})
    assert (params["a"] == 1).all()
    assert list(opt.v) == ["b"]
    assert opt.updates_of == {"b": 1}


def test_a_gradient_of_zeros_steps_nowhere():
    params = {"W": np.ones((2, 3))}
    fo.Muon(0.5, weight_decay=0.0).update(params, {"W": np.zeros((2, 3))})
    assert (params["W"] == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_matrix(bad, recwarn):
    opt, params = fo.Muon(0.5), {"a": np.ones((3, 3)), "b": np.ones((2, 3))}
    grads = {key: np.ones(p.shape) for key, p in params.items()}
    grads["a"][1, 2] = bad
    opt.update(params, grads)
    assert np.isnan(params["a"]).all()
    assert np.isfinite(params["b"]).all()
    assert not recwarn.list


def test_nonfinite():
    opt, params = fo.Muon(nonfinite="skip"), {"W": np.ones((2, 2))}
    opt.update(params, {"W": np.full((2, 2), np.nan)})
    assert (opt.skipped, opt.iter) == (1, 0)
    opt.nonfinite = "raise"
    with pytest.raises(FloatingPointError, match=r"grads\['W'\]"):
        opt.update(params, {"W": np.full((2, 2), np.nan)})
    assert (params["W"] == 1).all()


def test_large_and_small_gradients():
    """Squares beyond float32 are summed in float64; those beyond float64 are refused."""
    for scale, dtype in ((1e30, np.float32), (1e-30, np.float32), (1e100, np.float64)):
        g = np.random.default_rng(0).standard_normal((3, 4))
        a, b = {"W": np.zeros((3, 4), dtype)}, {"W": np.zeros((3, 4))}
        fo.Muon(1.0, eps=1e-37).update(a, {"W": (scale * g).astype(dtype)})
        fo.Muon(1.0, eps=1e-37).update(b, {"W": g})
        np.testing.assert_allclose(a["W"], b["W"], rtol=1e-4, atol=1e-5)
    opt, params = fo.Muon(), {"W": np.ones((3, 4))}
    with pytest.raises(FloatingPointError, match=r"grads\['W'\] is finite, but its squares are"):
        opt.update(params, {"W": 1e200 * g})
    assert (params["W"] == 1).all()
    assert (opt.iter, dict(opt.v)) == (0, {})


class NoMemory:
    """NumPy, which has no more memory for empty arrays."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, *arguments):
        raise MemoryError


def test_a_larger_matrix_may_come_again_when_there_was_no_memory_for_it(monkeypatch):
    opt, params = fo.Muon(), {"a": np.ones((2, 3))}
    opt.update(params, copies(params))
    params["b"] = np.ones((40, 30))
    before = copies(params)
    with monkeypatch.context() as patched:
        patched.setattr(newton_schulz, "np", NoMemory())
        with pytest.raises(MemoryError):
            opt.update(params, copies(params))
    assert_same_arrays(params, before, "params")
    opt.update(params, copies(params))
    assert opt.updates_of == {"a": 2, "b": 1}


def test_what_is_raised_before_the_step_has_changed_nothing(monkeypatch):
    """An interrupt between two products, say; also of a number that would be put back."""
    good = newton_schulz.orthogonalize
    shapes = {"a": (3, 4), "b": (4, 3)}
    rng = np.random.default_rng(0)
    params = {**arrays(rng, shapes, np.float64), "c": 2.0, "d": rng.standard_normal(3)}
    opt = fo.Muon(average=0.5, zero_grads=False, rest=fo.Adam())
    grads = {**arrays(rng, shapes, np.float64), "c": 1.0, "d": rng.standard_normal(3)}
    for updates in (0, 1):
        before = {key: np.copy(p) for key, p in params.items()}
        state = opt.state_dict()
        for calls in (0, 1):
            left = [calls]

            def interrupted(*arguments, left=left):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                good(*arguments)

            monkeypatch.setattr(newton_schulz, "orthogonalize", interrupted)
            with pytest.raises(KeyboardInterrupt):
                opt.update(params, grads)
        assert opt.iter == updates
        assert_same_arrays(params, before, "params")
        assert type(params["c"]) is float
        now = opt.state_dict()
        assert now["parameters"].keys() == state["parameters"].keys()
        for key, saved in state["parameters"].items():
            for slot, a in saved["state"].items():
                assert_same_array(now["parameters"][key]["state"][slot], a, slot)
        monkeypatch.setattr(newton_schulz, "orthogonalize", good)
        opt.update(params, grads)
        assert opt.iter == updates + 1


# ---------------------------------------------------------------- what is refused

REST = r"give the other keys an optimizer of their own: .*rest=fastoptim.AdamW\(\)\)"
ROWS_ = r"grads\['W'\] is a gradient of rows, .* to_rest=\['W'\]"
SPARSE = scipy.sparse.csr_array(np.eye(2, 3))
ROWS_OF_W = fo.Rows(np.array([1]), np.ones((1, 3)))
REFUSED = {
    "vector": ({"b": np.ones(3)}, {"b": np.ones(3)}, ValueError, REST),
    "number": ({"b": 1.0}, {"b": 1.0}, ValueError, r"params\['b'\] has shape \(\), and Muon"),
    "0-d": ({"b": np.array(1.0)}, {"b": np.array(1.0)}, ValueError, REST),
    "kernel": (
        {"k": np.ones((2, 3, 3, 3))}, {"k": np.ones((2, 3, 3, 3))}, ValueError,
        r"shape \(2, 3, 3, 3\).*or keep such a kernel as a matrix",
    ),
    "Rows": ({"W": np.ones((2, 3))}, {"W": ROWS_OF_W}, TypeError, ROWS_),
    "sparse": ({"W": np.ones((2, 3))}, {"W": SPARSE}, TypeError, ROWS_),
    "shape": ({"W": np.ones((2, 3))}, {"W": np.ones((3, 2))}, ValueError, "shape"),
}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("params", "grads", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(params, grads, kind, message, soft):
    """Also the first call of a soft batch; and the key that would have been all right stays."""
    params = {"good": np.ones((2, 2)), **{k: np.copy(p)[()] for k, p in params.items()}}
    opt = fo.Muon()
    thing = fo.SoftBatch(opt, every=2) if soft else opt
    with pytest.raises(kind, match=message):
        thing.update(params, {"good": np.ones((2, 2)), **grads})
    assert (opt.iter, dict(opt.v)) == (0, {})
    for p in params.values():
        assert (np.asarray(p) == 1).all()
    if soft:
        assert thing.pending == 0


ARGUMENTS = [
    ({"lr": -1.0}, ValueError, r"lr must be in \[0, inf\)"),
    ({"momentum": 1.0}, ValueError, r"momentum must be in \[0, 1\)"),
    ({"eps": 0.0}, ValueError, r"eps must be in \(0, inf\)"),
    ({"ns_steps": 0}, ValueError, "ns_steps must be a whole number from 1 to 99, got 0"),
    ({"ns_steps": 100}, ValueError, "ns_steps must be a whole number from 1 to 99, got 100"),
    ({"ns_steps": 5.0}, TypeError, "ns_steps must be a whole number from 1 to 99, got 5.0"),
    ({"ns_steps": True}, TypeError, "ns_steps must be a whole number"),
    ({"ns_coefficients": (1.0, 2.0)}, ValueError, r"must be three numbers \(a, b, c\), got"),
    ({"ns_coefficients": "abc"}, TypeError, "must be three numbers"),
    ({"ns_coefficients": 3.0}, TypeError, "must be three numbers"),
    ({"ns_coefficients": (1.0, "2", 3.0)}, TypeError, "must be three numbers"),
    ({"ns_coefficients": (1.0, np.nan, 3.0)}, ValueError, "all finite"),
    ({"adjust_lr": "none"}, ValueError, "adjust_lr must be one of"),
    ({"nesterov": 1}, TypeError, "nesterov must be True or False"),
    ({"bias_correction": None}, TypeError, "bias_correction must be True or False"),
    ({"to_rest": 3}, TypeError, r"to_rest must be a pattern such as 'embedding\*', a predicate"),
    ({"to_rest": ["a", 3]}, TypeError, "got 3 in it"),
    ({"to_rest": lambda key: True}, TypeError, "a predicate is called with a key and its"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), ARGUMENTS)
def test_arguments(arguments, kind, message):
    with pytest.raises(kind, match=message):
        fo.Muon(**arguments)
    opt = fo.Muon()
    (name, value), = arguments.items()
    before = getattr(opt, name)
    with pytest.raises(kind, match=message):
        setattr(opt, name, value)
    assert getattr(opt, name) == before


def test_every_number_changes_the_step():
    def step(**options):
        params = {"W": np.ones((3, 2))}
        opt = fo.Muon(0.1, **options)
        for k in range(2):
            opt.update(params, {"W": np.arange(6.0).reshape(3, 2) - k})
        return params["W"]

    for options in [*CHOICES[1:], {"weight_decay": 0.2}, {"decoupled": False}]:
        if options != {"bias_correction": True, "nesterov": False}:     # which changes no direction
            assert not np.array_equal(step(), step(**options)), options


def test_groups_and_schedules():
    """Of each number that a group may set."""
    rng = np.random.default_rng(0)
    params = {key: rng.standard_normal((4, 3)) for key in "ab"}
    expected = copies(params)
    opt = fo.Muon(
        lambda step: 0.1 / (1 + step),
        groups=[fo.Group("b", lr=0.3, momentum=lambda step: 0.5, ns_steps=3, eps=lambda step: 0.1,
                         ns_coefficients=(2.0, -1.5, 0.5), adjust_lr="match_rms_adamw",
                         nesterov=False)],
    )
    a = Oracle(0.1)
    b = Oracle(0.3, 0.5, False, 3, (2.0, -1.5, 0.5), 0.1, "match_rms_adamw")
    for step in range(3):
        grads = {key: rng.standard_normal((4, 3)) for key in "ab"}
        a.lr = 0.1 / (1 + step)
        opt.update(params, grads)
        a.update({"a": expected["a"]}, grads)
        b.update({"b": expected["b"]}, grads)
    assert_close(params, expected, np.float64, "params")


def test_repr_makes_it_again():
    opt = fo.Muon(0.1, ns_steps=3, rest=fo.AdamW(0.01), to_rest=["head*"], clip_norm=1.0)
    again = eval(repr(opt), {name: getattr(fo, name) for name in ("Muon", "AdamW")})
    assert repr(again) == repr(opt)
    assert "rest=AdamW(lr=0.01" in repr(opt)
    assert repr(fo.Muon()) == (
        "Muon(lr=0.001, momentum=0.95, nesterov=True, weight_decay=0.1, decoupled=True)"
    )
