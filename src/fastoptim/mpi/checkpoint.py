"""A state that is divided among ranks: in one piece, in a file for each rank, and divided anew.

The whole file is the one that an optimizer's own `save` writes. The file of a rank has its pieces,
says of which elements they are, and has the name of its save, which all files of one save share.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint import file
from fastoptim.kernels.update.engine import Engine
from fastoptim.mpi.cutting import Cut
from fastoptim.optimizer import state

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

Keys = dict[Hashable, tuple[tuple[int, ...], np.dtype[Any]]]
Records = dict[Hashable, dict[str, Any]]


class Saved(Protocol):
    """A saved state, in whichever form."""

    def described(self) -> Mapping[str, Any]:
        """Return what `state.checked` takes; its arrays need not hold what was saved."""

    def keys(self) -> Keys:
        """Return each key's shape and dtype."""

    def pieces(self, cuts: dict[Hashable, Cut], rank: int) -> Records:
        """Return the records of a rank's parts."""

    def digest(self) -> int:
        """Return a number that all ranks must have."""


# ------------------------------------------------ of one rank


@contextmanager
def engine_of(opt: "Optimizer", engine: Engine) -> Iterator[None]:
    """Let an optimizer have another engine for as long as a ``with`` lasts."""
    own = opt.engine
    object.__setattr__(opt, "engine", engine)
    try:
        yield
    finally:
        object.__setattr__(opt, "engine", own)


@contextmanager
def settings_of(opt: "Optimizer", changes: Sequence[tuple[dict[str, Any], Any]]) -> Iterator[None]:
    """Let an optimizer have saved hyperparameters for as long as a ``with`` lasts."""
    before = [(kept, {name: kept[name] for name in new if name in kept}) for kept, new in changes]
    try:
        for kept, new in changes:
            kept.update(new)
        yield
    finally:
        for kept, old in before:
            kept.update(old)
        opt._forget()


def own_state(opt: "Optimizer", engine: Engine, *, copy: bool = True) -> dict[str, Any]:
    """Return an optimizer's state with this rank's parts."""
    with engine_of(opt, engine):
        return engine.still(lambda: state.of(opt, copy=copy))


def checked(opt: "Optimizer", saved: Mapping[str, Any]) -> tuple[int, int, int, Any]:
    """Check a saved state; return iter, skipped, clipped, and what changes of the settings."""
    restore, lost = state.checked(opt, saved)
    for line in lost:
        warnings.warn(line, UserWarning, stacklevel=2)
    _, iter_, skipped, clipped, changes = restore.args
    return iter_, skipped, clipped, changes


def piece(record: Mapping[str, Any], cut: Cut, rank: int) -> dict[str, Any]:
    """Return a rank's part of what is kept of a whole key."""
    part = cut.part_of(rank)
    assert part is not None

    def of(a: NDArray[Any]) -> NDArray[Any]:
        if cut.whole:
            return a
        return np.ascontiguousarray(a).reshape(-1)[part.start:part.stop].reshape(shape)

    shape = cut.shape_of(part)
    average = record["average"]
    return {
        "mean": None, **record, "shape": shape, "order": "C",
        "state": {slot: of(a) for slot, a in record["state"].items()},
        "average": None if average is None else of(average),
    }


def digest(records: Mapping[Hashable, Mapping[str, Any]], opt: "Optimizer") -> int:
    """Return a number that stands for a state: for every bit of it."""
    text = hashlib.blake2b(f"{opt.iter} {opt.skipped} {opt.clipped}".encode(), digest_size=8)
    for key, record in records.items():
        counts = [record.get(name) for name in ("updates", "shape", "dtype", "mean", "carried")]
        text.update(f"{key!r} {counts}".encode())
        for slot, a in [*record["state"].items(), ("average", record["average"])]:
            text.update(slot.encode())
            if a is not None:
                text.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
    return int.from_bytes(text.digest()) >> 2


# ------------------------------------------------ of all ranks in one piece


def joined(
    own: dict[str, Any], cuts: Mapping[Hashable, Cut], told: Sequence[Records]
) -> dict[str, Any]:
    """Return the whole state, given the records of all ranks."""
    parameters = {}
    for key, cut in cuts.items():
        parts = [(told[part.rank][key], part) for part in cut.parts if key in told[part.rank]]
        if not parts:
            continue
        first = parts[0][0]
        parameters[key] = {**first, "shape": cut.shape, "order": "C"}
        if cut.whole:
            continue

        def join(get: Callable[[Any], NDArray[Any]], cut: Cut = cut, parts: Any = parts) -> Any:
            whole = np.empty(cut.shape, cut.dtype)
            for record, part in parts:
                whole.reshape(-1)[part.start:part.stop] = get(record).reshape(-1)
            return whole

        parameters[key]["state"] = {
            slot: join(partial(of_slot, slot=slot)) for slot in first["state"]
        }
        if first["average"] is not None:
            parameters[key]["average"] = join(lambda record: record["average"])
    return {**own, "parameters": parameters}


def of_slot(record: Mapping[str, Any], slot: str) -> NDArray[Any]:
    """Return a state array of a record."""
    array: NDArray[Any] = record["state"][slot]
    return array


def write_whole(path: str | os.PathLike[str], tree: dict[str, Any] | None) -> None:
    """Write the whole state, in the rank that has it."""
    if tree is not None:
        file.save(path, state.for_file(tree))


class OneState:
    """A whole state, as plain dicts and arrays."""

    def __init__(self, saved: Any) -> None:
        self.saved = saved

    def described(self) -> Mapping[str, Any]:
        """Return the state itself."""
        return self.saved  # type: ignore[no-any-return]

    def keys(self) -> Keys:
        """Return each key's shape and dtype."""
        return {
            key: (tuple(one["shape"]), np.dtype(one["dtype"]))
            for key, one in self.saved["parameters"].items()
        }

    def pieces(self, cuts: dict[Hashable, Cut], rank: int) -> Records:
        """Return the records of a rank's parts."""
        return {key: piece(self.saved["parameters"][key], cut, rank) for key, cut in cuts.items()}

    def digest(self) -> int:
        """Return a number that stands for every array and every count."""
        counts = [self.saved.get(name) for name in ("iter", "skipped", "clipped")]
        text = hashlib.blake2b(f"{counts}".encode(), digest_size=8)
        for key, record in self.saved["parameters"].items():
            counts = [record.get(name) for name in ("updates", "mean", "carried", "group")]
            text.update(f"{key!r} {counts}".encode())
            for a in [*record["state"].values(), record["average"]]:
                if a is not None:
                    text.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
        return int.from_bytes(text.digest()) >> 2


# ------------------------------------------------ a file for each rank


def new_name() -> str:
    """Return a name that no other save has."""
    return os.urandom(12).hex()


def path_of(path: str | os.PathLike[str], rank: int, size: int) -> str:
    """Return the path of a rank's file."""
    return f"{os.fsdecode(os.fspath(path))}.{rank}-of-{size}"


def write_part(
    path: str | os.PathLike[str], own: dict[str, Any], cuts: Mapping[Hashable, Cut], rank: int,
    size: int, name: str,
) -> None:
    """Write one rank's part to its file."""
    keys = {
        key: {
            "shape": cut.shape, "dtype": cut.dtype.name, "whole": cut.whole,
            "parts": [tuple(part) for part in cut.parts],
        }
        for key, cut in cuts.items()
    }
    shards = {"save": name, "rank": rank, "size": size, "keys": keys}
    file.save(path_of(path, rank, size), {**state.for_file(own), "shards": shards})


def found(path: str | os.PathLike[str]) -> Saved:
    """Return what was saved at a path: one file, or one for each rank."""
    whole = Path(os.fsdecode(os.fspath(path)))
    if whole.is_dir():
        raise ValueError(
            f"{whole} is a folder; load a state_dir into an optimizer without one, and divide that"
        )
    pattern = re.compile(re.escape(whole.name) + r"\.(\d+)-of-(\d+)")
    folder = whole.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    sizes = {int(match[2]) for match in map(pattern.fullmatch, names) if match}
    if len(sizes) + whole.exists() > 1:
        both = [*(f"{whole}.*-of-{size}" for size in sorted(sizes)), str(whole)][:2 + len(sizes)]
        raise ValueError(
            f"several states are saved here: {', '.join(both if whole.exists() else both[:-1])}; "
            f"remove those that are not meant"
        )
    if not sizes:
        return OneState(file.load(path))
    size = sizes.pop()
    missing = [r for r in range(size) if f"{whole.name}.{r}-of-{size}" not in names]
    if missing:
        raise ValueError(
            f"{whole} was saved by {size} ranks, and the files of ranks {missing} are missing"
        )
    return PartFiles([path_of(path, rank, size) for rank in range(size)])


class PartFiles:
    """A state in a file for each rank that saved it. One file at a time is in memory."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.meta: dict[str, Any] = {}
        self.records: Records = {}
        for rank, tree in enumerate(self.trees()):
            self.add(rank, tree)

    def trees(self) -> Iterator[Any]:
        """Yield what each file has."""
        for path in self.paths:
            tree = file.load(path)
            if not isinstance(tree, Mapping) or "shards" not in tree:
                raise ValueError(f"{path} is not the file of a rank; Sharded.save writes those")
            yield tree

    def add(self, rank: int, tree: Any) -> None:
        """Note what one file says, without its arrays."""
        own = tree["shards"]
        if rank == 0:
            self.meta = {name: one for name, one in tree.items() if name != "parameters"}
        theirs = self.meta["shards"]
        if own["rank"] != rank or any(own[name] != theirs[name] for name in ("save", "keys")):
            raise ValueError(
                f"{self.paths[rank]} and {self.paths[0]} are of different saves; one of them may "
                f"have been interrupted"
            )
        for key, record in tree["parameters"].items():
            cut = theirs["keys"][key]
            shape = tuple(cut["shape"])

            def like(
                a: NDArray[Any], cut: Any = cut, shape: tuple[int, ...] = shape
            ) -> NDArray[Any]:
                """Return an array of the whole's shape that takes no memory."""
                return np.broadcast_to(np.zeros((), a.dtype), a.shape if cut["whole"] else shape)

            self.records[key] = {
                **record, "shape": shape,
                "state": {slot: like(a) for slot, a in record["state"].items()},
                "average": None if record["average"] is None else like(record["average"]),
            }

    def described(self) -> Mapping[str, Any]:
        """Return the state with arrays of no memory."""
        order = [key for key in self.meta["shards"]["keys"] if key in self.records]
        return {**self.meta, "parameters": {key: self.records[key] for key in order}}

    def keys(self) -> Keys:
        """Return each key's shape and dtype."""
        return {
            key: (tuple(one["shape"]), np.dtype(one["dtype"]))
            for key, one in self.described()["parameters"].items()
        }

    def digest(self) -> int:
        """Return a number that stands for the save."""
        return int(self.meta["shards"]["save"], 16) & ((1 << 62) - 1)

    def pieces(self, cuts: dict[Hashable, Cut], rank: int) -> Records:
        """Return the records of a rank's parts, of the files that have elements of them."""
        made: Records = {}
        for owner, tree in enumerate(self.trees()):
            for key, record in tree["parameters"].items():
                if key in cuts:
                    theirs = self.meta["shards"]["keys"][key]
                    self.fill(made, cuts[key], rank, record, theirs, owner)
        return made

    def fill(
        self, made: Records, cut: Cut, rank: int, record: dict[str, Any], theirs: Any, owner: int
    ) -> None:
        """Copy what one file has of one rank's part of a key."""
        own = cut.part_of(rank)
        assert own is not None
        start, stop = next((a, b) for r, a, b in theirs["parts"] if r == owner)
        if cut.key not in made:
            made[cut.key] = {
                **self.records[cut.key], "shape": cut.shape_of(own), "order": "C",
                "state": dict(record["state"]), "average": record["average"],
            }
            if not cut.whole:
                new = made[cut.key]
                for slot in new["state"]:
                    new["state"][slot] = np.empty(cut.shape_of(own), cut.dtype)
                if new["average"] is not None:
                    new["average"] = np.empty(cut.shape_of(own), cut.dtype)
            elif not theirs["whole"]:
                new = made[cut.key]
                for slot in new["state"]:
                    new["state"][slot] = np.empty(cut.shape, cut.dtype)
                if new["average"] is not None:
                    new["average"] = np.empty(cut.shape, cut.dtype)
        if cut.whole and theirs["whole"]:
            return
        low, high = max(start, own.start), min(stop, own.stop)
        if low >= high:
            return
        new = made[cut.key]
        pairs = [(new["state"][slot], a) for slot, a in record["state"].items()]
        if record["average"] is not None:
            pairs.append((new["average"], record["average"]))
        for to, a in pairs:
            there = a.reshape(-1)[low - start:high - start]
            to.reshape(-1)[low - own.start:high - own.start] = there
