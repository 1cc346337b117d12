"""``fastoptim inspect``."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fastoptim.checkpoint import file as checkpoint
from fastoptim.checkpoint.tree import Stored
from fastoptim.cli.refused import need
from fastoptim.optimizer.state_dtypes import numbers_of
from fastoptim.training import schedules

# What tells a state from a dict of the user's.
OF_OPTIMIZER = {"format", "fastoptim", "rule", "hyperparameters", "schedules"}
OF_SOFTBATCH = {"pending", "every", "reduce", "sums", "rows", "optimizer"}
COUNTERS = ("iter", "skipped", "clipped", "time", "step_size", "rejected")


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser(
        "inspect",
        help="list what a checkpoint holds, and whether its digest holds",
        description="Lists rule, hyperparameters, keys, shapes and Euclidean norms of a checkpoint "
        "of an optimizer, a SoftBatch or a whole training. Exit status 1 if the file is damaged.",
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the file")
    command.add_argument("--json", action="store_true", help="the same for a machine to read")
    command.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Print what a checkpoint holds."""
    need("checkpoint", "safetensors", "xxhash")
    path = arguments.checkpoint
    try:
        stored = checkpoint.read(path)
        try:
            tree = without_arrays(plain(stored))
            listed = list(lines(tree))
        except (TypeError, KeyError, AttributeError, RuntimeError) as error:  # or too deep
            raise ValueError(
                f"{path}: the digest holds, but no fastoptim writes such objects: {error!r}"
            ) from error
    except ValueError as problem:  # truncated, damaged, of another format
        if arguments.json:
            print(json.dumps({"digest holds": False, "problem": str(problem)}, indent=2))
        print(f"fastoptim inspect: {problem}", file=sys.stderr)
        return 1
    if arguments.json:
        content = {"digest holds": True, "content": tree}
        print(json.dumps(content, indent=2, default=lambda one: {one.kind: one.content}))
    else:
        print(f"{path}: {path.stat().st_size:,} bytes, the digest holds")
        for line in listed:
            print(printable(line))
    return 0


def printable(line: str) -> str:
    """Return a line without characters that move a terminal's cursor: keys may have any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


class Summary(dict[str, Any]):
    """What is told of an array: a dict for JSON, and none that a user may have saved."""


def plain(tree: Any) -> Any:
    """Return a tree whose objects are as their own files would have them."""
    if isinstance(tree, dict):
        if isinstance(tree.get("coding"), str) and isinstance(tree.get("state"), dict):
            tree = {**tree, "state": decoded(tree)}
        return {key: plain(x) for key, x in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(x) for x in tree]
    if not isinstance(tree, Stored):
        return tree
    kind, content = tree.kind, tree.content
    if kind == "softbatch":
        content = {**content["waiting"], "optimizer": content["optimizer"]["state"]}
    elif kind in ("optimizer", "method"):
        content = content["state"]
    elif kind == "schedule":
        content = schedules.text(content)
    elif kind == "generator":
        content = content["state"]["bit_generator"]
    return Stored(kind, content)


def decoded(record: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of state that is kept in 8 or 16 bits."""
    state, coding = record["state"], record["coding"]
    return {
        slot: numbers_of(state, slot, coding, slot in record.get("signed", ()), np.float32)
        for slot in state if not slot.endswith(".largest")
    }


def without_arrays(tree: Any) -> Any:
    """Return a tree with a summary in the place of every array, and with keys that JSON has."""
    if isinstance(tree, np.ndarray):
        with np.errstate(over="ignore"):
            norm = float(np.linalg.norm(tree.astype(np.float64).ravel()))
        # JSON has neither NaN nor infinity
        return Summary(dtype=tree.dtype.name, shape=list(tree.shape), norm=as_json(norm))
    if isinstance(tree, Stored):
        return Stored(tree.kind, without_arrays(tree.content))
    if isinstance(tree, Mapping):
        return {name_of(k, tree): without_arrays(x) for k, x in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_arrays(x) for x in tree]
    return as_json(tree) if isinstance(tree, (int, float)) else tree


def name_of(key: Any, others: Mapping[Any, Any]) -> str:
    """Return a key as JSON has keys; that of a number or tuple is no other key's."""
    if isinstance(key, str):
        return key
    try:
        name = repr(key)
    except ValueError:  # an int with more digits than Python prints
        name = hex(key) if isinstance(key, int) else f"a tuple of {len(key)}"
    while name in others:
        name = f"({name})"
    return name


def as_json(x: float) -> float | str:
    """Return a number, or the text of one that JSON has not, or that Python does not print."""
    if isinstance(x, int):
        return x if x.bit_length() < 2000 else hex(x)
    return x if isfinite(x) else str(x)


def lines(tree: Any) -> Iterator[str]:
    """Yield what is in a checkpoint: of a SoftBatch, of an optimizer, or of anything else."""
    if isinstance(tree, Stored):
        yield from titled("", tree)
        return
    if isinstance(tree, dict) and set(tree) >= OF_SOFTBATCH:
        yield f"SoftBatch of every={tree['every']}, reduce={tree['reduce']}: {tree['pending']} wait"
        yield from arrays({"sums": tree["sums"], "rows": tree["rows"]})
        tree = tree["optimizer"]
    if not isinstance(tree, dict) or not set(tree) >= OF_OPTIMIZER:
        yield from values(tree)
        for path, one in objects(tree, ""):
            yield from titled(path, one)
        yield from arrays(tree)
        return
    yield f"{tree['rule']}, written by fastoptim {tree['fastoptim']}"
    counters = [f"{name} = {tree[name]}" for name in COUNTERS if name in tree]
    if counters:
        yield ", ".join(counters)
    yield settings("hyperparameters", tree)
    for group in tree.get("groups", []):
        by = "of a predicate" if group["pattern"] is None else repr(group["pattern"])
        yield settings(f"group {by}", group)
    if "optimizer" in tree:  # of SAM, which goes around it
        yield from lines(tree["optimizer"])
    of_keys = tree.get("parameters", {})
    if of_keys:
        names = list(dict.fromkeys(name for one in of_keys.values() for name in slots(one)))
        yield from table(
            ["key", "dtype", "shape", "updates", *(f"norm of {name}" for name in names)],
            [
                [key, one["dtype"], shape(one), f"{one['updates']:,}", *norms(one, names)]
                for key, one in of_keys.items()
            ],
        )


def values(tree: Any) -> Iterator[str]:
    """Yield the numbers and texts of the outermost dict, which are few; not what is in lists."""
    for name, x in tree.items() if isinstance(tree, dict) else ():
        if x is None or isinstance(x, (bool, int, float, str)):
            text = repr(x)
            yield f"{name} = {text if len(text) <= 70 else text[:69] + '…'}"


def objects(tree: Any, path: str) -> Iterator[tuple[str, Stored]]:
    """Yield every object of a tree with its path."""
    if isinstance(tree, Stored):
        yield path, tree
    elif isinstance(tree, (dict, list)):
        for key, x in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from objects(x, f"{path}/{key}" if path else str(key))


def titled(path: str, one: Stored) -> Iterator[str]:
    """Yield what is known of an object, the first line behind its path, the others indented."""
    if one.kind == "generator":
        found = iter([f"numpy.random.Generator of {one.content}"])
    elif isinstance(one.content, dict):
        found = lines(one.content)
    else:
        found = iter([str(one.content)])
    first = next(found, "nothing")
    yield f"{path}: {first}" if path else first
    for line in found:
        yield f"  {line}"


def settings(what: str, tree: dict[str, Any]) -> str:
    """Return the hyperparameters on one line; a schedule is code, and its text alone is saved."""
    values = tree["hyperparameters"] | tree["schedules"]
    return f"{what}: " + ", ".join(f"{name}={value}" for name, value in values.items())


def slots(record: dict[str, Any]) -> dict[str, Any]:
    """Return the summaries of a parameter's state and average."""
    average = {"average": record["average"]} if record.get("average") else {}
    return dict(record["state"]) | average


def norms(record: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield the norm of each array of a parameter, empty for one that it has not."""
    known = slots(record)
    for name in names:
        yield digits(known[name]["norm"]) if name in known else ""


def arrays(tree: Any) -> Iterator[str]:
    """Yield a table of all arrays of a tree."""
    found = list(summaries(tree, ""))
    if found:
        rows = [[path, one["dtype"], shape(one), digits(one["norm"])] for path, one in found]
        yield from table(["array", "dtype", "shape", "norm"], rows)


def summaries(tree: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the summary of every array of a tree with its path."""
    if isinstance(tree, Summary):
        yield path, tree
    elif isinstance(tree, (dict, list)):
        for key, x in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from summaries(x, f"{path}/{key}" if path else str(key))


def shape(summary: dict[str, Any]) -> str:
    """Return a shape as people write it."""
    return " × ".join(map(str, summary["shape"])) or "a number"


def digits(norm: float | str) -> str:
    """Return a norm with as many digits as one reads."""
    return norm if isinstance(norm, str) else f"{norm:.6g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table: the first three columns begin, the others end, at one place."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = zip(row, widths, range(len(head)), strict=True)
        yield "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for c, w, i in cells).rstrip()

