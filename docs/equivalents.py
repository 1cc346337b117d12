"""The numbers of other libraries: equivalents.toml, and the tables that are made of it.

``<!-- equivalents: PyTorch -->`` in a page of the site is where a library's table goes. A rule's
page has the rows that name the rule. The README has the rows that say ``readme = true``.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).with_name("equivalents.toml")


class Row(NamedTuple):
    """How to get the numbers of one optimizer of another library."""

    library: str
    theirs: str
    ours: str
    by: str             # the test that holds it
    note: str = ""
    readme: bool = False

    def rules(self) -> set[str]:
        """Return each NAME of ``fo.NAME(`` in the row."""
        return set(re.findall(r"\bfo\.(\w+)\(", self.ours))


def libraries() -> dict[str, dict[str, Any]]:
    """Return what the file says of each library."""
    read = tomllib.loads(DATA.read_text("utf-8"))["library"]
    return {library["name"]: library for library in read}


def rows() -> list[Row]:
    """Return all rows, in the file's order."""
    return [row for name in libraries() for row in rows_of(name)]


def rows_of(library: str) -> list[Row]:
    """Return the rows of a library."""
    known = libraries()
    if library not in known:
        raise LookupError(f"{DATA.name} has no library {library!r}; it has {', '.join(known)}")
    by = known[library]["by"]
    return [Row(library, **({"by": by} | row)) for row in known[library]["rows"]]


def of_rule(name: str) -> list[Row]:
    """Return the rows that name a rule."""
    return [row for row in rows() if name in row.rules()]


def of_readme() -> list[Row]:
    """Return the rows that are asked for most."""
    return [row for row in rows() if row.readme]


def page_part(library: str) -> str:
    """Return a library's table, and what nothing here gives."""
    missing = libraries()[library].get("missing", "") if library in libraries() else ""
    return "\n".join([*lines(rows_of(library), named=False), "", missing])


def table(chosen: Iterable[Row]) -> str:
    """Return rows of several libraries as a table of Markdown."""
    return "\n".join([*lines(chosen, named=True), ""])


def lines(chosen: Iterable[Row], named: bool) -> Iterator[str]:
    """Yield the lines of a table, with the library's name in front or not, and its notes."""
    chosen = list(chosen)
    notes = list(dict.fromkeys(row.note for row in chosen if row.note))
    yield ("| library " if named else "") + "| to get the numbers of | write | by |"
    yield ("|---" if named else "") + "|---|---|---|"
    for row in chosen:
        mark = f" {mark_of(notes.index(row.note))}" if row.note else ""
        library = f"| {row.library} " if named else ""
        yield f"{library}| {row.theirs} | {row.ours}{mark} | `{row.by}` |"
    for k, note in enumerate(notes):
        yield from ("", f"{mark_of(k)} {note}")


def mark_of(k: int) -> str:
    """Return the mark of a table's k-th note, counted from 0: ¹, ², and so on."""
    return str(k + 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
