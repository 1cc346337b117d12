"""Files of fixed size: made with all their bytes on the disk, mapped, removed."""

import contextlib
import errno
import os
import re

from fastoptim.folder.index import INDEX, SETTINGS, damaged
from fastoptim.folder.lock import NAME
from fastoptim.kernels.update.folder import Mapped

NUMBER = re.compile(r"(\d{6,})(\.ledger|-.*\..*)")
PIECE = 1 << 20


def make_folder(path: str) -> bool:
    """Make a folder, if it is not there; return whether it was made."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            what = "state_dir is a file, not a folder"
            raise NotADirectoryError(errno.ENOTDIR, what, path) from None
        return False
    except FileNotFoundError as error:
        what = "the folder that state_dir is to be made in is not there"
        raise OSError(error.errno, what, path) from error
    except OSError as error:
        what = f"state_dir cannot be made: {error.strerror}"
        raise OSError(error.errno, what, path) from error
    return True


def check_is_ours(folder: str) -> None:
    """Refuse a folder that is somebody else's."""
    names = sorted(os.listdir(folder))
    if INDEX in names:
        return
    for name in names:
        if name not in (NAME, SETTINGS) and not is_spare(name):
            raise ValueError(
                f"{folder} has a file {name!r}, and no state of an optimizer; give state_dir a "
                f"folder of its own"
            )


def last_number(folder: str) -> int:
    """Return the largest number that a file has, 0 if none has any."""
    found = map(NUMBER.fullmatch, os.listdir(folder))
    return max((int(m[1]) for m in found if m), default=0)


def is_spare(name: str) -> bool:
    """Whether a file goes when the index does not name it."""
    return name.endswith(".json.new") or NUMBER.fullmatch(name) is not None


def remove_spare(folder: str, kept: set[str]) -> None:
    """Remove what does not count, such as what a process left that was killed at its making."""
    for name in os.listdir(folder):
        if name not in kept and is_spare(name):
            unlink(folder, name)


def unlink(folder: str, name: str) -> None:
    """Remove a file, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, name))


def new_file(folder: str, name: str, size: int, what: str, keeps: object) -> Mapped:
    """Make a file all of whose bytes have their place on the disk, and map it."""
    path = os.path.join(folder, name)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            allocate(file, size)
        except OSError as error:
            free = os.statvfs(folder)
            raise OSError(
                error.errno, f"{what} needs {size} bytes in state_dir, where "
                f"{free.f_bavail * free.f_frsize} are free: {error.strerror}", folder
            ) from error
        return mapping(file, size, path, keeps)
    except BaseException:
        unlink(folder, name)
        raise
    finally:
        os.close(file)


def old_file(folder: str, name: str, size: int | None, keeps: object) -> Mapped:
    """Map a file that should be there with at least so many bytes; None: with all it has."""
    path = os.path.join(folder, name)
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise damaged(folder, f"the file {name} is not there") from None
    try:
        there = os.fstat(file).st_size
        if there < (size or 1):
            raise damaged(folder, f"the file {name} has {there} bytes")
        return mapping(file, size or there, path, keeps)
    finally:
        os.close(file)


def mapping(file: int, size: int, path: str, keeps: object) -> Mapped:
    """Return an open file in memory."""
    try:
        return Mapped(file, size, keeps)
    except OSError as error:
        raise OSError(
            error.errno, f"a file of {size} bytes cannot be mapped into memory there "
            f"({error.strerror}); give state_dir a folder on a local disk", path
        ) from error


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
