"""The published listings in plain NumPy: what the kernels equal to the bit.

They are here to be read, to be compared with (``fastoptim demo``, the tests, the benchmarks) and
to be fallen back on; every update makes a handful of temporary arrays, which is what fastoptim
is there to save. Hyperparameters stay Python floats on purpose: under NumPy 2 an ``np.float64``
scalar, such as ``np.sqrt`` returns, silently turns float32 arrays into float64 ones.
"""

import math
from typing import Any

import numpy as np

Dict = dict[Any, Any]


def state(slot: Dict, key: Any, p: Any) -> Any:
    """Return a key's state array, zeros when it is asked for the first time."""
    if key not in slot:
        slot[key] = np.zeros_like(p)
    return slot[key]


class SGD:
    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: Dict, grads: Dict) -> None:
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum:
    def __init__(self, lr: float = 0.01, alpha: float = 0.9) -> None:
        self.lr, self.alpha = lr, alpha
        self.v: Dict = {}

    def update(self, params: Dict, grads: Dict) -> None:
        for key, p in params.items():
            v = state(self.v, key, p)
            v *= self.alpha
            v -= self.lr * grads[key]
            p += v


class Nesterov:
    def __init__(self, lr: float = 0.01, mu: float = 0.9, form: str = "published") -> None:
        self.lr, self.mu, self.form = lr, mu, form
        self.v: Dict = {}

    def update(self, params: Dict, grads: Dict) -> None:
        lr, mu = self.lr, self.mu
        for key, p in params.items():
            v = state(self.v, key, p)
            if self.form == "published":
                p += mu * mu * v
                p -= (1 + mu) * lr * grads[key]
                v *= mu
                v -= lr * grads[key]
            else:
                v *= mu
                v -= lr * grads[key]
                p += mu * mu * v
                p -= (1 + mu) * lr * grads[key]


class AdaGrad:
    def __init__(self, lr: float = 0.01, eps: float = 1e-7) -> None:
        self.lr, self.eps = lr, eps
        self.h: Dict = {}

    def update(self, params: Dict, grads: Dict) -> None:
        for key, p in params.items():
            h = state(self.h, key, p)
            h += grads[key] * grads[key]
            p -= self.lr * grads[key] / (np.sqrt(h) + self.eps)


class RMSprop:
    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99, eps: float = 1e-7) -> None:
        self.lr, self.decay_rate, self.eps = lr, decay_rate, eps
        self.h: Dict = {}

    def update(self, params: Dict, grads: Dict) -> None:
        for key, p in params.items():
            h = state(self.h, key, p)
            h *= self.decay_rate
            h += (1 - self.decay_rate) * grads[key] * grads[key]
            p -= self.lr * grads[key] / (np.sqrt(h) + self.eps)


class Adam:
    def __init__(
        self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-7
    ) -> None:
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.iter = 0
        self.m: Dict = {}
        self.v: Dict = {}

    def update(self, params: Dict, grads: Dict) -> None:
        self.iter += 1
        lr_t = self.lr * math.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for key, p in params.items():
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (grads[key] ** 2 - v)
            p -= lr_t * m / (np.sqrt(v) + self.eps)
