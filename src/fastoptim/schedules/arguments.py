"""What the arguments of schedules may be."""

import math
from collections.abc import Iterable
from typing import Any

from fastoptim.optimizer.hyperparameters import Interval
from fastoptim.porting.answers import shown

FINITE = Interval("(-inf, inf)")
POSITIVE = Interval("(0, inf)")
NOT_NEGATIVE = Interval("[0, inf)")
COUNT = Interval("[1, inf)")


def whole(name: str, value: object, interval: Interval = COUNT) -> int:
    """Return a whole number, of steps unless told, as an int, or say why it is not one."""
    x = interval(name, value)
    if not x.is_integer():
        raise ValueError(f"{name} must be a whole number in {interval.text}, got {shown(value)}")
    return int(x)


def count(name: str, value: object) -> int:
    """Return a whole number that may be 0."""
    return whole(name, value, NOT_NEGATIVE)


def flag(name: str, value: object) -> bool:
    """Return True or False, or say that it is neither."""
    if not isinstance(value, bool):
        kind = type(value).__name__
        raise TypeError(f"{name} must be True or False, got {shown(value)} ({kind})")
    return value


def sequence(name: str, value: object, of: str = "numbers") -> tuple[Any, ...]:
    """Return the items of a list, tuple or array, or say that it is not a sequence."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of {of}, got {shown(value)}")
    return tuple(value)


def numbers(name: str, values: Iterable[object]) -> tuple[float, ...]:
    """Return finite numbers as floats."""
    return tuple(FINITE(f"{name}[{i}]", x) for i, x in enumerate(values))


def check_parts(name: str, parts: tuple[object, ...], boundaries: tuple[float, ...]) -> None:
    """Refuse boundaries that do not increase, or are not one fewer than what they part."""
    for i in range(1, len(boundaries)):
        if boundaries[i] <= boundaries[i - 1]:
            raise ValueError(
                f"boundaries must increase strictly, got {boundaries[i]} after {boundaries[i - 1]}"
            )
    if len(parts) != len(boundaries) + 1:
        raise ValueError(
            f"{name} must be one more than boundaries, got {len(parts)} {name} and "
            f"{len(boundaries)} boundaries"
        )


def steps_at(boundaries: Iterable[object]) -> tuple[int, ...]:
    """Return boundaries as whole numbers of steps."""
    return tuple(whole(f"boundaries[{i}]", x) for i, x in enumerate(boundaries))


def between(start: float, stop: float, share: float) -> float:
    """Return the point that divides the way from `start` to `stop`: 0 is start, 1 is stop."""
    way = stop - start
    if math.isinf(way):  # the two are finite, so the sum of their shares is, too
        return start * (1.0 - share) + stop * share
    return start + way * share


def wave(start: float, stop: float, angle: float) -> float:
    """Return the point of half a cosine wave: angle 0 is `start`, π is `stop`."""
    return between(stop, start, 0.5 * (1.0 + math.cos(angle)))
