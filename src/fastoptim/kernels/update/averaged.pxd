"""The weights' averages, or points to evaluate at, in the place of the weights."""

from fastoptim.kernels.update.engine cimport Engine, Stations
from fastoptim.kernels.update.pipeline cimport Plan
from fastoptim.kernels.update.store cimport Record

cdef class Averaged:
    cdef Engine engine
    cdef Plan plan
    cdef object params              # the container as it came
    cdef object point               # what writes the point to evaluate at; None: averages
    cdef object groups              # the groups whose keys are meant, or None: all
    cdef str name                   # of the method that made this
    cdef Stations stations          # whose table leads each array to what it is exchanged with
    cdef list numbers               # (key, weight, average) of parameters that are numbers
    cdef int team                   # threads that exchange
    cdef bint inside

    cdef int prepare(self) except -1
    cdef object number(self, object key, Record record)
    cdef object average_of(self, Record record)
    cdef int put_numbers(self) except -1
    cdef int mark(self) except -1
    cdef int unmark(self) except -1
    cdef int exchange(self) except -1
