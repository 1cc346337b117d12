"""Adam written as a rule of the user's own, float32, against the built-in."""

import math

import numpy as np
import pytest
from alternate import medians
from cases import with_dicts

import fastoptim as fo

SIZES = {"1 M": 1_000_000, "50 M": 50_000_000}


def corrected(t, lr, beta1, beta2):
    return {"lr_t": lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)}


def my_adam():
    @fo.rule(state=("m", "v"), lr=0.001, beta1=0.9, beta2=0.999, eps=1e-7, coefficients=corrected)
    def MyAdam(p, g, m, v, beta1, beta2, eps, lr_t):  # noqa: N802  a class
        m = m + (1 - beta1) * (g - m)
        v = v + (1 - beta2) * (g**2 - v)
        return p - lr_t * m / (np.sqrt(v) + eps), m, v

    return MyAdam()


@pytest.mark.parametrize("size", SIZES)
def test_custom_adam(size, benchmark, table):
    shapes = [(SIZES[size],)]
    everyone = [
        with_dicts("fastoptim", fo.Adam(), shapes), with_dicts("own rule", my_adam(), shapes)
    ]
    table.append((f"Adam, {size}", medians(everyone, benchmark)))
