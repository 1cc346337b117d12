"""Arrays on the memory of tensors."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "dltensor.h":
    enum:
        DEVICE_CPU
        CODE_FLOAT

    struct element_type:
        uint8_t code
        uint8_t bits

    struct tensor_in_memory:
        void *data
        int32_t device_type
        int32_t ndim
        element_type dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    struct exchange_table:
        uint32_t major
        int (*describe)(void *, tensor_in_memory *) except -1

cdef class Views:
    cdef readonly dict params, grads
    cdef readonly bint has_rows
    cdef readonly list keys, tensors
    cdef list ends
    cdef tuple plain
    cdef object odd, check
    cdef const exchange_table *table
    cdef list held                  # the gradients, for as long as a step lasts
    cdef dict known                 # their arrays at the step before

    cdef list look(self, groups, list alone, object state, object shown)
    cpdef int update(self, engine, plan, list written, bint zeroes, bump) except -1
    cdef int let_go(self) except -1
    cdef object array_of(self, object key, object tensor, object known, str what)
