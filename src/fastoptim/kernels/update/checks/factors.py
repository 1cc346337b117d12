"""Factors that a dtype cannot hold: the messages, and which small numbers do no harm.

Scalars are computed in double and rounded once. Rounded to infinity a factor is always wrong.
Rounded to 0 it may divide 0 by 0 (an eps), or train nothing without a word (a learning rate).
"""

import dataclasses
from typing import Any

from fastoptim.optimizer.hyperparameters import SMALLEST_FLOAT32, Interval, checks_of

# What makes the factor of a stage, and what to do about one that is too large or too small.
OPTIONS = {
    "scale": ("clip_norm", "raise it, or scale the loss down"),
    "clip": ("clip_value", "use a number that float32 can hold, or None"),
    "l2": ("weight_decay", "use a number that float32 can hold, or 0"),
    "agc": ("agc", "use a number that float32 can hold, or None"),
    "bound": ("constraint", "use bounds that float32 can hold"),
    "trust": ("trust_ratio", "use bounds that float32 can hold"),
    "start": (
        "weight_decay",
        "with trust_ratio a step begins at -lr * weight_decay times the parameter; use other "
        "numbers, or a weight_decay of 0",
    ),
    "shrink": ("weight_decay", "decoupled it multiplies by 1 - lr * weight_decay; lower one"),
}


def of_group(owner: Any, group: int) -> str:
    """Return in words which group a key is in, nothing if in none."""
    group -= owner.first_group
    return f" (group {owner.groups[group - 1].label})" if group else ""


def of_option(
    owner: Any, stage: str, value: float, key: object, group: int, dtype: str
) -> ValueError:
    """Return the error for an option's factor."""
    name, hint = OPTIONS[stage]
    if name == "clip_norm" and owner.clip_norm is None:
        name = "clip_norm_per_key"
    return ValueError(
        f"{name}={getattr(owner, name)!r} of {type(owner).__name__} gives params[{key!r}]"
        f"{of_group(owner, group)} a factor of {value}, which {dtype} cannot hold; {hint}"
    )


def of_rule(
    owner: Any, values: tuple[float, ...], x: float, key: object, t: int, group: int, dtype: str
) -> ValueError | None:
    """Return the error for a rule's coefficient; None if its rounding to 0 does no harm."""
    numbers = {
        f.name: vars(owner)[f.name] for f in dataclasses.fields(owner)
        if f.name != "groups" and (not f.kw_only or vars(owner)[f.name] != f.default)
    }
    small = abs(x) < 1.0  # it rounds to 0, not to infinity
    if small and (owner.rounds_to_0 or is_share(type(owner), numbers, x)):
        return None
    given = ", ".join(f"{name}={value!r}" for name, value in numbers.items())
    held, hint = "", "use a smaller number"
    if dtype == "float32":
        held, hint = ", which float32 cannot hold", "use a smaller number, or float64 parameters"
    if small:
        held = ", which float32 cannot hold (it would be 0)"
        hint = (
            f"use 0 or at least {SMALLEST_FLOAT32:.1e}, where a schedule that decays must end, "
            f"too; or float64 parameters"
        )
    return ValueError(
        f"the hyperparameters give a coefficient of {x}{held}: {type(owner).__name__}({given}) at "
        f"update {t} of params[{key!r}]{of_group(owner, group)}, got {values}; {hint}"
    )


def is_share(rule: Any, numbers: dict[str, Any], x: float) -> bool:
    """Whether a coefficient is the share of an average or a velocity that is kept, or its square.

    Such a share may be as small as it likes, since 0 is a share, too.
    """
    for name, check in checks_of(rule).items():
        if name in numbers and isinstance(check, Interval) and 0.0 in check and 2.0 not in check:
            share = numbers[name]
            if x in (share, share * share):
                return True
    return False
