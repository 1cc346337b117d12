"""Adafactor: second moments that are two vectors, and steps as long as tensors say."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import (
    PAST_THRESHOLD,
    arrays,
    assert_same_array,
    assert_same_arrays,
    assert_same_averages,
    assert_same_bits,
    copies,
    every_dtype,
    every_option,
    use_threads,
)
from reference import ORACLES, Staged

import fastoptim as fo
from fastoptim.kernels import instruction_sets, use

# A row's sums are in chunks of 512 columns, a column's in strips of at least 64 rows and 16,384
# elements: sizes below, at and beyond both, one row, one column, matrices in a row, nothing at all.
SHAPES = {
    "square": (70, 70), "wide": (3, 1025), "chunk": (130, 512), "lanes": (65, 33),
    "tall": (900, 20), "pairs": (20_000, 2),
    "row": (1, 40), "column": (40, 1), "many": (2, 3, 66, 5), "empty": (0, 4),
    "vector": (1700,), "long": (16_385,), "number": (),
}
CHOICES = {
    "paper": {}, "momentum": {"beta1": 0.9}, "no clipping": {"d": None},
    "not relative": {"relative_step": False, "scale_parameter": False, "lr": 0.1},
    "few factored": {"factor_from": 66}, "eps": {"eps1": 1e-3, "eps2": 2.0, "decay_rate": 0.5},
}
every_choice = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)


def pair(choice, options=None):
    """Adafactor and its oracle with the same hyperparameters and options."""
    options = {"decoupled": False, **(options or {})}
    return fo.Adafactor(**choice, **options), Staged(ORACLES["Adafactor"](**choice), **options)


def train(opt, params, steps=3, seed=1, layout=np.copy):
    """Update with random gradients; return them as they came."""
    rng = np.random.default_rng(seed)
    history = []
    for _ in range(steps):
        dtype = next(iter(params.values())).dtype
        grads = arrays(rng, {key: np.shape(p) for key, p in params.items()}, dtype)
        opt.update(params, {key: layout(g) for key, g in grads.items()})
        history.append(grads)
    return history


def start(dtype=np.float64, shapes=SHAPES):
    return arrays(np.random.default_rng(0), shapes, dtype)


def assert_same_optimizers(a, b):
    """All state of all keys, and which there is."""
    ours, theirs = a.state_dict()["parameters"], b.state_dict()["parameters"]
    for key in ours:
        assert_same_arrays(ours[key]["state"], theirs[key]["state"], key)


@every_choice
@every_dtype
def test_bits_of_the_listing(dtype, choice):
    opt, oracle = pair(choice)
    params, expected = start(dtype), start(dtype)
    for grads in train(opt, params, steps=4):
        oracle.update(expected, grads)
    assert_same_bits(opt, oracle, params, expected)


@every_option
@every_dtype
def test_bits_with_options(dtype, options):
    """The means are of the gradient as the rule sees it, the size is of p before a decay."""
    opt, oracle = pair({"beta1": 0.5}, options)
    params, expected = start(dtype), start(dtype)
    grads = train(opt, params, steps=2)
    for one in grads:
        oracle.update(expected, one)
    assert_same_bits(opt, oracle, params, expected)
    assert_same_averages(opt, oracle)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "decoupled": False, "average": 0.5}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype, options):
    shapes = {"W": (PAST_THRESHOLD // 600 + 1, 600), "b": (PAST_THRESHOLD,), "small": (5, 6)}
    results = []
    for n in (1, 2, 3, 5):
        use_threads(n)
        opt, params = fo.Adafactor(beta1=0.5, **options), start(dtype, shapes)
        train(opt, params, steps=2)
        results.append((opt, params))
    for opt, params in results[1:]:
        assert_same_arrays(params, results[0][1], "params")
        assert_same_optimizers(opt, results[0][0])


@pytest.mark.parametrize("isa", instruction_sets.available_isas())
@every_dtype
def test_instruction_sets_change_no_bit(dtype, isa):
    opt, oracle = pair({"beta1": 0.5}, {"clip_value": 0.7})
    params, expected = start(dtype), start(dtype)
    use(isa)
    try:
        history = train(opt, params, steps=2)
    finally:
        use(instruction_sets.chosen_isa())
    for grads in history:
        oracle.update(expected, grads)
    assert_same_bits(opt, oracle, params, expected)


LAYOUTS = {
    "C": np.copy, "F": lambda a: np.copy(a, order="F"), "reversed": lambda a: a[::-1].copy()[::-1],
    "every other column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("param_layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("grad_layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "zero_grads": True, "average": 0.5}])
def test_layouts_change_no_bit(param_layout, grad_layout, options):
    opt, plain = fo.Adafactor(beta1=0.5, **options), fo.Adafactor(beta1=0.5, **options)
    expected = start()
    del expected["number"]          # it has no axes
    params = {key: param_layout(p) for key, p in expected.items()}
    train(opt, params, layout=grad_layout)
    train(plain, expected)
    assert_same_arrays(params, expected, "params")
    assert_same_optimizers(opt, plain)
    assert_same_arrays(opt.average_of, plain.average_of, "average_of")


def test_gradients_are_set_to_zero_in_any_layout():
    params = {"C": np.ones((70, 3)), "F": np.ones((70, 3))}
    grads = {"C": np.ones((70, 3)), "F": np.ones((70, 3), order="F")}
    fo.Adafactor(zero_grads=True).update(params, grads)
    assert not grads["C"].any()
    assert not grads["F"].any()


# ---------------------------------------------------------------- what is kept


def test_which_keys_have_vectors():
    opt, params = fo.Adafactor(), start()
    train(opt, params, 1)
    matrices = {"square", "wide", "chunk", "lanes", "tall", "pairs", "many"}
    assert set(opt.r) == set(opt.c) == matrices
    assert set(opt.v) == set(SHAPES) - matrices
    for key in matrices:
        assert opt.r[key].shape == params[key].shape[:-1]
        assert opt.c[key].shape == params[key].shape[:-2] + params[key].shape[-1:]
    for key in opt.v:
        assert opt.v[key].shape == params[key].shape
    assert len(opt.m) == 0


LEAST = [(0, "abc"), (1, "abc"), (2, "bc"), (4, "c"), (6, "")]


@pytest.mark.parametrize(("least", "factored"), LEAST)
def test_factor_from(least, factored):
    """The smaller size of the matrix decides; an array without elements is none."""
    opt = fo.Adafactor(factor_from=least)
    shapes = {"a": (1, 9), "b": (9, 3), "c": (2, 4, 5), "d": (0, 9)}
    params = {key: np.ones(shape) for key, shape in shapes.items()}
    opt.update(params, copies(params))
    assert set(opt.r) == set(factored)
    assert set(opt.v) == set(params) - set(factored)


def test_factor_from_in_a_group_and_changed():
    """A key whose second moment becomes another one starts that afresh."""
    opt = fo.Adafactor(factor_from=4, groups=[fo.Group("whole", factor_from=99)])
    params = {"W": np.ones((5, 4)), "whole": np.ones((5, 4))}
    train(opt, params)
    assert (set(opt.r), set(opt.v)) == ({"W"}, {"whole"})
    r = opt.r["W"].copy()
    opt.factor_from = 5
    grads = train(opt, params, 1, seed=2)[0]
    fresh = 4**-0.8
    expected = (1 - fresh) * 0.0 + fresh * (grads["W"] * grads["W"] + 1e-30)
    assert_same_array(opt.v["W"], expected, "v")
    assert_same_array(opt.r["W"], r, "r")
    opt.groups[0].factor_from = 0
    train(opt, params, 1)
    assert set(opt.r) == {"W", "whole"}


def test_the_state_of_a_matrix_is_small():
    opt, params = fo.Adafactor(), {"W": np.ones((300, 200), np.float32)}
    train(opt, params, 1)
    state = opt.state_dict()["parameters"]["W"]["state"]
    assert sum(a.nbytes for a in state.values()) == 4 * 500


def test_a_view_of_the_state_stays_the_state():
    """The vectors are written where they are, and a number put there counts."""
    opt, params = fo.Adafactor(), {"W": np.ones((5, 4))}
    train(opt, params, 1)
    r = opt.r["W"]
    before = r.copy()
    train(opt, params, 1, seed=2)
    assert not np.array_equal(r, before)
    twin, twins = copy.deepcopy(opt), copies(params)
    r[...] = 100.0
    train(opt, params, 1, seed=3)
    train(twin, twins, 1, seed=3)
    assert not np.array_equal(params["W"], twins["W"])


AGAIN = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda opt: pickle.loads(pickle.dumps(opt)),
    "state_dict": lambda opt: loaded(opt.state_dict()),
}


def loaded(state):
    opt = fo.Adafactor(beta1=0.5, average=0.9)
    opt.load_state_dict(state)
    return opt


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_going_on_with_what_was_kept(again):
    opt, params = fo.Adafactor(beta1=0.5, average=0.9), start(np.float32)
    train(opt, params)
    other, others = again(opt), copies(params)
    train(opt, params, seed=2)
    train(other, others, seed=2)
    assert_same_arrays(params, others, "params")
    assert_same_optimizers(opt, other)
    assert_same_arrays(opt.average_of, other.average_of, "average_of")


def test_a_file(tmp_path):
    pytest.importorskip("safetensors")
    opt, params = fo.Adafactor(beta1=0.5), start(np.float32)
    train(opt, params)
    opt.save(tmp_path / "opt")
    other, others = fo.Adafactor(), copies(params)
    other.load(tmp_path / "opt")
    train(opt, params, seed=2)
    train(other, others, seed=2)
    assert_same_arrays(params, others, "params")


DAMAGED = [
    # slot, what takes its place (None: an order), a part of the message
    ("r", np.ones(4), r"should have float64 \(5,\) as its r"),
    ("r", np.ones((5, 1)), r"should have float64 \(5,\) as its r"),
    ("c", np.ones(5), r"should have float64 \(4,\) as its c"),
    ("c", np.ones(4, np.float32), r"should have float64 \(4,\) as its c, got float32"),
    ("v", np.ones(4), r"should have float64 \(5, 4\) as its v"),
    ("w", np.ones(4), r"has slots \['c', 'r', 'w'\], this rule has \['c', 'm', 'r', 'v'\]"),
    (None, "F", r"has order 'F', and Adafactor's is 'C'"),
]


@pytest.mark.parametrize(("slot", "value", "message"), DAMAGED)
def test_a_damaged_state_is_refused(slot, value, message):
    opt, params = fo.Adafactor(), {"W": np.ones((5, 4))}
    train(opt, params)
    state, other = opt.state_dict(), copy.deepcopy(opt)
    if slot is None:
        state["parameters"]["W"]["order"] = value
    else:
        state["parameters"]["W"]["state"][slot] = value
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(state)
    assert_same_optimizers(opt, other)


def test_a_state_without_its_columns_is_refused():
    opt, params = fo.Adafactor(), {"W": np.ones((5, 4))}
    train(opt, params)
    state = opt.state_dict()
    del state["parameters"]["W"]["state"]["c"]
    with pytest.raises(ValueError, match=r"has only the slots \['r'\]"):
        opt.load_state_dict(state)


# ---------------------------------------------------------------- refused, and then unchanged


REFUSED = {
    # the gradient, a part of the message
    "rows": (fo.Rows([1], np.ones((1, 4))), r"grads\['W'\] is of rows, but Adafactor needs whole"),
    "sparse": (sp.csr_array(np.eye(5, 4)), r"sparse array, .*pass grads\['W'\]\.toarray\(\)"),
}


@pytest.mark.parametrize(("grad", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("trained", [False, True])
def test_gradients_that_are_not_whole(grad, message, trained):
    opt, params = fo.Adafactor(), {"b": np.ones(3), "W": np.ones((5, 4))}
    if trained:
        train(opt, params)
    before, twin = copies(params), copy.deepcopy(opt)
    for update in (opt.update, fo.SoftBatch(opt, every=2).update):
        with pytest.raises(TypeError, match=message):
            update(params, {"b": np.ones(3), "W": grad})
    assert_same_arrays(params, before, "params")
    assert opt.iter == twin.iter
    assert_same_optimizers(opt, twin)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_gradient_that_is_not_finite_changes_nothing(nonfinite):
    opt, params = fo.Adafactor(nonfinite=nonfinite), {"b": np.ones(3), "W": np.ones((5, 4))}
    train(opt, params)
    before, twin = copies(params), copy.deepcopy(opt)
    grads = {"b": np.ones(3), "W": np.ones((5, 4))}
    grads["W"][3, 2] = np.nan
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError):
            opt.update(params, grads)
    else:
        opt.update(params, grads)
    assert_same_arrays(params, before, "params")
    assert_same_optimizers(opt, twin)


def test_a_gradient_on_the_vectors():
    """It is copied before they are written."""
    params, opt = {"W": np.ones((9, 4)), "b": np.ones(9)}, fo.Adafactor()
    train(opt, params)
    others, twin = copies(params), copy.deepcopy(opt)
    g = np.random.default_rng(5).standard_normal((9, 4))
    opt.update(params, {"W": g, "b": opt.r["W"]})
    twin.update(others, {"W": g, "b": twin.r["W"].copy()})
    assert_same_arrays(params, others, "params")
    assert_same_optimizers(opt, twin)


@pytest.mark.parametrize("slot", ["r", "c"])
def test_a_parameter_on_the_vectors_is_refused(slot):
    opt, params = fo.Adafactor(), {"W": np.ones((4, 4))}
    train(opt, params)
    twin = copy.deepcopy(opt)
    wrong = {"W": params["W"], "b": getattr(opt, slot)["W"]}
    with pytest.raises(ValueError, match=rf"the optimizer's {slot}\['W'\]"):
        opt.update(wrong, {"W": np.ones((4, 4)), "b": np.ones(4)})
    assert_same_optimizers(opt, twin)


def test_a_soft_batch_is_the_mean():
    rng = np.random.default_rng(3)
    one, other = start(), start()
    a, b = fo.Adafactor(), fo.Adafactor()
    soft = fo.SoftBatch(a, every=2)
    for _ in range(3):
        first, second = (arrays(rng, SHAPES, np.float64) for _ in range(2))
        soft.update(one, first)
        soft.update(one, second)
        b.update(other, {key: 0.5 * (first[key] + second[key]) for key in SHAPES})
    assert_same_arrays(one, other, "params")
    assert_same_optimizers(a, b)


@every_dtype
@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_the_loop_for_one_array_takes_alpha(dtype, beta1):
    """Where a step depends on no tensor as a whole, α is the last coefficient as it is."""
    opt = fo.Adafactor(d=None, scale_parameter=False, beta1=beta1)
    p = np.random.default_rng(0).standard_normal(1025).astype(dtype)
    params = {"x": p.copy()}
    state = [np.zeros_like(p) for _ in opt.kernels[opt.kernel]]
    for t, grads in enumerate(train(opt, params), start=1):
        fo.kernels.step(opt.kernel, p, grads["x"], state, opt.coefficients(t))
    assert_same_array(p, params["x"], "param")
    for slot, a in zip(opt.kernels[opt.kernel], state, strict=True):
        assert_same_array(a, getattr(opt, slot)["x"], slot)


def test_keys_without_a_gradient_keep_their_step():
    """β₂ₜ and ρₜ are of the key's own count."""
    opt, params = fo.Adafactor(), {"W": np.ones((5, 4)), "late": np.ones((5, 4))}
    grads = np.random.default_rng(0).standard_normal((3, 5, 4))
    for g in grads[:2]:
        opt.update(params, {"W": g, "late": None})
    opt.update(params, {"W": grads[2], "late": grads[2]})
    alone = {"late": np.ones((5, 4))}
    fo.Adafactor().update(alone, {"late": grads[2]})
    assert_same_array(params["late"], alone["late"], "late")


def test_a_schedule_of_each_number_is_followed():
    def falling(step):
        return 0.5 / (step + 1)

    opt = fo.Adafactor(lr=falling, d=falling, eps2=falling, decay_rate=falling, relative_step=False)
    params, expected = {"W": np.ones((5, 4))}, {"W": np.ones((5, 4))}
    rng = np.random.default_rng(0)
    plain = fo.Adafactor(relative_step=False)
    for step in range(3):
        grads = {"W": rng.standard_normal((5, 4))}
        opt.update(params, grads)
        for name in ("lr", "d", "eps2", "decay_rate"):
            setattr(plain, name, falling(step))
        plain.update(expected, grads)
    assert_same_arrays(params, expected, "params")


def test_a_dead_row_and_a_dead_column_stay():
    """Where all gradients are zero, ε₁ is the second moment, and the step is 0."""
    params = {"W": np.ones((6, 5), np.float32)}
    g = np.full((6, 5), 1e4, np.float32)
    g[2], g[:, 3] = 0, 0
    opt = fo.Adafactor()
    for _ in range(3):
        opt.update(params, {"W": g})
    assert (params["W"][2] == 1).all()
    assert (params["W"][:, 3] == 1).all()
    assert (params["W"][g != 0] < 1).all()
