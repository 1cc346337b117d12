"""What a call allocates, without what the interpreter allocates for itself meanwhile."""

import tracemalloc
from pathlib import Path

import fastoptim

LIBRARY = str(Path(fastoptim.__file__).parent / "*")
ARRAYS = 389047  # the domain of tracemalloc in which NumPy reports the memory of arrays


def traced():
    """Bytes that are held by arrays, or were asked for by the library's files."""
    ours = tracemalloc.Filter(inclusive=True, filename_pattern=LIBRARY)
    arrays = tracemalloc.DomainFilter(inclusive=True, domain=ARRAYS)
    snapshot = tracemalloc.take_snapshot().filter_traces([ours, arrays])
    return sum(statistic.size for statistic in snapshot.statistics("filename"))


def kept(call, times=5):
    """Bytes that calls leave behind in arrays and in the library."""
    tracemalloc.start()
    try:
        before = traced()
        for _ in range(times):
            call()
        return traced() - before
    finally:
        tracemalloc.stop()


def peak(call, times=5):
    """Bytes that every call needs at its worst moment: the least over several calls.

    A peak cannot be told apart by file. But what the interpreter allocates for itself, a
    collection's or another thread's, falls into some calls, and what the library needs into all.
    """
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(times):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            call()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        return min(peaks)
    finally:
        tracemalloc.stop()
