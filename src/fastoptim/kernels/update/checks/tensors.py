"""Gradients whose tensor cannot be known as a whole: the messages."""

from typing import Any


def of_elements(owner: Any, key: object) -> TypeError:
    """Return the error for a sparse gradient, of which no row is whole."""
    name = "centralize" if owner.centralize else "agc"
    return TypeError(
        f"{name} needs whole rows, and grads[{key!r}] is sparse, of single elements; pass "
        f"fastoptim.Rows, or turn {name} off for this key with a Group"
    )


def of_norms(owner: Any, key: object, ndim: int) -> TypeError:
    """Return the error for a gradient of some rows, and a constraint that concerns all of them."""
    if ndim < 2:
        which = "all elements of a tensor with one axis"
    elif getattr(owner.constraint, "per", "column") == "row":    # "unit_norm" is a text
        which = "whole rows"
    else:
        which = "whole columns"
    hint = "" if ndim < 2 else "; norms of rows are possible, with fastoptim.Rows and per='row'"
    return TypeError(
        f"the constraint {owner.constraint!r} is on the norm of {which}, and grads[{key!r}] has "
        f"only some of them{hint}; or turn constraint off for this key with a Group"
    )


def too_large(key: object) -> FloatingPointError:
    """Return the error for finite gradients whose squares are not."""
    return FloatingPointError(
        f"grads[{key!r}] is finite, but its squares are too large for the norms of agc; scale the "
        f"loss down"
    )
