"""What is said of single rules: identities between them, edges, options that change midway."""

import threading

import numpy as np
import pytest
from helpers import all_pairs, assert_same_bits, copies
from reference import ORACLES

import fastoptim as fo
from fastoptim.rules import MomentumProducts, momentum_products


def trained(opt, steps=30, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = {"x": rng.standard_normal(40).astype(dtype)}
    for _ in range(steps):
        opt.update(params, {"x": rng.standard_normal(40).astype(dtype)})
    return params["x"]


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_is_adam(amsgrad):
    a = fo.AdamW(0.1, amsgrad=amsgrad)
    b = fo.Adam(
        0.1, eps=1e-8, eps_corrected=True, weight_decay=0.01, decoupled=True, amsgrad=amsgrad
    )
    assert trained(a).tobytes() == trained(b).tobytes()


def test_signum_is_lion_with_one_beta():
    a = fo.SignSGD(0.1, momentum=0.875)
    b = fo.Lion(0.1, beta1=0.875, beta2=0.875, weight_decay=0.0)
    assert trained(a).tobytes() == trained(b).tobytes()


def test_adans_first_gradient_of_a_key_has_not_changed():
    opt, params = fo.Adan(), {"a": np.zeros(2)}
    opt.update(params, {"a": np.array([3.0, -1.0])})
    params["b"] = np.zeros(2)
    opt.update(params, {"a": np.array([5.0, -1.0]), "b": np.array([7.0, np.inf])})
    np.testing.assert_allclose(opt.v["a"], [0.08 * 2.0, 0.0])
    assert opt.v["b"].tolist() == [0.0, 0.0]
    assert opt.g_prev["b"].tolist() == [7.0, np.inf]


def test_yogis_v_moves_by_the_same_share_of_the_square_wherever_it_is():
    opt, params = fo.Yogi(beta2=0.75, initial=2.0), {"x": np.zeros(3)}
    opt.update(params, {"x": np.array([1.0, 10.0, np.sqrt(2.0)])})
    np.testing.assert_allclose(opt.v["x"][:2], [2.0 - 0.25, 2.0 + 25.0])
    np.testing.assert_allclose(opt.v["x"][2], 2.0, atol=0.5)
    opt, params = fo.Yogi(initial=4.0), {"x": np.zeros(1)}
    opt.update(params, {"x": np.array([2.0])})
    assert opt.v["x"] == 4.0


@pytest.mark.parametrize(
    ("heavy", "other"),
    [
        (fo.HeavyBall(0.1, 0.9), fo.Momentum(0.1, 0.9)),
        (fo.HeavyBall(0.1, 0.9, nesterov=True), fo.Nesterov(0.1, 0.9)),
    ],
)
def test_heavy_ball_is_momentum_while_lr_is_constant(heavy, other):
    np.testing.assert_allclose(trained(heavy), trained(other), rtol=1e-10)
    np.testing.assert_allclose(-0.1 * heavy.v["x"], other.v["x"], rtol=1e-10)


def test_heavy_balls_first_step_is_not_dampened_for_any_key():
    opt, params = fo.HeavyBall(1.0, 0.5, dampening=1.0), {"a": np.zeros(1)}
    opt.update(params, {"a": np.ones(1)})
    params["b"] = np.zeros(1)
    opt.update(params, {"a": np.ones(1), "b": np.ones(1)})
    assert (opt.v["a"], opt.v["b"]) == (0.5, 1.0)


def test_momenta_are_multiplied_alike_whichever_t_is_asked_for_first():
    forwards, backwards = MomentumProducts(0.999, 0.01), MomentumProducts(0.999, 0.01)
    steps = range(1, 300)
    a = [forwards.product(t) for t in steps]
    b = [backwards.product(t) for t in reversed(steps)]
    assert a == b[::-1]
    assert MomentumProducts(0.0, 0.004).product(5) == 0.0
    assert len(MomentumProducts(0.9, 0.004).known) == 1
    few = MomentumProducts(0.9, 0.004)
    assert few.product(10**9) <= 1e-20
    assert len(few.known) < 100


def test_momentum_products_asked_for_by_several_threads():
    products = MomentumProducts(0.9999, 1.0)
    answers = [[] for _ in range(4)]

    def ask(into):
        into.extend(products.product(t) for t in range(1, 2000))

    threads = [threading.Thread(target=ask, args=(into,)) for into in answers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    alone = MomentumProducts(0.9999, 1.0)
    expected = [alone.product(t) for t in range(1, 2000)]
    assert answers == [expected] * 4


def test_nadam_with_keys_of_different_age_and_hyperparameters_that_change():
    momentum_products.cache_clear()
    rng = np.random.default_rng(0)
    start = {key: rng.standard_normal(6) for key in "ab"}
    params = copies(start)
    opt, oracles = fo.NAdam(), {key: ORACLES["NAdam"]() for key in "ab"}
    for step, present in enumerate(["a", "a", "ab", "b", "ab", "a", "ab", "ab"]):
        beta1, psi = (0.9, 0.004) if step < 4 else (0.8, 0.5)
        opt.beta1, opt.psi = beta1, psi
        grads = {key: rng.standard_normal(6) for key in present}
        opt.update({key: params[key] for key in present}, grads)
        for key in present:
            oracles[key].beta1, oracles[key].psi = beta1, psi
            oracles[key].update({key: start[key]}, grads)
    for key in "ab":
        assert params[key].tobytes() == start[key].tobytes()


def test_nadam_with_a_scheduled_momentum():
    opt, oracle = fo.NAdam(beta1=lambda step: 0.9 - 0.01 * step), ORACLES["NAdam"]()
    params, expected = {"x": np.ones(5)}, {"x": np.ones(5)}
    for step in range(10):
        oracle.beta1 = 0.9 - 0.01 * step
        oracle.update(expected, {"x": np.full(5, 0.5)})
        opt.update(params, {"x": np.full(5, 0.5)})
    assert_same_bits(opt, oracle, params, expected)


def test_radam_before_it_is_rectified_does_not_look_at_v():
    opt, params = fo.RAdam(lr=1.0), {"x": np.zeros(3, np.float32)}
    opt.update(params, {"x": np.full(3, 1e30, np.float32)})  # whose square overflows
    assert np.isinf(opt.v["x"]).all()
    np.testing.assert_allclose(params["x"], -1e30, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_centered_rmsprop_with_a_gradient_that_does_not_vary(momentum):
    opt = fo.RMSprop(decay_rate=0.9, centered=True, momentum=momentum)
    params, below = {"x": np.ones(99)}, False
    for _ in range(500):
        opt.update(params, {"x": np.linspace(0.1, 0.9, 99)})
        below |= (opt.h["x"] - opt.m["x"] * opt.m["x"] < 0).any()
    assert below  # else this would test nothing
    assert np.isfinite(params["x"]).all()


def test_rmsprop_momentum_may_be_a_schedule_from_0():
    opt = fo.RMSprop(momentum=lambda step: 0.5 if step > 2 else 0.0)
    assert opt.kernel == "rmsprop_momentum"
    params = {"x": np.ones(3)}
    for step in range(5):
        opt.update(params, {"x": np.ones(3)})
        assert bool(opt.v) == (step > 2)


def test_ftrl_leaves_exact_zeros():
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(20) < 5, 1.0, 0.0)
    x = rng.standard_normal((400, 20))
    t = x @ truth + 0.1 * rng.standard_normal(400)
    params, opt = {"w": np.zeros(20)}, fo.FTRL(lr=0.5, l1=3.0)
    for a, b in zip(x, t, strict=True):
        opt.update(params, {"w": (a @ params["w"] - b) * a})
    assert (params["w"][5:] == 0).sum() >= 10
    assert (np.abs(params["w"][:5]) > 0.5).all()


def test_ftrl_with_nothing_to_divide_by():
    params = {"w": np.ones(3)}
    fo.FTRL(initial=0.0).update(params, {"w": np.array([0.0, 1.0, 0.0])})
    assert params["w"].tolist() == [0.0, params["w"][1], 0.0]
    assert np.isfinite(params["w"]).all()


def test_amsgrad_can_be_turned_on():
    opt, params = fo.Adam(), {"x": np.ones(3)}
    for size in (1.0, 0.01, 0.01):
        opt.update(params, {"x": np.full(3, size)})
        opt.amsgrad = True
    assert (opt.v_max["x"] > opt.v["x"]).all()


def test_rprop_takes_its_first_step_sizes_from_lr():
    opt, params = fo.Rprop(lr=0.25), {"x": np.zeros(2)}
    opt.update(params, {"x": np.array([3.0, -0.1])})
    assert params["x"].tolist() == [-0.25, 0.25]
    opt.update(params, {"x": np.array([3.0, 0.1])})
    assert opt.delta["x"].tolist() == [0.3, 0.125]
    assert params["x"].tolist() == [-0.55, 0.25]


def test_lion_stands_still_where_nothing_pulls():
    opt, params = fo.Lion(0.5, weight_decay=0.0), {"x": np.array([1.0, 1.0, 1.0])}
    opt.update(params, {"x": np.array([0.0, -0.0, np.nan])})
    assert params["x"][:2].tolist() == [1.0, 1.0]
    assert np.isnan(params["x"][2])


# ---------------------------------------------------------------- ε inside the root


UNDER_A_ROOT = [
    ("AdaGrad", {}, "h"), ("RMSprop", {}, "h"), ("RMSprop", {"momentum": 0.5}, "h"),
    ("RMSprop", {"centered": True}, "h"), ("RMSprop", {"centered": True, "momentum": 0.5}, "h"),
    ("Adam", {}, "v"), ("Adam", {"amsgrad": True}, "v_max"),
]


@pytest.mark.parametrize(("name", "options", "slot"), UNDER_A_ROOT)
@pytest.mark.parametrize("eps", [0.0, 1e-7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_an_eps_under_the_root_no_bit_knows_of_it(name, options, slot, eps, dtype, isa):
    """The oracle adds nothing then; states and gradients are all special numbers with all."""
    info = np.finfo(dtype)
    numbers = [0.0, -0.0, 1.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 1e-20]
    h, g = all_pairs([*numbers, -1.0], numbers, dtype)
    ours, oracle = getattr(fo, name)(eps=eps, **options), ORACLES[name](eps=eps, **options)
    params, expected = {"x": np.ones(h.size, dtype)}, {"x": np.ones(h.size, dtype)}
    with np.errstate(all="ignore"):
        for grads in (np.ones_like(g), g, -g):
            ours.update(params, {"x": grads})
            oracle.update(expected, {"x": grads})
            assert_same_bits(ours, oracle, params, expected)
            getattr(ours, slot)["x"][...] = h
            getattr(oracle, slot)["x"][...] = h


def test_eps_root_goes_with_its_correction():
    """√(v̂ + ε_root) + ε, in the numbers that the kernel gets."""
    opt = fo.Adam(0.5, 0.5, 0.75, 0.25, eps_corrected=True, eps_root=0.125)
    assert opt.coefficients(2) == (
        0.5, 0.25, 0.5 * 0.4375**0.5 / 0.75, 0.25 * 0.4375**0.5, 0.125 * 0.4375
    )
    opt.eps_corrected = False
    assert opt.coefficients(2)[3:] == (0.25, 0.125)


# ---------------------------------------------------------------- bias correction


@pytest.mark.parametrize("cls", [fo.Adam, fo.AdamW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_without_bias_correction_the_learning_rate_stays(cls, amsgrad):
    opt = cls(0.1, 0.5, 0.75, 0.25, bias_correction=False, amsgrad=amsgrad, eps_root=0.5)
    assert opt.coefficients(1) == opt.coefficients(1000) == (0.5, 0.25, 0.1, 0.25, 0.5)
    before = opt.coefficients(3)
    opt.eps_corrected = not opt.eps_corrected       # there is no correction to come after
    assert opt.coefficients(3) == before
    opt.bias_correction = True
    assert opt.coefficients(3) == cls(
        0.1, 0.5, 0.75, 0.25, amsgrad=amsgrad, eps_root=0.5, eps_corrected=opt.eps_corrected
    ).coefficients(3)


def test_the_first_step_has_the_length_that_the_docstring_says():
    lengths = []
    for corrected in (True, False):
        params = {"x": np.zeros(3)}
        fo.Adam(lr=1.0, eps=0.0, bias_correction=corrected).update(
            params, {"x": np.array([-1e-3, 2.0, 1e6])}
        )
        lengths.append(np.abs(params["x"]))
    np.testing.assert_allclose(lengths[0], 1.0)
    np.testing.assert_allclose(lengths[1], 0.1 / 0.001**0.5)


# ---------------------------------------------------------------- momentum


def test_momentum_of_1_rolls_on():
    for opt in (fo.Momentum(0.5, 1.0), fo.Nesterov(0.5, 1.0), fo.HeavyBall(0.5, 1.0)):
        params, seen = {"x": np.zeros(1)}, []
        for g in (1.0, 0.0, 0.0):
            opt.update(params, {"x": np.array([g])})
            seen.append(float(params["x"][0]))
        first = -1.0 if type(opt) is fo.Nesterov else -0.5
        assert seen == [first, first - 0.5, first - 1.0]


def test_momentum_grows_to_what_the_docstring_says():
    opt, params = fo.Momentum(0.5, 0.9), {"x": np.zeros(1)}
    for _ in range(500):
        opt.update(params, {"x": np.ones(1)})
    np.testing.assert_allclose(opt.v["x"], -0.5 / (1 - 0.9))


# ---------------------------------------------------------------- Nesterov's forms


def of_a_parabola(opt, steps=20):
    """The points at which the gradient of x²/2 was taken."""
    params, points = {"x": np.array([1.0, -3.0])}, []

    def gradient(params):
        points.append(params["x"].copy())
        return {"x": params["x"].copy()}

    for _ in range(steps):
        opt.step(params, gradient)
    return np.array(points)


def test_which_nesterov():
    """What docs/rules.md says of the four forms."""
    published = of_a_parabola(fo.Nesterov(0.1, 0.9))
    listing = of_a_parabola(fo.Nesterov(0.1, 0.9, "listing"))
    ahead = of_a_parabola(fo.Momentum(0.1, 0.9, lookahead=True))
    torchs = of_a_parabola(fo.HeavyBall(0.1, 0.9, nesterov=True))
    np.testing.assert_allclose(ahead, published, rtol=0, atol=1e-14)
    np.testing.assert_allclose(torchs, published, rtol=0, atol=1e-14)
    assert np.abs(listing - published).max() > 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_published_nesterov_is_rounded_after_each_of_its_statements(dtype, isa):
    rng = np.random.default_rng(0)
    p, g, v = (rng.standard_normal(10_000).astype(dtype) for _ in "pgv")
    opt, params = fo.Nesterov(0.1, 0.9), {"x": p.copy()}
    opt.update(params, {"x": np.zeros_like(g)})
    params["x"][...], opt.v["x"][...] = p, v
    opt.update(params, {"x": g})
    expected = p + dtype(0.9 * 0.9) * v
    expected -= dtype((1 + 0.9) * 0.1) * g
    assert params["x"].tobytes() == expected.tobytes()
    at_once = p + (dtype(0.9 * 0.9) * v - dtype((1 + 0.9) * 0.1) * g)
    assert (at_once != expected).any()              # else this would test nothing


def test_reddis_example():
    """On [−1, 1], 1010 x at every 101st step and −10 x at the others: the minimum is at −1."""
    ends = []
    for amsgrad in (False, True):
        opt, params = fo.Adam(beta2=0.99, amsgrad=amsgrad), {"x": np.zeros(1)}
        for t in range(1, 20_201):
            opt.lr = 1 / t**0.5
            opt.update(params, {"x": np.array([1010.0 if t % 101 == 1 else -10.0])})
            np.clip(params["x"], -1, 1, out=params["x"])
        ends.append(float(params["x"][0]))
    assert ends[0] == 1.0
    assert ends[1] < -0.85
