"""After the first update, an update allocates nothing that grows with the parameters."""

import tracemalloc

import numpy as np
import pytest
from registry import every_rule

SMALL = 4096  # bytes: the frames and scalars of a call


def growth(opt, params, grads):
    """Peak of what ten updates allocate, in bytes."""
    opt.update(params, grads)
    opt.update(params, grads)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(10):
            opt.update(params, grads)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", ["C", "F", "strided", "gradient transposed"])
@every_rule
def test_no_allocation_that_grows(case, layout):
    p, g = np.ones((1000, 500)), np.ones((1000, 500))
    if layout == "F":
        p, g = np.asfortranarray(p), np.asfortranarray(g)
    elif layout == "strided":
        p, g = p[:, ::2], g[:, ::2]
    elif layout == "gradient transposed":
        g = np.ones((500, 1000)).T
    assert growth(case.ours(), {"x": p}, {"x": g}) < SMALL


@every_rule
def test_many_keys(case):
    """A list entry per key is all that a call needs."""
    params = {f"k{i}": np.ones(1000, np.float32) for i in range(200)}
    grads = {key: np.ones(1000, np.float32) for key in params}
    assert growth(case.ours(), params, grads) < SMALL + 200 * 16
