"""The options of every optimizer in the help of each class: written once, in `Optimizer`."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

TITLE = "Other Parameters"
HEADING = re.compile(r"^(\S.*)\n(-{3,})$", re.MULTILINE)
NAMES = re.compile(r"^(\w+(?:, \w+)*) :.*$", re.MULTILINE)
DEFAULT = re.compile(r", default \S+$")


def with_options(text: str, options: str, defaults: Mapping[str, Any]) -> str:
    """Return a class's docstring with a section of the options that it does not describe itself.

    Parameters
    ----------
    text : str
        The class's own docstring.
    options : str
        The docstring whose parameters are the options.
    defaults : mapping of str to Any
        What the class has as defaults instead.
    """
    text = inspect.cleandoc(text)
    if f"\n{TITLE}\n---" in text:
        return text
    own = {name for one in NAMES.findall(section(text, "Parameters")) for name in one.split(", ")}
    listed = [
        with_default(entry, defaults[name]) if name in defaults else entry
        for name, entry in entries(section(inspect.cleandoc(options), "Parameters"))
        if name not in own
    ]
    # numpydoc's order: before Notes, References and Examples
    found = (m for m in HEADING.finditer(text) if m[1] in ("Notes", "References", "Examples"))
    at = next((m.start() for m in found), len(text))
    lines = (TITLE, "-" * len(TITLE), *listed)
    return "\n".join([text[:at].rstrip() + "\n", *lines, "", text[at:]]).rstrip()


def section(text: str, title: str) -> str:
    """Return the lines of a section, "" if there is none."""
    headings = list(HEADING.finditer(text))
    ends = [m.start() for m in headings[1:]] + [len(text)]
    of_title = (text[m.end() : end] for m, end in zip(headings, ends, strict=False))
    return next((t for m, t in zip(headings, of_title, strict=True) if m[1] == title), "")


def entries(parameters: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the lines of each parameter."""
    for entry in re.split(r"\n(?=\S)", parameters.strip("\n")):
        yield entry.partition(" :")[0], entry.rstrip()


def with_default(entry: str, default: Any) -> str:
    """Return the lines of a parameter with another default."""
    head, newline, rest = entry.partition("\n")
    return f"{DEFAULT.sub('', head)}, default {default!r}{newline}{rest}"


def other_defaults(cls: type, base: type) -> dict[str, Any]:
    """Return the defaults of a class that are not its base's, before it is made a dataclass."""
    defaults: dict[str, Any] = {}
    for one in reversed(cls.__mro__):
        defaults |= own_defaults(one)
    of_base = own_defaults(base)
    return {n: default for n, default in defaults.items() if default != of_base.get(n, base)}


def own_defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of a dataclass, or those that the body of one to come declares."""
    fields = vars(cls).get("__dataclass_fields__", vars(cls))
    return {n: one.default for n, one in fields.items() if isinstance(one, dataclasses.Field)}
