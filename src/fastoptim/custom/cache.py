"""Compiled loops on disk: what has been compiled once on this machine is not compiled again.

An entry is machine code, found by a digest of everything that it was made from, so no entry can be
stale: another constant, dtype, processor or version is another entry. Whatever is wrong with a
folder or a file, the loop is compiled as if there were no cache.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

SUFFIX = ".loop"
MOST = 500  # entries that are kept: about 10 KB each, two for each rule
DIGEST = hashlib.sha256().digest_size
LENGTH = 8  # bytes that say how long the first part is


def folder(chosen: str) -> Path:
    """Return where the entries are: in numba's folder if one was chosen, else in the user's."""
    if chosen:
        return Path(chosen) / "fastoptim" / "loops"
    default = "~/.cache"
    if sys.platform == "darwin":
        default = "~/Library/Caches"
    elif sys.platform == "win32":
        default = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    return Path(os.environ.get("XDG_CACHE_HOME") or default).expanduser() / "fastoptim" / "loops"


def key_of(*made_from: object) -> str:
    """Return the name of an entry: a digest of the texts of what it is made from."""
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:32]


def load(place: Path, key: str) -> tuple[bytes, bytes] | None:
    """Return the two parts of an entry, None if there is none that is whole."""
    try:
        content = (place / (key + SUFFIX)).read_bytes()
    except OSError:
        return None
    digest, content = content[:DIGEST], content[DIGEST:]
    if digest != digest_of(key, content):
        return None
    length = int.from_bytes(content[:LENGTH], "little")
    return content[LENGTH : LENGTH + length], content[LENGTH + length :]


def store(place: Path, key: str, first: bytes, second: bytes) -> None:
    """Write an entry, if the folder allows it.

    It is written beside its place and renamed, so several processes may do so at once, and whoever
    reads meanwhile has a whole entry or none.
    """
    content = len(first).to_bytes(LENGTH, "little") + first + second
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(".tmp", key, place)
        try:
            with open(descriptor, "wb") as file:
                file.write(digest_of(key, content) + content)
            os.replace(temporary, place / (key + SUFFIX))
        finally:
            with contextlib.suppress(OSError):  # it has been renamed
                os.unlink(temporary)
        entries = sorted(place.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in entries[:-MOST]:  # and what processes that were killed have left
            path.unlink(missing_ok=True)


def digest_of(key: str, content: bytes) -> bytes:
    """Return what an entry begins with: a file that was cut, altered or renamed does not fit it."""
    return hashlib.sha256(key.encode() + content).digest()
