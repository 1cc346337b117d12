"""examples/online, built outside the source tree as a user would: bits, hashing, refusals."""

import dataclasses
import doctest
import importlib
import math
import shutil
import sys
import threading
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import (
    BY_ELEMENT,
    PATIENCE,
    assert_same_array,
    every_dtype,
    every_rule_by_element,
    run_python,
)

import fastoptim as fo
from fastoptim.optimizer.base import Optimizer

EXAMPLE = Path(__file__).parents[1] / "examples" / "online"
LIBRARY = Path(fo.__file__).parents[1]  # the fastoptim that is tested


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder with the package in it, compiled against the fastoptim that is tested here."""
    folder = tmp_path_factory.mktemp("online")
    source, target = folder / "source", folder / "installed"
    shutil.copytree(
        EXAMPLE, source, ignore=shutil.ignore_patterns("*.so", "*.c", "build", "*.egg-info")
    )
    pip = ["-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
    done = run_python(
        *pip, "--no-build-isolation", "--no-deps", "--target", target, source,
        folders=[LIBRARY], cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def online(installed):
    sys.path.insert(0, str(installed))
    module = importlib.import_module("online")
    assert Path(module.__file__).is_relative_to(installed)
    yield module
    sys.path.remove(str(installed))


# ---------------------------------------------------------------- what is computed


def stream(rng, n, features, most=6, classes=2):
    """Examples of 0 to `most` features, and labels."""
    x = np.zeros((n, features))
    for row in x:
        at = rng.choice(features, rng.integers(0, most + 1), replace=False)
        row[at] = rng.standard_normal(len(at))
    return sp.csr_array(x), rng.integers(0, classes, n)


def sigmoid(z):
    e = math.exp(-abs(z))
    return 1 / (1 + e) if z >= 0 else e / (1 + e)


def loss_of(z, y):
    if len(z) == 1:
        most = max(z[0], 0.0)
        return most + math.log1p(math.exp(-abs(z[0]))) - (z[0] if y else 0.0)
    return max(z) + math.log(sum(math.exp(one - max(z)) for one in z)) - z[y]


def slopes_of(z, y):
    if len(z) == 1:
        return [sigmoid(z[0]) - y]
    e = [math.exp(one - max(z)) for one in z]
    total = 0.0
    for one in e:
        total += one
    return [one / total - (k == y) for k, one in enumerate(e)]


def scores_and_sums(rows, bias, x, factors):
    """What a model says of an example with these rows: floats, added in the client's order."""
    z = [float(b) for b in bias] or [0.0] * (1 if factors else rows.shape[1])
    if not factors:
        for row, value in zip(rows, x, strict=True):
            for k, w in enumerate(row):
                z[k] += float(w) * float(value)
        return z, None
    sums, squares = [0.0] * (rows.shape[1] - 1), 0.0
    for (w, *v), value in zip(rows, x, strict=True):
        z[0] += float(w) * float(value)
        for k, one in enumerate(v):
            product = float(one) * float(value)
            sums[k] += product
            squares += product * product
    total = 0.0
    for one in sums:
        total += one * one
    z[0] += 0.5 * (total - squares)
    return z, sums


def gradient_of(rows, x, d, sums):
    if sums is None:
        return [[one * float(value) for one in d] for value in x]
    return [
        [d[0] * float(value), *(
            d[0] * float(value) * (total - float(one) * float(value))
            for one, total in zip(v, sums, strict=True)
        )]
        for (_, *v), value in zip(rows, x, strict=True)
    ]


class ByHand:
    """The same, an example at a time, each step by `opt.update` with `fo.Rows`."""

    def __init__(self, model, opt):
        self.params = {"table": model.table.copy(), "bias": model.bias.copy()}
        self.factors = model.table.shape[1] > 1 and model.scores == 1
        self.opt = opt

    def learn(self, x, y):
        table, bias = self.params.values()
        losses = []
        for (index, values), label in zip(rows_of(x, table.dtype), y, strict=True):
            z, sums = scores_and_sums(table[index], bias, values, self.factors)
            losses.append(loss_of(z, label))
            d = slopes_of(z, label)
            g = np.array(gradient_of(table[index], values, d, sums), table.dtype)
            grads = {"table": fo.Rows(index, g.reshape(-1, table.shape[1])), "bias": None}
            if bias.size:
                grads["bias"] = np.array(d, bias.dtype)
            self.opt.update(self.params, grads)
        return np.array(losses)

    def check(self, model, name):
        assert_same_array(model.table, self.params["table"], f"{name}: table")
        assert_same_array(model.bias, self.params["bias"], f"{name}: bias")
        for k, slot in enumerate(self.opt.kernels[self.opt.kernel]):
            state = getattr(self.opt, slot)
            assert_same_array(model.state[k], state["table"], f"{name}: {slot}")
            if model.bias.size:
                assert_same_array(model.bias_state[k], state["bias"], f"{name}: {slot} of the bias")


def rows_of(x, dtype):
    return [(x.indices[a:b], x.data[a:b].astype(dtype)) for a, b in pairwise(x.indptr)]


MODELS = {
    "logistic": lambda o, opt, dtype: o.Logistic(opt, 30, dtype=dtype),
    "logistic, no bias": lambda o, opt, dtype: o.Logistic(opt, 30, bias=False, dtype=dtype),
    "softmax": lambda o, opt, dtype: o.Softmax(opt, 30, 3, dtype=dtype),
    "softmax, no bias": lambda o, opt, dtype: o.Softmax(opt, 30, 3, bias=False, dtype=dtype),
    "factors": lambda o, opt, dtype: o.FactorisationMachine(opt, 30, 4, seed=5, dtype=dtype),
    "one factor": lambda o, opt, dtype: o.FactorisationMachine(
        opt, 30, 1, scale=0.5, bias=False, dtype=dtype
    ),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@every_dtype
def test_sgd_is_a_numpy_loop_of_one_example_at_a_time(online, dtype):
    x, y = stream(np.random.default_rng(0), 300, 50, most=20)
    model = online.Logistic(fo.SGD(lr=0.3), 50, dtype=dtype)
    losses = model.learn(x, y)
    w, b, lr = np.zeros(50, dtype), np.zeros(1, dtype), dtype(0.3)
    for (index, values), label, loss in zip(rows_of(x, dtype), y, losses, strict=True):
        z = float(b[0])
        for j, value in zip(index, values, strict=True):
            z += float(w[j]) * float(value)
        assert loss == loss_of([z], label)
        d = sigmoid(z) - label
        w[index] -= lr * (d * values.astype(float)).astype(dtype)
        b -= lr * dtype(d)
    assert_same_array(model.table[:, 0], w, "w")
    assert_same_array(model.bias, b, "b")
    assert model.t == 300


@every_dtype
@every_rule_by_element
def test_every_rule_is_opt_update_with_rows(online, case, dtype):
    opt = case.ours(**case.without_decay)
    for name, make in MODELS.items():
        model = make(online, opt, dtype)
        by_hand = ByHand(model, case.ours(**case.without_decay))
        x, y = stream(np.random.default_rng(1), 25, 30, classes=model.classes)
        losses = model.learn(x, y)
        assert_same_array(losses, by_hand.learn(x, y), f"{name}: losses")
        by_hand.check(model, name)


@every_model
def test_schedules_count_examples(online, make):
    def opt():
        return fo.Adam(lr=fo.schedules.cosine_decay(0.5, 30), beta1=lambda step: 0.9 - 0.01 * step)

    model = make(online, opt(), np.float64)
    by_hand = ByHand(model, opt())
    x, y = stream(np.random.default_rng(2), 40, 30, classes=model.classes)
    model.learn(x[:20], y[:20])
    for (index, values), label in zip(rows_of(x[20:], float), y[20:], strict=True):
        model.learn_one(index, values, label)
    by_hand.learn(x, y)
    by_hand.check(model, "scheduled")


@pytest.mark.parametrize("rule", [fo.SGD, fo.AdaGrad, fo.Adam])
@every_model
def test_in_pieces_and_one_by_one_it_is_the_same(online, monkeypatch, make, rule):
    x, y = stream(np.random.default_rng(3), 60, 30, classes=2)
    whole, pieces, one_by_one = (make(online, rule(), np.float64) for _ in range(3))
    losses = whole.learn(x, y)
    monkeypatch.setattr(online.models, "BLOCK", 7)
    parts = pieces.learn(x[:25], y[:25]), pieces.learn(x[25:], y[25:])
    assert_same_array(np.concatenate(parts), losses, "in pieces")
    single = [
        one_by_one.learn_one(index.tolist(), values, label)
        for (index, values), label in zip(rows_of(x, float), y.tolist(), strict=True)
    ]
    assert_same_array(np.array(single), losses, "one by one")
    for model in (pieces, one_by_one):
        assert_same_array(model.table, whole.table, "table")
        assert_same_array(model.state, whole.state, "state")
        assert_same_array(model.bias, whole.bias, "bias")
        assert model.t == 60


def test_hyperparameters_are_read_at_each_call(online):
    x, y = stream(np.random.default_rng(4), 20, 30)
    opt = fo.SGD(lr=0.5)
    model, twin = online.Logistic(opt, 30), online.Logistic(fo.SGD(lr=0.5), 30)
    model.learn(x, y)
    twin.learn(x, y)
    opt.lr = 0.0
    model.learn(x, y)
    model.learn_one([1], [1.0], 0)
    assert_same_array(model.table, twin.table, "table")


def test_coefficients_are_asked_once_where_they_stay_the_same(online):
    constant = []
    for case in BY_ELEMENT:
        opt = case.ours(**case.without_decay)
        model = online.Logistic(opt, 3)
        given, each = model.scalars(40), np.array([opt.coefficients(t) for t in range(1, 41)])
        assert_same_array(np.broadcast_to(given, each.shape).copy(), each, repr(case))
        if len(given) == 1:
            constant.append(repr(case))
    assert {"SGD", "Momentum", "AdaGrad", "FTRL", "Adam-bias_correction=False"} <= {*constant}
    assert not {"Adam-amsgrad=False-eps_corrected=False", "NAdam", "RAdam"} & {*constant}
    model = online.Logistic(fo.AdaGrad(lr_decay=0.1), 3)
    assert model.scalars(4)[:, 0].tolist() == [model.opt.coefficients(t)[0] for t in range(1, 5)]


@pytest.mark.parametrize("opt", [fo.Adafactor(), fo.LARS(), fo.Muon(weight_decay=0.0)], ids=repr)
def test_rules_that_go_by_whole_tensors(online, opt):
    with pytest.raises(ValueError, match="goes by whole tensors, and single rows are updated here"):
        online.Logistic(opt, 3)


@every_model
def test_the_gradient_is_that_of_the_loss(online, make):
    """The step of SGD with a rate of 1, beside differences of the loss."""
    model = make(online, fo.SGD(lr=1.0), np.float64)
    rng = np.random.default_rng(5)
    model.table[:] = rng.normal(0, 0.5, model.table.shape)
    model.bias[:] = rng.normal(0, 0.5, model.bias.shape)
    index, values, label = np.array([2, 7, 11]), rng.standard_normal(3), 1
    x = sp.csr_array((values, index, [0, 3]), shape=(1, 30))

    def loss():
        chances = model.predict(x)
        return -math.log(chances[0] if chances.ndim == 1 else chances[0, label])

    slopes = []
    for array in (model.table, model.bias):
        slopes.append(np.zeros_like(array))
        for place in np.ndindex(array.shape):
            keep, losses = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = keep + step
                losses.append(loss())
            array[place] = keep
            slopes[-1][place] = (losses[0] - losses[1]) / 2e-6
    before = model.table.copy(), model.bias.copy()
    assert model.learn_one(index, values, label) == pytest.approx(loss_before(before, x, label))
    for array, kept, slope in zip((model.table, model.bias), before, slopes, strict=True):
        np.testing.assert_allclose(kept - array, slope, atol=1e-8)


def loss_before(arrays, x, label):
    table, bias = arrays
    factors = table.shape[1] in (5, 2)
    return loss_of(scores_and_sums(table[x.indices], bias, x.data, factors)[0], label)


@every_dtype
@every_model
def test_predictions(online, make, dtype):
    model = make(online, fo.SGD(lr=0.5), dtype)
    x, y = stream(np.random.default_rng(6), 80, 30, classes=model.classes)
    model.learn(x, y)
    factors = model.table.shape[1] > 1 and model.scores == 1
    expected = []
    for index, values in rows_of(x, dtype):
        z, _ = scores_and_sums(model.table[index], model.bias, values, factors)
        expected.append([sigmoid(z[0])] if len(z) == 1 else slopes_of(z, -1))
    chances = model.predict(x)
    assert chances.shape == ((80,) if model.scores == 1 else (80, model.scores))
    assert_same_array(chances.reshape(80, -1), np.array(expected), "probabilities")
    assert model.predict(x[:0]).shape == (0, *chances.shape[1:])
    assert model.learn(x[:0], y[:0]).shape == (0,)


def test_scores_beyond_what_exp_holds(online):
    model = online.Logistic(fo.SGD(lr=0.0), 1, bias=False)
    model.table[:] = 1.0
    x = sp.csr_array(np.array([[2000.0], [-2000.0]]))
    assert model.learn(x, [1, 1]).tolist() == [0.0, 2000.0]
    assert model.predict(x).tolist() == [1.0, 0.0]
    model = online.Softmax(fo.SGD(lr=0.0), 1, 3, bias=False)
    model.table[:] = [[1.0, 0.0, -1.0]]
    assert model.learn(x, [0, 0]).tolist() == [0.0, 4000.0]


@every_model
def test_features_that_are_twice_in_an_example_take_one_step(online, make):
    rng = np.random.default_rng(7)
    index = np.array([5, 3, 5, 9, 3, 1, 0])
    parts = rng.standard_normal(7), index, np.array([0, 4, 4, 7])
    odd = sp.csr_array(parts, shape=(3, 30))
    summed = odd.copy()
    summed.sum_duplicates()
    model, twin = make(online, fo.AdaGrad(), np.float64), make(online, fo.AdaGrad(), np.float64)
    forms = [odd, odd.tocoo(), sp.csc_array(odd), sp.csr_matrix(odd)]
    for form in forms:
        model.learn(form, [1, 0, 1])
        twin.learn(summed, [1, 0, 1])
    assert_same_array(model.table, twin.table, "table")
    assert odd.indices.tolist() == index.tolist()       # the caller's, and as it was


@pytest.mark.parametrize("values", [np.int64, np.float32, bool], ids=lambda v: v.__name__)
def test_values_of_another_dtype(online, values):
    x = sp.csr_array(np.eye(4, 30, dtype=values))
    model, twin = online.Logistic(fo.SGD(), 30), online.Logistic(fo.SGD(), 30)
    model.learn(x, np.array([True, False, True, False]))
    twin.learn(x.astype(float), [1, 0, 1, 0])
    assert_same_array(model.table, twin.table, "table")


# ---------------------------------------------------------------- others' numbers


def test_the_weights_are_scikit_learns(online):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = stream(np.random.default_rng(8), 500, 40)
    theirs = linear_model.SGDClassifier(
        loss="log_loss", penalty=None, learning_rate="constant", eta0=0.2, shuffle=False,
        fit_intercept=False,            # of sparse examples it is learned at 0.01 times the rate
    )
    x.indices, x.indptr = x.indices.astype(np.int32), x.indptr.astype(np.int32)
    theirs.partial_fit(x, y, classes=[0, 1])
    ours = online.Logistic(fo.SGD(lr=0.2), 40, bias=False)
    ours.learn(x, y)
    np.testing.assert_allclose(ours.table[:, 0], theirs.coef_[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.predict(x), theirs.predict_proba(x)[:, 1], rtol=1e-9)


def test_the_weights_are_rivers(online):
    linear_model = pytest.importorskip("river.linear_model")
    from river.optim import SGD

    x, y = stream(np.random.default_rng(9), 300, 40)
    theirs = linear_model.LogisticRegression(SGD(0.2), intercept_lr=0.2)
    for (index, values), label in zip(rows_of(x, float), y, strict=True):
        theirs.learn_one(dict(zip(index.tolist(), values.tolist(), strict=True)), bool(label))
    ours = online.Logistic(fo.SGD(lr=0.2), 40)
    ours.learn(x, y)
    weights = [theirs.weights.get(j, 0.0) for j in range(40)]
    np.testing.assert_allclose(ours.table[:, 0], weights, rtol=1e-9, atol=1e-12)
    assert ours.bias[0] == pytest.approx(theirs.intercept, rel=1e-9)


# ---------------------------------------------------------------- hashing

MASK = 2**64 - 1


def hash_of(name):
    h = 0xCBF29CE484222325
    for byte in name.encode("utf-8", "surrogatepass"):
        h = (h ^ byte) * 0x100000001B3 & MASK
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


@pytest.mark.parametrize("bits", [1, 4, 20, 30])
def test_hashing(online, bits):
    rng = np.random.default_rng(10)
    names = [f"wört{k}" for k in range(200)] + ["", "a\0b", "\ud800", "x" * 3000]
    examples = [
        [*rng.choice(len(names), rng.integers(0, 40))] for _ in range(300)
    ]
    lists = [[names[k] for k in example] for example in examples]
    lists.append([f"n{k}" for k in range(5000)])            # one longer than its memory at first
    mappings = [dict(zip(words, rng.standard_normal(len(words)).tolist(), strict=True))
                for words in lists]
    for given in (lists, mappings):
        x = online.hashed(iter(given), bits=bits)
        assert x.shape == (301, 2**bits)
        assert x.has_canonical_format
        for k, example in enumerate(given):
            expected = {}
            for name in example:
                h = hash_of(name)
                value = example[name] if isinstance(example, dict) else 1.0
                slot = h >> 64 - bits
                expected[slot] = expected.get(slot, 0.0) + (-value if h & 1 else value)
            a, b = x.indptr[k:k + 2]
            assert x.indices[a:b].tolist() == sorted(expected)
            assert x.data[a:b].tolist() == [expected[slot] for slot in sorted(expected)]


def test_hashing_gives_the_dtype_that_is_asked_for(online):
    assert online.hashed([["a"]], bits=3, dtype=np.float32).dtype == np.float32
    assert online.hashed([], bits=3).shape == (0, 8)


@pytest.mark.parametrize(
    ("examples", "bits", "error", "text"),
    [
        (["a text"], 8, TypeError, r"a list of names or a mapping, got a str; use text\.split\(\)"),
        ([[1]], 8, TypeError, "the name of a feature must be a str, got int"),
        ([["a"]], 0, ValueError, r"bits must be in \[1, 31\), got 0"),
        ([["a"]], 31, ValueError, r"bits must be in \[1, 31\), got 31"),
        ([["a"]], 8.5, TypeError, "integer"),
    ],
)
def test_what_cannot_be_hashed(online, examples, bits, error, text):
    with pytest.raises(error, match=text):
        online.hashed(examples, bits=bits)


# ---------------------------------------------------------------- what is refused


def test_options_of_update_are_refused(online):
    shared = {field.name for field in dataclasses.fields(Optimizer)}
    assert set(online.models.OPTIONS) == shared - {"decoupled"}
    for opt, option in (
        (fo.AdamW(), "weight_decay"), (fo.SGD(clip_norm=1.0), "clip_norm"),
        (fo.SGD(groups=[fo.Group("b", lr=1.0)]), "groups"),
    ):
        with pytest.raises(ValueError, match=f"{option} is an option of opt.update, which is not"):
            online.Logistic(opt, 3)
    with pytest.raises(ValueError, match="lookahead belongs to opt.step, which is not called here"):
        online.Logistic(fo.Momentum(lookahead=True), 3)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda o: o.Logistic(fo.SGD(), 0), ValueError, r"features must be .* 2\*\*31\), got 0"),
        (lambda o: o.Logistic(fo.SGD(), 2**31), ValueError, "features must be"),
        (lambda o: o.Logistic(fo.SGD(), 2.0), ValueError, "features must be"),
        (lambda o: o.Logistic(fo.SGD(), 3, dtype=int), TypeError, "dtype must be float32"),
        (lambda o: o.Softmax(fo.SGD(), 3, 1), ValueError, "classes must be .* at least 2, got 1"),
        (lambda o: o.FactorisationMachine(fo.SGD(), 3, 0), ValueError, "rank must be .* got 0"),
        (lambda o: o.Logistic(Misnamed(), 3), ValueError, "fastoptim has no rule 'adma'"),
    ],
)
def test_models_that_cannot_be(online, make, error, text):
    with pytest.raises(error, match=text):
        make(online)


class Misnamed(fo.SGD):
    kernel, kernels = "adma", {"adma": ()}


def parts(indptr, indices, data=None):
    """A CSR array that says that it is in order, whether it is or not."""
    x = sp.csr_array((len(indptr) - 1, 30))
    x.indptr, x.indices = np.array(indptr, np.int32), np.array(indices, np.int32)
    x.data = np.ones(len(indices)) if data is None else np.array(data)
    x.has_canonical_format = True
    return x


def wide(indices):
    x = parts([0, 2, 3], [1, 4, 2])
    x.indices, x.indptr = np.array(indices), x.indptr.astype(np.int64)
    return x


GOOD = parts([0, 2, 3], [1, 4, 2])
ORDER = "features must be numbers in .0, 30., each once and in order"
# x, y, error, text
REFUSED = {
    "dense": (np.ones((2, 30)), [0, 1], TypeError, "x must be a sparse array .* got ndarray"),
    "narrow": (sp.csr_array((2, 29)), [0, 1], ValueError, r"shape \(n, 30\), got \(2, 29\)"),
    "one axis": (sp.coo_array((30,)), [0], ValueError, r"shape \(n, 30\), got \(30,\)"),
    "complex": (GOOD.astype(complex), [0, 1], TypeError, "real numbers, got complex128"),
    "few labels": (GOOD, [0], ValueError, r"y must be 2 integers, got int64 \(1,\)"),
    "labels of two axes": (GOOD, [[0], [1]], ValueError, r"y must be 2 integers"),
    "labels of floats": (GOOD, [0.0, 1.0], ValueError, r"y must be 2 integers, got float64"),
    "label beyond": (GOOD, [0, 2], ValueError, r"labels must be in \[0, 2\), got 0 to 2"),
    "label negative": (GOOD, [-1, 0], ValueError, r"labels must be in \[0, 2\), got -1 to 0"),
    "label huge": (GOOD, [0, 2**32], ValueError, r"labels must be in \[0, 2\)"),
    "feature beyond": (parts([0, 2, 3], [1, 30, 2]), [0, 1], ValueError, ORDER),
    "feature negative": (parts([0, 2, 3], [-1, 3, 2]), [0, 1], ValueError, ORDER),
    "feature of 64 bits": (wide([1, 4, 2 + 2**32]), [0, 1], ValueError, "got 1 to 4294967298"),
    "feature twice": (parts([0, 2, 3], [1, 1, 2]), [0, 1], ValueError, ORDER),
    "no order": (parts([0, 2, 3], [4, 1, 2]), [0, 1], ValueError, ORDER),
    "bounds": (parts([0, 3, 2], [1, 2, 3]), [0, 1], ValueError, ORDER),
    "bounds too far": (parts([0, 2, 4], [1, 2, 3]), [0, 1], ValueError, ORDER),
    "bounds negative": (parts([-1, 2, 3], [1, 2, 3]), [0, 1], ValueError, ORDER),
    "values": (parts([0, 2, 3], [1, 4, 2], [1.0]), [0, 1], ValueError, "expected 3 numbers, got 1"),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refused_and_nothing_changed(online, row):
    x, y, error, text = row
    model, twin = online.Logistic(fo.Adam(), 30), online.Logistic(fo.Adam(), 30)
    for _ in range(2):
        with pytest.raises(error, match=text):
            model.learn(x, y)
        model.learn(GOOD, [0, 1])
        twin.learn(GOOD, [0, 1])
    assert_same_array(model.table, twin.table, "table")
    assert_same_array(model.state, twin.state, "state")
    assert model.t == 4


@pytest.mark.parametrize(
    ("index", "values", "label", "error", "text"),
    [
        ([1, 1], [1.0, 1.0], 0, ValueError, ORDER),
        (np.array([30], np.int32), [1.0], 0, ValueError, ORDER),
        ([30], [1.0], 0, ValueError, r"features must be numbers in \[0, 30\), got 30 to 30"),
        ([-1], [1.0], 0, ValueError, r"features must be numbers in \[0, 30\), got -1 to -1"),
        ([1 + 2**32], [1.0], 0, ValueError, "features must be numbers in"),
        ([1.5], [1.0], 0, TypeError, "features must be integers, got float64"),
        ([[1]], [1.0], 0, ValueError, "dimensions"),
        ([1], [1.0, 2.0], 0, ValueError, "expected 1 numbers, got 2"),
        ([1], [1.0], 2, ValueError, r"labels must be in \[0, 2\), got 2"),
        ([1], [1.0], -1, ValueError, r"labels must be in \[0, 2\), got -1"),
        ([1], [1.0], 0.5, TypeError, "integer"),
    ],
)
def test_one_example_that_cannot_be(online, index, values, label, error, text):
    model = online.Logistic(fo.SGD(), 30)
    with pytest.raises(error, match=text):
        model.learn_one(index, values, label)
    assert not model.table.any()
    assert model.t == 0


def test_predictions_of_what_cannot_be(online):
    model = online.Logistic(fo.SGD(), 30)
    for x, text in ((parts([0, 1], [30]), ORDER), (sp.csr_array((2, 29)), "must have shape")):
        with pytest.raises(ValueError, match=text):
            model.predict(x)


def test_another_thread_is_told_that_the_model_is_busy(online):
    """One thread learns again and again until another has been refused."""
    x, y = stream(np.random.default_rng(11), 2000, 30)
    x, y = sp.vstack([x] * 4, format="csr"), np.tile(y, 4)
    model, stop, refused = online.Logistic(fo.SGD(), 30), threading.Event(), []

    def learn():
        while not stop.is_set():
            try:
                model.learn(x, y)
            except RuntimeError as problem:         # the other was in its own loop
                refused.append(str(problem))

    thread, end = threading.Thread(target=learn), monotonic() + PATIENCE
    thread.start()
    while not refused and monotonic() < end:
        try:
            model.predict(x)
        except RuntimeError as problem:
            refused.append(str(problem))
    stop.set()
    thread.join()
    assert set(refused) == {"another thread is using this model"}
    model.learn(x, y)                               # and goes on


# ---------------------------------------------------------------- as a user meets it


@pytest.mark.parametrize("data", ["synthetic", "texts", "pairs"])
def test_the_comparison_runs(installed, tmp_path, data):
    done = run_python(
        "-m", "online.compare", "--data", data, "--examples", 400, "--rounds", 2,
        folders=[installed, LIBRARY], cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, names, _, *lines = done.stdout.splitlines()
    assert head.startswith(f"{data}: 320 examples with ")
    assert names == "| | examples/s | progressive loss | loss, held out | accuracy |"
    found = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in lines}
    assert {"online, SGD", "online, AdaGrad", "online, SGD, a call per example"} <= set(found)
    assert found["online, SGD"][1:] == found["online, SGD, a call per example"][1:]


@pytest.mark.parametrize("argument", ["--examples=99", "--rounds=0", "--data=none"])
def test_bad_arguments_end_with_2(installed, tmp_path, argument):
    done = run_python("-m", "online.compare", argument, folders=[installed, LIBRARY], cwd=tmp_path)
    assert done.returncode == 2
    assert argument.partition("=")[0] in done.stderr.splitlines()[-1]


def test_the_packages_own_example(online):
    found = doctest.testmod(online)
    assert found.attempted > 3
    assert found.failed == 0


def test_the_examples_of_the_readme(online):
    found = doctest.testfile(str(EXAMPLE / "README.md"), module_relative=False, encoding="utf-8")
    assert found.attempted > 5
    assert found.failed == 0
