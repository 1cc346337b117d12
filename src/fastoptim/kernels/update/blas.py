"""How many threads NumPy's products run on."""

from typing import Any

from threadpoolctl import ThreadpoolController

found: list[Any] | None = None  # the BLAS libraries that may be NumPy's


def blas_threads() -> int:
    """Return how many threads NumPy's BLAS uses at present; 0 if nobody can tell.

    Libraries are looked for once, their numbers asked for at each call: `threadpool_limits` changes
    them.
    """
    global found
    if found is None:
        loaded = [c for c in ThreadpoolController().lib_controllers if c.user_api == "blas"]
        found = [c for c in loaded if "scipy.libs" not in c.filepath]
    return max((c.num_threads or 0 for c in found), default=0)
