"""What is measured: sets of parameter shapes, and the contestants that update them."""

import math
from dataclasses import dataclass, field

import numpy as np

import fastoptim as fo
from fastoptim import listings
from fastoptim.kernels import PASSES
from fastoptim.kernels.one_array import step
from fastoptim.optimizer.base import Optimizer, Slot

CASES = {
    "100 keys of 64 elements": [(64,)] * 100,
    "MLP 784-100-10 (4 keys)": [(784, 100), (100,), (100, 10), (10,)],
    "12 × (256×256 + 256)": [(256, 256), (256,)] * 12,
    "1 array of 1 M": [(1_000_000,)],
    "1 array of 50 M": [(50_000_000,)],
}


def arrays(shapes, seed):
    rng = np.random.default_rng(seed)
    return {f"k{i}": rng.standard_normal(shape, dtype=np.float32) for i, shape in enumerate(shapes)}


@dataclass(eq=False, repr=False)
class Stream(Optimizer):
    """The least that can be done with Adam's arrays: one addition for each that is written."""

    kernels = {"stream": ("m", "v")}
    m = Slot()
    v = Slot()

    def capsule(self):
        return PASSES[self.kernel]

    def coefficients(self, t):
        return ()


def bare(name, param, grad, state=()):
    """Run a loop that is no rule of an optimizer, such as "add", on one array."""
    step(PASSES[name], param, grad, state, ())


class AdamWithOut:
    """Adam as a NumPy user writes it who knows every trick: out= everywhere, nothing allocated."""

    def __init__(self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-7):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.iter, self.state = 0, {}

    def update(self, params, grads):
        self.iter += 1
        lr_t = self.lr * math.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for key, p in params.items():
            if key not in self.state:
                self.state[key] = [np.zeros_like(p) for _ in range(4)]
            g = grads[key]
            m, v, a, b = self.state[key]
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


@dataclass
class Contestant:
    """Something that updates its own copy of the parameters when it is called."""

    name: str
    call: object
    kept: list = field(default_factory=list)


def with_dicts(name, optimizer, shapes):
    params, grads = arrays(shapes, 0), arrays(shapes, 1)
    return Contestant(name, lambda: optimizer.update(params, grads), [params, grads])


def torch_fused(shapes):
    """torch.optim.Adam(fused=True) on as many threads as fastoptim; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(fo.get_num_threads())
    params = [torch.nn.Parameter(torch.from_numpy(a)) for a in arrays(shapes, 0).values()]
    for p, g in zip(params, arrays(shapes, 1).values(), strict=True):
        p.grad = torch.from_numpy(g)
    return Contestant("torch fused", torch.optim.Adam(params, fused=True).step, params)


def contestants(shapes):
    """Everyone in the order of the table; fastoptim first."""
    everyone = [
        with_dicts("fastoptim", fo.Adam(), shapes),
        with_dicts("NumPy listing", listings.Adam(), shapes),
        with_dicts("NumPy out=", AdamWithOut(), shapes),
        torch_fused(shapes),
        with_dicts("stream limit", Stream(), shapes),
    ]
    return [c for c in everyone if c is not None]
