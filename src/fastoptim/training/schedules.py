"""Schedules as plain values: the name of one of `fastoptim.schedules`, and its arguments.

A user's own function is code. It is stored as its repr, which only says what is missing.
"""

import dataclasses
from typing import Any

from fastoptim import schedules
from fastoptim.checkpoint.tree import Stored
from fastoptim.schedules.arithmetic import Schedule, chained, combined

CLASSES: dict[str, type[Schedule]] = {
    **{name: getattr(schedules, name) for name in schedules.__all__},
    "combined": combined,
    "chained": chained,
}


class Code(ValueError):
    """A schedule is a function of the user's, which a file does not hold."""


def is_known(value: object) -> bool:
    """Whether a value is one of this library's schedules, rather than of a class made of one."""
    return CLASSES.get(type(value).__name__) is type(value)


class Writer:
    """Describes schedules; a `plateau` gets a number, so that one that is shared stays shared."""

    def __init__(self) -> None:
        self.plateaus: list[Any] = []

    def described(self, schedule: Any) -> Any:
        """Return a schedule, or an argument of one, as plain values."""
        if isinstance(schedule, tuple):
            return tuple(self.described(one) for one in schedule)
        if not callable(schedule):
            return schedule
        if not is_known(schedule):
            return {"code": repr(schedule)}
        fields = [field.name for field in dataclasses.fields(schedule)]
        plain: dict[str, Any] = {
            "schedule": type(schedule).__name__,
            "arguments": {name: self.described(getattr(schedule, name)) for name in fields},
        }
        if schedule.observes:
            plain["plateau"] = self.number(schedule)
        return plain

    def number(self, plateau: Any) -> int:
        """Return the number of a plateau in this file."""
        for k, known in enumerate(self.plateaus):
            if known is plateau:
                return k
        self.plateaus.append(plateau)
        return len(self.plateaus) - 1


class Reader:
    """Makes schedules of what a `Writer` gave."""

    def __init__(self) -> None:
        self.plateaus: dict[Any, Any] = {}  # by number: as it is in the file
        self.instead: dict[int, Any] = {}  # by identity: what is there already, and stands for it

    def made(self, plain: Any) -> Any:
        """Return a schedule, or an argument of one; `Code` if it is a function of the user's."""
        if isinstance(plain, tuple):
            return tuple(self.made(one) for one in plain)
        if not isinstance(plain, dict):
            return plain
        if "code" in plain:
            raise Code(plain["code"])
        cls = CLASSES.get(plain.get("schedule", ""))
        arguments = plain.get("arguments")
        if cls is None or not isinstance(arguments, dict):
            raise ValueError(f"there is no schedule {plain.get('schedule')!r} in fastoptim")
        try:
            schedule = cls(**{name: self.made(value) for name, value in arguments.items()})
        except TypeError as problem:
            raise ValueError(f"{plain['schedule']} cannot be made: {problem}") from problem
        if not schedule.observes:
            return schedule
        shared = self.plateaus.setdefault(plain.get("plateau"), schedule)
        if shared != schedule:
            raise ValueError("one plateau has two different pasts")
        return self.instead.get(id(shared), shared)

    def stay(self, there: Any, here: Any) -> None:
        """Let a plateau that is here stand for one of the file in all that is made from now on."""
        if any(one is there for one in self.plateaus.values()):
            self.instead.setdefault(id(there), here)


def text(plain: Any) -> str:
    """Return what stands for a schedule as one would write it."""
    if isinstance(plain, dict) and "code" in plain:
        return str(plain["code"])
    try:
        return repr(Reader().made(plain))
    except Code as code:
        return f"{plain['schedule']} of {code}"


def stored(plain: Any) -> Stored:
    """Return what stands for a schedule in a tree."""
    return Stored("schedule", plain)
