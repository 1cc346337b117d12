"""What bench/quality.py trains on, and what it prints."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import quality

TEXT = "".join(chr(97 + k * k % 11) for k in range(400))


def test_a_context_is_the_characters_before_the_one_that_is_asked_for():
    task = quality.characters(TEXT)
    known = sorted(set(TEXT))
    x, t = np.concatenate([task.x, task.x_held_out]), np.concatenate([task.t, task.t_held_out])
    assert len(x) == len(t) == len(TEXT) - quality.CONTEXT
    for k, (context, following) in enumerate(zip(x, t, strict=True)):
        assert "".join(known[c] for c in context) == TEXT[k : k + quality.CONTEXT]
        assert known[following] == TEXT[k + quality.CONTEXT]
    hot = task.inputs(x).reshape(len(x), quality.CONTEXT, len(known))
    assert hot.dtype == np.float32
    assert np.array_equal(hot.sum(axis=2), np.ones(x.shape))
    assert np.array_equal(hot.argmax(axis=2), x)


def test_what_is_held_out_is_the_end_of_the_text():
    task = quality.characters(TEXT)
    assert len(task.x) == (len(TEXT) - quality.CONTEXT) * 9 // 10
    assert task.layers[-1] == len(set(TEXT))


def test_the_loss_is_the_mean_over_the_whole_set():
    task = quality.characters(TEXT * 20)
    params = {"W1": np.zeros((task.layers[0], task.layers[-1]), np.float32),
              "b1": np.log(1 + np.arange(task.layers[-1], dtype=np.float32))}
    e = 1.0 + np.arange(task.layers[-1])
    expected = -np.log(e / e.sum())[task.t].mean()
    assert len(task.x) > 5000
    assert quality.Task.loss(task, params, task.x, task.t) == pytest.approx(expected, rel=1e-5)


def test_the_help_texts_are_long_enough_in_every_version():
    assert len(quality.help_text()) == quality.CHARACTERS


def test_the_table():
    found = {
        ("digits", "Adam", "float32"): [(0.25, 1.0), (0.75, 3.0)],
        ("digits", "Adam", "int8"): [(0.5, 4.0), (0.5, 4.0)],
    }
    assert list(quality.table(found))[2:] == [
        "| digits | Adam | float32 | 0.5000 ± 0.3536 | 2.0000 ± 1.4142 |",
        "| digits | Adam | int8 | 0.5000 ± 0.0000 (+0.0) | 4.0000 ± 0.0000 (+1.4) |",
    ]
    del found["digits", "Adam", "float32"]
    assert list(quality.table(found))[2:] == [
        "| digits | Adam | int8 | 0.5000 ± 0.0000 | 4.0000 ± 0.0000 |"
    ]


def test_a_seed_is_a_run():
    class Bar:
        steps = 0

        def update(self):
            self.steps += 1

    task, bar = quality.characters(TEXT), Bar()
    task.steps = 5
    first, again, other = (quality.train(task, "Adam", "float32", seed, bar) for seed in (1, 1, 2))
    assert first == pytest.approx(again, rel=1e-5)      # its products may be rounded otherwise
    assert first != pytest.approx(other, rel=1e-3)
    assert bar.steps == 15
