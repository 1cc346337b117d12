"""NumPy: the listings, and the same with ``out=`` everywhere."""

import math
from typing import Any

import numpy as np

from fastoptim import listings
from fastoptim.bench.cases import Case
from fastoptim.bench.names import LISTING, WITH_OUT
from fastoptim.bench.turns import Contestant

Arrays = dict[Any, Any]


class WithOut:
    """A rule as a NumPy user writes it who knows every trick: nothing is allocated.

    The operations and their order are the listing's, and so are the bits. `own` has for each key
    the state, and behind it two arrays to work in.
    """

    slots: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.iter = 0
        self.own: dict[Any, list[Any]] = {}

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Update all parameters in place."""
        self.iter += 1
        for key, p in params.items():
            if key not in self.own:
                self.own[key] = [np.zeros_like(p) for _ in range(len(self.slots) + 2)]
            self.one(p, grads[key], *self.own[key])

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        raise NotImplementedError

    def __getattr__(self, slot: str) -> Arrays:
        """Return a state by its name, key by key."""
        if slot not in type(self).slots:
            raise AttributeError(slot)
        place = self.slots.index(slot)
        return {key: own[place] for key, own in self.own.items()}


class SGD(WithOut):
    """p −= lr g."""

    lr = 0.01

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        a = own[0]
        np.multiply(g, self.lr, out=a)
        np.subtract(p, a, out=p)


class Momentum(WithOut):
    """v = αv − lr g;  p += v."""

    slots = ("v",)
    lr, alpha = 0.01, 0.9

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        v, a, _ = own
        np.multiply(v, self.alpha, out=v)
        np.multiply(g, self.lr, out=a)
        np.subtract(v, a, out=v)
        np.add(p, v, out=p)


class Nesterov(WithOut):
    """p += μ²v;  p −= (1+μ) lr g;  v = μv − lr g."""

    slots = ("v",)
    lr, mu = 0.01, 0.9

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        v, a, _ = own
        np.multiply(v, self.mu * self.mu, out=a)
        np.add(p, a, out=p)
        np.multiply(g, (1 + self.mu) * self.lr, out=a)
        np.subtract(p, a, out=p)
        np.multiply(v, self.mu, out=v)
        np.multiply(g, self.lr, out=a)
        np.subtract(v, a, out=v)


class Divided(WithOut):
    """What AdaGrad and RMSprop share: p −= lr g/(√h + eps)."""

    slots = ("h",)
    lr, eps = 0.01, 1e-7

    def divide(self, p: Any, g: Any, h: Any, a: Any, b: Any) -> None:
        """Take the step."""
        np.sqrt(h, out=b)
        np.add(b, self.eps, out=b)
        np.multiply(g, self.lr, out=a)
        np.divide(a, b, out=a)
        np.subtract(p, a, out=p)


class AdaGrad(Divided):
    """h += g²."""

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        h, a, b = own
        np.multiply(g, g, out=a)
        np.add(h, a, out=h)
        self.divide(p, g, h, a, b)


class RMSprop(Divided):
    """h = ρh + (1−ρ)g g."""

    decay_rate = 0.99

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        h, a, b = own
        np.multiply(h, self.decay_rate, out=h)
        np.multiply(g, 1 - self.decay_rate, out=a)
        np.multiply(a, g, out=a)
        np.add(h, a, out=h)
        self.divide(p, g, h, a, b)


class Adam(WithOut):
    """m += (1−β₁)(g−m);  v += (1−β₂)(g²−v);  p −= lr_t m/(√v + eps)."""

    slots = ("m", "v")
    lr, beta1, beta2, eps = 0.001, 0.9, 0.999, 1e-7

    def one(self, p: Any, g: Any, *own: Any) -> None:
        """Update one parameter."""
        m, v, a, b = own
        lr_t = self.lr * math.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        np.subtract(g, m, out=a)
        np.multiply(a, 1 - self.beta1, out=a)
        np.add(m, a, out=m)
        np.multiply(g, g, out=a)
        np.subtract(a, v, out=a)
        np.multiply(a, 1 - self.beta2, out=a)
        np.add(v, a, out=v)
        np.multiply(m, lr_t, out=a)
        np.sqrt(v, out=b)
        np.add(b, self.eps, out=b)
        np.divide(a, b, out=a)
        np.subtract(p, a, out=p)


OUT = {cls.__name__: cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)}


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return both forms at work."""
    def at_work(name: str, optimizer: Any) -> Contestant:
        params, grads = new()
        return Contestant(name, lambda: optimizer.update(params, grads), [params, grads])

    return [
        at_work(LISTING, getattr(listings, case.rule)()),
        at_work(WITH_OUT, OUT[case.rule]()),
    ]
