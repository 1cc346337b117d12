"""NumPy's products on the threads of updates: bits, hangs, forks, errors, and taking it back.

Each case runs in a process of its own with an alarm: a hang ends it with a signal.
"""

import textwrap
import threading as threading_module

import pytest
from helpers import PATIENCE, run_python

import fastoptim as fo
from fastoptim import sharing as of_python
from fastoptim.kernels import sharing, threads

START = f"""
    import os, signal, sys, threading
    signal.alarm({PATIENCE // 2})
    import numpy as np
    import threadpoolctl
    import fastoptim as fo
    from fastoptim.kernels import threads

    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 400), dtype=np.float32)
    b = rng.standard_normal((400, 200), dtype=np.float32)
    x = rng.standard_normal(400, dtype=np.float32)
    square = rng.standard_normal((300, 300))
    threadpoolctl.threadpool_limits(2, user_api="blas")     # however many cores there are
    expected = a @ b, a @ x, np.linalg.solve(square, square[:, :5])

    def check():
        now = a @ b, a @ x, np.linalg.solve(square, square[:, :5])
        assert all(np.array_equal(p, q) for p, q in zip(now, expected)), "other bits"
"""


def shareable():
    """Whether this machine's NumPy and this build can share: other machines have the errors."""
    try:
        with fo.share_threads() as shared:
            return bool(shared.libraries)
    except RuntimeError:
        return False


needs_sharing = pytest.mark.skipif(not shareable(), reason="no OpenBLAS that takes a callback")


def run(code, **environment):
    code = textwrap.dedent(START) + textwrap.dedent(code)
    return run_python("-W", "error", "-c", code, **environment)


def check_runs(code, **environment):
    done = run(code, **environment)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "may hang" not in done.stderr
    assert done.stdout.split()[-1] == "done"


@needs_sharing
@pytest.mark.parametrize(
    "environment",
    [
        {}, {"OMP_DYNAMIC": "true"}, {"OMP_THREAD_LIMIT": "1"}, {"OMP_THREAD_LIMIT": "2"},
        {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "5"}, {"FASTOPTIM_NUM_THREADS": "1"},
        {"OMP_MAX_ACTIVE_LEVELS": "1"}, {"OMP_WAIT_POLICY": "passive"},
        {"OPENBLAS_NUM_THREADS": "1"},
    ],
    ids=str,
)
def test_products_keep_their_bits(environment):
    check_runs("""
        with fo.share_threads():
            for _ in range(5):
                check()
        check()
        print("done")
    """, **environment)


@needs_sharing
def test_products_of_several_threads_at_once():
    check_runs("""
        fo.share_threads()
        problems = []

        def work():
            try:
                for _ in range(10):
                    check()
            except BaseException as problem:
                problems.append(problem)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert not problems, problems
        print("done")
    """)


@needs_sharing
def test_products_beside_updates():
    check_runs("""
        fo.share_threads()
        threads.set_num_threads(2, exactly=True)
        n = 8 * threads.work_per_thread()
        stop = threading.Event()

        def work():
            while not stop.is_set():
                check()

        worker = threading.Thread(target=work)
        worker.start()
        opt, params, grads = fo.Adam(), {"x": np.ones(n)}, {"x": np.ones(n)}
        for _ in range(100):
            opt.update(params, grads)
        stop.set()
        worker.join()
        assert len(np.unique(params["x"])) == 1
        check()
        print("done")
    """)


@needs_sharing
@pytest.mark.parametrize("api", ["blas", "openmp"])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_limits_of_threadpoolctl(api, n):
    check_runs(f"""
        with fo.share_threads():
            with threadpoolctl.threadpool_limits({n}, user_api={api!r}):
                products = [a @ b for _ in range(10)]
                assert all(np.array_equal(p, products[0]) for p in products)
            check()
        with threadpoolctl.threadpool_limits({n}, user_api={api!r}), fo.share_threads():
            products = [a @ b for _ in range(10)]
            assert all(np.array_equal(p, products[0]) for p in products)
        check()
        print("done")
    """)


@needs_sharing
@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_or_more_threads_for_updates_than_for_products(n):
    check_runs(f"""
        fo.share_threads()
        threads.set_num_threads({n}, exactly=True)
        length = 8 * threads.work_per_thread()
        opt, params, grads = fo.SGD(lr=1.0), {{"x": np.zeros(length)}}, {{"x": np.ones(length)}}
        for k in range(10):
            check()
            opt.update(params, grads)
        assert np.array_equal(params["x"], np.full(length, -10.0))
        print("done")
    """)


@needs_sharing
@pytest.mark.parametrize("in_thread", [False, True])
def test_fork_in_parent_and_child(in_thread):
    check_runs(f"""
        fo.share_threads()
        threads.set_num_threads(2, exactly=True)
        n = 8 * threads.work_per_thread()
        opt, params, grads = fo.Adam(), {{"x": np.ones(n)}}, {{"x": np.ones(n)}}
        check()
        opt.update(params, grads)

        def forks():
            for _ in range(5):
                child = os.fork()
                if child == 0:
                    signal.alarm(150)
                    try:
                        check()
                        opt.update(params, grads)
                        check()
                    except BaseException as problem:
                        print(problem, file=sys.stderr, flush=True)
                        os._exit(3)
                    os._exit(0)
                check()
                assert os.waitpid(child, 0)[1] == 0

        if {in_thread}:
            problems = []
            def work():
                try:
                    forks()
                except BaseException as problem:
                    problems.append(problem)
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
            assert not problems, problems
        else:
            forks()
        check()
        print("done")
    """)


@needs_sharing
def test_products_inside_a_parallel_region():
    """Each of three threads of a region multiplies: the products take turns, on further threads."""
    check_runs("""
        import ctypes
        fo.share_threads()
        gomp = next(
            (c for c in threadpoolctl.ThreadpoolController().lib_controllers
             if c.internal_api == "openmp" and c.prefix == "libgomp"), None)
        if gomp is not None:
            lib = ctypes.CDLL(gomp.filepath)
            results = []
            @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
            def body(_):
                results.append(np.array_equal(a @ b, expected[0]))
            lib.GOMP_parallel(body, None, 3, 0)
            assert results == [True] * 3, results
        check()
        print("done")
    """)


@needs_sharing
def test_taken_back_openblas_is_as_before():
    before = [one.set_callback and one.before for one in of_python.libraries()]
    with fo.share_threads() as outer:
        callbacks = {one.before for one in of_python.libraries()}
        assert callbacks == {sharing.callback()}
        with fo.share_threads() as inner:
            assert inner.libraries == outer.libraries
        assert {one.before for one in of_python.libraries()} == {sharing.callback()}
    assert [one.set_callback and one.before for one in of_python.libraries()] == before
    outer.close()                                   # a second time: nothing happens
    with pytest.raises(RuntimeError, match="given back; call share_threads"):
        outer.__enter__()
    assert of_python.users == 0


@needs_sharing
def test_it_says_what_it_did(capsys):
    with fo.share_threads() as shared:
        assert "OpenBLAS" in repr(shared)
        assert "(NumPy)" in repr(shared)
        assert f"on the {shared.n_threads} thread" in repr(shared)
        fo.show_runtime()
    assert "shared with:  OpenBLAS" in capsys.readouterr().out
    assert "given back" in repr(shared)
    fo.show_runtime()
    assert "shared with" not in capsys.readouterr().out


class Fake:
    """A BLAS as threadpoolctl describes it."""

    user_api = "blas"

    def __init__(self, internal_api, version, threading_layer="pthreads"):
        self.internal_api, self.version = internal_api, version
        self.threading_layer = threading_layer
        self.filepath, self.num_threads = None, 2  # None: the symbols of Python itself


WITHOUT_CALLBACK = {
    "MKL": ([Fake("mkl", "2024.1")], "mkl 2024.1"),
    "an older OpenBLAS": (
        [Fake("openblas", "0.3.21")], "OpenBLAS 0.3.21, which takes no callback",
    ),
    "OpenMP threads": (
        [Fake("openblas", "0.3.29", "openmp")], "OpenBLAS 0.3.29 with openmp threads",
    ),
    "nothing known": ([], "a BLAS that threadpoolctl does not know"),
}


@pytest.mark.parametrize(("there", "said"), WITHOUT_CALLBACK.values(), ids=WITHOUT_CALLBACK.keys())
def test_no_such_openblas_is_an_error(monkeypatch, there, said):
    monkeypatch.setattr(sharing, "can_share", lambda: True)
    monkeypatch.setattr(
        of_python, "ThreadpoolController", lambda: type("All", (), {"lib_controllers": there})
    )
    with pytest.raises(RuntimeError, match="needs OpenBLAS from 0.3.28 on") as raised:
        fo.share_threads()
    assert said in str(raised.value)
    assert "leave share_threads() out" in str(raised.value)
    assert of_python.users == 0


@needs_sharing
def test_too_few_numbers_for_threads_are_an_error(monkeypatch):
    found = [one._replace(own_threads=one.numbers) for one in of_python.libraries()]
    monkeypatch.setattr(of_python, "libraries", lambda: found)
    monkeypatch.setattr(of_python, "region_of", lambda them: 2)
    with pytest.raises(RuntimeError, match="OPENBLAS_NUM_THREADS=32 or less"):
        fo.share_threads()
    assert of_python.users == 0


def test_a_build_without_openmp_says_so():
    if threads.openmp_version():
        return
    with fo.share_threads() as shared:
        assert "nothing to share" in repr(shared)
        assert shared.n_threads == 1
    assert of_python.users == 0


@needs_sharing
def test_two_threads_that_begin_to_share_install_it_once(monkeypatch):
    """The second waits: twice installed, the callback would count as what was there before."""
    libraries, found, opened = of_python.libraries, [], []

    def share():
        opened.append(fo.share_threads())

    other = threading_module.Thread(target=share)

    def in_between():
        found.append(libraries())
        if len(found) == 1:
            other.start()
            other.join(0.5)
        return found[-1]

    monkeypatch.setattr(of_python, "libraries", in_between)
    with fo.share_threads():
        other.join()
        opened[0].close()
    assert len(found) == 1
    assert {one.before for one in libraries()} == {one.before for one in found[0]}
