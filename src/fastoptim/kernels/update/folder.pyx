"""The files that an optimizer's state is kept in, if it has a folder for it.

The arrays are mapped files. A ledger, one more mapped file, has what changes at every update: the
counters of the optimizer and of each key, and a pair of numbers, `begun` and `done`. The first is
written before the first byte of an update, the second after the last. A killed process leaves all
that it has written, because the pages of a mapped file are the kernel's. So the two numbers differ if
it was killed in between, and the folder is refused. Names, the index and the lock are the part of
`fastoptim.folder`, which is called where something new is made.

The ledger is rows of 16 words. The first row is of the optimizer, every other one of a key.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.store cimport Record

import os

cnp.import_array()

cdef extern from "mapping.h":
    void *fo_map(int file, size_t n) nogil
    void fo_unmap(void *address, size_t n) nogil
    int fo_flush(void *address, size_t n) nogil
    void fo_store(int64_t *word, int64_t value) nogil

cdef enum:
    ROW = 16                        # words
    # of the optimizer's row
    FORMAT = 0
    BEGUN = 1
    DONE = 2
    FLUSHED = 3                     # whether all is on the disk
    BOOT = 4                        # two words: which start of the system wrote it
    ITER = 6
    SKIPPED = 7
    CLIPPED = 8
    # of a key's row
    ARRAYS = 0                      # a bit for each of its files that has state
    UPDATES = 1
    AVERAGED = 2
    MEAN_FROM = 3
    CARRIED = 4                     # how many numbers follow
    MOST_CARRIED = 11


@cython.final
cdef class Mapped:
    """A file in memory.

    Parameters
    ----------
    file : int
        Descriptor of an open file, which may be closed afterwards.
    size : int
        Bytes, at least 1.
    keeps : object
        Lives as long as the memory.

    Notes
    -----
    `mmap.mmap` and `np.memmap` keep a descriptor for each file, and a process may have a thousand.
    """

    def __init__(self, int file, Py_ssize_t size, keeps=None):
        self.address = <char *> fo_map(file, size)
        if self.address == NULL:
            raise OSError(errno, os.strerror(errno))
        self.size, self.keeps = size, keeps

    def __dealloc__(self):
        if self.address != NULL:
            fo_unmap(self.address, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.address, self.size, 0, flags)

    def place_of(self, cnp.ndarray a not None):
        """Return how far behind the start an array begins."""
        return <char *> cnp.PyArray_DATA(a) - self.address

    def flush(self):
        """Bring the file to the disk, and wait for it."""
        cdef int failed
        with nogil:
            failed = fo_flush(self.address, self.size)
        if failed:
            raise OSError(errno, os.strerror(errno))


@cython.final
cdef class Folder:
    """The station that marks updates, and gives memory that is in files.

    Parameters
    ----------
    files : fastoptim.folder.files.Files
    new : dict
        Its files that no update has used yet.

    Notes
    -----
    What is new is written down in two steps. The index goes to the disk first; then `take` lets this
    object go over to what it says. If an interrupt comes in between, `files.unplaced` stays true, and
    the index is written again as it was before anything else is done.
    """

    def __init__(self, files not None, dict new not None):
        self.files, self.new = files, new

    # ------------------------------------------------ what a store asks for

    cdef object memory_for(self, object record, object name, Py_ssize_t n_bytes):
        """Return n bytes of zeros that begin on a page, for an array of a key: a new file."""
        return np.frombuffer(self.files.new_file((<Record> record).key, name, n_bytes), np.uint8)

    cdef bint owns(self, object a) except -1:
        """Whether an array lies in the folder already, and is to stay there."""
        return self.files.takes_over(a)

    # ------------------------------------------------ what the way of an update asks for

    cdef int begin(self, Call call) except -1:
        """Write down what is new, and mark that an update is under way; all has been checked."""
        cdef Record record
        cdef list new = []
        cdef tuple prepared
        if call.new_states is not None:
            for _, record, _, state, average in call.new_states:
                new.append((record, {**state, None: average}))
        if new or call.plan is not self.plan or self.files.watches or self.ledger is None:
            self.files.open()
            self.found, prepared = self.files.add(new)
            if prepared is not None:
                self.take(prepared)
            for record, _ in new:
                record.row = self.files.row_of(record.key)
            self.plan = call.plan
        return self.mark()

    cdef int mark(self) except -1:
        """Mark that the files are about to be written."""
        if self.ledger is None:         # there has been no update, so there is no state
            return 0
        if self.files.unplaced:
            self.files.open()
        self.note_unflushed()
        self.under_way = True
        fo_store(&self.words[BEGUN], self.words[BEGUN] + 1)
        return 0

    cdef int done(
        self, Call call, Py_ssize_t iter, Py_ssize_t skipped, Py_ssize_t clipped
    ) noexcept:
        """Mark that the update has been made, and write its counts."""
        cdef Py_ssize_t k
        cdef int64_t *row
        for k in range(len(call.records)):
            self.put_row(self.words, call.records[k])
        if self.found is not None:
            for k in range(len(self.found)):
                row = self.words + ROW * <Py_ssize_t> (<tuple> self.found[k])[0]
                row[ARRAYS] |= <int64_t> (<tuple> self.found[k])[1]
            self.found = None
        self.words[ITER], self.words[SKIPPED], self.words[CLIPPED] = iter, skipped, clipped
        self.new.clear()
        return self.unmark()

    cdef int unmark(self) noexcept:
        """Mark that the files are whole."""
        if self.under_way:
            fo_store(&self.words[DONE], self.words[BEGUN])
            self.under_way = False
        return 0

    cdef int count_skipped(self, Py_ssize_t skipped) noexcept:
        """Note an update that was left out, if there is a state to note it beside."""
        if self.ledger is not None:
            self.words[SKIPPED] = skipped
        return 0

    cdef int take(self, tuple prepared) noexcept:
        """Go over to another ledger, which the index on the disk names; no instruction of Python."""
        self.ledger = <Mapped> prepared[2]
        self.words = <int64_t *> self.ledger.address
        self.files.current = (prepared[0], prepared[1])
        self.files.unplaced = self.files.loading = False
        self.files.holds = None
        return 0

    cdef int end(self) except -1:
        """End a call; if it was refused, nothing has changed, and what was made for it goes."""
        self.unmark()
        self.found = None
        if self.new or self.ledger is None:
            self.files.drop_new()
        return 0

    cdef int put_row(self, int64_t *words, object of_key) noexcept:
        """Write the counts of a key into its row."""
        cdef Record record = <Record> of_key
        cdef int64_t *row = words + ROW * record.row
        cdef Py_ssize_t k
        cdef double x
        row[UPDATES], row[AVERAGED], row[MEAN_FROM] = record.t, record.averaged, record.mean_from
        row[CARRIED] = 0
        if record.carried is not None:
            row[CARRIED] = len(record.carried)
            for k in range(len(record.carried)):
                x = record.carried[k]
                memcpy(&row[CARRIED + 1 + k], &x, sizeof(x))
        return 0

    # ------------------------------------------------ what the files ask for

    def fill(self, Mapped ledger not None, list records, tuple counts):
        """Fill a new ledger: with the rows of the one before, or with those of records.

        Parameters
        ----------
        ledger : Mapped
            Of zeros.
        records : list of (Record, int), or None
            Each with the bits of its arrays; their rows are numbered from 1.
        counts : (int, int, int)
            iter, skipped and clipped, if there are records.
        """
        cdef Record record
        cdef int64_t *words = <int64_t *> ledger.address
        cdef Py_ssize_t k
        if records is None and self.ledger is not None:
            memcpy(words, self.words, min(self.ledger.size, ledger.size))
        for k, (record, bits) in enumerate(records or ()):
            record.row = k + 1
            words[ROW * record.row + ARRAYS] = bits
            self.put_row(words, record)
        if records is not None:
            words[ITER], words[SKIPPED], words[CLIPPED] = counts
        words[FORMAT], words[FLUSHED] = 1, 0
        words[DONE] = words[BEGUN]
        put_boot(words, self.files.boot())
        ledger.flush()

    def note_unflushed(self):
        """Let the disk know, before anything else is written, that what it has is not all."""
        if not self.words[FLUSHED]:
            return
        put_boot(self.words, self.files.boot())
        self.words[FLUSHED] = 0
        self.ledger.flush()

    def note_flushed(self):
        """Let the disk know that it has all."""
        self.words[FLUSHED] = 1
        try:
            self.ledger.flush()
        except BaseException:
            self.words[FLUSHED] = 0
            raise

    @property
    def has_ledger(self):
        """Whether anything has been written down."""
        return self.ledger is not None


cdef int put_boot(int64_t *words, bytes boot) except -1:
    """Say which start of the system this is."""
    memcpy(&words[BOOT], <const char *> boot, 16)
    return 0


def rows_of(Mapped ledger not None):
    """Return what a ledger says: of the optimizer, and of each row behind it."""
    cdef const int64_t *words = <const int64_t *> ledger.address
    cdef const int64_t *row
    cdef Py_ssize_t k, n = ledger.size // (ROW * sizeof(int64_t))
    cdef double[MOST_CARRIED] carried
    rows = []
    for k in range(1, n):
        row = words + ROW * k
        memcpy(carried, &row[CARRIED + 1], sizeof(carried))
        rows.append({
            "arrays": row[ARRAYS], "updates": row[UPDATES], "averaged": row[AVERAGED],
            "mean_from": row[MEAN_FROM],
            "carried": tuple([carried[i] for i in range(min(row[CARRIED], MOST_CARRIED))]),
        })
    return {
        "format": words[FORMAT], "begun": words[BEGUN], "done": words[DONE],
        "flushed": words[FLUSHED] != 0, "boot": (<const char *> &words[BOOT])[:16],
        "iter": words[ITER], "skipped": words[SKIPPED], "clipped": words[CLIPPED],
    }, rows
