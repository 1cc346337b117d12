"""The gallery's pictures from soft batches on: what their captions say, computed another way."""

import re
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CLASSES

import fastoptim as fo
from fastoptim.demo import data as demo
from fastoptim.demo import methods, mlp, train
from fastoptim.gallery.catalogue import NAMES, words

# The digits are drawn after few epochs: what is tested does not depend on how many.
PICTURES = {
    "soft_batch": {}, "two_minima": {}, "step_sizes": {}, "falling_rate": {},
    "bias_correction": {}, "reddi": {}, "digits": {"epochs": 2}, "digits_flow": {"epochs": 5},
}


def named(name):
    return import_module(f"fastoptim.gallery.pictures.{name}")


@pytest.fixture(scope="module")
def drawn():
    """Every picture, drawn once: its figure and its numbers."""
    results = {}
    for name, arguments in PICTURES.items():
        figure, numbers = named(name).draw(**arguments)
        figure.draw_without_rendering()
        results[name] = SimpleNamespace(figure=figure, axes=figure.axes, numbers=numbers)
    return results


def lines(ax):
    """The lines of a legend's entries, by label."""
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_the_order():
    assert tuple(name for name in NAMES if name in PICTURES) == tuple(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_captions(drawn, name):
    module, numbers = named(name), drawn[name].numbers
    title, text = words(module, numbers)
    assert title
    assert not re.search(r"[{}]|(?<!\w)-\d|nan|inf\b", text)
    asked = set(re.findall(r"{(\w+)", module.__doc__))
    assert asked == set(numbers)        # no number is missing, and none unsaid


def test_minus_signs_of_numbers_alone():
    module = SimpleNamespace(__doc__="T.\n\n{a:.1f} and -{b:.0e}, 64-512 mini-batches of x-1")
    assert words(module, {"a": -0.5, "b": 1e-9}) == (
        "T", "−0.5 and −1e-09, 64-512 mini-batches of x-1"
    )


# ---------------------------------------------------------------- soft batches


def wander(module, size, lr):
    """SGD in NumPy: the path, its distance in the long run, and that after the first samples."""
    w, path = np.array([-1.0, 1.0]), []
    for i in module.order.reshape(-1, size):
        x = module.inputs[i]
        w = w - lr * (x * (x @ w - module.targets[i])[:, None]).mean(axis=0)
        path.append(w)
    inverse = np.linalg.inv(module.inputs.T @ module.inputs)
    best = inverse @ module.inputs.T @ module.targets
    squares = ((np.array(path) - best) ** 2).sum(axis=1)
    after = squares[64 * module.SHOWN // size - 1]
    return np.array(path), np.sqrt(squares[len(path) // 8 :].mean()), np.sqrt(after)


def test_soft_batches(drawn):
    module, numbers = named("soft_batch"), drawn["soft_batch"].numbers
    path, of_64, near_64 = wander(module, 64, 0.1)
    _, of_16, near_16 = wander(module, 16, 0.1)
    assert numbers["apart"] < 1e-12
    assert numbers["noise"] == pytest.approx(of_16 / of_64, rel=1e-6)
    assert numbers["quarter"] == pytest.approx(wander(module, 16, 0.025)[1] / of_64, rel=1e-6)
    assert numbers["near_64"] == pytest.approx(near_64, rel=1e-6)
    assert numbers["near_16"] == pytest.approx(near_16, rel=1e-6)
    assert near_16 < near_64 / 2
    # Theory: the variance is proportional to the rate and to one over the batch's size.
    assert numbers["noise"] == pytest.approx(2, rel=0.1)
    assert numbers["quarter"] == pytest.approx(1, rel=0.1)
    shown = lines(drawn["soft_batch"].axes[0])
    start = np.array([[-1.0, 1.0]])
    for label in ("batches of 64", "soft batches of 4 × 16"):
        wanted = np.concatenate([start, path[: module.SHOWN]])
        np.testing.assert_allclose(shown[label], wanted, rtol=0, atol=1e-9)
    assert (numbers["updates"], numbers["seen"]) == (len(path), 64 * module.SHOWN)
    assert numbers["block"] * len(lines(drawn["soft_batch"].axes[1])["batches of 16"]) == 64 * len(
        path
    )


# ---------------------------------------------------------------- two minima


def slope(w):
    return w**3 - 2 * w**2 - w + 2


def roll(alpha, lookahead=False, steps=400):
    """Momentum with lr = 0.01 from w = 3, by its recursion."""
    w, v, path = 3.0, 0.0, [3.0]
    for _ in range(steps):
        v = alpha * v - 0.01 * slope(w + alpha * v if lookahead else w)
        w += v
        path.append(w)
    return np.array(path)


def adam(lr, steps, grad=slope, start=3.0, corrected=True):
    """Adam as the paper's algorithm 1 has it: both averages are corrected, then divided."""
    w, m, v, path = start, 0.0, 0.0, [start]
    for t in range(1, steps + 1):
        g = grad(w)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        b1, b2 = (1 - 0.9**t, 1 - 0.999**t) if corrected else (1, 1)
        w = w - lr * (m / b1) / np.sqrt(v / b2)
        path.append(w)
    return np.array(path)


def arrival(path):
    step = next(k for k, w in enumerate(path) if w <= 2)
    return path[step - 1] - path[step]


def test_two_minima(drawn):
    numbers = drawn["two_minima"].numbers
    assert numbers["hump"] == pytest.approx(5 / 12)             # f(1) − f(2) = 13/12 − 2/3
    assert numbers["first"] == pytest.approx(0.08, rel=1e-3)    # 0.01 · f′(3) = 0.01 · 8
    paths = {
        "8": roll(0.8), "9": roll(0.9), "look": roll(0.9, lookahead=True), "adam": adam(0.08, 400)
    }
    for short, path in paths.items():
        assert numbers[f"speed_{short}"] == pytest.approx(arrival(path), rel=1e-5)
        if short != "9":                        # it does not turn back
            assert numbers[f"turn_{short}"] == pytest.approx(path.min(), rel=1e-5)
    border = numbers["border"]
    assert roll(border - 1e-3)[-1] == pytest.approx(2, abs=1e-3)
    assert roll(border + 1e-3)[-1] == pytest.approx(-1, abs=1e-3)
    rates = [k / 10 for k in range(1, 11)]
    passes = next(lr for lr in rates if adam(lr, 400)[-1] < 1)
    assert numbers["adam_passes"] == passes
    assert numbers["speed_lion"] == pytest.approx(0.08)
    past = {ax.get_title().rpartition(": ")[0] for ax in drawn["two_minima"].axes
            if ax.get_title().endswith("past it")}
    assert past == {"Momentum, α = 0.9", "Lion"}


def test_the_first_steps_of_all_are_equally_long(drawn):
    for ax in drawn["two_minima"].axes:
        w = next(line.get_xdata() for line in ax.get_lines() if len(line.get_xdata()) == 401)
        assert w[0] - w[1] == pytest.approx(0.08, rel=1e-3)


def test_a_picture_that_is_drawn_again_is_the_same(drawn):
    """Optimizers go on from their state, so each drawing has its own."""
    assert named("two_minima").draw()[1] == drawn["two_minima"].numbers


# ---------------------------------------------------------------- rates


def test_step_sizes(drawn):
    numbers = drawn["step_sizes"].numbers
    assert numbers["small"] == pytest.approx(1 - 2 * 0.05)
    assert numbers["large"] == pytest.approx(1 - 2 * 0.95)
    assert numbers["too_large"] == pytest.approx(1 - 2 * 1.05)
    assert numbers["last"] == pytest.approx(1.1 ** numbers["steps"])


def test_the_step_size_that_is_right_is_there_at_once(drawn):
    ax = drawn["step_sizes"].axes[1]
    assert ax.get_title() == "lr = 0.5"
    path = next(line for line in ax.get_lines() if len(line.get_xdata()) == 9)
    assert list(path.get_xdata()) == [1.0] + [0.0] * 8


def test_falling_rate(drawn):
    numbers, (_, below) = drawn["falling_rate"].numbers, drawn["falling_rate"].axes
    t = np.arange(1, 1001)
    squares = np.where((t > 200) & (t <= 210), 100.0, 1.0)
    adagrad = np.cumsum(squares) ** -0.5
    rmsprop = np.array([(0.01 * squares[:k] @ 0.99 ** np.arange(k)[::-1]) ** -0.5 for k in t])
    shown = lines(below)
    np.testing.assert_allclose(shown["AdaGrad"], np.stack([t, adagrad], axis=1), rtol=1e-6)
    np.testing.assert_allclose(shown["RMSprop"], np.stack([t, rmsprop], axis=1), rtol=1e-5)
    assert numbers["adagrad"] == pytest.approx(1990**-0.5, rel=1e-6)
    assert numbers["quiet"] == pytest.approx(1000**-0.5)
    assert numbers["first"] == pytest.approx(10, rel=1e-5)
    # After the burst h − 1 is multiplied by 0.99 at each step, until it is 1/0.95² − 1.
    above_one = 1 / rmsprop[209] ** 2 - 1
    assert numbers["lowest"] == pytest.approx((1 + above_one) ** -0.5, rel=1e-6)
    assert numbers["recovery"] == np.ceil(np.log((1 / 0.95**2 - 1) / above_one) / np.log(0.99))
    assert (numbers["steps"], numbers["burst_begin"]) == (1000, 201)


def test_bias_correction(drawn):
    numbers, (left, right) = drawn["bias_correction"].numbers, drawn["bias_correction"].axes
    t = np.arange(1, 4001)
    longer = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
    shown = lines(left)
    np.testing.assert_allclose(shown["without"][:, 1], longer, rtol=1e-4)
    np.testing.assert_allclose(shown["with correction"][:, 1], 1, rtol=1e-4)
    assert numbers["first"] == pytest.approx(0.1 / 0.001**0.5, rel=1e-4)
    assert numbers["longest"] == pytest.approx(longer.max(), rel=1e-4)
    assert numbers["longest_at"] == 1 + longer.argmax()
    assert numbers["near"] == 1 + t[longer >= 1.05].max()
    shown = lines(right)
    for short, label, lr in (
        ("with", "with correction", 0.1), ("without", "without", 0.1), ("twice", None, 0.2)
    ):
        corrected = short != "without"
        x = adam(lr, numbers["steps"], lambda x: x / 10, -7.0, corrected)
        y = adam(lr, numbers["steps"], lambda y: 2 * y, 2.0, corrected)
        assert numbers[f"x_{short}"] == pytest.approx(x[-1], rel=1e-4)
        assert numbers[f"y_{short}"] == pytest.approx(y.min(), rel=1e-4)
        if label:
            np.testing.assert_allclose(shown[label], np.stack([x, y], axis=1), atol=1e-4)


def projected(beta2, amsgrad, steps=300):
    """Reddi's sequence, by the paper's recursions: x, and the mean regret."""
    x, v, largest, path, regret = 0.0, 0.0, 0.0, [0.0], 0.0
    for t in range(1, steps + 1):
        g = 3.0 if t % 3 == 1 else -1.0
        regret += g * (x + 1)
        v = beta2 * v + (1 - beta2) * g * g
        largest = max(largest, v)
        x -= 0.5 / np.sqrt(t) * g / np.sqrt(largest if amsgrad else v)
        x = min(max(x, -1.0), 1.0)
        path.append(x)
    return np.array(path), regret / steps


def test_reddi(drawn):
    numbers, (left, right) = drawn["reddi"].numbers, drawn["reddi"].axes
    for name, amsgrad in (("Adam", False), ("AMSGrad", True)):
        path, regret = projected(0.1, amsgrad)
        np.testing.assert_allclose(lines(left)[name][:, 1], path, atol=1e-5)
        assert lines(right)[name][-1, 1] == pytest.approx(regret, rel=1e-4)
        assert numbers[name.lower()] == pytest.approx(path[-1], abs=1e-5)
        assert numbers[f"{name.lower()}_regret"] == pytest.approx(regret, rel=1e-4)
    # In the long run v repeats every three steps: v₁ = (0.9·9 + 0.09 + 0.009) / (1 − 0.1³), ….
    v1 = (8.1 + 0.09 + 0.009) / 0.999
    v2 = 0.1 * v1 + 0.9
    v3 = 0.1 * v2 + 0.9
    for key, g, v in (("3", 3, v1), ("1a", 1, v2), ("1b", 1, v3)):
        assert numbers[f"adam_{key}"] == pytest.approx(g / v**0.5, rel=1e-5)
        assert numbers[f"amsgrad_{key}"] == pytest.approx(g / v1**0.5, rel=1e-5)
    assert numbers["adam_3"] < numbers["adam_1a"] + numbers["adam_1b"]          # it drifts to 1
    assert numbers["amsgrad_3"] > numbers["amsgrad_1a"] + numbers["amsgrad_1b"]
    assert numbers["usual"] == pytest.approx(projected(0.999, amsgrad=False)[0][-1], abs=1e-5)


# ---------------------------------------------------------------- digits


def sgd(epochs, seed):
    """SGD on the digits in NumPy alone: the losses after every epoch, from the start on."""
    digits, params = demo.digits(), demo.new_network()
    rng, curve = np.random.default_rng(seed), demo.Curve()
    curve.add(params, digits)
    for _ in range(epochs):
        for x, t in digits.batches(rng):
            for key, g in mlp.gradients(params, x, t).items():
                params[key] = params[key] - np.float32(train.SETTINGS["SGD"]["lr"]) * g
        curve.add(params, digits)
    return curve


def test_every_rule_has_its_panel(drawn):
    module = named("digits")
    titles = [ax.get_title() for ax in drawn["digits"].axes]
    rates = dict(title.split(", lr = ") for title in titles)
    assert list(rates)[:16] == module.RULES
    assert rates.keys() == {cls.__name__ for cls in CLASSES}
    for name, settings in train.SETTINGS.items():
        assert rates[name] == f"{settings['lr']:g}"


def test_a_rule_that_is_new_has_its_panel_too(monkeypatch):
    class New(fo.Momentum):
        pass

    monkeypatch.setattr(fo, "New", New, raising=False)
    monkeypatch.setattr(fo, "__all__", [*fo.__all__, "New"])
    figure, _ = named("digits").draw(epochs=1)
    assert [ax.get_title() for ax in figure.axes][len(CLASSES):] == ["New, lr = 0.01"]


def test_digits(drawn):
    numbers, panels = drawn["digits"].numbers, drawn["digits"].axes
    last = {}
    for ax in panels:
        shown, name = lines(ax), ax.get_title().partition(",")[0]
        last[name] = shown["training"][-1, 1], shown["validation"][-1, 1]
        assert len(ax.get_lines()) == len(panels) + 2     # all others behind it
    training = {name: both[0] for name, both in last.items()}
    validation = {name: both[1] for name, both in last.items()}
    assert numbers["lowest_loss"] == training[numbers["lowest"]] == min(training.values())
    assert numbers["highest_loss"] == training[numbers["highest"]] == max(training.values())
    assert numbers["best_loss"] == validation[numbers["best"]] == min(validation.values())
    assert numbers["worst_loss"] == validation[numbers["worst"]] == max(validation.values())
    assert numbers["spread"] == max(training.values()) / min(training.values())
    assert numbers["validation_spread"] == max(validation.values()) / min(validation.values())
    # Products that BLAS sums in another order differ by rounding, which seldom grows to 1 % (where
    # it turns a unit off); the orders of the mini-batches make differences of more than 10 %.
    for key, seed in (("sgd", demo.SEED), ("other_1", 1), ("other_2", 2)):
        assert numbers[key] == pytest.approx(sgd(2, seed).validation[-1], rel=0.05)


def test_digits_flow(drawn):
    numbers, (left, right) = drawn["digits_flow"].numbers, drawn["digits_flow"].axes
    epochs, per_epoch = 5, 12
    assert numbers["evaluations"] == epochs * per_epoch
    assert (numbers["sgd_steps"], numbers["rk45_steps"]) == (60, 10)     # 1 and 6 evaluations each
    for name in ("SGD", "RK45"):
        low = name.lower()
        h = methods.STEP_SIZES[name]
        assert numbers[f"{low}_h"] == h
        assert numbers[f"{low}_time"] == pytest.approx(h * numbers[f"{low}_steps"])
        for kind in ("training", "validation"):
            over_n, over_t = (lines(ax)[f"{name}, {kind}"] for ax in (left, right))
            assert list(over_n[:, 0]) == [per_epoch * k for k in range(epochs + 1)]
            assert over_t[-1, 0] == pytest.approx(numbers[f"{low}_time"])
            np.testing.assert_array_equal(over_n[:, 1], over_t[:, 1])
        assert numbers[low] == lines(left)[f"{name}, training"][-1, 1]
    curve = sgd(epochs, demo.SEED)
    np.testing.assert_allclose(lines(left)["SGD, training"][:, 1], curve.training, rtol=0.1)
    # At t = 3 SGD has made 6 of its steps, half of the first epoch's.
    assert numbers["sgd_evaluations"] == 6
    assert numbers["sgd_there"] == pytest.approx(
        (curve.training[0] + curve.training[1]) / 2, rel=0.05
    )
    assert numbers["peak"] == lines(left)["RK45, training"][1:, 1].max()


def test_the_longest_steps(drawn):
    """Euler's step multiplies w by 1 − h, Dormand and Prince's by the polynomial below."""
    numbers = drawn["digits_flow"].numbers
    h = np.arange(1, 500) / 100
    factor = 1 - h + h**2 / 2 - h**3 / 6 + h**4 / 24 - h**5 / 120 + h**6 / 600
    assert numbers["sgd_longest"] == 1.99
    assert numbers["rk45_longest"] == h[np.abs(factor) < 1].max()
