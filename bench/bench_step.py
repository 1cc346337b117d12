"""The whole training step, in the surroundings of people who see other figures than ours.

Run it by itself and nothing beside it: ``python bench/bench_step.py``. Networks, contestants and
turns are those of ``fastoptim bench``, which measures them alone; here they are also measured with
OpenBLAS on one thread, and beside a busy process per processor. The figures are medians of a step
in µs, in brackets those of the update; a question mark is behind those that were not steady.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from fastoptim.bench.contestants.everyone import missing
from fastoptim.bench.contestants.networks import FAMILIES
from fastoptim.bench.networks import NETWORKS, said
from fastoptim.bench.steps import Families

SURROUNDINGS = {
    "alone": {},
    "alone, OpenBLAS on one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "beside a busy process per processor": {},
}
BUSY = "while True: pass"


def busy_processes(stack):
    """Start a process per processor that never waits; they end with the stack."""
    for _ in range(os.cpu_count()):
        process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
        stack.callback(process.kill)


def measure(place, networks, families, seconds, bar):
    """Return network → contestant → figures, and print who could not take part."""
    figures = {}
    with ExitStack() as stack:
        if place.startswith("beside"):
            busy_processes(stack)
        running = stack.enter_context(Families(families, SURROUNDINGS[place]))
        for network in networks:
            figures[network], company = running.measure(network, seconds, fixed=True)
            if not company.quiet and not place.startswith("beside"):
                bar.write(f"{place}, {said(network)}: the machine was not quiet", file=sys.stderr)
            bar.update()
        for family, why in running.failed.items():
            bar.write(f"{place}: {family} failed: {why}", file=sys.stderr)
    return figures


def cell(figures):
    step, update = figures["step"], figures["update"]
    text = f"{step['median'] * 1e6:,.0f}{'' if step['steady'] else '?'}"
    return text if update is None else f"{text} ({update['median'] * 1e6:,.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="at most for a network")
    parser.add_argument("--only", choices=list(SURROUNDINGS), action="append")
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    arguments = parser.parse_args()
    families = [family for family in FAMILIES if not missing(family)]
    networks, places = arguments.network or list(NETWORKS), arguments.only or list(SURROUNDINGS)
    with tqdm(total=len(networks) * len(places), unit="cell", file=sys.stderr) as bar:
        figures = {
            place: measure(place, networks, families, arguments.seconds, bar) for place in places
        }
    for place, rows in figures.items():
        names = list(rows[networks[0]])
        print(f"\n{place}\n\n| network, batch | " + " | ".join(names) + " |")
        print("|---|" + "---|" * len(names))
        for network, row in rows.items():
            cells = (cell(row[name]) if name in row else "–" for name in names)
            print(f"| {said(network)} | " + " | ".join(cells) + " |")
    print("\nlosses after as many steps as each took:")
    for place, rows in figures.items():
        for network, row in rows.items():
            losses = ", ".join(f"{name} {one['loss']:.3g}" for name, one in row.items())
            print(f"  {place}; {said(network)}: {losses}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
