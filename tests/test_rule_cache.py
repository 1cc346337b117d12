"""Rules of the user's own are compiled once on a machine, and never run what is stale."""

import contextlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastoptim as fo
from fastoptim.custom import cache, functions, numba_loop

pytest.importorskip("numba")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, in which numba's and so our entries are."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path / "fastoptim" / "loops"


@pytest.fixture
def compilations(monkeypatch):
    """The dtypes for which loops have been compiled."""
    seen = []
    compiled = numba_loop.compiled

    def watched(nb, span, slots, dtype):
        seen.append(dtype)
        return compiled(nb, span, slots, dtype)

    monkeypatch.setattr(numba_loop, "compiled", watched)
    return seen


BOTH = [np.float32, np.float64]


def define(shift=3.0):
    @fo.rule(state=("m",), lr=0.5)
    def Shifted(p, g, m, lr):
        return p - lr * (g + m + shift), g

    return Shifted


def runs(cls, shift=3.0):
    """Let a class update in both dtypes, and compare."""
    for dtype in BOTH:
        params = {"x": np.array([1.0, 2.0], dtype)}
        opt = cls()
        for _ in range(2):
            opt.update(params, {"x": np.array([2.0, 4.0], dtype)})
        assert params["x"].tolist() == [-2.0 - shift, -4.0 - shift]


def test_a_second_definition_compiles_nothing(folder, compilations):
    runs(define())
    assert compilations == BOTH
    runs(define())
    assert compilations == BOTH
    assert len(list(folder.iterdir())) == 2  # an entry for each dtype


@pytest.mark.parametrize("other", [4.0, -3.0, 3.0000000000000004])
def test_another_number_around_the_body_is_another_entry(other, folder, compilations):
    define()
    cls = define(other)
    assert compilations == BOTH * 2
    if other != 3.0000000000000004:
        runs(cls, other)
    define()
    assert compilations == BOTH * 2


def test_another_body_is_another_entry(folder, compilations):
    def plus(p, g, lr):
        return p + lr * g

    def minus(p, g, lr):
        return p - lr * g

    for fn, moved in ((plus, 1.0), (minus, -1.0)):
        params = {"x": np.zeros(3)}
        fo.rule(lr=0.5)(fn)().update(params, {"x": np.full(3, 2.0)})
        assert params["x"].tolist() == [moved] * 3
    assert compilations == BOTH * 2


def test_zeros_and_nans_are_told_apart(folder, compilations):
    for k, number in enumerate([0.0, -0.0, float("nan"), float("inf"), float("-inf")]):
        define(number)
        assert compilations == BOTH * (k + 1)


def other_version(monkeypatch, name):
    monkeypatch.setattr(import_module(name), "__version__", "0")


def other_processor(monkeypatch):
    from numba.core.codegen import JITCPUCodegen

    monkeypatch.setattr(JITCPUCodegen, "magic_tuple", lambda self: ("other",))


def other_setting(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "LOOP_VECTORIZE", 0)


def other_source(monkeypatch):
    read = Path.read_bytes
    changed = Path(numba_loop.__file__)
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + (b"#" if p == changed else b""))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: other_version(m, "numba"), lambda m: other_version(m, "llvmlite"),
        lambda m: other_version(m, "numpy"), lambda m: m.setattr(sys, "version", "0"),
        other_processor, other_setting, other_source,
        lambda m: m.setitem(functions.NAMES, "sqrt", np.sqrt),
    ],
    ids=["numba", "llvmlite", "numpy", "python", "processor", "setting", "source", "function"],
)
def test_whatever_code_depends_on_is_in_the_key(change, folder, compilations, monkeypatch):
    define()
    with monkeypatch.context() as changed:
        change(changed)
        define()
    assert compilations == BOTH * 2
    define()
    assert compilations == BOTH * 2


def cut(path, content):
    path.write_bytes(content[: len(content) // 2])


def emptied(path, content):
    path.write_bytes(b"")


def altered(path, content):
    path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])


def longer(path, content):
    path.write_bytes(content + b"\0")


def of_another(path, content):
    path.write_bytes(next(p for p in path.parent.iterdir() if p != path).read_bytes())


def a_folder(path, content):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, emptied, altered, longer, of_another, a_folder])
def test_a_damaged_entry_is_none(damage, folder, compilations):
    define()
    path = sorted(folder.iterdir())[0]
    damage(path, path.read_bytes())
    runs(define())
    assert len(compilations) == 3
    runs(define())
    assert len(compilations) == (4 if damage is a_folder else 3)  # it has been written again
    assert not list(folder.glob("*.tmp"))


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def no_home(*_):
    raise RuntimeError("Could not determine home directory")


def file_in_its_place(monkeypatch, folder):
    folder.parent.write_text("a file")


@pytest.mark.parametrize(
    "fault",
    [
        file_in_its_place,
        lambda m, folder: m.setattr(Path, "mkdir", refuse),
        lambda m, folder: m.setattr(cache.tempfile, "mkstemp", refuse),
        lambda m, folder: m.setattr(os, "replace", refuse),
        lambda m, folder: m.setattr(Path, "read_bytes", refuse),
        lambda m, folder: m.setattr(cache, "folder", no_home),
        lambda m, folder: m.setattr(numba_loop, "made_with", lambda nb: nb.gone),
        lambda m, folder: m.setattr(cache, "store", lambda *_: (_ for _ in ()).throw(TypeError)),
    ],
    ids=["file", "mkdir", "read-only", "replace", "unreadable", "home", "numba", "parts"],
)
def test_without_a_usable_folder_rules_are_compiled(fault, folder, compilations, monkeypatch):
    fault(monkeypatch, folder)
    for _ in range(2):
        runs(define())
    assert compilations == BOTH * 2
    assert not list(folder.glob("*")) if folder.is_dir() else not folder.exists()


def test_code_that_calls_what_is_nowhere_is_not_loaded(folder, compilations, monkeypatch):
    """LLVM would end the process."""
    from llvmlite import binding

    @fo.rule(lr=0.5)
    def Hypot(p, g, lr):
        return p - lr * np.hypot(p, g)

    with monkeypatch.context() as patched:
        patched.setattr(binding, "address_of_symbol", lambda name: None)
        fo.rule(lr=0.5)(Hypot.body)
    assert compilations == BOTH * 2
    fo.rule(lr=0.5)(Hypot.body)
    assert compilations == BOTH * 2


def test_the_oldest_entries_make_room(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 3)
    for k in range(4):
        cache.store(folder, str(k), b"one", b"two")
        os.utime(folder / f"{k}.loop", (k, k))
    assert sorted(path.name for path in folder.iterdir()) == ["1.loop", "2.loop", "3.loop"]
    assert cache.load(folder, "0") is None
    assert cache.load(folder, "3") == (b"one", b"two")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fastoptim/loops"),
        ("linux", {}, "/h/.cache/fastoptim/loops"),
        ("darwin", {}, "/h/Library/Caches/fastoptim/loops"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/fastoptim/loops"),
        ("win32", {}, "/h/AppData/Local/fastoptim/loops"),
    ],
)
def test_the_users_folder(platform, variables, expected, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in ({"HOME": "/h"} | variables).items():
        monkeypatch.setenv(name, value)
    assert cache.folder("") == Path(expected)
    assert cache.folder("/n") == Path("/n/fastoptim/loops")


# ---------------------------------------------------------------- between processes

SCRIPT = """
import sys
import numpy as np
import fastoptim as fo
from numba.core import event

{first}
with event.install_recorder("numba:run_pass") as passes:
    @fo.rule(state=("m",), lr=0.5)
    def Wild(p, g, m, lr):
        m = m + {shift} * np.exp(-m) + np.hypot(p, g) + np.cbrt(g)
        return p - lr * np.tanh(m) * np.abs(g) ** 1.3 + np.log2(np.abs(g) + lr) ** 3, m

for dtype in (np.float32, np.float64):
    params, opt = {{"x": np.linspace(-3, 4, 1000, dtype=dtype)}}, Wild()
    for _ in range(3):
        opt.update(params, {{"x": np.cos(params["x"])}})
    print(params["x"].tobytes().hex(), opt.m["x"].tobytes().hex())
print(len(passes.buffer) > 0)
"""
# So that numba has given the symbols of other loops the names' numbers that this one's had.
FIRST = """
@fo.rule(state=("m",), lr=0.5)
def Other(p, g, m, lr):
    return p - lr * np.hypot(g, m), m * {shift}
"""


def start(tmp_path, name="script", shift=0.25, first=""):
    """Start a script that defines a rule, in a process of its own."""
    script = tmp_path / f"{name}.py"
    script.write_text(SCRIPT.format(shift=shift, first=first.format(shift=shift + 1)))
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    return subprocess.Popen([sys.executable, script], env=env, stdout=subprocess.PIPE, text=True)


def results(process):
    """What a process printed of its numbers, and whether it compiled anything."""
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    *numbers, compiled = text.split()
    assert len(numbers) == 4
    return numbers, compiled == "True"


def test_a_new_process_compiles_nothing(tmp_path):
    numbers, compiled = results(start(tmp_path))
    assert compiled
    assert results(start(tmp_path)) == (numbers, False)
    assert results(start(tmp_path, "elsewhere")) == (numbers, False)
    changed, compiled = results(start(tmp_path, shift=0.5))
    assert changed != numbers
    assert compiled
    # the same beside a loop of another rule, which this process compiles first
    assert results(start(tmp_path, first=FIRST)) == (numbers, False)


def test_processes_that_write_at_once(tmp_path):
    processes = [start(tmp_path, f"script{k}") for k in range(3)]
    try:
        found = [results(process)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
    assert found == [found[0]] * 3
    names = [path.name for path in (tmp_path / "fastoptim" / "loops").iterdir()]
    assert len(names) == 2
    assert all(name.endswith(".loop") for name in names)
    assert results(start(tmp_path)) == (found[0], False)
