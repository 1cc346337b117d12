"""A tree of arrays and plain values in one file: all of it as it was, or an error.

The file is a safetensors file: the arrays are the tensors "0", "1", …, and its metadata says how
they belong together (`fastoptim.tree`), who wrote it, in which format, and a digest of it all. What
safetensors leaves open is closed here:

- only contiguous little-endian data reaches it, since it writes anything else as it lies in memory;
- no name of the user's becomes the name of a tensor, so that none can be a reserved one;
- the digest covers structure and data, so that a bit that flipped on a disk is found;
- the file is written beside its place, read back, flushed to the disk, and only then renamed over
  the old one, and the folder is flushed too: a crash leaves the old file or the new one.

Nothing is pickled: loading a file runs no code of it.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.runtime import get_num_threads
from fastoptim.tree import from_json, parse, to_json

Path = str | os.PathLike[str]

FORMAT = "fastoptim checkpoint"
FORMAT_VERSION = "1"
PIECE = 1 << 20  # bytes under one hash: part of the format
LONGEST_HEADER = 100_000_000  # the format's own limit
THREADS = 4  # at most: more do not make memory any faster
METADATA = {"format", "format_version", "library_version", "tree", "digest"}
TENSOR_TYPES = {"float32": "F32", "float64": "F64"}
ANOTHER_COPY = "load another copy, or an older checkpoint"


def save(path: Path, tree: object) -> None:
    """Write a tree to a file, which is replaced as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file. A symbolic link is followed and stays a link; a file that is replaced keeps its
        permissions.
    tree : object
        Dicts, lists and tuples, nested at will, of str, int, float, bool, None and arrays of
        float32 or float64 in any layout. A key is a str, int, float, bool, None or a tuple of
        these. An array that occurs twice is stored twice.

    Raises
    ------
    TypeError
        Something else is in the tree; the message says where. No file has been touched.
    ValueError
        The tree is nested too deeply, or has too many arrays for one file.
    OSError
        The disk is full, the folder cannot be written, …: with `path` as its file name.
    RuntimeError
        An array changed while it was being written.
    ImportError
        safetensors or xxhash is not installed.

    Notes
    -----
    Whatever is raised, the file that was there is still there, and nothing is left beside it. A
    process that is killed may leave a folder ``.NAME.….tmp``, which can be deleted.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> save(folder.name + "/a.ckpt", {"step": 3, ("W", 1): np.ones(2)})
    >>> load(folder.name + "/a.ckpt")
    {'step': 3, ('W', 1): array([1., 1.])}
    >>> folder.cleanup()
    """
    library = _safetensors()
    text, arrays = to_json(tree)
    if 2 * len(text) + 200 * len(arrays) > LONGEST_HEADER:  # 2: every quote gets a backslash
        raise ValueError(
            f"{len(arrays)} arrays and {len(text)} bytes of structure are too many for one file; "
            "save parts of the tree to files of their own"
        )
    name = os.fsdecode(os.fspath(path))
    sizes = [a.nbytes for a in arrays]
    hashes = _hashes(sizes, _from_memory([_flat(a) for a in arrays]))
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "library_version": version("fastoptim"),
        "tree": text,
    }
    metadata["digest"] = _digest(metadata, hashes)
    with _naming(name):
        target, mode = _target(name)
        folder, base = os.path.split(target)
        # A folder of its own: safetensors puts a temporary file of its own beside the one it is
        # to write, and both must be gone whatever happens.
        with tempfile.TemporaryDirectory(
            prefix=f".{base[:40]}.", suffix=".tmp", dir=folder, ignore_cleanup_errors=True
        ) as private:
            temporary = os.path.join(private, "checkpoint")
            if mode is None:
                mode = _default_mode(temporary)
            try:
                library.numpy.save_file(
                    {str(i): a for i, a in enumerate(arrays)}, temporary, metadata=metadata
                )
            except library.SafetensorError as error:
                raise _as_os_error(error) from error
            with open(temporary, "r+b", buffering=0) as file:
                os.chmod(temporary, mode)
                # What cannot be read back is not put in place; the disk has its own work meanwhile.
                with _meanwhile(lambda: os.fsync(file.fileno())):
                    offsets = _Header(file, temporary, name, library).offsets
                    written = _hashes(sizes, _from_file(file, offsets, sizes))
                if written != hashes:
                    raise RuntimeError(
                        f"an array changed while it was being saved to {name}; the file is as it "
                        "was before: save again while nothing writes to the arrays"
                    )
            os.replace(temporary, target)
            _fsync_folder(folder)


def load(path: Path) -> Any:
    """Return the tree that a file holds, when every bit of it is as it was saved.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.

    Returns
    -------
    object
        The tree. Its arrays are new, writable, aligned, contiguous in C or Fortran order.

    Raises
    ------
    ValueError
        The file is no checkpoint, is truncated, too long or damaged, or is of a format that this
        version does not know. The message names the file and says what to do.
    OSError
        The file does not exist, cannot be read, ….
    ImportError
        safetensors or xxhash is not installed.
    """
    library = _safetensors()
    name = os.fsdecode(os.fspath(path))
    with _naming(name), open(name, "rb", buffering=0) as file:
        header = _Header(file, name, name, library)
        arrays: list[NDArray[Any]] = []

        def make(dtype: str, shape: tuple[int, ...], order: str) -> NDArray[Any]:
            stored = shape if order == "C" else shape[::-1]
            # what is not in the header has not been checked against the size of the file
            if header.tensors.get(len(arrays)) != (TENSOR_TYPES[dtype], stored):
                raise ValueError("an array is not as described")
            arrays.append(np.empty(shape, dtype, "C" if order == "C" else "F"))
            return arrays[-1]

        try:
            tree = from_json(header.metadata["tree"], make)
            if len(arrays) != len(header.tensors):
                raise ValueError("an array belongs nowhere")
        except ValueError as error:
            raise _damaged(name, str(error)) from error
        flat = [_flat(a) for a in arrays]
        hashes = _hashes([a.nbytes for a in arrays], _into_memory(file, header.offsets, flat))
        if _digest(header.metadata, hashes) != header.metadata["digest"]:
            raise _damaged(name, "its content does not match its digest")
    if sys.byteorder == "big":
        for a in arrays:
            a.byteswap(inplace=True)
    return tree


class _Header:
    """The checked header of an open file: its metadata, and where each tensor lies."""

    metadata: dict[str, str]
    tensors: dict[int, tuple[str, tuple[int, ...]]]  # type and shape as stored
    offsets: list[int]  # in the file

    def __init__(self, file: io.FileIO, where: str, name: str, library: Any) -> None:
        while True:
            self.read(file, name)
            try:
                with library.safe_open(where, framework="numpy"):  # holes, overlaps, wrong sizes
                    pass
            except library.SafetensorError as error:
                raise _damaged(name, str(error)) from error
            # The library judged the file that has this name now. When another process has put a
            # new checkpoint there since it was opened, both must look at the new one.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(where)):
                break
            with open(where, "rb", buffering=0) as newer:
                os.dup2(newer.fileno(), file.fileno(), inheritable=False)

    def read(self, file: io.FileIO, name: str) -> None:
        size = os.fstat(file.fileno()).st_size
        start = bytearray(8)
        _pread(file, memoryview(start), 0)
        length = int.from_bytes(start, "little")
        if size < 8 or length > LONGEST_HEADER:
            raise _no_checkpoint(name)
        if 8 + length > size:
            raise _truncated(name, size, f"its header alone has {8 + length}")
        text = bytearray(length)
        _pread(file, memoryview(text), 8)
        try:
            parsed = parse(bytes(text))
            metadata = parsed.pop("__metadata__", {})
            ours = metadata.get("format") == FORMAT
            ends = [entry["data_offsets"][1] for entry in parsed.values()]
            end = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as e:
            raise _no_checkpoint(name) from e
        if not ours:
            raise _no_checkpoint(name)
        if metadata.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{name} is a checkpoint of format {metadata.get('format_version')!r}, written by "
                f"fastoptim {metadata.get('library_version')!r}; fastoptim {version('fastoptim')} "
                f"reads format {FORMAT_VERSION!r}: use the version that wrote it, or a newer one"
            )
        if set(metadata) != METADATA:
            raise _damaged(name, "its metadata is not that of a checkpoint")
        if size < end:
            raise _truncated(name, size, f"there should be {end}")
        if size > end:
            raise ValueError(
                f"{name} is damaged: {size - end} bytes follow the end of the checkpoint; "
                f"{ANOTHER_COPY}"
            )
        try:
            entries = [parsed[str(i)] for i in range(len(parsed))]
            self.offsets = [8 + length + entry["data_offsets"][0] for entry in entries]
            self.tensors = {
                i: (entry["dtype"], tuple(entry["shape"])) for i, entry in enumerate(entries)
            }
        except (KeyError, TypeError) as error:
            raise _damaged(name, "its arrays are not those of a checkpoint") from error
        self.metadata = metadata


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
        import xxhash  # noqa: F401  used by _hashes
    except ImportError as error:
        raise ImportError(
            "checkpoints need safetensors and xxhash: pip install 'fastoptim[checkpoint]'"
        ) from error
    return safetensors


# ---- the digest


def _digest(metadata: dict[str, str], hashes: list[bytes]) -> str:
    """Return the SHA-256 of who wrote what, and of the 128-bit XXH3 of each piece of each array.

    It is there to find accidents, not forgers (who would write a new digest), so over the bulk of
    the data speed decides among the hashes that miss none. Measured for 400 MB on one core: XXH3
    0.01 s, CRC-32 0.10 s, SHA-256 0.23 s, where reading the file takes 0.04 to 0.10 s.
    """
    text = [metadata[name] for name in ("format", "format_version", "library_version", "tree")]
    sha = hashlib.sha256("\n".join(text).encode())  # ASCII, and no line ends within
    sha.update(b"".join(hashes))
    return sha.hexdigest()


def _hashes(sizes: list[int], fetch: Callable[[int, int], memoryview]) -> list[bytes]:
    """Return the hash of every piece of every array: of what fetch(array, offset) returns.

    Pieces are of one size, so that the result does not depend on the number of threads.
    """
    from xxhash import xxh3_128_digest

    pieces = [(i, at) for i, size in enumerate(sizes) for at in range(0, size, PIECE)]
    threads = min(get_num_threads(), THREADS, 1 + sum(sizes) // (4 * PIECE))
    # Short runs of neighbours, so that a thread reads on where it stopped and none waits long for
    # the last one.
    run = 1 + len(pieces) // (16 * threads)
    runs = [pieces[k : k + run] for k in range(0, len(pieces), run)]

    def hashes(pieces: list[tuple[int, int]]) -> list[bytes]:
        return [xxh3_128_digest(fetch(i, at)) for i, at in pieces]

    if threads == 1 or _ending():
        return hashes(pieces)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return [one for some in pool.map(hashes, runs) for one in some]


@contextlib.contextmanager
def _meanwhile(task: Callable[[], None]) -> Iterator[None]:
    """Run a task in a thread beside the block, and wait for it at the block's end."""
    if _ending():
        task()
        yield
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(task)
        yield
        running.result()


def _ending() -> bool:
    """Return whether the interpreter ends, as in an atexit handler: no thread can start then."""
    return not threading.main_thread().is_alive()


def _flat(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a contiguous array, in C or Fortran order, without a copy."""
    return array.reshape(-1, order="A").view(np.uint8).data


def _from_memory(flat: list[memoryview]) -> Callable[[int, int], memoryview]:
    return lambda i, at: flat[i][at : at + PIECE]


def _into_memory(
    file: io.FileIO, offsets: list[int], flat: list[memoryview]
) -> Callable[[int, int], memoryview]:
    def fetch(i: int, at: int) -> memoryview:
        piece = flat[i][at : at + PIECE]
        _pread(file, piece, offsets[i] + at)
        return piece

    return fetch


def _from_file(
    file: io.FileIO, offsets: list[int], sizes: list[int]
) -> Callable[[int, int], memoryview]:
    def fetch(i: int, at: int) -> memoryview:
        piece = np.empty(min(PIECE, sizes[i] - at), np.uint8).data
        _pread(file, piece, offsets[i] + at)
        return piece

    return fetch


# ---- files


def _pread(file: io.FileIO, view: memoryview, offset: int) -> None:
    """Fill a buffer from a place in a file, as far as the file goes."""
    while view:
        count = os.preadv(file.fileno(), [view], offset)
        if count == 0:  # whoever shortened it meanwhile: the digest will tell
            return
        view, offset = view[count:], offset + count


def _target(name: str) -> tuple[str, int | None]:
    """Return the file behind a name, and the permissions of a file that is there already."""
    try:
        there = os.stat(name)
    except FileNotFoundError:
        return os.path.realpath(name), None
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(there.st_mode):  # a pipe, or /dev/null: not to be replaced by a file
        raise OSError(errno.EINVAL, "Not a regular file")
    return os.path.realpath(name), stat.S_IMODE(there.st_mode)


def _default_mode(temporary: str) -> int:
    """Return the permissions that a new file gets here: the umask cannot be asked for safely."""
    with open(temporary, "xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def _fsync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Make every OSError name the user's file, not a temporary one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == name:
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _as_os_error(error: Exception) -> Exception:
    """Return the OSError that safetensors' own exception was made from, if it was."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else error


# ---- what can be wrong with a file


def _no_checkpoint(name: str) -> ValueError:
    return ValueError(
        f"{name} is not a checkpoint of fastoptim, or its first bytes are damaged; give a file "
        f"that was saved by fastoptim, or {ANOTHER_COPY}"
    )


def _truncated(name: str, size: int, wanted: str) -> ValueError:
    return ValueError(f"{name} is truncated: it has {size} bytes, {wanted}; {ANOTHER_COPY}")


def _damaged(name: str, why: str) -> ValueError:
    return ValueError(f"{name} is damaged: {why}; {ANOTHER_COPY}")
