"""The mean of a key's weights, where the key has had fewer updates than its optimizer.

The stage of a group averages with the factor 1/(n+1) after n updates of the optimizer. A key that came
later, or had no gradient at times, has a smaller n of its own, and stages of its own with that factor.
"""

from fastoptim.kernels.table cimport Span, Stages, set_scalar
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.store cimport Record


cdef Py_ssize_t averaged(Record record, Py_ssize_t begin, Py_ssize_t iter) noexcept:
    """Return how many updates the mean of a key has in it, of a mean that began at one.

    Nobody counted for a moving average that becomes a mean, nor in the files of earlier versions.
    """
    if record.mean_from == begin:
        return record.averaged
    return iter - begin if record.mean_from < 0 and record.average is not None else 0


cdef Py_ssize_t begin_of(Call call, Record record) noexcept:
    """Return the update at which a key's mean begins, or -1 if it has none."""
    return (<Pipeline> call.plan.pipelines[record.group]).mean_from


cdef int prepare(Call call, Py_ssize_t iter) except -1:
    """Make room for stages of their own, if a key's mean has another count than its group's."""
    cdef Record record
    cdef Py_ssize_t begin
    for record in call.records:
        begin = begin_of(call, record)
        if 0 <= begin <= iter and averaged(record, begin, iter) != iter - begin:
            call.own_means = True
            return call.make_own_room()
    return 0


cdef int set_averagers(Call call, Py_ssize_t iter) noexcept:
    """Let such a key's mean count the key's own updates."""
    cdef Record record
    cdef Py_ssize_t k, n, begin
    cdef Span *span
    cdef Stages *own
    for k in range(len(call.records)):
        record = <Record> call.records[k]
        begin = begin_of(call, record)
        if not 0 <= begin <= iter:
            continue
        n = averaged(record, begin, iter)
        if n == iter - begin:
            continue
        span, own = &call.table.spans[k], &call.own_stages[k]
        if span.stages != <Py_ssize_t> own:         # else clip_norm_per_key has set them
            own[0] = (<Stages *> span.stages)[0]
            span.stages = <Py_ssize_t> own
        set_scalar(&own.averager, 1.0 - <double> n / <double> (n + 1))
    return 0


cdef int count(Call call, Py_ssize_t iter) noexcept:
    """Count an update in each key's mean."""
    cdef Record record
    cdef Py_ssize_t k, begin
    for k in range(len(call.records)):
        record = <Record> call.records[k]
        begin = begin_of(call, record)
        if 0 <= begin <= iter:
            record.averaged = averaged(record, begin, iter) + 1
            record.mean_from = begin
    return 0
