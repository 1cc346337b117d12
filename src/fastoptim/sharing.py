"""One set of threads for NumPy's products and for updates: `share_threads`."""

import ctypes
import re
import threading
from typing import Any, NamedTuple, Self

from threadpoolctl import ThreadpoolController

from fastoptim.kernels import sharing, threads

PREFIXES, SUFFIXES = ("", "scipy_"), ("", "64_", "_64", "64")
MOST_NUMBERS = re.compile(r"MAX_THREADS=(\d+)")

WITHOUT = "leave share_threads() out; updates work without it"


class Blas(NamedTuple):
    """An OpenBLAS that takes a callback."""

    path: str
    version: str
    n_threads: int
    own_threads: int  # threads that it has started, in use or not
    numbers: int  # thread numbers that it has buffers for
    set_callback: Any
    before: int | None  # the callback that it had


class SharedThreads:
    """What `share_threads` returns: says what is shared, and takes it back.

    Attributes
    ----------
    libraries : tuple of str
        The OpenBLAS libraries that run on the threads of updates, with their versions.
    n_threads : int
        How many threads there are.
    """

    libraries: tuple[str, ...]
    n_threads: int

    def __init__(self, libraries: tuple[str, ...], n_threads: int) -> None:
        self.libraries, self.n_threads = libraries, n_threads
        self._open = True

    def close(self) -> None:
        """Give OpenBLAS its own threads back; a second call does nothing."""
        if self._open:
            self._open = False
            give_back()

    def __enter__(self) -> Self:
        if not self._open:
            raise RuntimeError("these threads were given back; call share_threads() again")
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._open:
            return "<given back: OpenBLAS runs on threads of its own>"
        if not self.libraries:
            return "<nothing to share: this build has no OpenMP, and updates use no threads>"
        threads = f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"
        return f"<{', '.join(self.libraries)} on the {threads} of fastoptim>"


one_at_a_time = threading.Lock()
shared: list[Blas] = []  # the libraries that have the callback now
users = 0  # SharedThreads that are open


def share_threads() -> SharedThreads:
    """Let NumPy's OpenBLAS run its products on the threads of updates, for the whole process.

    Returns
    -------
    SharedThreads
        A context manager; its `close` takes the sharing back. Call once at the start of a script
        and forget it, or write ``with fo.share_threads():``.

    Raises
    ------
    RuntimeError
        NumPy has no OpenBLAS from 0.3.28 on (but MKL, Accelerate, or an older one), or this
        OpenBLAS has threads of another kind, or too few thread numbers.

    Notes
    -----
    OpenBLAS's threads spin for about 25 ms after each product, and would spin beside those of
    updates. With sharing there is one set of threads, and none waits for another's time slice.
    Products are cut into the same jobs, so they keep their bits. SciPy's own OpenBLAS takes part if
    it is loaded. A forked process goes on sharing. A build without OpenMP has no threads to share:
    nothing changes, and the result says so. docs/threads.md has the rest.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> with fo.share_threads():
    ...     product = np.ones((300, 300)) @ np.ones((300, 300))
    >>> bool((product == 300).all())
    True
    """
    global users
    with one_at_a_time:
        if users == 0 and sharing.can_share():
            install()
        users += 1
        return SharedThreads(described(), region_of(shared))


def give_back() -> None:
    """End one use of the shared threads; the last one restores OpenBLAS."""
    global users
    with one_at_a_time:
        users -= 1
        if users == 0 and shared:
            for one in shared:
                one.set_callback(one.before)
            sharing.end()
            shared.clear()


def install() -> None:
    """Find the OpenBLAS libraries of this process, check all, then hand them the callback."""
    import numpy.linalg  # noqa: F401  loads NumPy's BLAS, if nothing has yet

    found = libraries()
    last_number = min(one.numbers for one in found)
    size = region_of(found)
    for one in found:
        if one.own_threads - 1 + size > last_number:
            raise RuntimeError(
                f"OpenBLAS {one.version} has {one.own_threads} threads and numbers for "
                f"{last_number}; sharing needs {one.own_threads - 1 + size}. Start Python with "
                f"OPENBLAS_NUM_THREADS={(last_number + 1) // 2} or less, or {WITHOUT}"
            )
    sharing.begin(last_number, size)
    for one in found:
        one.set_callback(sharing.callback())
    shared.extend(found)


def region_of(found: list[Blas]) -> int:
    """Return how many threads the regions of products and updates have."""
    return max([threads.most_in_use(), *(one.n_threads for one in found)])


def described() -> tuple[str, ...]:
    """Return the libraries that run on the threads of updates, in words."""
    return tuple(f"OpenBLAS {one.version} ({whose(one.path)})" for one in shared)


def whose(path: str) -> str:
    """Return whose library a path is, as far as the path tells."""
    for package in ("numpy", "scipy"):
        if re.search(rf"[/\\]{package}(\.libs)?[/\\]", path):
            return {"numpy": "NumPy", "scipy": "SciPy"}[package]
    return path


def libraries() -> list[Blas]:
    """Return the OpenBLAS libraries that take a callback; an error if NumPy's does not."""
    loaded = [c for c in ThreadpoolController().lib_controllers if c.user_api == "blas"]
    openblas = [c for c in loaded if c.internal_api == "openblas"]
    found, reasons = [], []
    for controller in openblas:
        try:
            found.append(opened(controller))
        except LookupError as problem:
            reasons.append(str(problem))
    of_others = [
        f"{c.internal_api} {c.version or ''}".strip() for c in loaded if c not in openblas
    ]
    if not any("scipy.libs" not in one.path for one in found):
        there = "; ".join([*reasons, *of_others]) or "a BLAS that threadpoolctl does not know"
        raise RuntimeError(
            f"NumPy's products cannot share threads: that needs OpenBLAS from 0.3.28 on with "
            f"POSIX threads, as NumPy's wheels have it, and this process has {there}; {WITHOUT}"
        )
    return found


def opened(controller: Any) -> Blas:
    """Return an OpenBLAS that can share; LookupError says what it lacks."""
    library = ctypes.CDLL(controller.filepath)
    name = f"OpenBLAS {controller.version or ''}".strip()
    if controller.threading_layer != "pthreads":
        raise LookupError(f"{name} with {controller.threading_layer} threads")
    set_callback = function(library, "set_threads_callback_function")
    get_config = function(library, "get_config")
    if set_callback is None or get_config is None:
        raise LookupError(f"{name}, which takes no callback")
    set_callback.argtypes, set_callback.restype = [ctypes.c_void_p], None
    get_config.argtypes, get_config.restype = [], ctypes.c_char_p
    numbers = MOST_NUMBERS.search(get_config().decode())
    if numbers is None:
        raise LookupError(f"{name}, which does not say how many threads it was built for")
    n_threads = controller.num_threads
    return Blas(
        controller.filepath, controller.version or "", n_threads,
        max(n_threads, variable(library, ctypes.c_int, "blas_num_threads") or 0),
        int(numbers.group(1)), set_callback,
        variable(library, ctypes.c_void_p, "openblas_threads_callback_"),
    )


def function(library: ctypes.CDLL, name: str) -> Any:
    """Return a function of OpenBLAS under whichever name this build gives it, or None."""
    for prefix in PREFIXES:
        for suffix in SUFFIXES:
            found = getattr(library, f"{prefix}openblas_{name}{suffix}", None)
            if found is not None:
                return found
    return None


def variable(library: ctypes.CDLL, kind: Any, name: str) -> Any:
    """Return a variable of OpenBLAS, or None if this build hides it."""
    try:
        return kind.in_dll(library, name).value
    except ValueError:
        return None
