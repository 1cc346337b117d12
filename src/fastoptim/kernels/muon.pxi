# Muon's two passes over memory: rules.pyx includes this file. They are not in RULES, since what Muon
# steps along is computed of whole matrices in between, by kernels/update/newton_schulz.pyx. Both see
# the gradient that the stages make, and both form the new momentum, to the same bits: the first only
# for s[1], so that nothing of the caller is written before all that may fail is done.

# s[1] becomes what is orthogonalised.
cdef void _muon_direction(
    floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n
) noexcept nogil:
    cdef const floating *v = s[0]
    cdef floating *x = s[1]
    cdef floating one_minus_mu = c[0], share_v = c[1], share_g = c[2]
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = share_v * (v[i] + one_minus_mu * (g[i] - v[i])) + share_g * g[i]


# s[1] has been orthogonalised.
cdef void _muon(floating *p, const floating *g, floating **s, const floating *c, Py_ssize_t n) noexcept nogil:
    cdef floating *v = s[0]
    cdef const floating *x = s[1]
    cdef floating one_minus_mu = c[0], lr = c[3]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] += one_minus_mu * (g[i] - v[i])
        p[i] -= lr * x[i]
