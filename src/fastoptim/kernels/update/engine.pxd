"""An update of all keys, station by station."""

from fastoptim.kernels.learning cimport ThreadCounts
from fastoptim.kernels.table cimport Table
from fastoptim.kernels.update.call cimport Call
from fastoptim.kernels.update.codes cimport Coder
from fastoptim.kernels.update.detours cimport Detours
from fastoptim.kernels.update.memory cimport Memory
from fastoptim.kernels.update.others cimport Others
from fastoptim.kernels.update.pipeline cimport Plan
from fastoptim.kernels.update.store cimport Store
from fastoptim.kernels.update.survey cimport Survey
from fastoptim.kernels.update.tensors cimport Tensors

cdef class Stations:
    cdef readonly Store store
    cdef Call call
    cdef Detours detours
    cdef Memory memory
    cdef Survey survey
    cdef Tensors tensors
    cdef Coder coder
    cdef Table numbers                      # the spans of parameters that are numbers
    cdef ThreadCounts thread_counts

    cdef int check(self, object params, object grads) except -1
    cdef bint may_go_on(self, int team) except -1
    cdef int end(self) except -1

cdef class Source(Others):
    cdef bint of_several                # whether other processes make the update, too
    cdef bint walks                     # whether it updates the spans itself

    cdef int before_reading(self) except -1
    cdef int before_writing(self) except -1
    cdef int walk(self, int team) except -1
    cdef void applied(self) noexcept

cdef class Engine(Stations):
    cdef bint busy
    cdef str inside                         # the method whose context has exchanged the parameters, or None
    cdef str words                      # of an optimizer that is a part of another, or None
    cdef Py_ssize_t readers                 # calls of `still` that are not over

    cdef int begin(self) except -1
    cdef bint apply(
        self, object params, object grads, Plan plan, double factor, Source source
    ) except -1
    cdef int refuse_if_busy(self) except -1
