"""What the author of a rule gave: checked, with messages that say what would be right."""

import inspect
import keyword
import re
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from fastoptim.custom.further_numbers import FurtherNumbers
from fastoptim.custom.source import own_signature
from fastoptim.kernels.api import MOST_SLOTS
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import Flag, Interval, hyper
from fastoptim.porting.answers import shown

NORMS = ("norm_p", "norm_g")  # the names that a function takes norms by
ENDS = re.compile(r"[\[(]\s*([^\s,]+)\s*,\s*([^\s,]+)\s*[\])]")


class Coupled(Flag):
    """False: a rule without lr has nothing that its weight decay could be multiplied by."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def __call__(self, name: str, value: object) -> bool:
        """Return False, or say why it cannot be True."""
        if super().__call__(name, value):
            raise ValueError(
                f"{name}=True multiplies by 1 − lr·weight_decay, and {self.rule} has no lr"
            )
        return False


def check_name(name: object, what: str) -> str:
    """Return a name if an attribute of the class can have it."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name, got {name!r}")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{what} must be a name without a leading underscore, got {name!r}")
    # the options are attributes, too: their defaults; what each optimizer gets is only annotated
    if name == "body" or hasattr(Optimizer, name) or name in Optimizer.__annotations__:
        raise ValueError(f"{name!r} is an option or attribute of every optimizer; rename {what}")
    return name


def checked_state(state: object) -> dict[str, str | None]:
    """Return the state's names, and the hyperparameter that each starts at."""
    if isinstance(state, str) or not isinstance(state, (Sequence, Mapping)):
        raise TypeError(f"state must be a tuple of names, such as ('m', 'v'), got {shown(state)}")
    starts = dict(state) if isinstance(state, Mapping) else dict.fromkeys(state)
    for slot in starts:
        check_name(slot, "a state array")
    if len(starts) != len(state):
        raise ValueError(f"state names an array twice: {shown(state)}")
    if len(starts) > MOST_SLOTS:
        raise ValueError(f"a rule has at most {MOST_SLOTS} state arrays, got {len(starts)}")
    return starts


def checked_codes(int8: object, starts: Mapping[str, str | None]) -> dict[str, bool]:
    """Return the state arrays that may be kept in 8 bits, each with whether it has a sign."""
    if not isinstance(int8, Mapping):
        raise TypeError(
            f"int8 must be a dict such as {{'m': 'signed', 'v': 'unsigned'}}, got {shown(int8)}"
        )
    for slot, kind in int8.items():
        if slot not in starts:
            raise ValueError(f"int8 names {slot!r}, and the state arrays are {list(starts)}")
        if kind not in ("signed", "unsigned"):
            raise ValueError(f"int8[{slot!r}] must be 'signed' or 'unsigned', got {shown(kind)}")
    return {slot: kind == "signed" for slot, kind in int8.items()}


def checked_norms(norms: object) -> tuple[str, ...]:
    """Return the names of the norms that a rule asks for."""
    if not isinstance(norms, (tuple, list)) or any(
        not isinstance(one, str) or one not in ("p", "g") for one in norms
    ):
        raise TypeError(
            f"norms must be a tuple of 'p' and 'g', such as ('p', 'g') or ('g',), got "
            f"{shown(norms)}"
        )
    if len(set(norms)) < len(norms):
        raise ValueError(f"norms names a norm twice: {shown(norms)}")
    return tuple(f"norm_{one}" for one in norms)


def checked_hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field of the class for each hyperparameter."""
    fields = {}
    for name, value in given.items():
        if name == "norm" and isinstance(value, (tuple, list, str)):
            raise TypeError("rule has no 'norm'; did you mean 'norms'?")
        check_name(name, "the hyperparameter")
        if name in NORMS:
            raise ValueError(
                f"{name} is the norm of a tensor: ask for it with rule(norms=('p', 'g'))"
            )
        if name == "t":
            raise ValueError("t is the number of the update, and cannot be a hyperparameter")
        default, text = value, "[0, inf)" if name == "lr" else "(-inf, inf)"
        if isinstance(value, tuple):
            if len(value) != 2 or not isinstance(value[1], str):
                raise TypeError(
                    f"{name} must be a number, or a number and an interval such as "
                    f"(0.9, '[0, 1)'), got {shown(value)}"
                )
            default, text = value
        check = interval(name, text)
        fields[name] = hyper(check(name, default), check)
    return fields


def interval(name: str, text: str) -> Interval:
    """Return an interval that a user wrote."""
    ends = ENDS.fullmatch(text.strip())
    try:
        low, high = map(float, ends.groups()) if ends else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not low <= high:
        raise ValueError(f"the interval of {name} must be such as '[0, 1)', got {text!r}")
    return Interval(text.strip())


def defaults_of(fn: object) -> dict[str, Any]:
    """Return the hyperparameters of a rule without parentheses: its arguments after p and g."""
    assert isinstance(fn, FunctionType)
    found = {}
    for name, parameter in list(own_signature(fn).parameters.items())[2:]:
        if parameter.default is parameter.empty and name != "lr":
            if name in NORMS:
                raise TypeError(
                    f"{fn.__name__} takes {name}, a norm that it has to ask for in parentheses: "
                    f"@rule(norms=({name[-1]!r},), lr=0.01)"
                )
            raise TypeError(
                f"{fn.__name__} gives {name} no default. Without parentheses, rule makes a rule "
                f"without state, whose numbers have theirs in the def, such as {name}=0.9; state "
                f"is named in parentheses, such as @rule(state=({name!r},), lr=0.01)"
            )
        found[name] = 0.01 if parameter.default is parameter.empty else parameter.default
    return found


def check_function(fn: object, with_defaults: bool = False) -> None:
    """Refuse anything but a plain function with a name."""
    if not isinstance(fn, FunctionType) or fn.__name__ == "<lambda>":
        raise TypeError(f"a rule is made of a function with a name, by def; got {shown(fn)}")
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{fn.__name__} must be a plain function, without async, await and yield")
    for name, parameter in own_signature(fn).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{fn.__name__} must name each of its arguments, and takes *{name}")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(f"{fn.__name__} must take {name} by position")
        if parameter.default is not parameter.empty and not with_defaults:
            raise TypeError(
                f"{fn.__name__} gives {name} a default; defaults are given to rule({name}=…)"
            )


def checked_arguments(
    fn: FunctionType,
    starts: Mapping[str, Any],
    fields: Mapping[str, Any],
    further: FurtherNumbers | None,
    norms: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the numbers that a function takes, if it takes what a rule of these names should."""
    arguments = tuple(own_signature(fn).parameters)
    returned = (*(further.names if further else ()), *norms)
    n = 2 + len(starts)
    slots = ", ".join(["p", "g", *starts])
    if len(arguments) < n or arguments[2:n] != tuple(starts):
        raise TypeError(
            f"{fn.__name__} must take {slots}, in this order, and then its numbers; it takes "
            f"{', '.join(arguments)}"
        )
    if arguments[0] == "g" or arguments[1] == "p":  # other names are the user's affair
        raise TypeError(
            f"{fn.__name__} must take the parameter p first and then its gradient g; it takes "
            f"{', '.join(arguments)}"
        )
    for name in arguments[:2]:
        if name in fields or name in returned:
            raise TypeError(
                f"{fn.__name__} must take {slots} and then its numbers; its first two arguments "
                f"are {', '.join(arguments[:2])}, but {name} is a number"
            )
    numbers = arguments[n:]
    for name in numbers:
        if name not in fields and name not in returned:
            if name in NORMS:
                asked = tuple(one[-1] for one in NORMS if one in (*norms, name))
                raise TypeError(
                    f"{fn.__name__} takes {name}, a norm that it has to ask for: "
                    f"rule(norms={asked!r})"
                )
            raise TypeError(
                f"{fn.__name__} takes {name}, which is neither of its state nor one of its numbers "
                f"({', '.join([*fields, *returned]) or 'it has none'})"
            )
    used = {*numbers, *starts.values(), *(further.parameters if further else ())}
    for name in (*fields, *returned):
        if name not in used:
            source = "coefficients returns" if name in returned else "rule gives it"
            source = "norms gives it" if name in norms else source
            raise TypeError(f"{fn.__name__} does not take {name}, which {source}")
    return numbers
