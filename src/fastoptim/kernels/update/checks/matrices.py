"""What Muon refuses: keys that are not matrices, gradients of rows."""

REST = "fastoptim.Muon(…, rest=fastoptim.AdamW())"


def not_a_matrix(key: object, shape: tuple[int, ...]) -> ValueError:
    """Return the error for a key that has no optimizer."""
    flat = ", or keep such a kernel as a matrix" if len(shape) > 2 else ""
    return ValueError(
        f"params[{key!r}] has shape {shape}, and Muon updates matrices (2 axes); give the other "
        f"keys an optimizer of their own: {REST}{flat}"
    )


def rows_of_a_matrix(key: object) -> TypeError:
    """Return the error for a gradient of rows."""
    return TypeError(
        f"grads[{key!r}] is a gradient of rows, and Muon's step changes every row of a matrix; "
        f"send such a key to another optimizer: fastoptim.Muon(…, rest=fastoptim.AdamW(), "
        f"to_rest=[{str(key)!r}])"
    )


def too_large(key: object) -> FloatingPointError:
    """Return the error for a norm that float64 cannot hold."""
    return FloatingPointError(
        f"grads[{key!r}] is finite, but its squares are too large for the norm that Muon divides "
        f"by; scale the loss down"
    )
