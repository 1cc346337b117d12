"""After the first update, an update allocates nothing that grows with the parameters."""

import numpy as np
from helpers import LAYOUTS, bytes_at_peak, bytes_kept, every_layout_of_both, every_rule

SMALL = 4096  # bytes: the frames and scalars of a call


def assert_small(opt, params, grads, limit):
    def update():
        opt.update(params, grads)

    update()
    update()
    assert bytes_at_peak(update) < limit
    assert bytes_kept(update) < limit


@every_layout_of_both
@every_rule
def test_no_allocation_that_grows(case, layout, grad_layout):
    ones = np.ones((1000, 500))
    params, grads = {"x": LAYOUTS[layout](ones)}, {"x": LAYOUTS[grad_layout](ones)}
    assert_small(case.ours(), params, grads, SMALL)


@every_rule
def test_many_keys(case):
    """A list entry per key is all that a call needs, and one more if norms are wanted."""
    params = {f"k{i}": np.ones(1000, np.float32) for i in range(200)}
    grads = {key: np.ones(1000, np.float32) for key in params}
    assert_small(case.ours(), params, grads, SMALL + 200 * (24 if case.of_norms else 16))
