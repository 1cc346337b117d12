"""The weights' averages in the place of the weights."""

from fastoptim.kernels.update.engine cimport Engine, Stations
from fastoptim.kernels.update.pipeline cimport Plan

cdef class Averaged:
    cdef Engine engine
    cdef Plan plan
    cdef object params              # the container as it came
    cdef Stations stations          # whose table leads each array to its average
    cdef list numbers               # (key, weight, average) of parameters that are numbers
    cdef int team                   # threads that exchange
    cdef bint inside

    cdef int prepare(self) except -1
    cdef int put_numbers(self) except -1
    cdef int exchange(self) except -1
