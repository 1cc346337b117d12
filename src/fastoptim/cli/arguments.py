"""What arguments of commands may be."""

import argparse
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import chain
from math import isfinite, nan
from pathlib import Path

from fastoptim.cli.refused import Refused

NEGATIVE = re.compile(r"-\.?\d")  # no option of a command begins so


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """Return a finite number."""
    try:
        found = float(text)
    except ValueError:
        found = nan
    if not isfinite(found):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return found


def numbers(text: str) -> tuple[float, ...]:
    """Return finite numbers with commas between."""
    return tuple(map(number, text.split(",")))


def negative_joined(argv: Sequence[str]) -> list[str]:
    """Return ``--start -7,2`` as ``--start=-7,2``: argparse takes -7,2 for an option.

    >>> negative_joined(["paths", "--start", "-7,2", "-o", "x.png"])
    ['paths', '--start=-7,2', '-o', 'x.png']
    """
    joined: list[str] = []
    for text in argv:
        option = joined[-1] if joined else ""
        if option.startswith("--") and "=" not in option and NEGATIVE.match(text):
            joined[-1] = f"{option}={text}"
        else:
            joined.append(text)
    return joined


def names_of(
    what: str, known: Sequence[str], whole: str = ", and all"
) -> Callable[[str], list[str]]:
    """Return what reads one name or several with commas between; "all" is every known one.

    `whole` is what a message adds to the known names.
    """
    exact = {name.lower(): name for name in known}

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise argparse.ArgumentTypeError(f"no {what} is named; there are {', '.join(known)}")
        for name in names:
            if name.lower() not in ("all", *exact):
                close = get_close_matches(name.lower(), exact, n=1)
                hint = f" Did you mean {exact[close[0]]}?" if close else ""
                raise argparse.ArgumentTypeError(
                    f"{name!r} is no {what}.{hint} There are {', '.join(known)}{whole}"
                )
        if "all" in (name.lower() for name in names):
            return list(known)
        return [exact[name.lower()] for name in names]

    read.known = (*known, "all")  # type: ignore[attr-defined]  # for Tab in a shell
    return read


def once(lists: Sequence[list[str]]) -> list[str]:
    """Return the names of all lists in their order, each once."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def add_output(command: argparse.ArgumentParser, name: str, files: str) -> None:
    """Add ``--output``: the folder for a command's files, by default one of the command's name."""
    command.add_argument(
        "-o", "--output", type=Path, default=Path(name), metavar="DIR",
        help=f"folder for {files}, made if missing (default: {name})",
    )


def writable(folder: Path) -> Path:
    """Make a folder, and try that files can be written in it before the work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".fastoptim.tmp"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        why = problem.strerror or problem
        raise Refused(f"cannot write to {folder}: {why}; give another --output") from None
    return folder
