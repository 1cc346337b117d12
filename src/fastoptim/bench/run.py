"""A run: networks, then updates alone, then threads, within a budget of time."""

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import fastoptim
from fastoptim.bench import machine
from fastoptim.bench.cases import Case
from fastoptim.bench.contestants import ours, stream
from fastoptim.bench.contestants.everyone import PEERS, everyone, how_many, missing, new_arrays
from fastoptim.bench.contestants.networks import FAMILIES
from fastoptim.bench.figures import BOUND
from fastoptim.bench.files import FORMAT, VERSION, Bench
from fastoptim.bench.names import LIMIT, OURS
from fastoptim.bench.networks import said
from fastoptim.bench.quiet import Company, Watch, in_words, load
from fastoptim.bench.steps import Families
from fastoptim.bench.turns import Contestant, alternate
from fastoptim.kernels import threads

MEMORY = 0.8  # of what is available
NETWORK_WEIGHT = 8.0  # a network's share of the time, where an update's is 1
LONGEST = 10.0  # seconds for a cell of weight 1: a machine that is busy so long stays busy
NO_TIME = "no time was left, since the machine is slow or busy"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run measures, for how long."""

    networks: Sequence[str]
    updates: Sequence[Case]
    thread_cases: Sequence[Case]
    peers: Sequence[str]
    seconds: float     # of measuring, about
    quick: bool = False

    @property
    def cells(self) -> int:
        """How many cells of tables there are."""
        return len(self.networks) + len(self.updates) + len(self.thread_cases)


class Budget:
    """Divides the time that is left among the cells that are left."""

    def __init__(self, seconds: float, weight: float, clock: Callable[[], float]) -> None:
        self.end, self.weight, self.clock = clock() + seconds, weight, clock

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.clock() >= self.end

    def share(self, weight: float = 1.0) -> float:
        """Return the seconds for the next cell."""
        left = max(0.0, self.end - self.clock())
        part = left * weight / self.weight if self.weight > 0 else 0.0
        self.weight -= weight
        return min(part, LONGEST * weight)


def company_of(company: Company) -> dict[str, Any]:
    """Return what a cell says of what others did."""
    return {"others": company.others, "quiet": company.quiet}


def counts() -> list[int]:
    """Return the numbers of threads to try: 1, 2, 4, … and all processors.

    Examples
    --------
    >>> counts()[0]
    1
    """
    most = threads.machine_limit() if threads.openmp_version() else 1
    return sorted({n for n in (2**k for k in range(most.bit_length())) if n <= most} | {most})


def fits(case: Case, contestants: int) -> str:
    """Return why a case is left out for want of memory, or an empty text."""
    free, needed = machine.available_memory(), case.bytes_needed(contestants)
    if free is None or needed <= MEMORY * free:
        return ""
    return (
        f"needs {needed / 1e9:.1f} GB for {contestants} contestants, {free / 1e9:.1f} GB are free"
    )


def update_cell(case: Case, peers: Sequence[str], budget: float, failed: dict[str, str]) -> Any:
    """Return the figures of one case, after its bits were checked."""
    case.check()
    start = perf_counter()
    contestants = everyone(case, peers, failed)
    watch = Watch()
    figures = alternate(contestants, max(0.0, budget - (perf_counter() - start)))
    return cell_of(case) | company_of(watch.company()) | {
        "contestants": {name: figure.as_json() for name, figure in figures.items()}
    }


def cell_of(case: Case) -> dict[str, Any]:
    """Return what names a case in bench.json."""
    return {
        "rule": case.rule, "dtype": case.dtype, "shapes": [list(s) for s in case.shapes],
        "title": case.title, "elements": case.elements, "bytes_moved": case.bytes_moved,
    }


def thread_cell(case: Case, budget: float) -> Any:
    """Return the figures of one case for each number of threads, ours and the limit's."""
    case.check()
    new = new_arrays(case)
    everyone: list[Contestant] = []
    for n in counts():
        for one in (*ours.contestants(case, new), stream.contestant(case, *new())):
            one.name, one.begin = f"{one.name}, {n}", with_threads(n)
            everyone.append(one)
    watch = Watch()
    figures = alternate(everyone, budget)
    by_name: dict[str, dict[str, Any]] = {OURS: {}, LIMIT: {}}
    for full, figure in figures.items():
        name, count = full.rsplit(", ", 1)
        by_name[name][count] = figure.as_json()
    return cell_of(case) | company_of(watch.company()) | {"contestants": by_name}


def with_threads(n: int) -> Callable[[], None]:
    """Return what begins a turn on exactly n threads."""
    return lambda: fastoptim.set_num_threads(n, fixed=True)


def measured(
    plan: Plan, progress: Any, clock: Callable[[], float] = perf_counter, note: Say | None = None
) -> Bench:
    """Measure, and return what bench.json holds.

    Parameters
    ----------
    plan : Plan
        What to measure.
    progress : object
        Has ``update()`` and ``set_postfix_str(text)``, as tqdm has.
    clock : callable
        Returns seconds.
    note : callable, optional
        Told who and what is left out.

    Raises
    ------
    DifferentBits
        A result is not the listing's.
    """
    started, begin, load_before = clock(), datetime.now(UTC), load()
    bench: Bench = {
        "format": FORMAT, "version": VERSION, "when": begin.isoformat(timespec="seconds"),
        "command": sys.argv[1:], "quick": plan.quick, "bound": BOUND,
        "machine": machine.described(), "versions": machine.versions(),
        "steps": [], "updates": [], "threads": [], "left_out": [],
    }
    left_out = bench["left_out"]
    failed = {peer: f"{', '.join(missing(peer))} not installed" for peer in PEERS if missing(peer)}
    peers = [peer for peer in plan.peers if peer not in failed]
    left_out += [f"{peer}: {failed[peer]}" for peer in plan.peers if peer in failed]
    weight = NETWORK_WEIGHT * len(plan.networks) + len(plan.updates) + len(plan.thread_cases)
    budget = Budget(plan.seconds, weight, clock)
    if plan.networks:
        families = [name for name in FAMILIES if name == "numpy" or name in peers]
        with Families(families) as running:
            for network in plan.networks:
                progress.set_postfix_str(said(network))
                if budget.over:
                    left_out.append(f"{said(network)}: {NO_TIME}")
                    continue
                figures, company = running.measure(
                    network, budget.share(NETWORK_WEIGHT), fixed=not plan.quick,
                    seconds=0.15 if plan.quick else 0.3,
                )
                bench["steps"].append(
                    {"network": network, "title": said(network)} | company_of(company)
                    | {"contestants": figures}
                )
                progress.update()
            left_out += [f"{name} (networks): {why}" for name, why in running.failed.items()]
    gone: dict[str, str] = {}
    try:
        # Contestants in turn are no loop to learn from.
        fastoptim.set_num_threads(fastoptim.get_num_threads(), fixed=True)
        for case in plan.updates:
            progress.set_postfix_str(f"{case.rule}, {case.dtype}, {case.title}")
            why = NO_TIME if budget.over else fits(case, how_many(peers))
            share = budget.share()
            if why:
                left_out.append(f"{case.rule}, {case.dtype}, {case.title}: {why}")
            else:
                bench["updates"].append(update_cell(case, peers, share, gone))
            gc.collect()
            progress.update()
        for case in plan.thread_cases:
            progress.set_postfix_str(f"threads, {case.title}")
            why = NO_TIME if budget.over else fits(case, 2 * len(counts()))
            share = budget.share()
            if why:
                left_out.append(f"threads, {case.title}: {why}")
            else:
                bench["threads"].append(thread_cell(case, share))
            progress.update()
    finally:
        fastoptim.set_num_threads(None)
    left_out += [f"{peer}: {why}" for peer, why in gone.items()]
    for line in left_out if note else ():
        assert note is not None
        note(f"left out: {line}")
    bench["seconds"] = clock() - started
    bench["quiet"] = verdict(bench, load_before)
    return bench


def verdict(bench: Bench, load_before: float | None) -> dict[str, Any]:
    """Return whether the machine was quiet, and which figures not to trust, in words.

    Without counts of what others did, a load average of the minute before must do.
    """
    cells = [*bench["steps"], *bench["updates"], *bench["threads"]]
    disturbed = [cell for cell in cells if not cell["quiet"]]
    unknown = all(cell["others"] is None for cell in cells)
    why = []
    if disturbed:
        worst = max(cell["others"] for cell in disturbed)
        company = Company(worst, bench["machine"]["processors"], bench["machine"]["processors"])
        why.append(f"{in_words(company)} during the worst of {len(disturbed)} disturbed cases")
    if unknown and load_before is not None and load_before > bench["machine"]["processors"] / 2:
        why.append(f"the load was {load_before:.1f} in the minute before")
    unsteady = [line for cell in cells for line in distrusted(cell)]
    return {
        "quiet": not why, "why": why, "load_before": load_before, "not_to_be_trusted": unsteady,
    }


def name_of(cell: dict[str, Any]) -> str:
    """Return a cell's name in messages."""
    if "network" in cell:
        return str(cell["title"])
    return f"{cell['rule']}, {cell['dtype']}, {cell['title']}"


def distrusted(cell: dict[str, Any]) -> list[str]:
    """Return the names of a cell's figures that are not to be trusted: of all, or who."""
    who = []
    for name, figure in cell["contestants"].items():
        if "median" in figure:
            parts = [figure]
        else:  # a step and its update; or figures by number of threads
            parts = [part for part in figure.values() if isinstance(part, dict)]
            parts = parts[:1] if "step" in figure else parts
        if not all(part["steady"] for part in parts):
            who.append(name)
    if not cell["quiet"] or len(who) == len(cell["contestants"]):
        return [f"{name_of(cell)}: all"]
    return [f"{name_of(cell)}: {', '.join(who)}"] if who else []
