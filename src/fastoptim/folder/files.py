"""The files of one optimizer's state: made, named, mapped, flushed, removed."""

import contextlib
import dataclasses
import errno
import os
import re
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint import tree
from fastoptim.checkpoint.files import flush_folder
from fastoptim.folder import index as text
from fastoptim.folder.boot import boot, is_same
from fastoptim.folder.index import Entry, Index, Stored, damaged
from fastoptim.folder.lock import Lock
from fastoptim.kernels.update.folder import Folder, Mapped, rows_of

NUMBER = re.compile(r"(\d{6,})(\.ledger|-.*\..*)")
ROW, FORMAT = 128, 1  # bytes of a row of the ledger, and the number that it begins with
PIECE = 1 << 20
MOST_ARRAYS = 62  # of a key: bits of a word

Array = NDArray[Any]
Saved = dict[str, Any]
Entries = dict[Hashable, Entry]
Prepared = tuple[Entries, str, Mapped]  # with the ledger and its name
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
    watches : bool
        Whether the settings may change without a new plan.
    """

    def __init__(self, path: str, settings: Callable[[], dict[str, Any]]) -> None:
        self.path, self.settings = path, settings
        self.watches = False
        self.lock: Lock | None = None
        self.made_folder = False
        self.holds: str | None = None  # a state that nobody has loaded
        self.current: tuple[Entries, str] | None = None  # with the ledger's name
        self.mapped: dict[str, Mapped] = {}  # by file, those of the state
        self.new: dict[tuple[Hashable, str | None], tuple[str, Mapped]] = {}  # not used yet
        self.taken: dict[int, tuple[Array, Stored]] = {}  # arrays that `read` gave, by identity
        self.loading = False  # whether what was found is about to be taken over
        self.unplaced = False  # whether the index on the disk may be another
        self.written = ""  # the settings on the disk
        self.serial = 0
        self.folder = Folder(self, self.new)
        alive.add(self)

    def boot(self) -> bytes:
        """Return which start of the system this is."""
        return boot()

    # ------------------------------------------------ opening

    def open(self) -> None:
        """Make and lock the folder, and refuse one that holds what has not been loaded."""
        if self.lock is None:
            self.attach()
        if self.holds is not None and not self.loading:
            raise ValueError(
                f"{self.path} holds the state of {self.holds}; opt.load({self.path!r}) goes on "
                f"with it, or give another folder as state_dir, or delete this one, to start anew"
            )
        if self.unplaced:
            self.put_back()

    def attach(self) -> None:
        """Make and lock the folder; remove files that do not count."""
        try:
            os.mkdir(self.path)
            self.made_folder = True
        except FileExistsError:
            pass
        except FileNotFoundError as error:
            raise OSError(
                error.errno, "the folder that state_dir is to be made in is not there", self.path
            ) from error
        except OSError as error:
            raise OSError(
                error.errno, f"state_dir cannot be made: {error.strerror}", self.path
            ) from error
        if not os.path.isdir(self.path):
            raise NotADirectoryError(errno.ENOTDIR, "state_dir is a file, not a folder", self.path)
        try:
            self.check_is_ours()
            lock = Lock(self.path)
        except OSError as error:
            self.remove_folder()
            raise OSError(
                error.errno, f"state_dir cannot be used: {error.strerror}", self.path
            ) from error
        try:
            index = text.read(self.path)
            names = sorted(os.listdir(self.path))
            self.serial = max((int(m[1]) for m in map(NUMBER.fullmatch, names) if m), default=0)
            if index is not None:
                self.holds = self.described(index)
            self.remove_others(index, names)
        except BaseException:
            lock.release()
            raise
        self.lock = lock

    def check_is_ours(self) -> None:
        """Refuse a folder that is somebody else's."""
        names = sorted(os.listdir(self.path))
        if text.INDEX not in names:
            for name in names:
                if not is_ours(name):
                    raise ValueError(
                        f"{self.path} has a file {name!r}, and no state of an optimizer; give "
                        f"state_dir a folder of its own"
                    )

    def described(self, index: Index) -> str | None:
        """Return what messages say of a state that was found, None if it has nothing to lose."""
        head, _ = rows_of(self.map_ledger(index))
        if head["iter"] == head["skipped"] == 0 and head["begun"] == head["done"]:
            return None
        return f"{index.settings.get('rule')} after {head['iter']} updates"

    def remove_others(self, index: Index | None, names: Iterable[str]) -> None:
        """Remove what a process left that was killed while it made files."""
        kept = set()
        if index is not None:
            kept = {index.ledger, *(one.file for e in index.entries for one in e.arrays)}
        for name in names:
            if name not in kept and is_spare(name):
                self.unlink(name)

    # ------------------------------------------------ reading

    def read(self) -> Saved:
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
        head, rows = rows_of(self.map_ledger(index))
        self.check_is_whole(head)
        self.taken, self.loading = {}, True
        parameters = {}
        for entry in index.entries:
            if not 0 < entry.row <= len(rows):
                raise damaged(self.path, f"the ledger has no row of {entry.key!r}")
            row = rows[entry.row - 1]
            if row["updates"] == 0 and row["arrays"] == 0:  # of a call that was refused
                continue
            parameters[entry.key] = self.record(entry, row)
        return {
            **index.settings, "iter": head["iter"], "skipped": head["skipped"],
            "clipped": head["clipped"], "parameters": parameters,
        }

    def check_is_whole(self, head: dict[str, Any]) -> None:
        """Refuse a state of which some was written and some was not."""
        anew = "load a checkpoint, with another folder as state_dir, or start anew"
        if head["begun"] != head["done"]:
            raise ValueError(
                f"{self.path} was left in the middle of an update, or of a `with` that exchanges the "
                f"parameters: the process was killed after {head['iter']} whole ones. State and "
                f"parameters are partly those of the next; {anew}"
            )
        if not head["flushed"] and not is_same(head["boot"]):
            raise ValueError(
                f"{self.path} was written before this system was started, or on another one, and "
                f"opt.sync() was not called after the last update, so that some of it may not have "
                f"reached the disk; {anew}"
            )

    def record(self, entry: Entry, row: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of a key, as a saved state has it."""
        state: dict[str, Array] = {}
        average = None
        for bit, stored in enumerate(entry.arrays):
            if not row["arrays"] >> bit & 1:
                continue
            a = self.array(stored)
            self.taken[id(a)] = a, stored
            if stored.slot is None:
                average = a
            else:
                state[stored.slot] = a
        begun = row["mean_from"] >= 0
        return {
            "updates": row["updates"], "shape": entry.shape, "dtype": entry.dtype,
            "order": entry.order, "state": state, "average": average, "group": entry.group,
            "mean": (row["averaged"], row["mean_from"]) if begun else None,
            **({"carried": row["carried"]} if row["carried"] else {}),
        }

    def array(self, stored: Stored) -> Array:
        """Return an array of the folder."""
        mapped = self.mapped[stored.file] = self.map(stored.file, stored.size)
        raw = np.frombuffer(mapped, np.uint8)
        try:
            a: Array = np.ndarray(
                stored.shape, stored.dtype, raw, stored.start, stored.strides  # type: ignore[arg-type]
            )
        except (TypeError, ValueError) as error:
            raise damaged(self.path, f"{stored.file}: {error}") from error
        return a

    def map_ledger(self, index: Index) -> Mapped:
        """Return the ledger that an index names."""
        path = os.path.join(self.path, index.ledger)
        try:
            size = os.path.getsize(path)
        except FileNotFoundError:
            raise damaged(self.path, f"the file {index.ledger} is not there") from None
        if size < ROW or size % ROW:
            raise damaged(self.path, f"the file {index.ledger} has {size} bytes")
        ledger = self.map(index.ledger, size)
        if rows_of(ledger)[0]["format"] != FORMAT:
            raise damaged(self.path, f"the file {index.ledger} is no ledger")
        return ledger

    def map(self, name: str, size: int) -> Mapped:
        """Return a file in memory."""
        path = os.path.join(self.path, name)
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise damaged(self.path, f"the file {name} is not there") from None
        try:
            if os.fstat(file).st_size < size:
                raise damaged(self.path, f"the file {name} has fewer than {size} bytes")
            return self.mapping(file, size, path)
        finally:
            os.close(file)

    def mapping(self, file: int, size: int, path: str) -> Mapped:
        """Return an open file in memory."""
        try:
            return Mapped(file, size, self.lock)
        except OSError as error:
            raise OSError(
                error.errno, f"a file of {size} bytes cannot be mapped into memory there "
                f"({error.strerror}); give state_dir a folder on a local disk", path
            ) from error

    def takes_over(self, a: object) -> bool:
        """Whether an array is one that `read` gave."""
        return id(a) in self.taken

    # ------------------------------------------------ making

    def new_file(self, key: Hashable, slot: str | None, size: int) -> Mapped:
        """Return a new file of zeros in memory, which is removed again unless an update uses it."""
        self.open()
        if not tree.may_be_key(key):
            raise TypeError(
                f"params has the key {key!r}, a {type(key).__name__}, which state_dir cannot hold; "
                f"a key must be {tree.KEY}"
            )
        before = self.new.pop((key, slot), None)
        if before is not None:
            self.unlink(before[0])
        readable = re.sub(r"[^A-Za-z0-9_+=,-]+", "_", f"{key}")[:40]
        of = "average" if slot is None else re.sub(r"\W", "_", slot, flags=re.ASCII)[:40]
        name = f"{self.next():06d}-{readable}.{of}"
        mapped = self.make(name, size, f"the {of} of {key!r}")
        self.new[key, slot] = name, mapped
        self.mapped[name] = mapped
        return mapped

    def next(self) -> int:
        """Return a number that no file has had."""
        self.serial += 1
        return self.serial

    def make(self, name: str, size: int, what: str) -> Mapped:
        """Make a file all of whose bytes have their place on the disk, and map it."""
        path = os.path.join(self.path, name)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                allocate(file, size)
            except OSError as error:
                free = os.statvfs(self.path)
                raise OSError(
                    error.errno, f"{what} needs {size} bytes in state_dir, where "
                    f"{free.f_bavail * free.f_frsize} are free: {error.strerror}", self.path
                ) from error
            return self.mapping(file, size, path)
        except BaseException:
            self.unlink(name)
            raise
        finally:
            os.close(file)

    def add(
        self, new: list[tuple[Any, dict[str | None, Any]]]
    ) -> tuple[list[tuple[int, int]], "Prepared | None"]:
        """Write down keys and arrays that an update is about to use, and the settings.

        Returns each key's row of the ledger with the bits of its new arrays, and what is to be
        taken, None if there is no new index.
        """
        settings = self.settings()
        self.watches = has_schedules(settings)
        before = {} if self.current is None else self.current[0]
        entries, bits = dict(before), []
        for record, arrays in new:
            entry = entries.get(record.key)
            if entry is None:
                entry = self.entry(record, len(entries) + 1)
            entry = dataclasses.replace(entry, arrays=list(entry.arrays))
            found = 0
            for slot, a in arrays.items():
                if (record.key, slot) in self.new:
                    found |= 1 << self.note(entry, slot, a, *self.new[record.key, slot])
            entries[record.key] = entry
            bits.append((entry.row, found))
        if entries != before or self.current is None:
            return bits, self.prepared(entries, settings, None, ())
        if text.text_of(settings) != self.written:
            self.write_settings(settings)
        return bits, None

    def entry(self, record: Any, row: int) -> Entry:
        """Return what the index has of a new key."""
        described = record.described()
        return Entry(
            record.key, row, record.group, described["shape"], described["dtype"],
            described["order"],
        )

    def note(self, entry: Entry, slot: str | None, a: Array, name: str, mapped: Mapped) -> int:
        """Note in an entry how an array lies in its file; return its place."""
        at = entry.place_of(slot)
        if at >= MOST_ARRAYS:
            raise RuntimeError(f"{entry.key!r} has had {at} arrays of state; load into a new folder")
        entry.arrays[at:at + 1] = [
            Stored(slot, name, mapped.size, mapped.place_of(a), a.dtype.name, a.shape, a.strides)
        ]
        return at

    def row_of(self, key: Hashable) -> int:
        """Return the row of a key in the ledger."""
        assert self.current is not None
        return self.current[0][key].row

    def prepared(
        self, entries: "Entries", settings: dict[str, Any],
        records: list[tuple[Any, int]] | None, counts: tuple[int, ...],
    ) -> "Prepared":
        """Write a new ledger and a new index, and return what `Folder.take` goes over to."""
        name = f"{self.next():06d}.ledger"
        ledger = self.make(name, ROW * (1 + len(entries)), "the ledger")
        try:
            self.folder.fill(ledger, records, counts)
            self.unplaced = True  # until it has been taken
            text.write(self.path, Index(name, settings, list(entries.values())))
        except BaseException:
            self.put_back()
            self.unlink(name)  # which no index names now
            raise
        self.written = text.text_of(settings)
        return entries, name, ledger

    def put_back(self) -> None:
        """Write the index as it was, after what was interrupted or failed."""
        if self.current is None:
            self.unlink(text.INDEX)
        else:
            settings = self.settings()
            index = Index(self.current[1], settings, list(self.current[0].values()))
            text.write(self.path, index)
            self.written = text.text_of(settings)
            self.remove_old()
        self.unplaced = False

    def remove_old(self) -> None:
        """Remove files that neither count nor are about to."""
        assert self.current is not None
        named = {one.file for entry in self.current[0].values() for one in entry.arrays}
        named |= {name for name, _ in self.new.values()} | {self.current[1]}
        for name in os.listdir(self.path):
            if name not in named and is_spare(name):
                self.unlink(name)
        for name in self.mapped.keys() - named:
            del self.mapped[name]

    def in_place_of(
        self, records: dict[Hashable, Any], counts: tuple[int, ...],
        changes: Iterable[tuple[dict[str, Any], Any]],
    ) -> "Prepared":
        """Write down what takes the place of all that is kept; `changes` are made to settings."""
        self.open()
        entries: Entries = {}
        bits = []
        for row, record in enumerate(records.values(), start=1):
            entry = self.entry(record, row)
            for slot, a in [*record.state.items(), (None, record.average)]:
                if (record.key, slot) in self.new:
                    self.note(entry, slot, a, *self.new[record.key, slot])
                elif a is not None:
                    entry.arrays.append(self.taken[id(a)][1])
            entries[record.key] = entry
            bits.append((record, (1 << len(entry.arrays)) - 1))
        return self.prepared(entries, self.settings_after(changes), bits, counts)

    def settings_after(self, changes: Iterable[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
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

    def replaced(self) -> None:
        """After all was replaced: let go of what was there before."""
        self.taken = {}
        self.remove_old()

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write hyperparameters that have changed."""
        assert self.current is not None
        self.folder.note_unflushed()
        self.written = ""  # if the next line fails, or is interrupted
        text.write_settings(self.path, self.current[1], text.text_of(settings))
        self.written = text.text_of(settings)

    # ------------------------------------------------ flushing and removing

    def sync(self) -> None:
        """Bring all to the disk."""
        self.open()
        if self.current is None:  # nothing has been written
            return
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
            self.unlink(name)
            self.mapped.pop(name, None)
        self.new.clear()
        self.taken, self.loading = {}, False
        if self.current is None and self.holds is None and self.lock is not None:
            self.unlink("lock")
            self.lock.release()
            self.lock = None
            self.remove_folder()

    def let_go(self) -> None:
        """Forget what was read, and let others have the folder."""
        self.mapped, self.taken, self.loading = {}, {}, False
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def remove_folder(self) -> None:
        """Remove the folder if it was made here and has nothing in it."""
        if self.made_folder:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            self.made_folder = False

    def unlink(self, name: str) -> None:
        """Remove a file."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.path, name))


def is_ours(name: str) -> bool:
    """Whether a file's name is one that is made here."""
    return name in ("lock", text.SETTINGS) or is_spare(name)


def is_spare(name: str) -> bool:
    """Whether a file goes when the index does not name it."""
    return name.endswith(".json.new") or NUMBER.fullmatch(name) is not None


def has_schedules(settings: dict[str, Any]) -> bool:
    """Whether settings may change without a new plan: a schedule may have observed something."""
    rest = settings.get("rest", {})
    parts = [settings, *settings["groups"], *([rest, *rest["groups"]] if rest else [])]
    return any(one["schedules"] for one in parts)


def allocate(file: int, size: int) -> None:
    """Give a file a place on the disk for all its bytes, or raise what the system says.

    A file with holes would get its place when it is written through memory, and a full disk then
    ends the process (SIGBUS).
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(PIECE)
    for at in range(0, size, PIECE):
        os.pwrite(file, zeros[: size - at], at)


def forget_forked() -> None:
    """In a forked process: the files are the parent's."""
    for one in list(alive):
        one.folder.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_forked)
