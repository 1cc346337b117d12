"""Whether two arrays have the same bits."""

from typing import Any

import numpy as np

Arrays = dict[Any, Any]


class DifferentBits(Exception):
    """A result is not that of the listing: no time of it means anything."""


def same_bits(a: Any, b: Any) -> bool:
    """Return whether two arrays of one dtype are equal to the bit.

    A NaN equals any other: its payload has no meaning, and processors differ in it.

    Examples
    --------
    >>> import numpy as np
    >>> same_bits(np.array([0.0, np.nan]), np.array([0.0, -np.nan]))
    True
    >>> same_bits(np.array([0.0]), np.array([-0.0]))
    False
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = f"u{a.dtype.itemsize}"
    same = a.view(bits) == b.view(bits)
    return bool(same.all() or (same | (np.isnan(a) & np.isnan(b))).all())


def first_difference(pairs: dict[str, tuple[Arrays, Arrays]]) -> str:
    """Return the name of the first array whose bits differ, or an empty text.

    Parameters
    ----------
    pairs : dict of name to (dict, dict)
        Arrays by key, ours and the listing's.
    """
    for name, (ours, theirs) in pairs.items():
        for key in ours:
            if not same_bits(np.asarray(ours[key]), np.asarray(theirs[key])):
                return f"{name}[{key!r}]"
    return ""


def check_update(
    ours: Any, theirs: Any, params: tuple[Arrays, Arrays], grads: Arrays, what: str
) -> None:
    """Update with an optimizer and with its listing; raise `DifferentBits` unless all is equal.

    Parameters
    ----------
    ours, theirs : optimizers
        One of this library, and the listing or another way to write it.
    params : (dict, dict)
        Of each its own.
    grads : dict
        For both.
    what : str
        The case, for the message.
    """
    ours.update(params[0], grads)
    theirs.update(params[1], grads)
    pairs = {"params": params}
    for slot in ours.kernels[ours.kernel]:
        pairs[slot] = dict(getattr(ours, slot)), getattr(theirs, slot)
    array = first_difference(pairs)
    if array:
        raise DifferentBits(
            f"{what} differs from its NumPy listing in {array}; please report this with the "
            f"output of 'fastoptim info'"
        )
