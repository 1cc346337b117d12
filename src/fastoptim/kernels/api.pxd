"""The rules by name, for code outside the library."""

from fastoptim.kernels.rule cimport Rule

# The rule of a name, such as b"adam", or NULL. It lives as long as the process.
cdef const Rule *find_rule(const char *name) noexcept nogil
