"""A run as tables: rich in a terminal, plain text elsewhere."""

import sys
from collections.abc import Iterable
from typing import IO, Any

from fastoptim.bench.files import Bench
from fastoptim.bench.names import NO_UPDATE, OURS

Figure = dict[str, Any]
Column = tuple[str, bool, dict[str, Figure]]  # title, quiet, figure by contestant
DOUBT = "?"


def seconds(t: float) -> str:
    """Return a time with three digits and its unit.

    Examples
    --------
    >>> seconds(2.5802e-2), seconds(1.14e-5), seconds(3e-7), seconds(1.5)
    ('25.8 ms', '11.4 µs', '300 ns', '1.50 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if t >= size or unit == "ns":
            value = t / size
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {unit}"
    raise AssertionError(t)


def around(figure: Figure) -> float:
    """Return the distance of the farther quartile, over the median."""
    middle = float(figure["median"])
    return max(figure["q3"] - middle, middle - figure["q1"]) / middle if middle else 0.0


def doubt(quiet: bool, *figures: Figure) -> str:
    """Return a mark for what is not to be trusted."""
    return "" if quiet and all(figure["steady"] for figure in figures) else DOUBT


def time_cell(figure: Figure, quiet: bool) -> str:
    """Return a time and its spread."""
    return f"{seconds(figure['median'])} ±{100 * around(figure):.0f} %{doubt(quiet, figure)}"


def ratio_cell(figure: Figure, ours: Figure, quiet: bool) -> str:
    """Return how many times our time another takes, with the spread of both.

    Examples
    --------
    >>> one = {"median": 2.0, "q1": 1.9, "q3": 2.1, "steady": True}
    >>> ratio_cell({"median": 9.0, "q1": 9.0, "q3": 9.0, "steady": True}, one, True)
    '4.50× ±5 %'
    """
    times = figure["median"] / ours["median"]
    both = 100 * (around(figure) + around(ours))
    digits = 0 if times >= 100 else 1 if times >= 10 else 2
    return f"{times:.{digits}f}× ±{both:.0f} %{doubt(quiet, figure, ours)}"


def lines_of(columns: list[Column]) -> list[list[str]]:
    """Return a table's rows: our times, then everyone's in multiples of them.

    Where ours are missing, because their process failed, there are times alone.
    """
    names = list(dict.fromkeys(name for _, _, figures in columns for name in figures))
    rows = []
    for name in names:
        row = [name]
        for _, quiet, figures in columns:
            if name not in figures:
                row.append("–")
            elif name == OURS or OURS not in figures:
                row.append(time_cell(figures[name], quiet))
            else:
                row.append(ratio_cell(figures[name], figures[OURS], quiet))
        rows.append(row)
    return rows


def tables(bench: Bench) -> Iterable[tuple[str, list[Column]]]:
    """Yield a run's tables: whole steps, their updates, and updates alone by rule and dtype."""
    for part, title in (
        ("step", "Whole training step (gradients and update)"),
        ("update", "The update within the step"),
    ):
        columns = [
            (
                cell["title"], cell["quiet"],
                {
                    name: both[part] for name, both in cell["contestants"].items()
                    if both[part] is not None and (part == "step" or name != NO_UPDATE)
                },
            )
            for cell in bench["steps"]
        ]
        if columns:
            yield title, columns
    groups: dict[tuple[str, str], list[Column]] = {}
    for cell in bench["updates"]:
        column = cell["title"], cell["quiet"], cell["contestants"]
        groups.setdefault((cell["rule"], cell["dtype"]), []).append(column)
    for (rule, dtype), columns in groups.items():
        yield f"Updates alone: {rule}, {dtype}, by elements", columns
    for cell in bench["threads"]:
        columns = [
            (
                f"{n} thread{'s' * (n != '1')}", cell["quiet"],
                {name: by[n] for name, by in cell["contestants"].items()},
            )
            for n in cell["contestants"][OURS]
        ]
        yield f"Threads: {cell['rule']}, {cell['dtype']}, {cell['title']} elements", columns


def head(bench: Bench) -> list[str]:
    """Return what a run was made on, in a few lines."""
    machine = bench["machine"]
    caches = ", ".join(
        f"{name} {size / 2**20:g} MiB" if size >= 2**20 else f"{name} {size / 2**10:g} KiB"
        for name, size in (machine["caches"] or {}).items()
    )
    versions = ", ".join(f"{name} {text}" for name, text in bench["versions"].items())
    return [
        f"{machine['processor']}, {machine['processors']} processors"
        + (f", {caches}" if caches else "") + f"; {machine['instructions']}",
        versions,
    ]


def caveats(bench: Bench) -> list[str]:
    """Return what a reader must know before quoting a figure; nothing of a quiet, steady run."""
    quiet = bench["quiet"]
    lines = [f"The machine was not quiet: {why}." for why in quiet["why"]]
    if quiet["not_to_be_trusted"]:
        lines.append(
            f"Not to be trusted (marked {DOUBT}): their turns differ by more than "
            f"{100 * bench['bound']:.0f} %, or something else ran:"
        )
        lines += [f"  {line}" for line in quiet["not_to_be_trusted"]]
    return lines


def show(bench: Bench, file: IO[str] | None = None) -> None:
    """Print a run."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file = sys.stdout if file is None else file
    terminal = file.isatty()
    console = Console(file=file, highlight=False, width=None if terminal else 240)
    for line in head(bench):
        console.print(Text(line))
    for title, columns in tables(bench):
        table = Table(
            box=box.SIMPLE_HEAD if terminal else box.MARKDOWN, show_edge=not terminal,
        )
        table.add_column("")
        for heading, _, _ in columns:
            table.add_column(heading, justify="right")
        for row in lines_of(columns):
            doubtful = terminal and any(cell.endswith(DOUBT) for cell in row)
            table.add_row(*map(Text, row), style="dim" if doubtful else "")
        console.print()
        console.print(Text(title, style="bold" if terminal else ""))
        console.print(table)
    console.print(
        "\nTimes are medians; ± is the distance of the farther quartile. Other rows: how many\n"
        "times our time they take (over 1×: fastoptim takes less time).", markup=False,
    )
    for line in caveats(bench):
        console.print(Text(line, style="yellow" if terminal else ""))
