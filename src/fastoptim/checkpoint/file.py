"""A tree of arrays and plain values in one file: all of it as it was, or an error.

The file is a safetensors file. Its metadata say who wrote it, in which format, and a digest of it
all. How the arrays belong together is a text, the tree (`fastoptim.checkpoint.tree`). In format 1
the arrays are the tensors "0", "1", …, and the tree is in the metadata. A header has a limit, and
takes long to read, so a tree whose header would be long is written in format 2: the tensor "tree"
is the text, the tensors "float32" and "float64" are the arrays of either dtype, one behind the
other in the order of the text. Formats 3 and 4 are the same for trees in which a plain tree stands
for an object (`fastoptim.training`), and formats 5 to 8 are 1 to 4 for trees that have arrays of
uint8 or uint16, too: the codes of an optimizer's state. What safetensors leaves open is closed
here:

- only contiguous little-endian data reaches it, since it writes anything else as it lies in memory;
- no name of the user's becomes the name of a tensor, so that none can be a reserved one;
- the digest covers structure and data, so that a bit that flipped on a disk is found (digest.py);
- the file is written beside its place, read back, flushed to the disk, and only then renamed over
  the old one, and the folder is flushed too: a crash leaves the old file or the new one (files.py).

Nothing is pickled: loading a file runs no code of it.
"""

import io
import math
import os
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint.digest import bytes_of, digest_of, from_file, from_memory, hashes_of
from fastoptim.checkpoint.files import at_once, naming, replace_file
from fastoptim.checkpoint.header import (
    ARE_PACKED,
    HAVE_OBJECTS,
    TENSOR_TYPES,
    TREE,
    Header,
    damaged,
    new_metadata,
    types_in,
)
from fastoptim.checkpoint.tree import EXPECTED, OBJECT, Describe, from_json, to_json

Path = str | os.PathLike[str]

LONG_HEADER = 4_000_000  # from here on the arrays are packed


def save(path: Path, tree: object) -> None:
    """Write a tree to a file, which is replaced as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file. A symbolic link is followed and stays a link; a file that is replaced keeps its
        permissions.
    tree : object
        Dicts, lists and tuples, nested at will, of str, int, float, bool, None and arrays of
        float32 or float64 in any layout, or of uint8 or uint16, which are codes of state. A key is
        a str, int, float, bool, None or a tuple of these. An array that occurs twice is stored
        twice.

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
    write(path, tree)


def write(
    path: Path, tree: object, describe: Describe | None = None, expected: str = EXPECTED
) -> None:
    """Write a tree to a file; `describe` says what stands for objects, `expected` what may be."""
    library = safetensors()
    text, arrays = to_json(tree, describe, expected)
    packed = 2 * len(text) + 200 * len(arrays) > LONG_HEADER  # 2: every quote gets a backslash
    codes = any(a.dtype.kind == "u" for a in arrays)
    metadata = new_metadata(packed, OBJECT in text, codes)
    if packed:
        tensors = packed_tensors(text, arrays)
    else:
        tensors = {str(i): a for i, a in enumerate(arrays)}
        metadata["tree"] = text
    name = os.fsdecode(os.fspath(path))
    sizes = [a.nbytes for a in tensors.values()]
    hashes = hashes_of(sizes, from_memory([bytes_of(a) for a in tensors.values()]))
    metadata["digest"] = digest_of(metadata, hashes)

    def write_tensors(temporary: str) -> None:
        try:
            library.numpy.save_file(tensors, temporary, metadata=metadata)
        except library.SafetensorError as error:
            raise as_os_error(error) from error

    def check(file: io.FileIO, temporary: str) -> None:
        offsets = Header(file, temporary, name, library).offsets
        written = hashes_of(sizes, from_file(file, offsets, sizes))
        if written != hashes or (packed and not same_bits(tensors, packed_tensors(text, arrays))):
            raise RuntimeError(
                f"an array changed while it was being saved to {name}; the file is as it was "
                "before: save again while nothing writes to the arrays"
            )

    replace_file(name, write_tensors, check)


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
        The file is no checkpoint, is truncated, too long or damaged, is of a format that this
        version does not know, or holds objects, for which there is `fastoptim.load`. The message
        names the file and says what to do.
    OSError
        The file does not exist, cannot be read, ….
    ImportError
        safetensors or xxhash is not installed.
    """
    return read(path, objects=False)


def read(path: Path, *, objects: bool = True) -> Any:
    """Return the tree that a file holds, with `Stored` in the place of objects, if they may be."""
    library = safetensors()
    name = os.fsdecode(os.fspath(path))
    with naming(name), open(name, "rb", buffering=0, opener=at_once) as file:
        header = Header(file, name, name, library)
        number = header.metadata["format_version"]
        try:
            tree = (read_packed if number in ARE_PACKED else read_separate)(file, header)
        except ValueError as error:
            raise damaged(name, str(error)) from error
    if number in HAVE_OBJECTS and not objects:  # last: one bit makes a format 1 a format 3
        raise ValueError(
            f"{name} holds optimizers, schedules or random generators, not arrays and plain "
            f"values alone; read it with fastoptim.load(path)"
        )
    return tree


def has_objects(header: Header) -> bool:
    """Whether something may stand for an object in a file's tree."""
    return header.metadata["format_version"] in HAVE_OBJECTS


def read_separate(file: io.FileIO, header: Header) -> Any:
    """Return the tree of a file of format 1 or 3."""
    arrays: list[NDArray[Any]] = []
    types = types_in(header.metadata["format_version"])

    def make(dtype: str, shape: tuple[int, ...], order: str) -> NDArray[Any]:
        stored = shape if order == "C" else shape[::-1]
        # what is not in the header has not been checked against the size of the file
        if header.tensors.get(str(len(arrays))) != (types[dtype], stored):
            raise ValueError("an array is not as described")
        arrays.append(np.empty(shape, dtype, "C" if order == "C" else "F"))
        return arrays[-1]

    tree = from_json(header.metadata["tree"], make, has_objects(header))
    if len(arrays) != len(header.tensors):
        raise ValueError("an array belongs nowhere")
    fill(file, header, arrays)
    return tree


def read_packed(file: io.FileIO, header: Header) -> Any:
    """Return the tree of a file of format 2 or 4."""
    packs = {
        name: np.empty(shape, "uint8" if name == TREE else name)
        for name, (_, shape) in header.tensors.items()
    }
    fill(file, header, list(packs.values()))
    text = packs.pop(TREE).tobytes().decode("ascii")
    used = dict.fromkeys(packs, 0)

    def make(dtype: str, shape: tuple[int, ...], order: str) -> NDArray[Any]:
        start = used[dtype]
        used[dtype] += math.prod(shape)
        return packs[dtype][start : used[dtype]].reshape(shape, order="C" if order == "C" else "F")

    tree = from_json(text, make, has_objects(header))
    if any(used[dtype] != len(pack) for dtype, pack in packs.items()):
        raise ValueError("an array belongs nowhere")
    return tree


def fill(file: io.FileIO, header: Header, arrays: list[NDArray[Any]]) -> None:
    """Read a file's tensors into arrays, and refuse them if the digest says so."""
    flat, sizes = [bytes_of(a) for a in arrays], [a.nbytes for a in arrays]
    hashes = hashes_of(sizes, from_file(file, header.offsets, sizes, flat))
    if digest_of(header.metadata, hashes) != header.metadata["digest"]:
        raise ValueError("its content does not match its digest")
    if sys.byteorder == "big":
        for a in arrays:
            a.byteswap(inplace=True)


def packed_tensors(text: str, arrays: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file of format 2 or 4."""
    tensors: dict[str, NDArray[Any]] = {TREE: np.frombuffer(text.encode("ascii"), np.uint8)}
    for name in TENSOR_TYPES:
        dtype = np.dtype(name).newbyteorder("<")
        flat = [a.reshape(-1) for a in arrays if a.dtype == dtype]
        if flat:
            tensors[name] = np.concatenate(flat, dtype=dtype)
    return tensors


def same_bits(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    """Whether two sets of tensors hold the same bits."""
    return all(bytes_of(one[name]) == bytes_of(other[name]) for name in one)


def safetensors() -> Any:
    """Return the library, which only checkpoints need."""
    try:
        import safetensors
        import safetensors.numpy
        import xxhash  # noqa: F401  used by the digest
    except ImportError as error:
        raise ImportError(
            "checkpoints need safetensors and xxhash: pip install 'fastoptim[checkpoint]'"
        ) from error
    return safetensors


def as_os_error(error: Exception) -> Exception:
    """Return the OSError that safetensors' own exception was made from, if it was."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else error
