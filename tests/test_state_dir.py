"""State in files: the same bits, whatever happens to the process; and never two owners.

A copy of the folder that is made at some moment is what a process leaves that is killed then: the
pages of mapped files are the kernel's, not the process's.
"""

import copy
import errno
import gc
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import arrays, copies, every_class, every_dtype, use_threads

import fastoptim as fo
from fastoptim.folder import boot, disk, files, index, lock

if not lock.HAS_LOCKS:
    pytest.skip("state_dir is for POSIX systems", allow_module_level=True)

SHAPES = {"W": (41, 30), ("b", 1): (7,), "deep": (3, 4, 5)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def kept(opt):
    """Everything that an optimizer keeps."""
    return opt.state_dict() | {"fastoptim": None}


def same(one, other):
    """Whether two trees are equal to the last bit."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray) and one.dtype == other.dtype
            and one.shape == other.shape and one.tobytes() == other.tobytes()
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def updated(opt, params, grads):
    for one in grads:
        opt.update(params, one)
    return opt


def example(rng, dtype="float32", shapes=SHAPES, n=4):
    return arrays(rng, shapes, dtype), [arrays(rng, shapes, dtype) for _ in range(n)]


def names(folder):
    return {path.name for path in folder.iterdir()}


# ---------------------------------------------------------------- the same bits


@every_dtype
@every_class
def test_every_rule_goes_on_to_the_bit_as_if_its_state_were_in_memory(case, dtype, folder):
    rng = np.random.default_rng(0)
    params, grads = example(rng, dtype)
    options = {} if case.cls.carries else {"average": 0.9}
    ours, theirs = copies(params), copies(params)
    in_memory = updated(case.ours(**options), theirs, grads)
    first = updated(case.ours(**options, state_dir=folder), ours, grads[:2])
    del first
    second = case.ours(**options, state_dir=folder)
    second.load(folder)
    updated(second, ours, grads[2:])
    assert same(ours, theirs)
    assert same(kept(second), kept(in_memory))
    for key, record in second.engine.store.records.items():
        there = in_memory.engine.store.records[key]
        assert {s: a.strides for s, a in record.state.items()} == {
            s: a.strides for s, a in there.state.items()
        }


@pytest.mark.parametrize("opt", [
    {"average": "mean", "average_from": 1}, {"clip_norm": 1.0, "zero_grads": True},
    {"trust_ratio": True}, {"agc": 0.1, "constraint": "unit_norm"},
    {"lr": fo.schedules.cosine_decay(0.1, 10)}, {"weight_decay": 0.1, "decoupled": True},
    {"groups": [fo.Group("W", lr=0.5), fo.Group(lambda key, p: p.ndim == 1, beta1=0.5)]},
], ids=lambda one: "-".join(one))
def test_options_are_the_same(opt, folder):
    params, grads = example(np.random.default_rng(1))
    ours, theirs = copies(params), copies(params)
    of_ours, of_theirs = ([copies(g) for g in grads] for _ in range(2))
    in_memory = updated(fo.Adam(**opt), theirs, of_theirs)
    updated(fo.Adam(**opt, state_dir=folder), ours, of_ours[:2])
    second = fo.Adam(**opt, state_dir=folder)
    second.load(folder)
    updated(second, ours, of_ours[2:])
    assert same(ours, theirs)
    assert same(kept(second), kept(in_memory))


def test_matrices_and_their_rest_lie_in_one_folder(folder):
    params, grads = example(np.random.default_rng(2))
    ours, theirs = copies(params), copies(params)
    in_memory = updated(fo.Muon(rest=fo.AdamW()), theirs, grads)
    updated(fo.Muon(rest=fo.AdamW(), state_dir=folder), ours, grads[:2])
    second = fo.Muon(rest=fo.AdamW(), state_dir=folder)
    second.load(folder)
    updated(second, ours, grads[2:])
    assert same(second.state_dict()["parameters"][("b", 1)], kept(in_memory)["parameters"]["b", 1])
    for key in params:  # the products are a BLAS' own, with equal arrays of another alignment
        assert np.allclose(ours[key], theirs[key], rtol=1e-4)


def test_rows_soft_batches_and_numbers(folder):
    made = {}
    for where in (None, folder):
        rng = np.random.default_rng(3)
        opt = fo.AdaGrad(lr=0.1, state_dir=where)
        params = {"E": np.ones((50, 3), "float32"), "x": 2.0, "F": np.ones((6, 4)).T}
        soft = fo.SoftBatch(opt, every=2)
        for _ in range(4):
            values = rng.standard_normal((4, 3)).astype("float32")
            rows = fo.Rows(rng.integers(0, 50, 4), values)
            soft.update(params, {"E": rows, "x": 0.5, "F": rng.standard_normal((4, 6))})
        made[where] = params, kept(opt)
    assert same(*made.values())
    del opt, soft
    again = fo.AdaGrad(state_dir=folder)
    again.load(folder)
    assert same(kept(again), made[None][1])


def test_the_users_own_rule(folder):
    pytest.importorskip("numba")

    @fo.rule(state=("v",), lr=0.01)
    def Own(p, g, v, lr):
        v = 0.5 * v + g
        return p - lr * v, v

    params, grads = example(np.random.default_rng(4))
    updated(Own(state_dir=folder), params, grads)
    again = Own(state_dir=folder)
    again.load(folder)
    assert again.iter == 4
    assert set(again.v) == set(params)


def test_many_blocks_on_several_threads(folder):
    """More than a window, so that it is read ahead."""
    use_threads(2)
    rng = np.random.default_rng(5)
    shapes = {"small": (5,), "W": (1500, 1000), "V": (700, 1000)}
    params, grads = example(rng, shapes=shapes, n=2)
    ours, theirs = copies(params), copies(params)
    in_memory = updated(fo.Adam(average=0.5), theirs, grads)
    on_disk = updated(fo.Adam(average=0.5, state_dir=folder), ours, grads)
    assert same(ours, theirs)
    assert same(kept(on_disk), kept(in_memory))


def test_keys_of_any_kind_have_files_of_their_own(folder):
    shapes = dict.fromkeys(
        ["../up", "..", "a/b", "a_b", "ü" * 300, "", 3, "3", None, ("x", (1, 2)), 2.5, "CON"], (3,)
    )
    params, grads = example(np.random.default_rng(6), shapes=shapes)
    opt = updated(fo.Momentum(state_dir=folder), params, grads)
    expected = kept(opt)
    assert len(names(folder)) == len(shapes) + 3
    assert all(path.parent == folder for path in folder.iterdir())
    del opt
    again = fo.Momentum(state_dir=folder)
    again.load(folder)
    assert same(kept(again), expected)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="the system does not list them")
def test_files_are_not_kept_open(folder):
    shapes = dict.fromkeys(range(40), (5,))
    params, grads = example(np.random.default_rng(34), shapes=shapes)
    before = len(os.listdir("/dev/fd"))
    opt = updated(fo.Adam(state_dir=folder), params, grads)
    assert len(os.listdir("/dev/fd")) <= before + 1
    del opt
    again = fo.Adam(state_dir=folder)
    again.load(folder)
    assert len(os.listdir("/dev/fd")) <= before + 1


def test_keys_that_come_later_and_keys_that_are_left_out(folder):
    params, grads = example(np.random.default_rng(7))
    opt = fo.Adam(state_dir=folder)
    opt.update({"W": params["W"]}, {"W": grads[0]["W"]})
    opt.update(params, grads[1])
    opt.update(params, {**grads[2], "W": None})
    expected = kept(opt)
    assert dict(opt.updates_of) == {"W": 2, ("b", 1): 2, "deep": 2}
    del opt
    again = fo.Adam(state_dir=folder)
    again.load(folder)
    assert same(kept(again), expected)


def test_another_kernel_later(folder):
    params, grads = example(np.random.default_rng(8))
    theirs = copies(params)
    ours = fo.RMSprop(state_dir=folder), params
    in_memory = fo.RMSprop(), theirs
    for opt, of in (ours, in_memory):
        opt.update(of, grads[0])
        opt.centered = True
        opt.average = 0.5
        opt.update(of, grads[1])
    expected = kept(in_memory[0])
    del ours, opt
    again = fo.RMSprop(centered=True, state_dir=folder)
    again.load(folder)
    assert same(kept(again), expected)
    assert same(params, theirs)


def test_hyperparameters_come_from_the_folder_and_schedules_from_here(folder):
    params, grads = example(np.random.default_rng(9))
    opt = updated(fo.Adam(lr=0.1, state_dir=folder), params, grads)
    opt.beta1 = 0.5
    updated(opt, params, grads[:1])
    opt.lr = 0.25
    opt.sync()
    opt.beta2 = 0.75  # neither an update nor a sync follows
    del opt
    again = fo.Adam(lr=1.0, state_dir=folder)
    again.load(folder)
    assert (again.lr, again.beta1, again.beta2) == (0.25, 0.5, 0.999)
    del again
    schedule = fo.schedules.cosine_decay(0.1, 10)
    again = fo.Adam(lr=schedule, state_dir=folder)
    again.load(folder)
    assert again.lr is schedule


def test_what_a_plateau_has_observed_is_kept(folder):
    params, grads = example(np.random.default_rng(10))
    opt = fo.SGD(lr=fo.schedules.plateau(0.5, factor=0.5, patience=0), state_dir=folder)
    for loss in (1.0, 2.0):
        opt.update(params, grads[0])
        opt.lr.observe(loss)
    opt.update(params, grads[0])
    del opt
    again = fo.SGD(lr=fo.schedules.plateau(0.5, factor=0.5, patience=0), state_dir=folder)
    again.load(folder)
    assert again.current("lr") == 0.25


def test_counters_of_left_out_updates(folder):
    params, grads = example(np.random.default_rng(11))
    opt = fo.SGD(nonfinite="skip", clip_norm=1e-3, state_dir=folder)
    updated(opt, params, grads[:2])
    opt.update(params, {**grads[0], "W": np.full_like(params["W"], np.nan)})
    del opt
    again = fo.SGD(state_dir=folder)
    again.load(folder)
    assert (again.iter, again.skipped, again.clipped) == (2, 1, 2)


# ---------------------------------------------------------------- a process that is killed

TRAIN = """
import os, sys, signal, numpy as np, fastoptim as fo
folder, n, kill_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fo.set_num_threads(1)
params = {"W": np.memmap(folder + ".params", "float32", "r+", shape=(n,))}

class Killing(dict):
    def __setitem__(self, key, value):
        if value is not self[key]:      # that it can be written is tried before
            os.kill(os.getpid(), signal.SIGKILL)

if kill_at:
    params["x"] = 1.0
opt = fo.Adam(lr=0.01, state_dir=folder)
for step in range(100000):
    grads = {"W": np.random.default_rng(step).standard_normal(n).astype("float32"), "x": 1.0}
    if not kill_at:
        del grads["x"]
    elif step == kill_at:
        params = Killing(params)
    opt.update(params, grads)
    print(step, flush=True)
"""


def train(folder, n, kill_at=0):
    np.zeros(n, "float32").tofile(f"{folder}.params")
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder), str(n), str(kill_at)],
        stdout=subprocess.PIPE, text=True,
    )


def replayed(n, steps):
    params, opt = {"W": np.zeros(n, "float32")}, fo.Adam(lr=0.01)
    for step in range(steps):
        rng = np.random.default_rng(step)
        opt.update(params, {"W": rng.standard_normal(n).astype("float32")})
    return opt, params


def test_a_killed_process_leaves_a_whole_state_or_one_that_is_refused(tmp_path):
    n, rng, refused = 60_000, random.Random(0), 0
    for k in range(12):
        folder = tmp_path / str(k)
        with train(folder, n) as process:
            for _ in range(rng.randrange(1, 6)):
                process.stdout.readline()
            time.sleep(rng.random() * 0.004)
            process.kill()
        opt = fo.Adam(state_dir=folder)
        try:
            opt.load(folder)
        except ValueError as problem:
            told = str(problem)
        else:
            told = None
        if told is not None:
            assert "in the middle of an update" in told
            refused += 1
            continue
        expected, params = replayed(n, opt.iter)
        assert opt.iter >= 1
        assert same(kept(opt), kept(expected))
        assert np.array_equal(np.fromfile(f"{folder}.params", "float32"), params["W"])
    assert refused < 12


def test_a_process_killed_in_the_middle_leaves_a_state_that_is_refused(tmp_path):
    folder = tmp_path / "state"
    with train(folder, 1000, kill_at=3) as process:
        assert process.communicate()[0].split() == ["0", "1", "2"]
    assert process.returncode == -signal.SIGKILL
    opt, params = fo.Adam(state_dir=folder), {"W": np.zeros(1000, "float32"), "x": 1.0}
    with pytest.raises(ValueError, match=r"killed after 3 whole ones\. .* load a checkpoint"):
        opt.load(folder)
    with pytest.raises(ValueError, match="holds the state of Adam after 3 updates"):
        opt.update(params, {"W": np.ones(1000, "float32"), "x": 1.0})
    assert opt.iter == 0
    assert not params["W"].any()
    assert len(opt.m) == 0


def as_if_killed(folder, to):
    shutil.copytree(folder, to)
    return to


def test_what_is_left_within_averaged_is_refused(folder, tmp_path):
    params, grads = example(np.random.default_rng(12))
    opt = updated(fo.SGD(average=0.5, state_dir=folder), params, grads)
    with opt.averaged(params):
        within = as_if_killed(folder, tmp_path / "within")
    after = as_if_killed(folder, tmp_path / "after")
    with pytest.raises(ValueError, match="middle of an update, or of a `with`"):
        fo.SGD(average=0.5).load(within)
    again = fo.SGD(average=0.5)
    again.load(after)
    assert same(kept(again), kept(opt))
    params = {"x": 1.0, **params}
    opt.update(params, {"x": 1.0, **grads[0]})

    class Full(dict):
        def __setitem__(self, key, value):
            raise MemoryError

    with pytest.raises(MemoryError), opt.averaged(Full(params)):
        pass
    fo.SGD(average=0.5).load(as_if_killed(folder, tmp_path / "refused"))


@pytest.mark.parametrize("at", ["make", "write", "rename", "after"])
def test_a_load_that_fails_leaves_memory_and_files_as_they_were(at, folder, tmp_path, monkeypatch):
    params, grads = example(np.random.default_rng(13))
    other = updated(fo.Adam(lr=0.5), copies(params), grads)
    opt = updated(fo.Adam(lr=0.1, state_dir=folder), params, grads[:2])
    expected = kept(opt)

    def stop(*_, **__):
        raise KeyboardInterrupt

    real = os.replace
    with monkeypatch.context() as patched:
        if at == "make":
            patched.setattr(disk, "allocate", stop)
        elif at == "write":
            patched.setattr(index, "write", stop)
        elif at == "rename":
            patched.setattr(index.os, "replace", stop)
        else:
            def replace(*given):
                real(*given)
                patched.setattr(index.os, "replace", real)
                raise KeyboardInterrupt
            patched.setattr(index.os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            opt.load_state_dict(other.state_dict())
    assert same(kept(opt), expected)
    at_once = fo.Adam()
    at_once.load(as_if_killed(folder, tmp_path / "at once"))
    assert same(kept(at_once), expected)
    again = fo.Adam()
    opt.update(params, grads[2])
    again.load(as_if_killed(folder, tmp_path / "copy"))
    assert same(kept(again), kept(opt))
    assert len(names(folder)) == 2 * len(SHAPES) + 3 + ("settings.json" in names(folder))


def test_a_load_replaces_all_at_once(folder, tmp_path):
    params, grads = example(np.random.default_rng(14))
    other = updated(fo.Adam(lr=0.5), copies(params), grads)
    opt = updated(fo.Adam(lr=0.1, state_dir=folder), params, grads[:2])
    opt.load_state_dict(other.state_dict())
    again = fo.Adam()
    again.load(as_if_killed(folder, tmp_path / "copy"))
    assert same(kept(again), kept(other))
    assert same(kept(opt), kept(other))
    assert len(names(folder)) == 2 * len(SHAPES) + 3


# ---------------------------------------------------------------- the end of the system


def test_after_a_new_start_only_what_was_flushed_counts(folder, tmp_path, monkeypatch):
    params, grads = example(np.random.default_rng(15))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    before = as_if_killed(folder, tmp_path / "before")
    opt.sync()
    flushed, expected = as_if_killed(folder, tmp_path / "flushed"), kept(opt)
    opt.update(params, grads[2])
    later = as_if_killed(folder, tmp_path / "later")
    monkeypatch.setattr(boot, "boot", lambda: bytes(range(16)))
    for one in (before, later):
        with pytest.raises(ValueError, match=r"before this system was started.*opt\.sync\(\)"):
            fo.Adam().load(one)
    again = fo.Adam()
    again.load(flushed)
    assert same(kept(again), expected)


def test_systems_that_do_not_tell_when_they_were_started(folder, monkeypatch):
    params, grads = example(np.random.default_rng(16))
    monkeypatch.setattr(boot, "boot", lambda: boot.UNKNOWN)
    monkeypatch.setattr(files, "boot", lambda: boot.UNKNOWN)
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    del opt
    again = fo.Adam(state_dir=folder)
    with pytest.raises(ValueError, match="sync"):
        again.load(folder)
    del again
    shutil.rmtree(folder)
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    opt.sync()
    del opt
    again = fo.Adam(state_dir=folder)
    again.load(folder)
    assert again.iter == 2


def test_the_disk_knows_that_its_state_is_old_before_anything_is_written(folder, monkeypatch):
    params, grads = example(np.random.default_rng(17))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:1])
    opt.sync()
    ledger = next(folder.glob("*.ledger"))
    assert np.fromfile(ledger, "int64")[3] == 1
    opt.update(params, grads[1])
    assert np.fromfile(ledger, "int64")[3] == 0
    opt.sync()
    assert np.fromfile(ledger, "int64")[3] == 1
    opt.lr = 0.5
    opt.sync()
    assert np.fromfile(ledger, "int64")[3] == 1


# ---------------------------------------------------------------- owners


class Counted:
    """A file whose flushes are counted."""

    def __init__(self):
        self.flushed = 0

    def flush(self):
        self.flushed += 1


def test_sync_flushes_every_array(folder):
    params, grads = example(np.random.default_rng(37))
    opt = updated(fo.Adam(average=0.5, state_dir=folder), params, grads[:2])
    of_opt = opt.engine.store.folder.files
    assert len(of_opt.mapped) == 3 * len(SHAPES)
    of_opt.mapped = {name: Counted() for name in of_opt.mapped}
    opt.sync()
    assert all(one.flushed == 1 for one in of_opt.mapped.values())


def test_a_state_that_nobody_loaded_is_not_overwritten(folder):
    params, grads = example(np.random.default_rng(18))
    updated(fo.Adam(state_dir=folder), params, grads[:2])
    gc.collect()
    before, expected = {p: p.read_bytes() for p in folder.iterdir()}, copies(params)
    opt = fo.Adam(state_dir=folder)
    other = updated(fo.Adam(), copies(params), grads)
    for call in (
        lambda: opt.update(params, grads[0]), opt.reset, opt.sync,
        lambda: opt.load_state_dict(other.state_dict()),
    ):
        with pytest.raises(ValueError, match=r"holds the state of Adam after 2 updates; opt\.load"):
            call()
    opt = call = None
    another = fo.SGD(state_dir=folder)
    with pytest.raises(ValueError, match="the state is of Adam, this optimizer is SGD"):
        another.load(folder)
    with pytest.raises(ValueError, match="holds the state"):
        another.update(params, grads[0])
    assert same(params, expected)
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_has_one_owner(folder):
    params, grads = example(np.random.default_rng(19))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    other = fo.Adam(state_dir=folder)
    for call in (lambda: other.update(params, grads[0]), lambda: other.load(folder),
                 lambda: fo.Adam().load(folder)):
        with pytest.raises(RuntimeError, match="in use: another optimizer"):
            call()
    code = f"import fastoptim as fo; fo.Adam(state_dir={str(folder)!r}).load({str(folder)!r})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "in use: another optimizer" in found.stderr
    view = opt.m["W"]
    del opt
    gc.collect()
    with pytest.raises(RuntimeError, match="in use"):  # whose arrays are still there
        other.load(folder)
    del view
    other.load(folder)
    assert other.iter == 2


def in_child(opt, params, grads, connection):
    told = []
    for call in (lambda: opt.update(params, grads), opt.state_dict, opt.reset,
                 lambda: copy.deepcopy(opt), opt.sync, lambda: opt.averaged(params).__enter__()):
        try:
            call()
            told.append("done")
        except RuntimeError as problem:
            told.append(str(problem))
    connection.send(told)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_the_parent_goes_on(folder):
    use_threads(1)
    params, grads = example(np.random.default_rng(20))
    opt = updated(fo.Adam(average=0.5, state_dir=folder), params, grads[:2])
    expected = kept(opt)
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=in_child, args=(opt, params, grads[2], there))
    child.start()
    assert here.poll(60)
    told = here.recv()
    child.join()
    assert all("forked" in one for one in told)
    assert len(told) == 6
    assert same(kept(opt), expected)
    with pytest.raises(RuntimeError, match="in use"):
        fo.Adam().load(folder)
    opt.update(params, grads[2])
    assert opt.iter == 3


def wait_for_word(connection):
    connection.recv()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_lives_longer_does_not_hold_the_folder(folder):
    use_threads(1)
    params, grads = example(np.random.default_rng(36))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=wait_for_word, args=(there,))
    child.start()
    try:
        del opt
        other = fo.Adam(state_dir=folder)
        for _ in range(100):  # until the child has come to its first line
            try:
                other.load(folder)
                break
            except RuntimeError:
                time.sleep(0.1)
        assert other.iter == 2
    finally:
        here.send("end")
        child.join()


def test_copies_are_in_memory(folder):
    params, grads = example(np.random.default_rng(21))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert twin.state_dir is None
        assert same(kept(twin), kept(opt))
        expected = kept(opt)
        twin.update(copies(params), grads[2])
        assert same(kept(opt), expected)


def test_checkpoints_go_both_ways(folder, tmp_path):
    pytest.importorskip("safetensors")
    params, grads = example(np.random.default_rng(22))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    expected = kept(opt)
    opt.save(tmp_path / "opt")
    fo.save(tmp_path / "all", {"opt": opt})
    in_memory = fo.Adam()
    in_memory.load(tmp_path / "opt")
    assert same(kept(in_memory), expected)
    alone = fo.load(tmp_path / "all")["opt"]
    assert alone.state_dir is None
    assert same(kept(alone), expected)
    opt.update(params, grads[2])
    fo.load(tmp_path / "all", into={"opt": opt})
    assert same(kept(opt), expected)
    opt.update(params, grads[2])
    opt.load(tmp_path / "opt")
    assert same(kept(opt), expected)
    later = fo.Adam(state_dir=tmp_path / "later")
    later.load(folder.parent / "opt")
    del opt
    assert same(kept(later), expected)
    from_folder = fo.Adam(state_dir=tmp_path / "third")
    from_folder.load(folder)
    assert same(kept(from_folder), expected)
    assert len(list((tmp_path / "third").glob("*.m"))) == len(SHAPES)


@pytest.mark.parametrize("place", ["memory", "own", "another"])
@pytest.mark.parametrize("now", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("then", [None, "bfloat16", "int8"])
def test_a_folder_of_another_state_dtype_is_converted(then, now, place, folder, tmp_path):
    params, grads = example(np.random.default_rng(23))
    opt = updated(fo.Adam(state_dir=folder, state_dtype=then, average=0.9), params, grads[:2])
    expected = fo.Adam(state_dtype=now, average=0.9)
    expected.load_state_dict(opt.state_dict(), convert=True)
    del opt
    where = {"memory": None, "own": folder, "another": tmp_path / "another"}[place]
    opt = fo.Adam(state_dir=where, state_dtype=now, average=0.9)
    if then != now:
        with pytest.raises(ValueError, match="or convert it"):
            opt.load(folder)
    opt.load(folder, convert=True)
    assert same(kept(opt) | {"hyperparameters": None}, kept(expected) | {"hyperparameters": None})
    if place != "memory":
        del opt
        opt = fo.Adam(state_dir=where, state_dtype=now, average=0.9)
        opt.load(where)
    others = copies(params)
    updated(opt, params, grads[2:])
    updated(expected, others, grads[2:])
    assert same(params, others)


def test_reset_empties_the_folder(folder):
    params, grads = example(np.random.default_rng(23))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    opt.reset()
    assert {n for n in names(folder) if not n.endswith(".ledger")} == {"lock", "index.json"}
    again = copies(params)
    updated(opt, params, grads)
    assert same(kept(opt), kept(updated(fo.Adam(), again, grads)))
    opt.reset()
    del opt
    assert updated(fo.Adam(state_dir=folder), params, grads[:1]).iter == 1  # nothing to lose


# ---------------------------------------------------------------- disks


@pytest.mark.parametrize("which", range(1, 8))
def test_a_full_disk_changes_nothing_and_leaves_nothing(which, folder, monkeypatch):
    params, grads = example(np.random.default_rng(24))
    before, calls, real = copies(params), [], os.posix_fallocate

    def allocate(*given):
        calls.append(given)
        if len(calls) == which:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    opt = fo.Adam(state_dir=folder)
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    with pytest.raises(OSError, match=r"needs \d+ bytes in state_dir, where \d+ are free") as told:
        opt.update(params, grads[0])
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(folder)
    assert same(params, before)
    assert opt.iter == 0
    assert not folder.exists()
    updated(opt, params, grads)
    assert same(kept(opt), kept(updated(fo.Adam(), before, grads)))


def test_a_full_disk_later_leaves_what_was_there(folder, monkeypatch):
    params, grads = example(np.random.default_rng(25))
    opt = fo.Adam(state_dir=folder)
    opt.update({"W": params["W"]}, {"W": grads[0]["W"]})
    before, there = copies(params), names(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="the m of \\('b', 1\\) needs"):
            opt.update(params, grads[1])
    assert same(params, before)
    assert names(folder) == there
    assert opt.iter == 1
    opt.update(params, grads[1])
    assert opt.iter == 2


def test_a_limit_on_the_size_of_files(folder):
    code = f"""
import resource, numpy as np, fastoptim as fo
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
params = {{"W": np.zeros(100_000)}}
try:
    fo.Adam(state_dir={str(folder)!r}).update(params, {{"W": np.ones(100_000)}})
except OSError as problem:
    print(problem.strerror, params["W"].any())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("the m of 'W' needs 804096 bytes in state_dir")
    assert run.stdout.endswith("False\n")
    assert not folder.exists()


def test_without_fallocate_zeros_are_written(folder, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    params, grads = example(np.random.default_rng(26))
    before = copies(params)
    opt = updated(fo.Adam(state_dir=folder), params, grads)
    assert same(kept(opt), kept(updated(fo.Adam(), before, grads)))
    with open(folder / "x", "xb") as file:
        disk.allocate(file.fileno(), 3 * disk.PIECE + 5)
    assert os.path.getsize(folder / "x") == 3 * disk.PIECE + 5


def test_a_file_system_without_mapping(folder, monkeypatch):
    def no_mapping(*_):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(disk, "Mapped", no_mapping)
    params, grads = example(np.random.default_rng(27))
    with pytest.raises(OSError, match="cannot be mapped into memory.*local disk"):
        fo.Adam(state_dir=folder).update(params, grads[0])
    assert not folder.exists()


def unwritable(tmp_path, monkeypatch):
    def mkdir(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(disk.os, "mkdir", mkdir)
    return tmp_path / "state"


def of_somebody_else(tmp_path, _):
    (tmp_path / "thesis.tex").touch()
    return tmp_path


def a_file(tmp_path, _):
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize(("make", "kind", "words"), [
    (unwritable, PermissionError, "state_dir cannot be made"),
    (lambda tmp_path, _: tmp_path / "not" / "there", FileNotFoundError, "to be made in is not"),
    (a_file, NotADirectoryError, "state_dir is a file"),
    (of_somebody_else, ValueError, "has a file 'thesis.tex'"),
], ids=["unwritable", "no parent", "file", "others' files"])
def test_folders_that_cannot_be_used(make, kind, words, tmp_path, monkeypatch):
    path = make(tmp_path, monkeypatch)
    before = sorted(tmp_path.iterdir())
    params, grads = example(np.random.default_rng(28))
    expected, opt = copies(params), fo.Adam(state_dir=path)
    with pytest.raises(kind, match=words):
        opt.update(params, grads[0])
    assert same(params, expected)
    assert opt.iter == 0
    assert sorted(tmp_path.iterdir()) == before


# ---------------------------------------------------------------- damaged folders


def shorten(path):
    path.write_bytes(path.read_bytes()[:-4096])


def other_format(path):
    path.write_text(path.read_text().replace('["format",1],["ledger"', '["format",9],["ledger"'))


@pytest.mark.parametrize(("pattern", "damage", "words"), [
    ("*-W.m", Path.unlink, "the file 000001-W.m is not there"),
    ("*-W.m", shorten, r"-W\.m has \d+ bytes"),
    ("*.ledger", Path.unlink, "ledger is not there"),
    ("*.ledger", lambda path: path.write_bytes(b"x"), "has 1 bytes"),
    ("*.ledger", lambda path: path.write_bytes(bytes(512)), "ledger"),
    ("*.ledger", lambda path: os.truncate(path, 128), "no row"),
    ("index.json", lambda path: path.write_text("{"), "damaged"),
    ("index.json", lambda path: path.write_text('{"dict":[]}'), "damaged"),
    ("index.json", lambda path: path.write_bytes(b"\xff"), "damaged"),
    ("index.json", other_format, "is of format 9"),
    ("index.json", Path.unlink, "holds no state"),
    ("settings.json", lambda path: path.write_text("["), "damaged"),
], ids=str)
def test_damaged_folders_are_refused(pattern, damage, words, folder):
    params, grads = example(np.random.default_rng(29))
    opt = updated(fo.Adam(state_dir=folder), params, grads)
    opt.lr = 0.5
    opt.update(params, grads[0])
    del opt
    gc.collect()
    damage(next(folder.glob(pattern)))
    opt = fo.Adam(state_dir=folder)
    with pytest.raises(ValueError, match=words):
        opt.load(folder)
    assert opt.iter == 0
    assert len(opt.m) == 0


def test_what_a_killed_process_left_half_made_is_removed(folder):
    params, grads = example(np.random.default_rng(30))
    updated(fo.Adam(state_dir=folder), params, grads)
    gc.collect()
    there = names(folder)
    for name in ("000099-W.m", "000100.ledger", "index.json.new"):
        (folder / name).touch()
    opt = fo.Adam(state_dir=folder)
    with pytest.raises(ValueError, match="holds the state"):
        opt.update(params, grads[0])
    assert names(folder) == there
    opt.load(folder)
    assert not {"000099-W.m", "000100.ledger", "index.json.new"} & names(folder)
    assert len(names(folder)) == len(there)
    opt.update(params, grads[0])
    assert opt.iter == 5


def test_keys_of_a_refused_call_are_not_in_the_state(folder, tmp_path):
    """A container that takes no new number is found when the new keys are in the index."""
    params, grads = example(np.random.default_rng(35))
    opt = updated(fo.Adam(state_dir=folder), params, grads[:2])
    expected = kept(opt)

    class Full(dict):
        def __setitem__(self, key, value):
            if value is not self[key]:
                raise MemoryError

    with pytest.raises(MemoryError):
        opt.update(Full({**params, "x": 1.0}), {**grads[2], "x": 1.0})
    assert same(kept(opt), expected)
    again = fo.Adam()
    again.load(as_if_killed(folder, tmp_path / "copy"))
    assert same(kept(again), expected)
    numbers = {**params, "x": 1.0}
    opt.update(numbers, {**grads[2], "x": 1.0})
    later = fo.Adam()
    later.load(as_if_killed(folder, tmp_path / "later"))
    assert same(kept(later), kept(opt))


def test_a_refused_first_update_leaves_nothing(folder):
    params, grads = example(np.random.default_rng(31))
    opt = fo.Adam(nonfinite="raise", state_dir=folder)
    with pytest.raises(FloatingPointError):
        opt.update(params, {**grads[0], "W": np.full_like(params["W"], np.inf)})
    assert not folder.exists()
    assert len(opt.m) == 0
    for one in (opt, fo.SGD(state_dir=folder)):
        with pytest.raises(TypeError, match="which state_dir cannot hold"):
            one.update({object: params["W"]}, {object: grads[0]["W"]})
        assert not folder.exists()
    assert updated(opt, params, grads).iter == 4


# ---------------------------------------------------------------- the option


@pytest.mark.parametrize(("value", "kind"), [
    (3, TypeError), (b"folder", TypeError), ("", ValueError), ("a\0b", ValueError),
    (["a"], TypeError),
])
def test_what_is_no_folder(value, kind):
    with pytest.raises(kind, match="state_dir must be the name of a folder or None"):
        fo.Adam(state_dir=value)
    opt = fo.Adam()
    with pytest.raises(kind, match="state_dir must be the name of a folder or None"):
        opt.state_dir = value
    assert opt.state_dir is None


def test_it_is_of_the_whole(folder):
    with pytest.raises(TypeError, match="state_dir concerns the whole update"):
        fo.Group("W", state_dir=folder)
    with pytest.raises(ValueError, match="state_dir concerns the whole update"):
        fo.Muon(rest=fo.AdamW(state_dir=folder))
    opt = fo.Muon(rest=fo.AdamW())
    with pytest.raises(ValueError, match="is a part of a Muon; set it there"):
        opt.rest.state_dir = folder
    assert opt.engine.store.folder is None


def test_it_cannot_change_after_the_first_update(folder, tmp_path, monkeypatch):
    params, grads = example(np.random.default_rng(32))
    monkeypatch.chdir(tmp_path)
    opt = fo.Adam()
    opt.state_dir = "state"
    assert opt.state_dir == str(folder)
    monkeypatch.chdir("/")
    updated(opt, params, grads)
    assert folder.is_dir()
    for value in (None, tmp_path / "other"):
        with pytest.raises(ValueError, match="state_dir cannot change after the first update"):
            opt.state_dir = value
    opt.state_dir = folder
    assert opt.state_dir == str(folder)
    assert opt.iter == 4


def test_sync_needs_files():
    with pytest.raises(ValueError, match="has no state_dir"):
        fo.Adam().sync()


@pytest.mark.parametrize(("then", "now"), [("int8", None), ("bfloat16", None), (None, "int8")])
def test_a_folder_of_another_state_dtype_is_converted_on_request(then, now, folder, tmp_path):
    rng = np.random.default_rng(5)
    params, grads = example(rng)
    opt = updated(fo.Adam(state_dir=folder, state_dtype=then), params, grads[:2])
    opt.save(tmp_path / "saved")
    del opt
    theirs = {key: p.copy(order="K") for key, p in params.items()}
    twin = fo.Adam(state_dtype=now)
    twin.load(tmp_path / "saved", convert=True)
    inside = fo.Adam(state_dtype=now)
    with pytest.raises(ValueError, match="convert=True"):
        inside.load(folder)
    inside.load(folder, convert=True)
    assert same(kept(inside)["parameters"], kept(twin)["parameters"])
    opt = fo.Adam(state_dir=folder, state_dtype=now)
    opt.load(folder, convert=True)
    updated(opt, params, grads[2:])
    del opt
    opt = fo.Adam(state_dir=folder, state_dtype=now)
    opt.load(folder)
    updated(twin, theirs, grads[2:])
    assert same(kept(opt)["parameters"], kept(twin)["parameters"])
    assert same(params, theirs)


def test_a_folder_that_is_removed_under_an_optimizer(folder, tmp_path):
    """Nothing is written into a folder that somebody else has made there, and nothing is lost."""
    opt, twin = fo.Adam(state_dir=folder), fo.Adam()
    params, theirs = {"a": np.ones(5)}, {"a": np.ones(5)}
    grads = {"a": np.full(5, 0.5), "b": np.full(3, 0.5)}
    updated(opt, params, [{"a": grads["a"]}] * 2)
    updated(twin, theirs, [{"a": grads["a"]}] * 3)
    folder.rename(tmp_path / "moved")
    other, others = fo.Adam(state_dir=folder), {"a": np.ones(5)}
    updated(other, others, [{"a": grads["a"]}])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    more = {**params, "b": np.ones(3)}
    for call in (opt.sync, opt.reset, lambda: opt.update(more, grads)):
        with pytest.raises(FileNotFoundError, match=r"removed or moved.*opt\.save"):
            call()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (more["b"] == 1).all()
    opt.update(params, {"a": grads["a"]})
    opt.save(tmp_path / "saved")
    opt = fo.Adam()
    opt.load(tmp_path / "saved")
    assert same(kept(opt)["parameters"], kept(twin)["parameters"])
    np.testing.assert_array_equal(params["a"], theirs["a"])


@pytest.mark.parametrize("pattern", ["index.json", "*.ledger", "*.m"])
def test_sync_misses_files_that_were_removed(pattern, folder):
    opt = fo.Adam(state_dir=folder)
    opt.update({"a": np.ones(5)}, {"a": np.ones(5)})
    opt.sync()
    next(folder.glob(pattern)).unlink()
    with pytest.raises(FileNotFoundError, match="removed or moved"):
        opt.sync()


def test_sync_before_the_first_update_writes_nothing(folder):
    fo.Adam(state_dir=folder).sync()
    gc.collect()
    assert not folder.exists()


def test_folders_that_are_not_there_cannot_be_loaded(folder):
    with pytest.raises(FileNotFoundError):
        fo.Adam(state_dir=folder).load(folder)
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no state"):
        fo.Adam(state_dir=folder).load(folder)
    assert names(folder) == set()


# ---------------------------------------------------------------- parameters and gradients in files


@every_dtype
def test_parameters_and_gradients_in_files(dtype, folder, tmp_path):
    rng = np.random.default_rng(33)
    start, grad = (rng.standard_normal((300, 40)).astype(dtype) for _ in range(2))
    start.tofile(tmp_path / "p")
    grad.tofile(tmp_path / "g")
    p = np.memmap(tmp_path / "p", dtype, "r+", shape=start.shape)
    g = np.memmap(tmp_path / "g", dtype, "r", shape=start.shape)
    opt = fo.Adam(clip_norm=1.0, state_dir=folder)
    opt.update({"W": p}, {"W": g})
    in_memory = fo.Adam(clip_norm=1.0)
    in_memory.update({"W": start}, {"W": grad})
    p.flush()
    assert np.array_equal(np.fromfile(tmp_path / "p", dtype), start.ravel())
    assert same(kept(opt), kept(in_memory))
    with pytest.raises(ValueError, match="memmap opened with mode 'r\\+'"):
        opt.update({"W": g}, {"W": grad})
    private = np.memmap(tmp_path / "p", dtype, "c", shape=start.shape)
    fo.SGD().update({"W": private}, {"W": g})
    assert np.array_equal(np.fromfile(tmp_path / "p", dtype), start.ravel())
    assert not np.array_equal(private, start)


def test_a_table_larger_than_memory_takes_gradients_of_rows(tmp_path):
    n = 1 << 26  # rows of 4 KiB: 256 GiB of a file that is all holes
    with open(tmp_path / "table", "wb") as file:
        try:
            file.truncate(n << 12)
        except OSError:
            n = 1 << 20  # a file system with smaller files
            file.truncate(n << 12)
    table = np.memmap(tmp_path / "table", "float32", "r+", shape=(n, 1024))
    values = np.ones((2, 1024), "float32")
    fo.SGD(lr=1.0).update({"E": table}, {"E": fo.Rows([5, n - 1], values)})
    assert (table[[5, n - 1]] == -1).all()
    assert not table[[4, 6]].any()


@pytest.mark.parametrize("seed", range(60))
def test_state_lies_as_numpy_would_lay_it(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.choice([1, 1, 2, 3, 4], rng.integers(0, 6)))
    a = np.ones(tuple(n + int(rng.integers(0, 2)) for n in shape), "float32")
    a = a.transpose(rng.permutation(a.ndim))
    a = a[tuple(slice(None, None, int(rng.choice([1, 1, 2, -1]))) for _ in a.shape)]
    opt = fo.Momentum()
    opt.update({"x": a}, {"x": a.copy()})
    expected = np.empty_like(a, order="K")
    v = opt.v["x"]
    assert [s for s, n in zip(v.strides, v.shape, strict=True) if n > 1] == [
        s for s, n in zip(expected.strides, expected.shape, strict=True) if n > 1
    ]
    assert v.flags.c_contiguous == expected.flags.c_contiguous
    assert v.flags.f_contiguous == expected.flags.f_contiguous
