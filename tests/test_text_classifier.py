"""The linear text classifier of the examples: its formulas, and the program as a user runs it."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from registry import assert_same_array

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


@pytest.mark.parametrize("rule", ["ftrl", "adagrad"])
def test_the_program_tells_the_libraries_apart(rule):
    run = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), "--rule", rule, "--texts", "600"],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    right, guess = (float(x) for x in re.findall(r"([\d.]+)%", run.stdout))
    assert right > 60 > 40 > guess
    counts = re.findall(r"([\d,]+) of ([\d,]+)", run.stdout)[0]
    used, words = (int(x.replace(",", "")) for x in counts)
    assert used == words if rule == "adagrad" else used < words / 2


@pytest.mark.parametrize(
    "argument", ["--epochs=0", "--texts=3", "--rule=adam", "--lr=-1", "--l1=nan"]
)
def test_bad_arguments_end_with_2(argument):
    run = subprocess.run(
        [sys.executable, str(PROGRAM), argument], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert argument.partition("=")[0].lstrip("-") in run.stderr.splitlines()[-1]
