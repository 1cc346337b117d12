"""The C API is what it says: the struct in C and in Cython, and the functions behind it."""

import ctypes

import numpy as np
import pytest
from registry import CLASSES

import fastoptim as fo
from fastoptim import kernels


class RuleStruct(ctypes.Structure):
    _fields_ = [
        ("abi", ctypes.c_uint32), ("name", ctypes.c_char_p), ("slots", ctypes.c_int),
        ("coefs", ctypes.c_int), ("f32", ctypes.c_void_p), ("f64", ctypes.c_void_p),
    ]


def struct_of(capsule):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return RuleStruct.from_address(get(capsule, b"fastoptim.Rule"))


@pytest.mark.parametrize("name", sorted({kernel for cls in CLASSES for kernel in cls.kernels}))
def test_every_rule_has_a_capsule_of_its_name(name):
    rule = struct_of(kernels.capsule(name))
    assert (rule.abi, rule.name) == (1, name.encode())
    assert rule.f32
    assert rule.f64


@pytest.mark.parametrize("name", ["adma", "", None, 1])
def test_an_unknown_name_lists_the_names(name):
    with pytest.raises(ValueError, match="rule must be one of sgd, momentum, .*got"):
        kernels.capsule(name)


@pytest.mark.parametrize(("field", "real"), [("f32", ctypes.c_float), ("f64", ctypes.c_double)])
def test_ctypes_can_call_a_rule(field, real):
    dtype = np.dtype(real)
    p, g, v = (np.full(5, x, dtype) for x in (1.0, 2.0, 3.0))
    expected, velocity = p.copy(), v.copy()
    c = fo.Momentum(lr=0.1, alpha=0.5).coefficients(1)
    kernels.step("momentum", expected, g, (velocity,), c)
    array = ctypes.POINTER(real)
    signature = ctypes.CFUNCTYPE(None, array, array, ctypes.POINTER(array), array, ctypes.c_ssize_t)
    loop = signature(getattr(struct_of(kernels.capsule("momentum")), field))
    pointer = [a.ctypes.data_as(array) for a in (p, g, v)]
    loop(pointer[0], pointer[1], (array * 1)(pointer[2]), (real * len(c))(*c), p.size)
    np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(v, velocity)
