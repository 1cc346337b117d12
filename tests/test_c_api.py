"""The C API is what its page says: the struct, the names, and what each of them computes."""

import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import CLASSES, RuleStruct, call_loop, every_dtype, struct_of

import fastoptim as fo
from fastoptim import kernels
from fastoptim.kernels import api

ROOT = Path(__file__).parent.parent
PACKAGE = Path(fo.__file__).parent
PAGE = (ROOT / "docs/c-api.md").read_text("utf-8")
NAMES = sorted(set().union(*[cls.kernels for cls in CLASSES]))


# ---------------------------------------------------------------- the capsules


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_a_capsule_of_its_name(name):
    rule = struct_of(kernels.capsule(name))
    assert (rule.abi, rule.name) == (2, name.encode())
    assert rule.f32
    assert rule.f64


@pytest.mark.parametrize("name", ["adma", "", "_zero", None, 1])
def test_an_unknown_name_lists_the_names(name):
    with pytest.raises(ValueError, match="rule must be one of sgd, momentum, .*got") as problem:
        kernels.capsule(name)
    listed = str(problem.value).removeprefix("rule must be one of ").partition(", got ")[0]
    assert sorted(listed.split(", ")) == NAMES


@every_dtype
def test_ctypes_can_call_a_rule(dtype):
    p, g, v = (np.full(5, x, dtype) for x in (1.0, 2.0, 3.0))
    expected, velocity = p.copy(), v.copy()
    c = fo.Momentum(lr=0.1, alpha=0.5).coefficients(1)
    kernels.step("momentum", expected, g, (velocity,), c)
    call_loop(kernels.capsule("momentum"), p, g, [v], np.array(c, dtype))
    np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(v, velocity)


# ---------------------------------------------------------------- what clients were compiled with

# name: (slots, coefs, digest of what it computes). While RULE_ABI is 2 no line of it changes; a
# rule that computes anything else gets another name. The rules that a release brings get their
# lines with it.
PINNED = {
    "sgd": (0, 1, "0a4c83111cfb"),
    "momentum": (1, 2, "bc2b74b80720"),
    "heavy_ball": (1, 3, "f5cb127a8128"),
    "heavy_ball_nesterov": (1, 3, "6d3df7bbc776"),
    "nesterov": (1, 4, "cb22ac070063"),
    "nesterov_listing": (1, 4, "8a66e82888f1"),
    "lion": (1, 5, "ca554894ad59"),
    "rprop": (2, 4, "56bcf6905393"),
    "adagrad": (1, 3, "2866766d16c7"),
    "ftrl": (2, 3, "d05b6b584353"),
    "rmsprop": (1, 5, "6fd257eb7b5e"),
    "rmsprop_momentum": (2, 6, "fd936749204b"),
    "rmsprop_centered": (2, 5, "5e3a35cd66e0"),
    "rmsprop_centered_momentum": (3, 6, "cab501ea263c"),
    "adadelta": (2, 4, "6d211c5e478a"),
    "adam": (2, 5, "f5f9fe52a666"),
    "adam_amsgrad": (3, 5, "a8ea34875989"),
    "adamax": (2, 4, "aff271c949a6"),
    "nadam": (2, 5, "f21212f52d45"),
    "radam": (2, 5, "93d880fed7dc"),
    "adabelief": (2, 5, "45b471581561"),
    "sign_sgd": (0, 1, "26ec87df5db9"),
    "sign_sgd_momentum": (1, 3, "52fea73b322d"),
    "schedule_free_sgd": (1, 5, "c925916ab4fe"),
    "yogi": (2, 4, "9b2fb0deeab2"),
    "adan": (4, 8, "d478a1032e3b"),
    "schedule_free_adamw": (2, 7, "e9ac5a7f2e0d"),
}


def digest(name, last=None):
    """Two steps in either dtype of a rule; all coefficients differ, or the last is given."""
    capsule = kernels.capsule(name)
    rule = struct_of(capsule)
    i = np.arange(67)                     # whole vectors and a rest
    seen = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        p, g = (i % 7 / 4 - 0.75).astype(dtype), (i % 5 / 8 - 0.25).astype(dtype)
        s = [(i % (11 + k) / 16 + 0.0625).astype(dtype) for k in range(rule.slots)]
        c = np.array([1 / (k + 2) for k in range(rule.coefs)], dtype)
        if last is not None:
            c[-1] = last
        for _ in range(2):
            call_loop(capsule, p, g, s, c)
        for a in (p, *s):
            assert np.isfinite(a).all()   # a NaN has no bits of its own
            seen.update(a.astype(a.dtype.newbyteorder("<")).tobytes())
    return seen.hexdigest()[:12]


def test_no_name_has_changed_its_meaning():
    now = {}
    for name in PINNED:
        rule = struct_of(kernels.capsule(name))
        now[name] = rule.slots, rule.coefs, digest(name)
    assert now == PINNED


# What these computed from one coefficient less, in version 1.
WITHOUT_EPS_ROOT = {
    "adagrad": "2b20b453045a",
    "rmsprop": "6e88923e0270",
    "rmsprop_momentum": "1ab8f9360589",
    "rmsprop_centered": "a8e5a987b0f9",
    "rmsprop_centered_momentum": "c68ce5a9d4d5",
    "adam": "93d880fed7dc",
    "adam_amsgrad": "91f5c8dfc285",
}


def test_an_eps_root_of_0_changes_no_bit():
    assert {name: digest(name, last=0.0) for name in WITHOUT_EPS_ROOT} == WITHOUT_EPS_ROOT


def test_cython_clients_find_the_signature_that_they_were_compiled_with():
    """Cython compares this text when a client is imported; another one refuses every client."""
    rule = "struct __pyx_t_9fastoptim_7kernels_4rule_Rule"
    assert list(api.__pyx_capi__) == ["find_rule"]
    assert f'"{rule} const *(char const *)"' in repr(api.__pyx_capi__["find_rule"])


def test_the_struct_is_the_same_in_c_in_cython_and_in_ctypes():
    header = (Path(fo.get_include()) / "fastoptim.h").read_text("utf-8")
    pxd = (PACKAGE / "kernels/rule.pxd").read_text("utf-8").partition("cdef struct Rule:")[2]
    in_c = re.findall(r"(\w+);", re.search(r"typedef struct \{(.*?)\}", header, re.DOTALL)[1])
    in_cython = re.findall(r"^    \S.*?(\w+)(?:\s+#.*)?$", pxd, re.MULTILINE)
    assert in_c == in_cython == [name for name, _ in RuleStruct._fields_]


def test_there_is_room_for_more_rules_than_there_are_and_an_end_to_it():
    with pytest.raises(ValueError, match="find_rule has room for 64 rules, got 65; raise MOST"):
        api.publish({f"rule{k}": kernels.capsule("sgd") for k in range(65)})


# ---------------------------------------------------------------- the page's table

LINES = [line for line in PAGE.splitlines() if re.match(r"\| `\w+` \| `\w+\(", line)]
ROWS = [line.strip("|").split("|") for line in LINES]
CODE = re.search(r"^where\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)[1]


def ticked(cell):
    """What stands between backticks."""
    return re.findall(r"`(.*?)`", cell)


def optimizer(text):
    return eval(text, dict(vars(fo)))


def test_the_table_has_every_rule_that_is_pinned():
    assert {ticked(row[0])[0] for row in ROWS} == set(PINNED)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: ticked(row[1])[0])
def test_the_table_says_what_the_optimizer_does(row):
    kernel, of, slots, coefficients = [ticked(cell) for cell in row]
    opt = optimizer(of[0])
    assert [opt.kernel] == kernel
    expected = []
    for slot in opt.kernels[opt.kernel]:
        start = getattr(type(opt), slot).start
        expected.append(f"{slot} = {start}" if start else slot)
    assert slots == expected
    for t in (1, 2, 3, 10, 100):
        names = {"t": t, "sqrt": math.sqrt, **vars(opt)}
        exec(CODE, names)
        assert tuple(eval(text, names) for text in coefficients) == opt.coefficients(t)
