# cython: language_level=3, boundscheck=False, wraparound=False
"""Factorise a table of ratings, R ≈ U Vᵀ, by any rule of fastoptim, on threads of one's own.

In turn, the rows of U take one step each with V fixed, and the rows of V one with U fixed. A row's step
reads no other row of its own table, so threads take ranges of rows, and however many there are, the
result is the same to the bit.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import pairwise

import numpy as np

import fastoptim as fo

from cython cimport floating

from fastoptim cimport MAX_SLOTS, RULE_ABI, Rule, find_rule


cdef const Rule *rule_named(str name) except NULL:
    cdef const Rule *rule = find_rule(name.encode())
    if rule == NULL:
        raise ValueError(f"fastoptim has no rule {name!r}")
    if rule.abi != RULE_ABI or rule.slots > MAX_SLOTS:
        raise ImportError("compiled for another fastoptim than the installed one; build it again")
    return rule


def step(
    str name, floating[:, ::1] rows, const floating[:, ::1] others, floating[:, :, ::1] state,
    const floating[::1] c, const Py_ssize_t[::1] start, const Py_ssize_t[::1] column,
    const floating[::1] rating, double penalty, Py_ssize_t first, Py_ssize_t last,
):
    """Let the rows first … last − 1 take one step each, without the GIL.

    start, column and rating are the ratings of each row, a sparse matrix row by row.
    """
    cdef const Rule *rule = rule_named(name)
    cdef floating *s[MAX_SLOTS]
    cdef Py_ssize_t rank = rows.shape[1], i, j, k, n
    cdef floating[::1] g = np.empty(rank, "f4" if floating is float else "f8")
    cdef floating error
    if state.shape[0] != rule.slots or c.shape[0] != rule.coefs:
        raise ValueError(f"{name} has {rule.slots} slots and {rule.coefs} coefficients")
    with nogil:
        for i in range(first, last):
            for k in range(rank):
                g[k] = <floating> penalty * rows[i, k]
            for n in range(start[i], start[i + 1]):
                j = column[n]
                error = -rating[n]
                for k in range(rank):
                    error += rows[i, k] * others[j, k]
                for k in range(rank):
                    g[k] += error * others[j, k]
            for k in range(rule.slots):
                s[k] = &state[k, i, 0]
            if floating is float:
                rule.f32(&rows[i, 0], &g[0], s, &c[0], rank)
            else:
                rule.f64(&rows[i, 0], &g[0], s, &c[0], rank)


def fresh_state(opt, shape, dtype):
    """Return an array per slot of the rule, filled with what that slot starts at."""
    state = np.zeros((rule_named(opt.kernel).slots, *shape), dtype)
    for slot, name in zip(state, opt.kernels[opt.kernel], strict=True):
        hyperparameter = getattr(type(opt), name).start     # None: zeros
        if hyperparameter is not None:
            slot[...] = getattr(opt, hyperparameter)
    return state


# Those that every rule has; decoupled is nothing without weight_decay.
OPTIONS = [field.name for field in fields(fo.SGD) if field.kw_only and field.name != "decoupled"]


def factorise(ratings, Py_ssize_t rank, opt, Py_ssize_t epochs, double penalty=0.1, int threads=1):
    """Return U and V of a scipy.sparse matrix of float32 or float64 ratings.

    opt, such as fastoptim.AdaGrad(lr=0.1), gives the rule and its scalars. penalty is added to the gradient
    times the row: L2 regularisation.
    """
    plain = fo.SGD()
    for option in OPTIONS:
        if getattr(opt, option) != getattr(plain, option):
            raise ValueError(f"{option} is an option of opt.update, which is not called here")
    if opt.norms or opt.factored or opt.carries:
        raise ValueError(
            f"{type(opt).__name__} needs more than a row and its count of steps; use another rule"
        )
    rng = np.random.default_rng(0)
    U, V = (rng.normal(0, 0.1, (n, rank)).astype(ratings.dtype) for n in ratings.shape)
    halves = []
    for rows, others, csr in ((U, V, ratings.tocsr()), (V, U, ratings.T.tocsr())):
        state = fresh_state(opt, rows.shape, rows.dtype)
        ratings_of_rows = csr.indptr.astype(np.intp), csr.indices.astype(np.intp), csr.data
        ends = np.linspace(0, len(rows), threads + 1).astype(int)
        halves.append((rows, others, state, ratings_of_rows, ends))
    with ThreadPoolExecutor(threads) as pool:
        for t in range(1, epochs + 1):
            c = np.array(opt.coefficients(t), ratings.dtype)
            for rows, others, state, ratings_of_rows, ends in halves:
                parts = [
                    pool.submit(step, opt.kernel, rows, others, state, c, *ratings_of_rows, penalty, a, b)
                    for a, b in pairwise(ends)
                ]
                for part in parts:
                    part.result()
    return U, V
