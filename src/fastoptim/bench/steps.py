"""Whole training steps: families in processes of their own, which take turns."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import isnan
from time import perf_counter
from typing import Any

from fastoptim.bench.bits import DifferentBits
from fastoptim.bench.family import Family
from fastoptim.bench.figures import BOUND, FEWEST, Figure
from fastoptim.bench.quiet import Company, Watch
from fastoptim.bench.turns import Clock, enough, unsteady


class Families:
    """The processes of some families, which live as long as the block."""

    def __init__(self, names: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.names, self.environment = names, environment
        self.failed: dict[str, str] = {}

    def __enter__(self) -> "Families":
        """Start them."""
        with ExitStack() as stack:
            self.running = [
                stack.enter_context(Family(name, self.environment)) for name in self.names
            ]
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        """End them."""
        self.stack.close()

    def good(self, family: Family, said: dict[str, Any]) -> bool:
        """Return whether an answer can be used; remember why not."""
        if "different" in said:
            raise DifferentBits(said["different"])
        if "failed" in said:
            self.failed[family.name] = said["failed"]
        return "failed" not in said

    def ready(self, network: str, fixed: bool) -> dict[str, Family]:
        """Make a network's contestants; return name → family."""
        found: dict[str, Family] = {}
        for family in self.running:
            if family.name not in self.failed:
                said = family.ask(network=network, fixed=fixed)
                if self.good(family, said):
                    found |= dict.fromkeys(said["names"], family)
        return found

    def measure(
        self, network: str, budget: float, *, fixed: bool = False, seconds: float = 0.3,
        bound: float = BOUND, clock: Clock = perf_counter,
    ) -> tuple[dict[str, dict[str, Any]], Company]:
        """Return figures of all contestants, and what others did meanwhile.

        Contestants take turns until all their steps are steady or the budget is used up.

        Parameters
        ----------
        network : str
            A key of `networks.NETWORKS`.
        budget : float
            Seconds after which no further round begins.
        fixed : bool
            Whether fixed counts of threads take part.
        seconds : float
            Of a turn.
        """
        everyone = self.ready(network, fixed)
        watch = Watch([family.process.pid for family in self.running])
        steps: dict[str, list[list[float]]] = {name: [] for name in everyone}
        updates: dict[str, list[list[float]]] = {name: [] for name in everyone}
        losses: dict[str, float] = {}
        start, order, rounds = clock(), list(everyone), 0
        while True:
            for name in order:
                family = everyone[name]
                if family.name in self.failed:
                    continue
                said = family.ask(turn=name, seconds=seconds)
                if self.good(family, said):
                    steps[name].append(said["steps"])
                    updates[name].append(said["updates"])
                    losses[name] = said["loss"]
            order.reverse()
            rounds += 1
            used = clock() - start
            there = {n: s for n, s in steps.items() if everyone[n].name not in self.failed}
            if enough(rounds, used, budget) or (rounds >= FEWEST and not unsteady(there, bound)):
                break
        return {
            name: {
                "step": Figure.of(seen, bound).as_json(),
                "update": None if isnan(updates[name][0][0])
                else Figure.of(updates[name], bound).as_json(),
                "loss": losses[name],
            }
            for name, seen in there.items()
        }, watch.company()
