"""Kernels, classes and oracles have the same names, and none is missing."""

import re

import pytest
from helpers import CASES, CLASSES, EVERY_CLASS
from reference import OF_MATRICES, ORACLES

import fastoptim
from fastoptim.kernels import RULES
from fastoptim.kernels.one_array import size_of


def snake(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_every_kernel_has_a_class_and_every_class_a_kernel():
    assert set(RULES) == set().union(*[cls.kernels for cls in CLASSES])


def test_every_case_runs_one_of_its_kernels_and_all_are_run():
    assert {case.kernel for case in CASES} == set(RULES)
    for case in CASES:
        assert case.kernel in case.cls.kernels


def test_every_class_has_an_oracle_and_every_oracle_a_class():
    assert set(ORACLES) == {cls.__name__ for cls in CLASSES}
    assert set(OF_MATRICES) == {cls.__name__ for cls in EVERY_CLASS if cls.of_matrices}


def test_kernel_names_begin_with_the_class_name():
    for cls in CLASSES:
        for name in vars(cls).get("kernels", ()):  # AdamW has Adam's
            assert name.replace("_", "").startswith(cls.__name__.lower())


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_slots_and_coefficients_are_as_many_as_the_kernel_takes(case):
    opt = case.ours()
    assert size_of(RULES[opt.kernel]) == (len(case.slots), len(opt.coefficients(1)))


def test_all_is_complete():
    assert set(fastoptim.__all__) <= set(dir(fastoptim))
