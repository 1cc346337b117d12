"""Which start of the system this is: what a file held in memory then is gone after the next."""

import contextlib
import hashlib
import os

UNKNOWN = bytes(16)


def boot() -> bytes:
    """Return 16 bytes that no other start of a system has; zeros where systems do not tell."""
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            text = file.read().strip()
        if text:
            return hashlib.blake2b(text.encode(), digest_size=16).digest()
    return UNKNOWN


def is_same(one: bytes) -> bool:
    """Whether something was written since the system was started."""
    return one != UNKNOWN and one == boot() and os.name == "posix"
