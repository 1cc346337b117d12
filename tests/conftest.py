import gc
import os
import tempfile
from zlib import crc32

import pytest
from helpers import use_threads
from hypothesis import HealthCheck, settings

import fastoptim
from fastoptim.kernels import ISA, available_isas, use

# Loops that numba compiles are cached where nothing from before the tests is, nor after them.
LOOPS = tempfile.TemporaryDirectory(prefix="fastoptim-loops-")
os.environ["NUMBA_CACHE_DIR"] = LOOPS.name

# The same examples at every run, however slow the machine.
settings.register_profile(
    "fastoptim", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fastoptim")


def pytest_addoption(parser):
    parser.addoption(
        "--half", choices=("first", "second"),
        help="every other test, chosen by its name: two builds share the suite",
    )


def pytest_collection_modifyitems(config, items):
    half = config.getoption("--half")
    if half is not None:
        of_half = {"first": 0, "second": 1}[half]
        halves = [], []
        for one in items:
            halves[crc32(one.nodeid.encode()) % 2].append(one)
        config.hook.pytest_deselected(items=halves[1 - of_half])
        items[:] = halves[of_half]


@pytest.fixture(autouse=True)
def default_threads():
    """Give every test OpenMP's own thread count, and take back what it chose."""
    yield
    fastoptim.set_num_threads(None)


@pytest.fixture
def no_collection():
    """No garbage collection: an interrupt in somebody's callback of it is not ours to handle."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def alone(monkeypatch):
    """Nothing from before a test could have taken the place of a parameter of PyTorch."""
    from fastoptim.torch import replaced

    before = replaced.leaves_without(set())
    leaves_without = replaced.leaves_without
    monkeypatch.setattr(
        replaced, "leaves_without", lambda own: leaves_without(own | {id(p) for p in before})
    )


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request):
    """Run on one to four threads, more than this machine may have cores."""
    use_threads(request.param)
    return request.param


@pytest.fixture(params=available_isas())
def isa(request):
    """Run with the kernels of one instruction set that this machine has."""
    use(request.param)
    yield request.param
    use(ISA)


@pytest.fixture
def full_disk(monkeypatch):
    """Let a disk be full when half of a picture is written."""
    from matplotlib.figure import Figure

    def half(figure, file, **_):
        with open(file, "w") as half_written:
            half_written.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
