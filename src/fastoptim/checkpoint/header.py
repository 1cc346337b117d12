"""The header of a checkpoint: its formats, and what can be wrong with a file."""

import io
import os
import stat
from importlib.metadata import version
from typing import Any

from fastoptim.checkpoint.files import pread
from fastoptim.checkpoint.tree import parse

FORMAT = "fastoptim checkpoint"
# Versions of the format: tensors of their own, or packed; 3 and 4 are the same for trees in which
# something stands for an object (an optimizer, say); 5 to 8 are 1 to 4 for trees with codes, which
# are arrays of uint8 or uint16.
VERSIONS = ("1", "2", "3", "4", "5", "6", "7", "8")
ARE_PACKED, HAVE_OBJECTS, HAVE_CODES = set("2468"), set("3478"), set("5678")
LONGEST_HEADER = 100_000_000  # safetensors' own limit
OF_ALL = {"format", "format_version", "library_version", "digest"}
METADATA = {n: OF_ALL if n in ARE_PACKED else OF_ALL | {"tree"} for n in VERSIONS}
TENSOR_TYPES = {"float32": "F32", "float64": "F64", "uint8": "U8", "uint16": "U16"}
CODES = {"uint8", "uint16"}
TREE = "tree"  # a tensor of format 2
ANOTHER_COPY = "load another copy, or an older checkpoint"


class OtherFormat(ValueError):
    """A file is no worse for it: this version cannot read it, and another one can."""


def types_in(number: str) -> dict[str, str]:
    """Return the dtypes that arrays of a format have, each with safetensors' name."""
    return {
        name: stored for name, stored in TENSOR_TYPES.items()
        if number in HAVE_CODES or name not in CODES
    }


def new_metadata(packed: bool, objects: bool, codes: bool) -> dict[str, str]:
    """Return who writes a file, and in which format."""
    number = VERSIONS[packed + 2 * objects + 4 * codes]
    return {"format": FORMAT, "format_version": number, "library_version": version("fastoptim")}


class Header:
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
                raise damaged(name, str(error)) from error
            # The library judged the file that has this name now. When another process has put a
            # new checkpoint there since it was opened, both must look at the new one.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(where)):
                break
            with open(where, "rb", buffering=0) as newer:
                os.dup2(newer.fileno(), file.fileno(), inheritable=False)

    def read(self, file: io.FileIO, name: str) -> None:
        """Read the header, and refuse what a checkpoint of this library has not."""
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode):
            raise no_checkpoint(name)
        size = there.st_size
        start = bytearray(8)
        pread(file, memoryview(start), 0)
        length = int.from_bytes(start, "little")
        if size < 8 or length > LONGEST_HEADER:
            raise no_checkpoint(name)
        if 8 + length > size:
            raise truncated(name, size, f"its header alone has {8 + length}")
        text = bytearray(length)
        pread(file, memoryview(text), 8)
        try:
            parsed = parse(bytes(text))
            metadata = parsed.pop("__metadata__", {})
            ours = metadata.get("format") == FORMAT
            ends = [entry["data_offsets"][1] for entry in parsed.values()]
            end = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as e:
            raise no_checkpoint(name) from e
        if not ours:
            raise no_checkpoint(name)
        number = metadata.get("format_version")
        if not isinstance(number, str):
            raise no_checkpoint(name)
        if number not in METADATA:
            raise OtherFormat(
                f"{name} is a checkpoint of format {number!r}, written by "
                f"fastoptim {metadata.get('library_version')!r}; fastoptim {version('fastoptim')} "
                f"reads formats {VERSIONS[0]!r} to {VERSIONS[-1]!r}: use the version that wrote "
                f"it, or a newer one"
            )
        if set(metadata) != METADATA[number]:
            raise damaged(name, "its metadata is not that of a checkpoint")
        if size < end:
            raise truncated(name, size, f"there should be {end}")
        if size > end:
            raise ValueError(
                f"{name} is damaged: {size - end} bytes follow the end of the checkpoint; "
                f"{ANOTHER_COPY}"
            )
        try:
            names = [str(i) for i in range(len(parsed))]
            if number in ARE_PACKED:
                names = [TREE, *(dtype for dtype in types_in(number) if dtype in parsed)]
            entries = {name: parsed[name] for name in names}
            self.offsets = [8 + length + entry["data_offsets"][0] for entry in entries.values()]
            self.tensors = {
                name: (entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()
            }
        except (KeyError, TypeError) as error:
            raise damaged(name, "its arrays are not those of a checkpoint") from error
        expected = {TREE: "U8"} | TENSOR_TYPES
        wrong = number in ARE_PACKED and any(
            (dtype, len(shape)) != (expected[name], 1)
            for name, (dtype, shape) in self.tensors.items()
        )
        if wrong or len(entries) != len(parsed):
            raise damaged(name, "its arrays are not those of a checkpoint")
        self.metadata = metadata


def no_checkpoint(name: str) -> ValueError:
    """Return the error for a file of something else."""
    return ValueError(
        f"{name} is not a checkpoint of fastoptim, or its first bytes are damaged; give a file "
        f"that was saved by fastoptim, or {ANOTHER_COPY}"
    )


def truncated(name: str, size: int, wanted: str) -> ValueError:
    """Return the error for a file that is too short."""
    return ValueError(f"{name} is truncated: it has {size} bytes, {wanted}; {ANOTHER_COPY}")


def damaged(name: str, why: str) -> ValueError:
    """Return the error for a file that has other bits than it was written with."""
    return ValueError(f"{name} is damaged: {why}; {ANOTHER_COPY}")
