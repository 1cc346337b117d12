"""bench.json: written, read, and held against an older one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastoptim.bench.names import LIMIT, NO_UPDATE, OURS
from fastoptim.checkpoint.files import replace_file

FORMAT, VERSION = "fastoptim bench", 1
SLOWER = 1.15  # times the older run's, both relative to their limits
Bench = dict[str, Any]


class NoBench(ValueError):
    """A file is not what this version of the command can compare with."""


def as_text(bench: Bench) -> str:
    """Return a run as the JSON of its file."""
    return json.dumps(bench, indent=1, ensure_ascii=False, allow_nan=False)


def write(bench: Bench, path: Path) -> None:
    """Write a run, as a whole or not at all."""
    text = as_text(bench) + "\n"

    def at(temporary: str) -> None:
        Path(temporary).write_text(text, "utf-8")

    replace_file(str(path), at, lambda file, temporary: None)


def read(path: str | os.PathLike[str]) -> Bench:
    """Return the run that a file holds.

    Raises
    ------
    NoBench
        The file cannot be read, is no bench.json, is one of another version, or is damaged.
    """
    try:
        bench = json.loads(Path(path).read_text("utf-8"))
    except OSError as problem:
        raise NoBench(f"cannot read {path}: {problem.strerror or problem}") from None
    except ValueError:
        raise NoBench(f"{path} is no bench.json: it holds no JSON") from None
    return checked(bench, path)


def checked(bench: Any, path: object = "bench") -> Bench:
    """Return a run whose format is known; `path` is for the message."""
    if not isinstance(bench, dict) or bench.get("format") != FORMAT:
        raise NoBench(f"{path} is no bench.json: it lacks \"format\": \"{FORMAT}\"")
    if bench.get("version") != VERSION:
        raise NoBench(
            f"{path} has format version {bench.get('version')!r}, and this is version {VERSION}; "
            f"run 'fastoptim bench' with one version of fastoptim for both"
        )
    try:
        for *_, ours, limit in relative(bench):
            ratio(ours, limit)
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as problem:
        raise NoBench(
            f"{path} is damaged: {type(problem).__name__}: {problem}; measure it again"
        ) from None
    return bench


Key = tuple[str, ...]


def key_of(cell: dict[str, Any]) -> Key:
    """Return what makes a case the same in two runs."""
    if "network" in cell:
        return "step", cell["network"]
    shapes = ",".join("x".join(map(str, shape)) for shape in cell["shapes"])
    return "update", cell["rule"], cell["dtype"], shapes


def in_words(key: Key) -> str:
    """Return a case's name.

    Examples
    --------
    >>> in_words(("step", "784-100-10:100")), in_words(("update", "Adam", "float32", "64"))
    ('step of 784-100-10:100', 'update Adam float32 64')
    """
    return f"step of {key[1]}" if key[0] == "step" else " ".join(key)


def relative(bench: Bench) -> Iterator[tuple[Key, bool, dict[str, Any], dict[str, Any]]]:
    """Yield each case with a limit: key, whether it can be trusted, our figure, the limit's.

    The limit of an update is the stream over the same memory, that of a step the same step without
    any update.
    """
    for cell in bench["steps"]:
        figures = {name: both["step"] for name, both in cell["contestants"].items()}
        if OURS in figures and NO_UPDATE in figures:
            yield key_of(cell), trusted(cell, figures, NO_UPDATE), figures[OURS], figures[NO_UPDATE]
    for cell in bench["updates"]:
        figures = cell["contestants"]
        if OURS in figures and LIMIT in figures:
            yield key_of(cell), trusted(cell, figures, LIMIT), figures[OURS], figures[LIMIT]


def trusted(cell: dict[str, Any], figures: dict[str, Any], limit: str) -> bool:
    """Return whether ours and the limit's were steady while nothing else ran."""
    return bool(cell["quiet"] and figures[OURS]["steady"] and figures[limit]["steady"])


def ratio(ours: dict[str, Any], limit: dict[str, Any]) -> tuple[float, float, float]:
    """Return ours over the limit's median: at our lower quartile, median and upper quartile."""
    of = float(limit["median"])
    low, middle, high = (float(ours[name]) / of for name in ("q1", "median", "q3"))
    if not 0 < low <= middle <= high < float("inf"):
        raise ValueError("a figure's quartiles are not in order")
    return low, middle, high


class Comparison:
    """What a run says about an older one.

    A case got slower if our time over the limit's grew by more than 15 %, and by more than the
    spread: the lower quartile now is above the upper one then. A case that cannot be trusted in
    one of the runs is `unclear`, whatever its numbers.
    """

    def __init__(self, new: Bench, old: Bench) -> None:
        then = {key: (sure, ratio(*both)) for key, sure, *both in relative(old)}
        self.slower: list[str] = []
        self.faster: list[str] = []
        self.unclear: list[str] = []
        self.same: list[str] = []
        self.absent = [in_words(key) for key in then if key not in keys(new)]
        for key, sure, *both in relative(new):
            if key not in then:
                continue
            low, middle, high = ratio(*both)
            sure_then, (low_then, middle_then, high_then) = then[key]
            times = middle / middle_then
            line = f"{in_words(key)}: {middle_then:.2f} → {middle:.2f} times its limit"
            if not (sure and sure_then):
                self.unclear.append(f"{line}, not steady in {where(sure, sure_then)}")
            elif times > SLOWER and low > high_then:
                self.slower.append(f"{line}, {100 * (times - 1):.0f} % slower")
            elif times < 1 / SLOWER and high < low_then:
                self.faster.append(f"{line}, {100 * (1 - times):.0f} % less time")
            else:
                self.same.append(line)

    @property
    def judged(self) -> bool:
        """Whether any case could be compared."""
        return bool(self.slower or self.faster or self.same)

    def lines(self) -> list[str]:
        """Return what to print."""
        headings = {
            "slower by more than 15 % and by more than their spread": self.slower,
            "faster": self.faster,
            "not to be compared": self.unclear,
            "only in the older run": self.absent,
        }
        found = [f"{len(self.same)} cases unchanged within 15 % or their spread"]
        for heading, lines in headings.items():
            if lines:
                found += [f"{len(lines)} {heading}:", *(f"  {line}" for line in lines)]
        return found


def where(sure: bool, sure_then: bool) -> str:
    """Return which of two runs cannot be trusted.

    Examples
    --------
    >>> where(False, False), where(True, False), where(False, True)
    ('both runs', 'the older run', 'this run')
    """
    return "both runs" if not (sure or sure_then) else "the older run" if sure else "this run"


def keys(bench: Bench) -> set[Key]:
    """Return the cases of a run."""
    return {key_of(cell) for cell in [*bench["steps"], *bench["updates"]]}
