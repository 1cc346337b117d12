"""The data of compare: nothing is downloaded."""

import re
import sysconfig
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from online import hashed

PACKAGES = ("asyncio", "email", "importlib", "logging", "multiprocessing", "unittest", "xml")


def synthetic(n, rng):
    """Examples of 20 draws of 2**18 features by Zipf's law, and labels of a logistic model.

    Feature k = 1, 2, … is drawn in proportion to k^−1.2; one that is drawn twice counts twice.
    An example's values have the norm 1; the model's weights are normal, with standard deviation 4.
    """
    features = 2**18
    share = np.arange(1, features + 1) ** -1.2
    drawn = rng.choice(features, (n, 20), p=share / share.sum()).astype(np.int32)
    parts = np.ones(20 * n), drawn.ravel(), np.arange(0, 20 * n + 1, 20)
    x = normalised(sp.csr_array(parts, shape=(n, features)))
    scores = x @ rng.normal(0, 4, features)
    chance = 1 / (1 + np.exp(np.median(scores) - scores))       # as many of either label
    return x, (rng.random(n) < chance).astype(int)


def texts(n, rng):
    """Five lines of a source of Python's standard library, hashed: which package are they of?"""
    library, found = Path(sysconfig.get_paths()["stdlib"]), []
    for label, package in enumerate(PACKAGES):
        for path in sorted((library / package).rglob("*.py")):
            if {"test", "tests"} & set(path.parts):
                continue
            lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
            for start in range(0, len(lines), 5):
                words = re.findall(r"[A-Za-z_]\w*", "\n".join(lines[start : start + 5]))
                found.append((words, label))
    order = rng.permutation(len(found))[:n]
    x = hashed((found[k][0] for k in order), bits=18)
    return normalised(x), np.array([found[k][1] for k in order])


def pairs(n, rng):
    """One of 400 users and one of 200 items, and labels by the product of their factors."""
    user, item = rng.integers(0, 400, n), rng.integers(400, 600, n)
    factors = rng.normal(0, 1, (600, 4))
    chance = 1 / (1 + np.exp(-2 * (factors[user] * factors[item]).sum(axis=1)))
    columns = np.stack([user, item], axis=1).astype(np.int32).ravel()
    x = sp.csr_array((np.ones(2 * n), columns, np.arange(0, 2 * n + 1, 2)), shape=(n, 600))
    return x, (rng.random(n) < chance).astype(int)


def normalised(x):
    """Let each row have the norm 1, duplicates summed, and indices 32 bits, as others want them."""
    x.sum_duplicates()
    norms = np.sqrt((x * x).sum(axis=1))
    x.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(x.indptr))
    parts = x.data, x.indices.astype(np.int32), x.indptr.astype(np.int32)
    return sp.csr_matrix(parts, shape=x.shape)
