"""The scalars of the rules, for each span those of its group and its parameter's step."""

cimport numpy as cnp
from libc.math cimport isfinite

from fastoptim.kernels.table cimport FITS, NOT_FINITE, Fit, Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.pipeline cimport Pipeline
from fastoptim.kernels.update.store cimport Record

from fastoptim.kernels.update.checks import factors


cdef int fill(Call call) except -1:
    """Let each span point at its coefficients; refuse what its dtype cannot hold."""
    cdef Table table = call.table
    cdef Py_ssize_t k, t, last_t = -1, row = -1, n_rows = 0
    cdef int last_group = -1
    cdef bint of_tensors = call.plan.of_tensors
    cdef Fit fit = FITS
    cdef dict rows = None   # (group, t, carried) → its row and how it fits, once there is a second
    cdef tuple last_carried = None
    cdef Record record
    for k in range(table.count):
        record = <Record> call.records[k]
        t = record.t + 1
        if of_tensors and (<Pipeline> call.plan.pipelines[record.group]).norms:
            # a row of its own; see tensors.pyx
            row = n_rows
            n_rows += 1
            fit = set_row(call, row, call.plan.pipelines[record.group], record)
            last_t, last_group = -1, record.group
        elif t != last_t or record.group != last_group or record.carried is not last_carried:
            if last_t >= 0 and n_rows == 1 and rows is None:
                rows = {(last_group, last_t, last_carried): (row, fit)}
            last_t, last_group, last_carried = t, record.group, record.carried
            if rows is not None and (last_group, t, last_carried) in rows:
                row, fit = rows[last_group, t, last_carried]
            else:
                row = n_rows
                n_rows += 1
                fit = set_row(call, row, call.plan.pipelines[last_group], record)
                if rows is not None:
                    rows[last_group, t, last_carried] = row, fit
        table.spans[k].coefs = row
        if fit != FITS and record.type_num == cnp.NPY_FLOAT:
            refuse(table, row, call.plan.pipelines[last_group], record)
            fit = FITS
    return check_factors(call)


cdef Fit set_row(Call call, Py_ssize_t row, Pipeline pipeline, Record record) except *:
    """Set the coefficients of a group's parameters at one step."""
    cdef Table table = call.table
    cdef tuple values, carried
    cdef Py_ssize_t k
    cdef Fit fit
    if pipeline.norms:              # those of this update are not known yet
        values = pipeline.coefficients(record.t + 1, 1.0, 1.0)
    elif pipeline.carries:
        values, carried = pipeline.coefficients(record.t + 1, record.carried)
        if call.carried is None:
            call.carried = []
        while len(call.carried) < row:      # a row of a rule that carries nothing
            call.carried.append(None)
        call.carried.append(carried)
    else:
        values = pipeline.coefficients(record.t + 1)
    if len(values) != pipeline.fixed.rule.coefs:
        raise ValueError(
            f"the rule {pipeline.fixed.rule.name.decode()!r} has {pipeline.fixed.rule.coefs} "
            f"coefficients, got {len(values)}"
        )
    fit = table.set_coefs(row, values)
    if fit == NOT_FINITE:
        for k in range(len(values)):
            if table.fit(row, k) == NOT_FINITE:
                raise factors.of_rule(
                    pipeline.owner, values, values[k], record.key, record.t + 1, record.group, "float64"
                )
    return fit


cdef int refuse(Table table, Py_ssize_t row, Pipeline pipeline, Record record) except -1:
    """Refuse coefficients that float32 cannot hold, unless their rounding to 0 does no harm."""
    cdef Py_ssize_t k
    cdef tuple values = table.values_of(row, pipeline.fixed.rule.coefs)
    for k in range(len(values)):
        if table.fit(row, k) == FITS:
            continue
        problem = factors.of_rule(
            pipeline.owner, values, values[k], record.key, record.t + 1, record.group, "float32"
        )
        if problem is not None:
            raise problem
    return 0


cdef int set_with_norms(Call call, Py_ssize_t k, double norm_p, double norm_g) except -1:
    """Set the coefficients of a span whose rule knows the norms of its tensors.

    What float32 makes of them is as NumPy has it: they depend on the numbers trained.
    """
    cdef Record record = call.records[k]
    cdef Pipeline pipeline = call.plan.pipelines[record.group]
    call.table.set_coefs(
        call.table.spans[k].coefs, pipeline.coefficients(record.t + 1, norm_p, norm_g)
    )
    return 0


cdef int check_factors(Call call) except -1:
    """Refuse an option's factor that would be infinite, or nothing, for a key that it concerns."""
    cdef Record record
    if call.unfit is None:
        return 0
    for record in call.records:
        if call.unfit[record.group] is None:
            continue
        refuse_factor(call, record, call.unfit[record.group])
    return 0


cdef int refuse_factor(Call call, Record record, tuple unfit) except -1:
    """Refuse an option's factor for a key, unless it is of float64, which holds what float32 cannot."""
    cdef Pipeline pipeline
    stage, factor = unfit
    if record.type_num == cnp.NPY_FLOAT or not isfinite(<double> factor):
        pipeline = call.plan.pipelines[record.group]
        raise factors.of_option(
            pipeline.owner, stage, factor, record.key, record.group, record.dtype.name
        )
    return 0
