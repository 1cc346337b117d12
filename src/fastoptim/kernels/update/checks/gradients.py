"""Where a gradient of any kind keeps its numbers: for zero_grads, and for messages about them."""

from typing import Any

import numpy as np

from fastoptim.kernels.update.checks.arrays import plain
from fastoptim.kernels.update.checks.containers import check_write_back
from fastoptim.kernels.update.checks.overlap import overlaps_itself
from fastoptim.kernels.update.checks.products import no_zeroing
from fastoptim.kernels.update.checks.row_grads import is_sparse
from fastoptim.product import Product
from fastoptim.rows import Rows


def grad_memory(grad: Any) -> Any:
    """Return where the numbers of a gradient are kept: the array that zero_grads sets to zero."""
    if isinstance(grad, Rows):
        return grad.values
    return grad.data if is_sparse(grad) else grad


def grad_name(key: object, grad: object) -> str:
    """Return in words where the numbers of a gradient are kept."""
    part = ".values" if isinstance(grad, Rows) else ".data" if is_sparse(grad) else ""
    return f"grads[{key!r}]{part}"


def check_may_zero(grads: Any, key: Any, grad: Any) -> None:
    """Refuse a gradient that cannot be set to zero."""
    g, name = grad_memory(grad), grad_name(key, grad)
    if isinstance(g, Product):
        raise no_zeroing(name)
    if not isinstance(g, np.ndarray):
        check_write_back("grads", grads, key, g)
        return
    g = plain(g)
    if not g.flags.writeable:
        raise ValueError(f"{name} is read-only, and zero_grads=True writes it; pass a copy")
    if overlaps_itself(g):
        raise ValueError(f"{name} overlaps itself, and zero_grads=True writes it")


def not_finite(key: object, grad: Any) -> FloatingPointError:
    """Return the error for a gradient with a NaN or an infinity."""
    g = grad.made() if isinstance(grad, Product) else np.asarray(grad_memory(grad))
    places = np.argwhere(~np.isfinite(g))
    if len(places) == 0:
        return FloatingPointError(
            f"{grad_name(key, grad)} is finite, but the sum of what is for the same place is not; "
            f"nothing was updated"
        )
    where = tuple(int(i) for i in places[0])
    place = f"[{', '.join(map(str, where))}]" if where else ""
    return FloatingPointError(
        f"{grad_name(key, grad)}{place} is {g[where]}; nothing was updated"
    )
