"""Gradients that are products of two matrices, made tile by tile as the rule needs them.

A tile is some whole rows of the parameter. NumPy's BLAS writes it to a scratch, which stays in cache,
and the rule with all its stages runs over it. The scratch is written and read again at once; the whole
gradient is not there. Where a station looks at a tensor as a whole, and for parameters that do not lie
in C order, the same tiles are written into a whole gradient before the stations look at it.

 a) np.matmul makes a tile. np.dot would set its memory to zero first. Measured (4096 × 4096 of a batch
    of 32, float32, two threads of OpenBLAS, 32 tiles): 6.5 ms, and 10.7 with np.dot. Small products are
    np.dot's, which is called faster.
 b) Both say what the processor's flags say of overflows, and a warning is Python. So they are called in
    a context of their own, in which NumPy ignores them. Between the first array that is written and the
    last counter no instruction of Python runs, and so no interrupt arrives.
 c) The first tile is made before anything is written: if one can be made, all can. What is left is
    memory for NumPy's own small objects. If there is none, the tile is tried again.
 d) OpenBLAS's threads and ours both spin, and would wait for each other's time slice at each tile.
    Measured on two cores: 8 ms a change. So updates of tiles stay on one thread, unless `share_threads`
    lets both use the same, or the BLAS has one thread.
"""

import contextvars

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from libc.math cimport isfinite
from libc.string cimport memmove

from fastoptim.kernels cimport threads
from fastoptim.kernels.driver cimport lead_on, run, survey
from fastoptim.kernels.rule cimport MAX_SLOTS, Rule
from fastoptim.kernels.table cimport WHOLE, Codes, Span, Table, add_span, blocks_of
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Copied, Detours, use
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.store cimport PyArray_ISNOTSWAPPED, Record, lies_straight

from fastoptim.kernels.update.blas import blas_threads
from fastoptim.kernels.update.checks.products import checked_factors
from fastoptim.product import for_blas, function_for, tiles_of

cnp.import_array()

cdef enum:
    BLOCK = 1024                # elements; see table.pyx
    PAGE = 4096                 # bytes; see Record.new_array

cdef int take(
    Call call, Detours detours, Record record, cnp.ndarray param, object grad
) except -1:
    """Let a key with a product as its gradient take its detour."""
    cdef Multiplied detour = detours.products.get(record.key)
    x, d = grad._x, grad._d
    if record.ndim == 2 and is_usable(record, x) and is_usable(record, d) and (
        cnp.PyArray_DIM(x, 0) == cnp.PyArray_DIM(d, 0)
        and cnp.PyArray_DIM(x, 1) == record.dims[0] and cnp.PyArray_DIM(d, 1) == record.dims[1]
    ):
        factors = (x, d)
    else:
        x, d = checked_factors(record.key, grad, record.dtype, record.shape)
        factors = (for_blas(x), for_blas(d))
    if detour is None or detour.record is not record:
        detour = Multiplied.__new__(Multiplied)
        detour.record = record
        detours.products[record.key] = detour
    use(call, detour)
    return detour.multiply(call, param, factors)


cdef bint is_usable(Record record, object factor) noexcept:
    """Whether a factor is an array of the parameter's dtype that a BLAS can use: see `for_blas`."""
    cdef cnp.ndarray a
    cdef const cnp.npy_intp *step
    cdef const cnp.npy_intp *dims
    cdef Py_ssize_t size
    if type(factor) is not cnp.ndarray:
        return False
    a = factor
    if (
        cnp.PyArray_TYPE(a) != record.type_num or cnp.PyArray_NDIM(a) != 2
        or not PyArray_ISNOTSWAPPED(a) or not cnp.PyArray_ISALIGNED(a)
    ):
        return False
    step, dims, size = cnp.PyArray_STRIDES(a), cnp.PyArray_DIMS(a), cnp.PyArray_ITEMSIZE(a)
    if step[1] == size:
        return step[0] % size == 0 and step[0] >= dims[1] * size
    return step[0] == size and step[1] % size == 0 and step[1] >= dims[0] * size


cdef bint may_be_cut(Call call, Record record, cnp.ndarray param) except -1:
    """Whether no station looks at the gradient as a whole, and a tile is a span of the parameter."""
    return (
        call.plan.prelude is None
        and not (<Pipeline> call.plan.pipelines[record.group]).of_tensors
        and record.order & cnp.NPY_ARRAY_C_CONTIGUOUS
        and lies_straight(record, param, cnp.NPY_ARRAY_ALIGNED)
    )


@cython.final
cdef class Multiplied(Copied):
    """A gradient that is a product: made as a whole, or tile by tile."""

    def __cinit__(self):
        self.table = Table()
        self.context = contextvars.copy_context()
        self.context.run(np.seterr, all="ignore")

    cdef int multiply(self, Call call, cnp.ndarray param, object factors) except -1:
        """Take over a parameter and the factors of its gradient, all checked."""
        cdef Record record = self.record
        cdef Span *span
        self.x, self.d = factors
        self.tiles, self.there = None, -1
        if self.rows is None:
            self.rows = tiles_of(record.dims[0], record.dims[1], record.dtype.itemsize)
            self.times = function_for(record.size * record.dtype.itemsize)
        self.by_tiles = len(self.rows) > 1 and may_be_cut(call, record, param)
        self.make_room()
        if not self.by_tiles:
            return self.take(call, param, self.whole)
        span = add_span(call.table, record.size, record.type_num == cnp.NPY_DOUBLE)
        span.p = <Py_ssize_t> cnp.PyArray_DATA(param)
        span.g = <Py_ssize_t> cnp.PyArray_DATA(self.scratch)
        self.param, self.grad = param, self.scratch
        if call.products is None:
            call.products = []
        call.products.append(self)
        return 0

    cdef int make_room(self) except -1:
        """Make the memory that the tiles are written to; the other one is let go."""
        cdef Record record = self.record
        cdef Py_ssize_t begin, lead, size = record.dtype.itemsize
        if not self.by_tiles:
            self.scratch = None
            if self.whole is None and record.order & cnp.NPY_ARRAY_C_CONTIGUOUS:
                self.whole = record.new_array(MAX_SLOTS + 1)
            elif self.whole is None:
                self.whole = np.empty(record.shape, record.dtype)
            return 0
        self.whole = None
        if self.scratch is None:
            rows = max([tile.stop - tile.start for tile in self.rows])
            raw = np.empty((BLOCK + rows * record.dims[1]) * size + PAGE, np.uint8)
            lead = <Py_ssize_t> cnp.PyArray_DATA(raw) + BLOCK * size
            begin = (lead // PAGE + 1) * PAGE - PAGE // 4       # the quarter of a page that no slot has
            if begin < lead:
                begin += PAGE
            self.scratch = np.ndarray(
                (rows, record.dims[1]), record.dtype, raw,
                begin - <Py_ssize_t> cnp.PyArray_DATA(raw),
            )
        return 0

    cdef int copy_factors(self) except -1:
        """Multiply copies: a factor lies on memory that is written before the last tile is made."""
        self.x, self.d = self.x.copy(), self.d.copy()
        return 0

    cdef int list_tiles(self) except -1:
        """Note what is multiplied for each tile, and where the tile is made."""
        into = self.scratch if self.by_tiles else self.whole
        if len(self.rows) == 1:
            self.tiles = [(self.x.T, into)]
            return 0
        self.tiles = []
        for rows in self.rows:
            tile = into[:rows.stop - rows.start] if self.by_tiles else into[rows]
            self.tiles.append((self.x[:, rows].T, tile))
        return 0

    cdef int bring_in(self, Call call, int team) except -1:
        """Make the product, or of one that is cut the first tile."""
        cdef Py_ssize_t i
        self.list_tiles()
        if self.by_tiles:
            self.most = 1
            if threads.shared_size > 0 or blas_threads() == 1:
                self.most = threads.most_for(cnp.PyArray_SIZE(self.scratch))
        PyContext_Enter(self.context)
        try:
            for i in range(1 if self.by_tiles else len(self.tiles)):
                self.make(i)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int make(self, Py_ssize_t i) except -1:
        """Make a tile, if it is not in the scratch."""
        x, tile = <tuple> self.tiles[i]
        if not self.by_tiles:
            self.times(x, self.d, tile)
        elif self.there != i:
            self.times(x, self.d, tile)
            self.there = i
        return 0

    cdef void make_surely(self, Py_ssize_t i) noexcept:
        """Make a tile like one that has been made, however little memory there is for the moment."""
        while True:
            try:
                self.make(i)
                return
            except BaseException:       # of memory, in whichever words NumPy says so
                with nogil:             # another thread may free some
                    pass

    # ------------------------------------------------ tile by tile

    cdef void reduce(self, const Rule *rule, double factor, double *sums, int team) noexcept:
        """Reduce each block of the product to a number, as if it were an array.

        A block may begin in one tile and end in the next. What is left of a tile is then moved to the
        place before it, and the next tile is written behind.
        """
        cdef Py_ssize_t i, n, left = 0, size = self.record.dtype.itemsize, last = len(self.tiles) - 1
        cdef cnp.ndarray tile
        cdef char *begin
        cdef Span *span
        team = min(team, self.most)
        self.table.count = 0
        span = add_span(self.table, 0, self.record.type_num == cnp.NPY_DOUBLE)
        PyContext_Enter(self.context)
        for i in range(last + 1):
            self.make_surely(i)
            tile = (<tuple> self.tiles[i])[1]
            begin = <char *> cnp.PyArray_DATA(tile) - left * size
            n = left + cnp.PyArray_SIZE(tile)
            left = n % BLOCK if i < last else 0
            span.g, span.n = <Py_ssize_t> begin, n - left
            self.table.number_blocks()
            with nogil:
                survey(rule, factor, self.table, sums, team)
            sums += blocks_of(span.n)
            memmove(
                <char *> cnp.PyArray_DATA(tile) - left * size, begin + span.n * size, left * size
            )
        PyContext_Exit(self.context)

    cdef bint is_finite(self) noexcept:
        """Whether all numbers of the product are finite."""
        cdef Py_ssize_t i, k
        cdef cnp.ndarray tile
        cdef bint finite = True
        PyContext_Enter(self.context)
        for i in range(len(self.tiles)):
            self.make_surely(i)
            tile = (<tuple> self.tiles[i])[1]
            for k in range(cnp.PyArray_SIZE(tile)):
                if self.record.type_num == cnp.NPY_DOUBLE:
                    finite &= isfinite((<const double *> cnp.PyArray_DATA(tile))[k])
                else:
                    finite &= isfinite((<const float *> cnp.PyArray_DATA(tile))[k])
        PyContext_Exit(self.context)
        return finite

    cdef void run_tiles(self, Call call, bint flush, int team) noexcept:
        """Send each tile through the pipeline of the key's span, as soon as it is made."""
        cdef const Span *whole = &call.table.spans[self.k]
        cdef Py_ssize_t i, first = 0
        cdef cnp.ndarray tile
        cdef Span *span = &self.table.spans[0]
        cdef Codes codes
        team = min(team, self.most)
        self.table.count = 1
        self.table.c32, self.table.c64 = call.table.c32, call.table.c64
        PyContext_Enter(self.context)
        for i in range(len(self.tiles)):
            self.make_surely(i)
            tile = (<tuple> self.tiles[i])[1]
            span[0] = whole[0]
            span.parts = WHOLE          # other keys of its window may go in parts
            if span.codes:
                codes = (<const Codes *> span.codes)[0]
            lead_on(span, &codes, first)
            span.g = <Py_ssize_t> cnp.PyArray_DATA(tile)
            span.n = cnp.PyArray_SIZE(tile)
            self.table.number_blocks()
            with nogil:
                run(self.table, flush, team)
            first += span.n
        PyContext_Exit(self.context)

    cdef void let_go(self) noexcept:
        self.param = self.grad = self.x = self.d = None
        self.tiles = None


cdef int take_off(Call call) noexcept:
    """Take the keys whose gradient is made in tiles off the table."""
    cdef Multiplied detour
    for detour in call.products:
        if detour.by_tiles:
            call.table.spans[detour.k].n = 0
    call.table.number_blocks()
    return 0


cdef int run_products(Call call, bint flush, int team) noexcept:
    """Make the tiles of all products one after the other, and send each through its pipeline."""
    cdef Multiplied detour
    for detour in call.products:
        if detour.by_tiles:
            detour.run_tiles(call, flush, team)
    return 0
