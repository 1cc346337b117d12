"""The most threads that an update may use: what was chosen, what the machine has, after a fork.

 a) OpenMP is asked at each call, so OMP_NUM_THREADS and threadpoolctl work. `set_num_threads` and
    FASTOPTIM_NUM_THREADS take precedence.
 b) More threads than processors are never faster, because an update waits for its last thread. So
    the processors of this process (its affinity mask, the quota of its control group) are the
    limit, unless the number was fixed. Both are read once, at the import.
 c) learning.pyx learns how many of these an update really uses.
 d) After a fork, GNU's OpenMP hangs in the child unless the thread that forks released OpenMP's
    threads just before. If the runtime lacks that call, the child works on one thread.
"""

import os

import numpy as np

from fastoptim.kernels.processors import processors, quota
from fastoptim.porting.answers import shown

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
    MOST_THREADS = 1024         # a larger number is a slip, and libgomp aborts on it

cdef int chosen = 0             # by set_num_threads or FASTOPTIM_NUM_THREADS; 0: ask OpenMP
cdef bint fixed = False         # whether an update uses just that many
cdef bint orphaned = False      # a forked child whose OpenMP would hang
cdef int by_quota = MOST_THREADS if os.environ.get("OMP_NUM_THREADS") else min(MOST_THREADS, quota())
# With OMP_PROC_BIND this thread is bound to one processor by now; OpenMP knows the mask before that.
cdef int by_machine = min(MOST_THREADS, max(processors(), fo_processors()), quota())

shared_size = 0


cdef int max_threads() noexcept nogil:
    if orphaned or FO_OPENMP == 0:
        return 1
    return chosen or max(1, min(fo_max_threads(), fo_thread_limit(), by_quota))


cdef int most_for(Py_ssize_t work) noexcept nogil:
    """Return the most threads that an update of `work` elements may use.

    Measured on two cores (SGD, Adam): two threads are as fast as one at 32,000 elements in all if the
    second thread still spins since the call before, and near 65,000 if it sleeps.
    """
    cdef int most = max_threads()
    if not fixed:
        most = min(most, by_machine)
    return <int> max(1, min(most, work // WORK_PER_THREAD))


cdef bint is_fixed() noexcept nogil:
    return fixed


cdef int region_size(int team) noexcept nogil:
    """Return how many threads a parallel region of a team asks OpenMP for.

    GNU's OpenMP ends threads if a region is smaller than the one before, and starts new ones if it
    is larger. If products and updates share the threads (sharing.pyx), all regions have one size;
    threads without a part of the work go straight to the end.
    """
    return max(team, shared_size)


def set_num_threads(n, bint exactly=False, *, str name="n"):
    """Set the most threads of an update, or exactly how many; None: OpenMP is asked at each call."""
    global chosen, fixed
    cdef int wanted = 0
    if n is not None:
        limit = min(MOST_THREADS, fo_thread_limit()) if FO_OPENMP else MOST_THREADS
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"{name} must be a whole number in [1, {limit}], got {shown(n)}")
        if not 1 <= n <= limit:
            raise ValueError(f"{name} must be a whole number in [1, {limit}], got {shown(n)}")
        wanted = n
    chosen = wanted
    fixed = exactly


def get_num_threads():
    """Return the most threads that an update uses at present."""
    return max_threads()


def is_set():
    """Return whether a number of threads was set, and OpenMP is not asked."""
    return chosen != 0


def learns():
    """Whether the number of threads is learned."""
    return not fixed


def openmp_version():
    """Return the date of the OpenMP standard that this was compiled for, 0 without OpenMP."""
    return FO_OPENMP


def most_in_use():
    """Return the most threads that an update uses, however large: what was set, or the processors."""
    return most_for(<Py_ssize_t> MOST_THREADS * WORK_PER_THREAD)


def work_per_thread():
    """Return how many elements each thread must have before another one takes part."""
    return WORK_PER_THREAD


def machine_limit():
    """Return how many processors this process may use, by affinity mask and quota."""
    return by_machine


# ---------------------------------------------------------------- fork

def fork_handling():
    """Return what a fork does to threads in the child: "threads", "released" or "serial"."""
    if not FO_HANGS_AFTER_FORK:
        return "threads"
    return "released" if fo_can_pause() else "serial"


def release_threads():
    """Before a fork, in the thread that forks: let OpenMP's threads go."""
    fo_pause()


def serial_from_now_on():
    """In a forked child whose OpenMP would hang: enter no parallel region any more."""
    global orphaned
    orphaned = True


if hasattr(os, "register_at_fork"):
    if fork_handling() == "released":
        os.register_at_fork(before=release_threads)
    elif fork_handling() == "serial":
        os.register_at_fork(after_in_child=serial_from_now_on)
