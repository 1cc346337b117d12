"""Adam on rows of an embedding table: 5,000 words of a text, some 1,000 of them distinct."""

import math
from itertools import cycle

import numpy as np
import pytest
from alternate import medians
from cases import Contestant, Stream, bare

import fastoptim as fo

WORDS, DIM, TEXT = 100_000, 100, 5_000


def batches(n, seed=0):
    """Indices by Zipf's law and their gradients; the exponent leaves about 1,000 distinct rows."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, WORDS + 1) ** 1.25
    words = rng.permutation(WORDS)      # frequent words are not neighbours
    return [
        (words[rng.choice(WORDS, TEXT, p=p / p.sum())],
         rng.standard_normal((TEXT, DIM), dtype=np.float32))
        for _ in range(n)
    ]


def embedding():
    return np.random.default_rng(1).standard_normal((WORDS, DIM), dtype=np.float32)


def ours(given):
    params, opt, turn = {"E": embedding()}, fo.Adam(), cycle([fo.Rows(i, g) for i, g in given])
    return Contestant("fastoptim", lambda: opt.update(params, {"E": next(turn)}))


class NumPyRows:
    """np.unique, np.add.at, and Adam on the rows."""

    def __init__(self, given):
        self.turn, self.p = cycle(given), embedding()
        self.m, self.v, self.t = np.zeros_like(self.p), np.zeros_like(self.p), 0

    def __call__(self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-7):
        index, values = next(self.turn)
        self.t += 1
        lr_t = lr * math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t)
        rows, place = np.unique(index, return_inverse=True)
        g = np.zeros((len(rows), DIM), np.float32)
        np.add.at(g, place, values)
        m, v = self.m[rows], self.v[rows]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        self.m[rows], self.v[rows] = m, v
        self.p[rows] -= lr_t * m / (np.sqrt(v) + eps)


def torch_sparse_adam(given):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(fo.get_num_threads())
    p = torch.nn.Parameter(torch.from_numpy(embedding()))
    opt = torch.optim.SparseAdam([p])
    turn = cycle([(torch.from_numpy(i)[None], torch.from_numpy(g)) for i, g in given])

    def call():
        # what backward() leaves: not coalesced, so that the step sums the duplicates
        p.grad = torch.sparse_coo_tensor(*next(turn), p.shape, check_invariants=False)
        opt.step()

    return Contestant("torch SparseAdam", call)


def rows_stream(given):
    """The least with the same memory: every gradient row is read, every distinct row's p, m and v
    are read and written where they lie in their tables; nothing is sorted or summed."""
    params, opt = {"E": embedding()}, Stream()
    distinct = [np.unique(index) for index, _ in given]
    turn = cycle([
        (fo.Rows(rows, g[:len(rows)]), g[len(rows):].reshape(-1))
        for rows, (_, g) in zip(distinct, given, strict=True)
    ])
    bin_ = np.zeros(TEXT * DIM, np.float32)

    def call():
        rows, rest = next(turn)
        opt.update(params, {"E": rows})
        bare("add", bin_[:rest.size], rest)

    return Contestant("stream limit", call)


def dense_stream(given):
    """The same amount of memory in one piece instead of rows all over a table."""
    n = int(np.mean([len(np.unique(index)) for index, _ in given])) * DIM
    p, m, v = (np.zeros(n, np.float32) for _ in range(3))
    g, rest = given[0][1].reshape(-1)[:n], given[0][1].reshape(-1)[n:]
    bin_ = np.zeros(rest.size, np.float32)

    def call():
        bare("stream", p, g, (m, v))
        bare("add", bin_, rest)

    return Contestant("stream limit, one piece", call)


@pytest.mark.parametrize("texts", [1, 8])
def test_rows(texts, benchmark, table, sections):
    """One text again and again, in cache as far as it fits; and eight in turn, which do not fit."""
    given = batches(texts)
    distinct = np.mean([len(np.unique(index)) for index, _ in given])
    everyone = [
        ours(given), torch_sparse_adam(given), Contestant("NumPy", NumPyRows(given)),
        rows_stream(given), dense_stream(given),
    ]
    times = medians([c for c in everyone if c is not None], benchmark, seconds=6.0)
    case = f"{TEXT} of {WORDS} rows of {DIM}, {distinct:.0f} distinct, " + (
        "one text" if texts == 1 else f"{texts} texts in turn"
    )
    table.append((case, times))
    lines = sections.setdefault("rows: time per distinct row beyond a limit", [])
    for name in ("stream limit", "stream limit, one piece"):
        beyond = (times["fastoptim"] - times[name]) / distinct
        lines.append(f"{case}: {beyond * 1e6:.3f} µs beyond the {name}")
