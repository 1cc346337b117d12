"""``fastoptim info``."""

import json
import re
from argparse import Namespace
from importlib import metadata
from typing import Any

import numpy as np

import fastoptim
from fastoptim import runtime
from fastoptim.demo import mlp

NETWORKS = [784, 100, 10], [784, 512, 512, 10]
BATCH = 100
MOST_STEPS = 40  # the first comparison takes at most 20 updates
FOR_DEVELOPERS = ("docs", "test")


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser(
        "info",
        help="show versions, extras, compiler, threads and what is learned about them",
        description="Shows what decides how an update runs. For a second or so it trains two small "
        "networks, and shows how many threads their updates learned to use.",
    )
    command.add_argument("--json", action="store_true", help="the same for a machine to read")
    command.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Print what decides how an update runs."""
    rows = runtime.described()
    trial = {"-".join(map(str, sizes)): learned_by(sizes) for sizes in NETWORKS}
    known = extras()
    if arguments.json:
        print(json.dumps(rows | {"learned": trial, "extras": known}, indent=2))
        return 0
    rows["learned"] = "; ".join(f"{name}: {words}" for name, words in trial.items())
    rows["extras"] = "; ".join(
        name if not missing else f"{name} (without {', '.join(missing)})"
        for name, missing in known.items()
    )
    for name, value in rows.items():
        print(f"{name + ':':<14}{value}")
    if any(known.values()):
        print(f"{'':<14}pip install 'fastoptim[NAME]' completes an extra")
    return 0


def learned_by(sizes: list[int]) -> str:
    """Train a network until the count of threads is learned; return it in words."""
    rng = np.random.default_rng(0)
    x, t = rng.random((BATCH, sizes[0]), np.float32), rng.integers(0, sizes[-1], BATCH)
    params, opt = dict(mlp.init(sizes, 0)), fastoptim.Adam()
    for _ in range(MOST_STEPS):
        opt.update(params, mlp.gradients(params, x, t))
        learned = opt.engine.learned()
        if not learned or all(compared for *_, compared in learned):
            break
    return runtime.learned(opt) if learned else "one thread"


def extras() -> dict[str, list[str]]:
    """Return for each extra of the package which of its libraries are missing."""
    about = metadata.metadata("fastoptim")
    names = [name for name in about.get_all("Provides-Extra", []) if name not in FOR_DEVELOPERS]
    return {name: missing(name) for name in names}


def missing(extra: str) -> list[str]:
    """Return the libraries of an extra that are not installed."""
    absent: list[str] = []
    for requirement in metadata.requires("fastoptim") or []:
        name = re.findall(r"^[\w.-]+", requirement)[0]
        before, _, condition = requirement.partition(";")
        if not re.search(rf"extra == ['\"]{extra}['\"]", condition):
            continue
        if name == "fastoptim":
            for other in re.findall(r"[\w-]+", before.partition("[")[2]):
                absent += missing(other)
            continue
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    return sorted(set(absent))
