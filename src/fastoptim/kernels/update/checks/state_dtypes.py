"""What is wrong with state that is kept as codes."""


def other_state_dtype(key: object, then: str | None, now: str | None) -> ValueError:
    """Return what to say of a key whose state is kept otherwise than its group says now."""
    kept = "in the parameter's dtype" if then is None else f"as {then}"
    return ValueError(
        f"the state of {key!r} is kept {kept} from earlier updates, and state_dtype is {now!r} "
        f"now; set it back to {then!r}, or load a saved state into a new optimizer with "
        f"convert=True"
    )


def rows_of_blocks(key: object, shape: tuple[int, ...]) -> ValueError:
    """Return what to say of single elements whose state is kept in blocks."""
    return ValueError(
        f"grads[{key!r}] has some elements of a parameter of shape {shape}, whose int8 state is "
        f"kept in blocks of up to 256 elements; give whole rows of a matrix, or "
        f"state_dtype='bfloat16'"
    )
