"""Adafactor's step: its length, and second moments that are two vectors.

What the loops of adafactor.pxi take as given is computed here, in three passes over units that do not
depend on each other, each pass one parallel region:

 squares   a unit is a strip of a matrix's rows, of about 16,384 elements. The squares of its elements
           are summed by row and by column, and its rows have their new r. Of a key whose second moment
           is whole a unit is 16,384 elements, and the squares of the step are summed.
 columns   a unit is 512 columns of a matrix: the strips' sums are added, and the columns have their
           new c and their factors. The unit with the first columns sums up r.
 steps     a strip again: its rows have their factors, and the squares of the step are summed.

The second and the third pass have nothing to do for a key whose second moment is whole. Units depend on
a key's shape alone, and sums are of doubles in a fixed order. So threads change no bit. Elements are
read in C order, from a copy where an array lies otherwise, so layouts change none, either.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cython cimport floating
from libc.math cimport INFINITY, sqrt
from libc.string cimport memcpy, memset

from fastoptim.kernels.driver cimport gradient, share, survey
from fastoptim.kernels.factors cimport Strip
from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport Span, Stages, Table, add_span, rounded
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.detours cimport Detour, Half, TouchedRows
from fastoptim.kernels.update.pipeline cimport Pipeline, pass_of
from fastoptim.kernels.update.store cimport Record, is_factored

from fastoptim.kernels.update.checks.row_grads import not_whole

cnp.import_array()

cdef enum:
    CHUNK = 512                 # elements; see adafactor.pxi
    STRIP = 16384               # elements, about
    STRIP_ROWS = 64             # at least: the sums by column then take 1/32 of the gradients' memory


# ---------------------------------------------------------------- one call of a loop

cdef inline void run_loop(
    const Rule *rule, floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    if floating is float:
        rule.f32(p, g, s, c, n)
    else:
        rule.f64(p, g, s, c, n)


cdef inline double sum_of(const Loops *loops, const double *x, Py_ssize_t n) noexcept nogil:
    cdef double total
    cdef double *out = &total
    loops.sum.f64(NULL, x, &out, NULL, n)
    return total


cdef inline const floating *seen(
    const Stages *stages, floating *p, const floating *g, floating *scratch, Py_ssize_t n, Py_ssize_t at
) noexcept nogil:
    """Return the gradient as the rule sees it, which may be made in scratch memory."""
    return gradient(stages, stages.n_grad, p, g, scratch, scratch + CHUNK, n, at)


cdef void over_rows(
    const Rule *rule, const Part *part, Strip *strip, Py_ssize_t first, Py_ssize_t rows, floating *_
) noexcept nogil:
    """Send some rows of a key through a loop; stages that make the gradient work on 512 elements."""
    cdef floating[2 * CHUNK] scratch
    cdef floating *p = <floating *> part.p + first * strip.cols
    cdef const floating *g = <const floating *> part.g + first * strip.cols
    cdef floating *s[1]
    cdef Py_ssize_t i = 0, n = rows * strip.cols, width
    s[0] = <floating *> strip
    if part.stages.n_grad == 0:
        strip.at = 0
        run_loop(rule, p, g, s, <const floating *> NULL, n)
        return
    while i < n:
        if strip.cols <= CHUNK:
            width = min(CHUNK // strip.cols * strip.cols, n - i)
        else:
            width = min(<Py_ssize_t> CHUNK, strip.cols - i % strip.cols)
        strip.at = i
        run_loop(
            rule, p, seen(part.stages, p + i, g + i, &scratch[0], width, first * strip.cols + i), s,
            <const floating *> NULL, width,
        )
        i += width


# ---------------------------------------------------------------- units

cdef void squares_of_strip(
    const Loops *loops, const Part *part, const double *c, Py_ssize_t unit, floating *_
) noexcept nogil:
    """Sum the squares of a strip by row and by column; let its rows have their new r."""
    cdef Strip strip
    cdef Py_ssize_t i, cols = part.factors.cols
    cdef Py_ssize_t first = unit % part.strips * part.strip_rows
    cdef Py_ssize_t rows = min(part.strip_rows, part.factors.rows - first)
    cdef const floating *r
    cdef floating *new_r
    first += unit // part.strips * part.factors.rows
    r, new_r = <const floating *> part.r + first, <floating *> part.new_r + first
    strip.cols = cols
    strip.row_sums, strip.col_sums = part.sums + first, part.col_sums + unit * cols
    memset(strip.row_sums, 0, rows * sizeof(double))
    memset(strip.col_sums, 0, cols * sizeof(double))
    over_rows(loops.squares, part, &strip, first, rows, _)
    for i in range(rows):
        new_r[i] = <floating> (c[0] * r[i] + c[1] * (strip.row_sums[i] / cols + c[2]))


cdef void squares_of_elements(
    const Loops *loops, const Part *part, const floating *c, Py_ssize_t unit
) noexcept nogil:
    """Sum the squares of the step that a key whose second moment is whole would make with α = 1."""
    cdef floating[2 * CHUNK] scratch
    cdef floating *s[2]
    cdef floating *p = <floating *> part.p
    cdef const floating *g = <const floating *> part.g
    cdef Py_ssize_t i = unit * STRIP, end = min(part.n, i + STRIP), width = CHUNK
    if part.stages.n_grad == 0:
        width = STRIP
    while i < end:
        width = min(width, end - i)
        s[0] = <floating *> part.v + i
        s[1] = <floating *> (part.sums + i // CHUNK)
        run_loop(
            loops.adafactor_squares, p, seen(part.stages, p + i, g + i, &scratch[0], width, i), s, c,
            width,
        )
        i += width


cdef void factors_of_columns(
    const Loops *loops, const Part *part, const double *c, Py_ssize_t unit, floating *_
) noexcept nogil:
    """Add the strips' sums of some columns; let these have their new c and their factors."""
    cdef Py_ssize_t cols = part.factors.cols, rows = part.factors.rows, i, _k
    cdef Py_ssize_t matrix = unit // part.chunks, first = unit % part.chunks * CHUNK
    cdef Py_ssize_t n = min(<Py_ssize_t> CHUNK, cols - first)
    cdef double *total = part.col_sums + matrix * part.strips * cols + first
    cdef const double *more = total
    cdef const floating *old = <const floating *> part.c + matrix * cols + first
    cdef floating *new = <floating *> part.new_c + matrix * cols + first
    cdef floating *factor = <floating *> part.factors.col + matrix * cols + first
    cdef const floating *r
    for _k in range(1, part.strips):
        more += cols
        for i in range(n):
            total[i] += more[i]
    for i in range(n):
        new[i] = <floating> (c[0] * old[i] + c[1] * (total[i] / rows + c[2]))
        factor[i] = <floating> (1.0 / sqrt(<double> new[i]))
    if first == 0:              # the rows' sums are not needed any more
        r = <const floating *> part.new_r + matrix * rows
        total = part.sums + matrix * rows
        for i in range(rows):
            total[i] = r[i]
        part.means[matrix] = sum_of(loops, total, rows) / rows


cdef void step_of_strip(
    const Loops *loops, const Part *part, Py_ssize_t unit, floating *_
) noexcept nogil:
    """Let a strip's rows have their factors; sum the squares of the step with α = 1 by row."""
    cdef Strip strip
    cdef Py_ssize_t matrix = unit // part.strips, i
    cdef Py_ssize_t first = unit % part.strips * part.strip_rows
    cdef Py_ssize_t rows = min(part.strip_rows, part.factors.rows - first)
    cdef double mean = part.means[matrix]
    cdef const floating *r
    cdef floating *factor
    first += matrix * part.factors.rows
    r, factor = <const floating *> part.new_r + first, <floating *> part.factors.row + first
    for i in range(rows):
        factor[i] = <floating> sqrt(mean / <double> r[i])
    if part.most == INFINITY:
        return
    strip.cols, strip.row_sums = part.factors.cols, part.sums + first
    strip.row = factor
    strip.col = <const floating *> part.factors.col + matrix * part.factors.cols
    memset(strip.row_sums, 0, rows * sizeof(double))
    over_rows(loops.factored_squares, part, &strip, first, rows, _)


# ---------------------------------------------------------------- passes

cdef void squares(void *work, Py_ssize_t unit, Py_ssize_t end) noexcept nogil:
    """Do the units of the first pass."""
    cdef const Parts *parts = <const Parts *> work
    cdef const Part *part = parts.part
    cdef const double *c64
    while unit < end:
        while unit >= part.first_strip + part.n_strips:
            part += 1
        c64 = parts.c64 + part.row_of_coefs * parts.row64
        if part.factored and part.is_double:
            squares_of_strip(&parts.loops, part, c64, unit - part.first_strip, <double *> NULL)
        elif part.factored:
            squares_of_strip(&parts.loops, part, c64, unit - part.first_strip, <float *> NULL)
        elif part.most < INFINITY and part.is_double:
            squares_of_elements(&parts.loops, part, c64, unit - part.first_strip)
        elif part.most < INFINITY:
            squares_of_elements(
                &parts.loops, part, parts.c32 + part.row_of_coefs * parts.row32,
                unit - part.first_strip,
            )
        unit += 1


cdef void columns(void *work, Py_ssize_t unit, Py_ssize_t end) noexcept nogil:
    """Do the units of the second pass."""
    cdef const Parts *parts = <const Parts *> work
    cdef const Part *part = parts.part
    cdef const double *c64
    while unit < end:
        while unit >= part.first_chunk + part.n_chunks:
            part += 1
        c64 = parts.c64 + part.row_of_coefs * parts.row64
        if part.is_double:
            factors_of_columns(&parts.loops, part, c64, unit - part.first_chunk, <double *> NULL)
        else:
            factors_of_columns(&parts.loops, part, c64, unit - part.first_chunk, <float *> NULL)
        unit += 1


cdef void steps(void *work, Py_ssize_t unit, Py_ssize_t end) noexcept nogil:
    """Do the units of the third pass."""
    cdef const Parts *parts = <const Parts *> work
    cdef const Part *part = parts.part
    while unit < end:
        while unit >= part.first_strip + part.n_strips:
            part += 1
        if part.factored and part.is_double:
            step_of_strip(&parts.loops, part, unit - part.first_strip, <double *> NULL)
        elif part.factored:
            step_of_strip(&parts.loops, part, unit - part.first_strip, <float *> NULL)
        unit += 1


# ---------------------------------------------------------------- an update

@cython.final
cdef class Factored(Prelude):
    """The prelude of Adafactor."""

    def __cinit__(self):
        self.params = Table()
        self.room, self.block_sums = np.zeros(8), np.zeros(8)
        self.copies, self.copying = {}, []

    def __dealloc__(self):
        PyMem_Free(self.parts.part)

    cdef int check(self, Call call) except -1:
        """Refuse gradients of rows: means are over whole tensors."""
        cdef Detour detour
        for detour in call.detours or ():
            if type(detour) is TouchedRows:
                raise not_whole(
                    detour.record.key, call.gradients[call.place_of(detour.k)],
                    (<Pipeline> call.plan.pipelines[detour.record.group]).owner,
                )
        return 0

    cdef int prepare(self, Call call) except -1:
        """Note what each key needs, and ask for all memory."""
        cdef Detour detour
        cdef Part *part
        cdef Py_ssize_t k
        self.make_parts(call)
        self.give_memory()
        self.copying = []
        for detour in call.detours or ():
            if type(detour) is Half:        # its span has both in C order
                continue
            part = &self.parts.part[detour.k]
            part.p = self.in_order(detour.record, "p", detour.param)
            part.g = self.in_order(detour.record, "g", detour.grad)
        self.params.count = 0
        self.params.make_room(self.parts.count)
        for k in range(self.parts.count):
            part = &self.parts.part[k]
            add_span(self.params, part.n, part.is_double).g = part.p
        self.params.number_blocks()
        if self.params.n_blocks > cnp.PyArray_SIZE(self.block_sums):
            self.block_sums = np.zeros(2 * self.params.n_blocks)
        return 0

    cdef int make_parts(self, Call call) except -1:
        """Note of each key where it is, how it is cut into units, and its group's numbers."""
        cdef Table table = call.table
        cdef Py_ssize_t k, i, first_row = 0, strip = 0, chunk = 0
        cdef int group = -1, alpha = 0
        cdef double least = -1.0, most = INFINITY
        cdef Pipeline pipeline = None
        cdef Record record
        cdef Span *span
        cdef Part *part
        cdef void *memory
        if table.count > self.room_for:
            memory = PyMem_Realloc(self.parts.part, table.count * sizeof(Part))
            if memory == NULL:
                raise MemoryError
            self.parts.part, self.room_for = <Part *> memory, table.count
        self.parts.count = table.count
        for k in range(table.count):
            first_row = max(first_row, table.spans[k].coefs + 1)
        table.set_coefs(first_row + table.count, ())
        for k in range(table.count):
            record, span, part = call.records[k], &table.spans[k], &self.parts.part[k]
            if record.group != group:
                group = record.group
                pipeline = call.plan.pipelines[group]
                owner = pipeline.owner
                least = owner.eps2 if owner.scale_parameter else -1.0
                most = INFINITY if owner.d is None else owner.d
                alpha = pipeline.fixed.rule.coefs - 1
            for i in range(alpha + 1):
                table.c64[first_row + k, i] = table.c64[span.coefs, i]
                table.c32[first_row + k, i] = table.c32[span.coefs, i]
            span.coefs = first_row + k
            part.row_of_coefs, part.alpha, part.least, part.most = span.coefs, alpha, least, most
            part.is_double, part.n, part.p, part.g = span.is_double, record.size, span.p, span.g
            part.factored = is_factored(record, pipeline)
            part.first_strip, part.first_chunk = strip, chunk
            if part.factored:
                part.r, part.c = span.s[0], span.s[1]
                part.factors.rows = record.dims[record.ndim - 2]
                part.factors.cols = record.dims[record.ndim - 1]
                part.matrices = part.n // (part.factors.rows * part.factors.cols)
                part.strip_rows = max(<Py_ssize_t> STRIP_ROWS, STRIP // part.factors.cols)
                part.strips = (part.factors.rows + part.strip_rows - 1) // part.strip_rows
                part.chunks = (part.factors.cols + CHUNK - 1) // CHUNK
                part.n_strips = part.matrices * part.strips
                part.n_chunks = part.matrices * part.chunks
            else:
                part.v = span.s[0]
                part.chunks = (part.n + CHUNK - 1) // CHUNK
                part.n_strips = (part.n + STRIP - 1) // STRIP
                part.n_chunks = 0
            strip += part.n_strips
            chunk += part.n_chunks
        return 0

    cdef int give_memory(self) except -1:
        """Give each key its part of the memory, which is used again."""
        cdef Py_ssize_t k, rows, cols, needed = 0
        cdef Part *part
        cdef double *place
        for k in range(self.parts.count):
            part = &self.parts.part[k]
            if part.factored:
                rows, cols = part.matrices * part.factors.rows, part.matrices * part.factors.cols
                needed += part.matrices + 3 * rows + 2 * cols + cols * part.strips
            else:
                needed += part.chunks
        if needed > cnp.PyArray_SIZE(self.room):
            self.room = np.empty(needed)
        place = <double *> cnp.PyArray_DATA(self.room)
        for k in range(self.parts.count):
            part = &self.parts.part[k]
            part.sums = place
            if not part.factored:
                place += part.chunks
                continue
            rows, cols = part.matrices * part.factors.rows, part.matrices * part.factors.cols
            part.means = place + rows
            part.col_sums = part.means + part.matrices
            place = part.col_sums + cols * part.strips
            part.new_r = <Py_ssize_t> place
            part.factors.row = <Py_ssize_t> (place + rows)
            part.new_c = <Py_ssize_t> (place + 2 * rows)
            part.factors.col = <Py_ssize_t> (place + 2 * rows + cols)
            place += 2 * rows + 2 * cols
        return 0

    cdef Py_ssize_t in_order(self, Record record, str kind, cnp.ndarray array) except -1:
        """Return the address of an array in C order, which may be that of a copy yet to be made."""
        if cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array):
            return <Py_ssize_t> cnp.PyArray_DATA(array)
        owner, copy = self.copies.get((record.key, kind), (None, None))
        if owner is not record:
            copy = np.empty((<object> array).shape, array.dtype)
            self.copies[record.key, kind] = record, copy
        self.copying.append((copy, array))
        return <Py_ssize_t> cnp.PyArray_DATA(copy)

    cdef int compute(self, Call call, int team) except -1:
        """Compute the new vectors, the factors and α; lead each key of matrices to its loop."""
        cdef Py_ssize_t k, strips = 0, chunks = 0
        cdef const Rule *rule
        cdef const Rule *of_squares = pass_of("survey")
        cdef Table table = call.table
        cdef Part *part
        cdef Span *span
        for copy, array in self.copying:
            cnp.PyArray_CopyInto(copy, array)
        for k in range(self.parts.count):
            part, span = &self.parts.part[k], &table.spans[k]
            part.stages = <const Stages *> span.stages
            strips, chunks = strips + part.n_strips, chunks + part.n_chunks
            if part.factored:
                rule = pass_of("factored" if part.stages.rule.slots == 1 else "factored_momentum")
                part.own = part.stages[0]
                part.own.rule = rule
                span.stages = <Py_ssize_t> &part.own
                span.s[0], span.s[1] = 0, <Py_ssize_t> &part.factors
        self.parts.loops = Loops(
            pass_of("squares"), pass_of("factored_squares"), pass_of("adafactor_squares"),
            pass_of("sum"),
        )
        self.parts.c64, self.parts.c32 = &table.c64[0, 0], &table.c32[0, 0]
        self.parts.row64, self.parts.row32 = table.c64.shape[1], table.c32.shape[1]
        cdef double *out = <double *> cnp.PyArray_DATA(self.block_sums)
        with nogil:
            survey(of_squares, 1.0, self.params, out, team)
            share(squares, &self.parts, strips, call.flush, team)
            share(columns, &self.parts, chunks, call.flush, team)
            share(steps, &self.parts, strips, call.flush, team)
        self.settle(call)
        return 0

    cdef void settle(self, Call call) noexcept:
        """Set α of each key: with the size of p, and of the step if that is too long."""
        cdef const double *sums = <const double *> cnp.PyArray_DATA(self.block_sums)
        cdef Part *part
        cdef Span *span
        cdef Py_ssize_t k, b
        cdef double alpha, size, total
        for k in range(self.parts.count):
            part, span = &self.parts.part[k], &self.params.spans[k]
            alpha = call.table.c64[part.row_of_coefs, part.alpha]
            if part.least >= 0:
                total = 0.0
                for b in range(span.first_block, span.first_block + span.n_blocks):
                    total += sums[b]
                size = sqrt(total / part.n)
                alpha *= size if size > part.least else part.least
            if part.most < INFINITY:
                if part.factored:
                    total = sum_of(&self.parts.loops, part.sums, part.matrices * part.factors.rows)
                else:
                    total = 0.0
                    for b in range(part.chunks):
                        total += part.sums[b]
                size = sqrt(total / part.n) / part.most
                alpha /= size if size > 1.0 else 1.0
            call.table.c64[part.row_of_coefs, part.alpha] = alpha
            call.table.c32[part.row_of_coefs, part.alpha] = rounded(alpha)

    cdef void commit(self, Call call) noexcept:
        """Put the new vectors in their place."""
        cdef Py_ssize_t k, size
        cdef Part *part
        for k in range(self.parts.count):
            part = &self.parts.part[k]
            if part.factored:
                size = sizeof(double) if part.is_double else sizeof(float)
                memcpy(
                    <void *> part.r, <const void *> part.new_r,
                    part.matrices * part.factors.rows * size,
                )
                memcpy(
                    <void *> part.c, <const void *> part.new_c,
                    part.matrices * part.factors.cols * size,
                )
