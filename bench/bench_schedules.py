"""What schedules and coefficients of own rules cost an update: small arrays, so all is Python."""

from statistics import median
from time import perf_counter

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import schedules

COSINE = schedules.cosine_decay(1e-3, 10**6)
CALLS, ROUNDS = 200, 100


@fo.rule(state=("m",), lr=1e-4, beta1=0.9, beta2=0.99)
def OwnLion(p, g, m, lr, beta1, beta2):  # noqa: N802 a class when it is made
    return p - lr * np.sign(beta1 * m + (1 - beta1) * g), beta2 * m + (1 - beta2) * g


def group(**values):
    return [fo.Group("b", **values)]


# Each: an optimizer without, and the same with what is measured.
CASES = {
    "Adam, a cosine for lr": (fo.Adam(), fo.Adam(lr=COSINE)),
    "AdamW, a cosine for lr": (fo.AdamW(), fo.AdamW(lr=COSINE)),
    "Adam with a group, two cosines": (
        fo.Adam(groups=group(lr=1e-4)), fo.Adam(lr=COSINE, groups=group(lr=COSINE)),
    ),
    "an own rule beside the built-in": (fo.Lion(weight_decay=0.0), OwnLion()),
    "an own rule, a cosine for lr": (OwnLion(), OwnLion(lr=COSINE)),
}


def seconds(opt):
    params = {"a": np.ones(64, np.float32), "b": np.ones(64, np.float32)}
    grads = {key: np.ones(64, np.float32) for key in params}
    start = perf_counter()
    for _ in range(CALLS):
        opt.update(params, grads)
    return (perf_counter() - start) / CALLS


@pytest.mark.parametrize("title", CASES)
def test_schedules(title, benchmark, sections):
    times = ([], [])

    def one_round():
        for opt, seen in zip(CASES[title], times, strict=True):
            seen.append(seconds(opt))

    one_round()
    benchmark.pedantic(one_round, rounds=ROUNDS)
    without, given = (median(seen) * 1e6 for seen in times)
    lines = sections.setdefault(
        "schedules, µs per update", ["| case | without | with | more |", "|---|---|---|---|"]
    )
    lines.append(f"| {title} | {without:.2f} | {given:.2f} | {given - without:.2f} |")
