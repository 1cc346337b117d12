"""Rules as they are written on the command line: ``Momentum:alpha=0.9,lr=0.1``."""

import argparse
from difflib import get_close_matches
from typing import Any, NamedTuple

import fastoptim
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer.base import Optimizer

WORDS = {"true": True, "false": False, "none": None}


def known() -> dict[str, type]:
    """Return every rule and Runge–Kutta method of the library by its name."""
    exported = {name: getattr(fastoptim, name) for name in fastoptim.__all__}
    return {
        name: x for name, x in exported.items()
        if isinstance(x, type) and issubclass(x, (Optimizer, RungeKutta)) and x is not Optimizer
        and not getattr(x, "of_matrices", False)  # a path is one of points
    }


class Rule(NamedTuple):
    """A rule and its hyperparameters."""

    name: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        told = ", ".join(f"{name}={shown(value)}" for name, value in self.options)
        return f"{self.name} ({told})" if told else self.name

    @property
    def has_rate(self) -> bool:
        """Whether a learning rate was given."""
        return "lr" in dict(self.options)

    def with_rate(self, lr: float) -> "Rule":
        """Return the rule with another learning rate."""
        others = [option for option in self.options if option[0] != "lr"]
        return Rule(self.name, (("lr", lr), *others))

    def build(self) -> Any:
        """Return a new optimizer."""
        return known()[self.name](**dict(self.options))


def rule(text: str) -> Rule:
    """Return a rule of a text: its name and, after a colon, hyperparameters with commas between.

    Upper and lower case of the name are one. A value is a number, ``true``, ``false``, ``none``, or
    a text such as ``listing``.

    >>> str(rule("adam:lr=0.1,beta1=0.8"))
    'Adam (lr=0.1, beta1=0.8)'
    """
    name, _, rest = text.partition(":")
    exact = {each.lower(): each for each in known()}
    wanted = name.strip().lower()
    if wanted not in exact:
        close = get_close_matches(wanted, exact, n=1)
        hint = f" Did you mean {exact[close[0]]}?" if close else ""
        raise argparse.ArgumentTypeError(
            f"{name!r} is no rule.{hint} There are {', '.join(sorted(exact.values()))}"
        )
    options: dict[str, Any] = {}
    for part in filter(None, map(str.strip, rest.split(","))):
        key, equals, written = (piece.strip() for piece in part.partition("="))
        if not (key and equals and written):
            raise argparse.ArgumentTypeError(
                f"{part!r} must be a hyperparameter and its value, as in {exact[wanted]}:lr=0.1"
            )
        if key in options:
            raise argparse.ArgumentTypeError(f"{key} is given twice in {text!r}")
        options[key] = value(written)
    found = Rule(exact[wanted], tuple(options.items()))
    try:
        found.build()
    except (TypeError, ValueError) as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: {problem}") from None
    return found


rule.known = tuple(known())  # type: ignore[attr-defined]  # for completion by Tab


def value(text: str) -> Any:
    """Return the number, truth value or None that is written, or else the text."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """Return a value as it would be written."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
