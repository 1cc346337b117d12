"""The gallery's pictures of rules on quadratics and on Rosenbrock's function.

Each number that a caption tells is computed here another way: a linear recursion as powers of its
matrix, a method on a quadratic as its stability polynomial, a rule by its NumPy oracle.
"""

import inspect
import math
import re
from importlib import import_module

import numpy as np
import pytest
from helpers import CLASSES
from PIL import Image
from reference import ORACLES

import fastoptim as fo
from fastoptim.gallery import side_by_side
from fastoptim.gallery.catalogue import NAMES
from fastoptim.problems import bowl, rosenbrock, valley

matplotlib = pytest.importorskip("matplotlib")

PICTURES = [
    "friction", "ramp", "changed_rate", "rules_valley", "rules_rosenbrock", "rules_bowl",
    "lookahead", "flow", "speedup",
]
VALLEY = np.array([2.0, 100.0]), np.array([180.0, 90.0])  # second derivatives, start
BOWL = np.array([0.1, 2.0]), np.array([-7.0, 2.0])
ROSENBROCK = None, np.array([-1.2, 1.0])
STEPS = {"valley": 100, "rosenbrock": 500, "bowl": 50}
PROBLEMS = {"valley": valley, "rosenbrock": rosenbrock, "bowl": bowl}


def module(name):
    return import_module(f"fastoptim.gallery.pictures.{name}")


@pytest.fixture(scope="module")
def drawn():
    """Every picture, drawn once: its figure and its numbers."""
    return {name: module(name).draw() for name in PICTURES}


@pytest.fixture(scope="module")
def followed():
    """The rules' paths on each function, by the name of the rule."""
    return {
        name: {
            label.partition(",")[0]: trace
            for group in module(f"rules_{name}").paths().values()
            for label, trace in group.items()
        }
        for name in PROBLEMS
    }


def near(expected, rel=1e-9, absolute=0.0):
    return pytest.approx(expected, rel=rel, abs=absolute)


# ---------------------------------------------------------------- recursions on a quadratic


def recursion(matrix_of, problem, steps):
    """Return where (p, v), from (start, 0), is after each step of a linear recursion."""
    paths = []
    for curvature, start in zip(*problem, strict=True):
        at = [np.array([start, 0.0])]
        for k in range(steps):
            at.append(np.array(matrix_of(curvature, k), float) @ at[-1])
        paths.append(np.array(at)[:, 0])
    return np.array(paths)


def momentum(lr, alpha):
    """(p, v) → (p + αv − lr·c·p, αv − lr·c·p) for a second derivative c; lr and α of step k."""
    return lambda c, k: [[1 - lr(k) * c, alpha(k)], [-lr(k) * c, alpha(k)]]


def heavy_ball(lr, alpha):
    """v is the sum of gradients: (p, v) → (p − lr(αv + c·p), αv + c·p)."""
    return lambda c, k: [[1 - lr(k) * c, -lr(k) * alpha], [c, alpha]]


def height(paths, problem):
    return problem[0] @ (paths * paths) / 2


def constant(value):
    return lambda k: value


def test_friction(drawn):
    numbers = drawn["friction"][1]
    for name, lr in (("slow", 0.001), ("fast", 0.01)):
        for alpha in (0.1, 0.5, 0.9):
            paths = recursion(momentum(constant(lr), constant(alpha)), VALLEY, 100)
            assert numbers[f"{name}{10 * alpha:.0f}"] == near(height(paths, VALLEY)[-1])
    assert numbers["past"] == near(-paths[0].min())
    assert numbers["down"] == near(-paths[1].min())
    assert numbers["slow9"] < numbers["slow5"] < numbers["slow1"]
    assert numbers["fast9"] < numbers["fast5"] < numbers["fast1"]


def test_ramp(drawn):
    numbers = drawn["ramp"][1]
    alphas = {
        "low": constant(0.5), "high": constant(0.99), "ramp": lambda k: min(0.5 + 0.01 * k, 0.99),
    }
    heights = {
        name: height(recursion(momentum(constant(0.001), alpha), VALLEY, 100), VALLEY)
        for name, alpha in alphas.items()
    }
    for name in alphas:
        assert numbers[name] == near(heights[name][-1])
    step = heights["ramp"].argmin()
    assert numbers["step"] == step
    assert numbers["ramp_there"] == near(heights["ramp"][step])
    assert numbers["low_there"] == near(heights["low"][step])
    assert alphas["ramp"](48) < 0.99 == alphas["ramp"](49)


def test_changed_rate_down_a_line(drawn):
    """v is a geometric sum on each stretch of one rate."""
    numbers = drawn["changed_rate"][1]

    def left(n):  # of the velocity after n further steps
        return 0.9**n

    def added(n):
        return (1 - 0.9**n) / (1 - 0.9)

    full = 0.01 * added(60)
    slow = full * left(60) + 0.001 * added(60)
    assert numbers["inside_fall"] == near((0.9 * full + 0.001) / full)
    assert numbers["outside_fall"] == near(0.1 * added(61) / added(60))
    assert numbers["inside_rise"] == near((0.9 * slow + 0.01) / slow)
    assert numbers["outside_rise"] == near(10 * added(121) / added(120))
    # What is left of 0.01 − 0.001 at step k after the fall, summed over 60 steps.
    inside = sum(full * left(k) + 0.001 * added(k) for k in range(1, 61))
    outside = sum(0.001 * added(60 + k) for k in range(1, 61))
    assert numbers["further"] == near(inside - outside)


def test_changed_rate_on_the_bowl(drawn):
    numbers = drawn["changed_rate"][1]

    def lr(k):
        return 0.05 if k < 20 else 0.0005

    inside = recursion(momentum(lr, constant(0.9)), BOWL, 100)
    outside = recursion(heavy_ball(lr, 0.9), BOWL, 100)
    assert numbers["inside_way"] == near(inside[0, -1] - inside[0, 20])
    assert numbers["outside_way"] == near(outside[0, -1] - outside[0, 20])
    assert 0 <= numbers["apart"] < 1e-12


def test_lookahead(drawn):
    numbers = drawn["lookahead"][1]
    mu = 0.9

    def plain(lr):
        return momentum(constant(lr), constant(mu))

    def look(lr):
        return lambda c, k: [[1 - lr * c, mu - lr * c * mu], [-lr * c, mu - lr * c * mu]]

    def published(lr):
        return lambda c, k: [[1 - (1 + mu) * lr * c, mu * mu], [-lr * c, mu]]

    def listing(lr):
        return lambda c, k: [[1 - (1 + mu + mu * mu) * lr * c, mu**3], [-lr * c, mu]]

    assert numbers["plain_down"] == near(-recursion(plain(0.1), BOWL, 40)[1].min())
    assert numbers["look_down"] == near(-recursion(look(0.1), BOWL, 40)[1].min())
    assert 0 <= numbers["apart"] < 1e-12
    for name, matrix in (("published", published), ("listing", listing)):
        assert numbers[name] == near(height(recursion(matrix(0.5), BOWL, 40), BOWL)[-1])
    # "It diverges at rates that the published form bears": the largest eigenvalues say so.
    assert spectral_radius(published(0.5)) < 1 < spectral_radius(listing(0.5))
    assert spectral_radius(listing(0.1)) < 1


def spectral_radius(matrix_of):
    return max(abs(np.linalg.eigvals(np.array(matrix_of(c, 0)))).max() for c in BOWL[0])


# ---------------------------------------------------------------- the flow, and a steady slope

# exp(−z), cut off: what a step of a method multiplies by, z the step times the second derivative.
STABILITY = {
    "SGD": [1, -1],
    "Heun": [1, -1, 1 / 2],
    "RK23": [1, -1, 1 / 2, -1 / 6],
    "RK45": [1, -1, 1 / 2, -1 / 6, 1 / 24, -1 / 120, 1 / 600],
}


def distance(name, h, steps):
    """Return how far a method is from the flow after each step."""
    z = h * BOWL[0]
    factor = np.polynomial.polynomial.polyval(z, STABILITY[name])
    k = np.arange(steps + 1)[:, None]
    return np.linalg.norm(BOWL[1] * (factor**k - np.exp(-z * k)), axis=1)


@pytest.mark.parametrize("name", STABILITY)
def test_flow(drawn, name):
    numbers = drawn["flow"][1]
    assert numbers[name.lower()] == near(distance(name, 0.8, 8).max(), absolute=1e-12)
    coarse, fine = (distance(name, 2 / n, n)[-1] for n in (40, 80))
    # The finest is 1e-11 from the flow, of numbers whose rounding is 1e-16 a step.
    assert numbers[name] == near(math.log2(coarse / fine), rel=1e-3)
    order = {"SGD": 1, "Heun": 2, "RK23": 3, "RK45": 5}[name]
    assert numbers[name] == pytest.approx(order, rel=0.1)


def test_flow_says_what_a_step_costs():
    for method, evaluations in module("flow").EVALUATIONS.items():
        calls = []

        def counted(params, calls=calls):
            calls.append(None)
            return bowl(params)

        method(lr=0.1).step(bowl.start(), counted)
        assert len(calls) == evaluations, method


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_speedup(drawn, alpha):
    numbers = drawn["speedup"][1]
    name = f"{100 * alpha:.0f}"
    assert numbers[f"speed{name}"] == near((1 - alpha**1000) / (1 - alpha))
    assert numbers[f"half{name}"] == math.ceil(math.log(0.5) / math.log(alpha))


# ---------------------------------------------------------------- every rule on three functions


def four(name):
    """Return the groups whose rates are written down, and of which the captions speak."""
    return list(module(f"rules_{name}").paths().values())[:4]


def gradients(name, p):
    if name == "rosenbrock":
        x, y = p
        return np.array([2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)])
    return {"valley": VALLEY, "bowl": BOWL}[name][0] * p


def heights_by_oracle(name, rule, lr):
    """Return the heights of a rule's NumPy listing; x and y are two keys, as in the pictures."""
    options = {"lr": lr}
    if rule in ("Lion", "AdamW", "LAMB"):
        options["weight_decay"] = 0.0
    oracle = ORACLES[rule](**options)
    start = {"valley": VALLEY, "bowl": BOWL, "rosenbrock": ROSENBROCK}[name][1]
    params = {"x": start[:1].copy(), "y": start[1:].copy()}  # two tensors, as the picture has them
    loss = PROBLEMS[name].loss
    heights = [loss(*start)]
    with np.errstate(all="ignore"):  # of the rates that are too large
        for _ in range(STEPS[name]):
            point = np.concatenate(list(params.values()))
            g = gradients(name, point)
            oracle.update(params, {"x": g[:1], "y": g[1:]})
            heights.append(loss(params["x"][0], params["y"][0]))
    return np.array(heights)


RULES = sorted(cls.__name__ for cls in CLASSES)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_rule_is_there_once(followed, name):
    labels = [
        label for group in module(f"rules_{name}").paths().values() for label in group
    ]
    assert sorted(label.partition(",")[0] for label in labels) == RULES
    assert {trace.steps for trace in followed[name].values()} == {STEPS[name]}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("rule", RULES)
def test_heights_are_those_of_the_listing(drawn, name, rule):
    (label,) = (
        text for text in titles(drawn[f"rules_{name}"][0]) if text.startswith(f"{rule}, lr = ")
    )
    lr = float(label.partition("=")[2].partition("\n")[0])
    worst = heights_by_oracle(name, rule, lr)[-10:].max()
    assert drawn[f"rules_{name}"][1][rule] == near(worst, rel=1e-6, absolute=1e-300)
    shown = float(label.rpartition("≤ ")[2].replace(",", ""))
    assert shown == pytest.approx(worst, rel=0.06)


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def grid_around(lr):
    """Return the two rates below and the two above, of 1, 2 and 5 times powers of ten."""
    grid = [float(f"{m}e{k}") for k in range(-7, 6) for m in (1, 2, 5)]
    place = grid.index(lr)
    return [grid[place + k] for k in (-2, -1, 1, 2)]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("rule", RULES)
def test_rates_are_those_of_the_search(followed, name, rule):
    """No rate nearby does better without going higher than the start."""
    trace = followed[name][rule]
    assert trace.losses.max() <= trace.losses[0]
    lr = float(trace.name.partition("lr=")[2].partition(",")[0].rstrip(")"))
    options = {"weight_decay": 0.0} if rule in ("Lion", "AdamW", "LAMB") else {}
    for other in grid_around(lr):
        opt = getattr(fo, rule)(other, **options)
        with np.errstate(all="ignore"):
            losses = fo.trace(opt, PROBLEMS[name].start(), PROBLEMS[name], STEPS[name]).losses
        if losses.max() <= losses[0]:
            assert losses[-10:].max() >= side_by_side.highest(trace), other


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_rule_that_is_new_is_drawn_with_a_rate_that_suits_it(name, monkeypatch, tmp_path):
    """It needs no line in the gallery: it is in a group of its own."""
    class New(fo.SGD):
        pass

    monkeypatch.setattr(fo, "New", New, raising=False)
    monkeypatch.setattr(fo, "__all__", [*fo.__all__, "New"])
    known = set(RULES) - {label.partition(",")[0] for group in four(name) for label in group}
    (sgd,) = (label for label in four(name)[0] if label.startswith("SGD, "))
    others = module(f"rules_{name}").paths()["others"]
    assert set(others) >= {sgd.replace("SGD", "New")}
    assert len(others) == len(known) + 1
    figure, numbers = module(f"rules_{name}").draw()
    assert numbers["New"] == numbers["SGD"]
    panels = [title.partition(",")[0] for title in titles(figure)]
    assert sorted(panels) == sorted([*RULES, "New"])
    animation = module(f"rules_{name}").animate()
    assert [ax.get_title() for ax in animation._fig.axes if ax.get_title()][4:] == ["others"]
    animation.save(tmp_path / "moving.gif", writer="pillow", dpi=20)


def test_valley_says(drawn, followed):
    numbers = drawn["rules_valley"][1]
    assert numbers["SGD_x"] == near(180 * (1 - 2 * 0.01) ** 100)
    radam = followed["valley"]["RAdam"].positions["x"]
    assert numbers["RAdam_steps"] == 95
    assert numbers["RAdam_way"] == near(radam[5] - radam[100])
    assert np.abs(np.diff(radam))[:5].min() > 0.1  # of plain momentum
    assert np.abs(np.diff(radam))[5:].max() < 1.1 * 0.002
    # ε is all that tells one scale from another: 1e-7 of a gradient, of a way of 180 and 100 steps.
    assert 0 < numbers["AdaGrad_apart"] < 1e-5
    assert 0 < numbers["Adam_apart"] < 1e-5
    paths = followed["valley"]
    for one, other in (("Momentum", "HeavyBall"), ("Adam", "AdamW")):
        for key in "xy":
            ours, theirs = paths[one].positions[key], paths[other].positions[key]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    lion = np.diff(paths["Lion"].positions["x"])
    assert set(np.abs(lion)) <= {0.0, 5.0}


def test_rosenbrock_says(drawn, followed):
    numbers = drawn["rules_rosenbrock"][1]
    assert numbers["start"] == near(24.2)
    assert followed["rosenbrock"]["SGD"].name == "SGD(lr=0.001)"
    assert followed["rosenbrock"]["Momentum"].name.startswith("Momentum(lr=0.001,")
    assert numbers["Momentum"] < numbers["SGD"]
    assert numbers["Adam"] < numbers["RMSprop"] < min(numbers["AdaMax"], numbers["AdaGrad"])
    others = {"RAdam"} ^ {label.partition(",")[0] for g in four("rosenbrock") for label in g}
    assert max(numbers[rule] for rule in others) < numbers["RAdam"]


def test_bowl_says(drawn, followed):
    numbers = drawn["rules_bowl"][1]
    assert (numbers["SGD_x"], numbers["SGD_y"]) == (near(0.5 * 0.7), near(0.5 * 4.0))
    first = {
        rule: (x[1] - x[0], y[0] - y[1])
        for rule, trace in followed["bowl"].items()
        for x, y in [trace.positions.values()]
    }
    lengths = {
        "AdaGrad": 2.0, "RMSprop": 2.0, "Rprop": 2.0, "Lion": 0.5, "Adam": 0.5, "AdamW": 0.5,
        "AdaMax": 2.0,
    }
    for rule, length in lengths.items():
        assert first[rule] == (near(length, rel=1e-5), near(length, rel=1e-5)), rule
    assert first["NAdam"][0] == near(first["NAdam"][1], rel=1e-5)
    for rule in ("AdaGrad", "Adam"):
        assert (numbers[f"{rule}_x"], numbers[f"{rule}_y"]) == first[rule]
    # p ← (√(h + g²) − √h)p − ηg, all divided by √(h + g²): what is left of p is √0.1 / √0.59.
    g = -0.7
    root = math.sqrt(0.1 + g * g)
    assert numbers["FTRL_x"] == near((-7 * (root - math.sqrt(0.1)) - 2 * g) / root + 7)


# ---------------------------------------------------------------- captions, animation


@pytest.mark.parametrize("name", PICTURES)
def test_captions(drawn, name):
    """Every number of the caption has been measured, and none is without a value."""
    assert name in NAMES
    title, _, caption = inspect.cleandoc(module(name).__doc__).partition("\n")
    text = caption.format(**drawn[name][1])
    assert "{" in caption
    assert re.search(r"\bnan\b|\binf\b|(?<!e)-\d", text) is None  # a minus is written as −
    assert title.endswith(".")
    assert "{" not in title


def test_order_of_the_pictures():
    assert [name for name in NAMES if name in PICTURES] == PICTURES


def test_points_move(tmp_path):
    """Frames show steps in order; the last is the end of every path."""
    rates = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    groups = {
        title: {
            f"{title}{lr}": fo.trace(fo.SGD(scale * lr), bowl.start(), bowl, steps=6)
            for lr in rates.values()
        }
        for title, scale in zip("ABCD", (1.0, 0.9, 0.8, 0.7), strict=True)
    }
    animation = side_by_side.moving(bowl, groups, ((-8, 4.5), (-2.2, 2.4)), legend="upper right")
    frames = list(animation.new_frame_seq())
    assert len(frames) == 7 + side_by_side.STILL
    animation.save(tmp_path / "moving.gif", writer="pillow", dpi=40)
    with Image.open(tmp_path / "moving.gif") as picture:
        assert picture.n_frames == 7  # those at the end in which nothing moves are one
        pixels = np.asarray(picture.convert("L"))
    assert (pixels < 255).mean() > 0.2  # the contours' fill
    figure = animation._fig
    assert figure.get_suptitle() == "step 6"
    for ax, group in zip(figure.axes, groups.values(), strict=False):
        lines = {line.get_label(): line for line in ax.get_lines()}
        for label, trace in group.items():
            assert lines[label].get_visible()
            x, y = lines[label].get_data()
            first = max(0, 6 - side_by_side.TAIL)
            np.testing.assert_array_equal(x, trace.positions["x"][first:])
            np.testing.assert_array_equal(y, trace.positions["y"][first:])


@pytest.mark.parametrize("name", PROBLEMS)
def test_animations_show_every_path_in_their_window(name):
    (x0, x1), (y0, y1) = module(f"rules_{name}").WINDOW
    for trace in (trace for group in four(name) for trace in group.values()):
        x, y = trace.positions.values()
        assert x0 <= x.min()
        assert x.max() <= x1
        assert y0 <= y.min()
        assert y.max() <= y1
