"""What several test modules need: the rules, random arrays, comparisons, measurements."""

import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from reference import ORACLES, Staged

import fastoptim
from fastoptim.kernels import threads
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import OF_THE_WHOLE
from fastoptim.optimizer.hyperparameters import Choice, Flag, Interval, checks_of
from fastoptim.optimizer.tensor_options import NoTrustRatio

# ---------------------------------------------------------------- the rules, read off the library


def optimizer_classes():
    """The public optimizer classes, in the order of fastoptim.__all__."""
    public = [getattr(fastoptim, name) for name in fastoptim.__all__]
    classes = [x for x in public if isinstance(x, type) and issubclass(x, Optimizer)]
    return [cls for cls in classes if cls is not Optimizer]


EVERY_CLASS = optimizer_classes()
CLASSES = [cls for cls in EVERY_CLASS if not cls.of_matrices]  # those for arrays of any shape


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
    "SignSGD": [{"momentum": 0.5}],
    "Adafactor": [{"beta1": 0.5}],
}

# A flag that changes numbers alone, whichever the kernel: one case of its own is enough.
APART = {"bias_correction": False, "relative_step": False, "scale_parameter": False}


def values_by_choice(cls):
    """Each named choice or flag of a class with the values that it may have."""
    values = {}
    for field in own_fields(cls):
        check = field.metadata["check"]
        if field.name in OF_THE_WHOLE or field.name in APART:
            continue
        if isinstance(check, Choice):
            values[field.name] = check.names
        elif isinstance(check, Flag):
            values[field.name] = (False, True)
    return values


def combinations_of_choices(cls):
    """Every combination of the named choices of a class, as keyword arguments."""
    combinations = []
    values = values_by_choice(cls)
    for chosen in product(*values.values()):
        named = dict(zip(values, chosen, strict=True))
        combinations.append(named)
        for numbers in NONZERO.get(cls.__name__, ()):
            combinations.append(named | numbers)
    names = {field.name for field in own_fields(cls)}
    for name, value in APART.items():
        if name in names:
            combinations.append({name: value})
    return combinations


def slots_by_start(cls):
    """The hyperparameters that only fresh state takes, each with a slot that it fills."""
    found = {}
    for slots in cls.kernels.values():
        for name in slots:
            slot = getattr(cls, name)
            if slot.start is not None:
                found[slot.start] = slot.name
    return found


class Case:
    """A rule with one combination of its choices."""

    def __init__(self, cls, options):
        self.cls, self.options = cls, options

    def __repr__(self):
        words = [self.cls.__name__]
        for name, value in self.options.items():
            words.append(value if isinstance(value, str) else f"{name}={value}")
        return "-".join(words)

    def ours(self, **hyper):
        return self.cls(**self.options, **hyper)

    def oracle(self, **hyper):
        return ORACLES[self.cls.__name__](**self.options, **hyper)

    def ours_with(self, options, **hyper):
        """The rule with these options and no others, whatever its defaults are."""
        return self.ours(**{"weight_decay": 0.0, "decoupled": False, **options, **hyper})

    def oracle_with(self, options, **hyper):
        """Its oracle with the same, in plain NumPy around the listing."""
        oracle = self.oracle(**self.without_decay, **hyper)
        if isinstance(oracle, Staged):  # LAMB, which is Adam with an option
            return Staged(oracle.oracle, **{"trust_ratio": oracle.trust_ratio, **options})
        return Staged(oracle, **options)

    @property
    def of_norms(self):
        """Whether steps depend on the norms of whole tensors, as LARS' and LAMB's do."""
        opt = self.ours()
        return bool(opt.norms or opt.trust_ratio)

    def takes(self, options):
        """Whether the rule has a step that could be scaled, if that is asked for."""
        check = checks_of(self.cls)["trust_ratio"]
        return not (options.get("trust_ratio") and isinstance(check, NoTrustRatio))

    @property
    def kernel(self):
        return self.ours().kernel

    @property
    def slots(self):
        return self.cls.kernels[self.kernel]

    def starts_of_slots(self, opt):
        """The number that each state array of an optimizer of this case is filled with."""
        starts = {}
        for name in self.slots:
            start = getattr(self.cls, name).start
            starts[name] = 0.0 if start is None else getattr(opt, start)
        return starts

    @property
    def without_decay(self):
        """What turns off the weight decay of a rule that has it by default, a stage around it."""
        return {"weight_decay": 0.0} if self.ours().weight_decay else {}


def one_case_of_each_class(cases):
    """The first case of every class."""
    first = {}
    for case in cases:
        first.setdefault(case.cls, case)
    return list(first.values())


CASES = [Case(cls, options) for cls in CLASSES for options in combinations_of_choices(cls)]
ONE_EACH = one_case_of_each_class(CASES)
STATEFUL = [case for case in CASES if case.slots]
# A rule that factors looks at whole tensors: it refuses gradients of rows, and reads in C order.
BY_ELEMENT = [case for case in CASES if not case.cls.factored and not case.of_norms]
# Those of which one step needs t and the hyperparameters alone.
ROW_BY_ROW = [case for case in BY_ELEMENT if not case.cls.carries]
# Those whose rate is the caller's: steps of the others are in proportion to the parameter.
WITH_A_RATE = [case for case in CASES if not case.of_norms]
NUMBERS = [
    (cls, field) for cls in CLASSES for field in own_fields(cls)
    if isinstance(field.metadata["check"], Interval)
]

every_class = pytest.mark.parametrize("case", ONE_EACH, ids=repr)
every_rule = pytest.mark.parametrize("case", CASES, ids=repr)
every_stateful_rule = pytest.mark.parametrize("case", STATEFUL, ids=repr)
every_rule_with_a_rate = pytest.mark.parametrize("case", WITH_A_RATE, ids=repr)
every_rule_row_by_row = pytest.mark.parametrize("case", ROW_BY_ROW, ids=repr)
every_rule_by_element = pytest.mark.parametrize("case", BY_ELEMENT, ids=repr)
every_class_by_element = pytest.mark.parametrize(
    "case", one_case_of_each_class(BY_ELEMENT), ids=repr
)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
every_number = pytest.mark.parametrize(
    ("cls", "field"), NUMBERS, ids=[f"{cls.__name__}-{field.name}" for cls, field in NUMBERS]
)

# ---------------------------------------------------------------- the options of every rule

OPTIONS = {
    "L2": {"weight_decay": 0.03},
    "decoupled": {"weight_decay": 0.03, "decoupled": True},
    "clip_value": {"clip_value": 0.7},
    "clip_norm": {"clip_norm": 3.0},
    "clip_norm that does nothing": {"clip_norm": 1e6},
    "clip_norm_per_key": {"clip_norm_per_key": 3.0},
    "agc": {"agc": 0.3},
    "centralize": {"centralize": True},
    "trust_ratio": {"trust_ratio": True},
    "trust_ratio within bounds": {"trust_ratio": (0.5, 2.0)},
    "nonnegative": {"constraint": "nonnegative"},
    "bounds": {"constraint": (-0.5, 0.25)},
    "unit_norm": {"constraint": "unit_norm"},
    "MaxNorm of rows": {"constraint": fastoptim.MaxNorm(1.5, per="row")},
    "maximize": {"maximize": True},
    "zero_grads": {"zero_grads": True},
    "average": {"average": 0.9},
    "all with clip_value": {
        "weight_decay": 0.03, "clip_value": 0.7, "maximize": True, "zero_grads": True,
        "average": 0.5,
    },
    "all with clip_norm": {
        "weight_decay": 0.03, "decoupled": True, "clip_norm": 3.0, "maximize": True,
        "zero_grads": True, "average": 0.5,
    },
    "all with clip_norm_per_key": {
        "weight_decay": 0.03, "clip_norm_per_key": 3.0, "maximize": True, "zero_grads": True,
        "average": 0.5,
    },
    "all with agc": {
        "weight_decay": 0.03, "agc": 0.3, "centralize": True, "maximize": True,
        "zero_grads": True, "average": 0.5, "constraint": fastoptim.MaxNorm(1.5),
    },
    "all with trust_ratio": {
        "weight_decay": 0.03, "decoupled": True, "clip_norm": 3.0, "centralize": True,
        "trust_ratio": True, "zero_grads": True, "average": 0.5, "constraint": "unit_norm",
    },
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
# Options that look at elements, or at all gradients together, and at no tensor as a whole.
OF_ELEMENTS = {
    name: options for name, options in OPTIONS.items()
    if not options.keys() & {"agc", "trust_ratio"} and (
        isinstance(options.get("constraint"), (tuple, type(None))) or name == "nonnegative"
    )
}
every_class_with_every_option = pytest.mark.parametrize(
    ("case", "options"),
    [(case, options) for case in ONE_EACH for options in OPTIONS.values() if case.takes(options)],
    ids=[f"{case!r}-{name}" for case in ONE_EACH for name in OPTIONS if case.takes(OPTIONS[name])],
)

# ---------------------------------------------------------------- threads

PAST_THRESHOLD = 4 * threads.work_per_thread() + 1  # enough for four threads, and a tail


def use_threads(n):
    """Update on n threads, or on as many as OpenMP lets this process have."""
    limit = int(os.environ.get("OMP_THREAD_LIMIT") or n)
    threads.set_num_threads(min(n, limit), exactly=True)


# ---------------------------------------------------------------- arrays


def arrays(rng, shapes, dtype):
    """A dict of random arrays, a few of whose elements are zero."""
    drawn = {}
    for key, shape in shapes.items():
        is_zero = rng.random(shape) < 0.1
        drawn[key] = np.where(is_zero, 0, rng.standard_normal(shape)).astype(dtype)
    return drawn


def copies(arrays_by_key):
    """A dict of copies of its arrays."""
    return {key: a.copy() for key, a in arrays_by_key.items()}


def all_pairs(first, second, dtype):
    """Two arrays that have every number of the first beside every number of the second."""
    a, b = np.meshgrid(first, second)
    return a.ravel().astype(dtype), b.ravel().astype(dtype)


def read_only(a):
    """The array itself, which cannot be written any more."""
    a.flags.writeable = False
    return a


def strided(a):
    """The same values, every third element of a larger array."""
    wide = np.full((*a.shape[:-1], 3 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::3] = a
    return wide[..., ::3]


def packed(a):
    """The same values in a field of a packed record: not aligned."""
    table = np.zeros(a.shape, np.dtype([("flag", "u1"), ("x", a.dtype)]))
    table["x"] = a
    return table["x"]


def with_memory(a, order):
    """The same values with the axes in another order of memory."""
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


LAYOUTS = {
    "C": np.copy,
    "F": np.asfortranarray,
    "axes 1 0 2": lambda a: with_memory(a, (1, 0, 2)),
    "axes 2 0 1": lambda a: with_memory(a, (2, 0, 1)),
    "reversed": lambda a: a[::-1].copy()[::-1],
    "reversed inside": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every other column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "part of a table": lambda a: np.pad(a, 3)[3:-3, 3:-3, 3:-3],
    "packed record": packed,
    "subclass": lambda a: a.copy().view(type("Sub", (np.ndarray,), {})),
}


def random_rows(rng, shape, dtype, count):
    """Row numbers with duplicates, a few of them in most places, and values for them."""
    index = np.minimum(rng.integers(0, shape[0], count), rng.integers(0, shape[0], count))
    return index, arrays(rng, {"": (count, *shape[1:])}, dtype)[""]


def summed_rows(index, values):
    """Distinct rows in order, and the sum of each one's values in the order of the index."""
    rows = np.unique(index)
    sums = np.zeros((len(rows), *values.shape[1:]), values.dtype)
    for k, row in enumerate(rows):
        places = np.flatnonzero(index == row)
        sums[k] = values[places[0]]
        for place in places[1:]:
            sums[k] += values[place]
    return rows, sums


# The layouts of a parameter and of its gradient, where an update allocates nothing for any.
every_layout_of_both = pytest.mark.parametrize(
    ("layout", "grad_layout"),
    [("C", "C"), ("F", "F"), ("every other column", "every other column"), ("C", "F")],
)


# ---------------------------------------------------------------- the same bits


def assert_same_array(a, b, name):
    """Equal dtype, shape and bits; a NaN is a NaN, whatever its bits."""
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


def assert_same_arrays(ours, expected, name):
    """The same keys, and the same bits under each."""
    assert set(ours) == set(expected), name
    for key in expected:
        assert_same_array(ours[key], expected[key], f"{name}[{key!r}]")


def assert_same_bits(ours, oracle, params, expected):
    """All parameters and all state equal to the oracle's, NaN and the sign of zero included."""
    assert_same_arrays(params, expected, "params")
    for slot in (*ours.kernels[ours.kernel], *ours.factored.get(ours.kernel, ())):
        assert_same_arrays(getattr(ours, slot), getattr(oracle, slot), slot)


def assert_same_averages(ours, oracle):
    assert_same_arrays(ours.average_of, oracle.average_of, "average_of")


# ---------------------------------------------------------------- interrupts


def interrupted(seconds, act):
    """Call a function that gets one KeyboardInterrupt after so many seconds, or after its end.

    It is over when the signal has been handled: a thread of OpenMP or of BLAS may have got it, and
    the interrupt then reaches this thread later than the alarm rang, however busy the machine is.
    """
    handled = []

    def handler(number, frame):
        handled.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        act()
        while not handled:
            pass
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- nested dicts, to be damaged

REMOVED = object()


def put(tree, place, value):
    """Put a value at a place in nested dicts, or remove what is there."""
    for name in place[:-1]:
        tree = tree[name]
    if value is REMOVED:
        del tree[place[-1]]
    else:
        tree[place[-1]] = value


# ---------------------------------------------------------------- Python in another process

PATIENCE = 600  # seconds: a hang is for ever, and a machine may be very busy


def environment_with(*folders, **variables):
    """This process's environment, with folders to import from before its own; None unsets."""
    own = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    path = os.pathsep.join(os.path.abspath(folder) for folder in (*folders, *own))
    environment = os.environ | {"PYTHONPATH": path} | variables
    return {name: text for name, text in environment.items() if text is not None}


def run_python(*arguments, folders=(), cwd=None, **variables):
    """Run Python in a process of its own, and return what it did; a hang is a failure."""
    command = [sys.executable, *[str(argument) for argument in arguments]]
    return subprocess.run(
        command, cwd=cwd, env=environment_with(*folders, **variables), capture_output=True,
        text=True, encoding="utf-8", timeout=PATIENCE, check=False,
    )


def run_code(code, **variables):
    """Run indented code in a process of its own, and return what it did."""
    return run_python("-c", textwrap.dedent(code), **variables)


def output_of(code, **variables):
    """What indented code prints in a process of its own, in which it must not fail."""
    done = run_code(code, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------- a kernel in C


class RuleStruct(ctypes.Structure):
    """struct Rule of include/fastoptim.h."""

    _fields_ = [
        ("abi", ctypes.c_uint32), ("name", ctypes.c_char_p), ("slots", ctypes.c_int),
        ("coefs", ctypes.c_int), ("f32", ctypes.c_void_p), ("f64", ctypes.c_void_p),
    ]


CAPSULE_NAME = b"fastoptim.Rule"
LOOP = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_ssize_t)  # (p, g, s, c, n)


def address_in(capsule, name):
    """What a capsule points to."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, name)


def capsule_around(struct, name):
    """A capsule around a struct; both the struct and the name must live as long as the capsule."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.addressof(struct), name, None)


def struct_of(capsule):
    """The struct Rule that a capsule points to."""
    return RuleStruct.from_address(address_in(capsule, CAPSULE_NAME))


def capsule_of(struct):
    """A capsule around a struct Rule, which must be kept alive as long as the capsule."""
    return capsule_around(struct, CAPSULE_NAME)


def loop_for(capsule, dtype):
    """The loop of a kernel for a dtype, as a function of (p, g, s, c, n)."""
    rule = struct_of(capsule)
    return LOOP(rule.f32 if dtype == np.float32 else rule.f64)


def addresses(slots):
    """State arrays as a loop takes them: an array of their addresses."""
    return (ctypes.c_void_p * len(slots))(*[a.ctypes.data for a in slots])


def call_loop(capsule, p, g, s, c):
    """Call the loop of a rule on arrays through ctypes."""
    loop_for(capsule, p.dtype)(p.ctypes.data, g.ctypes.data, addresses(s), c.ctypes.data, p.size)


# ---------------------------------------------------------------- what a call allocates

# What the interpreter allocates for itself meanwhile is left out.
LIBRARY = str(Path(fastoptim.__file__).parent / "*")
ARRAYS = 389047  # the domain of tracemalloc in which NumPy reports the memory of arrays


def traced_bytes():
    """Bytes that are held by arrays, or were asked for by the library's files."""
    ours = tracemalloc.Filter(inclusive=True, filename_pattern=LIBRARY)
    of_arrays = tracemalloc.DomainFilter(inclusive=True, domain=ARRAYS)
    snapshot = tracemalloc.take_snapshot().filter_traces([ours, of_arrays])
    return sum(statistic.size for statistic in snapshot.statistics("filename"))


def bytes_kept(call, times=5):
    """Bytes that calls leave behind in arrays and in the library."""
    tracemalloc.start()
    try:
        before = traced_bytes()
        for _ in range(times):
            call()
        return traced_bytes() - before
    finally:
        tracemalloc.stop()


def bytes_at_peak(call, times=5):
    """Bytes that every call needs at its worst moment: the least over several calls.

    A peak cannot be told apart by file. But what the interpreter allocates for itself, a
    collection's or another thread's, falls into some calls, and what the library needs into all.
    """
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(times):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            call()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        return min(peaks)
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- faults, each at a place of choice


class Fault:
    """What fails once, at the n-th of the places that it counts, while it is armed."""

    def __init__(self, n, problem):
        self.left, self.problem, self.reached = n, problem, False

    def is_here(self):
        """Count a place; return whether it is the one."""
        self.left -= 1
        self.reached = self.reached or self.left == -1
        return self.left == -1

    def is_behind(self, problem):
        """Whether what was raised is this fault."""
        return self.reached and isinstance(problem, self.problem)

    def during(self, function):
        """Call a function; return what it raised, None if nothing."""
        self.arm()
        try:
            function()
        except (Exception, KeyboardInterrupt) as problem:
            return problem
        finally:
            self.disarm()
        return None


class CallFault(Fault):
    """Raises at the n-th call of `touch`, which a test's own classes call wherever they can."""

    now = None

    def arm(self):
        CallFault.now = self

    def disarm(self):
        CallFault.now = None


TESTS = str(Path(__file__).parent)


def touch():
    """A place at which a CallFault may raise."""
    if CallFault.now is not None and CallFault.now.is_here():
        raise CallFault.now.problem


class LineFault(Fault):
    """Raises at the n-th line of Python that runs in a file beyond the tests' own."""

    def arm(self):
        self.tracer = sys.gettrace()
        sys.settrace(self.trace)

    def trace(self, frame, event, arg):
        if frame.f_code.co_filename.startswith(TESTS):
            return None
        if event == "line" and self.is_here():
            raise self.problem
        return self.trace

    def disarm(self):
        sys.settrace(self.tracer)


class ObjectFault(Fault):
    """The n-th request of Python for memory fails. For a process of its own: few expect that."""

    def __init__(self, n):
        super().__init__(n, MemoryError)

    def is_behind(self, problem):
        return isinstance(problem, (MemoryError, ValueError))   # of NumPy: it could not make a view

    def during(self, function):
        """Call a function; return what it raised, None if nothing."""
        import _testcapi

        problem = None
        _testcapi.set_nomemory(self.left, self.left + 1)
        try:
            function()
        except (MemoryError, ValueError) as raised:
            problem = raised
        finally:
            try:
                [object() for _ in range(8)]    # the fault is here if the function never reached it
            except MemoryError:
                self.reached = False
            else:
                self.reached = True
            _testcapi.remove_mem_hooks()
        return problem


class MemoryHandler(ctypes.Structure):
    """struct PyDataMem_Handler of NumPy's C API: where the memory of arrays comes from."""

    _fields_ = [
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p), ("calloc", ctypes.c_void_p), ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


def numpy_function(place, *types):
    """A function of NumPy's C API by its place in the table, which never changes."""
    table = address_in(np._core._multiarray_umath._ARRAY_API, None)
    return ctypes.PYFUNCTYPE(*types)(ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[place])


class ArrayFault(Fault):
    """The n-th request for the memory of an array fails."""

    now = handler = None

    def __init__(self, n):
        super().__init__(n, MemoryError)
        if ArrayFault.handler is None:
            ArrayFault.make_handler()

    @classmethod
    def make_handler(cls):
        """Make a handler that asks NumPy's own for memory, and leaves it to that to free it."""
        cls.set_handler = staticmethod(numpy_function(304, ctypes.py_object, ctypes.py_object))
        get_handler = numpy_function(305, ctypes.py_object)
        own = MemoryHandler.from_address(address_in(get_handler(), b"mem_handler"))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        requests = {}
        for name, types in {
            "malloc": (pointer, pointer, size), "calloc": (pointer, pointer, size, size),
            "realloc": (pointer, pointer, pointer, size),
        }.items():
            ask = ctypes.PYFUNCTYPE(*types)(getattr(own, name))    # it needs the GIL
            requests[name] = ctypes.CFUNCTYPE(*types)(cls.failing(ask))
        ours = MemoryHandler(
            b"faults", own.version, own.context,
            *[ctypes.cast(one, pointer).value for one in requests.values()], own.free,
        )
        cls.handler = capsule_around(ours, b"mem_handler")
        for kept in (*requests.values(), ours):     # an array may be freed after this module
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))

    @classmethod
    def failing(cls, ask):
        """A request that fails where the fault is."""
        def request(*arguments):
            return None if cls.now is not None and cls.now.is_here() else ask(*arguments)
        return request

    def arm(self):
        ArrayFault.now = self
        self.before = self.set_handler(self.handler)

    def disarm(self):
        self.set_handler(self.before)
        ArrayFault.now = None
