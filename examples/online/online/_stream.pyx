"""The loop over the examples of a stream, without the GIL: score, loss, gradient, one step of a rule.

A model is a table with a row for each feature, and a bias. An example has few features, so few rows: they
are copied side by side, with their state, and the bias behind them, the rule is called once for all of
them, and they are copied back. A rule looks at each element by itself, so the bits are those of one call
for each row, and a call costs as much as some ten elements.

    Logistic              a row is one weight        z = b + Σ wⱼ xⱼ
    Softmax               one weight per class       z = b + Σ Wⱼ xⱼ
    FactorisationMachine  a weight and k factors     z = b + Σ wⱼ xⱼ + ½ Σ_f ((Σ vⱼf xⱼ)² − Σ (vⱼf xⱼ)²)

The last term is Σ over pairs of features of ⟨vᵢ, vⱼ⟩ xᵢ xⱼ (S. Rendle, ICDM 2010). Sums are in double, in the
order in which they are written here.
"""

import numpy as np

from cython cimport floating
from libc.math cimport exp, fabs, log, log1p
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from fastoptim cimport MAX_SLOTS, RULE_ABI, Rule, find_rule


cdef const Rule *rule_named(str name) except NULL:
    cdef const Rule *rule = find_rule(name.encode())
    if rule == NULL:
        raise ValueError(f"fastoptim has no rule {name!r}")
    if rule.abi != RULE_ABI or rule.slots > MAX_SLOTS:
        raise ImportError("compiled for another fastoptim than the installed one; build it again")
    return rule


def slots_of(str kernel):
    """Return how many state arrays a rule has."""
    return rule_named(kernel).slots


cdef struct Shape:
    Py_ssize_t width        # of a row
    Py_ssize_t scores       # of an example: 1, or one for each class
    Py_ssize_t bias         # as many, or 0: there is none
    bint factors            # whether rows are a weight and factors


cdef inline void gather(
    floating *rows, const floating *table, const int32_t *index, Py_ssize_t n, Py_ssize_t width
) noexcept nogil:
    cdef Py_ssize_t k
    if width == 1:
        for k in range(n):
            rows[k] = table[index[k]]
        return
    for k in range(n):
        memcpy(rows + k * width, table + index[k] * width, width * sizeof(floating))


cdef inline void scatter(
    const floating *rows, floating *table, const int32_t *index, Py_ssize_t n, Py_ssize_t width
) noexcept nogil:
    cdef Py_ssize_t k
    if width == 1:
        for k in range(n):
            table[index[k]] = rows[k]
        return
    for k in range(n):
        memcpy(table + index[k] * width, rows + k * width, width * sizeof(floating))


cdef inline void scores_of(
    const Shape *shape, const floating *p, const floating *x, Py_ssize_t n, double *z, double *sums
) noexcept nogil:
    """Write an example's scores z and, for factors, the sums Σ vⱼf xⱼ. The bias lies behind its n rows."""
    cdef Py_ssize_t k, c, width = shape.width
    cdef double total = 0, squares = 0, product
    for c in range(shape.scores):
        z[c] = p[n * width + c] if shape.bias else 0
    if width == 1:
        total = z[0]
        for k in range(n):
            total += <double> p[k] * x[k]
        z[0] = total
    elif not shape.factors:
        for k in range(n):
            for c in range(width):
                z[c] += <double> p[k * width + c] * x[k]
    else:
        for c in range(1, width):
            sums[c] = 0
        for k in range(n):
            z[0] += <double> p[k * width] * x[k]
            for c in range(1, width):
                product = <double> p[k * width + c] * x[k]
                sums[c] += product
                squares += product * product
        for c in range(1, width):
            total += sums[c] * sums[c]
        z[0] += 0.5 * (total - squares)


cdef inline double probabilities(Py_ssize_t n, double *z) noexcept nogil:
    """Let scores become probabilities; return what their logarithms are less than the scores."""
    cdef double most, e, total = 0
    cdef Py_ssize_t c
    if n == 1:
        e = exp(-fabs(z[0]))
        most = z[0] if z[0] > 0 else 0
        z[0] = 1 / (1 + e) if z[0] >= 0 else e / (1 + e)
        return most + log1p(e)
    most = z[0]
    for c in range(1, n):
        most = z[c] if z[c] > most else most
    for c in range(n):
        z[c] = exp(z[c] - most)
        total += z[c]
    for c in range(n):
        z[c] /= total
    return most + log(total)


cdef inline double loss_and_slope(Py_ssize_t n, double *z, int32_t label) noexcept nogil:
    """Let scores become the gradient of the cross-entropy by them, and return that."""
    cdef double score
    if n == 1:
        score = z[0] if label else 0
        score = probabilities(n, z) - score
        z[0] -= label
        return score
    score = z[label]
    score = probabilities(n, z) - score
    z[label] -= 1
    return score


cdef inline void gradient(
    const Shape *shape, const floating *p, const floating *x, Py_ssize_t n, const double *d,
    const double *sums, floating *g
) noexcept nogil:
    """Write the gradient of an example's rows and bias; d is that by its scores."""
    cdef Py_ssize_t k, c, width = shape.width
    if width == 1:
        for k in range(n):
            g[k] = <floating> (d[0] * x[k])
    elif not shape.factors:
        for k in range(n):
            for c in range(width):
                g[k * width + c] = <floating> (d[c] * x[k])
    else:
        for k in range(n):
            g[k * width] = <floating> (d[0] * x[k])
            for c in range(1, width):
                g[k * width + c] = <floating> (
                    d[0] * x[k] * (sums[c] - <double> p[k * width + c] * x[k])
                )
    for c in range(shape.bias):
        g[n * width + c] = <floating> d[c]


cdef struct Arrays:
    # Of float or double, as all of a stream's arrays are; the state has one array per slot.
    void *table
    void *bias
    void *state
    void *bias_state
    void *scratch           # 2 + slots rows of `room` elements: parameters, gradient, state
    Py_ssize_t features, room
    double *z
    double *sums


cdef void learn_rows(
    const Rule *rule, const Shape *shape, const Arrays *arrays, const floating *c, Py_ssize_t stride,
    const int64_t *bounds, const int32_t *index, const floating *values, const int32_t *labels,
    Py_ssize_t examples, double *losses,
) noexcept nogil:
    """Learn examples one after the other; `stride` is from one's coefficients to the next's."""
    cdef Py_ssize_t i, k, n, m, width = shape.width, n_bias = shape.bias
    cdef floating *table = <floating *> arrays.table
    cdef floating *bias = <floating *> arrays.bias
    cdef floating *state = <floating *> arrays.state
    cdef floating *bias_state = <floating *> arrays.bias_state
    cdef floating *p = <floating *> arrays.scratch
    cdef floating *g = p + arrays.room
    cdef floating *s[MAX_SLOTS]
    cdef const floating *x
    cdef const int32_t *j
    for k in range(rule.slots):
        s[k] = g + (1 + k) * arrays.room
    for i in range(examples):
        n = bounds[i + 1] - bounds[i]
        m = n * width
        j, x = index + bounds[i], values + bounds[i]
        gather(p, table, j, n, width)
        memcpy(p + m, bias, n_bias * sizeof(floating))
        for k in range(rule.slots):
            gather(s[k], state + k * arrays.features * width, j, n, width)
            memcpy(s[k] + m, bias_state + k * n_bias, n_bias * sizeof(floating))
        scores_of(shape, p, x, n, arrays.z, arrays.sums)
        losses[i] = loss_and_slope(shape.scores, arrays.z, labels[i])
        gradient(shape, p, x, n, arrays.z, arrays.sums, g)
        if floating is float:
            rule.f32(p, g, s, c + i * stride, m + n_bias)
        else:
            rule.f64(p, g, s, c + i * stride, m + n_bias)
        scatter(p, table, j, n, width)
        memcpy(bias, p + m, n_bias * sizeof(floating))
        for k in range(rule.slots):
            scatter(s[k], state + k * arrays.features * width, j, n, width)
            memcpy(bias_state + k * n_bias, s[k] + m, n_bias * sizeof(floating))


cdef void predict_rows(
    const Shape *shape, const Arrays *arrays, const int64_t *bounds, const int32_t *index,
    const floating *values, Py_ssize_t examples, double *out,
) noexcept nogil:
    cdef Py_ssize_t i, n
    cdef floating *p = <floating *> arrays.scratch
    for i in range(examples):
        n = bounds[i + 1] - bounds[i]
        gather(p, <floating *> arrays.table, index + bounds[i], n, shape.width)
        memcpy(p + n * shape.width, arrays.bias, shape.bias * sizeof(floating))
        scores_of(shape, p, values + bounds[i], n, out + i * shape.scores, arrays.sums)
        probabilities(shape.scores, out + i * shape.scores)


cdef Py_ssize_t longest(
    const int64_t *bounds, Py_ssize_t examples, const int32_t *index, Py_ssize_t n_index, Py_ssize_t features
) noexcept nogil:
    """Return the most features of an example; −1 for bounds or features that are none."""
    cdef Py_ssize_t i, k, most = 0
    cdef int64_t start, end
    if bounds[0] < 0:
        return -1
    for i in range(examples):
        start, end = bounds[i], bounds[i + 1]
        if end < start or end > n_index:
            return -1
        most = max(most, end - start)
        for k in range(start, end):
            if index[k] < 0 or index[k] >= features or k > start and index[k] <= index[k - 1]:
                return -1
    return most


cdef class Stream:
    """A model's arrays and its rule, and the loop over them; see models.py.

    Parameters
    ----------
    kernel : str
        A rule's name.
    scores : int
        Of an example: 1, or the number of classes.
    table, bias : arrays, (features, width) and (scores,) or (0,)
    state, bias_state : arrays, (slots, features, width) and (slots, scores or 0)
    """

    cdef const Rule *rule
    cdef Shape shape
    cdef Arrays arrays
    cdef bint is_double, busy
    cdef readonly object table, bias, state, bias_state
    cdef object scratch, doubles

    def __init__(self, str kernel, Py_ssize_t scores, table, bias, state, bias_state):
        cdef double[::1] doubles
        if self.rule != NULL:
            raise RuntimeError("a stream is made once")
        cdef const Rule *rule = rule_named(kernel)
        features, width = table.shape
        shapes = [(features, width), bias.shape, (rule.slots, features, width), (rule.slots, *bias.shape)]
        given = [a.shape for a in (table, bias, state, bias_state)]
        if given != shapes or bias.shape not in ((0,), (scores,)) or scores not in (1, width):
            raise ValueError(f"arrays of shapes {given} are for no {scores} scores of {kernel}")
        self.is_double = table.dtype == np.float64
        self.table, self.bias, self.state, self.bias_state = table, bias, state, bias_state
        self.shape = Shape(width, scores, len(bias), width > 1 and scores == 1)
        self.scratch, self.doubles = np.empty(0, table.dtype), np.empty(scores + width)
        doubles = self.doubles
        self.arrays = Arrays(
            self.address(table), self.address(bias), self.address(state), self.address(bias_state), NULL,
            features, 0, &doubles[0], &doubles[scores],
        )
        self.rule = rule

    cdef void *address(self, array) except? NULL:
        """Return where an array of the stream's dtype begins."""
        cdef double[::1] doubles
        cdef float[::1] floats
        if not array.flags.c_contiguous:
            raise ValueError("arrays must lie in C order")
        if self.is_double:
            doubles = array.reshape(-1)
            return &doubles[0]
        floats = array.reshape(-1)
        return &floats[0]

    cdef const void *read_only(self, array, Py_ssize_t n) except? NULL:
        """Return where n numbers of the stream's dtype begin that are only read."""
        cdef const double[::1] doubles
        cdef const float[::1] floats
        if len(array) != n:
            raise ValueError(f"expected {n} numbers, got {len(array)}")
        if self.is_double:
            doubles = array
            return &doubles[0]
        floats = array
        return &floats[0]

    cdef int make_room(
        self, const int64_t *bounds, Py_ssize_t examples, const int32_t *index, Py_ssize_t n_index
    ) except -1:
        """Check examples, and let the scratch hold the longest of them."""
        cdef Py_ssize_t most, room
        if self.rule == NULL:
            raise RuntimeError("call __init__ of the model first")
        if self.busy:
            raise RuntimeError("another thread is using this model")
        most = longest(bounds, examples, index, n_index, self.arrays.features)
        if most < 0:
            raise ValueError(
                f"an example's features must be numbers in [0, {self.arrays.features}), each once and in "
                f"order, and the bounds of examples must be in order, too: x.sum_duplicates() puts them so"
            )
        room = most * self.shape.width + self.shape.bias
        if room > self.arrays.room or self.arrays.scratch == NULL:
            self.scratch = np.empty((2 + self.rule.slots) * (2 * room + 1), self.table.dtype)
            self.arrays.scratch, self.arrays.room = self.address(self.scratch), 2 * room + 1
        return 0

    cdef int run(
        self, scalars, Py_ssize_t n_scalars, const int64_t *bounds, Py_ssize_t examples,
        const int32_t[::1] index, values, const int32_t *labels, double *losses,
    ) except -1:
        cdef Py_ssize_t i, coefs = self.rule.coefs, classes = max(self.shape.scores, 2)
        cdef Py_ssize_t stride = 0 if n_scalars == 1 else coefs
        cdef const void *c
        cdef const void *x = self.read_only(values, index.shape[0])
        self.make_room(bounds, examples, &index[0], index.shape[0])
        if n_scalars not in (1, examples):
            raise ValueError(f"coefficients must be of 1 or {examples} examples, got {n_scalars}")
        c = self.read_only(scalars, n_scalars * coefs)
        for i in range(examples):
            if not 0 <= labels[i] < classes:
                raise ValueError(f"labels must be in [0, {classes}), got {labels[i]}")
        self.busy = True
        with nogil:
            if self.is_double:
                learn_rows(
                    self.rule, &self.shape, &self.arrays, <const double *> c, stride, bounds, &index[0],
                    <const double *> x, labels, examples, losses,
                )
            else:
                learn_rows(
                    self.rule, &self.shape, &self.arrays, <const float *> c, stride, bounds, &index[0],
                    <const float *> x, labels, examples, losses,
                )
        self.busy = False
        return 0

    def run_rows(
        self, scalars, Py_ssize_t n_scalars, const int64_t[::1] bounds, const int32_t[::1] index, values,
        const int32_t[::1] labels, double[::1] losses,
    ):
        """Learn the rows of a sparse matrix; the loss of each is that before it is learned.

        scalars are the rule's coefficients for all examples, or for each, one behind the other.
        """
        if bounds.shape[0] != labels.shape[0] + 1 or losses.shape[0] != labels.shape[0]:
            raise ValueError(
                f"{labels.shape[0]} labels need one bound more and as many losses, got {bounds.shape[0]} "
                f"and {losses.shape[0]}"
            )
        self.run(
            scalars, n_scalars, &bounds[0], labels.shape[0], index, values, &labels[0], &losses[0]
        )

    def run_one(self, scalars, const int32_t[::1] index, values, int32_t label):
        """Learn one example; return its loss before."""
        cdef int64_t[2] bounds
        cdef double loss
        bounds[0], bounds[1] = 0, index.shape[0]
        self.run(scalars, 1, bounds, 1, index, values, &label, &loss)
        return loss

    def run_predict(
        self, const int64_t[::1] bounds, const int32_t[::1] index, values, double[:, ::1] out
    ):
        """Write the probabilities of examples, a row each: of label 1, or of every class."""
        cdef const void *x = self.read_only(values, index.shape[0])
        cdef Py_ssize_t n = out.shape[0]
        if bounds.shape[0] != n + 1 or out.shape[1] != self.shape.scores:
            raise ValueError(f"out has shape ({n}, {out.shape[1]}) for {bounds.shape[0] - 1} examples")
        self.make_room(&bounds[0], n, &index[0], index.shape[0])
        self.busy = True
        with nogil:
            if self.is_double:
                predict_rows(
                    &self.shape, &self.arrays, &bounds[0], &index[0], <const double *> x, n, &out[0, 0]
                )
            else:
                predict_rows(
                    &self.shape, &self.arrays, &bounds[0], &index[0], <const float *> x, n, &out[0, 0]
                )
        self.busy = False
