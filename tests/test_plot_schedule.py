"""plot.schedule draws what schedules give."""

import math
import re

import numpy as np
import pytest
from helpers import output_of

import fastoptim as fo
from fastoptim import schedules as s

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

RATE = s.cosine_decay(0.1, 30)


def lines(ax):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in ax.get_lines()}


def test_every_step_is_drawn_as_it_is():
    asked = []

    def rate(step):
        asked.append(step)
        return np.float32(step % 3)

    ax = fo.plot.schedule({"one": RATE, "two": rate, "three": 0.05}, steps=40)
    assert asked == list(range(41))
    drawn = lines(ax)
    assert list(drawn) == ["one", "two", "three"]
    assert drawn["one"].tolist() == [RATE(step) for step in range(41)]
    assert drawn["two"].tolist() == [float(step % 3) for step in range(41)]
    assert drawn["three"].tolist() == [0.05] * 41
    assert ax.get_lines()[0].get_xdata().tolist() == list(range(41))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("completed updates", "learning rate")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two", "three"]


def test_the_axes_given_are_drawn_on_and_returned():
    ax = Figure().subplots()
    made = fo.plot.schedule(RATE, 5, ax, x="epochs", y="momentum", log=True, legend=False)
    assert made is ax
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epochs", "momentum", "log")
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("schedules", "names"),
    [
        (RATE, ["cosine_decay"]),
        (0.1, ["0.1"]),
        (math.sqrt, ["sqrt"]),
        ([RATE, 2 * RATE, RATE, s.one_cycle(1, 9)], [
            "cosine_decay (1)", "combined", "cosine_decay (2)", "one_cycle"
        ]),
        ((RATE,), ["cosine_decay"]),
        ({3: RATE}, ["3"]),
    ],
)
def test_names_where_no_label_is_given(schedules, names):
    assert list(lines(fo.plot.schedule(schedules, 4))) == names


def test_lines_are_told_apart():
    looks = [
        (line.get_color(), line.get_linestyle(), line.get_marker(), line.get_markevery())
        for line in fo.plot.schedule([RATE] * 4, 40).get_lines()
    ]
    for every in zip(*looks, strict=True):
        assert len(set(every)) == 4


def test_numbers_that_are_not_finite_are_left_out():
    ax = fo.plot.schedule(lambda step: math.inf if step == 1 else 0.5, 2)
    assert np.array_equal(lines(ax)["<lambda>"], [0.5, math.nan, 0.5], equal_nan=True)


def test_a_plateau_is_what_it_is_now():
    rate = s.plateau(0.1, 0.5, patience=0)
    rate.observe(1.0)
    rate.observe(1.0)
    assert lines(fo.plot.schedule(rate, 3))["plateau"].tolist() == [0.05] * 4


@pytest.mark.parametrize(
    ("schedules", "steps", "error", "text"),
    [
        (RATE, 0, ValueError, "steps must be in [1, inf), got 0"),
        (RATE, 2.5, ValueError, "steps must be a whole number in [1, inf), got 2.5"),
        (RATE, None, TypeError, "steps must be a number in [1, inf)"),
        ([], 5, ValueError, "there is no schedule to draw"),
        ({}, 5, ValueError, "there is no schedule to draw"),
        ({"a": "x"}, 5, TypeError, "schedules['a'] must be a number, got 'x' (str)"),
        ([RATE, None], 5, TypeError, "schedules['None'] must be a number, got None"),
        ({"a": lambda step: "x"}, 5, TypeError, "schedules['a'] must be a number, got 'x' (str)"),
    ],
)
def test_bad_input_makes_no_figure(schedules, steps, error, text, monkeypatch):
    def no_axes(*args):
        raise AssertionError

    monkeypatch.setattr(fo.plot.style, "axes", no_axes)
    with pytest.raises(error, match=re.escape(text)):
        fo.plot.schedule(schedules, steps)


def test_without_matplotlib():
    output_of("""
        import sys
        sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
        import fastoptim as fo
        try:
            fo.plot.schedule(fo.schedules.constant(0.1), 3)
        except ImportError as problem:
            assert "pip install 'fastoptim[plot]'" in str(problem)
        else:
            raise AssertionError
    """)
