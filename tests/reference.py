"""The NumPy oracle: the published listing of every rule, under the rule's class name.

The rules that ``fastoptim demo`` shows have their listings in the package, since the demo runs
where the tests are not; the test suite has no other statement of them. A rule that the demo does
not show has its listing below. test_registry.py holds the names against the library's.
"""

import math

import numpy as np

from fastoptim.listings import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop

ORACLES = {cls.__name__: cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)}


def global_norm(grads):
    """The norm of all gradients, summed in float64: blocks of 1,024, 32 lanes in each."""
    total = 0.0
    for g in grads.values():
        x = np.zeros(-(-g.size // 1024) * 1024)  # a zero behind the end adds nothing
        x[: g.size] = np.ravel(g, order="K")
        rows = x.reshape(-1, 32, 32)
        lanes = np.zeros((len(rows), 32))
        for k in range(32):
            lanes += rows[:, k] * rows[:, k]
        for block in lanes.tolist():
            share = 0.0
            for lane in block:
                share += lane
            total += share
    return math.sqrt(total)


class Staged:
    """A rule's oracle with the options that every rule has, in plain NumPy around it."""

    def __init__(
        self, oracle, *, weight_decay=0.0, decoupled=False, clip_value=None, clip_norm=None,
        maximize=False, zero_grads=False, average=None,
    ):
        self.oracle, self.average = oracle, average
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.clip_value, self.clip_norm = clip_value, clip_norm
        self.maximize, self.zero_grads = maximize, zero_grads
        self.average_of = {}

    def __getattr__(self, name):
        return getattr(self.oracle, name)

    def update(self, params, grads):
        factor = -1.0 if self.maximize else 1.0
        if self.clip_norm is not None:
            norm = global_norm(grads)
            if not norm <= self.clip_norm:
                factor *= self.clip_norm / norm
        staged = {}
        for key, p in params.items():
            g = grads[key]
            if factor != 1.0:
                g = factor * g
            if self.clip_value is not None:
                g = np.clip(g, -self.clip_value, self.clip_value)
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * p
            staged[key] = g
            if self.average is not None and key not in self.average_of:
                self.average_of[key] = p.copy()
        for p in params.values():
            if self.weight_decay and self.decoupled:
                p *= 1.0 - self.oracle.lr * self.weight_decay
        self.oracle.update(params, staged)
        for key, p in params.items():
            if self.average is not None:
                self.average_of[key] += (1.0 - self.average) * (p - self.average_of[key])
            if self.zero_grads:
                grads[key][...] = 0
