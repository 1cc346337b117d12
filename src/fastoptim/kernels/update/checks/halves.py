"""What a gradient of a parameter of 16 bits must be."""

from typing import Any

import numpy as np

from fastoptim.kernels.update.checks.arrays import checked_array, is_half, plain
from fastoptim.kernels.update.checks.products import checked_factors
from fastoptim.kernels.update.checks.row_grads import RowGrad, is_sparse, row_grad
from fastoptim.porting.tensors import tensor_hint
from fastoptim.product import Product
from fastoptim.rows import Elements, Rows


def checked_half_grad(key: object, g: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return a gradient as an array of its parameter's 16 bits, or of float32."""
    name = f"grads[{key!r}]"
    if not isinstance(g, np.ndarray):
        hint = f"; pass np.asarray({name})" if isinstance(g, np.generic) else tensor_hint(g)
        raise TypeError(
            f"{name} must be a NumPy array of {dtype} or float32, got {type(g).__name__}{hint}"
        )
    a = plain(g) if is_half(g) else checked_array(name, g)
    if a.shape != shape:
        hint = "reshape it" if a.size == np.prod(shape) else "gradients are never broadcast"
        raise ValueError(
            f"{name} has shape {a.shape}, but params[{key!r}] has shape {shape}; {hint}"
        )
    if a.dtype != dtype and a.dtype != np.float32:
        raise TypeError(
            f"{name} is {a.dtype}, but params[{key!r}] is {dtype}, whose gradient is {dtype} or "
            f"float32; convert the gradient: {name}.astype(np.float32)"
        )
    return a


def made_half_grad(key: object, g: Product, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return the array that a product stands for, whose factors are of float32."""
    if g.dtype != np.float32:
        raise TypeError(
            f"grads[{key!r}] is {g!r}, but params[{key!r}] is {dtype}, whose products are of "
            f"float32; convert both factors: x.astype(np.float32), d.astype(np.float32)"
        )
    checked_factors(key, g, g.dtype, shape)
    return g.made()


def half_rows(key: object, g: Any, dtype: Any, shape: tuple[int, ...]) -> RowGrad:
    """Return a gradient of rows with its values in float32."""
    name = f"grads[{key!r}]" if is_sparse(g) else f"grads[{key!r}].values"
    now = g.dtype if is_sparse(g) else g.values.dtype
    if now not in (dtype, np.float32):
        raise TypeError(
            f"{name} is {now}, but params[{key!r}] is {dtype}, whose gradient is {dtype} or "
            f"float32; convert it: {name}.astype(np.float32)"
        )
    if is_sparse(g) or not is_half(g.values):
        return row_grad(key, g, np.dtype(np.float32), shape)
    given = plain(g.values)
    kind = Elements if isinstance(g, Elements) else Rows
    wide = kind(g.index, given.astype(np.float32), unique=g.unique)
    return row_grad(key, wide, np.dtype(np.float32), shape)._replace(given=given)


def not_exchanged(key: object, dtype: str, name: str) -> TypeError:
    """Return what to say where a parameter of 16 bits would have to hold numbers of 32."""
    if name == "averaged":
        kept, instead = "its average", f"read opt.average_of[{key!r}], which is float32, instead"
    else:
        kept = "the point to evaluate at"
        instead = (
            f"compute it: y - (1 - β) * opt.d[{key!r}], where y is opt.master_of[{key!r}], or "
            f"params[{key!r}].astype(np.float32) without master"
        )
    return TypeError(
        f"params[{key!r}] is {dtype}, which cannot hold {kept} and give the weights back to the "
        f"bit; {instead}"
    )


def master_changed(key: object, has: bool) -> ValueError:
    """Return what to say of a parameter that had a master, or had none, in earlier updates."""
    was = "a copy in float32" if has else "no copy in float32"
    return ValueError(
        f"params[{key!r}] has {was} from earlier updates, and master is {not has} now; master "
        f"cannot change after the first update"
    )
