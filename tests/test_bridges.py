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
