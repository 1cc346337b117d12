"""Whether anything else ran: the processors' time that was not ours.

/proc/stat counts what every program and, as stolen time, every other machine on the same hardware
took of the processors. Without it (macOS) the load average before the start has to do.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from fastoptim.kernels import threads

ROOM = 0.15  # of one processor: what an idle system does for itself
STAT = Path("/proc/stat")


def processors() -> set[int]:
    """Return the numbers of the processors on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def busy_seconds(text: str, wanted: set[int], tick: float) -> float | None:
    r"""Return how long some processors have worked, by the lines cpu0, cpu1, … of /proc/stat.

    Examples
    --------
    >>> busy_seconds("cpu 9 9 9 9\ncpu0 100 0 50 900 7 0 0 25 0 0\n", {0}, 0.01)
    1.75
    """
    ticks, found = 0, False
    for line in text.splitlines():
        name, *numbers = line.split()
        if name[:3] == "cpu" and name[3:].isdecimal() and int(name[3:]) in wanted:
            user, nice, system, _, _, irq, soft, *steal = map(int, numbers)
            ticks += user + nice + system + irq + soft + (steal[0] if steal else 0)
            found = True
    return ticks * tick if found else None


def machine_seconds() -> float | None:
    """Return how long this process's processors have worked; None where nobody counts."""
    try:
        return busy_seconds(STAT.read_text("ascii"), processors(), 1 / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError):
        return None


def own_seconds(children: Sequence[int] = ()) -> float:
    """Return the processors' time of this process and of its children, those still there by id."""
    seconds = sum(os.times()[:4])
    for child in children:
        try:
            fields = Path(f"/proc/{child}/stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:  # ended: os.times counts it once it was waited for
            continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


@dataclass(frozen=True)
class Company:
    """What others did while something was measured."""

    others: float | None  # processors that others kept busy, on average; None if unknown
    available: int        # processors on which this process may run
    used: int             # how many of them it uses

    @property
    def quiet(self) -> bool:
        """Whether all that this process uses was its own."""
        return self.others is None or self.others <= ROOM + max(0, self.available - self.used)


class Watch:
    """Counts what others do, from its making on; the sources can be given, for tests."""

    def __init__(
        self,
        children: Sequence[int] = (),
        machine: Callable[[], float | None] = machine_seconds,
        own: Callable[[Sequence[int]], float] = own_seconds,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.children, self.machine, self.own, self.clock = children, machine, own, clock
        self.start = clock(), machine(), own(children)

    def company(self) -> Company:
        """Return what others did so far."""
        then, machine_then, own_then = self.start
        machine_now, own_now = self.machine(), self.own(self.children)
        seconds = self.clock() - then
        others = None
        if machine_then is not None and machine_now is not None and seconds > 0:
            others = max(0.0, (machine_now - machine_then - own_now + own_then) / seconds)
        return Company(others, len(processors()), threads.machine_limit())


def load() -> float | None:
    """Return how many programs wanted to run in the last minute; None where nobody counts."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def in_words(company: Company) -> str:
    """Say on a line what others did.

    Examples
    --------
    >>> in_words(Company(0.93, 2, 2))
    'other programs kept 0.9 of 2 processors busy'
    """
    if company.others is None:
        return "what other programs did is not known on this system"
    s = "" if company.available == 1 else "s"
    return (
        f"other programs kept {company.others:.1f} of {company.available} processor{s} busy"
    )
