"""The linear text classifier of the examples: its formulas, and the program as a user runs it."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from helpers import assert_same_array, run_python

import fastoptim as fo

PROGRAM = Path(__file__).parent.parent / "examples" / "text_classifier.py"


@pytest.fixture(scope="module")
def example():
    spec = spec_from_file_location("text_classifier", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def data(rng, n, words):
    x = np.where(rng.random((n, words)) < 0.05, rng.random((n, words)), 0)
    return x, rng.integers(0, 3, n)


def test_the_gradient_is_that_of_the_cross_entropy(example):
    rng = np.random.default_rng(0)
    x, y = data(rng, 40, 30)
    w = rng.standard_normal((30, 3))

    def loss(w):
        return -np.log(example.softmax(x @ w)[np.arange(40), y]).mean()

    got = example.gradient(sp.csr_array(x), y, w).toarray()
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = 1e-6
        slope = (loss(w + step) - loss(w - step)) / 2e-6
        assert got[place] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("rule", [fo.FTRL, fo.AdaGrad])
def test_training_by_csr_gradients_is_training_by_dense_ones(example, rule):
    """To the bit: with these rules a gradient of zero changes nothing."""
    rng = np.random.default_rng(1)
    x, y = data(rng, 300, 200)
    x = sp.csr_array(x)
    w = example.train(x, y, rule(), epochs=2, seed=3)
    rng = np.random.default_rng(3)
    params, opt = {"W": np.zeros((200, 3))}, rule()
    for _ in range(2):
        order = rng.permutation(300)
        for start in range(0, 300, example.BATCH):
            batch = order[start:start + example.BATCH]
            g = example.gradient(x[batch], y[batch], params["W"]).toarray()
            opt.update(params, {"W": g})
    assert_same_array(w, params["W"], "W")
    assert np.count_nonzero(w) > 100


def library(folder, name, words, rng):
    """A package with 80 functions, whose docstrings have these words and ones that all have."""
    (folder / name / "tests").mkdir(parents=True)
    common = [f"common{'abcdefghij'[k % 10]}{'abcdefghij'[k // 10]}" for k in range(100)]
    lines = [f'"""{name} begins."""']
    for k in range(80):
        drawn = [*rng.choice(words, 4), *rng.choice(common, 10)]
        lines.append(f'def f{k}():\n    """{name} µ {" ".join(rng.permutation(drawn))}"""')
    (folder / name / "__init__.py").write_text("\n".join(lines), "utf-8")
    (folder / name / "tests" / "t.py").write_text(f'"""{"not read " * 20}"""', "utf-8")
    return SimpleNamespace(origin=str(folder / name / "__init__.py"))


@pytest.mark.parametrize("rule", ["ftrl", "adagrad"])
def test_the_program_tells_libraries_apart(example, tmp_path, monkeypatch, capsys, rule):
    rng = np.random.default_rng(0)
    vocabulary = {"numpy": "axis shape stride", "scipy": "root solve spline", "sklearn": "fit tree"}
    found = {
        name: library(tmp_path, name, words.split(), rng) for name, words in vocabulary.items()
    }
    monkeypatch.setattr(example, "find_spec", found.get)
    assert example.main(["--rule", rule, "--texts", "60"]) == 0
    out = capsys.readouterr().out
    right, guess = (float(x) for x in re.findall(r"([\d.]+)%", out))
    assert right == 100
    assert guess < 60
    counts = re.findall(r"([\d,]+) of ([\d,]+)", out)[0]
    used, words = (int(x.replace(",", "")) for x in counts)
    assert words == 100 + sum(len(words.split()) for words in vocabulary.values())
    assert used == words if rule == "adagrad" else used < words / 2
    for name, words in vocabulary.items():
        best = re.search(rf"{name}: (.*)", out)[1].split(", ")
        assert best[0] in words.split()


@pytest.mark.parametrize(
    "argument", ["--epochs=0", "--texts=3", "--rule=adam", "--lr=-1", "--l1=nan"]
)
def test_bad_arguments_end_with_2(argument):
    done = run_python(PROGRAM, argument)
    assert done.returncode == 2
    assert argument.partition("=")[0].lstrip("-") in done.stderr.splitlines()[-1]
