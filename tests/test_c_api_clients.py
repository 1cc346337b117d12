"""The clients of examples/c_api, and a probe, are built and run away from the sources."""

import dataclasses
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import exp
from pathlib import Path

import numpy as np
import pytest
from c_api_run import EPOCHS, PENALTY, RANK, problem, stream
from helpers import CASES, assert_same_array, every_dtype, every_rule_row_by_row, run_python

import fastoptim
from fastoptim.kernels import available_isas
from fastoptim.optimizer.base import Optimizer

HERE = Path(__file__).parent
CLIENTS = {"example": HERE.parent / "examples/c_api", "probe": HERE / "c_api_probe"}


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder with the clients installed in it, built from copies of their sources."""
    folder = tmp_path_factory.mktemp("clients")
    pip = ["-m", "pip", "install", "--no-index", "--disable-pip-version-check"]

    def install(name):
        built = shutil.ignore_patterns("build", "*.egg-info")
        copy = shutil.copytree(CLIENTS[name], folder / name, ignore=built)
        target = folder / f"{name}-installed"
        done = run_python(
            *pip, "--no-build-isolation", "--no-deps", "--target", target, copy, cwd=folder
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return target

    with ThreadPoolExecutor() as pool:
        return list(pool.map(install, CLIENTS))


@pytest.fixture
def python(installed, tmp_path):
    """Run Python in an empty folder, where the clients can be imported; return what it prints."""
    def run(*arguments, **env):
        done = run_python(
            "-W", "error", *arguments, folders=[*installed, HERE], cwd=tmp_path, **env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


# ---------------------------------------------------------------- the examples


@pytest.fixture(scope="module")
def results(installed, tmp_path_factory):
    """What c_api_run.py writes, for each instruction set."""
    folder = tmp_path_factory.mktemp("results")
    given = {}
    for isa in available_isas():
        done = run_python(
            "-W", "error", HERE / "c_api_run.py", folder / f"{isa}.npz",
            folders=[*installed, HERE], cwd=folder, FASTOPTIM_ISA=isa,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        given[isa] = dict(np.load(folder / f"{isa}.npz"))
    return given


def factorised(case, dtype):
    """U and V by the rule's NumPy listing, each row a parameter."""
    ratings = problem(dtype)
    rng = np.random.default_rng(0)
    tables = [rng.normal(0, 0.1, (n, RANK)).astype(dtype) for n in ratings.shape]
    oracles = [case.oracle(**case.without_decay) for _ in tables]
    for _ in range(EPOCHS):
        for which, csr in enumerate((ratings.tocsr(), ratings.T.tocsr())):
            rows, others, grads = tables[which], tables[1 - which], {}
            for i, (start, end) in enumerate(pairwise(csr.indptr)):
                grads[i] = rows.dtype.type(PENALTY) * rows[i]
                for j, rating in zip(csr.indices[start:end], csr.data[start:end], strict=True):
                    error = -rating
                    for k in range(RANK):               # in the client's order
                        error += rows[i, k] * others[j, k]
                    grads[i] += error * others[j]
            oracles[which].update(dict(enumerate(rows)), grads)
    return tables


@every_dtype
@every_rule_row_by_row
def test_the_cython_client_gives_the_listings_bits_on_any_number_of_threads(results, case, dtype):
    U, V = factorised(case, dtype)
    for isa, given in results.items():
        assert given["isa"] == isa
        for threads in (1, 2, 5):
            name = f"{case!r} {np.dtype(dtype).str[1:]} {threads}"
            assert_same_array(given[f"U {name}"], U, f"U {name}, {isa}")
            assert_same_array(given[f"V {name}"], V, f"V {name}, {isa}")


@every_rule_row_by_row
def test_the_c_client_gives_the_listings_bits(results, case):
    x, y = stream()
    w, oracle = np.zeros(x.shape[1]), case.oracle(**case.without_decay)
    for row, label in zip(x, y, strict=True):
        z = 0.0
        for k in range(w.size):
            z += w[k] * row[k]
        oracle.update({"w": w}, {"w": (1 / (1 + exp(-z)) - label) * row})
    for isa, given in results.items():
        assert_same_array(given[f"w {case!r}"], w, f"w {case!r}, {isa}")


def test_the_clients_run_with_the_fastoptim_that_is_tested(python):
    given = python("-c", "import factors, sys; print(sys.modules['fastoptim'].__file__)")
    assert given.strip() == fastoptim.__file__


def test_the_demonstration_runs(python):
    lines = python(CLIENTS["example"] / "demo.py").splitlines()
    assert len(lines) == 3
    assert all(line.endswith("the same on two threads: True") for line in lines)


def test_the_cython_client_refuses_every_option_that_it_does_not_have(python):
    options = eval(python("-c", "import factors; print(factors.OPTIONS)"))
    shared = {field.name for field in dataclasses.fields(Optimizer)}
    assert set(options) == shared - {"decoupled"}   # which is nothing without weight_decay


def test_what_the_clients_refuse(python):
    given = python("-c", """if True:
        import factors, logistic, numpy as np, scipy.sparse as sp, fastoptim as fo
        def tell(f, *arguments):
            try:
                f(*arguments)
            except Exception as problem:
                print(f"{type(problem).__name__}: {problem}")
        class Typo(fo.SGD):
            kernel, kernels = "adma", {"adma": ()}
        ratings = sp.csr_matrix(np.eye(2))
        tell(factors.factorise, ratings, 2, Typo(), 1)
        tell(factors.factorise, ratings, 2, fo.AdamW(), 1)
        tell(factors.factorise, ratings, 2, fo.SGD(nonfinite="skip"), 1)
        good = [np.zeros(3), np.zeros((1, 3)), np.zeros((2, 2)), np.zeros((2, 3)), np.zeros(2)]
        tell(logistic.learn, "adma", *good)
        tell(logistic.learn, None, *good)
        bad = {1: np.zeros(2), 2: np.zeros((2, 2), "f4"), 3: np.zeros((2, 6))[:, ::2]}
        for k, wrong in bad.items():
            tell(logistic.learn, "momentum", *good[:k], wrong, *good[k + 1:])
        """).splitlines()
    assert re.match("ValueError: rule must be one of sgd, .*, got 'adma'$", given.pop(3))
    assert given == [
        "ValueError: fastoptim has no rule 'adma'",
        "ValueError: weight_decay is an option of opt.update, which is not called here",
        "ValueError: nonfinite is an option of opt.update, which is not called here",
        "TypeError: argument 1 must be str, not None",
        "ValueError: state must be 3 float64, got 2 of format 'd'",
        "ValueError: coefficients must be 4 float64, got 4 of format 'f'",
        "ValueError: ndarray is not C-contiguous",
    ]


# ---------------------------------------------------------------- the API itself


def test_the_struct_of_the_header_is_that_of_the_pxd(python):
    """Offsets, sizes and numbers; the header is compiled as C++ here and as C in the example."""
    c, cython = eval(python("-c", "import probe; print(probe.layouts())"))
    assert c == cython
    header = Path(fastoptim.get_include(), "fastoptim.h").read_text("utf-8")
    struct = re.search(r"typedef struct \{(.*?)\}", header, re.DOTALL)[1]
    assert list(c) == [*re.findall(r"(\w+);", struct), "all"]
    c, cython = eval(python("-c", "import probe; print(probe.constants())"))
    assert c == cython


def test_the_header_and_the_pxd_find_the_same_rule_for_every_name(python):
    names = sorted({case.ours().kernel.encode() for case in CASES})
    given = eval(python("-c", f"import probe; print([probe.addresses(n) for n in {names}])"))
    assert all(by_header == by_pxd != 0 for by_header, by_pxd in given)
    assert len(set(given)) == len(names)


def test_a_name_that_is_none_is_null(python):
    assert eval(python("-c", """if True:
        import probe
        print([probe.address(name) for name in (b"adma", b"", b"Adam", b"adam ", b"_zero", None)])
        """)) == [0] * 6


def test_rules_are_found_without_the_gil_by_all_threads_at_once(python):
    """Each thread looks up until all do: with a lock around it, none would see the others."""
    given = eval(python("-c", """if True:
        import probe
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            met = list(pool.map(lambda _: probe.meet(b"adam", 4), range(4)))
        print((probe.address(b"adam"), met))
        """))
    address, met = given
    assert met == [(address, True, 4)] * 4


def test_a_rule_is_in_the_callers_floating_point_mode(python):
    given = eval(python("-c", """if True:
        import probe
        print((probe.CAN_FLUSH, *(probe.sgd(1e-310, 0.0, 1.0, flush) for flush in (True, False))))
        """))
    assert given[1:] == (0.0 if given[0] else 1e-310, 1e-310)


def test_rules_stay_where_they_are_when_the_package_is_reloaded(python):
    given = python("-c", """if True:
        import importlib, probe
        from fastoptim import kernels
        before = [probe.addresses(b"adam"), probe.addresses(b"sgd")]
        for _ in range(5):
            importlib.reload(kernels)
        print([probe.addresses(b"adam"), probe.addresses(b"sgd")] == before)
        """)
    assert given == "True\n"


def test_clients_of_another_abi_refuse_to_work(python):
    """The installed rules are told to be of version 3, in a process of their own."""
    given = python("-c", """if True:
        import factors, logistic, numpy as np, scipy.sparse as sp, fastoptim as fo
        from fastoptim import kernels
        from helpers import struct_of
        for name in ("sgd", "adam"):
            struct_of(kernels.capsule(name)).abi = 3
        w, none = np.zeros(2), np.zeros((0, 2))
        try:
            logistic.learn("sgd", w, none, np.ones((1, 1)), np.ones((1, 2)), np.zeros(1))
        except ImportError as problem:
            print(problem)
        try:
            factors.factorise(sp.csr_matrix(np.eye(2)), 2, fo.Adam(), 1)
        except ImportError as problem:
            print(problem)
        """)
    assert given.splitlines() == [
        "this module was compiled for version 2 of fastoptim's rules, but the installed "
        "fastoptim has version 3; build the module again",
        "compiled for another fastoptim than the installed one; build it again",
    ]
