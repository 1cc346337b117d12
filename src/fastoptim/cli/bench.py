"""``fastoptim bench``."""

import argparse
import sys
from argparse import Namespace
from math import prod
from pathlib import Path
from typing import Any

from fastoptim.bench import files, report
from fastoptim.bench.bits import DifferentBits
from fastoptim.bench.cases import DTYPES, QUICK_SIZES, RULES, SIZES, Case, Shape, planned
from fastoptim.bench.contestants.everyone import PEERS
from fastoptim.bench.networks import NETWORKS, QUICK_NETWORKS
from fastoptim.bench.run import Plan, measured
from fastoptim.cli.arguments import add_output, names_of, once, writable
from fastoptim.cli.refused import Refused, need

SECONDS, QUICK_SECONDS = 480.0, 55.0  # of measuring; starting and drawing come on top
PARTS = ("steps", "updates", "threads")
PICTURES = {"steps": "steps", "sizes": "updates", "cases": "updates", "threads": "threads"}


def shapes(text: str) -> tuple[Shape, ...]:
    """Return the shapes of several arrays, such as those of "784x100,100"."""
    try:
        found = tuple(tuple(map(whole, part.split("x"))) for part in text.lower().split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be sizes such as 1000000 or 784x100,100 (a comma between arrays), got {text!r}"
        ) from None
    if sum(map(prod, found)) > 2**40:
        raise argparse.ArgumentTypeError(f"has more than 2^40 elements, got {text!r}")
    return found


def whole(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise ValueError(text)
    return int(text)


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser(
        "bench",
        help="measure whole training steps and updates on this machine, beside NumPy and others",
        description="Measures whole training steps, then updates alone by size, then threads; "
        "contestants take turns until their figures are steady. Prints tables, and writes "
        "bench.json and pictures. Exit status 1 if a result has other bits than the NumPy listing, "
        "or if --compare finds a case that got slower.",
    )
    command.add_argument(
        "--quick", action="store_true", help="fewer cases, within 90 seconds (all: ten minutes)"
    )
    command.add_argument(
        "--cases", nargs="+", type=names_of("case", [*PARTS, *NETWORKS]), metavar="NAME",
        help=f"only these: {', '.join(PARTS)}, or a network ({', '.join(NETWORKS)})",
    )
    command.add_argument(
        "--rules", nargs="+", type=names_of("rule", RULES), metavar="NAME",
        help=f"only updates with these rules ({', '.join(RULES)}), or all",
    )
    command.add_argument(
        "--dtype", nargs="+", type=names_of("dtype", DTYPES), metavar="NAME",
        help=f"only updates of these ({', '.join(DTYPES)}), or all",
    )
    command.add_argument(
        "--size", nargs="+", type=shapes, metavar="SHAPES",
        help="only updates of arrays of your own shapes, such as 784x100,100",
    )
    command.add_argument(
        "--peers", nargs="+", type=names_of("peer", list(PEERS)), metavar="NAME",
        help=f"who takes part if installed (default: {' '.join(PEERS)})",
    )
    command.add_argument(
        "--compare", type=Path, metavar="OLD.json",
        help="a bench.json of before: exit status 1 if a case got more than 15 %% slower relative "
        "to its run's limit",
    )
    command.add_argument(
        "--json", action="store_true", help="print bench.json's content in place of tables"
    )
    add_output(command, "bench", "bench.json and pictures")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)


def plan_of(arguments: Namespace) -> Plan:
    """Return what the arguments ask for.

    Where rules, dtypes or sizes are named, only updates are measured, unless --cases says more.
    """
    quick = bool(arguments.quick)
    rules, dtypes = (once(names) if names else None for names in (arguments.rules, arguments.dtype))
    narrowed = bool(rules or dtypes or arguments.size)
    usual = ["updates"] if narrowed else list(PARTS)
    cases = once(arguments.cases) if arguments.cases else usual
    networks = [name for name in NETWORKS if name in cases]
    if "steps" in cases and not networks:
        networks = list(QUICK_NETWORKS if quick else NETWORKS)
    updates = planned(rules, dtypes, arguments.size, quick) if "updates" in cases else []
    if narrowed and not updates and "threads" not in cases:
        raise Refused(
            "--rules, --dtype and --size choose among updates; add updates or threads to --cases"
        )
    thread_cases: list[Case] = []
    if "threads" in cases:
        grid = QUICK_SIZES if quick else SIZES
        thread_cases = planned(
            rules or ["Adam"], dtypes or ["float32"], arguments.size or grid[2:] or grid, quick
        )
    peers = once(arguments.peers) if arguments.peers else list(PEERS)
    seconds = QUICK_SECONDS if quick else SECONDS
    return Plan(networks, updates, thread_cases, peers, seconds, quick)


def older(path: Path, plan: Plan) -> files.Bench:
    """Return the run to compare with, which must have a case of this one."""
    try:
        old = files.read(path)
    except files.NoBench as problem:
        raise Refused(f"--compare: {problem}") from None
    wanted = {files.key_of({"network": network}) for network in plan.networks}
    wanted |= {
        files.key_of({"rule": c.rule, "dtype": c.dtype, "shapes": c.shapes}) for c in plan.updates
    }
    if not wanted & {key for key, *_ in files.relative(old)}:
        raise Refused(f"--compare: {path} has none of the cases that would be measured now")
    return old


def run(arguments: Namespace) -> int:
    """Measure, print, write, draw, compare."""
    need("bench", "matplotlib", "rich", "tqdm")
    from tqdm import tqdm

    plan = plan_of(arguments)
    old = older(arguments.compare, plan) if arguments.compare else None
    folder = writable(arguments.output)
    with tqdm(
        total=plan.cells, desc="measuring", unit="case", leave=False,
        disable=True if arguments.quiet else None,
    ) as bar:
        try:
            bench = measured(plan, bar, note=lambda line: bar.write(line, file=sys.stderr))
        except DifferentBits as problem:
            bar.clear()
            print(f"error: {problem}", file=sys.stderr)
            return 1
    if not any(bench[part] for part in PARTS):
        raise Refused(f"nothing was measured: {'; '.join(bench['left_out'])}")
    try:
        files.write(bench, folder / "bench.json")
        written = ["bench.json", *draw(bench, folder)]
    except OSError:  # a disk that is full: what was measured for minutes must not be lost with it
        show(bench, arguments.json)
        raise
    show(bench, arguments.json)
    if not arguments.json:
        print(f"Written to {folder}: {', '.join(written)}")
    return 0 if old is None else compared(bench, old, sys.stderr if arguments.json else sys.stdout)


def show(bench: files.Bench, as_json: bool) -> None:
    """Print what was measured."""
    if not as_json:
        report.show(bench)
        return
    print(files.as_text(bench))
    for line in report.caveats(bench):
        print(line, file=sys.stderr)


def compared(bench: files.Bench, old: files.Bench, file: Any) -> int:
    """Print what changed; return the exit status."""
    comparison = files.Comparison(bench, old)
    before, now = (b["machine"]["processor"] for b in (old, bench))
    if before != now:
        print(f"The older run was made on another processor: {before}", file=file)
    print(*comparison.lines(), sep="\n", file=file)
    if not comparison.judged:
        raise Refused("no case could be compared; run both again while nothing else runs")
    return int(bool(comparison.slower))


def draw(bench: files.Bench, folder: Path) -> list[str]:
    """Draw the pictures for which there are figures; return their names."""
    from matplotlib.figure import Figure

    from fastoptim.plot.save import save
    from fastoptim.plot.speed import of_one_array, size, speed

    written = []
    for what, part in PICTURES.items():
        if of_one_array(bench) if what == "sizes" else bench[part]:
            figure = Figure(figsize=size(bench, what), layout="constrained")
            speed(bench, what, figure.subplots())
            save(figure, folder / f"{what}.png")
            written.append(f"{what}.png")
    return written
