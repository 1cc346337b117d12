"""A folder of checkpoints: the last few and the best stay, and the newest whole one goes on."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import checkpoint

pytest.importorskip("safetensors")
pytest.importorskip("xxhash")


def names(files):
    """The numbers and losses of the files."""
    return [path.name[5:].removesuffix(".safetensors") for path in files.paths]


def test_the_last_and_the_best_stay(tmp_path):
    files = fo.Checkpoints(tmp_path / "new" / "runs", keep=2)
    assert (files.last, files.best, files.paths, files.resume()) == (None, None, [], None)
    for step, loss in enumerate([5.0, 1.0, 0.25, 0.5, math.nan, 0.25, 1e-05, math.inf, 3]):
        assert files.save(step, {"step": step}, loss=loss)
    assert names(files) == ["00000006-loss-1e-05", "00000007-loss-inf", "00000008-loss-3.0"]
    assert fo.load(files.best) == {"step": 6}
    assert fo.load(files.last) == files.resume() == {"step": 8}
    assert files.paths == [files.best, tmp_path / "new/runs/step-00000007-loss-inf.safetensors",
                           files.last]


def test_the_first_of_equals_is_the_best(tmp_path):
    files = fo.Checkpoints(tmp_path, keep=1)
    for step, loss in enumerate([np.float32(0.5), np.array(0.5), 1]):
        files.save(step, step, loss)
    assert names(files) == ["00000000-loss-0.5", "00000002-loss-1.0"]


def test_without_losses(tmp_path):
    files = fo.Checkpoints(str(tmp_path))
    assert [files.save(step, step) for step in range(5)] == [True] * 5
    assert (names(files), files.best) == (["00000002", "00000003", "00000004"], None)
    assert repr(files) == f"Checkpoints({str(tmp_path)!r}, keep=3, every=1)"


def test_every(tmp_path):
    files = fo.Checkpoints(tmp_path, every=3)
    assert [files.save(step, step) for step in range(7)] == [True, False, False] * 2 + [True]
    assert names(files) == ["00000000", "00000003", "00000006"]


def test_a_step_again_replaces_it(tmp_path):
    files = fo.Checkpoints(tmp_path, keep=2)
    for step, loss in [(1, 0.5), (2, 0.25), (2, 0.75), (2, None)]:
        files.save(step, [step, loss], loss)
    assert names(files) == ["00000001-loss-0.5", "00000002"]
    assert files.resume() == [2, None]
    assert files.best == files.paths[0]


def test_other_files_are_left_alone(tmp_path):
    others = ["step-1.txt", "step-x.safetensors", "notes", "step-00000001.safetensors.damaged"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "step-00000000.safetensors").mkdir()
    files = fo.Checkpoints(tmp_path, keep=1)
    for step in range(1, 4):
        files.save(step, step)
    assert names(files) == ["00000003"]
    left = {*others, "step-00000000.safetensors", "step-00000003.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_later_step_is_not_overrun(tmp_path):
    fo.Checkpoints(tmp_path).save(8, "old")
    files = fo.Checkpoints(tmp_path, keep=1)
    with pytest.raises(ValueError, match="has step 8 already, and step must not go back, got 7"):
        files.save(7, "new")
    assert files.resume() == "old"


def train(files, opt, params, rng, epochs, stop=None):
    for epoch in epochs:
        opt.update(params, {"W": rng.normal(size=5)})
        loss = float((params["W"] ** 2).sum())
        files.save(epoch, {"params": params, "opt": opt, "rng": rng, "epoch": epoch}, loss)


def start():
    opt = fo.Adam(lr=fo.schedules.linear(0.1, 0.0, steps=20), average=0.5)
    return opt, {"W": np.ones(5)}, np.random.default_rng(0)


@pytest.mark.parametrize("in_place", [False, True])
def test_training_goes_on_to_the_bit(tmp_path, in_place):
    whole = start()
    train(fo.Checkpoints(tmp_path / "a"), *whole, range(9))
    train(fo.Checkpoints(tmp_path / "b"), *start(), range(5))
    files = fo.Checkpoints(tmp_path / "b")
    opt, params, rng = start()
    if in_place:
        then = files.resume(into={"params": params, "opt": opt, "rng": rng})
        assert (then["params"], then["opt"], then["rng"]) == (params, opt, rng)
    else:
        then = files.resume()
        params, opt, rng = then["params"], then["opt"], then["rng"]
    train(files, opt, params, rng, range(then["epoch"] + 1, 9))
    assert params["W"].tobytes() == whole[1]["W"].tobytes()
    assert names(files) == names(fo.Checkpoints(tmp_path / "a"))
    assert [p.read_bytes()[-200:] for p in files.paths] == [
        p.read_bytes()[-200:] for p in fo.Checkpoints(tmp_path / "a").paths
    ]


DAMAGE = {
    "a bit": lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    "cut": lambda data: data[:-5], "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_newest_that_is_whole(tmp_path, name):
    files = fo.Checkpoints(tmp_path, keep=4)
    for step in range(4):
        files.save(step, {"step": step, "opt": fo.SGD(), "x": np.ones(3)})
    for path in files.paths[2:]:
        path.write_bytes(DAMAGE[name](path.read_bytes()))
    with pytest.warns(UserWarning, match="renamed to step-0000000.*damaged") as seen:
        assert files.resume()["step"] == 1
    assert len(seen) == 2
    assert names(files) == ["00000000", "00000001"]
    files.save(2, "again")
    assert files.resume() == "again"


def test_none_is_whole(tmp_path):
    files = fo.Checkpoints(tmp_path)
    for step in range(2):
        files.save(step, np.ones(3))
    for path in files.paths:
        path.write_bytes(b"")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match="none of the 2 files in .* is whole: .*step-00000001"):
        files.resume()
    assert sorted(os.listdir(tmp_path)) == before


def test_a_file_that_cannot_be_taken_over_is_not_damaged(tmp_path):
    """What is wrong with the arguments, or with this version, is no reason to take an older one."""
    files = fo.Checkpoints(tmp_path)
    for step in range(2):
        files.save(step, {"opt": fo.SGD(), "x": np.ones(3)})
    with pytest.raises(ValueError, match="float64"):
        files.resume(into={"x": np.ones(2)})
    newest = files.last
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b'"format_version":"3"', b'"format_version":"9"'))
    with pytest.raises(ValueError, match="use the version that wrote it"):
        files.resume()
    assert len(files.paths) == 2


def test_a_save_that_fails_deletes_nothing(tmp_path):
    files = fo.Checkpoints(tmp_path, keep=1)
    files.save(1, "old")
    for bad in (object(), {"x": np.arange(3)}):
        with pytest.raises(TypeError):
            files.save(2, bad, 0.5)
    assert files.resume() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [files.last.name]


def test_old_files_go_when_the_new_one_is_there(tmp_path, monkeypatch):
    files = fo.Checkpoints(tmp_path, keep=1)
    files.save(1, "old")
    seen = []

    def unlink(path, missing_ok=False):
        seen.append((path.name, checkpoint.load(files.last)))

    monkeypatch.setattr(Path, "unlink", unlink)
    files.save(2, "new")
    assert seen == [("step-00000001.safetensors", "new")]


BAD = [
    (lambda at: fo.Checkpoints(at, keep=0), ValueError, "keep must be .* at least 1, got 0"),
    (lambda at: fo.Checkpoints(at, keep=2.0), TypeError, "keep must be a whole number"),
    (lambda at: fo.Checkpoints(at, keep=True), TypeError, "keep must be a whole number"),
    (lambda at: fo.Checkpoints(at, every=0), ValueError, "every must be .* at least 1, got 0"),
    (lambda at: fo.Checkpoints(at, every="1"), TypeError, "every must be .*, got '1'"),
    (lambda at: fo.Checkpoints(3), TypeError, "int"),
    (lambda at: fo.Checkpoints(at).save(-1, {}), ValueError, "step must be .* 0, got -1"),
    (lambda at: fo.Checkpoints(at).save(1.0, {}), TypeError, "step must be a whole number"),
    (lambda at: fo.Checkpoints(at).save(1, {}, "low"), TypeError, "loss must be a number"),
    (lambda at: fo.Checkpoints(at).save(1, {}, 1j), TypeError, "loss must be a number"),
    (lambda at: fo.Checkpoints(at).resume(classes=fo.SGD), TypeError, "classes must be a list"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_arguments(tmp_path, call, kind, message):
    fo.Checkpoints(tmp_path).save(0, "old")
    with pytest.raises(kind, match=message):
        call(tmp_path)
    assert fo.Checkpoints(tmp_path).resume() == "old"
    assert len(list(tmp_path.iterdir())) == 1
