"""The lock of a folder: one optimizer has it at a time."""

import contextlib
import gc
import os
import weakref

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = "lock"
HAS_LOCKS = fcntl is not None
held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """A folder that is held until this object is gone.

    Parameters
    ----------
    folder : str
        A folder that is there.

    Raises
    ------
    RuntimeError
        Somebody else holds it.
    OSError
        The file cannot be made, or the file system has no locks.
    """

    file: int | None = None

    def __init__(self, folder: str) -> None:
        assert fcntl is not None
        self.path = os.path.join(folder, NAME)
        for attempt in range(3):
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # who had it may have removed it with the folder's last file
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    self.file = file
                    held.add(self)
                    return
            except FileNotFoundError:
                pass
            except BlockingIOError:
                if attempt:
                    os.close(file)
                    raise RuntimeError(
                        f"the folder {folder} is in use: another optimizer, in this process or in "
                        f"another, has its state there; wait for its end, or give each optimizer "
                        f"a folder of its own"
                    ) from None
                gc.collect()  # an optimizer that nobody has any more, but as a cycle
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise RuntimeError(f"the folder {folder} is being removed by another process; try again")

    def is_in_place(self) -> bool:
        """Whether the folder is still the one that is held: it may have been removed, or moved."""
        try:
            return self.file is not None and os.path.samestat(
                os.fstat(self.file), os.stat(self.path)
            )
        except OSError:
            return False

    def release(self) -> None:
        """Let others have the folder."""
        if self.file is not None:
            file, self.file = self.file, None
            os.close(file)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.release()


def forget_all() -> None:
    """In a forked process: the locks are the parent's, which must not wait for this one's end."""
    for one in list(held):
        one.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_all)
