"""How many threads an update may use at most: what was chosen, what the machine has, after a fork.

 a) OpenMP is asked at each call, so OMP_NUM_THREADS and threadpoolctl work. `set_num_threads` and
    FASTOPTIM_NUM_THREADS come before it.
 b) More threads than processors never pay: an update waits for its last thread. So the processors
    of this process (its affinity mask, the quota of its control group) cap what is used, unless
    the number was fixed. Both are read once, at the import.
 c) How many of these an update really uses is learned (learning.pyx).
 d) After fork, GNU's OpenMP hangs in the child unless its threads were released just before, by
    the thread that forks. Where that call is missing, the child works on one thread.
"""

import os

import numpy as np

from fastoptim.kernels.processors import processors, quota

cdef extern from "platform.h":
    const int FO_OPENMP
    const int FO_HANGS_AFTER_FORK
    int fo_can_pause() nogil
    void fo_pause() nogil
    int fo_max_threads() nogil
    int fo_thread_limit() nogil
    int fo_processors() nogil

cdef enum:
    WORK_PER_THREAD = 32768     # elements; see most_for
    MOST_THREADS = 1024         # more than this is a slip of the finger, and libgomp aborts on it

cdef int chosen = 0             # by set_num_threads or FASTOPTIM_NUM_THREADS; 0: ask OpenMP
cdef bint fixed = False         # whether an update uses just that many
cdef bint orphaned = False      # a forked child whose OpenMP would hang
cdef int by_quota = MOST_THREADS if os.environ.get("OMP_NUM_THREADS") else min(MOST_THREADS, quota())
# With OMP_PROC_BIND the mask of this thread is one processor by now; OpenMP knows the first one.
cdef int by_machine = min(MOST_THREADS, max(processors(), fo_processors()), quota())

shared_size = 0


cdef int max_threads() noexcept nogil:
    if orphaned or FO_OPENMP == 0:
        return 1
    return chosen or max(1, min(fo_max_threads(), fo_thread_limit(), by_quota))


cdef int most_for(Py_ssize_t work) noexcept nogil:
    """Return the most threads that so many elements may use.

    Measured with two cores, one against two threads: they draw level at 32,000 elements in all
    (SGD, Adam) when the second thread still spins from the call before, near 65,000 when it sleeps.
    """
    cdef int most = max_threads()
    if not fixed:
        most = min(most, by_machine)
    return <int> max(1, min(most, work // WORK_PER_THREAD))


cdef bint is_fixed() noexcept nogil:
    return fixed


cdef int region_size(int team) noexcept nogil:
    """Return how many threads a parallel region of a team asks OpenMP for.

    GNU's OpenMP ends threads when a region is smaller than the one before, and starts new ones
    when it is larger. Where regions of several users take turns (sharing.pyx), all of them ask
    for one size; threads without a part of the work go straight to the end.
    """
    return max(team, shared_size)


def set_num_threads(n, bint exactly=False, *, str name="n"):
    """Set the most threads that an update uses, or just how many; None asks OpenMP at each call."""
    global chosen, fixed
    cdef int wanted = 0
    if n is not None:
        limit = min(MOST_THREADS, fo_thread_limit()) if FO_OPENMP else MOST_THREADS
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"{name} must be a whole number in [1, {limit}], got {n!r}")
        if not 1 <= n <= limit:
            raise ValueError(f"{name} must be a whole number in [1, {limit}], got {n!r}")
        wanted = n
    chosen = wanted
    fixed = exactly


def get_num_threads():
    """Return the most threads that an update uses at present."""
    return max_threads()


def learns():
    """Whether the number of threads is learned."""
    return not fixed


def openmp_version():
    """The date of the OpenMP standard that this was compiled for, 0 without OpenMP."""
    return FO_OPENMP


def most_in_use():
    """Return the most threads that an update uses, however large: what was set, or the processors."""
    return most_for(<Py_ssize_t> MOST_THREADS * WORK_PER_THREAD)


def work_per_thread():
    """Return how many elements of work a thread must have for a further one to take part."""
    return WORK_PER_THREAD


def machine_limit():
    """Return how many processors this process may use, by affinity mask and quota."""
    return by_machine


# ---------------------------------------------------------------- fork

def fork_handling():
    """What becomes of threads in a forked child: "threads", "released" or "serial"."""
    if not FO_HANGS_AFTER_FORK:
        return "threads"
    return "released" if fo_can_pause() else "serial"


def release_threads():
    """Before a fork, in the thread that forks: let OpenMP's threads go."""
    fo_pause()


def serial_from_now_on():
    """In a forked child whose OpenMP would hang: never enter a parallel region."""
    global orphaned
    orphaned = True


if hasattr(os, "register_at_fork"):
    if fork_handling() == "released":
        os.register_at_fork(before=release_threads)
    elif fork_handling() == "serial":
        os.register_at_fork(after_in_child=serial_from_now_on)
