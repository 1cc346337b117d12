"""The one list of rules that every parametrised test runs over, read off the library itself."""

import dataclasses
import os
from itertools import product

import numpy as np
import pytest
from reference import ORACLES, Staged

import fastoptim
from fastoptim.kernels import threads
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import OF_THE_WHOLE
from fastoptim.optimizer.hyperparameters import Choice, Flag, Interval

CLASSES = [
    x
    for x in (getattr(fastoptim, name) for name in fastoptim.__all__)
    if isinstance(x, type) and issubclass(x, Optimizer)
]


def own_fields(cls):
    """A rule's own hyperparameters, without the options that all rules have."""
    shared = {f.name for f in dataclasses.fields(Optimizer)}
    return [f for f in dataclasses.fields(cls) if f.name not in shared]


# Numbers that are 0 by default, and then leave a part of the rule out: each class is also run
# with each of these.
NONZERO = {
    "AdaGrad": [{"lr_decay": 1e-4, "initial": 0.1}, {"eps_root": 1e-3}],
    "FTRL": [{"l1": 0.2, "l2": 0.001, "beta": 0.5}],
    "HeavyBall": [{"dampening": 0.5}],
    "RMSprop": [{"momentum": 0.5}, {"eps_root": 1e-3}, {"momentum": 0.5, "eps_root": 1e-3}],
    "Adam": [{"eps_root": 1e-3}],
}

# A flag that changes numbers alone, whichever the kernel: one case of its own is enough.
APART = {"bias_correction": False}


def choices(cls):
    """Every combination of the named choices of a class, as keyword arguments."""
    fields = [
        f
        for f in own_fields(cls)
        if isinstance(f.metadata["check"], (Choice, Flag))
        and f.name not in (*OF_THE_WHOLE, *APART)
    ]
    for values in product(*(getattr(f.metadata["check"], "names", (False, True)) for f in fields)):
        named = dict(zip((f.name for f in fields), values, strict=True))
        yield named
        for numbers in NONZERO.get(cls.__name__, ()):
            yield named | numbers
    for name, value in APART.items():
        if any(f.name == name for f in own_fields(cls)):
            yield {name: value}


def starts(cls):
    """The hyperparameters that only fresh state takes."""
    slots = (getattr(cls, name) for slots in cls.kernels.values() for name in slots)
    return {slot.start: slot.name for slot in slots if slot.start is not None}


class Case:
    """A rule with one combination of its choices."""

    def __init__(self, cls, options):
        self.cls, self.options = cls, options

    def __repr__(self):
        options = (v if isinstance(v, str) else f"{k}={v}" for k, v in self.options.items())
        return "-".join([self.cls.__name__, *options])

    def ours(self, **hyper):
        return self.cls(**self.options, **hyper)

    def oracle(self, **hyper):
        return ORACLES[self.cls.__name__](**self.options, **hyper)

    def ours_with(self, options, **hyper):
        """The rule with these options and no others, whatever its defaults are."""
        return self.ours(**{"weight_decay": 0.0, "decoupled": False, **options, **hyper})

    def oracle_with(self, options, **hyper):
        """Its oracle with the same, in plain NumPy around the listing."""
        return Staged(self.oracle(**self.without_decay, **hyper), **options)

    @property
    def slots(self):
        return self.cls.kernels[self.ours().kernel]

    @property
    def without_decay(self):
        """What turns off the weight decay of a rule that has it by default, a stage around it."""
        return {"weight_decay": 0.0} if self.ours().weight_decay else {}


CASES = [Case(cls, options) for cls in CLASSES for options in choices(cls)]
STATEFUL = [case for case in CASES if case.slots]

ONE_EACH = list({case.cls: case for case in reversed(CASES)}.values())[::-1]

every_class = pytest.mark.parametrize("case", ONE_EACH, ids=repr)
every_rule = pytest.mark.parametrize("case", CASES, ids=repr)
every_stateful_rule = pytest.mark.parametrize("case", STATEFUL, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])

NUMBERS = [
    (cls, f)
    for cls in CLASSES
    for f in own_fields(cls)
    if isinstance(f.metadata["check"], Interval)
]
every_number = pytest.mark.parametrize(
    ("cls", "field"), NUMBERS, ids=[f"{cls.__name__}-{f.name}" for cls, f in NUMBERS]
)


def use_threads(n):
    """Update on n threads, or on as many as OpenMP lets this process have."""
    threads.set_num_threads(min(n, int(os.environ.get("OMP_THREAD_LIMIT") or n)), exactly=True)


def arrays(rng, shapes, dtype):
    """A dict of random arrays, a few of whose elements are zero."""
    return {
        key: np.where(rng.random(shape) < 0.1, 0, rng.standard_normal(shape)).astype(dtype)
        for key, shape in shapes.items()
    }


def assert_same_bits(ours, oracle, params, expected):
    """All parameters and all state equal to the oracle's, NaN and the sign of zero included."""
    assert set(params) == set(expected)
    for key in expected:
        assert_same_array(params[key], expected[key], f"params[{key!r}]")
    for slot in ours.kernels[ours.kernel]:
        theirs = getattr(oracle, slot)
        assert set(getattr(ours, slot)) == set(theirs)
        for key in theirs:
            assert_same_array(getattr(ours, slot)[key], theirs[key], f"{slot}[{key!r}]")


def assert_same_array(a, b, name):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype, name
    assert a.shape == b.shape, name
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    differ = np.ascontiguousarray(a).view(word) != np.ascontiguousarray(b).view(word)
    differ &= ~(np.isnan(a) & np.isnan(b)).reshape(differ.shape)
    where = differ.reshape(a.shape)
    assert not where.any(), (
        f"{name}: {where.sum()} of {a.size} elements differ, first {a[where][:3]} "
        f"instead of {b[where][:3]}"
    )
