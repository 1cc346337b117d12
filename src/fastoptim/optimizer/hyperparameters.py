"""What a hyperparameter may be: stated once, beside its default; checked at every assignment."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastoptim.porting import answers
from fastoptim.porting.answers import shown

Check = Callable[[str, object], object]

SMALLEST_FLOAT32 = float(np.finfo(np.float32).smallest_subnormal)


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of real numbers in the usual notation, such as ``"[0, 1)"``."""

    text: str

    @cached_property
    def ends(self) -> tuple[float, float, bool, bool]:
        """The two ends, and whether each is itself in the interval."""
        low, high = (float(end) for end in self.text[1:-1].split(","))
        return low, high, self.text[0] == "[", self.text[-1] == "]"

    def __contains__(self, x: float) -> bool:
        low, high, with_low, with_high = self.ends
        return low < x < high or (with_low and x == low) or (with_high and x == high)

    def __call__(self, name: str, value: object) -> float:
        """Return a value as a float, or say why it cannot be this hyperparameter."""
        if type(value) is float and value in self:  # what a schedule gives, at every update
            return value
        x = real_number(name, value, f"a number in {self.text}")
        if x not in self:  # a NaN is in no interval
            raise ValueError(f"{name} must be in {self.text}, got {value!r}")
        return x


class Epsilon(Interval):
    """An interval for an eps: it guards a division, so float32 must not round it to 0."""

    def __call__(self, name: str, value: object) -> float:
        """Return a value as a float, or say why it cannot be this hyperparameter."""
        x = super().__call__(name, value)
        with np.errstate(over="ignore"):  # too large a number is refused where it is used
            narrow = float(np.float32(x))
        if x != 0.0 and narrow == 0.0:
            zero = "0 or " if 0.0 in self else ""
            raise ValueError(
                f"{name} must be {zero}at least {SMALLEST_FLOAT32:.1e}, below which float32 "
                f"rounds it to 0, got {value!r}"
            )
        return x


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    def __call__(self, name: str, value: object) -> str:
        """Return a value if it is one of the names, or list them."""
        if not isinstance(value, str):
            raise TypeError(f"{name} must be one of {self.names}, got {shown(value)}")
        if value not in self.names:
            raise ValueError(f"{name} must be one of {self.names}, got {shown(value)}")
        return str(value)


class Flag:
    """True or False."""

    def __call__(self, name: str, value: object) -> bool:
        """Return a value if it is True or False."""
        if not isinstance(value, (bool, np.bool)):
            raise TypeError(f"{name} must be True or False, got {shown(value)}")
        return bool(value)


@dataclasses.dataclass(frozen=True)
class OrNone:
    """A number in an interval, or None, which turns an option off."""

    interval: Interval

    def __call__(self, name: str, value: object) -> float | None:
        """Return a value as a float, or None."""
        return None if value is None else self.interval(name, value)


@dataclasses.dataclass(frozen=True)
class Decay(OrNone):
    """The decay of an average: a number in an interval, "mean", or None, which turns it off."""

    def __call__(self, name: str, value: object) -> Any:
        """Return a value as a float, "mean" or None."""
        if isinstance(value, str):
            if value != "mean":
                raise ValueError(f"{name} must be in {self.interval.text} or 'mean', got {value!r}")
            return "mean"
        return super().__call__(name, value)


class Steps:
    """A number of updates."""

    def __call__(self, name: str, value: object) -> int:
        """Return a value as an int if it is a whole number of at least 0."""
        if isinstance(value, (bool, np.bool)) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} must be a whole number of at least 0, got {shown(value)}")
        if value < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {value}")
        return int(value)


# Of these one at most is set.
CLIPPING = ("clip_value", "clip_norm", "clip_norm_per_key", "agc")


def both_set(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return two ways of clipping that are both asked for, or None."""
    asked = [name for name in CLIPPING if values.get(name) is not None]
    return (asked[0], asked[1]) if len(asked) > 1 else None


def checks_of(cls: type["Checked"]) -> dict[str, Check]:
    """Return the hyperparameters of a class, its own first, and what each may be."""
    checks: dict[str, Check] | None = vars(cls).get("_checks")
    if checks is None:
        fields = sorted(dataclasses.fields(cls), key=lambda f: f.kw_only is True)  # type: ignore[arg-type]
        checks = {f.name: f.metadata["check"] for f in fields}
        cls._checks = checks
    return checks


class Checked:
    """A dataclass whose hyperparameters (`hyper`) are checked at every assignment.

    No other attribute can be assigned, so a misspelt name is an error.
    """

    _checks: ClassVar[dict[str, Check]]
    scalars: ClassVar[Callable[..., tuple[float, ...]]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in vars(cls):
            cls.step = answers.step_door(cls.step)  # type: ignore[attr-defined]
        if "coefficients" in vars(cls):  # updates call the unchecked one
            cls.scalars = cls.coefficients  # type: ignore[attr-defined]
            cls.coefficients = answers.coefficients_door(cls.scalars)  # type: ignore[attr-defined]

    def _assign(self, name: str, value: object) -> None:
        """Set an attribute that there is, to what it may be."""
        checks = checks_of(type(self))
        if name in checks:
            object.__setattr__(self, name, self._checked(name, checks[name], value))
        elif hasattr(getattr(type(self), name, None), "__set__"):
            object.__setattr__(self, name, value)  # a property or a slot, which refuses
        else:
            raise AttributeError(answers.unknown(type(self).__name__, name, checks))

    # A type checker knows the arguments and the attributes already. It would take a class with
    # __setattr__ for one that any attribute may be assigned to.
    if not TYPE_CHECKING:

        def __setattr__(self, name, value):
            """Refuse an attribute that there is not; see `_assign`."""
            self._assign(name, value)

        def __dir__(self):
            """Return the names of the attributes, without those that are only answered."""
            return [name for name in super().__dir__() if not answers.is_not_here(type(self), name)]

        def __new__(cls, *args, **named):
            """Check the names of the arguments; `__init__` checks each."""
            answers.check_arguments(cls, args, named)
            return super().__new__(cls)

        # Not __getattr__: it makes every attribute slower to read. An update of Adam reads a dozen
        # (0.2 µs of 1.4, CPython 3.11).
        zero_grad, param_groups, apply_gradients, minimize, iterations, learning_rate = (
            answers.NotHere() for _ in range(6)
        )
        evaluation = answers.NotHere()  # but of schedule-free rules

    def __copy__(self) -> Any:
        raise TypeError("a shallow copy would share what is kept; use copy.deepcopy")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted")

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores."""
        return check(name, value)


def may_be_schedule(check: object) -> bool:
    """Whether a hyperparameter is a number, which may also be given as a function of the step."""
    return isinstance(check, (Interval, OrNone))


def evaluate(name: str, check: Check, schedule: Any, step: int) -> object:
    """Return what a schedule gives at a step, checked as an assignment would be."""
    return checked_number(name, check, schedule, schedule(step), step)


def checked_number(name: str, check: Check, schedule: Any, value: Any, step: int) -> object:
    """Return what a schedule gave at a step, if an assignment would take it."""
    try:
        if hasattr(value, "shape"):  # an array of another library, such as Optax' schedules give
            value = np.asarray(value)
        if isinstance(value, str) and isinstance(check, Decay):  # "mean" stands in its place
            raise TypeError(f"{name} must be a number or None, got {shown(value)}")
        return check(name, value)
    except (TypeError, ValueError) as problem:
        problem.add_note(f"{name} is a schedule: {schedule!r} gave {shown(value)} at step {step}")
        raise


def real_number(name: str, value: object, expected: str) -> float:
    """Return a number of Python or NumPy, or a 0-d array of one, as a float."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, (bool, np.bool)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be {expected}, got {shown(value)} ({type(value).__name__})")
    try:
        x = float(value)
    except OverflowError:  # an int beyond 1.8e308
        x = math.inf
    return x


def hyper(
    default: Any, check: Callable[[str, object], object], *, kw_only: Any = dataclasses.MISSING
) -> Any:
    """Declare a hyperparameter of an optimizer class: its default and what it may be.

    In a class put those that are given by name alone behind ``_: KW_ONLY``: a type checker reads
    that, and not `kw_only`, which is for classes that are made by a call.
    """
    return dataclasses.field(default=default, metadata={"check": check}, kw_only=kw_only)
