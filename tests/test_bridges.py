"""The page of bridges: each program runs as it is printed, and does what is said beside it."""

import copy
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastoptim as fo

PAGE = (Path(__file__).parents[1] / "docs" / "bridges.md").read_text("utf-8")
SECTIONS = dict(part.split("\n", 1) for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:])


def run(section, **names):
    """Run the programs of a section, one after the other, and return their names."""
    for program in re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.M | re.S):
        exec(program, names)
    return names


# ---------------------------------------------------------------- scikit-learn


@pytest.fixture(scope="module")
def sklearn_names():
    pytest.importorskip("sklearn")
    names = run("scikit-learn", __name__=__name__)
    globals().update({name: names[name] for name in ("FusedMLPClassifier", "FusedMLPRegressor")})
    return names                        # pickle looks for a class where it was made


@pytest.fixture(params=["Classifier", "Regressor"])
def two_of(request, sklearn_names):
    """scikit-learn's class and ours, with data for them."""
    theirs = sklearn_names[f"MLP{request.param}"]
    ours = sklearn_names[f"FusedMLP{request.param}"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 6))
    t = x[:, 0] - x[:, 1] ** 2
    return theirs, ours, x, (t > -0.5 if request.param == "Classifier" else t)


def fit(cls, x, t, n_iter=30, **numbers):
    """A network after some epochs of batches of 32."""
    given = {"hidden_layer_sizes": (16, 8), "batch_size": 32, "random_state": 0, "tol": 0.0}
    with warnings.catch_warnings(action="ignore"):      # "has not converged"
        return cls(max_iter=n_iter, **(given | numbers)).fit(x, t)


def assert_same_network(ours, theirs, rtol=1e-10):
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


NUMBERS = [
    {},
    {"alpha": 0.1, "learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
    {"early_stopping": True, "n_iter_no_change": 3},
    {"shuffle": False, "activation": "tanh"},
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: " ".join(numbers))
def test_sklearns_loss_curve(two_of, numbers):
    theirs, ours, x, t = two_of
    network = fit(ours, x, t, **numbers)
    assert_same_network(network, fit(theirs, x, t, **numbers))
    assert isinstance(network._optimizer.update_params.__self__, fo.Adam)
    assert network._optimizer.update_params.__self__.iter > 0


def test_sklearn_in_float32(two_of):
    theirs, ours, x, t = two_of
    x = x.astype(np.float32)
    if t.dtype == np.float64:
        with pytest.raises(TypeError, match=r"grads\[0\] is float64, but params\[0\] is float32"):
            fit(ours, x, t, 5)
        t = t.astype(np.float32)
    network = fit(ours, x, t, 5)
    assert {a.dtype for a in network.coefs_ + network.intercepts_} == {np.dtype(np.float32)}
    assert_same_network(network, fit(theirs, x, t, 5), rtol=1e-4)


def epochs(network, x, t, n):
    """A network after n epochs more."""
    classes = {"classes": np.unique(t)} if hasattr(network, "predict_proba") else {}
    for _ in range(n):
        network.partial_fit(x, t, **classes)
    return network


def test_sklearns_partial_fit_goes_on(two_of):
    """With its state: four epochs more are those of scikit-learn, also after a pickle or a copy."""
    theirs, ours, x, t = two_of
    given = {"hidden_layer_sizes": (16,), "random_state": 0, "batch_size": 32}
    expected = epochs(theirs(**given), x, t, 8)
    half = epochs(ours(**given), x, t, 4)
    for again in (pickle.loads(pickle.dumps(half)), copy.deepcopy(half), half):
        assert_same_network(epochs(again, x, t, 4), expected)
        assert again._optimizer.update_params.__self__.iter == 8 * 4


def test_sklearns_warm_start_clone_and_grid(two_of):
    theirs, ours, x, t = two_of
    base = pytest.importorskip("sklearn.base")
    selection = pytest.importorskip("sklearn.model_selection")
    networks = [fit(cls, x, t, 3, warm_start=True) for cls in (theirs, ours)]
    with warnings.catch_warnings(action="ignore"):
        for network in networks:
            network.fit(x, t)
    assert_same_network(networks[1], networks[0])
    clone = base.clone(networks[1])
    assert type(clone) is ours
    assert clone.get_params() == networks[0].get_params()
    assert not hasattr(clone, "_optimizer")
    searches = [
        selection.GridSearchCV(cls(max_iter=5, random_state=0), {"alpha": [0.0, 1.0]}, cv=2)
        for cls in (theirs, ours)
    ]
    with warnings.catch_warnings(action="ignore"):
        scores = [search.fit(x, t).cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-10)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sklearns_other_solvers_stay_its_own(two_of, solver):
    theirs, ours, x, t = two_of
    network, expected = (fit(cls, x, t, 5, solver=solver) for cls in (ours, theirs))
    for a, b in zip(network.coefs_, expected.coefs_, strict=True):
        assert np.array_equal(a, b)


# ---------------------------------------------------------------- thinc, spaCy


@pytest.fixture(scope="module")
def thinc():
    with warnings.catch_warnings(action="ignore"):      # of what it imports
        return pytest.importorskip("thinc.api")


def rounds(optimizer, n=12, clipped=1.0):
    """Two parameters after n rounds of thinc's calls, with gradients that are often clipped."""
    rng = np.random.default_rng(0)
    weights = {(1, "W"): np.ones((3, 4), np.float32), (2, "b"): np.ones(5, np.float32)}
    for _ in range(n):
        for key, w in weights.items():
            g = rng.standard_normal(w.shape, dtype=np.float32)
            new, zeroed = optimizer(key, w, g)
            assert not zeroed.any()
            weights[key] = new
        optimizer.step_schedules()
    return weights


def of_thinc(thinc):
    pytest.importorskip("thinc", minversion="9")        # before, they were generators
    return thinc.warmup_linear(0.1, 3, 20)


RATES = {
    "a number": lambda thinc: 0.01,
    "a schedule of thinc": of_thinc,
    "a schedule of fastoptim": lambda thinc: fo.schedules.cosine_decay(0.1, 10),
}


def for_thinc(**hyperparameters):
    given = {"eps": 1e-8, "clip_norm": 1.0} | hyperparameters
    return run("thinc and spaCy")["ForThinc"](fo.Adam(**given))


def test_the_line_that_has_thincs_numbers(thinc):
    theirs = rounds(thinc.Adam(0.001, L2=0, grad_clip=1.0, use_averages=False))
    ours = rounds(run("thinc and spaCy")["optimizer"])
    for key, w in ours.items():
        np.testing.assert_allclose(w, theirs[key], rtol=1e-6)


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_thincs_numbers(thinc, rate):
    """In float32, which is all that thinc has; a schedule gives all keys of a round one rate."""
    lr = rate(thinc)
    as_theirs = [lr(step) for step in range(13)] if callable(lr) else lr
    theirs = thinc.Adam(as_theirs, L2=0.0, grad_clip=1.0, use_averages=False)
    ours = for_thinc(lr=lr)
    expected = rounds(theirs)
    for key, w in rounds(ours).items():
        np.testing.assert_allclose(w, expected[key], rtol=1e-5)
    assert ours.step == 12
    assert [own.iter for own in ours.by_key.values()] == [12, 12]


def test_thincs_scale_of_a_rate(thinc):
    theirs, ours = thinc.Adam(0.1, L2=0.0, use_averages=False), for_thinc(lr=0.1)
    both = []
    for optimizer in (theirs, ours):
        w = np.ones(3, np.float32)
        for scale in (0.5, 1.0, 0.25):
            g = np.full(3, 0.1, np.float32)
            w, _ = optimizer((1, "W"), w, g, lr_scale=scale)
        both.append(w)
    np.testing.assert_allclose(both[1], both[0], rtol=1e-5)


def test_a_model_of_thinc_learns(thinc):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 8), dtype=np.float32)
    t = np.eye(2, dtype=np.float32)[(x[:, 0] > 0).astype(int)]
    thinc.fix_random_seed(0)
    model = thinc.chain(thinc.Relu(16), thinc.Softmax(2)).initialize(x, t)
    optimizer, losses = for_thinc(lr=0.01, average=0.5), []
    for _ in range(60):
        y, backprop = model.begin_update(x)
        losses.append(float(((y - t) ** 2).sum()))
        backprop((y - t) / len(x))
        model.finish_update(optimizer)
        optimizer.step_schedules()
    assert losses[-1] < losses[0] / 10
    assert len(optimizer.averages) == 4
    before = model.predict(x)
    with model.use_params(optimizer.averages):
        key, average = next(iter(optimizer.averages.items()))
        node = next(node for node in model.walk() if node.id == key[0])
        assert np.array_equal(node.get_param(key[1]), average)
    assert np.array_equal(model.predict(x), before)


@pytest.mark.filterwarnings("ignore")               # of what it imports
def test_a_pipeline_of_spacy_learns():
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    texts = {"good fine nice": 1.0, "bad poor awful": 0.0}
    nlp = spacy.blank("en")
    component = nlp.add_pipe("textcat")
    for label in ("POSITIVE", "NEGATIVE"):
        component.add_label(label)
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {"POSITIVE": p, "NEGATIVE": 1.0 - p}})
        for text, p in texts.items()
    ]
    nlp.initialize(lambda: examples)
    optimizer, losses = for_thinc(lr=0.01), []
    for _ in range(20):
        now = {}
        nlp.update(examples, sgd=optimizer, losses=now)
        optimizer.step_schedules()
        losses.append(now["textcat"])
    assert losses[-1] < losses[0] / 10
    assert all(own.iter == 20 for own in optimizer.by_key.values())


# ---------------------------------------------------------------- JAX


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jax():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    names = run("JAX")
    params, t = names["params"], names["t"]
    assert float(names["loss"]) < 1e-2 * float((t**2).mean())
    assert names["opt"].iter == 100
    assert all(type(p) is np.ndarray for p in params.values())

    tx = optax.adam(optax.cosine_decay_schedule(0.3, 100))
    expected = {"W": jax.numpy.zeros(3, "float32"), "b": jax.numpy.zeros(1, "float32")}
    state = tx.init(expected)
    for _ in range(100):
        _, grads = names["loss_and_grads"](expected, names["x"], t)
        updates, state = tx.update(grads, state)
        expected = optax.apply_updates(expected, updates)
    for key, p in params.items():
        np.testing.assert_allclose(p, expected[key], rtol=1e-3, atol=1e-4)

    assert names["net"]["layer"]["W"].tolist() == [0.75] * 3
    assert names["net"]["out"][0].tolist() == [0.25]


def test_what_is_said_of_jaxs_memory():
    jax = pytest.importorskip("jax")
    a = np.zeros(1000, np.float32)
    copied = jax.numpy.array(a)
    a[:] = 1.0
    assert not np.asarray(copied).any()
    g = jax.numpy.ones(1000, "float32")
    assert np.asarray(g).ctypes.data == g.unsafe_buffer_pointer()       # no copy


# ---------------------------------------------------------------- TensorFlow, Keras


@pytest.fixture(scope="module")
def tensorflow():
    with warnings.catch_warnings(action="ignore"):      # of what it imports
        return pytest.importorskip("tensorflow")


def test_tensorflow(tensorflow):
    names = run("TensorFlow and Keras")
    assert float(names["loss"]) < 1e-3
    table = names["table"].numpy()
    assert (table[[3, 5]] != 1).all()
    untouched = np.delete(table, [3, 5], axis=0)
    assert (untouched == 1).all()
    for key, variable in names["variables"].items():
        assert np.array_equal(variable.numpy(), names["params"][key])
        assert not hasattr(variable, "__dlpack__")


def test_variables_of_keras():
    with warnings.catch_warnings(action="ignore"):      # of what it imports
        keras = pytest.importorskip("keras")
    variable = keras.Variable(np.ones(3, np.float32))
    params = {"W": np.asarray(variable).copy()}
    fo.SGD(lr=0.5).update(params, {"W": np.ones(3, np.float32)})
    assert np.asarray(variable).tolist() == [1.0] * 3
    variable.assign(params["W"])
    assert np.asarray(variable).tolist() == [0.5] * 3
    with pytest.raises(TypeError, match=r"got Variable; .* np.asarray\(variable\).copy\(\) once"):
        fo.SGD().update({"W": variable}, {"W": np.ones(3, np.float32)})


# ---------------------------------------------------------------- autograd


def test_autograd():
    pytest.importorskip("autograd")
    names = run("HIPS autograd")
    assert names["value"] < 1e-3
    assert names["opt"].iter == 200
    assert all(type(p) is np.ndarray for p in names["params"].values())


def test_autograds_boxes_are_told_where_update_belongs():
    autograd = pytest.importorskip("autograd")

    def loss(params):
        for params_, grads in (
            (params, {"W": np.ones(2)}), ({"W": np.ones(2)}, {"W": params["W"] * 2})
        ):
            with pytest.raises(TypeError, match="got ArrayBox, which stands for a value inside th"):
                fo.SGD().update(params_, grads)
        return (params["W"] ** 2).sum()

    assert autograd.grad(loss)({"W": np.ones(2)})["W"].tolist() == [2.0, 2.0]


# ---------------------------------------------------------------- DLPack


def refused(p, error, text):
    """An update of p raises, and p stays."""
    before = p.copy()
    with pytest.raises(error, match=text):
        fo.SGD().update({"W": p}, {"W": np.ones(p.shape, p.dtype)})
    assert np.array_equal(p, before)


def test_dlpack():
    pytest.importorskip("torch")
    names = run("Plain DLPack")
    assert names["tensor"].tolist() == [0.5] * 3


def test_dlpack_of_torch():
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(BufferError, match="detach"):
        np.from_dlpack(x)
    fo.SGD(lr=0.5).update([np.from_dlpack(x.detach())], [np.ones(3, np.float32)])
    assert x.tolist() == [0.5] * 3
    x = torch.ones(3, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError):
        np.from_dlpack(x)
    p = np.from_dlpack(x.detach().view(torch.int16)).view(ml_dtypes.bfloat16)
    fo.SGD(lr=0.5).update([p], [np.ones(3, ml_dtypes.bfloat16)])
    assert x.tolist() == [0.5] * 3
    x = torch.ones(1).expand(3)
    refused(np.from_dlpack(x), ValueError, "overlap")
    fo.SGD(lr=0.5).update([np.from_dlpack(x.contiguous())], [np.ones(3, np.float32)])


class Before1:
    """An owner of memory that speaks DLPack as it was before version 1.0."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, stream=None):
        return self.a.__dlpack__()

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


def of_jax():
    return pytest.importorskip("jax.numpy").ones(3, "float32")


def of_tensorflow():
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("tensorflow").ones(3)


@pytest.mark.parametrize("make", [of_jax, of_tensorflow, lambda: Before1(np.ones(3, np.float32))])
def test_dlpack_that_is_read_only(make):
    """Refused as a parameter, fine as a gradient."""
    x = make()
    p = np.from_dlpack(x)
    refused(p, ValueError, "read-only")
    copied = np.array(p if isinstance(x, Before1) else x)
    fo.SGD(lr=0.5).update([copied], [p])
    assert copied.tolist() == [0.5] * 3
    with pytest.raises(ValueError, match="read-only"):
        fo.SGD(zero_grads=True).update([copied], [p])


def test_a_foreign_tensor_with_dlpack_is_told_of_it():
    x = Before1(np.ones(3, np.float32))
    with pytest.raises(TypeError, match=r"got Before1; np.from_dlpack\(x\) is an array of its mem"):
        fo.SGD().update({"W": np.ones(3, np.float32)}, {"W": x})


def test_dlpack_of_jax_with_copy_is_read_only_as_well():
    assert not np.from_dlpack(of_jax(), copy=True).flags.writeable
