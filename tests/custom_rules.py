"""Rules as a user writes them; test_custom.py runs them. Compiled when this file is imported."""

import math

import numpy as np

import fastoptim as fo

DECAY = "[0, 1)"


@fo.rule(lr=0.01)
def SGD(p, g, lr):
    return p - lr * g


@fo.rule(state=("v",), lr=0.01, alpha=(0.9, DECAY))
def Momentum(p, g, v, lr, alpha):
    v = alpha * v - lr * g
    return p + v, v


@fo.rule(state=("v",), lr=0.01, mu=(0.9, DECAY))
def Nesterov(p, g, v, lr, mu):
    return p + mu * mu * v - (1 + mu) * lr * g, mu * v - lr * g


@fo.rule(state=("h",), lr=0.01, eps=(1e-7, "[0, inf)"))
def AdaGrad(p, g, h, lr, eps):
    h += g**2
    return p - lr * g / (np.sqrt(h) + eps), h


@fo.rule(state=("h",), lr=0.01, decay_rate=(0.99, DECAY), eps=(1e-7, "[0, inf)"))
def RMSprop(p, g, h, lr, decay_rate, eps):
    h = decay_rate * h + (1 - decay_rate) * g * g
    return p - lr * g / (np.sqrt(h) + eps), h


def corrected(t, lr, beta1, beta2):
    return {"lr_t": lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)}


@fo.rule(
    state=("m", "v"), coefficients=corrected,
    lr=0.001, beta1=(0.9, DECAY), beta2=(0.999, DECAY), eps=(1e-7, "[0, inf)"),
)
def Adam(p, g, m, v, beta1, beta2, eps, lr_t):
    """Adam, in the order of the published listing."""
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g**2 - v)
    return p - lr_t * m / (np.sqrt(v) + eps), m, v


@fo.rule(state=("m",), lr=1e-4, beta1=0.9, beta2=0.99)
def MyLion(p, g, m, lr, beta1, beta2):
    return p - lr * np.sign(beta1 * m + (1 - beta1) * g), beta2 * m + (1 - beta2) * g


@fo.rule(
    state={"g_prev": None, "delta": "lr"},
    lr=0.01, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0,
)
def Rprop(p, g, g_prev, delta, eta_minus, eta_plus, step_min, step_max):
    turn = g * g_prev
    step = np.where(turn > 0, delta * eta_plus, np.where(turn < 0, delta * eta_minus, delta))
    delta = np.clip(step, step_min, step_max)
    g_prev = np.where(turn < 0, 0, g)
    return p - np.sign(g_prev) * delta, g_prev, delta


@fo.rule(state=("m", "u"), lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8,
         coefficients=lambda t, lr, beta1: {"lr_t": lr / (1 - beta1**t)})
def AdaMax(p, g, m, u, beta1, beta2, eps, lr_t):
    m = m + (1 - beta1) * (g - m)
    u = np.maximum(beta2 * u, np.abs(g) + eps)
    return p - lr_t * m / u, m, u


# The same as the built-ins, these with which hyperparameters:
SAME = {
    "SGD": fo.SGD, "Momentum": fo.Momentum, "Nesterov": fo.Nesterov, "AdaGrad": fo.AdaGrad,
    "RMSprop": fo.RMSprop, "Adam": fo.Adam, "Rprop": fo.Rprop, "AdaMax": fo.AdaMax,
    "MyLion": lambda **options: fo.Lion(**{"weight_decay": 0, "decoupled": False, **options}),
}


# ------------------------------------------------- what a body may contain

TWO = 2
OFFSET = np.float64(0.1)


def lerp(a, b, weight=0.25):
    """Both numbers and elements may come in."""
    if weight == 0:
        return a
    return a + weight * (b - a)


def swapped(a, b):
    return b, a


def closure(scale):
    @fo.rule(state=("m", "n"), lr=0.3, beta=0.7)
    def Locals(p, g, m, n, lr, beta):
        """Numbers of all kinds: literals, globals, of a closure, in locals, in helpers."""
        keep = 1 - beta
        rest: float = keep * lr / 3
        third = TWO / 3
        m, n = swapped(m, n)
        m = lerp(m, g, keep)
        n = lerp(g, n) * scale + 0.1
        a = b = 2 * lr * m - third * n + math.pi
        b -= lerp(lr, beta, weight=rest) * a
        return p - b * np.float32(0.1) + max(lr, keep, 0.1) * math.sqrt(beta), m, n

    return Locals


Locals = closure(1.7)


@fo.rule(lr=0.3)
def Strong(p, g, lr):
    return p - lr * (np.sqrt(lr) * g + OFFSET) * np.where(g > 0, 1.0, 0.5)


@fo.rule(state=("m", "n"), lr=0.3)
def Ifs(p, g, m, n, lr):
    """NumPy cannot run this one; `ifs` says the same by np.where."""
    if g > 0.5:
        m = m + g
        step = lr * g
    elif g < -0.5 and not p < 0:
        n = 2.0
        step = -lr * g
    else:
        step = 0 if m > n else m
    if -1 < step <= 1 or n == 2:
        return p - step, m, n
    q = p + math.sqrt(4 * g * g) if p > g else p
    return q, m, (step if abs(step) < 3 else n)


def ifs(p, g, m, n, lr):
    high = g > 0.5
    low = ~high & (g < -0.5) & ~(p < 0)
    new_m = np.where(high, m + g, m)
    new_n = np.where(low, p.dtype.type(2), n)
    step = np.where(m > n, p.dtype.type(0), m)
    step = np.where(high, lr * g, np.where(low, -lr * g, step))
    out = ((step > -1) & (step <= 1)) | (new_n == 2)
    q = np.where(p > g, p + np.sqrt(4 * g * g), p)
    return (
        np.where(out, p - step, q), new_m,
        np.where(out, new_n, np.where(np.abs(step) < 3, step, new_n)),
    )


@fo.rule(state=("m",), lr=0.1, scale=2.0, nesterov=0.0)
def Switches(p, g, m, lr, scale, nesterov):
    """Ifs on numbers alone: the side that is not taken is not computed."""
    x = g / scale if scale > 0 else g
    rate = lr
    if scale != 0 and 1 / scale > 1:
        rate = lr / scale
        x = x * rate
    if nesterov:
        return p - rate * (x + m), x
    m = m + x
    return p - rate * m, m


@fo.rule(state=tuple("abcdef"), lr=0.3)
def Functions(p, g, a, b, c, d, e, f, lr):
    high, low = np.fmax(g, a) + 0.0, np.fmin(a, b) + 0.0  # + 0.0: of 0 and −0 either will do
    return (
        np.clip(p, -lr, lr) + high * low + np.floor(c) - np.ceil(d),
        np.maximum(g, a) + np.minimum(a, lr) + np.copysign(b, g),
        np.where(np.isnan(g) | np.isinf(b) & ~np.isfinite(c), a, np.clip(b, c, d)),
        np.reciprocal(c) + np.square(a) + np.negative(b) + (p > g) * a,
        d**2 + b**0.5 - a**-1 + c**1 + e**0,
        np.trunc(e) + np.rint(f) + np.where(np.signbit(g), p, f) + np.abs(a),
        np.where(np.logical_not(a <= b), np.add(a, b), np.where((a > 0) ^ (b > 0), f, np.sign(f))),
    )


@fo.rule(state=("m",), lr=0.3, beta=0.9)
def Rounded(p, g, m, lr, beta):
    """What libm rounds as it likes."""
    return (
        np.exp(-m) + np.log1p(np.abs(g)) * np.tanh(g) + np.hypot(p, g) - np.arctan2(g, lr),
        np.abs(m) ** beta + g**3 + lr ** np.abs(g) + np.abs(g) ** 1.5,
    )


NUMPY = {"Locals": Locals.body, "Functions": Functions.body, "Ifs": ifs}
