"""What a folder says of itself, as text: keys, arrays, hyperparameters."""

import json
import os
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from typing import Any

from fastoptim.checkpoint import tree
from fastoptim.checkpoint.files import flush_folder

FORMAT = 1
INDEX, SETTINGS = "index.json", "settings.json"


@dataclass
class Stored:
    """How an array lies in its file."""

    slot: str | None  # None: the average of the weights
    file: str
    size: int  # of the file, in bytes
    start: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Entry:
    """What the index has of a key. A bit of its row in the ledger says which arrays count."""

    key: Hashable
    row: int
    group: int
    shape: tuple[int, ...]
    dtype: str
    order: str
    arrays: list[Stored] = field(default_factory=list)

    def place_of(self, slot: str | None) -> int:
        """Return the place of a slot among the arrays, or the next one."""
        slots = [one.slot for one in self.arrays]
        return slots.index(slot) if slot in slots else len(slots)


@dataclass
class Index:
    """All that a folder says of itself, but for the ledger."""

    ledger: str
    settings: dict[str, Any]
    entries: list[Entry]

    def files(self) -> set[str]:
        """Return the names of the files that count."""
        return {self.ledger, *(one.file for entry in self.entries for one in entry.arrays)}


def write(folder: str, index: Index) -> None:
    """Write the index in the place of the one that is there, on the disk, too."""
    plain = {
        "format": FORMAT, "ledger": index.ledger, "settings": index.settings,
        "keys": [asdict(one) for one in index.entries],
    }
    replace(folder, INDEX, tree.to_json(plain)[0], flush=True)


def write_settings(folder: str, ledger: str, text: str) -> None:
    """Write hyperparameters that have changed since the index was written."""
    replace(folder, SETTINGS, json.dumps([ledger, text]), flush=False)


def text_of(settings: dict[str, Any]) -> str:
    """Return hyperparameters as text."""
    return tree.to_json(settings)[0]


def replace(folder: str, name: str, text: str, *, flush: bool) -> None:
    """Replace a small file as a whole."""
    path = os.path.join(folder, name)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        if flush:
            os.fsync(file.fileno())
    os.replace(path + ".new", path)
    if flush:
        flush_folder(folder)


def flush_file(path: str) -> None:
    """Bring a file to the disk, if it is there."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def read(folder: str) -> Index | None:
    """Return what a folder says of itself, None if it says nothing."""
    try:
        with open(os.path.join(folder, INDEX), encoding="ascii") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise damaged(folder, str(error)) from error
    try:
        plain = tree.from_json(text, no_array)
        if plain["format"] != FORMAT:
            raise ValueError(
                f"{folder} is of format {plain['format']!r}, and this fastoptim reads {FORMAT}; "
                f"use the version that wrote it, or a newer one"
            )
        entries = []
        for one in plain["keys"]:
            arrays = [
                Stored(**{**a, "shape": tuple(a["shape"]), "strides": tuple(a["strides"])})
                for a in one.pop("arrays")
            ]
            entries.append(Entry(**{**one, "shape": tuple(one["shape"])}, arrays=arrays))
        index = Index(plain["ledger"], plain["settings"], entries)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise damaged(folder, repr(error)) from error
    newer = newer_settings(folder, index.ledger)
    if newer is not None:
        index.settings = newer
    return index


def newer_settings(folder: str, ledger: str) -> dict[str, Any] | None:
    """Return hyperparameters that were written after the index, None if there are none."""
    try:
        with open(os.path.join(folder, SETTINGS), encoding="ascii") as file:
            of, text = json.load(file)
        settings: dict[str, Any] = tree.from_json(text, no_array)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise damaged(folder, repr(error)) from error
    return settings if of == ledger else None


def no_array(dtype: str, shape: tuple[int, ...], order: str) -> Any:
    """Refuse an array, which no text of a folder has."""
    raise ValueError("an array in the index")


def damaged(folder: str, why: str) -> ValueError:
    """Return the error for a folder whose files are not as they were written."""
    return ValueError(
        f"{folder} is damaged: {why}; load a checkpoint, with another folder as state_dir"
    )
