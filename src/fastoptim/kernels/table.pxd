"""A table of spans, the stages that a span passes, and the scalars of rules."""

from libc.stdint cimport uint32_t

from fastoptim.kernels.rule cimport Rule, rule_f32, rule_f64

cdef enum:
    MOST_GRAD = 6       # stages that make the gradient

# A loop of option_stages.pxi with its scalars, rounded once to either dtype.
cdef struct Stage:
    rule_f32 f32
    rule_f64 f64
    float[2] c32
    double[2] c64
    Py_ssize_t each     # 0, or its UnitStage

# A stage with a scalar for each unit of a tensor (a column, a row, all of it). Element i of the state,
# or of the rows that a gradient has, is of unit i // inner % count. Example: a matrix of 3 rows and 4
# columns in C order. Its columns are 4 units of inner 1, its rows 3 of inner 4, all of it is 1 of 12.
cdef struct UnitStage:
    rule_f32 f32        # for elements with a scalar each, where the stage's own have one together
    rule_f64 f64
    Py_ssize_t scalars  # one per unit, of the tensor's dtype
    Py_ssize_t inner
    Py_ssize_t count

# A rule and the stages around it, which a block passes. A stage is here only if an option asks for it.
cdef struct Stages:
    const Rule *rule
    int n_grad
    int n_looked        # of these; what they make is looked at before the rule
    int agc             # which of them has a factor for each unit
    int centralize      # which of them has a mean for each unit
    int n_param
    int n_after
    int average         # whether the weights are averaged
    int zero            # whether the gradient is set to zero
    Stage[MOST_GRAD] grad       # each makes the gradient that the next one sees
    Stage[1] param      # changes the parameter before the rule
    Stage[1] after      # changes it after the rule
    Stage start         # makes what the rule changes, where that is not the parameter
    Stage follow        # brings the parameter after it
    Stage project       # a UnitStage, for the parameter
    const Rule *squares  # sums the squares of elements
    Stage averager
    Stage zeroer

cdef enum:
    MOST_DIMS = 64      # NumPy's own limit
    GRID_DOUBLES = 4096  # a tile has the memory of so many, at most

# The tiles of a parameter or a gradient that does not lie as the state does; grid.pyx has an example.
# A row lies along the state's last axis: its cols elements are next to each other in the state. The
# rows follow each other along another axis. Steps of p and g are in bytes, those of the state in
# elements.
cdef struct Grid:
    Py_ssize_t rows
    Py_ssize_t cols
    Py_ssize_t tile_rows
    Py_ssize_t tile_cols
    Py_ssize_t tiles_down
    Py_ssize_t tiles_across
    Py_ssize_t s_down
    Py_ssize_t[2] p_step        # one row down, one column across
    Py_ssize_t[2] g_step
    bint p_copied               # whether a tile of p is copied to scratch memory
    bint g_copied
    bint whole_rows             # whether a tile's rows follow each other in all three
    int n_outer                 # the other axes, the last one fastest
    Py_ssize_t[MOST_DIMS] outer
    Py_ssize_t[MOST_DIMS] s_outer
    Py_ssize_t[MOST_DIMS] p_outer
    Py_ssize_t[MOST_DIMS] g_outer

# How the numbers of an array are kept; see codecs.pxi.
cdef enum Code:
    PLAIN
    BFLOAT16
    FLOAT16
    UNSIGNED
    SIGNED
    N_CODES

cdef enum:
    CODE_BLOCK = 256    # numbers that have their largest in common, where codes have 8 bits

cdef struct Codecs:
    const Rule *random_bits
    const Rule *both_to_bfloat16
    const Rule *decode[5]       # N_CODES
    const Rule *encode[5]       # with random bits
    const Rule *nearest[5]      # without

# The arrays of a key that are kept as codes: its state, its parameter or its gradient. A block of 8-bit
# codes has at most 256 numbers and does not span rows. Example: a parameter of shape (2, 300) has rows
# of 300 and 4 blocks: of 256, 44, 256, 44.
cdef struct Codes:
    const Codecs *codecs
    int[6] state                # a Code for each slot
    Py_ssize_t[6] largest       # addresses of a float for each block
    Py_ssize_t row              # elements of a row, or 0 where nothing is kept in blocks
    uint32_t[4] streams         # of random bits: each for two slots, the last for the parameter
    int p                       # the parameter's Code, PLAIN if it is numbers
    bint has_master             # whether a span's p is a copy of it as numbers
    Py_ssize_t p_codes
    int g                       # the gradient's Code

# What a walk does with a span. All of it, except where a tensor has to be known as a whole between two
# parts.
cdef enum Part:
    LOOK = 1            # sum the squares of the parameter and of the gradient that the rule will see
    RULE = 2            # the rule, and the gradient's zeroing
    FOLLOW = 4          # the parameter takes the step that the rule made apart from it
    PROJECT = 8         # the scalar of each unit
    FINISH = 16         # the stages after the rule
    WHOLE = 18

# Addresses are integers, so that the table can be a typed memoryview.
cdef struct Span:
    Py_ssize_t p
    Py_ssize_t g
    Py_ssize_t[6] s             # MAX_SLOTS of rule.pxd
    Py_ssize_t average          # if the stages have one
    Py_ssize_t parts            # see Part
    Py_ssize_t step             # 0, or what the rule changes in the place of p
    Py_ssize_t squares          # 0, or two sums for each block: of p, and of the gradient or the step
    double factor               # of the step
    Py_ssize_t first            # the number of its first element among those of its key
    Py_ssize_t codes            # 0, or the Codes that its arrays are kept in
    Py_ssize_t n                # elements of the gradient
    Py_ssize_t rows             # 0, or row numbers: g's row k is for row rows[k] of p, s and average
    Py_ssize_t length           # of a row, in elements
    Py_ssize_t grid             # 0, or the Grid that p and g lie in
    Py_ssize_t first_block      # blocks in the spans before this one
    Py_ssize_t n_blocks
    Py_ssize_t coefs            # row of the coefficients
    Py_ssize_t stages           # its Stages
    Py_ssize_t is_double

cdef enum Fit:
    FITS
    TOO_SMALL           # 0 in float32
    TOO_LARGE           # infinite in float32
    NOT_FINITE

cdef class Table:
    cdef Span[::1] memory
    cdef Span *spans                    # the same
    cdef Py_ssize_t count               # spans in use
    cdef Py_ssize_t n_blocks            # of all of them, once they are numbered
    cdef Py_ssize_t work                # their cost, in elements
    cdef float[:, ::1] c32              # coefficients: a row for each set of them
    cdef double[:, ::1] c64

    cdef int make_room(self, Py_ssize_t count) except -1
    cdef void number_blocks(self) noexcept
    cdef Fit set_coefs(self, Py_ssize_t row, tuple values) except *
    cdef tuple values_of(self, Py_ssize_t row, Py_ssize_t n)
    cdef Fit fit(self, Py_ssize_t row, Py_ssize_t k) noexcept

cdef Py_ssize_t blocks_of(Py_ssize_t n) noexcept nogil
cdef float rounded(double x) noexcept nogil
cdef void set_bare(Stages *stages, const Rule *rule) noexcept
cdef Fit set_scalar(Stage *stage, double value) noexcept

cdef inline Span *add_span(Table table, Py_ssize_t n, bint is_double) noexcept:
    """Return a new span of n elements that lie in a row; there must be room for it."""
    cdef Span *span = &table.spans[table.count]
    span.n = n
    span.is_double = is_double
    span.rows = span.grid = span.average = span.coefs = span.step = span.squares = 0
    span.first = span.codes = 0
    span.parts = WHOLE
    table.count += 1
    return span
