"""RK45 with tolerances, float32, 1 M parameters, against NumPy. Run with `make bench`.

fn returns arrays that are there already, so what is timed is the method alone: six sums of slopes,
the error's norm, the step's control. Contestants take turns; the table gives medians.
"""

import numpy as np
import pytest
from alternate import medians
from cases import Contestant, arrays

import fastoptim as fo

CASES = {"RK45, 1 array of 1 M": [(1_000_000,)], "RK45, 10 arrays of 100,000": [(100_000,)] * 10}
RTOL, ATOL = 1e-3, 1e-6
A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
E = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)


class Listing:
    """As one writes it down: an expression per stage."""

    def __init__(self, h):
        self.h = h

    def step(self, params, fn):
        k = [fn(params)]
        for row in A:
            x = {
                key: p - self.h * sum(a * g[key] for a, g in zip(row, k, strict=True) if a)
                for key, p in params.items()
            }
            k.append(fn(x))
        total = n = 0
        for key, p in params.items():
            error = self.h * sum(e * g[key] for e, g in zip(E, k, strict=True) if e)
            scale = ATOL + RTOL * np.maximum(np.abs(p), np.abs(x[key]))
            total += np.sum((error / scale) ** 2, dtype=np.float64)
            n += p.size
        self.h *= factor(np.sqrt(total / n))
        for key, p in params.items():
            p[...] = x[key]


class WithOut:
    """As a NumPy user writes it who knows every trick: out= everywhere, nothing allocated."""

    def __init__(self, h):
        self.h, self.k = h, None

    def weighted(self, key, weights, out):
        rows = [(w, k[key]) for w, k in zip(weights, self.k, strict=False) if w]
        np.multiply(rows[0][1], -self.h * rows[0][0], out=out)
        for w, k in rows[1:]:
            np.multiply(k, -self.h * w, out=self.a[key])
            np.add(out, self.a[key], out=out)

    def step(self, params, fn):
        if self.k is None:
            self.k = [{key: np.empty_like(p) for key, p in params.items()} for _ in range(7)]
            self.x, self.a, self.b = (
                {key: np.empty_like(p) for key, p in params.items()} for _ in range(3)
            )
        for key, g in fn(params).items():
            np.copyto(self.k[0][key], g)
        for row, k in zip(A, self.k[1:], strict=True):
            for key, p in params.items():
                self.weighted(key, row, self.x[key])
                np.add(p, self.x[key], out=self.x[key])
            for key, g in fn(self.x).items():
                np.copyto(k[key], g)
        total = n = 0
        for key, p in params.items():
            x, a, b = self.x[key], self.a[key], self.b[key]
            self.weighted(key, E, b)
            error = b
            np.abs(p, out=a)
            k = self.k[1][key]  # free by now
            np.abs(x, out=k)
            np.maximum(a, k, out=a)
            np.multiply(a, RTOL, out=a)
            np.add(a, ATOL, out=a)
            np.divide(error, a, out=a)
            total += float(np.dot(a, a))
            n += p.size
        self.h *= factor(np.sqrt(total / n))
        for key, p in params.items():
            np.copyto(p, self.x[key])


def factor(norm):
    return min(10.0, 0.9 * norm**-0.2) if norm else 10.0


def contestant(optimizer, shapes, slopes):
    """A call that takes one step on parameters of its own, of the same length every time."""
    params = arrays(shapes, 0)
    turn = [0]

    def fn(p):
        turn[0] = (turn[0] + 1) % len(slopes)
        return slopes[turn[0]]

    def call():
        optimizer.step(params, fn)
        if isinstance(optimizer, fo.RK45):
            optimizer.lr = 1e-3
        else:
            optimizer.h = 1e-3

    return call


@pytest.mark.parametrize("title", CASES)
def test_rk45(title, benchmark, table):
    shapes = CASES[title]
    one = [arrays(shapes, 1)]
    everyone = {
        "fastoptim": contestant(fo.RK45(1e-3, RTOL, ATOL), shapes, one),
        "NumPy listing": contestant(Listing(1e-3), shapes, one),
        "NumPy out=": contestant(WithOut(1e-3), shapes, one),
    }
    table.append((title, medians([Contestant(*one) for one in everyone.items()], benchmark)))
