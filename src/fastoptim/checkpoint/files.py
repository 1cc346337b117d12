"""Files that are read in pieces, and replaced as a whole or not at all."""

import concurrent.futures
import contextlib
import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator


def replace_file(
    name: str, write: Callable[[str], None], check: Callable[[io.FileIO, str], None]
) -> None:
    """Write a file beside its place, read it back, and rename it over the one that is there.

    Parameters
    ----------
    name : str
    write : callable
        write(path) writes it there.
    check : callable
        check(file, path) reads it back, and raises if it is not what was to be written.
    """
    with naming(name):
        target, mode = target_of(name)
        folder, base = os.path.split(target)
        # A folder of its own: safetensors puts a temporary file of its own beside the one it is
        # to write, and both must be gone whatever happens. Its name (64 random bits, so no one
        # else's) is known before it is there, and it is removed twice: an interrupt may come at
        # any line, between the making and what is done with it, or in the middle of the removal.
        private = os.path.join(folder, f".{base[:40]}.{os.urandom(8).hex()}.tmp")
        try:
            try:
                os.mkdir(private, 0o700)
                temporary = os.path.join(private, "checkpoint")
                if mode is None:
                    mode = default_mode(temporary)
                write(temporary)
                with open(temporary, "r+b", buffering=0) as file:
                    os.chmod(temporary, mode)
                    # What cannot be read back is not put in place; the disk has its own work
                    # meanwhile.
                    with meanwhile(lambda: os.fsync(file.fileno())):
                        check(file, temporary)
                os.replace(temporary, target)
                flush_folder(folder)
            finally:
                remove_folder(private)
        finally:
            remove_folder(private)


def at_once(name: str, flags: int) -> int:
    """Open a file for `open`; a pipe, too, which else waits until somebody writes to it."""
    return os.open(name, flags | os.O_NONBLOCK)


def pread(file: io.FileIO, view: memoryview, offset: int) -> None:
    """Fill a buffer from a place in a file, as far as the file goes."""
    while view:
        count = os.preadv(file.fileno(), [view], offset)
        if count == 0:  # whoever shortened it meanwhile: the digest will tell
            return
        view, offset = view[count:], offset + count


def target_of(name: str) -> tuple[str, int | None]:
    """Return the file behind a name, and the permissions of a file that is there already."""
    if os.path.basename(name) in ("", ".", ".."):  # without this, "new/" would become a file
        raise IsADirectoryError(errno.EISDIR, "This names a folder; add the file's name")
    try:
        there = os.stat(name)
    except FileNotFoundError:
        return os.path.realpath(name), None
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(there.st_mode):  # a pipe, or /dev/null: not to be replaced by a file
        raise OSError(errno.EINVAL, "Not a regular file")
    return os.path.realpath(name), stat.S_IMODE(there.st_mode)


def default_mode(temporary: str) -> int:
    """Return the permissions that a new file gets here: the umask cannot be asked for safely."""
    with open(temporary, "xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def remove_folder(folder: str) -> None:
    """Remove a folder of files, if it is there (shutil.rmtree fails when it is interrupted)."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def flush_folder(folder: str) -> None:
    """Bring a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Make every OSError name the user's file, not a temporary one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == name:
            raise
        raise OSError(error.errno, error.strerror, name) from error


@contextlib.contextmanager
def meanwhile(task: Callable[[], None]) -> Iterator[None]:
    """Run a task in a thread beside the block, and wait for it at the block's end."""
    if is_ending():
        task()
        yield
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(task)
        yield
        running.result()


def is_ending() -> bool:
    """Return whether the interpreter ends, as in an atexit handler: no thread can start then."""
    return not threading.main_thread().is_alive()
