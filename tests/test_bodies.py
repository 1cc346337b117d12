"""The bodies of docs/bodies.md have the numbers of Optax: 50 steps in float64, to 1e-12.

They are read from the page, so that they are stated once.
"""

import doctest
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from reference import tensor_norm

import fastoptim as fo

pytest.importorskip("numba")

PAGE = Path(__file__).parent.parent / "docs" / "bodies.md"
NAMES = ["AdEMAMix", "ADOPT", "NovoGrad", "MADGRAD", "Lookahead"]
SHAPES = {"W": (7, 5), "b": (11,)}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """The page's definitions as a module; a rule's source has to be in a file."""
    examples = doctest.DocTestParser().get_examples(PAGE.read_text("utf-8"))
    defined = [e.source for e in examples if e.source.startswith(("import ", "def ", "@fo.rule"))]
    path = tmp_path_factory.mktemp("bodies") / "bodies.py"
    path.write_text("\n".join(defined), "utf-8")
    spec = importlib.util.spec_from_file_location("bodies", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start():
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal(shape) for key, shape in SHAPES.items()}


def gradients():
    """Fixed, with zeros, and some larger than what ADOPT clips at."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        yield {
            key: rng.standard_normal(shape) * rng.choice([0.0, 1.0, 30.0], shape)
            for key, shape in SHAPES.items()
        }


def ours(opt):
    params = start()
    for grads in gradients():
        opt.update(params, grads)
    return params


def theirs(opt, optax, wrap=lambda params: params, unwrap=lambda params: params):
    import jax

    with jax.enable_x64(True):
        params = wrap(jax.tree.map(jax.numpy.asarray, start()))
        state = jax.tree.map(  # of a count in int32 JAX makes float32: MADGRAD's √t, a schedule's
            lambda x: x.astype("int64") if x.dtype == "int32" else x, opt.init(params)
        )
        for grads in gradients():
            updates, state = opt.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return {key: np.asarray(p) for key, p in unwrap(params).items()}


def same(params, others):
    for key, p in params.items():
        assert others[key].dtype == np.float64
        np.testing.assert_allclose(p, others[key], rtol=1e-12, atol=1e-13)


def test_the_page_has_these_bodies(bodies):
    made = [name for name, value in vars(bodies).items() if hasattr(value, "body")]
    assert made == NAMES


CASES = {
    # name, hyperparameters, Optax' name and arguments
    "AdEMAMix": ("AdEMAMix", {"lr": 0.01}, "ademamix", {"learning_rate": 0.01}),
    "AdEMAMix-numbers": (
        "AdEMAMix",
        {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "beta3": 0.99, "alpha": 2.0, "eps": 1e-3},
        "ademamix",
        {"learning_rate": 0.01, "b1": 0.8, "b2": 0.95, "b3": 0.99, "alpha": 2.0, "eps": 1e-3},
    ),
    "AdEMAMix-decay": (
        "AdEMAMix", {"lr": 0.01, "weight_decay": 0.1, "decoupled": True},
        "ademamix", {"learning_rate": 0.01, "weight_decay": 0.1},
    ),
    "ADOPT": ("ADOPT", {"lr": 0.01}, "adopt", {"learning_rate": 0.01}),
    "ADOPT-numbers": (
        "ADOPT", {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "eps": 0.1},
        "adopt", {"learning_rate": 0.01, "b1": 0.8, "b2": 0.9, "eps": 0.1},
    ),
    "MADGRAD": ("MADGRAD", {"lr": 0.01}, "madgrad", {"learning_rate": 0.01}),
    "MADGRAD-numbers": (
        "MADGRAD", {"lr": 0.1, "momentum": 0.5, "eps": 1e-2, "weight_decay": 0.1},
        "madgrad", {"learning_rate": 0.1, "momentum": 0.5, "eps": 1e-2, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_of_optax(case, bodies):
    contrib = pytest.importorskip("optax.contrib")
    import optax

    name, hyper, optax_name, arguments = CASES[case]
    made = getattr(contrib, optax_name)(**arguments)
    same(ours(getattr(bodies, name)(**hyper)), theirs(made, optax))


@pytest.mark.parametrize(
    ("hyper", "arguments"),
    [
        ({"lr": 0.01}, {"learning_rate": 0.01}),
        (
            {"lr": 0.02, "beta1": 0.8, "beta2": 0.5, "eps": 1e-2, "decay": 0.1},
            {"learning_rate": 0.02, "b1": 0.8, "b2": 0.5, "eps": 1e-2, "weight_decay": 0.1},
        ),
    ],
)
def test_novograd_has_the_numbers_of_optax(hyper, arguments, bodies):
    optax = pytest.importorskip("optax")
    same(ours(bodies.NovoGrad(**hyper)), theirs(optax.novograd(**arguments), optax))


def test_schedules_of_ademamix(bodies):
    """Optax asks its schedules for the number of completed updates, too."""
    contrib = pytest.importorskip("optax.contrib")
    import jax
    import optax

    def slow(step):
        halved, a, b = jax.numpy.minimum(step / 30, 1.0), np.log(0.9), np.log(0.99)
        return jax.numpy.exp(a * b / ((1 - halved) * b + halved * a))

    made = contrib.ademamix(0.01, alpha=optax.linear_schedule(0.0, 5.0, 40), b3=slow)
    opt = bodies.AdEMAMix(
        lr=0.01, alpha=fo.schedules.linear(0.0, 5.0, 40),
        beta3=lambda step: bodies.slow_beta(step, 0.9, 0.99, 30),
    )
    same(ours(opt), theirs(made, optax))


@pytest.mark.parametrize(("k", "alpha", "mu"), [(5, 0.5, 0.9), (3, 0.8, 0.5), (1, 0.5, 0.9)])
def test_lookahead_has_the_numbers_of_optax(k, alpha, mu, bodies):
    optax = pytest.importorskip("optax")
    made = optax.lookahead(optax.sgd(0.01, momentum=mu), sync_period=k, slow_step_size=alpha)
    others = theirs(
        made, optax, wrap=optax.LookaheadParams.init_synced, unwrap=lambda params: params.fast
    )
    same(ours(bodies.Lookahead(lr=0.01, mu=mu, alpha=alpha, k=k)), others)


@pytest.mark.parametrize("name", NAMES)
def test_a_body_is_the_same_by_numpy(name, bodies):
    """In float32, too; where it has an ``if`` on numbers alone, NumPy runs it as it is."""
    cls = getattr(bodies, name)
    opt, key = cls(lr=0.01), "x"
    p = start()["W"].astype(np.float32)
    params, slots = {key: p.copy()}, [np.zeros_like(p) for _ in cls.kernels[name]]
    for grads in gradients():
        g = grads["W"].astype(np.float32)
        opt.update(params, {key: g})
        numbers = {field: getattr(opt, field) for field in cls.__match_args__}
        numbers |= opt._further(opt.iter, numbers)
        numbers["norm_g"] = tensor_norm(g)
        p, *slots = cls.body(p, g, *slots, *[numbers[name] for name in cls._arguments])
        assert params[key].dtype == p.dtype == np.float32
        if name == "MADGRAD":  # np.cbrt may differ in the last place
            np.testing.assert_allclose(params[key], p, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(params[key], p)
            for slot, ours_of in zip(slots, cls.kernels[name], strict=True):
                np.testing.assert_array_equal(getattr(opt, ours_of)[key], slot)


def test_a_body_is_a_dozen_lines():
    examples = doctest.DocTestParser().get_examples(PAGE.read_text("utf-8"))
    rules = [e.source for e in examples if e.source.startswith("@fo.rule")]
    assert len(rules) == len(NAMES)
    assert max(len(text.splitlines()) for text in rules) <= 12
