"""Run the clients in a process of their own, and write what they give: python c_api_run.py FILE.

The clients are imported before fastoptim, which their import must bring about.
"""

import sys

import numpy as np
import scipy.sparse as sp

RANK, EPOCHS, PENALTY = 5, 3, 0.25


def problem(dtype):
    """Ratings of some of 12 × 9 pairs, at least one in each row and column."""
    rng = np.random.default_rng(0)
    given = (rng.random((12, 9)) < 0.3) | np.eye(12, 9, dtype=bool)
    given[9:, 0] = True
    return sp.csr_matrix(np.where(given, rng.uniform(1, 5, given.shape), 0).astype(dtype))


def stream():
    """40 samples of 6 features, and their labels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 6))
    return x, ((x * rng.standard_normal(6)).sum(axis=1) > 0).astype(float)


def main(path):
    """Run every rule through both clients."""
    assert "fastoptim" not in sys.modules
    import factors
    import logistic
    from helpers import ROW_BY_ROW

    from fastoptim.kernels import ISA

    out = {"isa": ISA}
    for case in ROW_BY_ROW:
        opt = case.ours(**case.without_decay)
        for dtype in ("f4", "f8"):
            for threads in (1, 2, 5):
                U, V = factors.factorise(problem(dtype), RANK, opt, EPOCHS, PENALTY, threads)
                out[f"U {case!r} {dtype} {threads}"] = U
                out[f"V {case!r} {dtype} {threads}"] = V
        x, y = stream()
        w = np.zeros(6)
        starts = list(case.starts_of_slots(opt).values())
        state = np.repeat(starts, 6).reshape(len(starts), 6)
        coefficients = np.array([opt.coefficients(t) for t in range(1, len(y) + 1)])
        logistic.learn(opt.kernel, w, state, coefficients, x, y)
        out[f"w {case!r}"] = w
    np.savez(path, **out)


if __name__ == "__main__":
    main(sys.argv[1])
