"""The NumPy oracle: the published listing of every rule, under the rule's class name.

The rules that ``fastoptim demo`` shows have their listings in the package, since the demo runs
where the tests are not; the test suite has no other statement of them. A rule that the demo does
not show has its listing below, and so have the options that the demo's rules gained; a listing
below begins with the one it adds to. test_registry.py holds the names against the library's.

Hyperparameters and what is made of them are Python floats, for the reason given in listings.py.
Signs, maxima and bounds are np.sign, np.maximum and np.clip; other choices are np.where, whose
condition is false for NaN.
"""

import math

import numpy as np

from fastoptim import listings
from fastoptim.listings import SGD, Momentum, Nesterov, state


def state_from(slot, key, p, start):
    """A key's state array, filled with a number when it is asked for the first time."""
    if key not in slot:
        slot[key] = np.full_like(p, start)
    return slot[key]


class HeavyBall:
    def __init__(self, lr=0.01, mu=0.9, dampening=0.0, nesterov=False):
        self.lr, self.mu, self.dampening, self.nesterov = lr, mu, dampening, nesterov
        self.iter = 0
        self.v = {}

    def update(self, params, grads):
        self.iter += 1
        for key, p in params.items():
            v = state(self.v, key, p)
            v *= self.mu
            v += grads[key] if self.iter == 1 else (1 - self.dampening) * grads[key]
            p -= self.lr * (grads[key] + self.mu * v if self.nesterov else v)


class SignSGD:
    def __init__(self, lr=1e-4, momentum=0.0):
        self.lr, self.momentum = lr, momentum
        self.m = {}

    def update(self, params, grads):
        for key, p in params.items():
            direction = grads[key]
            if self.momentum > 0:
                m = direction = state(self.m, key, p)
                m *= self.momentum
                m += (1 - self.momentum) * grads[key]
            p -= self.lr * np.sign(direction)


class ScheduleFree:
    """z − x moves by the step s; p, the paper's y, by what that and the average leave of it."""

    decoupled_decay = 0.0       # of `Staged`, times lr

    def __init__(self, lr, beta):
        self.lr, self.beta = lr, beta
        self.iter, self.weights, self.highest = 0, [], 0.0
        self.d = {}

    def update(self, params, grads):
        self.iter += 1
        if self.lr > self.highest:      # weights are multiples of that of the highest rate
            ratio = self.highest / self.lr
            self.weights, self.highest = [w * ratio**2 for w in self.weights], self.lr
        if self.highest:
            self.weights.append(1.0)
        c = 1 / sum(self.weights) if self.weights else 0.0
        decay = self.lr * self.decoupled_decay
        for key, p in params.items():
            step = self.step(key, p, grads[key]) + decay * p
            d = state(self.d, key, p)
            d -= step
            p += self.beta * c * d - (1 - self.beta) * step
            d -= c * d


class ScheduleFreeSGD(ScheduleFree):
    def __init__(self, lr=1.0, beta=0.9):
        super().__init__(lr, beta)

    def step(self, key, p, g):
        return self.lr * g


class Lion:
    def __init__(self, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=1e-3):
        self.lr, self.beta1, self.beta2, self.weight_decay = lr, beta1, beta2, weight_decay
        self.m = {}

    def update(self, params, grads):
        for key, p in params.items():
            m = state(self.m, key, p)
            p *= 1 - self.lr * self.weight_decay
            p -= self.lr * np.sign(self.beta1 * m + (1 - self.beta1) * grads[key])
            m *= self.beta2
            m += (1 - self.beta2) * grads[key]


class Rprop:
    def __init__(self, lr=0.01, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0):
        self.lr, self.eta_minus, self.eta_plus = lr, eta_minus, eta_plus
        self.step_min, self.step_max = step_min, step_max
        self.g_prev, self.delta = {}, {}

    def update(self, params, grads):
        for key, p in params.items():
            g_prev = state(self.g_prev, key, p)
            delta = state_from(self.delta, key, p, self.lr)
            turn = grads[key] * g_prev
            grown, shrunk = delta * self.eta_plus, delta * self.eta_minus
            step = np.where(turn > 0, grown, np.where(turn < 0, shrunk, delta))
            delta[...] = np.clip(step, self.step_min, self.step_max)
            g_prev[...] = np.where(turn < 0, 0, grads[key])
            p -= np.sign(g_prev) * delta


class AdaGrad(listings.AdaGrad):
    def __init__(self, lr=0.01, eps=1e-7, lr_decay=0.0, initial=0.0, eps_root=0.0):
        super().__init__(lr, eps)
        self.lr_decay, self.initial, self.eps_root = lr_decay, initial, eps_root
        self.iter = 0

    def update(self, params, grads):
        self.iter += 1
        if not self.lr_decay and not self.initial and not self.eps_root:
            super().update(params, grads)
            return
        lr = self.lr / (1 + (self.iter - 1) * self.lr_decay)
        for key, p in params.items():
            h = state_from(self.h, key, p, self.initial)
            h += grads[key] * grads[key]
            under = h + self.eps_root if self.eps_root else h
            p -= lr * grads[key] / (np.sqrt(under) + self.eps)


class FTRL:
    def __init__(self, lr=0.001, initial=0.1, l1=0.0, l2=0.0, beta=0.0):
        self.lr, self.initial, self.l1, self.l2, self.beta = lr, initial, l1, l2, beta
        self.h, self.z = {}, {}

    def update(self, params, grads):
        l2 = self.l2 + self.beta / (2 * self.lr)
        for key, p in params.items():
            h = state_from(self.h, key, p, self.initial)
            z = state(self.z, key, p)
            old = np.sqrt(h)
            h += grads[key] * grads[key]
            z += grads[key] - (np.sqrt(h) - old) / self.lr * p
            x = np.clip(z, -self.l1, self.l1) - z
            p[...] = np.where(x == 0, 0, x / (np.sqrt(h) / self.lr + 2 * l2))


class RMSprop(listings.RMSprop):
    def __init__(
        self, lr=0.01, decay_rate=0.99, eps=1e-7, centered=False, momentum=0.0, eps_root=0.0
    ):
        super().__init__(lr, decay_rate, eps)
        self.centered, self.momentum, self.eps_root = centered, momentum, eps_root
        self.m, self.v = {}, {}

    def update(self, params, grads):
        if not self.centered and not self.momentum and not self.eps_root:
            super().update(params, grads)
            return
        for key, p in params.items():
            h = state(self.h, key, p)
            h *= self.decay_rate
            h += (1 - self.decay_rate) * grads[key] * grads[key]
            under = h
            if self.centered:
                m = state(self.m, key, p)
                m += (1 - self.decay_rate) * (grads[key] - m)
                under = np.maximum(h - m * m, 0)
            if self.eps_root > 0:
                under = under + self.eps_root
            if self.momentum > 0:
                v = state(self.v, key, p)
                v *= self.momentum
                v += grads[key] / (np.sqrt(under) + self.eps)
                p -= self.lr * v
            else:
                p -= self.lr * grads[key] / (np.sqrt(under) + self.eps)


class AdaDelta:
    def __init__(self, lr=1.0, rho=0.9, eps=1e-6):
        self.lr, self.rho, self.eps = lr, rho, eps
        self.h, self.d = {}, {}

    def update(self, params, grads):
        for key, p in params.items():
            h = state(self.h, key, p)
            d = state(self.d, key, p)
            h *= self.rho
            h += (1 - self.rho) * grads[key] * grads[key]
            step = np.sqrt(d + self.eps) / np.sqrt(h + self.eps) * grads[key]
            d *= self.rho
            d += (1 - self.rho) * step * step
            p -= self.lr * step


class Adam(listings.Adam):
    def __init__(
        self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-7, amsgrad=False, eps_corrected=False,
        bias_correction=True, eps_root=0.0,
    ):
        super().__init__(lr, beta1, beta2, eps)
        self.amsgrad, self.eps_corrected, self.bias_correction = (
            amsgrad, eps_corrected, bias_correction,
        )
        self.eps_root = eps_root
        self.v_max = {}

    def update(self, params, grads):
        if not (self.amsgrad or self.eps_corrected or self.eps_root) and self.bias_correction:
            super().update(params, grads)
            return
        self.iter += 1
        bias1 = 1 - self.beta1**self.iter if self.bias_correction else 1
        bias2 = 1 - self.beta2**self.iter if self.bias_correction else 1
        lr_t = self.lr * math.sqrt(bias2) / bias1
        eps, eps_root = self.eps, self.eps_root
        if self.eps_corrected:
            eps, eps_root = eps * math.sqrt(bias2), eps_root * bias2
        for key, p in params.items():
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (grads[key] ** 2 - v)
            if self.amsgrad:
                v_max = state(self.v_max, key, p)
                v = np.maximum(v_max, v, out=v_max)
            if eps_root > 0:
                v = v + eps_root
            p -= lr_t * m / (np.sqrt(v) + eps)


class AdamW(Adam):
    def __init__(
        self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, eps_corrected=True,
        bias_correction=True, eps_root=0.0, weight_decay=0.01,
    ):
        super().__init__(
            lr, beta1, beta2, eps, amsgrad, eps_corrected, bias_correction, eps_root
        )
        self.weight_decay = weight_decay

    def update(self, params, grads):
        for p in params.values():
            p *= 1 - self.lr * self.weight_decay
        super().update(params, grads)


class AdaMax:
    def __init__(self, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.iter = 0
        self.m, self.u = {}, {}

    def update(self, params, grads):
        self.iter += 1
        lr_t = self.lr / (1 - self.beta1**self.iter)
        for key, p in params.items():
            m = state(self.m, key, p)
            u = state(self.u, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            u[...] = np.maximum(self.beta2 * u, np.abs(grads[key]) + self.eps)
            p -= lr_t * m / u


class NAdam:
    def __init__(self, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8, psi=0.004):
        self.lr, self.beta1, self.beta2, self.eps, self.psi = lr, beta1, beta2, eps, psi
        self.iter = 0
        self.m, self.v = {}, {}

    def mu(self, t):
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.psi))

    def update(self, params, grads):
        self.iter += 1
        mu, mu_next = self.mu(self.iter), self.mu(self.iter + 1)
        product = math.prod(self.mu(t) for t in range(1, self.iter + 1))
        correction = math.sqrt(1 - self.beta2**self.iter)
        lr_g = self.lr * correction * (1 - mu) / (1 - product)
        lr_m = self.lr * correction * mu_next / (1 - product * mu_next)
        for key, p in params.items():
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (grads[key] ** 2 - v)
            p -= (lr_g * grads[key] + lr_m * m) / (np.sqrt(v) + self.eps * correction)


class RAdam:
    def __init__(self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.iter = 0
        self.m, self.v = {}, {}

    def update(self, params, grads):
        self.iter += 1
        lr_t = self.lr / (1 - self.beta1**self.iter)
        correction = 1 - self.beta2**self.iter
        most = 2 / (1 - self.beta2) - 1
        rho = most - 2 * self.iter * self.beta2**self.iter / correction
        for key, p in params.items():
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (grads[key] ** 2 - v)
            if rho > 5:
                r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
                p -= lr_t * (math.sqrt(correction) * r) * m / (np.sqrt(v) + self.eps)
            else:
                p -= lr_t * m


class AdaBelief:
    def __init__(self, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16):
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.eps, self.eps_root = eps, eps_root
        self.iter = 0
        self.m, self.v = {}, {}

    def update(self, params, grads):
        self.iter += 1
        correction = math.sqrt(1 - self.beta2**self.iter)
        lr_t = self.lr * correction / (1 - self.beta1**self.iter)
        for key, p in params.items():
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * ((grads[key] - m) ** 2 - v) + self.eps_root
            p -= lr_t * m / (np.sqrt(v) + self.eps * correction)


class Yogi:
    def __init__(self, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-3, initial=1e-6):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.initial = initial
        self.iter = 0
        self.m, self.v = {}, {}

    def update(self, params, grads):
        self.iter += 1
        correction = math.sqrt(1 - self.beta2**self.iter)
        lr_t = self.lr * correction / (1 - self.beta1**self.iter)
        for key, p in params.items():
            m = state_from(self.m, key, p, self.initial)
            v = state_from(self.v, key, p, self.initial)
            square = grads[key] * grads[key]
            m += (1 - self.beta1) * (grads[key] - m)
            v -= (1 - self.beta2) * np.sign(v - square) * square
            p -= lr_t * m / (np.sqrt(v) + self.eps * correction)


class Adan:
    def __init__(self, lr=0.001, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.beta3, self.eps = lr, beta1, beta2, beta3, eps
        self.iter = 0
        self.m, self.v, self.h, self.g_prev = {}, {}, {}, {}

    def update(self, params, grads):
        self.iter += 1
        correction = math.sqrt(1 - self.beta3**self.iter)
        lr_m = self.lr * correction / (1 - self.beta1**self.iter)
        lr_v = self.lr * correction * self.beta2 / (1 - self.beta2**self.iter)
        for key, p in params.items():
            g_prev = state(self.g_prev, key, p)
            m = state(self.m, key, p)
            v = state(self.v, key, p)
            h = state(self.h, key, p)
            change = np.zeros_like(p) if self.iter == 1 else grads[key] - g_prev
            g_prev[...] = grads[key]
            m += (1 - self.beta1) * (grads[key] - m)
            v += (1 - self.beta2) * (change - v)
            h += (1 - self.beta3) * ((grads[key] + self.beta2 * change) ** 2 - h)
            p -= (lr_m * m + lr_v * v) / (np.sqrt(h) + self.eps * correction)


class ScheduleFreeAdamW(ScheduleFree):
    def __init__(self, lr=0.0025, beta1=0.9, beta2=0.999, eps=1e-8):
        super().__init__(lr, beta1)
        self.beta2, self.eps = beta2, eps
        self.v = {}

    def step(self, key, p, g):
        correction = math.sqrt(1 - self.beta2**self.iter)
        v = state(self.v, key, p)
        v += (1 - self.beta2) * (g**2 - v)
        return self.lr * correction * g / (np.sqrt(v) + self.eps * correction)


def chunked(x):
    """Sums of doubles along the last axis: chunks of 512, 32 lanes in each, halved at a time."""
    total = np.zeros(x.shape[:-1])
    for first in range(0, x.shape[-1], 512):
        chunk = x[..., first : first + 512]
        width = -(-chunk.shape[-1] // 32) * 32
        padded = np.zeros((*x.shape[:-1], width))  # a zero behind the end adds nothing
        padded[..., : chunk.shape[-1]] = chunk
        lanes = np.zeros((*x.shape[:-1], 32))
        for k in range(0, width, 32):
            lanes += padded[..., k : k + 32]
        for half in (16, 8, 4, 2, 1):
            lanes = lanes[..., :half] + lanes[..., half:]
        total += lanes[..., 0]
    return total


def striped(x):
    """Sums of doubles along the last axis but one: strips of rows, then the strips."""
    rows = max(64, 16384 // x.shape[-1])
    total = np.zeros((*x.shape[:-2], x.shape[-1]))
    for first in range(0, x.shape[-2], rows):
        strip = np.zeros_like(total)
        for i in range(first, min(first + rows, x.shape[-2])):
            strip += x[..., i, :]
        total = strip if first == 0 else total + strip
    return total


class Adafactor:
    def __init__(
        self, lr=0.01, decay_rate=0.8, d=1.0, eps1=1e-30, eps2=1e-3, beta1=0.0, relative_step=True,
        scale_parameter=True, factor_from=2,
    ):
        self.lr, self.decay_rate, self.d, self.beta1 = lr, decay_rate, d, beta1
        self.eps1, self.eps2, self.factor_from = eps1, eps2, factor_from
        self.relative_step, self.scale_parameter = relative_step, scale_parameter
        self.iter = 0
        self.r, self.c, self.v, self.m = {}, {}, {}, {}
        self.sizes = None

    def look(self, params):
        """Note how long the parameters are, before a decay."""
        self.sizes = {
            key: math.sqrt(squared_norm({key: p}) / p.size) for key, p in params.items() if p.size
        }

    def update(self, params, grads):
        self.iter += 1
        if self.sizes is None:
            self.look(params)
        fresh = self.iter**-self.decay_rate
        rho = min(self.lr, 1 / math.sqrt(self.iter)) if self.relative_step else self.lr
        if self.beta1:
            rho *= 1 - self.beta1
        for key, p in params.items():
            g = grads[key]
            if p.ndim > 1 and p.size and min(p.shape[-2:]) >= self.factor_from:
                row, col = self.factors(key, g, fresh)
                u = row * g * col
                total = float(chunked(chunked(u.astype(float) ** 2).ravel()))
            else:
                v = state(self.v, key, p)
                v[...] = (1 - fresh) * v + fresh * (g * g + self.eps1)
                row, col, u = None, None, g / np.sqrt(v)
                total = float(chunked(u.astype(float).ravel() ** 2))
            alpha = rho
            if self.scale_parameter:
                alpha *= max(self.eps2, self.sizes.get(key, 0.0))
            if self.d is not None and p.size:
                alpha /= max(1.0, math.sqrt(total / p.size) / self.d)
            step = alpha * row * g * col if row is not None else alpha * g / np.sqrt(v)
            if self.beta1:
                m = state(self.m, key, p)
                m *= self.beta1
                m += step
                step = m
            p -= step
        self.sizes = None

    def factors(self, key, g, fresh):
        """The factors of the rows and of the columns, shaped to be multiplied by a gradient."""
        r, c = state(self.r, key, g[..., 0]), state(self.c, key, g[..., 0, :])
        squares = g.astype(float) ** 2
        n, k = g.shape[-2:]
        r[...] = (1 - fresh) * r.astype(float) + fresh * (chunked(squares) / k + self.eps1)
        c[...] = (1 - fresh) * c.astype(float) + fresh * (striped(squares) / n + self.eps1)
        mean = chunked(r.astype(float)) / n
        row = np.sqrt(mean[..., None] / r.astype(float)).astype(g.dtype)
        return row[..., None], (1 / np.sqrt(c.astype(float))).astype(g.dtype)[..., None, :]


class Muon:
    """For matrices. The products are NumPy's, in the order in which the iteration is published."""

    def __init__(
        self, lr=1e-3, momentum=0.95, nesterov=True, ns_steps=5,
        ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7, adjust_lr="original",
        bias_correction=False, weight_decay=0.1,
    ):
        self.lr, self.momentum, self.nesterov, self.eps = lr, momentum, nesterov, eps
        self.ns_steps, self.ns_coefficients, self.adjust_lr = ns_steps, ns_coefficients, adjust_lr
        self.bias_correction, self.weight_decay = bias_correction, weight_decay
        self.iter = 0
        self.v = {}

    def update(self, params, grads):
        self.iter += 1
        mu, t = self.momentum, self.iter
        share_v, share_g = (mu, 1 - mu) if self.nesterov else (1.0, 0.0)
        if self.bias_correction:
            share_v /= 1 - mu ** (t + 1 if self.nesterov else t)
            share_g /= 1 - mu**t
        for key, p in params.items():
            g, v = grads[key], state(self.v, key, p)
            v += (1 - mu) * (g - v)
            rows, cols = p.shape
            ratio = 0.2 * math.sqrt(max(rows, cols))
            if self.adjust_lr == "original":
                ratio = math.sqrt(max(1, rows / cols))
            if self.weight_decay:
                p *= 1 - self.lr * self.weight_decay
            if p.size:
                p -= self.lr * ratio * self.orthogonalized(share_v * v + share_g * g)

    def orthogonalized(self, x):
        a, b, c = self.ns_coefficients
        if x.shape[0] > x.shape[1]:
            return self.orthogonalized(x.T).T
        x = x / max(math.sqrt(np.sum(np.square(x, dtype=np.float64))), self.eps)
        for _ in range(self.ns_steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x


ORACLES = {
    cls.__name__: cls
    for cls in (
        SGD, Momentum, HeavyBall, Nesterov, Lion, Rprop, AdaGrad, FTRL, RMSprop, AdaDelta, Adam,
        AdamW, AdaMax, NAdam, RAdam, AdaBelief, Adafactor, SignSGD, Yogi, Adan, ScheduleFreeSGD,
        ScheduleFreeAdamW,
    )
}


def global_norm(grads):
    """The norm of all gradients, summed in float64."""
    return math.sqrt(squared_norm(grads))


def squared_norm(grads):
    """The sum of all squares in float64: blocks of 1,024, 32 lanes in each."""
    total = 0.0
    for g in grads.values():
        x = np.zeros(-(-g.size // 1024) * 1024)  # a zero behind the end adds nothing
        x[: g.size] = np.ravel(g)
        rows = x.reshape(-1, 32, 32)
        lanes = np.zeros((len(rows), 32))
        for k in range(32):
            lanes += rows[:, k] * rows[:, k]
        for block in lanes.tolist():
            share = 0.0
            for lane in block:
                share += lane
            total += share
    return total


def lane_sums(rows):
    """The lanes of each row of numbers: 32, each the sum of every 32nd number in its order."""
    lanes = np.zeros((len(rows), 32))
    for k in range(0, rows.shape[1], 32):
        lanes += rows[:, k : k + 32]
    return lanes


def in_rows(x, length):
    """Numbers in float64 in rows of a length, filled up with zeros, which add nothing."""
    rows = np.zeros(-(-x.size // length) * length)
    rows[: x.size] = np.ravel(x)
    return rows.reshape(-1, length)


def tensor_norm(x):
    """The norm of a tensor: blocks of 1,024, 32 lanes in each, of which halves are added."""
    lanes = lane_sums(in_rows(x, 1024) ** 2)
    for half in (16, 8, 4):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    total = 0.0
    for block in ((lanes[:, 0] + lanes[:, 2]) + (lanes[:, 1] + lanes[:, 3])).tolist():
        total += block
    return math.sqrt(total)


def run_sum(x, power=1):
    """The sum of numbers next to each other, or of squares: pieces of 2 KiB with 32 lanes each."""
    length = 2048 // x.dtype.itemsize
    total = 0.0
    for start in range(0, x.size, length):
        piece = x.ravel()[start : start + length].astype(np.float64) ** power
        share = 0.0
        for lane in lane_sums(in_rows(piece, length))[0].tolist():
            share += lane
        total += share
    return total


def column_norms(x):
    """The norm of each index of the last axis: row after row, in pieces that the shape gives."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    pieces = min(64, max(1, x.size // 16384), max(1, len(rows)))
    total = np.zeros(x.shape[-1])
    for k in range(pieces):
        share = np.zeros(x.shape[-1])
        for row in rows[len(rows) * k // pieces : len(rows) * (k + 1) // pieces]:
            share += row * row
        total += share
    return np.sqrt(total)


def unit_norms(x, per="column"):
    """The norms of columns or rows, in the shape that goes with the tensor."""
    if x.ndim < 2:
        return np.array(math.sqrt(run_sum(x, 2)))
    if per == "column" and x.shape[-1] > 1:
        return column_norms(x)
    if per == "column":
        return np.array(math.sqrt(run_sum(x, 2)))
    norms = [math.sqrt(run_sum(row, 2)) for row in x]
    return np.array(norms).reshape(-1, *[1] * (x.ndim - 1))


def centralized(g):
    """A gradient minus the mean of each row."""
    if g.ndim < 2 or g.size == len(g):
        return g
    means = np.array([run_sum(row) / row.size for row in g]).astype(g.dtype)
    return g - means.reshape(-1, *[1] * (g.ndim - 1))


def clipped_by_unit(g, p, most, scale):
    """A gradient whose units have at most a share of the norm of the parameter's."""
    if sum(n > 1 for n in g.shape) <= 1:
        of_g, of_p = (unit_norms(x.ravel()) for x in (scale * g, p))
    else:
        of_g, of_p = unit_norms(scale * g), unit_norms(p)
    most = most * np.maximum(of_p, 1e-3)
    with np.errstate(all="ignore"):
        factor = np.where(of_g <= most, 1.0, most / of_g)
    return factor.astype(g.dtype) * g


def constrained(p, constraint):
    """Bring a parameter back to what it may be."""
    if constraint == "nonnegative":
        constraint = (0.0, math.inf)
    if isinstance(constraint, tuple):
        p[...] = np.clip(p, *constraint)
        return
    per, most = getattr(constraint, "per", "column"), getattr(constraint, "most", 1.0)
    norms = unit_norms(p, per)
    fits = norms == 0 if getattr(constraint, "kind", constraint) == "unit_norm" else norms <= most
    with np.errstate(all="ignore"):
        p *= np.minimum(np.where(fits, 1.0, most / norms), np.finfo(p.dtype).max).astype(p.dtype)


class Staged:
    """A rule's oracle with the options that every rule has, in plain NumPy around it."""

    def __init__(
        self, oracle, *, weight_decay=0.0, decoupled=False, clip_value=None, clip_norm=None,
        clip_norm_per_key=None, agc=None, centralize=False, trust_ratio=False, constraint=None,
        maximize=False, zero_grads=False, average=None,
    ):
        self.oracle, self.average = oracle, average
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.clip_value, self.clip_norm = clip_value, clip_norm
        self.clip_norm_per_key, self.agc = clip_norm_per_key, agc
        self.centralize, self.trust_ratio, self.constraint = centralize, trust_ratio, constraint
        self.maximize, self.zero_grads = maximize, zero_grads
        self.average_of = {}

    def __getattr__(self, name):
        return getattr(self.oracle, name)

    @property
    def lr(self):
        return self.oracle.lr

    @lr.setter
    def lr(self, value):
        self.oracle.lr = value

    def update(self, params, grads):
        staged = self.staged(params, grads)
        if isinstance(self.oracle, Adafactor):
            self.oracle.look(params)
        if getattr(self.oracle, "decays", False):  # a rule that has to know
            self.oracle.weight_decay, self.oracle.decoupled = self.weight_decay, self.decoupled
        if self.trust_ratio:
            self.follow(params, staged)
        else:
            if hasattr(self.oracle, "decoupled_decay"):     # part of the rule
                self.oracle.decoupled_decay = self.weight_decay if self.decoupled else 0.0
            elif self.weight_decay and self.decoupled and not getattr(self.oracle, "decays", False):
                for p in params.values():
                    p *= 1.0 - self.oracle.lr * self.weight_decay
            self.oracle.update(params, staged)
        for key, p in params.items():
            if self.constraint is not None and p.size:
                constrained(p, self.constraint)
            if self.average is not None:
                self.average_of[key] += (1.0 - self.average) * (p - self.average_of[key])
            if self.zero_grads:
                grads[key][...] = 0

    def staged(self, params, grads):
        """The gradients that the rule sees."""
        factor = -1.0 if self.maximize else 1.0
        if self.clip_norm is not None:
            norm = global_norm(grads)
            if not norm <= self.clip_norm:
                factor *= self.clip_norm / norm
        staged = {}
        for key, p in params.items():
            g, own = grads[key], 1.0
            if self.clip_norm_per_key is not None:
                norm = global_norm({key: g})
                if not norm <= self.clip_norm_per_key:
                    own = self.clip_norm_per_key / norm
            if factor * own != 1.0:
                g = factor * own * g
            if self.clip_value is not None:
                g = np.clip(g, -self.clip_value, self.clip_value)
            if self.agc is not None and g.size:
                g = clipped_by_unit(g, p, self.agc, 1.0)
            if self.centralize and g.size:
                g = centralized(g)
            if (
                self.weight_decay and not self.decoupled
                and not getattr(self.oracle, "decays", False)
            ):
                g = g + self.weight_decay * p
            staged[key] = g
            if self.average is not None and key not in self.average_of:
                self.average_of[key] = p.copy()
        return staged

    def follow(self, params, staged):
        """Make the steps from zero, and let the parameters follow them, scaled."""
        low, high = self.trust_ratio if isinstance(self.trust_ratio, tuple) else (0.0, math.inf)
        lr = self.oracle.lr
        steps = {key: np.zeros_like(p) for key, p in params.items()}
        if self.weight_decay and self.decoupled:
            steps = {key: -lr * self.weight_decay * p for key, p in params.items()}
            steps = {key: np.asarray(step) for key, step in steps.items()}
        self.oracle.update(steps, staged)
        for key, p in params.items():
            norm_p, norm_step, ratio = tensor_norm(p), tensor_norm(steps[key]), 1.0
            if norm_p != 0 and norm_step != 0 and lr != 0:
                ratio = np.clip(np.float64(norm_p) / (norm_step / lr), low, high).item()
            p += min(ratio, float(np.finfo(p.dtype).max)) * steps[key]


def LAMB(
    lr=0.001, beta1=0.9, beta2=0.999, eps=1e-6, amsgrad=False, eps_corrected=True,
    bias_correction=True, eps_root=0.0, weight_decay=0.01,
):
    adam = AdamW(lr, beta1, beta2, eps, amsgrad, eps_corrected, bias_correction, eps_root, 0.0)
    return Staged(adam, weight_decay=weight_decay, decoupled=True, trust_ratio=True)


class LARS:
    decays = True  # Staged leaves the decay to it

    def __init__(
        self, lr=0.01, alpha=0.9, trust=0.001, eps=0.0, form="published", lookahead=False,
    ):
        self.lr, self.alpha, self.trust, self.eps, self.form = lr, alpha, trust, eps, form
        self.weight_decay, self.decoupled = 0.0, False
        self.v = {}

    def update(self, params, grads):
        l2 = 0.0 if self.decoupled else self.weight_decay
        for key, p in params.items():
            v = state(self.v, key, p)
            g = grads[key] + l2 * p if l2 else grads[key]
            norm_p, norm_g = tensor_norm(p), tensor_norm(g)
            below = norm_g + self.eps
            if self.form == "published":
                norm_g = tensor_norm(grads[key])
                below = norm_g + l2 * norm_p + self.eps
            lr = self.lr
            if self.trust is not None and norm_p != 0 and norm_g != 0:
                lr *= self.trust * np.float64(norm_p).item() / below
            if self.decoupled and self.weight_decay:
                p *= 1.0 - self.lr * self.weight_decay
            v *= self.alpha
            v -= lr * g
            p += v


ORACLES |= {"LAMB": LAMB, "LARS": LARS}

# Oracles of rules for matrices alone.
OF_MATRICES = {"Muon": Muon}
