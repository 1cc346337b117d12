"""The callback that runs OpenBLAS's jobs on OpenMP's threads, those of the updates.

OpenBLAS cuts a product into jobs and hands them to threads of its own, which spin for about 25 ms
afterwards, beside ours. From 0.3.28 on, OpenBLAS takes a callback that runs the jobs instead.
The callback (sharing.h) keeps these rules:

 a) Each job has a thread of its own. The jobs of a product wait for one another, so with fewer
    threads the process would hang. If OpenMP gives fewer threads than asked for (OMP_THREAD_LIMIT, a
    call from within a parallel region), threads are started for the jobs left over.
 b) One product runs at a time, because OpenBLAS has one buffer per thread number. Products of
    several Python threads take turns, as they do inside OpenBLAS anyway.
 c) The jobs here have the last thread numbers. OpenBLAS's own threads still run parts of LAPACK and
    have the numbers from 0 up, so no buffer is used twice.
 d) A fork waits until the product of another thread is complete. (OpenBLAS has locks of its own
    that no fork waits for. A child forked while another thread multiplies can hang in its own first
    product, with this callback and without it.)
 e) All regions have one size; see region_size in threads.pyx.
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
    """Whether this build has OpenMP and POSIX threads, which the callback needs."""
    return FO_CAN_SHARE


def callback():
    """Return the callback's address."""
    return <size_t> &fo_run_jobs


def begin(int last_number, int size):
    """Let the callback use thread numbers below last_number, in regions of at least `size` threads."""
    global guarded
    if not guarded:
        if fo_guard_forks():
            raise MemoryError("no memory for a fork handler")
        guarded = True
    with nogil:                     # a product in another thread may hold the lock
        fo_set_sizes(last_number, size)
    threads.shared_size = size


def end():
    """Let updates choose the size of their regions again."""
    threads.shared_size = 0
