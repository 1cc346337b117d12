"""What examples/word2vec computes, slowly: the same draws and the same steps in plain NumPy.

Gradients are in float64; a row takes its step in float32 through fastoptim.kernels.step. No matrix
product: its rounding would be that of the BLAS and the processor.
"""

from math import fsum

import numpy as np

from fastoptim import kernels

MASK = 2**64 - 1


class SplitMix64:
    def __init__(self, state):
        self.state = state

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return ((self.bits() >> 32) * n) >> 32

    def from_table(self, thresholds, aliases):
        r = self.bits()
        slot = ((r >> 32) * len(thresholds)) >> 32
        return slot if (r & 0xFFFFFFFF) / 2**32 < thresholds[slot] else int(aliases[slot])


class Trainer:
    """Both tables and their state, and which of their rows were touched."""

    def __init__(self, tables, slots, kernel, window, negative, thresholds, aliases, keep):
        self.tables, self.slots, self.kernel = tables, slots, kernel
        self.window, self.negative = window, negative
        self.thresholds, self.aliases, self.keep = thresholds, aliases, keep
        self.touched = set(), set()
        self.windows = []

    def sentence(self, ids, coefficients, shrink, rng):
        if len(self.keep):
            ids = [w for w in ids if (rng.bits() >> 11) / 2**53 < self.keep[w]]
        if len(ids) < 2:
            return
        draws = []
        for word in ids:
            b = 1 + rng.below(self.window)
            drawn = [rng.from_table(self.thresholds, self.aliases) for _ in range(self.negative)]
            draws.append((b, [word, *(n for n in drawn if n != word)]))
            self.windows.append(b)
        for i, (b, targets) in enumerate(draws):
            contexts = [*ids[max(0, i - b) : i], *ids[i + 1 : i + 1 + b]]
            self.step(contexts, targets, coefficients, shrink)

    def step(self, contexts, targets, coefficients, shrink):
        x = self.tables[0][contexts].astype(np.float64)
        y = self.tables[1][targets].astype(np.float64)
        scores = np.array([[fsum((a * b).tolist()) for b in y] for a in x])
        g = np.exp(-np.logaddexp(0, -scores))  # σ
        g[:, 0] -= 1
        dx = sum(g[:, [k]] * y[k] for k in range(len(y)))
        dy = sum(g[k][:, None] * x[k] for k in range(len(x)))
        for side, words, rows in ((0, contexts, dx), (1, targets, dy)):
            sums = {}
            for word, row in zip(words, rows, strict=True):
                sums[word] = sums.get(word, 0) + row
            for word, total in sums.items():
                p = self.tables[side][word]
                p *= np.float32(shrink)
                state = tuple(slot[word] for slot in self.slots[side])
                kernels.step(self.kernel, p, total.astype(np.float32), state, coefficients)
                self.touched[side].add(word)
