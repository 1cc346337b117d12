"""After the first update, an update allocates nothing that grows with the parameters."""

import numpy as np
import pytest
from helpers import bytes_at_peak, bytes_kept, every_rule

SMALL = 4096  # bytes: the frames and scalars of a call


def assert_small(opt, params, grads, limit):
    def update():
        opt.update(params, grads)

    update()
    update()
    assert bytes_at_peak(update) < limit
    assert bytes_kept(update) < limit


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
    assert_small(case.ours(), {"x": p}, {"x": g}, SMALL)


@every_rule
def test_many_keys(case):
    """A list entry per key is all that a call needs."""
    params = {f"k{i}": np.ones(1000, np.float32) for i in range(200)}
    grads = {key: np.ones(1000, np.float32) for key in params}
    assert_small(case.ours(), params, grads, SMALL + 200 * 16)
