"""The files of one optimizer's state: which there are, and how they change all at once."""

import contextlib
import dataclasses
import errno
import os
import re
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from fastoptim.checkpoint import tree
from fastoptim.checkpoint.files import flush_folder
from fastoptim.folder import disk
from fastoptim.folder import index as text
from fastoptim.folder.boot import boot
from fastoptim.folder.found import ROW, Array, Found
from fastoptim.folder.index import Entry, Index, Stored
from fastoptim.folder.lock import NAME, Lock
from fastoptim.kernels.update.folder import Folder, Mapped

MOST_ARRAYS = 62  # of a key: bits of a word

Settings = dict[str, Any]
Entries = dict[Hashable, Entry]
Prepared = tuple[Entries, str, Mapped]  # with the ledger's name, and the ledger
alive: "weakref.WeakSet[Files]" = weakref.WeakSet()


class Files:
    """The folder of an optimizer's state.

    Parameters
    ----------
    path : str
        Absolute. The folder is made, locked and read when it is first needed.
    settings : callable, () → dict
        The optimizer's rule and hyperparameters, as its saved state has them.

    Attributes
    ----------
    folder : Folder
        The part of it that updates meet.
    current : (dict of key to Entry, str) or None
        What the index says, with the ledger's name. `Folder.take` sets it.
    unplaced : bool
        Whether the index on the disk may be another.
    holds : str or None
        What was found in the folder, and nobody has loaded.
    loading : bool
        Whether that is about to be taken over.
    watches : bool
        Whether the settings may change without a new plan.
    """

    def __init__(self, path: str, settings: Callable[[], Settings]) -> None:
        self.path, self.settings = path, settings
        self.current: tuple[Entries, str] | None = None
        self.unplaced = self.loading = self.watches = self.made_folder = False
        self.holds: str | None = None
        self.lock: Lock | None = None
        self.found: Found | None = None
        self.mapped: dict[str, Mapped] = {}  # by file, those of the state
        self.new: dict[tuple[Hashable, str | None], tuple[str, Mapped]] = {}  # not used yet
        self.written = ""  # the settings on the disk
        self.number = 0  # of the newest file
        self.folder = Folder(self, self.new)
        alive.add(self)

    def boot(self) -> bytes:
        """Return which start of the system this is."""
        return boot()

    # ------------------------------------------------ opening, reading

    def open(self) -> None:
        """Make and lock the folder, and refuse one that holds what has not been loaded."""
        if self.lock is None:
            self.attach()
        elif not self.lock.is_in_place():
            raise self.removed("the folder")
        if self.holds is not None and not self.loading:
            raise ValueError(
                f"{self.path} holds the state of {self.holds}; opt.load({self.path!r}) goes on "
                f"with it, or give another folder as state_dir, or delete this one, to start anew"
            )
        if self.unplaced:
            self.put_back()

    def removed(self, what: str) -> OSError:
        """Return the error for what was removed while an optimizer had it."""
        return FileNotFoundError(
            errno.ENOENT, f"{what} has been removed or moved while an optimizer had its state "
            f"there; opt.save(path) writes the state to a file elsewhere", self.path
        )

    def attach(self) -> None:
        """Make and lock the folder; remove files that do not count."""
        self.made_folder = disk.make_folder(self.path)
        try:
            disk.check_is_ours(self.path)
            lock = Lock(self.path)
        except OSError as error:
            self.remove_folder()
            what = f"state_dir cannot be used: {error.strerror}"
            raise OSError(error.errno, what, self.path) from error
        try:
            index, kept = text.read(self.path), set()
            if index is not None:
                self.holds = Found(self.path, index, lock).words
                kept = index.files()
            self.number = disk.last_number(self.path)
            disk.remove_spare(self.path, kept)
        except BaseException:
            lock.release()
            raise
        self.lock = lock

    def read(self) -> dict[str, Any]:
        """Return what the folder holds as a saved state, whose arrays are the files themselves.

        Raises
        ------
        ValueError
            It holds nothing; an update was under way when the process was killed; the system has
            been started anew and not all was flushed; a file is not as it was written.
        """
        if not os.path.isdir(self.path):
            raise FileNotFoundError(errno.ENOENT, "there is no such folder", self.path)
        if self.lock is None:
            self.attach()
        index = text.read(self.path)
        if index is None:
            raise ValueError(f"{self.path} holds no state; it is made by an update with state_dir")
        found = Found(self.path, index, self.lock)
        saved = found.saved()
        self.found, self.loading = found, True
        return saved

    def takes_over(self, a: object) -> bool:
        """Whether an array is one that `read` gave."""
        return self.found is not None and id(a) in self.found.arrays

    # ------------------------------------------------ making

    def new_file(self, key: Hashable, slot: str | None, size: int) -> Mapped:
        """Return a new file of zeros in memory, which is removed again unless an update uses it."""
        self.open()
        check_key(key)
        readable = re.sub(r"[^A-Za-z0-9_+=,-]+", "_", f"{key}")[:40]
        of = "average" if slot is None else re.sub(r"\W", "_", slot, flags=re.ASCII)[:40]
        name = f"{self.next():06d}-{readable}.{of}"
        mapped = disk.new_file(self.path, name, size, f"the {of} of {key!r}", self.lock)
        self.new[key, slot] = name, mapped
        self.mapped[name] = mapped
        return mapped

    def next(self) -> int:
        """Return a number that no file has had."""
        self.number += 1
        return self.number

    def add(
        self, new: list[tuple[Any, dict[str | None, Any]]]
    ) -> tuple[list[tuple[int, int]], Prepared | None]:
        """Write down keys and arrays that an update is about to use, and the settings.

        Returns each key's row of the ledger with the bits of its new arrays, and what is to be
        taken, None if there is no new index.
        """
        settings = self.settings()
        self.watches = has_schedules(settings)
        before: Entries = {} if self.current is None else self.current[0]
        entries, bits = dict(before), []
        for record, arrays in new:
            entry = entries.get(record.key) or entry_of(record, len(entries) + 1)
            entry = dataclasses.replace(entry, arrays=list(entry.arrays))
            found = 0
            for slot, a in arrays.items():
                if (record.key, slot) in self.new:
                    found |= 1 << self.note(entry, slot, a)
            entries[record.key] = entry
            bits.append((entry.row, found))
        if entries != before or self.current is None:
            return bits, self.prepared(entries, settings, None, ())
        if text.text_of(settings) != self.written:
            self.write_settings(settings)
        return bits, None

    def note(self, entry: Entry, slot: str | None, a: Array) -> int:
        """Note in an entry how an array lies in its new file; return its place."""
        name, mapped = self.new[entry.key, slot]
        at = entry.place_of(slot)
        if at >= MOST_ARRAYS:
            raise RuntimeError(f"{entry.key!r} has {at} arrays of state; load into a new folder")
        entry.arrays[at : at + 1] = [
            Stored(slot, name, mapped.size, mapped.place_of(a), a.dtype.name, a.shape, a.strides)
        ]
        return at

    def row_of(self, key: Hashable) -> int:
        """Return the row of a key in the ledger."""
        assert self.current is not None
        return self.current[0][key].row

    def in_place_of(
        self, records: dict[Hashable, Any], counts: tuple[int, ...],
        changes: Iterable[tuple[dict[str, Any], Any]],
    ) -> Prepared:
        """Write down what takes the place of all that is kept; `changes` are made to settings."""
        self.open()
        entries: Entries = {}
        bits = []
        for row, record in enumerate(records.values(), start=1):
            entry = entry_of(record, row)
            for slot, a in [*record.state.items(), (None, record.average)]:
                if (record.key, slot) in self.new:
                    self.note(entry, slot, a)
                elif a is not None:
                    assert self.found is not None
                    entry.arrays.append(self.found.arrays[id(a)][1])
            entries[record.key] = entry
            bits.append((record, (1 << len(entry.arrays)) - 1))
        return self.prepared(entries, self.settings_after(changes), bits, counts)

    def settings_after(self, changes: Iterable[tuple[dict[str, Any], Any]]) -> Settings:
        """Return the settings as they are after changes, which are not made yet."""
        before = [(kept, dict(kept)) for kept, _ in changes]
        try:
            for kept, new in changes:
                kept.update(new)
            return self.settings()
        finally:
            for kept, old in reversed(before):
                for name in kept.keys() - old.keys():
                    del kept[name]
                kept.update(old)

    def prepared(
        self, entries: Entries, settings: Settings, records: list[tuple[Any, int]] | None,
        counts: tuple[int, ...],
    ) -> Prepared:
        """Write a new ledger and a new index, and return what `Folder.take` goes over to."""
        name = f"{self.next():06d}.ledger"
        size = ROW * (1 + len(entries))
        ledger = disk.new_file(self.path, name, size, "the ledger", self.lock)
        try:
            self.folder.fill(ledger, records, counts)
            self.unplaced = True  # until it has been taken
            text.write(self.path, Index(name, settings, list(entries.values())))
        except BaseException:
            self.put_back()
            disk.unlink(self.path, name)  # which no index names now
            raise
        self.written = text.text_of(settings)
        return entries, name, ledger

    def put_back(self) -> None:
        """Write the index as it was, after what was interrupted or failed."""
        if self.current is None:
            disk.unlink(self.path, text.INDEX)
        else:
            settings = self.settings()
            index = Index(self.current[1], settings, list(self.current[0].values()))
            text.write(self.path, index)
            self.written = text.text_of(settings)
            self.remove_old()
        self.unplaced = False

    def replaced(self) -> None:
        """After all was replaced: let go of what was there before."""
        if self.found is not None:
            self.mapped |= self.found.mapped
            self.found = None
        self.remove_old()

    def remove_old(self) -> None:
        """Remove files that neither count nor are about to."""
        assert self.current is not None
        named = Index(self.current[1], {}, list(self.current[0].values())).files()
        named |= {name for name, _ in self.new.values()}
        disk.remove_spare(self.path, named)
        for name in self.mapped.keys() - named:
            del self.mapped[name]

    def write_settings(self, settings: Settings) -> None:
        """Write hyperparameters that have changed."""
        assert self.current is not None
        self.folder.note_unflushed()
        self.written = ""  # if the next line fails, or is interrupted
        text.write_settings(self.path, self.current[1], text.text_of(settings))
        self.written = text.text_of(settings)

    # ------------------------------------------------ flushing and removing

    def sync(self) -> None:
        """Bring all to the disk."""
        if self.current is None and not os.path.isdir(self.path):
            return
        self.open()
        if self.current is None:
            self.drop_new()
            return
        named = Index(self.current[1], {}, list(self.current[0].values())).files()
        for name in sorted({text.INDEX, *named}.difference(os.listdir(self.path))):
            raise self.removed(f"the file {name}")
        settings = self.settings()
        if text.text_of(settings) != self.written:
            self.write_settings(settings)
        for name, mapped in self.mapped.items():
            try:
                mapped.flush()
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.path.join(self.path, name)) from error
        for name in (text.SETTINGS, text.INDEX):
            text.flush_file(os.path.join(self.path, name))
        flush_folder(self.path)
        self.folder.note_flushed()

    def drop_new(self) -> None:
        """Remove the files of a call that was refused, and the folder if that was all."""
        for name, _ in self.new.values():
            disk.unlink(self.path, name)
            self.mapped.pop(name, None)
        self.new.clear()
        self.found, self.loading = None, False
        if self.current is None and self.holds is None and self.lock is not None:
            disk.unlink(self.path, NAME)
            self.let_go()
            self.remove_folder()

    def let_go(self) -> None:
        """Forget what was read, and let others have the folder."""
        self.found, self.loading = None, False
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def remove_folder(self) -> None:
        """Remove the folder if it was made here and has nothing in it."""
        if self.made_folder:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            self.made_folder = False


# What a record says of state and parameters of 8 or 16 bits.
KEPT_AS = ("coding", "number", "signed", "half")


def check_key(key: object) -> None:
    """Refuse a key that no text can stand for."""
    if not tree.may_be_key(key):
        raise TypeError(
            f"params has the key {key!r}, a {type(key).__name__}, which state_dir cannot hold; a "
            f"key must be {tree.KEY}"
        )


def entry_of(record: Any, row: int) -> Entry:
    """Return what the index has of a new key."""
    check_key(record.key)
    one = record.described()
    kept_as = {name: one[name] for name in KEPT_AS if one.get(name) is not None}
    return Entry(
        record.key, row, record.group, one["shape"], one["dtype"], one["order"], kept_as=kept_as
    )


def has_schedules(settings: Settings) -> bool:
    """Whether settings may change without a new plan: a schedule may have observed something."""
    parts = [settings]
    if "rest" in settings:
        parts.append(settings["rest"])
    return any(one["schedules"] for part in parts for one in [part, *part["groups"]])


def forget_forked() -> None:
    """In a forked process: the files are the parent's."""
    for one in list(alive):
        one.folder.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_forked)
