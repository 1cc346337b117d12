/* What DLPack 1.2 and later (https://dmlc.github.io/dlpack) say of a tensor in memory, and of the table
 * of functions that a library's tensor class has as `__dlpack_c_exchange_api__`. Only what is used here
 * has its own type. */
#ifndef FASTOPTIM_DLTENSOR_H
#define FASTOPTIM_DLTENSOR_H

#include <stdint.h>

enum { DEVICE_CPU = 1 };
enum { CODE_FLOAT = 2, CODE_BFLOAT = 4 };

struct element_type {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
};

struct tensor_in_memory {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t ndim;
    struct element_type dtype;
    int64_t *shape;
    int64_t *strides;      /* in elements; NULL: C order */
    uint64_t byte_offset;
};

struct exchange_table {
    uint32_t major;
    uint32_t minor;
    void *older;
    void *allocate;
    void *managed_from_object;
    void *object_from_managed;
    /* Fills a description of a tensor, which owns nothing; -1 with an exception of Python set. May be
     * NULL. */
    int (*describe)(void *object, struct tensor_in_memory *described);
    void *current_stream;
};

#endif
