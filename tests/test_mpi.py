"""Many processes: what mpi_programs.py asserts on 1, 2, 3 and 4 ranks, and what needs no MPI."""

import builtins
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import fastoptim as fo
from fastoptim.cli.main import main
from fastoptim.mpi import Sharded, agreement, cutting, starting
from fastoptim.mpi.cutting import Cutter

HERE = Path(__file__).parent
PROGRAMS = HERE / "mpi_programs.py"

BITS = ("bits", "many_buckets", "rows", "some_none", "layouts", "rules", "containers", "not_finite",
        "products")
REFUSED = ("bad_gradients", "interrupts", "signals", "bad_use", "threads")
OF_SEVERAL = ("sums_not_finite", "differences", "errors_without_text")
SAVING = ("averages", "used_before", "save", "load", "load_refused")


def mpiexec():
    """The program that starts ranks: beside this Python, or on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def on_ranks(n, *command, timeout=120, **environment):
    """Run Python on n ranks; return what they print. None may hang."""
    pytest.importorskip("mpi4py")
    source = str(Path(fo.__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error", **environment,
    }
    done = subprocess.run(
        [mpiexec(), "-n", str(n), sys.executable, *map(str, command)], env=surroundings,
        capture_output=True, encoding="utf-8", timeout=timeout, check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


def run(n, programs, folder):
    printed = on_ranks(n, PROGRAMS, *programs, FOLDER=str(folder))
    assert printed.split("\n") == [*(f"{one} is well" for one in programs), ""]


@pytest.mark.parametrize(
    ("n", "programs"),
    [
        (1, (*BITS, *REFUSED, *SAVING)),
        (2, (*BITS, *REFUSED, *OF_SEVERAL, *SAVING)),
        (3, ("bits", "many_buckets", "rows", "some_none", "not_finite", *OF_SEVERAL, "averages")),
        (4, ("many_buckets", "some_none", "not_finite")),   # of two cores each has a half
    ],
)
def test_ranks(n, programs, tmp_path):
    run(n, programs, tmp_path)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_files_of_other_numbers_of_ranks(before, after, tmp_path):
    run(before, ["save"], tmp_path)
    run(after, ["load", "load_refused"], tmp_path)


def test_the_demonstration_on_two_ranks(tmp_path):
    pytest.importorskip("sklearn")
    command = ("-m", "fastoptim", "demo", "--mpi", "--epochs", "1", "--quiet", "--output", tmp_path)
    printed = on_ranks(2, *command, "--rules", "Adam", "ScheduleFreeAdamW", "--json")
    found = json.loads(printed)                 # of one rank
    assert found["ranks"] == 2
    assert [one["same bits"] for one in found["rules"]] == [True, True]
    assert all(one["training"][-1] < 1.0 for one in found["rules"])
    assert (tmp_path / "loss.png").stat().st_size


@pytest.mark.parametrize(
    ("option", "text"), [("--methods", "--methods"), ("--own-threads", "cores")]
)
def test_options_that_the_demonstration_on_ranks_has_not(option, text, capsys):
    assert main(["demo", "--mpi", option]) != 0
    assert text in capsys.readouterr().err


# ------------------------------------------------ without MPI


def test_fastoptim_alone_imports_nothing_of_it():
    code = "import sys, fastoptim; assert not any('mpi' in m.split('.') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ModuleNotFoundError("No module named 'mpi4py'", name="mpi4py"), "needs mpi4py"),
        (RuntimeError("cannot load MPI library"), "no MPI can be started .cannot load MPI library"),
    ],
)
def test_what_to_install(problem, text, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "mpi4py":
            raise problem
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=text) as told:
        Sharded(fo.Adam())
    assert "pip install 'fastoptim[mpi]'" in str(told.value)
    assert "pip install mpich" in str(told.value)


SHAPES = [(), (0,), (7,), (1024,), (100_000,), (3, 0), (500, 300), (5, 1031), (64, 1000, 3), (9, 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("whole", [False, True])
def test_each_element_has_one_owner(size, whole):
    cutter = Cutter(size)
    for k, shape in enumerate(SHAPES):
        cut = cutter.cut(k, shape, np.dtype(np.float32), whole)
        owned = [i for part in cut.parts for i in range(part.start, part.stop)]
        assert owned == list(range(int(np.prod(shape))))
        assert len({part.rank for part in cut.parts}) == len(cut.parts)
        assert all(0 <= part.rank < size for part in cut.parts)
        assert all(part.start % cutting.BLOCK == 0 for part in cut.parts)
        assert not whole or len(cut.parts) == 1
        for part in cut.parts:
            assert np.prod(cut.shape_of(part)) == part.stop - part.start


@pytest.mark.parametrize("size", [2, 3, 8])
def test_parts_are_of_about_one_size(size):
    for shapes in ([(1_000_000,)], [(3000, 300)], [(64,)] * 800, [(40, 40)] * 400 + [(10,)] * 400):
        cutter = Cutter(size)
        for k, shape in enumerate(shapes):
            cutter.cut(k, shape, np.dtype(np.float32), False)
        assert max(cutter.loads) <= 1.3 * sum(cutter.loads) / size


def test_tables_are_cut_between_rows():
    cut = Cutter(4).cut("E", (10_000, 96), np.dtype(np.float32), False)
    assert cut.by_row
    assert {cut.shape_of(part)[1:] for part in cut.parts} == {(96,)}


@pytest.mark.parametrize(
    ("sets", "own", "cores"),
    [
        ([{0, 1}, {0, 1}], {0, 1}, 1),
        ([{0, 1, 2, 3}, {0, 1, 2, 3}], {0, 1, 2, 3}, 2),
        ([{0, 1}, {2, 3}], {2, 3}, 2),                  # bound: each has its own
        ([{0}, {0}, {0}], {0}, 1),
        ([set(range(8)), set(range(8)), set(range(8))], set(range(8)), 2),
        ([{0, 1, 2, 3}], {0, 1, 2, 3}, 4),
    ],
)
def test_ranks_share_the_cores_of_a_machine(sets, own, cores):
    assert starting.cores_of(map(frozenset, sets), frozenset(own)) == cores


@pytest.mark.parametrize(
    ("set_by", "wanted"),
    [({}, "1"), ({"FASTOPTIM_NUM_THREADS": "2"}, "2"), ({"OMP_NUM_THREADS": "2"}, "2")],
)
def test_threads_of_a_rank(set_by, wanted):
    code = (
        "import os; os.sched_getaffinity = lambda pid: {0, 1}\n"
        "import fastoptim as fo; from fastoptim.mpi import Sharded\n"
        "s = Sharded(fo.Adam()); n = s.comm.gather(fo.get_num_threads())\n"
        "if n: print(*n)"
    )
    clean = dict.fromkeys(starting.SET_BY_USER, "") | set_by
    assert on_ranks(2, "-c", code, **clean).split() == [wanted, wanted]


def test_the_first_rank_that_failed_is_named():
    told = [None, ("ValueError", "one"), ("KeyError", "two")]
    problem = agreement.failure(None, told, 0)
    assert type(problem) is ValueError
    assert str(problem) == "rank 1 of 3: one (and so have ranks [2])"
    problem = agreement.failure(None, [None, ("", "KeyboardInterrupt")], 0)
    assert type(problem) is RuntimeError
    assert str(problem) == "rank 1 of 2 has stopped: KeyboardInterrupt"
