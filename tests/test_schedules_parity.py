"""Schedules give the numbers of PyTorch's and Optax' of the same name, to 1e-12."""

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import schedules as s

CLOSE = {"rel": 1e-12, "abs": 1e-15}


# ---------------------------------------------------------------- Optax


@pytest.fixture
def optax():
    """Optax in float64, which its own default is not."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", before)


N = 70
OPTAX = {
    "constant": (s.constant(0.1), lambda o: o.constant_schedule(0.1)),
    "linear": (s.linear(0.1, 0.01, 30), lambda o: o.linear_schedule(0.1, 0.01, 30)),
    "piecewise_constant": (
        s.piecewise_constant([1.0, 0.5, 0.05], [10, 30]),
        lambda o: o.piecewise_constant_schedule(1.0, {10: 0.5, 30: 0.1}),
    ),
    "exponential_decay": (
        s.exponential_decay(0.1, 0.9, 7), lambda o: o.exponential_decay(0.1, 7, 0.9)
    ),
    "exponential_decay in stairs": (
        s.exponential_decay(0.1, 0.9, 7, staircase=True),
        lambda o: o.exponential_decay(0.1, 7, 0.9, staircase=True),
    ),
    "cosine_decay": (
        s.cosine_decay(0.1, 40, 0.01), lambda o: o.cosine_decay_schedule(0.1, 40, alpha=0.1)
    ),
    "warmup of Optax' own": (
        s.warmup(s.cosine_decay(0.1, 40), 10),
        lambda o: s.warmup(o.cosine_decay_schedule(0.1, 40), 10),
    ),
    "polynomial_decay": (
        s.polynomial_decay(0.1, 40, 0.01, 0.7), lambda o: o.polynomial_schedule(0.1, 0.01, 0.7, 40)
    ),
    "polynomial_decay upwards": (
        s.polynomial_decay(0.01, 40, 0.1, 3), lambda o: o.polynomial_schedule(0.01, 0.1, 3, 40)
    ),
    "polynomial_decay that begins late": (
        s.join([0.1, s.polynomial_decay(0.1, 40, 0.01, 2)], [9]),
        lambda o: o.polynomial_schedule(0.1, 0.01, 2, 40, transition_begin=9),
    ),
    "cosine_restarts": (
        s.cosine_restarts(0.1, 10, 0.01, 2, 0.5),
        lambda o: o.sgdr_schedule([
            {
                "init_value": 0.0, "peak_value": 0.1 * 0.5**i, "warmup_steps": 0,
                "decay_steps": 10 * 2**i, "end_value": 0.01,
            }
            for i in range(3)
        ]),
    ),
    "restarts with a warm-up": (
        s.join(
            [s.join([s.linear(0.0, 0.1, 5), s.cosine_decay(0.1, n)], [5]) for n in (15, 40)], [20]
        ),
        lambda o: o.sgdr_schedule([
            {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 5, "decay_steps": n + 5}
            for n in (15, 40)
        ]),
    ),
    "piecewise_interpolate, linear": (
        s.piecewise_interpolate([2.0, 0.2, 0.6], [7, 40]),
        lambda o: o.schedules.piecewise_interpolate_schedule("linear", 2.0, {7: 0.1, 40: 3.0}),
    ),
    "piecewise_interpolate, cosine": (
        s.piecewise_interpolate([2.0, 0.2, 0.6], [7, 40], "cosine"),
        lambda o: o.schedules.piecewise_interpolate_schedule("cosine", 2.0, {7: 0.1, 40: 3.0}),
    ),
    "linear_onecycle_schedule": (
        s.piecewise_interpolate([0.1 / 25, 0.1, 0.1 / 25, 0.1 / 25e4], [18, 51, 61]),
        lambda o: o.linear_onecycle_schedule(61, 0.1),
    ),
    "cosine_onecycle_schedule": (
        s.piecewise_interpolate([0.1 / 25, 0.1, 0.1 / 25e4], [18, 61], "cosine"),
        lambda o: o.cosine_onecycle_schedule(61, 0.1),
    ),
    "one_cycle": (
        s.one_cycle(0.1, 62, rise=(int(0.3 * 61) + 1) / 62),
        lambda o: o.cosine_onecycle_schedule(61, 0.1),
    ),
    "join": (
        s.join([s.linear(0.0, 0.1, 9), 0.1, s.cosine_decay(0.1, 30)], [9, 20]),
        lambda o: o.join_schedules(
            [
                o.linear_schedule(0.0, 0.1, 9), o.constant_schedule(0.1),
                o.cosine_decay_schedule(0.1, 30),
            ],
            [9, 20],
        ),
    ),
}


@pytest.mark.parametrize(("ours", "make"), OPTAX.values(), ids=OPTAX)
def test_equals_optax(ours, make, optax):
    theirs = make(optax)
    for step in range(N):
        assert ours(step) == pytest.approx(float(theirs(step)), **CLOSE), step


def test_the_rise_of_a_warmup_is_optax_one_update_earlier(optax):
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 50)
    ours = s.warmup(s.cosine_decay(0.1, 40), 10)
    for step in range(9):
        assert ours(step) == pytest.approx(float(theirs(step + 1)), **CLOSE)
    for step in range(10, 60):
        assert ours(step) == pytest.approx(float(theirs(step)), **CLOSE)


# ---------------------------------------------------------------- PyTorch


def rates(make, steps, names=("lr",)):
    """What PyTorch's scheduler sets before each update."""
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    schedule = make(torch.optim.lr_scheduler, opt)
    for _ in range(steps):
        yield tuple(opt.param_groups[0][name] for name in names)
        opt.step()
        schedule.step()


TORCH = {
    "exponential_decay": (s.exponential_decay(0.1, 0.9), lambda r, o: r.ExponentialLR(o, 0.9)),
    "exponential_decay in stairs": (
        s.exponential_decay(0.1, 0.9, 4, True), lambda r, o: r.StepLR(o, 4, 0.9)
    ),
    "piecewise_constant": (
        s.piecewise_constant([0.1, 0.01, 0.001], [5, 9]),
        lambda r, o: r.MultiStepLR(o, [5, 9], 0.1),
    ),
    "cosine_decay": (s.cosine_decay(0.1, N, 0.01), lambda r, o: r.CosineAnnealingLR(o, N, 0.01)),
    "polynomial_decay": (
        s.polynomial_decay(0.1, 40, power=0.7), lambda r, o: r.PolynomialLR(o, 40, 0.7)
    ),
    "cosine_restarts": (
        s.cosine_restarts(0.1, 8), lambda r, o: r.CosineAnnealingWarmRestarts(o, 8)
    ),
    "cosine_restarts that grow": (
        s.cosine_restarts(0.1, 5, 0.01, 3),
        lambda r, o: r.CosineAnnealingWarmRestarts(o, 5, 3, 0.01),
    ),
    "join": (
        s.join([s.linear(0.01, 0.1, 10), s.exponential_decay(0.1, 0.9), 0.1], [10, 30]),
        lambda r, o: r.SequentialLR(
            o,
            [
                r.LinearLR(o, 0.1, 1.0, 10), r.ExponentialLR(o, 0.9),
                r.ConstantLR(o, 1.0),
            ],
            [10, 30],
        ),
    ),
    "warmup": (
        s.warmup(s.exponential_decay(0.1, 0.9), 4),
        lambda r, o: r.SequentialLR(
            o,
            [r.LambdaLR(o, lambda step: (step + 1) / 4), r.ExponentialLR(o, 0.9)],
            [4],
        ),
    ),
}


@pytest.mark.parametrize(("ours", "make"), TORCH.values(), ids=TORCH)
def test_equals_torch(ours, make):
    for step, (theirs,) in enumerate(rates(make, N)):
        assert ours(step) == pytest.approx(theirs, **CLOSE), step


@pytest.mark.parametrize("updates", [1, 7])
def test_per_epoch_is_one_scheduler_step_an_epoch(updates):
    ours = s.per_epoch(s.cosine_restarts(0.1, 4), updates)
    theirs = [lr for lr, in rates(lambda r, o: r.CosineAnnealingWarmRestarts(o, 4), 10)]
    seen = [ours(step) for step in range(10 * updates)]
    assert seen == pytest.approx(np.repeat(theirs, updates).tolist(), **CLOSE)


CYCLES = {
    "one_cycle": (s.one_cycle(0.5, N), {"max_lr": 0.5, "total_steps": N}),
    "one_cycle, linear": (
        s.one_cycle(0.5, N, 0.4, 10.0, 100.0, "linear"),
        {
            "max_lr": 0.5, "total_steps": N, "pct_start": 0.4, "div_factor": 10.0,
            "final_div_factor": 100.0, "anneal_strategy": "linear",
        },
    ),
    "one_cycle, peak between two updates": (
        s.one_cycle(0.5, 33, 0.37), {"max_lr": 0.5, "total_steps": 33, "pct_start": 0.37}
    ),
    "one_cycle, three phases": (
        s.one_cycle(0.5, N, 0.4, three_phases=True),
        {"max_lr": 0.5, "total_steps": N, "pct_start": 0.4, "three_phase": True},
    ),
    "one_cycle, three linear phases": (
        s.one_cycle(0.5, N, shape="linear", three_phases=True),
        {"max_lr": 0.5, "total_steps": N, "anneal_strategy": "linear", "three_phase": True},
    ),
    "cyclic": (s.cyclic(0.1, 0.5, 7), {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7}),
    "cyclic, down slowly": (
        s.cyclic(0.1, 0.5, 7, 11),
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "step_size_down": 11},
    ),
    "cyclic, triangular2": (
        s.cyclic(0.1, 0.5, 7, 4, "triangular2"),
        {
            "base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "step_size_down": 4,
            "mode": "triangular2",
        },
    ),
    "cyclic, exp_range": (
        s.cyclic(0.1, 0.5, 7, shape="exp_range", rate=0.97),
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "mode": "exp_range", "gamma": 0.97},
    ),
}


@pytest.mark.parametrize(("ours", "arguments"), CYCLES.values(), ids=CYCLES)
def test_cycles_of_rate_and_momentum_equal_torch(ours, arguments):
    def make(schedulers, opt):
        cls = schedulers.OneCycleLR if "total_steps" in arguments else schedulers.CyclicLR
        return cls(opt, **arguments)

    momentum = ours.momentum()
    for step, theirs in enumerate(rates(make, arguments.get("total_steps", N), ("lr", "momentum"))):
        assert (ours(step), momentum(step)) == pytest.approx(theirs, **CLOSE), step


def test_other_bounds_of_the_momentum():
    for ours, make in (
        (
            s.one_cycle(0.5, N),
            lambda r, o: r.OneCycleLR(o, 0.5, N, base_momentum=0.7, max_momentum=0.99),
        ),
        (
            s.cyclic(0.1, 0.5, 7),
            lambda r, o: r.CyclicLR(o, 0.1, 0.5, 7, base_momentum=0.7, max_momentum=0.99),
        ),
    ):
        momentum = ours.momentum(0.7, 0.99)
        for step, (theirs,) in enumerate(rates(make, N, ("momentum",))):
            assert momentum(step) == pytest.approx(theirs, **CLOSE), step


# ---------------------------------------------------------------- what is told losses


def losses(seed, rises=False):
    """Losses that fall in fits and starts, with NaN and infinity in between."""
    rng = np.random.default_rng(seed)
    x = np.exp(-np.arange(300) / 60) + 0.05 * rng.standard_normal(300) - 0.02 * (seed % 3)
    x[rng.integers(0, 300, 6)] = np.nan
    x[rng.integers(0, 300, 3)] = np.inf
    return (-x if rises else x).tolist()


PLATEAUS = {
    "plain": {},
    "patience 0": {"patience": 0, "factor": 0.9},
    "cooldown": {"patience": 2, "cooldown": 5, "factor": 0.5},
    "relative": {"patience": 3, "rtol": 0.2, "factor": 0.7},
    "absolute": {"patience": 3, "rtol": 0.0, "atol": 0.03, "factor": 0.7},
    "bounded": {"patience": 1, "factor": 0.5, "stop": 0.01},
}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("given", PLATEAUS.values(), ids=PLATEAUS)
@pytest.mark.parametrize("seed", range(4))
def test_plateau_equals_torch(given, mode, seed):
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    ours = s.plateau(0.1, mode=mode, **given)
    kind = {"threshold": given.get("rtol", 1e-4)}
    if "atol" in given:
        kind = {"threshold": given["atol"], "threshold_mode": "abs"}
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        opt, mode=mode, eps=0.0, factor=given.get("factor", 0.1),
        patience=given.get("patience", 10), cooldown=given.get("cooldown", 0),
        min_lr=given.get("stop", 0.0), **kind,
    )
    fell = 0
    for step, loss in enumerate(losses(seed, mode == "max")):
        before = ours(step)
        ours.observe(loss)
        theirs.step(loss)
        assert ours(step) == pytest.approx(opt.param_groups[0]["lr"], rel=1e-12, abs=0), step
        assert (ours.bad, ours.cooling) == (theirs.num_bad_epochs, theirs.cooldown_counter)
        fell += ours(step) != before
    assert fell > 0


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("given", PLATEAUS.values(), ids=PLATEAUS)
def test_plateau_equals_optax(given, every, optax):
    import jax

    ours = s.plateau(0.1, every=every, **given)
    theirs = optax.contrib.reduce_on_plateau(
        given.get("factor", 0.1), given.get("patience", 10) + 1, given.get("rtol", 1e-4),
        given.get("atol", 0.0), given.get("cooldown", 0), every, given.get("stop", 0.0) / 0.1,
    )
    state = theirs.init(np.zeros(1))
    update = jax.jit(lambda state, loss: theirs.update(np.ones(1), state, value=loss))
    fell = False
    for step, loss in enumerate(losses(every)):
        fell |= ours.observe(loss)
        scale, state = update(state, loss)
        assert ours(step) == pytest.approx(0.1 * float(scale[0]), rel=1e-12, abs=0), step
    assert fell


# ---------------------------------------------------------------- a whole training


RULES = {
    "Adam": (
        lambda lr, m: fo.Adam(lr, m, eps=1e-8, eps_corrected=True), lambda t, p: t.optim.Adam(p)
    ),
    "SGD with momentum": (
        lambda lr, m: fo.HeavyBall(lr, m), lambda t, p: t.optim.SGD(p, momentum=0.9)
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), RULES.values(), ids=RULES)
def test_training_through_one_cycle_of_rate_and_momentum_equals_torch(ours, theirs):
    torch = pytest.importorskip("torch")
    rate = s.one_cycle(0.1, 40)
    opt, params = ours(rate, rate.momentum()), {"x": np.linspace(-1, 2, 9)}
    p = torch.nn.Parameter(torch.from_numpy(params["x"].copy()))
    other = theirs(torch, [p])
    schedule = torch.optim.lr_scheduler.OneCycleLR(other, 0.1, 40)
    for _ in range(40):
        g = params["x"] ** 3 + 0.1
        opt.update(params, {"x": g})
        p.grad = torch.from_numpy(g)
        other.step()
        schedule.step()
        assert params["x"] == pytest.approx(p.detach().numpy(), rel=1e-12, abs=1e-13)
