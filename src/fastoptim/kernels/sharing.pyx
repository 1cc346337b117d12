"""The callback that runs OpenBLAS's jobs on OpenMP's threads, those of the updates.

OpenBLAS cuts a product into jobs and hands them to threads of its own, which spin for about 25 ms
afterwards, beside ours. OpenBLAS from 0.3.28 on takes a callback that runs the jobs instead.
What the callback (sharing.h) sees to:

 a) The jobs of a product wait for one another, so each has a thread of its own, or the process
    hangs. Where OpenMP gives fewer threads than asked for (OMP_THREAD_LIMIT, a call from within a
    parallel region), the jobs left over get threads that are started for them.
 b) One product at a time: OpenBLAS has one buffer per number of a thread. Products of several
    Python threads take turns, as matrix products do inside OpenBLAS anyway.
 c) OpenBLAS's own threads go on for parts of LAPACK, and have the numbers from 0 up. The jobs here
    have the last numbers, so that no buffer is used twice.
 d) A fork waits for the product that another thread is in the middle of. (OpenBLAS has locks
    around its products that no fork waits for: a child forked while another thread multiplies can
    hang in its own first product, with this callback and without it.)
 e) All regions are of one size; see region_size in threads.pyx.
"""

from fastoptim.kernels cimport threads

cdef extern from "sharing.h":
    ctypedef void (*fo_job)(int number, void *job, int data) noexcept nogil
    const bint FO_CAN_SHARE
    void fo_run_jobs(
        int sync, fo_job run, int n, size_t size, void *jobs, int data
    ) noexcept nogil
    int fo_guard_forks() nogil
    void fo_set_sizes(int last_number, int size) nogil

cdef bint guarded = False


def can_share():
    """Whether this build has OpenMP, and threads that a callback may start."""
    return FO_CAN_SHARE


def callback():
    """Return the callback's address."""
    return <size_t> &fo_run_jobs


def begin(int last_number, int size):
    """Let the callback use numbers below last_number, in regions of at least so many threads."""
    global guarded
    if not guarded:
        if fo_guard_forks():
            raise MemoryError("no memory for a fork handler")
        guarded = True
    with nogil:                     # a product in another thread may have its turn
        fo_set_sizes(last_number, size)
    threads.shared_size = size


def end():
    """Let updates choose the size of their regions again."""
    threads.shared_size = 0
