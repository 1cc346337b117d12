"""fastoptim.plot: what is drawn is asserted of the artists."""

import io
from itertools import pairwise

import numpy as np
import pytest
from helpers import output_of, run_code
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim.plot import style

VALLEY, TWO_MINIMA = fo.problems.valley, fo.problems.two_minima


def path(opt, problem=VALLEY, steps=20, start=()):
    return fo.trace(opt, problem.start(*start), problem, steps=steps)


def new_axes():
    return Figure().subplots()


def drawn(ax):
    """The lines that have a label of their own, by it."""
    return {
        line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")
    }


def rgb(line):
    return to_rgb(line.get_color())


def paths(fn, traces, ax, grid=9, **more):
    """Contours take the most time, and most tests have no interest in them."""
    return fo.plot.paths(fn, traces, ax, grid=grid, **more)


# ---------------------------------------------------------------- paths


def test_the_path_is_drawn_as_it_is():
    traces = {"SGD": path(fo.SGD(lr=0.01)), "Momentum": path(fo.Momentum(lr=0.005), steps=60)}
    ax = new_axes()
    assert paths(VALLEY, traces, ax) is ax
    for label, trace in traces.items():
        expected = np.stack([trace.positions["x"], trace.positions["y"]], axis=1)
        line = drawn(ax)[label]
        assert np.array_equal(line.get_xydata(), expected)
        assert line.get_markevery() == 5  # the same steps of both, twelve of the longer one
        same = [x for x in ax.get_lines() if rgb(x) == rgb(line)]
        dots = [x for x in same if x.get_markersize() == 2.2]
        assert np.array_equal(dots[0].get_xydata(), expected)  # every step
        ends = [x for x in same if x.get_markersize() == 10]
        assert np.array_equal(ends[0].get_xydata(), expected[-1:])
        assert ends[0].get_marker() == line.get_marker()
    assert np.array_equal(drawn(ax)["start"].get_xydata(), [[180, 90]])
    assert np.array_equal(drawn(ax)["minimum"].get_xydata(), [[0, 0]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(drawn(ax))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_array_of_two_elements(dtype):
    seen = set()

    def fn(params):
        w = params["w"]
        seen.add((w.dtype, w.shape))
        return float(w[0] ** 2 + 50 * w[1] ** 2), {"w": w * np.array([2, 100], dtype)}

    trace = fo.trace(fo.SGD(lr=0.01), {"w": np.array([180, 90], dtype)}, fn, steps=5)
    ax = paths(fn, trace, new_axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("w[0]", "w[1]")
    assert np.array_equal(drawn(ax)[trace.name].get_xydata(), trace.positions["w"])
    assert seen == {(np.dtype(dtype), (2,))}


def test_fn_gets_parameters_of_the_form_of_the_traces():
    seen = set()

    def of_list(params):
        seen.add((type(params), *map(type, params)))
        return float(params[0] ** 2 + params[1][0] ** 2), [2 * p for p in params]

    start = [np.array(1.0), np.array([2.0])]
    ax = paths(of_list, fo.trace(fo.SGD(), start, of_list, 3), new_axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("params[0]", "params[1]")
    assert seen == {(list, np.ndarray, np.ndarray)}

    def of_floats(params):
        seen.add((type(params), type(params["a"])))
        return params["a"] ** 2 + params["b"] ** 2, {"a": 2 * params["a"], "b": 2 * params["b"]}

    seen.clear()
    trace = fo.trace(fo.SGD(), {"a": 1.0, "b": 2.0}, of_floats, 3)
    paths(of_floats, trace, new_axes())
    assert seen == {(dict, float)}


def test_the_function_is_evaluated_on_the_whole_grid():
    seen = []

    def watched(params):
        seen.append((float(params["x"]), float(params["y"])))
        return VALLEY(params)

    paths(watched, path(fo.SGD()), new_axes(), window=((-1, 3), (0, 2)), grid=5)
    grid = {(x, y) for x in np.linspace(-1, 3, 5) for y in np.linspace(0, 2, 5)}
    assert set(seen) == grid
    assert len(seen) == len(grid)


def test_contours_enclose_growing_shares_of_the_window():
    ax = fo.plot.paths(VALLEY, path(fo.SGD()), new_axes(), window=((-9, 9), (-1, 1)))
    filled, lines = ax.collections
    assert len(lines.levels) == 14
    x, y = np.meshgrid(np.linspace(-9, 9, 400), np.linspace(-1, 1, 400))
    shares = [np.mean(x**2 + 50 * y**2 < level) for level in lines.levels]
    assert shares == pytest.approx((np.arange(1, 15) / 15) ** 2, abs=0.01)
    tones = [tone[0] for tone in filled.get_facecolor()]
    assert tones == sorted(tones)  # the lowest is the darkest
    assert all(len(set(tone[:3])) == 1 for tone in filled.get_facecolor())


def test_a_list_has_the_names_of_the_traces():
    traces = [path(fo.SGD(lr=0.01)), path(fo.SGD(lr=0.01), start=(100, 50))]
    ax = paths(VALLEY, traces, new_axes())
    of_rules = [line for line in ax.get_lines() if line.get_label() == "SGD(lr=0.01)"]
    assert len(of_rules) == 2
    assert np.array_equal(drawn(ax)["start"].get_xydata(), [[100, 50], [180, 90]])


def test_the_default_window_holds_every_path_that_stays():
    ax = paths(VALLEY, [path(fo.Adam(lr=9), steps=100), path(fo.SGD(lr=0.015))], new_axes())
    for line in drawn(ax).values():
        x, y = line.get_xydata().T
        assert (ax.get_xlim()[0] < x.min()) & (x.max() < ax.get_xlim()[1])
        assert (ax.get_ylim()[0] < y.min()) & (y.max() < ax.get_ylim()[1])
        assert "leaves" not in line.get_label()


def test_a_path_that_leaves_for_infinity_has_an_arrow_and_does_not_squeeze_the_others():
    # y is 90, −180, 360, …: the loss is 4 and then 16 times that at the start
    traces = {"stays": path(fo.SGD(lr=0.01)), "goes": path(fo.SGD(lr=0.03), steps=1100)}
    assert np.isnan(traces["goes"].positions["y"][-1])
    ax = paths(VALLEY, traces, new_axes())
    low, high = ax.get_ylim()
    assert (low, high) == pytest.approx((-180 - 0.08 * 270, 90 + 0.08 * 270))
    line = drawn(ax)["goes (leaves after step 1)"]
    assert list(line.get_ydata()) == [90, -180]
    (arrow,) = ax.texts
    assert arrow.xyann == tuple(line.get_xydata()[-1])
    assert arrow.xy[1] == pytest.approx(high)  # where it crosses the border
    assert 160 < arrow.xy[0] < 180
    assert arrow.arrowprops["color"] == line.get_color()
    assert not [x for x in ax.get_lines() if x.get_markersize() == 10 and rgb(x) == rgb(line)]
    ax.figure.savefig(io.BytesIO())


def test_a_window_of_ones_own_and_a_path_that_comes_back():
    # out of the window and in again: the whole path is drawn
    trace = path(fo.Momentum(lr=0.01, alpha=0.5), steps=100)
    ax = paths(VALLEY, {"M": trace}, new_axes(), window=((-10, 160), (-9, 9)))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-10, 160), (-9, 9))
    assert len(drawn(ax)["M"].get_xydata()) == 101
    assert not ax.texts
    ax = paths(VALLEY, {"M": trace}, new_axes(), window=((900, 901), (900, 901)))
    assert "M (outside)" in drawn(ax)
    assert not ax.texts


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_positions_that_are_not_finite_are_left_out(bad):
    at = iter([1.0, bad, 0.5, 0.25])

    class Given:
        def step(self, params, fn):
            fn(params)
            params["x"][...] = next(at)

    trace = fo.trace(Given(), VALLEY.start(2, 2), VALLEY, steps=4)
    ax = paths(VALLEY, {"given": trace}, new_axes())
    x = drawn(ax)["given"].get_xdata()
    assert list(x[[0, 1, 3, 4]]) == [2, 1, 0.5, 0.25]
    assert 1e4 < abs(x[2]) < 1e5 if np.isfinite(bad) else np.isnan(x[2])  # what can be rendered
    assert ax.get_xlim() == pytest.approx((-0.16, 2.16))
    ax.figure.savefig(io.BytesIO())


def test_losses_that_are_not_finite_are_holes():
    def fn(params):
        x, y = params["x"], params["y"]
        return float(np.sqrt(x) + y * y), {"x": 0.5 / np.sqrt(x), "y": 2 * y}

    trace = fo.trace(fo.SGD(lr=0.1), {"x": np.array(1.0), "y": np.array(1.0)}, fn, steps=3)
    ax = paths(fn, trace, new_axes(), window=((-1, 1), (-1, 1)))
    assert np.isfinite(ax.collections[1].levels).all()
    nowhere = paths(fn, trace, new_axes(), window=((-2, -1), (-1, 1)))
    assert not nowhere.collections
    ax.figure.savefig(io.BytesIO())


def test_a_path_that_stands_still():
    def flat(params):
        return 1.0, {"x": np.zeros(()), "y": np.zeros(())}

    ax = paths(flat, fo.trace(fo.SGD(), VALLEY.start(5, 0), flat, 2), new_axes())
    assert ax.get_xlim() == (0, 10)
    assert ax.get_ylim() == (-1, 1)
    ax.figure.savefig(io.BytesIO())


@pytest.mark.parametrize("steps", [20, 200, 1000, 3000])
def test_a_function_that_has_no_bottom(steps):
    """The path goes to 2^steps, and the loss to its negative square, or to −inf."""

    def fn(params):
        with np.errstate(all="ignore"):
            return float(-params["w"] ** 2), {"w": -2 * params["w"]}

    trace = fo.trace(fo.SGD(lr=0.5), {"w": np.array(1.0)}, fn, steps)
    ax = fo.plot.curve(fn, trace, new_axes())
    assert np.isfinite(ax.get_xlim()).all()
    assert ax.get_xlim()[0] < 1 < ax.get_xlim()[1]
    ax.figure.savefig(io.BytesIO())


def test_no_steps_at_all():
    paths(VALLEY, path(fo.SGD(), steps=0), new_axes()).figure.savefig(io.BytesIO())


# ---------------------------------------------------------------- curve


def test_curve_puts_the_path_on_the_function():
    trace = path(fo.Momentum(lr=0.02), TWO_MINIMA, steps=30)
    ax = fo.plot.curve(TWO_MINIMA, {"Momentum": trace}, new_axes())
    line = drawn(ax)["Momentum"]
    assert np.array_equal(line.get_xdata(), trace.positions["w"])
    assert np.array_equal(line.get_ydata(), trace.losses)
    assert line.get_markevery() == 3
    over = ax.get_lines()[0]
    heights = [TWO_MINIMA({"w": w})[0] for w in over.get_xdata()]
    assert np.array_equal(over.get_ydata(), heights)
    assert len(heights) == 400
    assert np.array_equal(drawn(ax)["start"].get_xydata(), [[3, trace.losses[0]]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("w", "loss")
    room = 0.06 * (max(heights) - min(heights))
    assert ax.get_ylim() == pytest.approx((min(heights) - room, max(heights) + room))


def test_curve_of_losses_that_are_not_finite():
    def fn(params):
        with np.errstate(all="ignore"):
            return 1 / params["w"], {"w": np.array(1.0)}

    trace = fo.trace(fo.SGD(lr=1.0), {"w": np.array(1.0)}, fn, 2)  # 1, 0, −1
    ax = fo.plot.curve(fn, {"SGD": trace}, new_axes(), window=(-2, 2))
    assert list(np.isfinite(drawn(ax)["SGD"].get_xdata())) == [True, False, True]
    ax.figure.savefig(io.BytesIO())


def test_curve_of_a_path_that_leaves():
    trace = path(fo.SGD(lr=1.0), TWO_MINIMA, steps=40)
    assert not np.isfinite(trace.losses[-1])
    ax = fo.plot.curve(TWO_MINIMA, {"SGD": trace}, new_axes(), window=(-6, 4), grid=11)
    assert ax.get_xlim() == (-6, 4)
    line = drawn(ax)["SGD (leaves after step 1)"]
    assert list(line.get_xdata()[:2]) == [3, -5]
    assert not np.isfinite(line.get_xdata()[2:]).any()
    assert len(ax.get_lines()[0].get_xdata()) == 11
    assert "SGD (outside)" in drawn(fo.plot.curve(
        TWO_MINIMA, {"SGD": trace}, new_axes(), window=(7, 8)
    ))


def test_curve_of_an_array_of_one_element():
    def fn(params):
        return float(params["w"][0] ** 2), {"w": 2 * params["w"]}

    trace = fo.trace(fo.SGD(lr=0.1), {"w": np.ones(1, np.float32)}, fn, 3)
    assert fo.plot.curve(fn, trace, new_axes()).get_xlabel() == "w"


# ---------------------------------------------------------------- losses


def test_losses_of_traces_and_of_numbers():
    trace = path(fo.SGD())
    ax = fo.plot.losses({"SGD": trace, "given": [4, 3, np.nan, np.inf, 2]}, new_axes())
    lines = drawn(ax)
    assert np.array_equal(lines["SGD"].get_xydata()[:, 1], trace.losses)
    assert list(lines["SGD"].get_xdata()) == list(range(21))
    assert list(lines["given"].get_xdata()) == [0, 1, 2, 3, 4]
    assert np.isnan(lines["given"].get_ydata()[2:4]).all()
    assert list(drawn(fo.plot.losses(trace, new_axes()))) == [trace.name]
    assert list(drawn(fo.plot.losses([trace], new_axes()))) == [trace.name]


def test_lines_that_coincide_are_both_seen():
    ax = fo.plot.losses({"a": [1.0] * 32, "b": [1.0] * 32}, new_axes())
    assert [line.get_markevery() for line in ax.get_lines()] == [(0, 4), (2, 4)]


def test_losses_after_epochs():
    ax = fo.plot.losses(
        {"a": (3, 2, 1)}, new_axes(), first=12, per=12, x="evaluations", y="mean", legend=False
    )
    assert list(drawn(ax)["a"].get_xdata()) == [12, 24, 36]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("evaluations", "mean", None)


@pytest.mark.parametrize(("numbers", "log", "scale"), [
    ([3, 2], None, "log"), ([3, 0], None, "log"), ([3, -1], None, "linear"),
    ([0, 0], None, "linear"), ([np.nan], None, "linear"), ([], None, "linear"),
    ([3, 2], False, "linear"), ([3, 2], True, "log"),
])
def test_the_scale_of_losses(numbers, log, scale):
    ax = fo.plot.losses({"a": numbers}, new_axes(), log=log)
    assert ax.get_yscale() == scale
    ax.figure.savefig(io.BytesIO())


def test_two_panels_share_their_style():
    first, second = Figure().subplots(1, 2)
    for ax in (first, second):
        fo.plot.losses({"a": [3, 2], "b": [2, 1]}, ax)
    for one, other in zip(first.get_lines(), second.get_lines(), strict=True):
        assert (rgb(one), one.get_marker()) == (rgb(other), other.get_marker())


# ---------------------------------------------------------------- told apart


def grey(colour):
    return np.dot([0.299, 0.587, 0.114], to_rgb(colour)) * 255


def test_colours_have_greys_of_their_own():
    greys = sorted(map(grey, style.COLOURS))
    assert np.diff(greys).min() > 25
    assert greys[-1] < 180  # dark enough on white


def test_28_lines_differ_in_marker_or_dashes_and_neighbours_in_all():
    looks = [style.style(k) for k in range(28)]
    assert len({(look["marker"], look["linestyle"]) for look in looks}) == 28
    for one, next_one in pairwise(looks):
        for what in ("color", "marker", "linestyle"):
            assert one[what] != next_one[what]


def test_a_long_legend_lies_beside_the_axes():
    traces = {f"lr {k}": path(fo.SGD(lr=k / 1000), steps=3) for k in range(1, 9)}
    ax = Figure(layout="constrained").subplots()
    paths(VALLEY, traces, ax)
    ax.figure.savefig(io.BytesIO())
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
    assert paths(VALLEY, traces, new_axes(), legend=False).get_legend() is None


# ---------------------------------------------------------------- manners

DRAW = """
    import io, sys, matplotlib
    import fastoptim as fo
    valley, one = fo.problems.valley, fo.problems.two_minima
    paths, path = fo.trace(fo.SGD(), valley.start(), valley), fo.trace(fo.SGD(), one.start(), one)

    def draw(ax=None):
        drawn = [
            fo.plot.paths(valley, paths, ax, grid=9), fo.plot.curve(one, path, ax),
            fo.plot.losses({"a": [2, 1]}, ax),
        ]
        for each in drawn:
            each.figure.savefig(io.BytesIO())
        return drawn
"""


def test_where_pyplot_is_in_use_a_new_figure_is_one_of_its_own():
    """Nothing is shown, settings stay, and axes that are given keep their figure."""
    output = output_of(DRAW + """
    from matplotlib import pyplot
    pyplot.show = lambda *_, **__: print("shown")
    pyplot.close(pyplot.figure())  # decides on a backend
    before = matplotlib.rcParams.copy()
    own = matplotlib.figure.Figure().subplots()
    print(all(ax is own for ax in draw(own)), pyplot.get_fignums())
    new = draw()
    print([ax.figure.number for ax in new] == pyplot.get_fignums(), len(pyplot.get_fignums()))
    print(matplotlib.rcParams == before)
    """, MPLBACKEND="agg")
    assert output.splitlines() == ["True []", "True 3", "True"]


def test_elsewhere_pyplot_is_not_imported():
    output = output_of(DRAW + """
    before = matplotlib.rcParams.copy()
    print(len({ax.figure for ax in draw()}), dict.__eq__(matplotlib.rcParams, before),
          "matplotlib.pyplot" in sys.modules)  # == of RcParams imports it
    """)
    assert output == "3 True False"


def test_a_notebook_gets_a_figure_of_pyplot():
    output = output_of(DRAW + """
    sys.modules["ipykernel"] = sys
    draw()
    print(sys.modules["matplotlib.pyplot"].get_fignums())
    """, MPLBACKEND="agg")
    assert output == "[1, 2, 3]"


def test_nothing_of_matplotlib_is_imported_with_the_package():
    assert output_of("""
        import sys, fastoptim.plot
        print([name for name in sys.modules if name.startswith("matplotlib")])
    """) == "[]"


def test_without_matplotlib():
    done = run_code("""
        import sys
        sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
        import fastoptim as fo
        one = fo.problems.two_minima
        trace = fo.trace(fo.SGD(), one.start(), one)
        for draw in (lambda: fo.plot.losses(trace), lambda: fo.plot.curve(one, trace)):
            try:
                draw()
            except ImportError as problem:
                print(problem)
        fo.plot.paths(fo.problems.bowl,
                      fo.trace(fo.SGD(), fo.problems.bowl.start(), fo.problems.bowl))
    """)
    said = "draws with matplotlib, which is not installed: pip install 'fastoptim[plot]'"
    assert done.stdout.count(said) == 2
    assert done.stderr.strip().endswith(said)


# ---------------------------------------------------------------- bad input


def three(params):
    return 0.0, {"w": params["w"]}


THREE = fo.trace(fo.SGD(), {"w": np.zeros(3)}, three, 1)
TWO, ONE = path(fo.SGD()), path(fo.SGD(), TWO_MINIMA)
NAMED = fo.trace(fo.SGD(), {"w": np.zeros(2)}, three, 1)
WITHOUT = fo.trace(fo.SGD(), {"w": np.zeros(2)}, lambda p: {"w": p["w"]}, 1)
LOST = fo.trace(fo.SGD(), {"w": np.full(2, np.nan)}, three, 1)
WINDOW = "window must be (lowest, highest) of x and (lowest, highest) of y, got"

BAD = [
    (ValueError, "the trace of T has 3 parameters (w[0], w[1], w[2]), and only 2 can be drawn",
     lambda: fo.plot.paths(three, {"T": THREE})),
    (ValueError, "the trace of T has 1 parameter (w), and only 2 can be drawn; curve draws one",
     lambda: fo.plot.paths(VALLEY, {"T": ONE})),
    (ValueError, "has 2 parameters (x, y), and only 1 can be drawn; paths draws two",
     lambda: fo.plot.curve(VALLEY, TWO)),
    (ValueError, "the traces are of different parameters: A has x, y, B has w[0], w[1]",
     lambda: fo.plot.paths(VALLEY, {"A": TWO, "B": NAMED})),
    (ValueError, "there is no trace", lambda: fo.plot.paths(VALLEY, [])),
    (ValueError, "there is no trace", lambda: fo.plot.losses({})),
    (ValueError, "no trace has a finite position", lambda: fo.plot.paths(three, LOST)),
    (TypeError, "traces[1] must be a Trace", lambda: fo.plot.paths(VALLEY, [TWO, 3])),
    (TypeError, "traces['A'] must be a Trace, as fastoptim.trace returns it, got list",
     lambda: fo.plot.paths(VALLEY, {"A": [1, 2]})),
    (TypeError, "a mapping of labels to them, got int", lambda: fo.plot.curve(TWO_MINIMA, 3)),
    (ValueError, "fn returned only gradients", lambda: fo.plot.paths(lambda p: p, TWO)),
    (ValueError, WINDOW, lambda: fo.plot.paths(VALLEY, TWO, window=(0, 1))),
    (ValueError, WINDOW, lambda: fo.plot.paths(VALLEY, TWO, window=((0, 1), (2, 2)))),
    (ValueError, WINDOW, lambda: fo.plot.paths(VALLEY, TWO, window=((0, 1), (0, np.inf)))),
    (ValueError, WINDOW, lambda: fo.plot.paths(VALLEY, TWO, window="all")),
    (ValueError, "window must be (lowest, highest) of w, got (1, 0)",
     lambda: fo.plot.curve(TWO_MINIMA, ONE, window=(1, 0))),
    (ValueError, "grid must be a whole number of at least 2, got 1",
     lambda: fo.plot.paths(VALLEY, TWO, grid=1)),
    (TypeError, "grid must be a whole number of at least 2, got 9.5",
     lambda: fo.plot.curve(TWO_MINIMA, ONE, grid=9.5)),
    (ValueError, "the trace of A has no losses", lambda: fo.plot.losses({"A": WITHOUT})),
    (ValueError, "runs['A'] must be a Trace or a sequence of numbers, got 'low'",
     lambda: fo.plot.losses({"A": "low"})),
    (ValueError, "runs['A'] must be", lambda: fo.plot.losses({"A": [[1, 2]]})),
    (TypeError, "got set", lambda: fo.plot.losses({1, 2})),
    (TypeError, "first must be a number, got '1'", lambda: fo.plot.losses([TWO], first="1")),
    (TypeError, "per must be a number, got None", lambda: fo.plot.losses([TWO], per=None)),
    (ValueError, "per must be finite, got nan", lambda: fo.plot.losses([TWO], per=np.nan)),
    (TypeError, "log must be True, False or None, got 'x'",
     lambda: fo.plot.losses([TWO], log="x")),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD, ids=range(len(BAD)))
def test_bad_input_makes_no_figure(error, text, call, monkeypatch):
    monkeypatch.setattr(style, "axes", lambda *_: pytest.fail("a figure was made"))
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("ax", "got"),
    [
        (3, "int"), (Figure(), "Figure"),
        (Figure().subplots(1, 2), "ndarray; choose one of them, as in ax[0]"),
    ],
    ids=["int", "Figure", "several"],
)  # fmt: skip
def test_what_is_no_axes(ax, got):
    with pytest.raises(TypeError) as caught:
        fo.plot.losses({"A": [1.0, 2.0]}, ax)
    assert str(caught.value) == f"ax must be matplotlib axes, got {got}"
