"""What arrays in another order cost: Adam, float32, against arrays in one order.

A convolution written by hand hands over the transpose of its gradient at every step, and a gradient
made by `x.T @ d` of an array in Fortran order lies in Fortran order.
"""

import numpy as np
import pytest
from alternate import medians
from cases import AdamWithOut, Contestant, arrays

import fastoptim as fo

SHAPES = {"784 × 100": (784, 100), "1 M": (1000, 1000), "16 M": (4000, 4000)}


def contestant(name, optimizer, params, grads):
    return Contestant(name, lambda: optimizer.update(params, grads), [params, grads])


def every_second(a):
    """Return an array with the same elements, each beside one that is not its own."""
    memory = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    memory[..., ::2] = a
    return memory[..., ::2]


def in_order(x, g):
    return {"k0": x}, {"k0": g}


LAYOUTS = {
    "gradient in Fortran order": lambda x, g: ({"k0": x}, {"k0": np.asfortranarray(g)}),
    "every second column": lambda x, g: ({"k0": every_second(x)}, {"k0": g}),
}


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, size, benchmark, table):
    shape = SHAPES[size]
    x, g = (arrays([shape], seed)["k0"] for seed in (0, 1))
    everyone = [
        contestant("fastoptim", fo.Adam(), *LAYOUTS[name](x.copy(), g)),
        contestant("in one order", fo.Adam(), *in_order(x.copy(), g)),
        contestant("NumPy out=", AdamWithOut(), *LAYOUTS[name](x.copy(), g)),
    ]
    table.append((f"{name}, {size}", medians(everyone, benchmark, seconds=2.0)))
