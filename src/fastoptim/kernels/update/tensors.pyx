"""What has to be known of a tensor as a whole: its norm, and the norms or means of its units.

Some options need more than the elements of a block: `agc` the norms of a unit (a column), `centralize`
the mean of a row, a rule's `norms` those of the whole tensor. `look` finds them before anything is
written. `trust_ratio` needs the norm of the step, and a constraint on norms that of the parameter after
it: there an update is made in parts (see `Part`), and `run_in_parts` finds what the next one needs.

All is summed in float64, in C order and in pieces that depend on the shape alone. So neither threads,
nor instruction sets, nor layouts change a bit. Arrays that do not lie in C order are copied for that.

The parts of a window of keys follow each other, so what a part has left in the cache is there for the
next one. Measured: docs/tensors.md.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.float cimport DBL_MAX, FLT_MAX
from libc.math cimport INFINITY, sqrt
from libc.string cimport memcpy

from fastoptim.kernels.driver cimport run, run_blocks, set_pieces, sum_units
from fastoptim.kernels.rule cimport Rule
from fastoptim.kernels.table cimport (
    FINISH,
    FOLLOW,
    LOOK,
    PROJECT,
    RULE,
    WHOLE,
    Span,
    Stages,
    Table,
    add_span,
    blocks_of,
    set_bare,
)
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.coefficients cimport set_with_norms
from fastoptim.kernels.update.detours cimport OUT, Detour, TouchedRows, copy_elements
from fastoptim.kernels.update.pipeline cimport MAX_NORM, NOT_PROJECTED, Pipeline, pass_of
from fastoptim.kernels.update.store cimport Record
from fastoptim.kernels.update.survey cimport are_finite

from fastoptim.kernels.update.checks import tensors as refusals

cnp.import_array()

cdef enum:
    WINDOW = 1 << 20            # bytes of steps that are made before the parameters follow
    LINE = 64                   # bytes of a cache line
    ALONE = 1 << 15             # elements whose units one thread sums

# The paper's: a unit of the parameter that is shorter counts as so long.
cdef double LEAST_NORM = 1e-3


cdef inline double held(double factor, Record record) noexcept:
    """Return a factor, or the largest one that a tensor's dtype holds: norms may be as small as they like."""
    return min(factor, DBL_MAX if record.type_num == cnp.NPY_DOUBLE else FLT_MAX)


cdef inline Py_ssize_t padded(Py_ssize_t n_bytes) noexcept:
    return (n_bytes + LINE - 1) // LINE * LINE


@cython.final
cdef class Scalars:
    """The scalars of the units of one tensor."""

    cdef int prepare(self, Tensor tensor, str each, Py_ssize_t count, int axis) except -1:
        """Lay out `count` units along an axis; `each` is the pass for elements of many units."""
        cdef Record record = tensor.record
        cdef const Rule *rule = pass_of(each)
        cdef Units *units = &self.units
        units.n, units.count, units.is_double = tensor.n, count, record.type_num == cnp.NPY_DOUBLE
        units.inner = 1 if count > 1 and axis > 0 else tensor.n // count
        units.p = units.g = units.stages = 0
        set_pieces(units)
        if self.array is None or cnp.PyArray_SIZE(self.array) < count:
            self.array = np.empty(count, record.dtype)
        self.in_c_order.f32, self.in_c_order.f64 = rule.f32, rule.f64
        self.in_c_order.scalars = <Py_ssize_t> cnp.PyArray_DATA(self.array)
        self.in_c_order.inner, self.in_c_order.count = units.inner, count
        self.stage = self.in_c_order
        if type(tensor.detour) is not TouchedRows and count > 1:
            self.stage.inner = record.strides[axis] // record.dtype.itemsize
        return 0

    cdef void put(self, Py_ssize_t unit, double value) noexcept:
        if self.units.is_double:
            (<double *> self.in_c_order.scalars)[unit] = value
        else:
            (<float *> self.in_c_order.scalars)[unit] = <float> value


@cython.final
cdef class Tensor:
    """What an update has to know of one key as a whole."""

    cdef int prepare(self, Call call) except -1:
        """Make room for all that the update will need."""
        cdef const Span *span = &call.table.spans[self.k]
        cdef Record record = self.record
        cdef Pipeline pipeline = self.pipeline
        cdef bint some_rows = type(self.detour) is TouchedRows
        cdef int last = record.ndim - 1
        self.n, self.is_done = span.n, False
        if some_rows:
            self.check_rows()
        self.in_order = not span.rows and not span.grid and (
            some_rows or record.order & cnp.NPY_ARRAY_C_CONTIGUOUS
        )
        self.p = None
        if not self.in_order:
            self.p_copy = self.room(self.p_copy)
            if not some_rows:
                self.p = self.detour.param if self.detour is not None else (
                    call.arrays[call.place_of(self.k)]
                )
                self.g_copy = self.room(self.g_copy)
                if pipeline.trusts and self.step is None:
                    self.step = record.new_array(0)
        self.has_agc = pipeline.agc != 0
        if self.has_agc:
            if self.agc is None:
                self.agc = Scalars()
            self.agc.prepare(self, "scale_each", 1 if self.is_vector() else record.dims[last], last)
        self.has_means = pipeline.centralizes and record.ndim > 1 and self.n > self.rows()
        if self.has_means:
            if self.means is None:
                self.means = Scalars()
            self.means.prepare(self, "shift_each", self.rows(), 0)
        if pipeline.projects != NOT_PROJECTED:
            if self.bounds is None:
                self.bounds = Scalars()
            if record.ndim < 2:
                self.bounds.prepare(self, "scale_each", 1, 0)
            elif pipeline.by_row:
                self.bounds.prepare(self, "scale_each", self.rows(), 0)
            else:
                self.bounds.prepare(self, "scale_each", record.dims[last], last)
        return 0

    cdef int check_rows(self) except -1:
        """Refuse what some rows of a tensor, or some of its elements, do not say."""
        cdef TouchedRows detour = self.detour
        cdef Pipeline pipeline = self.pipeline
        cdef bint by_element = detour.given.values.ndim < self.record.ndim
        if by_element and (pipeline.agc != 0 or pipeline.centralizes):
            raise refusals.of_elements(pipeline.owner, self.record.key)
        if pipeline.projects != NOT_PROJECTED and (
            by_element or self.record.ndim < 2 or not pipeline.by_row
        ):
            raise refusals.of_norms(pipeline.owner, self.record.key, self.record.ndim)
        return 0

    cdef bint is_vector(self) noexcept:
        """Whether at most one axis is longer than 1."""
        cdef int i, longer = 0
        for i in range(self.record.ndim):
            longer += self.record.dims[i] > 1
        return longer <= 1

    cdef Py_ssize_t rows(self) noexcept:
        """How many rows there are, or come with the gradient."""
        if type(self.detour) is TouchedRows:
            return self.n // (<TouchedRows> self.detour).length
        return self.record.dims[0]

    cdef cnp.ndarray room(self, cnp.ndarray memory):
        """Return memory for all elements."""
        if memory is None or cnp.PyArray_SIZE(memory) < self.n:
            return np.empty(self.n, self.record.dtype)
        return memory

    cdef int connect(self, Call call) except -1:
        """Let the span have stages of its own, with its own scalars."""
        cdef Span *span = &call.table.spans[self.k]
        cdef Stages *own = &call.own_stages[self.k]
        if span.stages != <Py_ssize_t> own:
            own[0] = (<const Stages *> span.stages)[0]
            span.stages = <Py_ssize_t> own
        if self.has_agc:
            own.grad[own.agc].each = <Py_ssize_t> &self.agc.stage
        if self.has_means:
            own.grad[own.centralize].each = <Py_ssize_t> &self.means.stage
        if self.pipeline.projects != NOT_PROJECTED:
            own.project.each = <Py_ssize_t> &self.bounds.stage
        self.stages = own[0]
        if self.has_agc:
            self.stages.grad[own.agc].each = <Py_ssize_t> &self.agc.in_c_order
        if self.has_means:
            self.stages.grad[own.centralize].each = <Py_ssize_t> &self.means.in_c_order
        self.g = None
        if not self.in_order and self.p is not None:
            self.g = self.detour.grad_seen() if self.detour is not None else (
                call.gradients[call.place_of(self.k)]
            )
        return 0

    # Addresses in C order, of copies that are made now where there have to be any.

    cdef Py_ssize_t ordered_p(self, const Span *span) noexcept:
        if self.in_order:
            return span.p
        if self.p is not None:
            copy_in_order(self.p, self.n, self.p_copy)
        else:
            self.gather_rows(span)
        return <Py_ssize_t> cnp.PyArray_DATA(self.p_copy)

    cdef Py_ssize_t ordered_g(self, const Span *span) noexcept:
        if self.g is None:
            return span.g
        copy_in_order(self.g, self.n, self.g_copy)
        return <Py_ssize_t> cnp.PyArray_DATA(self.g_copy)

    cdef Py_ssize_t ordered_step(self, const Span *span) noexcept:
        if self.p is None:          # of rows: it lies as the gradient
            return span.step
        copy_in_order(self.step, self.n, self.g_copy)
        return <Py_ssize_t> cnp.PyArray_DATA(self.g_copy)

    cdef void gather_rows(self, const Span *span) noexcept:
        cdef Py_ssize_t k, n_bytes = span.length * cnp.PyArray_ITEMSIZE(self.p_copy)
        cdef const Py_ssize_t *rows = <const Py_ssize_t *> span.rows
        for k in range(span.n // span.length if span.length else 0):
            memcpy(
                <char *> cnp.PyArray_DATA(self.p_copy) + k * n_bytes,
                <const char *> span.p + rows[k] * n_bytes, n_bytes,
            )


cdef void copy_in_order(cnp.ndarray a, Py_ssize_t n, cnp.ndarray memory) noexcept:
    if cnp.PyArray_NDIM(a) == 0:
        memcpy(cnp.PyArray_DATA(memory), cnp.PyArray_DATA(a), cnp.PyArray_ITEMSIZE(a))
    else:
        copy_elements(a, 0, n, <char *> cnp.PyArray_DATA(memory), OUT)


@cython.final
cdef class Tensors:
    """Looks at tensors as a whole, and runs the updates that need it in parts."""

    def __cinit__(self):
        self.known = {}
        self.copies = Table()
        self.sums = self.pieces = self.squares = np.empty(0)

    cdef int prepare(self, Call call) except -1:
        """List the keys that are concerned, and make room for all that will be found."""
        cdef Py_ssize_t k
        cdef Pipeline pipeline
        cdef Tensor tensor
        cdef Detour detour
        cdef Record record
        cdef dict detours = {}
        self.tensors = []
        for detour in call.detours or ():
            detours[detour.k] = detour
        for k in range(call.table.count):
            record = <Record> call.records[k]
            pipeline = call.plan.pipelines[record.group]
            if not pipeline.of_tensors or call.table.spans[k].n == 0:
                continue
            tensor = self.known.get(record.key)
            if tensor is None or tensor.record is not record:
                tensor = self.known[record.key] = Tensor()
                tensor.record = record
            tensor.k, tensor.pipeline = k, pipeline
            tensor.detour = detours.get(k)
            tensor.prepare(call)
            self.tensors.append(tensor)
        call.make_own_room()
        return self.make_room()

    cdef int make_room(self) except -1:
        cdef Py_ssize_t sums = 0, pieces = 0, squares = 0, steps = 0, largest = 0, n
        cdef Tensor tensor
        cdef Scalars one
        for tensor in self.tensors:
            for one in (tensor.agc, tensor.means, tensor.bounds):
                if one is not None:
                    sums = max(sums, 2 * one.units.count)
                    n = one.units.pieces
                    pieces = max(pieces, n * one.units.count if one.units.inner == 1 else n)
            tensor.squares = squares
            squares += 2 * blocks_of(tensor.n)
            if tensor.pipeline.trusts and tensor.p is None:
                n = padded(tensor.n * tensor.record.dtype.itemsize)
                steps += n
                largest = max(largest, n)
        if sums > self.sums.shape[0]:
            self.sums = np.empty(sums)
        if pieces > self.pieces.shape[0]:
            self.pieces = np.empty(pieces)
        if squares > self.squares.shape[0]:
            self.squares = np.empty(squares)
        n = min(steps, max(largest, <Py_ssize_t> WINDOW)) + LINE
        if steps and (self.step_memory is None or cnp.PyArray_SIZE(self.step_memory) < n):
            self.step_memory = np.empty(n, np.uint8)
            self.steps = padded(<Py_ssize_t> cnp.PyArray_DATA(self.step_memory))
        self.copies.make_room(len(self.tensors))
        return 0

    # ------------------------------------------------ before anything is written

    cdef int look(self, Call call, int team) except -1:
        """Find what the rules and the stages before them have to know."""
        cdef Tensor tensor
        cdef bint norms = False
        for tensor in self.tensors:
            tensor.connect(call)
            if tensor.has_agc:
                self.clip(call, tensor, team)
            if tensor.has_means:
                self.centralize(call, tensor, team)
            norms |= tensor.pipeline.norms
        if norms:
            self.set_norms(call, team)
        return 0

    cdef int clip(self, Call call, Tensor tensor, int team) except -1:
        """Set the factor of each unit of a gradient: at most 1, and so that its norm is in bounds."""
        cdef const Span *span = &call.table.spans[tensor.k]
        cdef Units *units = &tensor.agc.units
        cdef double *of_g = &self.sums[0]
        cdef double *of_p = &self.sums[units.count]
        cdef double most, norm
        cdef Py_ssize_t unit, g = tensor.ordered_g(span)
        cdef Span gradient
        units.p, units.g, units.stages = tensor.ordered_p(span), g, 0
        self.sum(units, "survey", "column_squares", call.factor, of_g, team)
        units.g = 0
        self.sum(units, "survey", "column_squares", 1.0, of_p, team)
        for unit in range(units.count):
            norm, most = sqrt(of_g[unit]), sqrt(of_p[unit])
            if norm == INFINITY:
                gradient = span[0]
                gradient.g = g
                if are_finite(&gradient):
                    raise refusals.too_large(tensor.record.key)
            most = tensor.pipeline.agc * (LEAST_NORM if most < LEAST_NORM else most)
            tensor.agc.put(unit, 1.0 if norm <= most else most / norm)
        return 0

    cdef int centralize(self, Call call, Tensor tensor, int team) except -1:
        """Set the mean of each row of a gradient."""
        cdef const Span *span = &call.table.spans[tensor.k]
        cdef Units *units = &tensor.means.units
        cdef int before = tensor.stages.n_looked
        cdef Py_ssize_t unit
        units.p, units.g = tensor.ordered_p(span), tensor.ordered_g(span)
        units.stages = <Py_ssize_t> &tensor.stages
        tensor.stages.n_looked = tensor.stages.centralize
        self.sum(units, "total", "total", 1.0, &self.sums[0], team)
        tensor.stages.n_looked = before
        for unit in range(units.count):
            tensor.means.put(unit, self.sums[unit] / units.inner)
        return 0

    cdef void sum(
        self, const Units *units, str of_run, str of_each, double factor, double *sums, int team
    ) noexcept:
        """Sum the elements of each unit, or their squares."""
        cdef const Rule *run_rule = pass_of(of_run)
        cdef const Rule *each_rule = pass_of(of_each)
        cdef double *pieces = &self.pieces[0]
        if units.n < ALONE:
            team = 1
        with nogil:
            sum_units(run_rule, each_rule, units, factor, pieces, sums, team)

    cdef int set_norms(self, Call call, int team) except -1:
        """Give rules their tensors' norms: of the parameter, and of the gradient that they will see."""
        cdef Table table = call.table
        cdef Tensor tensor
        cdef Span *span
        cdef Py_ssize_t k
        self.copies.count = 0
        for k in range(table.count):
            table.spans[k].parts = 0
        for tensor in self.tensors:
            span = &table.spans[tensor.k]
            if not tensor.pipeline.norms:
                continue
            if tensor.in_order:
                span.parts = LOOK
                span.squares = self.sums_of(tensor)
            else:
                self.add_copy(
                    tensor, tensor.ordered_p(span), tensor.ordered_g(span), &tensor.stages
                )
        with nogil:
            run(table, call.flush, team)
        self.look_at_copies(call.flush, team)
        for k in range(table.count):
            table.spans[k].parts = WHOLE
            table.spans[k].squares = 0
        for tensor in self.tensors:
            if tensor.pipeline.norms:
                set_with_norms(call, tensor.k, self.norm(tensor, 0), self.norm(tensor, 1))
        return 0

    cdef Py_ssize_t sums_of(self, Tensor tensor) noexcept:
        """Return where the sums of a tensor's blocks are."""
        return <Py_ssize_t> &self.squares[tensor.squares]

    cdef void add_copy(
        self, Tensor tensor, Py_ssize_t p, Py_ssize_t g, const Stages *stages
    ) noexcept:
        """Add to what is looked at in C order; there is room for all tensors."""
        cdef Span *span = add_span(self.copies, tensor.n, tensor.record.type_num == cnp.NPY_DOUBLE)
        span.p, span.g, span.stages = p, g, <Py_ssize_t> stages
        span.parts = LOOK
        span.squares = self.sums_of(tensor)

    cdef void look_at_copies(self, bint flush, int team) noexcept:
        if self.copies.count:
            self.copies.number_blocks()
            with nogil:
                run(self.copies, flush, team)
            self.copies.count = 0

    cdef double norm(self, Tensor tensor, int which) noexcept:
        """Return the norm of a parameter (0), or of the gradient or step (1), that was looked at."""
        cdef double squares = 0.0
        cdef Py_ssize_t b
        for b in range(blocks_of(tensor.n)):
            squares += self.squares[tensor.squares + 2 * b + which]
        return sqrt(squares)

    # ------------------------------------------------ from here on nothing can fail, and asks for memory

    cdef void run_number(self, Call call, Table few, Py_ssize_t place, Py_ssize_t k) noexcept:
        """Update a parameter that is a number, in a table of numbers."""
        cdef Py_ssize_t t, begin = 0, beyond = 0
        for t in range(len(self.tensors)):
            if (<Tensor> self.tensors[t]).k == k:
                begin, beyond = t, t + 1
                (<Tensor> self.tensors[t]).place = place
        self.run_window(few, call.flush, place, place + 1, begin, beyond, 1)
        if beyond:
            (<Tensor> self.tensors[begin]).is_done = True

    cdef void run_in_parts(self, Call call, int team) noexcept:
        """Update all keys, a window of them after the other."""
        cdef Table table = call.table
        cdef Py_ssize_t first = 0, end, size, n, t = 0, began
        cdef Tensor tensor
        while first < table.count:
            end, size, began = first, 0, t
            while end < table.count:
                if t < len(self.tensors) and (<Tensor> self.tensors[t]).k == end:
                    tensor = <Tensor> self.tensors[t]
                    n = padded(tensor.n * (8 if tensor.record.type_num == cnp.NPY_DOUBLE else 4))
                    if size and size + n > WINDOW:
                        break
                    size += n
                    tensor.place = end
                    t += 1
                end += 1
            self.run_window(table, call.flush, first, end, began, t, team)
            first = end

    cdef void run_window(
        self, Table table, bint flush, Py_ssize_t first, Py_ssize_t end, Py_ssize_t begin,
        Py_ssize_t beyond, int team
    ) noexcept:
        """Update the spans from first to end, in as many parts as the tensors among them need."""
        cdef Span *span
        cdef Tensor tensor
        cdef Py_ssize_t k, t, steps = self.steps
        cdef bint trusts = False, projects = False
        for t in range(begin, beyond):
            tensor = <Tensor> self.tensors[t]
            if tensor.is_done:
                continue
            span = &table.spans[tensor.place]
            if tensor.pipeline.trusts:
                trusts = True
                span.parts = RULE
                if tensor.p is None:
                    span.step = steps
                    steps += padded(tensor.n * (8 if tensor.record.type_num == cnp.NPY_DOUBLE else 4))
                else:
                    span.step = <Py_ssize_t> cnp.PyArray_DATA(tensor.step)
                if tensor.in_order:
                    span.squares = self.sums_of(tensor)
            if tensor.pipeline.projects != NOT_PROJECTED:
                projects = True
                span.parts = RULE
        self.walk(table, flush, first, end, team)
        if trusts:
            self.find_factors(table, flush, begin, beyond, team)
            for k in range(first, end):
                table.spans[k].parts = 0
            for t in range(begin, beyond):
                tensor = <Tensor> self.tensors[t]
                if tensor.pipeline.trusts and not tensor.is_done:
                    table.spans[tensor.place].parts = FOLLOW | (
                        FINISH if tensor.pipeline.projects == NOT_PROJECTED else 0
                    )
            self.walk(table, flush, first, end, team)
        if projects:
            for k in range(first, end):
                table.spans[k].parts = 0
            for t in range(begin, beyond):
                tensor = <Tensor> self.tensors[t]
                if tensor.pipeline.projects != NOT_PROJECTED and not tensor.is_done:
                    self.project(tensor, &table.spans[tensor.place], team)
                    table.spans[tensor.place].parts = PROJECT | FINISH
            self.walk(table, flush, first, end, team)

    cdef void walk(
        self, Table table, bint flush, Py_ssize_t first, Py_ssize_t end, int team
    ) noexcept:
        cdef const Span *last = &table.spans[end - 1]
        cdef Py_ssize_t block = table.spans[first].first_block
        cdef Py_ssize_t beyond = last.first_block + last.n_blocks
        if beyond > block:
            with nogil:
                run_blocks(table, flush, block, beyond, team)

    cdef void find_factors(
        self, Table table, bint flush, Py_ssize_t begin, Py_ssize_t beyond, int team
    ) noexcept:
        """Set what each step is multiplied by: the ratio of the norms, within its bounds."""
        cdef Tensor tensor
        cdef Pipeline pipeline
        cdef Span *span
        cdef double p, step, ratio
        cdef Py_ssize_t t
        set_bare(&self.bare, pass_of("zero"))        # only looked at
        self.bare.squares = pass_of("both_squares")
        for t in range(begin, beyond):
            tensor = <Tensor> self.tensors[t]
            if tensor.pipeline.trusts and not tensor.in_order and not tensor.is_done:
                span = &table.spans[tensor.place]
                self.add_copy(
                    tensor, tensor.ordered_p(span), tensor.ordered_step(span), &self.bare
                )
        self.look_at_copies(flush, team)
        for t in range(begin, beyond):
            tensor = <Tensor> self.tensors[t]
            pipeline = tensor.pipeline
            if pipeline.trusts and not tensor.is_done:
                p, step = self.norm(tensor, 0), self.norm(tensor, 1)
                ratio = 1.0
                if p != 0.0 and step != 0.0 and pipeline.lr != 0.0:
                    ratio = p / (step / pipeline.lr)
                    if ratio < pipeline.least_ratio:
                        ratio = pipeline.least_ratio
                    if ratio > pipeline.most_ratio:
                        ratio = pipeline.most_ratio
                table.spans[tensor.place].factor = held(ratio, tensor.record)

    cdef void project(self, Tensor tensor, const Span *span, int team) noexcept:
        """Set what each unit of a parameter is multiplied by to have the norm that it may have."""
        cdef Pipeline pipeline = tensor.pipeline
        cdef Units *units = &tensor.bounds.units
        cdef double norm
        cdef Py_ssize_t unit
        units.p = tensor.ordered_p(span)
        self.sum(units, "survey", "column_squares", 1.0, &self.sums[0], team)
        for unit in range(units.count):
            norm = sqrt(self.sums[unit])
            if norm <= pipeline.most_unit and pipeline.projects == MAX_NORM or norm == 0.0:
                tensor.bounds.put(unit, 1.0)
            else:
                tensor.bounds.put(unit, held(pipeline.most_unit / norm, tensor.record))

    cdef void end(self) noexcept:
        """Let go of the caller's arrays."""
        cdef Tensor tensor
        for tensor in self.tensors or ():
            tensor.p = tensor.g = tensor.detour = tensor.pipeline = None
        self.tensors = None
