"""Gradients that are a `Product`: whether its shape and its dtype are the parameter's."""

from typing import Any

from fastoptim.kernels.update.checks.arrays import check_same_dtype
from fastoptim.product import Product, check_factors


def checked_factors(key: object, g: Product, dtype: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return both factors as plain arrays.

    They are looked at once more: an array may have been reshaped in place since.
    """
    name = f"grads[{key!r}]"
    x, d = check_factors(f"{name}.x", f"{name}.d", g.x, g.d)
    made = (x.shape[1], d.shape[1])
    if len(shape) != 2:
        raise ValueError(
            f"{name} is {g!r}, but params[{key!r}] has shape {shape}, and a product has two axes; "
            f"pass an array: {name}.asarray().reshape(params[{key!r}].shape)"
        )
    if made != shape:
        hint = "exchange x and d" if made == shape[::-1] else "x is what came in, d what goes back"
        raise ValueError(
            f"{name} is the product of x.T and d, of shape {made}, but params[{key!r}] has shape "
            f"{shape}; {hint}"
        )
    check_same_dtype(f"{name}.x", key, x.dtype, dtype)
    return x, d


def no_zeroing(name: str) -> TypeError:
    """Return the error for a product that is to be set to zero."""
    return TypeError(
        f"{name} is a Product, and there is no gradient that zero_grads=True could set to zero; "
        f"set zero_grads=False, for this key with a Group, or pass {name}.asarray()"
    )
