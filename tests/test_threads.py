"""Threads: how many, from whom, after a fork, and in which floating-point mode."""

import os
import platform
import re
import sys
import threading
import time

import numpy as np
import pytest
from helpers import PATIENCE, every_rule, output_of, run_code
from threadpoolctl import threadpool_limits

import fastoptim as fo
from fastoptim.kernels import available_isas, threads

OPENMP = bool(threads.openmp_version())
needs_openmp = pytest.mark.skipif(not OPENMP, reason="this build is serial")
N = 8 * threads.work_per_thread()
UNSET = dict.fromkeys(["OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "FASTOPTIM_NUM_THREADS"])


SHOW = "import fastoptim as fo; print(fo.get_num_threads())"


@needs_openmp
@pytest.mark.parametrize(("limit", "numbers"), [(None, [1, 3]), ("2", [2, 1])])
def test_set_num_threads(limit, numbers):
    """So many, whatever OpenMP's own number is; more than it lets a process have are refused."""
    environment = UNSET | {"OMP_NUM_THREADS": "2", "OMP_THREAD_LIMIT": limit}
    shown = output_of(f"""
    import numpy as np
    import fastoptim as fo
    for n in *{numbers}, *map(np.int64, {numbers}), None:
        fo.set_num_threads(n)
        print(fo.get_num_threads())
    """, **environment)
    assert [int(n) for n in shown.split()] == [*numbers, *numbers, 2]
    refused = run_code("import fastoptim as fo; fo.set_num_threads(1025)", **environment)
    assert f"n must be a whole number in [1, {limit or 1024}], got 1025" in refused.stderr


@pytest.mark.parametrize("n", [0, -1, 10**6, 2**40])
def test_impossible_numbers_of_threads(n):
    with pytest.raises(ValueError, match=rf"n must be a whole number in \[1, \d+\], got {n}"):
        fo.set_num_threads(n)


@pytest.mark.parametrize("n", [1.0, "2", True])
def test_what_is_no_number_of_threads(n):
    with pytest.raises(TypeError, match="n must be a whole number"):
        fo.set_num_threads(n)


@needs_openmp
def test_openmps_own_controls_are_followed_at_each_call():
    three = UNSET | {"OMP_NUM_THREADS": "3"}
    assert output_of(SHOW, **three) == "3"
    assert output_of(SHOW, **three | {"FASTOPTIM_NUM_THREADS": "2"}) == "2"
    fo.set_num_threads(None)
    before = fo.get_num_threads()
    with threadpool_limits(limits=1, user_api="openmp"):
        assert fo.get_num_threads() == 1
    assert fo.get_num_threads() == before


def test_serial_build_says_so():
    if OPENMP:
        return
    assert fo.get_num_threads() == 1
    with pytest.warns(RuntimeWarning, match="without OpenMP"):
        fo.set_num_threads(2)
    assert fo.get_num_threads() == 1


@pytest.mark.parametrize("text", ["0", "-3", "many", "1.5"])
def test_bad_environment_for_threads(text):
    done = run_code("import fastoptim", FASTOPTIM_NUM_THREADS=text)
    assert done.returncode == 1
    assert "ValueError: FASTOPTIM_NUM_THREADS must be a whole number in [1," in done.stderr
    assert f"got '{text}'" in done.stderr


def test_empty_environment_is_none():
    assert output_of("import fastoptim", FASTOPTIM_NUM_THREADS="", FASTOPTIM_ISA="") == ""


def test_bad_environment_for_instructions():
    done = run_code("import fastoptim", FASTOPTIM_ISA="nonsense")
    assert done.returncode == 1
    assert "FASTOPTIM_ISA must be one of baseline, avx2, avx512" in done.stderr
    assert f"have {', '.join(available_isas())}; got 'nonsense'" in done.stderr


def test_an_instruction_set_that_this_machine_lacks_is_an_error():
    missing = {"baseline", "avx2", "avx512"} - set(available_isas())
    for isa in missing:
        assert f"got '{isa}'" in run_code("import fastoptim", FASTOPTIM_ISA=isa).stderr


@pytest.mark.parametrize("isa", available_isas())
def test_environment_chooses_instructions(isa):
    shown = output_of("import fastoptim as fo; fo.show_runtime()", FASTOPTIM_ISA=isa)
    assert f"instructions: {isa} (available: {', '.join(available_isas())})" in shown


def test_show_runtime(capsys):
    assert fo.show_runtime() is None
    shown = capsys.readouterr().out
    for word in ("fastoptim:", "NumPy:", "instructions:", "OpenMP:", "threads:", "after fork:"):
        assert word in shown
    assert ("serial" in shown) == (not OPENMP)


def test_the_gil_is_released():
    """With a switch interval of a day, another thread runs only if update lets it."""
    interval, ran = sys.getswitchinterval(), threading.Event()
    start = threading.Lock()
    start.acquire()

    def wait():
        start.acquire()
        ran.set()

    thread = threading.Thread(target=wait)
    thread.start()
    params, grads = {"x": np.ones(5_000_000, np.float32)}, {"x": np.ones(5_000_000, np.float32)}
    opt = fo.Adam()
    opt.update(params, grads)
    try:
        sys.setswitchinterval(86_400)
        start.release()
        give_up = time.monotonic() + PATIENCE
        while not ran.is_set() and time.monotonic() < give_up:
            opt.update(params, grads)
        assert ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        thread.join()


@every_rule
def test_optimizers_run_side_by_side(case):
    """Several Python threads, each with its own optimizer and its own OpenMP threads."""
    results = {}

    def train(name):
        params, opt = {"x": np.ones(N, np.float32)}, case.ours()
        for _ in range(5):
            opt.update(params, {"x": np.full(N, 0.5, np.float32)})
        results[name] = params["x"].tobytes()

    workers = [threading.Thread(target=train, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert len(set(results.values())) == 1


PREPARE = f"""
    import os, signal, sys, threading
    import numpy as np
    from fastoptim.kernels import threads
    import fastoptim as fo
    threads.set_num_threads(2, exactly=True)
    opt, n, limit = fo.Adam(), {N}, {PATIENCE // 2}
    params, grads = {{"x": np.ones(n, np.float32)}}, {{"x": np.ones(n, np.float32)}}
    opt.update(params, grads)

    def child():
        signal.alarm(limit)         # a hang ends the child with a signal
        opt.update(params, grads)
        os._exit(0 if (params["x"] != 1).all() else 3)

    def wait(pid):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"the child ended with {{code}}"
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_fork_and_update_in_both():
    output_of(PREPARE + """
    for _ in range(20):
        pid = os.fork()
        if not pid:
            child()
        opt.update(params, grads)
        wait(pid)
    """)


@needs_fork
def test_fork_in_a_thread_while_another_is_updating():
    output_of(PREPARE + """
    stop, other = threading.Event(), fo.Adam()
    mine = {"x": np.ones(n, np.float32)}
    def busy():
        while not stop.is_set():
            other.update(mine, grads)
    def forks():
        for _ in range(20):
            pid = os.fork()
            if not pid:
                child()
            wait(pid)
    threads = [threading.Thread(target=busy), threading.Thread(target=forks)]
    for t in threads: t.start()
    threads[1].join()
    stop.set()
    threads[0].join()
    """)


@needs_fork
def test_fork_during_another_threads_first_update():
    """Nothing is imported lazily in an update: the child would inherit the import's lock."""
    for _ in range(5):
        output_of(f"""
        import os, signal, threading
        import numpy as np
        import fastoptim as fo
        p, stop = {{"W": np.ones(400_000, np.float32)}}, threading.Event()
        opt = fo.Adam()
        def busy():
            while not stop.is_set():
                opt.update(p, {{"W": np.ones(400_000, np.float32)}})
        thread = threading.Thread(target=busy)
        thread.start()
        pid = os.fork()
        if not pid:
            signal.alarm({PATIENCE // 2})
            fo.Adam().update({{"W": np.ones(9)}}, {{"W": np.ones(9)}})
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        stop.set()
        thread.join()
        assert code == 0, code
        """)


@needs_fork
def test_multiprocessing_fork_pool():
    output_of(PREPARE + """
    import multiprocessing
    def work(seed):
        signal.alarm(limit)
        p = {"x": np.full(n, seed, np.float32)}
        fo.Adam().update(p, grads)
        return float(p["x"][0])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert len(pool.map(work, range(8))) == 8
    opt.update(params, grads)
    """)


@needs_fork
def test_child_that_cannot_have_threads_works_on_one():
    """What happens where OpenMP cannot release its threads before the fork."""
    assert output_of(PREPARE + """
    pid = os.fork()
    if not pid:
        threads.serial_from_now_on()
        assert fo.get_num_threads() == 1
        child()
    wait(pid)
    print("done")
    """) == "done"


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="writes x86's MXCSR"
)
@pytest.mark.parametrize("threads", ["1", "4"])
def test_floating_point_mode_is_not_inherited(threads):
    """Flush-to-zero, poisoned on the caller, and so on the threads that it starts."""
    assert output_of(f"""
    import ctypes
    import numpy as np
    import fastoptim as fo
    from fastoptim import listings
    n = {N}
    start, g = np.full(n, 1e-39, np.float32), np.linspace(0, 1e-38, n, dtype=np.float32)
    expected, params = ({{"x": start.copy(), "y": start.copy()}} for _ in "ab")
    rules = [(listings.Momentum(lr=0.1), fo.Momentum(lr=0.1)),
             (listings.AdaGrad(lr=1e-40, eps=1e-44), fo.AdaGrad(lr=1e-40, eps=1e-44))]
    for oracle, _ in rules * 3:
        oracle.update(expected, {{"x": g, "y": g[::-1]}})
    libm, mode = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
    libm.fegetenv(mode)
    mode[7] |= 0x8040               # flush results, read operands as zero
    libm.fesetenv(mode)
    assert np.float32(1e-39) * np.float32(0.5) == 0
    for _, opt in rules * 3:
        opt.update(params, {{"x": g, "y": g[::-1]}})
    assert np.float32(1e-39) * np.float32(0.5) == 0, "the caller's mode was not put back"
    for key in params:
        assert params[key].tobytes() == expected[key].tobytes()
        assert rules[0][0].v[key].tobytes() == rules[0][1].v[key].tobytes()
    print("same bits")
    """, **UNSET | {"FASTOPTIM_NUM_THREADS": threads}) == "same bits"


@needs_openmp
@pytest.mark.parametrize("n", [1, 2])
def test_fixed_means_just_that_many(n):
    fo.set_num_threads(n, fixed=True)
    assert fo.get_num_threads() == n
    assert not threads.learns()
    assert threads.most_in_use() == n
    fo.set_num_threads(n)
    assert threads.learns()
    assert threads.most_in_use() == min(n, threads.machine_limit())


@pytest.mark.parametrize("fixed", [1, "yes", None])
def test_what_is_no_flag(fixed):
    before = fo.get_num_threads()
    with pytest.raises(TypeError, match="fixed must be True or False"):
        fo.set_num_threads(1, fixed=fixed)
    assert fo.get_num_threads() == before


@needs_openmp
def test_show_runtime_says_whether_counts_are_learned(capsys):
    fo.set_num_threads(2)
    fo.show_runtime()
    several = threads.machine_limit() > 1
    expected = "2 at most, learned by each optimizer" if several else "1, of 2 allowed"
    assert expected in capsys.readouterr().out
    fo.set_num_threads(2, fixed=True)
    fo.show_runtime()
    assert "2, fixed" in capsys.readouterr().out
    fo.set_num_threads(1)
    fo.show_runtime()
    assert re.search(r"threads: +1\n", capsys.readouterr().out)


@needs_openmp
def test_processors_are_those_before_openmp_binds_its_threads():
    code = """
    import os
    before = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    from fastoptim.kernels import threads, processors
    print(threads.machine_limit() == min(before, processors.quota(), 1024))
    """
    assert output_of(code, **UNSET | {"OMP_PROC_BIND": "true"}) == "True"
