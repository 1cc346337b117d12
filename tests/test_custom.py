"""Rules of the user's own: the bits of the body run by NumPy, and all that other rules have."""

import builtins
import copy
import gc
import importlib
import inspect
import math
import sys
import weakref
from multiprocessing import get_context

import numpy as np
import pytest
from helpers import (
    all_pairs,
    arrays,
    assert_same_averages,
    assert_same_bits,
    copies,
    every_dtype,
    run_code,
    use_threads,
)
from reference import Staged
from scipy import sparse

import fastoptim as fo
from fastoptim import schedules
from fastoptim.custom import numba_loop as compiled
from fastoptim.optimizer.base import Optimizer

NAMES = ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "MyLion", "Rprop", "AdaMax"]
SHAPES = {"a": (1,), "b": (7,), "c": (1023,), "d": (41, 25), "e": (200_000,), "f": ()}
INFO = {dtype: np.finfo(dtype) for dtype in (np.float32, np.float64)}

every_name = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def rules():
    """The file of rules, compiled once."""
    return importlib.import_module("custom_rules")


class ByNumPy:
    """A rule's body run on whole arrays, with hyperparameters that are Python's floats."""

    def __init__(self, cls, body=None, **hyperparameters):
        self.body = body or cls.body
        self.opt = cls(**hyperparameters)
        self.slots = cls.kernels[cls.__name__]
        self.starts = {name: getattr(cls, name).start for name in self.slots}
        self.state = {name: {} for name in self.slots}
        self.t = 0

    def __getattr__(self, name):
        return self.state[name] if name in self.state else getattr(self.opt, name)

    def update(self, params, grads):
        self.t += 1
        numbers = {f: getattr(self.opt, f) for f in inspect.signature(type(self.opt)).parameters}
        if self.opt._further:
            numbers |= self.opt._further(self.t, numbers)
        given = [numbers[name] for name in self.opt._arguments]
        for key, p in params.items():
            slots = [self.slot_of(name, key, p) for name in self.slots]
            # h += … in a body writes into what it is given
            result = self.body(p.copy(), grads[key], *[a.copy() for a in slots], *given)
            if not self.slots:
                result = (result,)
            for a, new in zip([p, *slots], result, strict=True):
                assert np.asarray(new).dtype == p.dtype
                a[...] = new

    def slot_of(self, name, key, p):
        """A key's state array, filled with its start when it is asked for the first time."""
        if key not in self.state[name]:
            start = self.starts[name]
            self.state[name][key] = np.full_like(p, getattr(self.opt, start) if start else 0)
        return self.state[name][key]


def special(dtype):
    """All pairs of numbers that may be treated in a special way."""
    info = INFO[dtype]
    numbers = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, np.inf, -np.inf, np.nan, info.max, -info.max]
    numbers += [info.tiny, info.smallest_subnormal, -info.smallest_subnormal, 1e-20, 1e20]
    return all_pairs(numbers, numbers, dtype)


def follow(ours, other, start, lessons):
    """Run two from the same start, and compare after every step."""
    params, expected = copies(start), copies(start)
    with np.errstate(all="ignore"):
        for grads in lessons:
            other.update(expected, copies(grads))
            ours.update(params, copies(grads))
            assert_same_bits(ours, other, params, expected)
    return params


def lesson(dtype, shapes=SHAPES, steps=4):
    rng = np.random.default_rng(0)
    start = arrays(rng, shapes, dtype)
    return start, [arrays(rng, shapes, dtype) for _ in range(steps)]


# ---------------------------------------------------------------- the same bits

@every_name
@every_dtype
@pytest.mark.parametrize("count", [1, 3])
def test_equal_to_the_built_in(name, dtype, count, rules):
    use_threads(count)
    follow(getattr(rules, name)(lr=0.02), rules.SAME[name](lr=0.02), *lesson(dtype))


@every_name
@every_dtype
def test_equal_to_the_body_run_by_numpy(name, dtype, rules):
    cls = getattr(rules, name)
    follow(cls(lr=0.02), ByNumPy(cls, lr=0.02), *lesson(dtype))


@pytest.mark.parametrize("name", ["Locals", "Ifs", "Functions"])
@every_dtype
def test_bodies_equal_to_the_same_by_numpy(name, dtype, rules):
    cls, body = getattr(rules, name), rules.NUMPY[name]
    follow(cls(), ByNumPy(cls, body), *lesson(dtype))
    p, g = special(dtype)
    follow(cls(), ByNumPy(cls, body), {"x": p}, [{"x": sign * g} for sign in (1, -1, 1)])
    rng = np.random.default_rng(4)
    shuffled = [{"x": rng.permutation(g)} for _ in range(6)]
    follow(cls(), ByNumPy(cls, body), {"x": p}, shuffled)


@every_name
@every_dtype
def test_special_numbers(name, dtype, rules):
    cls = getattr(rules, name)
    p, g = special(dtype)
    follow(cls(lr=0.02), ByNumPy(cls, lr=0.02), {"x": p}, [{"x": s * g} for s in (1, 1, -1)])


def test_strong_scalars_do_not_widen_float32(rules):
    """np.float64 scalars and np.where of two literals would make float64 of it in NumPy."""
    start, lessons = lesson(np.float32)
    weak = ByNumPy(
        rules.Strong,
        lambda p, g, lr: p - lr * (math.sqrt(lr) * g + 0.1) * np.where(g > 0, p * 0 + 1, 0.5),
    )
    follow(rules.Strong(), weak, start, lessons)


@pytest.mark.parametrize(
    ("hyper", "body"),
    [
        ({}, lambda p, g, m, lr: (p - lr * (m + g / 2.0), m + g / 2.0)),
        ({"scale": 0.0}, lambda p, g, m, lr: (p - lr * (m + g), m + g)),
        ({"nesterov": 1.0}, lambda p, g, m, lr: (p - lr * (g / 2.0 + m), g / 2.0)),
        (
            {"scale": 0.5},
            lambda p, g, m, lr: (p - lr / 0.5 * (m + g * 2 * (lr / 0.5)), m + g * 2 * (lr / 0.5)),
        ),
        ({"scale": -1.0}, lambda p, g, m, lr: (p - lr * (m + g), m + g)),
    ],
)
@every_dtype
def test_an_if_on_numbers_computes_only_what_it_takes(hyper, body, dtype, rules):
    by_numpy = ByNumPy(rules.Switches, lambda p, g, m, lr, scale, nesterov: body(p, g, m, lr))
    follow(rules.Switches(**hyper), by_numpy, *lesson(dtype))


@every_dtype
def test_rounded_functions_are_close_to_numpys(dtype, rules):
    start, lessons = lesson(dtype, {"x": (5000,)}, 1)
    params, expected = {"x": start["x"].copy()}, {"x": start["x"].copy()}
    ours, other = rules.Rounded(), ByNumPy(rules.Rounded)
    ours.update(params, lessons[0])
    other.update(expected, lessons[0])
    tolerance = 8 * INFO[dtype].eps
    np.testing.assert_allclose(params["x"], expected["x"], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.m["x"], other.m["x"], rtol=tolerance, atol=tolerance)


def test_with_every_instruction_set_of_the_built_ins(isa, rules):
    start, lessons = lesson(np.float32)
    follow(rules.Adam(clip_norm=1.0), fo.Adam(clip_norm=1.0), start, lessons)


# ---------------------------------------------------------------- what other rules have, too

OPTIONS = [
    {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}, {"clip_value": 0.5},
    {"clip_norm": 1.0}, {"maximize": True}, {"zero_grads": True}, {"average": 0.9},
    {
        "weight_decay": 0.1, "decoupled": True, "clip_norm": 2.0, "maximize": True,
        "zero_grads": True, "average": 0.5,
    },
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("name", ["MyLion", "Adam"])
def test_options(options, name, rules):
    cls = getattr(rules, name)
    start, lessons = lesson(np.float32)
    ours, oracle = cls(lr=0.05, **options), Staged(ByNumPy(cls, lr=0.05), **options)
    follow(ours, oracle, start, lessons)
    assert_same_averages(ours, oracle)


def pair(rules, name, **options):
    """A rule and the built-in one that it is the same as."""
    return getattr(rules, name)(**options), rules.SAME[name](**options)


@every_name
@every_dtype
@pytest.mark.parametrize("length", [3, 40])
def test_rows(name, dtype, length, rules):
    rng = np.random.default_rng(5)
    params = arrays(rng, {"E": (50, length)}, dtype)
    expected = copies(params)
    ours, other = pair(rules, name, lr=0.02)
    for _ in range(4):
        grad = fo.Rows(rng.integers(0, 50, 30), arrays(rng, {"": (30, length)}, dtype)[""])
        ours.update(params, {"E": grad})
        other.update(expected, {"E": grad})
        assert_same_bits(ours, other, params, expected)


@every_name
@every_dtype
def test_rows_in_a_soft_batch(name, dtype, rules):
    rng = np.random.default_rng(5)
    params = arrays(rng, {"E": (50, 40)}, dtype)
    expected = copies(params)
    ours, other = pair(rules, name, lr=0.02)
    soft, other_soft = fo.SoftBatch(ours, every=2), fo.SoftBatch(other, every=2)
    for _ in range(4):
        grad = fo.Rows(rng.integers(0, 50, 30), arrays(rng, {"": (30, 40)}, dtype)[""])
        soft.update(params, {"E": grad})
        other_soft.update(expected, {"E": grad})
    assert ours.iter == 2
    assert_same_bits(ours, other, params, expected)


@every_name
@every_dtype
def test_elements(name, dtype, rules):
    rng = np.random.default_rng(5)
    params = arrays(rng, {"E": (50, 40)}, dtype)
    expected = copies(params)
    ours, other = pair(rules, name, lr=0.02)
    for _ in range(4):
        grad = sparse.random_array((50, 40), density=0.1, rng=rng, dtype=dtype)
        ours.update(params, {"E": grad})
        other.update(expected, {"E": grad})
        assert_same_bits(ours, other, params, expected)


@pytest.mark.parametrize("name", ["MyLion", "Adam"])
def test_groups_and_schedules(name, rules):
    options = {
        "lr": schedules.cosine_decay(0.1, steps=5), "beta1": schedules.ramp(0.5, 0.9, 0.1),
        "groups": [fo.Group("[ab]", lr=0.5, weight_decay=0.1), fo.Group("c", decoupled=True)],
        "nonfinite": "skip", "weight_decay": 0.01,
    }
    ours, other = pair(rules, name, **options)
    start, lessons = lesson(np.float32)
    lessons[1]["a"][0] = np.nan
    follow(ours, other, start, lessons)
    assert (ours.iter, ours.skipped) == (3, 1)


def test_every_parameter_has_its_own_step_count(rules):
    ours, other = pair(rules, "Adam")
    params, expected = {"x": np.ones(3), "y": np.ones(3)}, {"x": np.ones(3), "y": np.ones(3)}
    for grads in ({"x": np.ones(3), "y": None}, {"x": np.ones(3), "y": np.ones(3)}):
        ours.update(params, grads)
        other.update(expected, grads)
    assert_same_bits(ours, other, params, expected)


def test_coefficients_are_called_once_per_step(rules):
    calls = []

    def coefficients(t, lr):
        calls.append((t, lr))
        return {"rate": lr / t}

    @fo.rule(lr=0.5, coefficients=coefficients)
    def Decaying(p, g, rate):
        return p - rate * g

    opt, params = Decaying(lr=1.0), {key: np.zeros(2) for key in range(50)}
    for _ in range(2):
        opt.update(params, {key: np.ones(2) for key in range(50)})
    assert calls == [(1, 0.5), (1, 1.0), (2, 1.0)]  # the first at definition
    assert params[7].tolist() == [-1.5, -1.5]


def test_soft_batch(rules):
    ours, other = pair(rules, "Adam", clip_norm=1.0)
    soft, other_soft = fo.SoftBatch(ours, every=2), fo.SoftBatch(other, every=2)
    start, lessons = lesson(np.float32)
    params, expected = copies(start), copies(start)
    for grads in lessons:
        assert soft.update(params, grads) == other_soft.update(expected, grads)
    assert_same_bits(ours, other, params, expected)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Rprop"])
def test_saved_loaded_and_copied(name, rules, tmp_path):
    cls = getattr(rules, name)
    start, lessons = lesson(np.float32)
    first = cls(lr=0.05, average=0.9)
    params = follow(first, cls(lr=0.05, average=0.9), start, lessons[:2])
    first.save(tmp_path / "opt")
    by_dict, by_file = cls(), cls()
    by_dict.load_state_dict(first.state_dict())
    by_file.load(tmp_path / "opt")
    for later in (by_dict, by_file, copy.deepcopy(first)):
        assert (later.lr, later.iter) == (0.05, 2)
        a, b = copies(params), copies(params)
        control = copy.deepcopy(first)
        for grads in lessons[2:]:
            later.update(a, grads)
            control.update(b, grads)
        assert_same_bits(later, control, a, b)
    other = rules.Momentum()
    with pytest.raises(ValueError, match=f"the state is of {name}, this optimizer is Momentum"):
        other.load_state_dict(first.state_dict())


def updated_in_child(cls):
    opt, params = cls(lr=1.0), {"x": np.zeros(300_000)}
    opt.update(params, {"x": np.ones(300_000)})
    return params["x"].min(), params["x"].max()


def test_works_in_a_forked_process(rules):
    updated_in_child(rules.MyLion)  # threads are running
    reader, writer = get_context("fork").Pipe(duplex=False)
    child = get_context("fork").Process(
        target=lambda: writer.send(updated_in_child(rules.MyLion))
    )
    child.start()
    assert reader.poll(60)
    assert reader.recv() == (-1.0, -1.0)
    child.join()


def test_the_loop_lives_as_long_as_an_optimizer(monkeypatch):
    loops = []
    compile_loop = compiled.loop

    def watched(*arguments):
        loop = compile_loop(*arguments)
        loops.append(weakref.ref(loop))
        return loop

    monkeypatch.setattr(compiled, "loop", watched)

    def made():
        @fo.rule(state=("m",), lr=0.5)
        def Short(p, g, m, lr):
            return p - lr * g, g

        return Short(), weakref.ref(Short)

    opt, cls = made()
    gc.collect()
    params = {"x": np.zeros(5)}
    opt.update(params, {"x": np.ones(5)})
    assert params["x"].tolist() == [-0.5] * 5
    assert None not in [loop() for loop in loops]
    del opt
    gc.collect()
    assert cls() is None  # and no longer
    assert [loop() for loop in loops] == [None, None]


# ---------------------------------------------------------------- the class

def test_the_class_is_like_any_other(rules):
    cls = rules.Adam
    assert issubclass(cls, Optimizer)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("Adam", "Adam", "custom_rules")
    assert rules.Locals.__qualname__ == "closure.<locals>.Locals"
    assert cls.kernels == {"Adam": ("m", "v")}
    signature = inspect.signature(cls)
    own = [v for v in signature.parameters.values() if v.kind is v.POSITIONAL_OR_KEYWORD]
    assert [v.name for v in own] == ["lr", "beta1", "beta2", "eps"]
    assert [v.default for v in own] == [0.001, 0.9, 0.999, 1e-7]
    assert repr(cls(0.1, clip_norm=1.0)) == (
        "Adam(lr=0.1, beta1=0.9, beta2=0.999, eps=1e-07, clip_norm=1.0)"
    )
    text, _, options = cls.__doc__.partition("\n\nOther Parameters\n----------------\n")
    assert options.startswith("weight_decay : float in [0, inf), default 0.0\n")
    assert text == (
        "Adam, in the order of the published listing.\n\n"
        "Parameters\n----------\n"
        "lr : float in [0, inf), default 0.001\n"
        "beta1 : float in [0, 1), default 0.9\n"
        "beta2 : float in [0, 1), default 0.999\n"
        "eps : float in [0, inf), default 1e-07\n\n"
        "Attributes\n----------\n"
        "m : mapping of key to array, which starts at 0\n"
        "v : mapping of key to array, which starts at 0"
    )
    assert "\ndelta : mapping of key to array, which starts at lr" in rules.Rprop.__doc__
    assert cls.body(1.0, 0.0, 0.0, 0.0, 0.9, 0.999, 1e-7, 0.1) == (1.0, 0.0, 0.0)


def test_coefficients_are_what_the_loop_gets(rules):
    """In the order in which the body meets them, 1 - beta1 among them."""
    opt = rules.MyLion(lr=0.5, beta1=0.75, beta2=0.1)
    assert opt.coefficients(1) == (0.75, 0.25, 0.5, 0.1, 1 - 0.1)


@pytest.mark.parametrize(
    ("hyper", "error", "text"),
    [
        ({"lr": -1}, ValueError, r"lr must be in \[0, inf\), got -1"),
        ({"lr": "1"}, TypeError, r"lr must be a number in \[0, inf\), got '1'"),
        ({"beta1": 1.0}, ValueError, r"beta1 must be in \[0, 1\), got 1.0"),
        ({"beta1": math.nan}, ValueError, r"beta1 must be in \[0, 1\), got nan"),
        ({"beta3": 1}, TypeError, "has no hyperparameter 'beta3'; did you mean"),
        ({"clip_value": 1.0, "clip_norm": 1.0}, ValueError, "cannot both be set"),
    ],
)
def test_hyperparameters_are_checked(hyper, error, text, rules):
    with pytest.raises(error, match=text):
        rules.Adam(**hyper)


def test_without_lr_there_is_no_decoupled_decay():
    @fo.rule(rate=0.5)
    def Lrless(p, g, rate):
        return p - rate * g

    text = r"decoupled=True multiplies by 1 − lr·weight_decay, and Lrless has no lr"
    with pytest.raises(ValueError, match=text):
        Lrless(decoupled=True)
    with pytest.raises(ValueError, match=text):
        Lrless(groups=[fo.Group("*", decoupled=True)])
    opt, params = Lrless(weight_decay=0.5), {"x": np.ones(2)}
    with pytest.raises(ValueError, match=text):
        opt.decoupled = True
    with pytest.raises(TypeError, match="decoupled must be True or False, got 1"):
        opt.decoupled = 1
    opt.decoupled = False
    opt.update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [0.25, 0.25]
    assert repr(opt) == "Lrless(rate=0.5, weight_decay=0.5)"


# ---------------------------------------------------------------- errors in the body

HEAD = """\
import math
import numpy as np
import fastoptim as fo
W = np.ones(3)
def helper(a, b=1, /):
    return a + undefined
def again(a):
    return again(a)
def nothing(a):
    a = 1
def rest(*args):
    return args[0]
class Box:
    rate = 0.5
@fo.rule(state=("m",), lr=0.1)
def Mine(p, g, m, lr):
"""
FIRST = HEAD.count("\n") + 1  # the line of the body's first


def define(tmp_path, text):
    """Run a file whose text is this."""
    path = tmp_path / "user.py"
    path.write_text(text, "utf-8")
    names = {"__name__": "user"}
    exec(compile(text, str(path), "exec"), names)
    return names


# body, error, the line in the body, the text
BODIES = [
    ("return p - lr * undefined, m", NameError, 1, "name 'undefined' is not defined"),
    ("x = 1\nreturn np.foo(p), m", NameError, 2, "there is no np.foo: module 'numpy' has no attri"),
    ("x = 1\nreturn p, np.cumsum(m)", TypeError, 2, "np.cumsum cannot be called in a rule"),
    ("return p - np.mean(g), m", TypeError, 1, "np.mean cannot be called in a rule"),
    ("return p - float(g), m", TypeError, 1, "float cannot be called in a rule"),
    ("print(g)\nreturn p, m", TypeError, 1, "print cannot be called in a rule"),
    ("p - lr * g\nreturn p, m", TypeError, 1, "this value is computed and then dropped"),
    ("return p - lr * g", ValueError, 1, "this returns one value; a rule returns the new p, new m"),
    ("return p, m, g", ValueError, 1, "this returns 3 values; a rule returns the new p, new m"),
    ("return (p,)", ValueError, 1, "this returns 1 values; a rule returns the new p, new m"),
    ("return", TypeError, 1, "this returns nothing"),
    ("return None, m", TypeError, 1, "None is no number, but of type NoneType"),
    ("return p, 'm'", TypeError, 1, "'m' is no number, but of type str"),
    ("return p, (m, g)", TypeError, 1, "there are several values here where one number is needed"),
    ("return p, g > 0", TypeError, 1, "the new m is a comparison, and must be a number"),
    ("return p - W, m", TypeError, 1, "W is no number, but of type ndarray"),
    ("return p, np.sqrt", TypeError, 1, "np.sqrt is no number, but of type ufunc"),
    ("x = 1", TypeError, 1, "the function can end here without a return"),
    ("if g > 0:\n    return p, m\np = 1", TypeError, 1, "one way on from this if ends without"),
    (
        "p = 1\nif lr > 0:\n    if g > 0:\n        return p, m\n    m = 1", TypeError, 3,
        "one way on from this if ends without a return",
    ),
    ("if g > 0:\n    x = 1\nreturn p * x, m", NameError, 3, "'x' is given a value on one side of"),
    ("y = x\nx = 1\nreturn p, m", NameError, 1, "'x' is used before it is given a value"),
    ("assert lr > 0\nreturn p, m", TypeError, 1, "assert cannot be in a rule"),
    ("\nif g > 0:\n    raise ValueError\nreturn p, m", TypeError, 3, "raise cannot be in a rule"),
    ("for k in range(3):\n    p = p - g\nreturn p, m", TypeError, 1, "a loop cannot be in a rule"),
    ("while g > 0:\n    g = g - 1\nreturn p, m", TypeError, 1, "a loop cannot be in a rule"),
    ("return p - sum([x for x in (g, m)]), m", TypeError, 1, "a loop cannot be in a rule"),
    ("import numpy\nreturn p, m", TypeError, 1, "import cannot be in a rule"),
    ("global W\nreturn p, m", TypeError, 1, "global cannot be in a rule"),
    ("f = lambda x: x\nreturn p, m", TypeError, 1, "a lambda cannot be in a rule"),
    ("return p[0], m", TypeError, 1, "an index cannot be in a rule"),
    ("m[...] = g\nreturn p, m", TypeError, 1, "a rule writes into nothing; it returns the new p"),
    ("m[...] += g\nreturn p, m", TypeError, 1, "a rule writes into nothing; it returns the new p"),
    ("Box.rate = g\nreturn p, m", TypeError, 1, "a rule writes into nothing; it returns the new p"),
    (
        "return p - (g * g).sum(), m", TypeError, 1,
        "a number has no .sum here; a rule is arithmetic on one element of each array, and "
        r"help\(fastoptim.rule\) lists what can be called",
    ),
    ("return p - Box.slow, m", NameError, 1, "there is no Box.slow"),
    ("return p - lr(0), m", TypeError, 1, "a number is called here as if it were a function"),
    ("return np.sqrt(p, out=p), m", TypeError, 1, "np.sqrt takes no arguments by name in a rule"),
    ("return np.maximum(p), m", TypeError, 1, "np.maximum takes 2 numbers here, got 1"),
    ("return np.sqrt((p, g)), m", TypeError, 1, "there are several values here where one number"),
    ("return p // g, m", TypeError, 1, "// is not available for elements of arrays"),
    ("return p @ g, m", TypeError, 1, "@ is not available for elements of arrays"),
    ("return (p > 0) + (g > 0), m", TypeError, 1, r"\+ of two comparisons; join them by & or"),
    ("return -(p > 0), m", TypeError, 1, "- of a comparison"),
    ("return p * (not g), m", TypeError, 1, "not of a number, not of a comparison"),
    ("return p or g, m", TypeError, 1, "and, or join comparisons; choose between numbers by np.wh"),
    ("return (p if g is None else m), m", TypeError, 1, "Is cannot be in a rule"),
    ("a, b = p, g, m\nreturn p, m", ValueError, 1, "2 names for 3 values"),
    ("a, b = p\nreturn p, m", ValueError, 1, "2 names for 1 values"),
    ("a, *b = p, m\nreturn p, m", TypeError, 1, r"\* cannot be in a rule"),
    ("return p * (1 / 0), m", ValueError, 1, "ZeroDivisionError: division by zero"),
    ("return p * (-1) ** 0.5, m", TypeError, 1, "is no real number"),
    ("return p * math.sqrt(-1), m", ValueError, 1, "ValueError: math domain|expected a nonn"),
    ("return p * 10 ** 400, m", ValueError, 1, "int too large to convert to float"),
    ("return again(p), m", TypeError, 1, "again calls itself"),
    ("return helper(p, 1, 2), m", TypeError, 1, "helper: too many positional arguments"),
    ("return rest(p), m", TypeError, 1, r"rest takes \*args; name each argument"),
    ("return (p +\n    lr * (g - nowhere)), m", NameError, 2, "name 'nowhere' is not defined"),
]


@pytest.mark.parametrize(("body", "error", "line", "text"), BODIES, ids=[b[0] for b in BODIES])
def test_errors_name_the_line(body, error, line, text, tmp_path):
    source = HEAD + "".join(f"    {x}\n" for x in body.split("\n"))
    if "again(p)" in body:
        line = 8 - FIRST + 1  # where it calls itself
    shown = source.split("\n")[FIRST + line - 2].strip()
    with pytest.raises(error, match=text) as caught:
        define(tmp_path, source)
    message = str(caught.value)
    assert message.startswith(f"Mine, {tmp_path / 'user.py'} line {FIRST + line - 1}")
    assert message.endswith(f"\n    {shown}")


def test_an_error_in_a_helper_names_both_lines(tmp_path):
    path = tmp_path / "user.py"
    with pytest.raises(NameError) as caught:
        define(tmp_path, HEAD + "    return helper(p), m\n")
    assert str(caught.value) == (
        f"Mine, {path} line 6, called from {path} line {FIRST}: name 'undefined' is not defined\n"
        f"    return a + undefined"
    )
    with pytest.raises(TypeError, match=f"line 10, called from .* line {FIRST}: the function can"):
        define(tmp_path, HEAD + "    return nothing(p), m\n")


def test_a_number_that_cannot_be_computed_names_its_line(tmp_path):
    text = HEAD + "    x = g\n    return p - x / (1 / lr), m\n"
    opt, params = define(tmp_path, text)["Mine"](lr=1.0), {"x": np.ones(2)}
    opt.lr = 0.0
    with pytest.raises(ZeroDivisionError) as caught:
        opt.update(params, {"x": np.ones(2)})
    assert caught.value.__notes__ == [
        f"in Mine, {tmp_path / 'user.py'} line {FIRST + 1}: return p - x / (1 / lr), m"
    ]
    assert params["x"].tolist() == [1.0, 1.0]
    assert opt.iter == 0


def test_without_source_there_is_no_rule():
    names = {"np": np, "fo": fo}
    with pytest.raises(ValueError, match="Mine: its source cannot be read from <string> line 1; "):
        exec("@fo.rule(lr=0.1)\ndef Mine(p, g, lr):\n    return p - lr * g", names)


def test_a_file_that_has_changed_since_is_noticed(tmp_path):
    text = "import fastoptim as fo\ndef Mine(p, g, lr):\n    return p - lr * g\n"
    names = define(tmp_path, text)
    edits = [("g, lr", "g, rate"), ("- lr", "+ lr"), ("p - lr", "p - 2 * lr"), ("p -", "g -")]
    for before, after in edits:
        (tmp_path / "user.py").write_text(text.replace(before, after), "utf-8")
        with pytest.raises(ValueError, match="Mine: its source cannot be read from .*user.py line"):
            fo.rule(lr=0.1)(names["Mine"])
    (tmp_path / "user.py").write_text(text + "x = 1\n", "utf-8")  # elsewhere
    fo.rule(lr=0.1)(names["Mine"])
    (tmp_path / "user.py").write_text("def Mine(:", "utf-8")
    with pytest.raises(ValueError, match="Mine: .*user.py is no longer what was run: "):
        fo.rule(lr=0.1)(names["Mine"])


def test_a_helper_of_a_module_whose_name_begins_like_numpy(tmp_path):
    names = define(tmp_path, "import fastoptim as fo\ndef twice(x):\n    return 2 * x\n"
                   "def Mine(p, g, lr):\n    return p - lr * twice(g)\n")
    names["twice"].__module__ = "numpy_helpers"
    params = {"x": np.ones(2)}
    fo.rule(lr=0.1)(names["Mine"])().update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [0.8, 0.8]


def test_a_lambda_as_a_helper(tmp_path):
    names = define(tmp_path, "twice = lambda x: 2 * x\ndef Mine(p, g, lr):\n"
                   "    return p - lr * twice(g)\n")
    with pytest.raises(ValueError, match=r"line 3: a rule calls functions made by def; "
                       r".*user\.py line 1 has a lambda\n    return p - lr \* twice"):
        fo.rule(lr=0.1)(names["Mine"])


def test_p_and_g_the_wrong_way_round(tmp_path):
    names = define(tmp_path, "def Mine(g, p, lr):\n    return p - lr * g\n"
                   "def Theirs(param, grad, lr):\n    return param - lr * grad\n")
    with pytest.raises(TypeError, match="^Mine must take the parameter p first and then its gradi"):
        fo.rule(lr=0.1)(names["Mine"])
    params = {"x": np.ones(2)}
    fo.rule(lr=0.1)(names["Theirs"])().update(params, {"x": np.full(2, 5.0)})
    assert params["x"].tolist() == [0.5, 0.5]


WRAPPED = """\
import functools
import fastoptim as fo
def swapped(f):
    @functools.wraps(f)
    def inner(p, g, beta, lr):
        return f(p, g, lr, beta)
    return inner
def counted(f):
    @functools.wraps(f)
    def inner(*args):
        return f(*args)
    return inner
def Mine(p, g, lr, beta):
    return p - lr * g + 0 * beta
"""


def test_a_decorator_below_is_the_rule_and_its_arguments_count(tmp_path):
    names = define(tmp_path, WRAPPED)
    params = {"x": np.ones(2)}
    fo.rule(lr=0.1, beta=0.9)(names["swapped"](names["Mine"]))().update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [0.9, 0.9]
    with pytest.raises(TypeError, match=r"^Mine must name each of its arguments, and takes \*args"):
        fo.rule(lr=0.1, beta=0.9)(names["counted"](names["Mine"]))


@pytest.mark.parametrize("literal", ["1e-50", "1e50"])
def test_a_literal_that_float32_cannot_hold(literal, tmp_path):
    text = HEAD + f"    return p - g / {literal}, m\n"
    opt = define(tmp_path, text)["Mine"]()
    params = {"x": np.ones(2)}
    opt.update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [1 - 1 / float(literal)] * 2
    if literal == "1e50":
        with pytest.raises(ValueError, match=r"coefficient of 1e\+50, which float32 cannot hold"):
            opt.update({"y": np.ones(2, np.float32)}, {"y": np.ones(2, np.float32)})


# ---------------------------------------------------------------- errors around the body

def sgd(p, g, lr):
    return p - lr * g


def with_m(p, g, m, lr):
    return p - lr * m, g


async def waits(p, g, lr):
    return p


def yields(p, g, lr):
    yield p


def given(p, g, lr=0.1):
    return p


def starred(p, g, *numbers):
    return p


def by_name(p, g, *, lr):
    return p


def swapped(p, m, g, lr):
    return p, m


def normed(p, g, lr, norm_p):
    return p - lr * norm_p * g


AROUND = [
    ({"lr": 0.1}, lambda p, g, lr: p, TypeError, "a rule is made of a function with a name"),
    ({"lr": 0.1}, 3, TypeError, "a rule is made of a function with a name, by def; got 3"),
    ({"lr": 0.1}, math.sqrt, TypeError, "a rule is made of a function with a name"),
    ({"lr": 0.1}, waits, TypeError, "waits must be a plain function, without async"),
    ({"lr": 0.1}, yields, TypeError, "yields must be a plain function, without async"),
    ({"lr": 0.1}, given, TypeError, r"given gives lr a default; defaults are given to rule\(lr="),
    ({"lr": 0.1}, starred, TypeError, r"starred must name each of its arguments, and takes \*num"),
    ({"lr": 0.1}, by_name, TypeError, "by_name must take lr by position"),
    ({"state": ("m",), "lr": 0.1}, swapped, TypeError, "swapped must take p, g, m, in this order"),
    ({"state": ("m",), "lr": 0.1}, sgd, TypeError, "sgd must take p, g, m, in this or.* p, g, lr"),
    ({"g": 0.1, "lr": 0.1}, sgd, TypeError, "its first two arguments are p, g, but g is a number"),
    ({"rate": 0.1}, sgd, TypeError, r"sgd takes lr, which is neither .* numbers \(rate\)"),
    ({}, sgd, TypeError, r"sgd takes lr, which is neither .* numbers \(it has none\)"),
    ({"lr": 0.1, "mu": 0.9}, sgd, TypeError, "sgd does not take mu, which rule gives it"),
    ({"state": "m", "lr": 0.1}, with_m, TypeError, "state must be a tuple of names, such as"),
    ({"state": 3}, with_m, TypeError, "state must be a tuple of names, such as"),
    ({"state": (3,)}, with_m, TypeError, "a state array must be a name, got 3"),
    ({"state": ("m", "m")}, with_m, ValueError, "state names an array twice"),
    ({"state": tuple("abcdefh")}, with_m, ValueError, "at most 6 state arrays, got 7"),
    ({"state": ("_m",)}, with_m, ValueError, "a name without a leading underscore, got '_m'"),
    ({"state": ("a b",)}, with_m, ValueError, "must be a name without a leading under"),
    ({"state": ("if",)}, with_m, ValueError, "must be a name without a leading under"),
    ({"state": ("iter",)}, with_m, ValueError, "'iter' is an option or attribute of every"),
    ({"state": {"m": "initial"}}, with_m, ValueError, "state 'm' starts at 'initial', which is no"),
    ({"state": ("lr",), "lr": 0.1}, with_m, ValueError, "lr is both a state array and a hyper"),
    ({"weight_decay": 0.1}, sgd, ValueError, "'weight_decay' is an option or attribute of every"),
    ({"clip_norm": 0.1}, sgd, ValueError, "'clip_norm' is an option or attribute of every"),
    ({"groups": 0.1}, sgd, ValueError, "'groups' is an option or attribute of every"),
    ({"update": 0.1}, sgd, ValueError, "'update' is an option or attribute of every"),
    ({"plan": 0.1}, sgd, ValueError, "'plan' is an option or attribute of every"),
    ({"engine": 0.1}, sgd, ValueError, "'engine' is an option or attribute of every"),
    ({"body": 0.1}, sgd, ValueError, "'body' is an option or attribute of every"),
    ({"t": 0.1}, sgd, ValueError, "t is the number of the update"),
    ({"lr": "fast"}, sgd, TypeError, r"lr must be a number in \[0, inf\), got 'fast'"),
    ({"lr": None}, sgd, TypeError, r"lr must be a number in \[0, inf\), got None"),
    ({"lr": True}, sgd, TypeError, r"lr must be a number in \[0, inf\), got True"),
    ({"lr": -1.0}, sgd, ValueError, r"lr must be in \[0, inf\), got -1.0"),
    ({"mu": math.inf}, sgd, ValueError, r"mu must be in \(-inf, inf\), got inf"),
    ({"lr": (2.0, "[0, 1]")}, sgd, ValueError, r"lr must be in \[0, 1\], got 2.0"),
    ({"lr": (2.0, "0 to 1")}, sgd, ValueError, r"the interval of lr must be such as '\[0, 1\)'"),
    ({"lr": (2.0, "[a, b)")}, sgd, ValueError, r"the interval of lr must be such as '\[0, 1\)'"),
    ({"lr": (2.0, "[1, 0]")}, sgd, ValueError, r"the interval of lr must be such as '\[0, 1\)'"),
    ({"lr": (2.0,)}, sgd, TypeError, r"lr must be a number, or a number and an interval such as"),
    ({"lr": (2.0, 1)}, sgd, TypeError, r"lr must be a number, or a number and an interval such as"),
    ({"norms": "g", "lr": 0.1}, sgd, TypeError, r"norms must be a tuple of 'p' and 'g', such as"),
    ({"norms": ("x",), "lr": 0.1}, sgd, TypeError, r"norms must be a tuple .* got \('x',\)"),
    ({"norms": (["p"],), "lr": 0.1}, sgd, TypeError, r"norms must be a tuple .* got \(\['p'\],\)"),
    ({"norms": {"p"}, "lr": 0.1}, sgd, TypeError, r"norms must be a tuple .* got \{'p'\}"),
    ({"norms": ("p", "p"), "lr": 0.1}, sgd, ValueError, r"norms names a norm twice: \('p', 'p'\)"),
    ({"norms": ("g",), "lr": 0.1}, sgd, TypeError, "sgd does not take norm_g, which norms gives"),
    ({"norms": ("p",), "state": ("norm_p",)}, sgd, ValueError, "is both a state array and a norm"),
    ({"norm_p": 1.0, "lr": 0.1}, sgd, ValueError, r"ask for it with rule\(norms=\('p', 'g'\)\)"),
    ({"norm": ("p",), "lr": 0.1}, sgd, TypeError, "rule has no 'norm'; did you mean 'norms'"),
    ({"norm": 1.0, "lr": 0.1}, sgd, ValueError, "'norm' is an option or attribute of every"),
    ({"lr": 0.1}, normed, TypeError, r"normed takes norm_p, .* ask for: rule\(norms=\('p',\)\)"),
    (
        {"norms": ("g",), "lr": 0.1}, normed, TypeError,
        r"normed takes norm_p, .* ask for: rule\(norms=\('p', 'g'\)\)",
    ),
    (
        {"norms": ("p",), "lr": 0.1, "coefficients": lambda t: {"norm_p": 1.0}}, normed, ValueError,
        "coefficients returns 'norm_p', which norms asks for",
    ),
    ({"lr": 0.1, "coefficients": {"x": 1}}, sgd, TypeError, "coefficients must be a function of t"),
    ({"lr": 0.1, "coefficients": lambda t, m: {}}, sgd, TypeError, "coefficients takes 'm', which"),
    ({"lr": 0.1, "coefficients": lambda *, t: 3}, sgd, TypeError, "must take t by position"),
    ({"lr": 0.1, "coefficients": lambda t: 3}, sgd, TypeError, "coefficients must return a dict"),
    ({"lr": 0.1, "coefficients": lambda t: {}}, sgd, ValueError, "coefficients returns nothing"),
    (
        {"lr": 0.1, "coefficients": lambda t: {"x": "1"}}, sgd, TypeError,
        "x, as coefficients returns it, must be a number, got '1'",
    ),
    ({"lr": 0.1, "coefficients": lambda t: {"lr": 1}}, sgd, ValueError, "returns 'lr', which is a"),
    (
        {"lr": 0.1, "coefficients": lambda t: {"x": 1}}, sgd, TypeError,
        "sgd does not take x, which coefficients returns",
    ),
]


@pytest.mark.parametrize(("arguments", "fn", "error", "text"), AROUND)
def test_errors_around_the_body(arguments, fn, error, text):
    with pytest.raises(error, match=text):
        fo.rule(**arguments)(fn)


def test_a_norm_needs_parentheses():
    with pytest.raises(TypeError, match=r"norm_p, .* parentheses: @rule\(norms=\('p',\), lr="):
        fo.rule(normed)


def test_coefficients_are_checked_at_every_step():
    @fo.rule(lr=0.5, coefficients=lambda t, lr: {"x": lr} if t < 3 else {"y": lr})
    def Changing(p, g, x):
        return p - x * g

    opt, params = Changing(), {"x": np.zeros(2)}
    for _ in range(2):
        opt.update(params, {"x": np.ones(2)})
    with pytest.raises(ValueError, match="coefficients returned y at t = 3, and x with the defaul"):
        opt.update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [-1.0, -1.0]

    @fo.rule(lr=0.5, coefficients=lambda t, lr: {"x": 1 / lr})
    def Failing(p, g, x):
        return p - x * g

    with pytest.raises(ZeroDivisionError) as caught:
        Failing(lr=0.0).update(params, {"x": np.ones(2)})
    assert caught.value.__notes__ == ["in coefficients of a rule, called with t = 1, lr = 0.0"]
    with pytest.raises(ValueError, match=r"the hyperparameters give a coefficient of inf"):
        Failing(lr=5e-324).update(params, {"x": np.ones(2)})


# ---------------------------------------------------------------- numba

def test_without_numba_an_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"compiled by numba.*: pip install 'fastoptim\[custom\]"):
        fo.rule(lr=0.1)(sgd)


def test_with_its_compiler_switched_off(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(RuntimeError, match="NUMBA_DISABLE_JIT is set"):
        fo.rule(lr=0.1)(sgd)


def test_importing_fastoptim_does_not_import_numba():
    code = "import sys, fastoptim; sys.exit('numba' in sys.modules)"
    assert run_code(code).returncode == 0


def test_functions_of_numba_are_followed():
    import numba

    @numba.njit
    def half(x):
        return x / 2

    @fo.rule(lr=0.1)
    def Half(p, g, lr):
        return p - half(g) * builtins.abs(-half(lr))

    params = {"x": np.zeros(2)}
    Half(lr=1.0).update(params, {"x": np.ones(2)})
    assert params["x"].tolist() == [-0.25, -0.25]


@fo.rule
def Bare(p, g, lr):
    return p - lr * g


@fo.rule
def Leaky(p, g, lr=0.5, slope=(0.1, "[0, 1]")):
    """Less of what is negative."""
    return p - lr * np.where(g > 0, g, slope * g)


def test_without_parentheses_the_numbers_are_those_of_the_def():
    params, grads = {"x": np.array([1.0, 2.0])}, {"x": np.array([2.0, -2.0])}
    opt = Bare()
    assert repr(opt) == "Bare(lr=0.01)"
    opt.update(params, grads)
    assert params["x"].tolist() == [1.0 - 0.01 * 2.0, 2.0 + 0.01 * 2.0]
    opt = Leaky(slope=0.25)
    assert repr(opt) == "Leaky(lr=0.5, slope=0.25)"
    params = {"x": np.array([1.0, 2.0])}
    opt.update(params, grads)
    assert params["x"].tolist() == [0.0, 2.25]
    assert Leaky.__doc__.startswith("Less of what is negative.")
    with pytest.raises(ValueError, match=r"slope must be in \[0, 1\], got 2"):
        opt.slope = 2


def one_of_state(p, g, m, lr):
    return p - lr * m, m


def of_text(p, g, lr="x"):
    return p - lr * g


def not_first(g, p, lr=0.1):
    return p - lr * g


WITHOUT = [
    (one_of_state, {}, TypeError, r"gives m no default.*@rule\(state=\('m',\), lr=0.01\)"),
    (of_text, {}, TypeError, "lr must be a number"),
    (not_first, {}, TypeError, "must take the parameter p first"),
    (0.1, {}, TypeError, "a rule is made of a function with a name, by def; got 0.1"),
    (Bare, {}, TypeError, "a rule is made of a function with a name"),
    (of_text, {"lr": 0.1}, TypeError, r"arguments beside it; write rule\(lr=0.01\)\(function\)"),
]


@pytest.mark.parametrize(("fn", "arguments", "error", "text"), WITHOUT)
def test_without_parentheses_refused(fn, arguments, error, text):
    with pytest.raises(error, match=text):
        fo.rule(fn, **arguments)
