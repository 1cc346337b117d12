"""A tree of arrays and plain values in one file: all of it as it was, or an error.

The file is a safetensors file. Its metadata say who wrote it, in which format, and a digest of it
all. How the arrays belong together is a text, the tree (`fastoptim.checkpoint.tree`). In format 1 the arrays
are the tensors "0", "1", …, and the tree is in the metadata. A header has a limit, and takes long
to read, so a tree whose header would be long is written in format 2: the tensor "tree" is the text,
the tensors "float32" and "float64" are the arrays of either dtype, one behind the other in the
order of the text. What safetensors leaves open is closed here:

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
import math
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint.tree import from_json, parse, to_json
from fastoptim.runtime import get_num_threads

Path = str | os.PathLike[str]

FORMAT = "fastoptim checkpoint"
SEPARATE, PACKED = "1", "2"  # versions of the format
PIECE = 1 << 20  # bytes under one hash: part of the format
LONGEST_HEADER = 100_000_000  # safetensors' own limit
LONG_HEADER = 4_000_000  # from here on the arrays are packed
THREADS = 4  # at most: more do not make memory any faster
METADATA = {
    SEPARATE: {"format", "format_version", "library_version", "tree", "digest"},
    PACKED: {"format", "format_version", "library_version", "digest"},
}
TENSOR_TYPES = {"float32": "F32", "float64": "F64"}
TREE = "tree"  # a tensor of format 2
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
        The tree is nested too deeply.
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
    packed = 2 * len(text) + 200 * len(arrays) > LONG_HEADER  # 2: every quote gets a backslash
    metadata = {
        "format": FORMAT,
        "format_version": PACKED if packed else SEPARATE,
        "library_version": version("fastoptim"),
    }
    if packed:
        tensors = _packed(text, arrays)
    else:
        tensors = {str(i): a for i, a in enumerate(arrays)}
        metadata["tree"] = text
    name = os.fsdecode(os.fspath(path))
    sizes = [a.nbytes for a in tensors.values()]
    hashes = _hashes(sizes, _from_memory([_flat(a) for a in tensors.values()]))
    metadata["digest"] = _digest(metadata, hashes)
    with _naming(name):
        target, mode = _target(name)
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
                    mode = _default_mode(temporary)
                _write(library, tensors, temporary, metadata)
                with open(temporary, "r+b", buffering=0) as file:
                    os.chmod(temporary, mode)
                    # What cannot be read back is not put in place; the disk has its own work
                    # meanwhile.
                    with _meanwhile(lambda: os.fsync(file.fileno())):
                        offsets = _Header(file, temporary, name, library).offsets
                        written = _hashes(sizes, _from_file(file, offsets, sizes))
                    if written != hashes or (packed and not _same(tensors, _packed(text, arrays))):
                        raise RuntimeError(
                            f"an array changed while it was being saved to {name}; the file is as "
                            "it was before: save again while nothing writes to the arrays"
                        )
                os.replace(temporary, target)
                _fsync_folder(folder)
            finally:
                _remove(private)
        finally:
            _remove(private)


def _write(library: Any, tensors: dict[str, NDArray[Any]], path: str, metadata: Any) -> None:
    try:
        library.numpy.save_file(tensors, path, metadata=metadata)
    except library.SafetensorError as error:
        raise _as_os_error(error) from error


def load(path: Path) -> Any:
    """Return the tree that a file holds, when every bit of it is as it was saved.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.

    Returns
    -------
    object
        The tree. Its arrays are new, writable, aligned, contiguous in C or Fortran order. Those of
        a tree with very many arrays lie in one piece of memory per dtype, which is kept as long as
        any of them.

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
        read = _read_packed if header.metadata["format_version"] == PACKED else _read_separate
        try:
            return read(file, header)
        except ValueError as error:
            raise _damaged(name, str(error)) from error


def _read_separate(file: io.FileIO, header: "_Header") -> Any:
    """Return the tree of a file of format 1."""
    arrays: list[NDArray[Any]] = []

    def make(dtype: str, shape: tuple[int, ...], order: str) -> NDArray[Any]:
        stored = shape if order == "C" else shape[::-1]
        # what is not in the header has not been checked against the size of the file
        if header.tensors.get(str(len(arrays))) != (TENSOR_TYPES[dtype], stored):
            raise ValueError("an array is not as described")
        arrays.append(np.empty(shape, dtype, "C" if order == "C" else "F"))
        return arrays[-1]

    tree = from_json(header.metadata["tree"], make)
    if len(arrays) != len(header.tensors):
        raise ValueError("an array belongs nowhere")
    _fill(file, header, arrays)
    return tree


def _read_packed(file: io.FileIO, header: "_Header") -> Any:
    """Return the tree of a file of format 2."""
    packs = {
        name: np.empty(shape, "uint8" if name == TREE else name)
        for name, (_, shape) in header.tensors.items()
    }
    _fill(file, header, list(packs.values()))
    text = packs.pop(TREE).tobytes().decode("ascii")
    used = dict.fromkeys(packs, 0)

    def make(dtype: str, shape: tuple[int, ...], order: str) -> NDArray[Any]:
        start = used[dtype]
        used[dtype] += math.prod(shape)
        return packs[dtype][start : used[dtype]].reshape(shape, order="C" if order == "C" else "F")

    tree = from_json(text, make)
    if any(used[dtype] != len(pack) for dtype, pack in packs.items()):
        raise ValueError("an array belongs nowhere")
    return tree


def _fill(file: io.FileIO, header: "_Header", arrays: list[NDArray[Any]]) -> None:
    """Read a file's tensors into arrays, and refuse them if the digest says so."""
    flat = [_flat(a) for a in arrays]
    hashes = _hashes([a.nbytes for a in arrays], _into_memory(file, header.offsets, flat))
    if _digest(header.metadata, hashes) != header.metadata["digest"]:
        raise ValueError("its content does not match its digest")
    if sys.byteorder == "big":
        for a in arrays:
            a.byteswap(inplace=True)


def _packed(text: str, arrays: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file of format 2."""
    tensors: dict[str, NDArray[Any]] = {TREE: np.frombuffer(text.encode("ascii"), np.uint8)}
    for name in TENSOR_TYPES:
        dtype = np.dtype(name).newbyteorder("<")
        flat = [a.reshape(-1) for a in arrays if a.dtype == dtype]
        if flat:
            tensors[name] = np.concatenate(flat, dtype=dtype)
    return tensors


def _same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    """Whether two sets of tensors hold the same bits."""
    return all(_flat(one[name]) == _flat(other[name]) for name in one)


class _Header:
    """The checked header of an open file: its metadata, and where each tensor lies."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]  # type and shape as stored, in order
    offsets: list[int]  # in the file, in the same order

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
        number = metadata.get("format_version")
        if number not in (SEPARATE, PACKED):
            raise ValueError(
                f"{name} is a checkpoint of format {number!r}, written by "
                f"fastoptim {metadata.get('library_version')!r}; fastoptim {version('fastoptim')} "
                f"reads formats {SEPARATE!r} and {PACKED!r}: use the version that wrote it, or a "
                f"newer one"
            )
        if set(metadata) != METADATA[number]:
            raise _damaged(name, "its metadata is not that of a checkpoint")
        if size < end:
            raise _truncated(name, size, f"there should be {end}")
        if size > end:
            raise ValueError(
                f"{name} is damaged: {size - end} bytes follow the end of the checkpoint; "
                f"{ANOTHER_COPY}"
            )
        try:
            names = [str(i) for i in range(len(parsed))]
            if number == PACKED:
                names = [TREE, *(dtype for dtype in TENSOR_TYPES if dtype in parsed)]
            entries = {name: parsed[name] for name in names}
            self.offsets = [8 + length + entry["data_offsets"][0] for entry in entries.values()]
            self.tensors = {
                name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()
            }
        except (KeyError, TypeError) as error:
            raise _damaged(name, "its arrays are not those of a checkpoint") from error
        expected = {TREE: "U8"} | TENSOR_TYPES
        wrong = number == PACKED and any(
            (dtype, len(shape)) != (expected[name], 1)
            for name, (dtype, shape) in self.tensors.items()
        )
        if wrong or len(entries) != len(parsed):
            raise _damaged(name, "its arrays are not those of a checkpoint")
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
    """Return the SHA-256 of who wrote what, and of the 128-bit XXH3 of each piece of each tensor.

    It is there to find accidents, not forgers (who would write a new digest), so over the bulk of
    the data speed decides among the hashes that miss none. Measured for 400 MB on one core: XXH3
    0.01 s, CRC-32 0.10 s, SHA-256 0.23 s, where reading the file takes 0.04 to 0.10 s.
    """
    names = ("format", "format_version", "library_version", "tree")
    text = [metadata[name] for name in names if name in metadata]
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


def _default_mode(temporary: str) -> int:
    """Return the permissions that a new file gets here: the umask cannot be asked for safely."""
    with open(temporary, "xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def _remove(folder: str) -> None:
    """Remove a folder of files, if it is there (shutil.rmtree fails when it is interrupted)."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


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
