"""What each option costs against the bare rule (Adam, float32), and what a soft batch costs."""

import pytest
from alternate import medians
from cases import Contestant, arrays, bare, with_dicts

import fastoptim as fo

OPTIONS = {
    "weight_decay": {"weight_decay": 0.01},
    "decoupled": {"weight_decay": 0.01, "decoupled": True},
    "clip_value": {"clip_value": 1.0},
    "maximize": {"maximize": True},
    "zero_grads": {"zero_grads": True},
    "average": {"average": 0.99},
    "clip_norm": {"clip_norm": 1.0},
    "nonfinite": {"nonfinite": "skip"},
    "both": {"clip_norm": 1.0, "nonfinite": "skip"},
}
SIZES = {"1 M": 1_000_000, "50 M": 50_000_000}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_option(name, size, benchmark, table):
    shapes = [(SIZES[size],)]
    everyone = [
        with_dicts("fastoptim", fo.Adam(), shapes),
        with_dicts("the option", fo.Adam(**OPTIONS[name]), shapes),
    ]
    table.append((f"{name}, {size}", medians(everyone, benchmark, seconds=2.0)))


@pytest.mark.parametrize("size", SIZES)
def test_soft_batch(size, benchmark, table):
    """Adding one more gradient, against the bare kernel that does nothing but add."""
    shapes = [(SIZES[size],)]
    params, grads, sums = (arrays(shapes, seed) for seed in (0, 1, 2))
    soft = fo.SoftBatch(fo.SGD(), every=10**9)
    everyone = [
        Contestant("fastoptim", lambda: soft.update(params, grads), [params]),
        Contestant("stream limit", lambda: bare("add", sums["k0"], grads["k0"])),
    ]
    table.append((f"SoftBatch, {size}", medians(everyone, benchmark, seconds=2.0)))
