r"""The rules, in order of complexity.

Each class says what the kernel of the same name cannot: names, defaults, intervals, and the
scalars of step t. The recursions are written with p parameter, g gradient, t = 1, 2, … the number
of this parameter's updates; products of arrays are element by element. State starts at zero unless
the class says otherwise.
"""

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

from fastoptim.kernels.update.factored import Factored
from fastoptim.optimizer.base import Optimizer, Slot
from fastoptim.optimizer.hyperparameters import (
    Choice,
    Epsilon,
    Flag,
    Interval,
    OrNone,
    Steps,
    hyper,
)
from fastoptim.optimizer.lookahead import AtPosition, FlagAndFunction, LookAhead
from fastoptim.optimizer.objective import Function
from fastoptim.optimizer.schedule_free import ScheduleFree
from fastoptim.optimizer.tensor_options import NoTrustRatio, TrustRatio
from fastoptim.optimizer.types import Number, NumberOrNone, Params

RATE = Interval("[0, inf)")
DECAY = Interval("[0, 1)")
SHARE = Interval("[0, 1]")
EPS = Epsilon("[0, inf)")
POSITIVE = Epsilon("(0, inf)")


@dataclass(eq=False, repr=False)
class SGD(Optimizer):
    r"""Gradient descent.

    .. math:: p \leftarrow p - \eta g

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.

    Notes
    -----
    An update is Euler's step of length η along dp/dt = −∇f(p); `RK45` follows the same equation
    with steps of order 5. SGD has no state, so one serves several networks, even under equal keys.

    References
    ----------
    H. Robbins and S. Monro, "A stochastic approximation method", Annals of Mathematical
    Statistics 22 (1951), doi:10.1214/aoms/1177729586.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.SGD(lr=0.015)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    36.022
    25.257
    """

    kernels = {"sgd": ()}
    lr: Number = hyper(0.01, RATE)

    def coefficients(self, t: int) -> tuple[float, ...]:
        return (self.lr,)


@dataclass(eq=False, repr=False)
class Momentum(Optimizer):
    r"""Gradient descent with momentum: a ball that rolls with friction.

    .. math::

        v &\leftarrow \alpha v - \eta g \\
        p &\leftarrow p + v

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    alpha : float in [0, 1], default 0.9
        Share α of the velocity that is kept at each step; with 1 nothing slows it down.
    lookahead : bool, default False
        Let `step` evaluate its function at p + αv, where the velocity is about to carry the
        parameters, instead of at p: Nesterov's gradient as he published it. `update` uses the
        gradients that it is given, so evaluate them at ``opt.lookahead(params)``.

    Attributes
    ----------
    v : mapping of key to array
        Velocity, shaped like the parameter.
    lookahead : callable
        ``opt.lookahead(params)`` returns p + αv as a dict (or a list) of arrays like the
        parameters, in memory that the next call uses again. It is also the flag, true or false.

    Notes
    -----
    Under a constant gradient the steps grow to −ηg/(1 − α): ten times those of `SGD` with α = 0.9.

    The learning rate is inside the velocity, as in Keras, scikit-learn and *Deep Learning from
    Scratch*; in PyTorch it is outside (v ← μv + g, p ← p − ηv). The two agree while η is constant.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4 (1964), doi:10.1016/0041-5553(64)90137-5.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Momentum(lr=0.005, alpha=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    37.002
    23.771
    """

    kernels = {"momentum": ("v",)}
    lr: Number = hyper(0.01, RATE)
    alpha: Number = hyper(0.9, SHARE)
    _: KW_ONLY
    lookahead: FlagAndFunction = hyper(False, Flag())
    v = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.alpha, self.lr

    def loss_and_grads(self, params: "Params", fn: Function) -> tuple[Any, Any]:
        """Return a function's loss and gradients, with `lookahead` those at p + αv.

        The arrays of `params` hold p + αv while `fn` runs, so that it may read them where a
        network keeps them, and p again afterwards, whatever it raises. `fn` must not write them.
        """
        if self.lookahead:
            return AtPosition(self).loss_and_grads(params, fn)
        return super().loss_and_grads(params, fn)


# After the class: a dataclass would take it for the default.
Momentum.lookahead = LookAhead()


@dataclass(eq=False, repr=False)
class LARS(Momentum):
    r"""LARS: momentum with a learning rate for each tensor, made of its norms.

    .. math::

        \eta' &= \eta\,\theta\,\frac{\lVert p\rVert}
                 {\lVert g\rVert + \lambda\lVert p\rVert + \epsilon} \\
        v &\leftarrow \alpha v - \eta' (g + \lambda p) \\
        p &\leftarrow p + v

    Each key's tensor has its own norms, and ‖p‖ is that before the step. Where ‖p‖ or the norm of
    the gradient is 0, η' = η.

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    alpha : float in [0, 1], default 0.9
        Share α of the velocity that is kept at each step.
    trust : float in (0, inf) or None, default 0.001
        θ, the trust coefficient. None makes η' = η, which is for groups of keys such as biases.
    eps : float in [0, inf), default 0.0
        ε. If not 0, at least 1.4e-45.
    form : {"published", "norm_of_sum"}, default "published"
        "published" divides by ‖g‖ + λ‖p‖ + ε, as above; "norm_of_sum" by ‖g + λp‖ + ε, as Optax.
    lookahead : bool, default False
        As for `Momentum`.

    Attributes
    ----------
    v : mapping of key to array
        Velocity, shaped like the parameter.

    Notes
    -----
    λ is `weight_decay`, 0 by default; the paper has 0.0005. With ``decoupled=True`` the rule sees g
    alone, and λ is not in η'. The velocity has η' in it, as in the paper and in Optax; elsewhere
    η multiplies the velocity afterwards, which differs once η changes. The norms cost one pass that
    reads parameters and gradients.

    References
    ----------
    Y. You, I. Gitman and B. Ginsburg, "Large batch training of convolutional networks",
    arXiv:1708.03888 (2017).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.LARS(lr=0.1, trust=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    52.596
    27.802
    """

    trust: NumberOrNone = hyper(0.001, OrNone(POSITIVE))
    eps: Number = hyper(0.0, EPS)
    form: str = hyper("published", Choice(("published", "norm_of_sum")))
    _: KW_ONLY
    trust_ratio: bool | tuple[float, float] = hyper(
        False, NoTrustRatio("LARS scales its gradients already")
    )

    @property
    def norms(self) -> str:  # type: ignore[override]
        return "before decay" if self.form == "published" else "seen"

    def coefficients(self, t: int, norm_p: float = 1.0, norm_g: float = 1.0) -> tuple[float, ...]:
        lr = self.lr
        if self.trust is not None and norm_p != 0.0 and norm_g != 0.0:
            below = norm_g + self.eps
            if self.form == "published" and not self.decoupled:
                below = norm_g + self.weight_decay * norm_p + self.eps
            lr *= self.trust * norm_p / below
        return self.alpha, lr


@dataclass(eq=False, repr=False)
class HeavyBall(Optimizer):
    r"""Momentum with the learning rate outside the velocity, as in PyTorch's SGD.

    .. math::

        v &\leftarrow \mu v + (1-\tau)\,g, \qquad v \leftarrow g \text{ at } t = 1 \\
        p &\leftarrow p - \eta v

    With ``nesterov=True`` the second line is

    .. math:: p \leftarrow p - \eta\,(g + \mu v)

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    mu : float in [0, 1], default 0.9
        Momentum μ.
    dampening : float in [0, 1], default 0.0
        τ. The first step is never dampened, as in PyTorch.
    nesterov : bool, default False
        Step along g + μv instead of v.

    Attributes
    ----------
    v : mapping of key to array
        Velocity, shaped like the parameter.

    Notes
    -----
    While η is constant and τ = 0 this is `Momentum`, and with nesterov `Nesterov`, with a velocity
    of −η times theirs. After a change of η it differs: here the new rate holds for the whole
    velocity at once.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", International Conference on Machine Learning (2013).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.HeavyBall(lr=0.005, mu=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    37.002
    23.771
    """

    kernels = {"heavy_ball": ("v",), "heavy_ball_nesterov": ("v",)}
    lr: Number = hyper(0.01, RATE)
    mu: Number = hyper(0.9, SHARE)
    dampening: Number = hyper(0.0, SHARE)
    nesterov: bool = hyper(False, Flag())
    v = Slot()

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "heavy_ball_nesterov" if self.nesterov else "heavy_ball"

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.mu, 1.0 if t == 1 else 1.0 - self.dampening, self.lr


@dataclass(eq=False, repr=False)
class Nesterov(Optimizer):
    r"""Nesterov's accelerated gradient, with the gradient taken at p.

    With ``form="published"``, the lines for p using the old v:

    .. math::

        p &\leftarrow p + \mu^2 v \\
        p &\leftarrow p - (1+\mu)\,\eta g \\
        v &\leftarrow \mu v - \eta g

    With ``form="listing"``, v first, so that the lines for p see the new v:

    .. math::

        v &\leftarrow \mu v - \eta g \\
        p &\leftarrow p + \mu^2 v \\
        p &\leftarrow p - (1+\mu)\,\eta g

    p is then the point p + μv of Nesterov's own recursion, which takes the gradient there:
    `Momentum` with ``lookahead=True`` keeps the point itself.

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    mu : float in [0, 1], default 0.9
        Momentum μ.
    form : {"published", "listing"}, default "published"
        "published" is equation (7) of the paper below. "listing" is an order of the same lines
        that is found in print (early printings of *Deep Learning from Scratch*); it is another
        recursion, kept so that its numbers can be reproduced.

    Attributes
    ----------
    v : mapping of key to array
        Velocity, shaped like the parameter.

    References
    ----------
    Y. Bengio, N. Boulanger-Lewandowski and R. Pascanu, "Advances in optimizing recurrent
    networks", arXiv:1212.0901 (2012).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Nesterov(lr=0.005, mu=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    27.381
    23.608
    """

    kernels = {"nesterov": ("v",), "nesterov_listing": ("v",)}
    lr: Number = hyper(0.01, RATE)
    mu: Number = hyper(0.9, SHARE)
    form: str = hyper("published", Choice(("published", "listing")))
    v = Slot()

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "nesterov" if self.form == "published" else "nesterov_listing"

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.mu, self.lr, self.mu * self.mu, (1.0 + self.mu) * self.lr


@dataclass(eq=False, repr=False)
class SignSGD(Optimizer):
    r"""SignSGD: a step of one length along the sign of each element's gradient.

    .. math:: p \leftarrow p - \eta\,\mathrm{sign}(g)

    With a momentum μ > 0, which makes it Signum,

    .. math::

        m &\leftarrow \mu m + (1-\mu)\,g \\
        p &\leftarrow p - \eta\,\mathrm{sign}(m)

    Parameters
    ----------
    lr : float in [0, inf), default 1e-4
        Learning rate η: the length of every step.
    momentum : float in [0, 1), default 0.0
        μ; the paper's and Optax' is 0.9.

    Attributes
    ----------
    m : mapping of key to array
        Moving average of the gradients, shaped like the parameter; only with `momentum`.

    Notes
    -----
    sign(0) is 0, and sign(NaN) is NaN. All steps have length η, so η should fall in the end.
    Clipping the norm changes nothing without momentum and weight decay. `Lion` with beta1 = beta2 =
    μ, its decay off, is Signum.

    References
    ----------
    J. Bernstein, Y.-X. Wang, K. Azizzadenesheli and A. Anandkumar, "signSGD: compressed
    optimisation for non-convex problems", algorithms 1 and 2, arXiv:1802.04434 (2018).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.SignSGD(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.040
    """

    kernels = {"sign_sgd": (), "sign_sgd_momentum": ("m",)}
    lr: Number = hyper(1e-4, RATE)
    momentum: Number = hyper(0.0, DECAY)
    m = Slot()

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "sign_sgd_momentum" if self.momentum else "sign_sgd"

    def coefficients(self, t: int) -> tuple[float, ...]:
        momentum = (self.momentum, 1.0 - self.momentum) if self.momentum else ()
        return *momentum, self.lr


@dataclass(eq=False, repr=False)
class ScheduleFreeSGD(ScheduleFree):
    r"""Schedule-free SGD: the average of the steps takes the place of a rate that falls.

    .. math::

        s &= \eta\,(g + \lambda p) \\
        d &\leftarrow d - s \\
        p &\leftarrow p + \beta c_t\,d - (1-\beta)\,s \\
        d &\leftarrow (1-c_t)\,d,
        \qquad c_t = \frac{w_t}{w_1 + \dots + w_t}, \quad w_t = \max(\eta_1, \dots, \eta_t)^2

    d is z − x, where the paper has three points: z, which gradients move; x, the average of all z
    so far, at which to evaluate; and p, its y = (1−β)z + βx, at which to take gradients:

    .. math::

        z &\leftarrow z - \eta\,(g + \lambda y) \\
        x &\leftarrow (1-c_t)\,x + c_t z \\
        y &\leftarrow (1-\beta)\,z + \beta x

    Parameters
    ----------
    lr : float in [0, inf), default 1.0
        Learning rate η. It stays, or rises at the start: ``schedules.linear(0.0, 1.0, 1000)``.
    beta : float in [0, 1], default 0.9
        β, in the place of a momentum: how near to the average gradients are taken. With 0 they are
        taken at z (Polyak's averaging), with 1 at the average itself.
    weight_decay : float in [0, inf), default 0.0
        λ, taken at p, which is y: the rule sees g + λp.
    decoupled : bool, default False
        The rule sees g alone, and ηλp is a part of s that no clipping and no norm sees. The
        parameter itself is never scaled.

    Attributes
    ----------
    d : mapping of key to array
        z − x, shaped like the parameter. z is p + βd, and x is p − (1−β)d.

    Notes
    -----
    The parameters hold y. Evaluate and save them within ``with opt.evaluation(params)``, where
    they hold x. The numbers are those of Optax and of PyTorch's schedulefree, with their default
    powers of the weights, weight_lr_power=2 and r=0. Both keep z and compute x from it, which
    needs β > 0.

    The weights of a rate that rises make its first steps count little. Their sum and the largest
    rate are kept for each key, in saved states, too. Gradients of some rows move these rows' z and
    x alone: a row that is not touched keeps both, and at the next touch c is that of the table's
    updates.

    References
    ----------
    A. Defazio et al., "The road less scheduled", algorithm 1, arXiv:2405.15682 (2024).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.ScheduleFreeSGD(lr=0.012)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    25.814
    23.421
    >>> with opt.evaluation(params):
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    22.698
    """

    kernels = {"schedule_free_sgd": ("d",)}
    beta_name = "beta"
    lr: Number = hyper(1.0, RATE)
    beta: Number = hyper(0.9, SHARE)
    _: KW_ONLY
    trust_ratio: bool | tuple[float, float] = hyper(
        False, NoTrustRatio("a schedule-free rule makes no step that is apart from its parameters")
    )
    d = Slot(not_in_8_bits="it is a difference of parameters")

    def scalars_at(self, t: int, c: float) -> tuple[float, ...]:
        """Return the kernel's scalars, where c is the last step's share in the average."""
        decay = self.lr * self.weight_decay if self.decoupled else 0.0
        return self.lr, decay, 1.0 - self.beta, self.beta * c, c


@dataclass(eq=False, repr=False)
class Lion(Optimizer):
    r"""Lion: the sign of an interpolation between gradient and momentum.

    .. math::

        p &\leftarrow (1 - \eta\lambda)\,p \\
        p &\leftarrow p - \eta\,\mathrm{sign}(\beta_1 m + (1-\beta_1)\,g) \\
        m &\leftarrow \beta_2 m + (1-\beta_2)\,g

    Parameters
    ----------
    lr : float in [0, inf), default 1e-4
        Learning rate η; usually 3 to 10 times smaller than Adam's.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.99
        Share of the momentum in the step, and its decay.
    weight_decay : float in [0, inf), default 1e-3
        λ, decoupled by default (``decoupled=True``): it is part of the published rule. The value
        is Optax'; the paper's code and Keras have 0.

    Attributes
    ----------
    m : mapping of key to array
        Momentum, shaped like the parameter.

    Notes
    -----
    sign(0) is 0, and sign(NaN) is NaN. All steps have length η, so η should fall in the end.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", arXiv:2302.06675 (2023).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Lion(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.496
    55.015
    """

    kernels = {"lion": ("m",)}
    lr: Number = hyper(1e-4, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.99, DECAY)
    _: KW_ONLY
    weight_decay: Number = hyper(1e-3, RATE)
    decoupled: bool = hyper(True, Flag())
    m = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2, self.lr


@dataclass(eq=False, repr=False)
class Rprop(Optimizer):
    r"""Rprop: a step size per element, which grows while its gradient keeps its sign.

    .. math::

        \Delta &\leftarrow \mathrm{clip}(\eta^\pm \Delta,\ \Delta_{min},\ \Delta_{max}), \qquad
            \eta^\pm = \eta^+,\ \eta^-,\ 1 \text{ where } g\,g_{prev} >, <, = 0 \\
        g_{prev} &\leftarrow 0 \text{ where } g\,g_{prev} < 0, \text{ else } g \\
        p &\leftarrow p - \Delta\,\mathrm{sign}(g_{prev})

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Δ at the start. Fresh state is filled with it, so a later change concerns only new keys.
    eta_minus : float in (0, 1), default 0.5
        η⁻, the factor of a step size whose gradient has changed its sign.
    eta_plus : float in (1, inf), default 1.2
        η⁺, the factor of a step size whose gradient has kept its sign.
    step_min, step_max : float in (0, inf), default 1e-6 and 50.0
        Bounds of the step sizes. step_min must not be above step_max.

    Attributes
    ----------
    g_prev : mapping of key to array
        The gradient before, 0 where the sign had changed; shaped like the parameter.
    delta : mapping of key to array
        Step sizes, shaped like the parameter.

    Notes
    -----
    The variant without backtracking (Rprop⁻ with the next adaptation left out), as in PyTorch.
    It is for gradients of the whole data set: with mini-batches the signs are noise. A NaN in the
    gradient makes the parameter NaN and leaves the step size.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", IEEE International Conference on Neural Networks (1993),
    doi:10.1109/ICNN.1993.298623.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Rprop(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    53.268
    """

    kernels = {"rprop": ("g_prev", "delta")}
    lr: Number = hyper(0.01, RATE)
    eta_minus: Number = hyper(0.5, Interval("(0, 1)"))
    eta_plus: Number = hyper(1.2, Interval("(1, inf)"))
    step_min: Number = hyper(1e-6, Interval("(0, inf)"))
    step_max: Number = hyper(50.0, Interval("(0, inf)"))
    g_prev = Slot(not_in_8_bits="its signs say how far to go")
    delta = Slot(start="lr", not_in_8_bits="its steps grow and shrink by factors")

    def coefficients(self, t: int) -> tuple[float, ...]:
        if self.step_min > self.step_max:
            raise ValueError(
                f"step_min must be at most step_max, got {self.step_min} and {self.step_max}"
            )
        return self.eta_minus, self.eta_plus, self.step_min, self.step_max


@dataclass(eq=False, repr=False)
class AdaGrad(Optimizer):
    r"""AdaGrad: each element's steps shrink with the sum of its squared gradients.

    .. math::

        h &\leftarrow h + g^2 \\
        p &\leftarrow p - \frac{\eta_t g}{\sqrt{h + \epsilon_{root}} + \epsilon},
        \qquad \eta_t = \frac{\eta}{1 + (t-1)\,\gamma}

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    eps : float in [0, inf), default 1e-7
        ε, outside the root. If not 0, at least 1.4e-45.
    lr_decay : float in [0, inf), default 0.0
        γ, PyTorch's further decay of the learning rate.
    initial : float in [0, inf), default 0.0
        The number that h starts at: 0 in the paper and in PyTorch, 0.1 in Keras and Optax.
    eps_root : float in [0, inf), default 0.0
        ε_root, inside the root, where Keras and Optax have their ε. If not 0, at least 1.4e-45.

    Attributes
    ----------
    h : mapping of key to array
        Sum of squared gradients, shaped like the parameter.

    Notes
    -----
    h only grows, so the rate η/√h of an element only falls, in a long training to almost nothing.
    `RMSprop` forgets old gradients instead.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", Journal of Machine Learning Research 12 (2011).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.AdaGrad(lr=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    32.750
    21.171
    """

    kernels = {"adagrad": ("h",)}
    lr: Number = hyper(0.01, RATE)
    eps: Number = hyper(1e-7, EPS)
    _: KW_ONLY
    lr_decay: Number = hyper(0.0, RATE)
    initial: Number = hyper(0.0, RATE)
    eps_root: Number = hyper(0.0, EPS)
    h = Slot(start="initial", signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.lr / (1.0 + (t - 1) * self.lr_decay), self.eps, self.eps_root


@dataclass(eq=False, repr=False)
class FTRL(Optimizer):
    r"""FTRL-Proximal: AdaGrad's steps, with an L1 penalty that leaves exact zeros.

    .. math::

        z &\leftarrow z + g - \frac{\sqrt{h + g^2} - \sqrt h}{\eta}\,p \\
        h &\leftarrow h + g^2 \\
        p &\leftarrow \frac{\mathrm{clip}(z, -\lambda_1, \lambda_1) - z}
            {\sqrt h / \eta + 2\lambda_2 + \beta / \eta}, \qquad 0 \text{ where } |z| \le \lambda_1

    Parameters
    ----------
    lr : float in (0, inf), default 0.001
        Learning rate η; at least 1.4e-45. It divides past and new gradients alike, so a rate that
        falls to 0 pulls the parameters to 0. √h takes the place of a schedule.
    initial : float in [0, inf), default 0.1
        The number that h starts at.
    l1, l2 : float in [0, inf), default 0.0
        Penalties λ₁ and λ₂.
    beta : float in [0, inf), default 0.0
        β of the paper, which adds β/η to the denominator.

    Attributes
    ----------
    h : mapping of key to array
        Sum of squared gradients, shaped like the parameter (n in the paper).
    z : mapping of key to array
        Sum of gradients less what the steps have answered, shaped like the parameter.

    Notes
    -----
    As in Keras with learning_rate_power −0.5, the paper's. p is a function of z and h alone, so the
    parameters before the first update count only through `initial`. They usually start at 0.

    With initial, l1, l2 and beta all 0, p becomes infinite where g is not 0 and g² is: in float32
    below 2.6e-23, as a saturated softmax gives it. A beta such as 1e-6 prevents that.

    References
    ----------
    H. B. McMahan et al., "Ad click prediction: a view from the trenches", ACM SIGKDD (2013),
    doi:10.1145/2487575.2488200.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.FTRL(lr=0.5)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    31.197
    19.880
    """

    kernels = {"ftrl": ("h", "z")}
    lr: Number = hyper(0.001, POSITIVE)
    initial: Number = hyper(0.1, RATE)
    l1: Number = hyper(0.0, RATE)
    l2: Number = hyper(0.0, RATE)
    beta: Number = hyper(0.0, RATE)
    _: KW_ONLY
    trust_ratio: bool | tuple[float, float] = hyper(
        False, NoTrustRatio("FTRL sets the parameter from its state, not by a step")
    )
    h = Slot(start="initial", not_in_8_bits="the parameter is a function of h and z")
    z = Slot(not_in_8_bits="the parameter is a function of h and z")

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.lr, self.l1, 2.0 * (self.l2 + self.beta / (2.0 * self.lr))


@dataclass(eq=False, repr=False)
class RMSprop(Optimizer):
    r"""RMSprop: AdaGrad with a moving average in place of the sum.

    .. math::

        h &\leftarrow \rho h \\
        h &\leftarrow h + (1-\rho)\,g g \\
        p &\leftarrow p - \frac{\eta g}{\sqrt{h + \epsilon_{root}} + \epsilon}

    With ``centered=True`` the variance takes the place of h under the root:

    .. math::

        m &\leftarrow m + (1-\rho)(g - m) \\
        p &\leftarrow p - \frac{\eta g}{\sqrt{\max(h - m^2, 0) + \epsilon_{root}} + \epsilon}

    With a momentum μ > 0 the last line becomes, √ being either root,

    .. math::

        v &\leftarrow \mu v + \frac{g}{\sqrt{\cdot} + \epsilon} \\
        p &\leftarrow p - \eta v

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    decay_rate : float in [0, 1), default 0.99
        Decay ρ of the average.
    eps : float in [0, inf), default 1e-7
        ε, outside the root, as in PyTorch. If not 0, at least 1.4e-45.
    centered : bool, default False
        Divide by the root of the gradients' variance.
    momentum : float in [0, 1), default 0.0
        μ, with the learning rate outside the velocity as in PyTorch.
    eps_root : float in [0, inf), default 0.0
        ε_root, inside the root, where Keras and Optax have their ε: write eps=0.0 for their
        numbers. If not 0, at least 1.4e-45.

    Attributes
    ----------
    h : mapping of key to array
        Moving average of the squared gradients, shaped like the parameter.
    m : mapping of key to array
        Moving average of the gradients; only with `centered`.
    v : mapping of key to array
        Velocity; only with `momentum`.

    Notes
    -----
    If the gradient hardly varies, rounding can put h below m². The variance is then 0 (PyTorch has
    NaN).

    References
    ----------
    T. Tieleman and G. Hinton, "Lecture 6.5: rmsprop", COURSERA: Neural Networks for Machine
    Learning (2012).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.RMSprop(lr=0.05, decay_rate=0.9)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    58.882
    49.517
    """

    kernels = {
        "rmsprop": ("h",),
        "rmsprop_momentum": ("h", "v"),
        "rmsprop_centered": ("h", "m"),
        "rmsprop_centered_momentum": ("h", "m", "v"),
    }
    lr: Number = hyper(0.01, RATE)
    decay_rate: Number = hyper(0.99, DECAY)
    eps: Number = hyper(1e-7, EPS)
    _: KW_ONLY
    centered: bool = hyper(False, Flag())
    momentum: Number = hyper(0.0, DECAY)
    eps_root: Number = hyper(0.0, EPS)
    h = Slot(signed=False)
    m = Slot(exact="h − m² would be their rounding errors")
    v = Slot()

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        centered = "_centered" if self.centered else ""
        return f"rmsprop{centered}_momentum" if self.momentum else f"rmsprop{centered}"

    def coefficients(self, t: int) -> tuple[float, ...]:
        momentum = (self.momentum,) if self.momentum else ()
        rho = self.decay_rate
        return rho, 1.0 - rho, self.lr, self.eps, *momentum, self.eps_root


@dataclass(eq=False, repr=False)
class AdaDelta(Optimizer):
    r"""AdaDelta: RMSprop whose learning rate is the size of the steps so far.

    .. math::

        h &\leftarrow \rho h + (1-\rho)\,g^2 \\
        \Delta &= \frac{\sqrt{d + \epsilon}}{\sqrt{h + \epsilon}}\,g \\
        d &\leftarrow \rho d + (1-\rho)\,\Delta^2 \\
        p &\leftarrow p - \eta \Delta

    Parameters
    ----------
    lr : float in [0, inf), default 1.0
        Learning rate η. The paper has none, which is 1.
    rho : float in [0, 1), default 0.9
        Decay ρ of both averages.
    eps : float in (0, inf), default 1e-6
        ε, inside both roots; at least 1.4e-45. The first steps are of the size √ε.

    Attributes
    ----------
    h, d : mapping of key to array
        Moving averages of the squared gradients and of the squared steps, shaped like the
        parameter.

    References
    ----------
    M. D. Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701 (2012).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.AdaDelta(eps=1e-3)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.238
    """

    kernels = {"adadelta": ("h", "d")}
    lr: Number = hyper(1.0, RATE)
    rho: Number = hyper(0.9, DECAY)
    eps: Number = hyper(1e-6, POSITIVE)
    h = Slot(signed=False)
    d = Slot(signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.rho, 1.0 - self.rho, self.lr, self.eps


@dataclass(eq=False, repr=False)
class Adam(Optimizer):
    r"""Adam: momentum and RMSprop together, both averages corrected for their start at zero.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta_t m}{\sqrt{v + \epsilon_{root}} + \epsilon},
        \qquad \eta_t = \eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}

    With ``amsgrad=True`` the largest v so far takes the place of v under the root:

    .. math:: v_{max} \leftarrow \max(v_{max}, v)

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps : float in [0, inf), default 1e-7
        ε, added to the root before the correction: the "epsilon hat" form, given just before
        section 2.1 of the paper and used by Keras, scikit-learn and *Deep Learning from Scratch*.
        If not 0, at least 1.4e-45.
    amsgrad : bool, default False
        AMSGrad, whose steps never grow again. The maximum is over v before its correction, as in
        PyTorch and Keras (Optax corrects first).
    eps_corrected : bool, default False
        Add ε to the root after its correction, as algorithm 1 of the paper, PyTorch, Optax and
        cs231n do: ε√(1−β₂ᵗ) takes the place of ε, and ε_root(1−β₂ᵗ) that of ε_root.
    bias_correction : bool, default True
        False leaves the correction out: η takes the place of η_t, and `eps_corrected` changes
        nothing.
    eps_root : float in [0, inf), default 0.0
        ε_root, inside the root, as in Optax. If not 0, at least 1.4e-45.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.
    v_max : mapping of key to array
        The largest v so far; only with `amsgrad`.

    Notes
    -----
    m and v start at zero, so they are too small at first. If all gradients have one distribution,
    their expectations are 1−β₁ᵗ times that of g and 1−β₂ᵗ times that of g². The bias correction
    divides by these two factors, so the first step has length η. Without it the first step is
    (1−β₁)/√(1−β₂) times as long, 3.2 times with the default decays.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", arXiv:1412.6980 (2014).
    S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", arXiv:1904.09237
    (2018).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Adam(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.074

    Reddi's example has a gradient of 1010 at every 101st step and of −10 at the others. On [−1, 1]
    the sum is smallest at −1, but Adam has forgotten the large one by the next, and drifts to 1;
    with `amsgrad` it heads for −1:

    >>> for amsgrad in (False, True):
    ...     params, opt = {"x": np.zeros(1)}, fo.Adam(beta2=0.99, amsgrad=amsgrad)
    ...     for t in range(1, 10_101):
    ...         opt.lr = 1 / t**0.5
    ...         opt.update(params, {"x": np.array([1010.0 if t % 101 == 1 else -10.0])})
    ...         _ = np.clip(params["x"], -1, 1, out=params["x"])
    ...     print(amsgrad, params["x"].round(1))
    False [1.]
    True [-0.8]
    """

    kernels = {"adam": ("m", "v"), "adam_amsgrad": ("m", "v", "v_max")}
    lr: Number = hyper(0.001, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-7, EPS)
    _: KW_ONLY
    amsgrad: bool = hyper(False, Flag())
    eps_corrected: bool = hyper(False, Flag())
    bias_correction: bool = hyper(True, Flag())
    eps_root: Number = hyper(0.0, EPS)
    m = Slot()
    v = Slot(signed=False)
    v_max = Slot(not_in_8_bits="a maximum of rounded numbers grows by their errors")

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "adam_amsgrad" if self.amsgrad else "adam"

    def coefficients(self, t: int) -> tuple[float, ...]:
        beta1, beta2, lr, eps, eps_root = self.beta1, self.beta2, self.lr, self.eps, self.eps_root
        if self.bias_correction:
            bias2 = 1.0 - beta2**t
            correction = math.sqrt(bias2)
            lr = lr * correction / (1.0 - beta1**t)
            if self.eps_corrected:
                eps, eps_root = eps * correction, eps_root * bias2
        return 1.0 - beta1, 1.0 - beta2, lr, eps, eps_root


@dataclass(eq=False, repr=False)
class AdamW(Adam):
    r"""AdamW: Adam with decoupled weight decay.

    .. math::

        p &\leftarrow (1 - \eta\lambda)\,p \\
        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta_t m}{\sqrt v + \epsilon\sqrt{1-\beta_2^t}},
        \qquad \eta_t = \eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}

    AdamW(lr) is Adam(lr, eps=1e-8, eps_corrected=True, weight_decay=0.01, decoupled=True).

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps : float in [0, inf), default 1e-8
        ε. If not 0, at least 1.4e-45.
    weight_decay : float in [0, inf), default 0.01
        λ. Names and defaults are PyTorch's; Optax has 1e-4 and Keras 0.004.
    amsgrad : bool, default False
        As for `Adam`.
    eps_corrected : bool, default True
        As for `Adam`.
    bias_correction : bool, default True
        As for `Adam`.
    eps_root : float in [0, inf), default 0.0
        As for `Adam`.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.
    v_max : mapping of key to array
        The largest v so far; only with `amsgrad`.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", arXiv:1711.05101 (2017).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.AdamW(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.371
    54.827
    """

    eps: Number = hyper(1e-8, EPS)
    _: KW_ONLY
    eps_corrected: bool = hyper(True, Flag())
    weight_decay: Number = hyper(0.01, RATE)
    decoupled: bool = hyper(True, Flag())


@dataclass(eq=False, repr=False)
class LAMB(AdamW):
    r"""LAMB: AdamW with steps as long as the learning rate times the norm of the parameter.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        r &= \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon} + \lambda p \\
        p &\leftarrow p - \eta\,\frac{\lVert p\rVert}{\lVert r\rVert}\,r

    Each key's tensor has its own norms, and ‖p‖ is that before the step. Where a norm is 0, their
    ratio is 1. LAMB(lr) is AdamW(lr, eps=1e-6, trust_ratio=True).

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps : float in [0, inf), default 1e-6
        ε. If not 0, at least 1.4e-45.
    weight_decay : float in [0, inf), default 0.01
        λ, the paper's; Optax has 0.
    trust_ratio : bool or (float, float), default True
        Bounds, if given, of ‖p‖/‖r‖. The paper bounds ‖p‖ instead. False makes it AdamW, which is
        for groups of keys such as biases.
    amsgrad : bool, default False
        As for `Adam`.
    eps_corrected : bool, default True
        As for `Adam`.
    bias_correction : bool, default True
        As for `Adam`.
    eps_root : float in [0, inf), default 0.0
        As for `Adam`.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.
    v_max : mapping of key to array
        The largest v so far; only with `amsgrad`.

    Notes
    -----
    The step of a key is made first, in memory of its own, and then added to the parameter. That
    memory is as large as the largest key, or 1 MiB if there are keys enough to fill it.

    References
    ----------
    Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
    arXiv:1904.00962 (2019), algorithm 2.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.LAMB(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    42.359
    23.771
    """

    eps: Number = hyper(1e-6, EPS)
    _: KW_ONLY
    trust_ratio: bool | tuple[float, float] = hyper(True, TrustRatio())


@dataclass(eq=False, repr=False)
class AdaMax(Optimizer):
    r"""AdaMax: Adam with a decaying maximum in place of the root of v.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        u &\leftarrow \max(\beta_2 u,\ |g| + \epsilon) \\
        p &\leftarrow p - \frac{\eta_t m}{u}, \qquad \eta_t = \frac{\eta}{1-\beta_1^t}

    Parameters
    ----------
    lr : float in [0, inf), default 0.002
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the average and of the maximum.
    eps : float in [0, inf), default 1e-8
        ε, inside the maximum as in PyTorch and Optax (Keras adds it to u in the division). If
        not 0, at least 1.4e-45.

    Attributes
    ----------
    m, u : mapping of key to array
        Moving average of the gradients and decaying maximum of their sizes, shaped like the
        parameter.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", section 7.1,
    arXiv:1412.6980 (2014).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.AdaMax(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.464
    """

    kernels = {"adamax": ("m", "u")}
    lr: Number = hyper(0.002, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-8, EPS)
    m = Slot()
    u = Slot(signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        return 1.0 - self.beta1, self.beta2, self.lr / (1.0 - self.beta1**t), self.eps


class MomentumProducts:
    """The products μ₁μ₂…μₜ of NAdam's momenta for one β₁ and ψ, kept once they are computed.

    They are multiplied in the order of t, whichever is asked for first. The list is replaced and
    never changed, so several threads may ask. 1 minus a product below 1e-20 is 1, so the list ends
    there.
    """

    def __init__(self, beta1: float, psi: float) -> None:
        self.beta1, self.psi = beta1, psi
        self.known = [1.0]

    def momentum(self, t: int) -> float:
        """Return μₜ."""
        mu: float = self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.psi))
        return mu

    def product(self, t: int) -> float:
        """Return μ₁μ₂…μₜ."""
        known = self.known
        if t >= len(known) and known[-1] > 1e-20:
            known = known.copy()
            for s in range(len(known), 2 * t + 1):
                known.append(known[-1] * self.momentum(s))
                if known[-1] <= 1e-20:
                    break
            self.known = known
        return known[min(t, len(known) - 1)]


momentum_products = lru_cache(maxsize=64)(MomentumProducts)


@dataclass(eq=False, repr=False)
class NAdam(Optimizer):
    r"""NAdam: Adam with Nesterov's momentum, which warms up.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \eta\,\frac{\frac{1-\mu_t}{1-\mu_1\cdots\mu_t}\,g
            + \frac{\mu_{t+1}}{1-\mu_1\cdots\mu_{t+1}}\,m}
            {\sqrt{v / (1-\beta_2^t)} + \epsilon},
        \qquad \mu_t = \beta_1\,(1 - 0.5 \cdot 0.96^{t\psi})

    Parameters
    ----------
    lr : float in [0, inf), default 0.002
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps : float in [0, inf), default 1e-8
        ε, added to the root after its correction. If not 0, at least 1.4e-45.
    psi : float in [0, inf), default 0.004
        ψ, how fast the momentum μ rises from β₁/2 to β₁: PyTorch's momentum_decay. Keras has 1.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.

    Notes
    -----
    √(1−β₂ᵗ) is multiplied into the three scalars, so v is not divided. The products of μ have the
    present β₁ and ψ in every factor. PyTorch's are the same, because there they cannot change.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop (2016).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.NAdam(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    63.948
    56.819
    """

    kernels = {"nadam": ("m", "v")}
    lr: Number = hyper(0.002, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-8, EPS)
    psi: Number = hyper(0.004, RATE)
    m = Slot()
    v = Slot(signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.scalars_at(t, momentum_products(self.beta1, self.psi).product(t))

    def scalars_at(self, t: int, product: float) -> tuple[float, ...]:
        """Return the kernel's scalars, where `product` is that of all momenta up to t."""
        products = momentum_products(self.beta1, self.psi)
        mu, mu_next = products.momentum(t), products.momentum(t + 1)
        lr_t = self.lr * math.sqrt(1.0 - self.beta2**t)
        return (
            1.0 - self.beta1,
            1.0 - self.beta2,
            lr_t * (1.0 - mu) / (1.0 - product),
            lr_t * mu_next / (1.0 - product * mu_next),
            self.eps * math.sqrt(1.0 - self.beta2**t),
        )


@dataclass(eq=False, repr=False)
class RAdam(Optimizer):
    r"""RAdam: Adam that is plain momentum until its v has seen enough gradients.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta}{1-\beta_1^t}\,m\ \cdot
        \begin{cases}
            r_t\,\sqrt{1-\beta_2^t} \,/\, (\sqrt v + \epsilon) & \text{if } \rho_t > 5 \\
            1 & \text{else}
        \end{cases} \\
        \rho_t &= \rho_\infty - \frac{2 t \beta_2^t}{1-\beta_2^t}, \qquad
        \rho_\infty = \frac{2}{1-\beta_2} - 1, \qquad
        r_t = \sqrt{\frac{(\rho_t-4)(\rho_t-2)\,\rho_\infty}
            {(\rho_\infty-4)(\rho_\infty-2)\,\rho_t}}

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages. With these values the sixth step is the first that is adapted.
    eps : float in [0, inf), default 1e-8
        ε, added to the root before the correction, as in PyTorch. If not 0, at least 1.4e-45.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.

    References
    ----------
    L. Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv:1908.03265
    (2019).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.RAdam(lr=0.005)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    37.002
    24.878
    """

    kernels = {"radam": ("m", "v")}
    lr: Number = hyper(0.001, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-8, EPS)
    m = Slot()
    v = Slot(signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        lr_t = self.lr / (1.0 - self.beta1**t)
        correction = 1.0 - self.beta2**t
        most = 2.0 / (1.0 - self.beta2) - 1.0
        rho = most - 2.0 * t * self.beta2**t / correction
        rectified = rho > 5.0
        if rectified:
            r = math.sqrt((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho))
            lr_t *= math.sqrt(correction) * r
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, self.eps, float(rectified)


@dataclass(eq=False, repr=False)
class AdaBelief(Optimizer):
    r"""AdaBelief: Adam whose v is the variance of the gradient around m.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)((g-m)^2 - v) + \epsilon_{root} \\
        p &\leftarrow p - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps, eps_root : float in [0, inf), default 1e-16
        ε is added to the corrected root, ε_root to v at every step, as in Optax. If not 0, at least
        1.4e-45.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squared distance from m, shaped like the
        parameter (v is s in the paper).

    Notes
    -----
    √(1−β₂ᵗ) is multiplied into η and ε, so v is not divided.

    References
    ----------
    J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
    gradients", arXiv:2010.07468 (2020).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.AdaBelief(lr=0.05)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    69.046
    63.138
    """

    kernels = {"adabelief": ("m", "v")}
    lr: Number = hyper(0.001, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-16, EPS)
    eps_root: Number = hyper(1e-16, EPS)
    m = Slot()
    v = Slot(signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        correction = math.sqrt(1.0 - self.beta2**t)
        lr_t = self.lr * correction / (1.0 - self.beta1**t)
        eps = self.eps * correction
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, eps, self.eps_root


@dataclass(eq=False, repr=False)
class Yogi(Optimizer):
    r"""Yogi: Adam whose v moves by a share of g² alone, however far away g² is.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v - (1-\beta_2)\,\mathrm{sign}(v - g^2)\,g^2 \\
        p &\leftarrow p - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of m, and 1 minus the share of g² by which v moves.
    eps : float in [0, inf), default 1e-3
        ε, added to the corrected root. If not 0, at least 1.4e-45.
    initial : float in [0, inf), default 1e-6
        The number that m and v start at.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving average of the gradients, and what follows their squares, shaped like the parameter.

    Notes
    -----
    Adam forgets a v that is larger than g² by the factor β₂ at each step. Here it falls by (1−β₂)g²
    only, so steps grow slowly again after large gradients.

    As in Optax and torch_optimizer, which correct for a start at zero though m and v start at
    `initial`. The paper's algorithm 2 has no correction. TensorFlow Addons starts m at 0 and adds
    its ε to the root before the correction. Keras has no Yogi.

    √(1−β₂ᵗ) is multiplied into η and ε, so v is not divided.

    References
    ----------
    M. Zaheer, S. J. Reddi, D. Sachan, S. Kale and S. Kumar, "Adaptive methods for nonconvex
    optimization", Advances in Neural Information Processing Systems 31 (2018).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Yogi(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.076
    """

    kernels = {"yogi": ("m", "v")}
    lr: Number = hyper(0.01, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-3, EPS)
    _: KW_ONLY
    initial: Number = hyper(1e-6, RATE)
    m = Slot(start="initial")
    v = Slot(start="initial", signed=False)

    def coefficients(self, t: int) -> tuple[float, ...]:
        correction = math.sqrt(1.0 - self.beta2**t)
        lr_t = self.lr * correction / (1.0 - self.beta1**t)
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, self.eps * correction


@dataclass(eq=False, repr=False)
class Adan(Optimizer):
    r"""Adan: Adam with Nesterov's momentum, by the change of the gradient.

    .. math::

        \Delta &= g - g_{prev}, \qquad 0 \text{ at } t = 1; \qquad g_{prev} \leftarrow g \\
        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(\Delta - v) \\
        h &\leftarrow h + (1-\beta_3)\,((g + \beta_2\Delta)^2 - h) \\
        p &\leftarrow (1 - \eta\lambda)\,p \\
        p &\leftarrow p - \eta\,\frac{m / (1-\beta_1^t) + \beta_2\,v / (1-\beta_2^t)}
            {\sqrt{h / (1-\beta_3^t)} + \epsilon}

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2, beta3 : float in [0, 1), default 0.98, 0.92 and 0.99
        Decay of the averages of the gradients, of their changes and of the squares. The paper
        writes 1−β for each of them.
    eps : float in [0, inf), default 1e-8
        ε, added to the corrected root. If not 0, at least 1.4e-45.
    weight_decay : float in [0, inf), default 0.0
        λ, decoupled by default (``decoupled=True``).

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their changes, shaped like the parameter.
    h : mapping of key to array
        Moving average of the squares of g + β₂Δ (n in the paper).
    g_prev : mapping of key to array
        The gradient before.

    Notes
    -----
    The numbers are those of the authors' code with ``no_prox=True``; by default that code applies
    the decay as p ← p/(1 + ηλ) after the step, which is the paper's. The corrections by 1−βᵗ are
    the code's; the paper starts m and h at g and g² instead.

    Optax (0.2.8) has 1−β₂ where the paper, whose β₂ is 1 minus this one, and the authors' code
    have β₂: at 0.92 its weight of the gradient's change is 0.08 instead of 0.92. It also has an ε
    of 1e-8 inside the root. The two agree at β₂ = 0.5, with its eps_root 0.

    √(1−β₃ᵗ) is multiplied into η and ε, so h is not divided.

    References
    ----------
    X. Xie, P. Zhou, H. Li, Z. Lin and S. Yan, "Adan: adaptive Nesterov momentum algorithm for
    faster optimizing deep models", arXiv:2208.06677 (2022).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Adan(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.102
    """

    kernels = {"adan": ("m", "v", "h", "g_prev")}
    lr: Number = hyper(0.001, RATE)
    beta1: Number = hyper(0.98, DECAY)
    beta2: Number = hyper(0.92, DECAY)
    beta3: Number = hyper(0.99, DECAY)
    eps: Number = hyper(1e-8, EPS)
    _: KW_ONLY
    decoupled: bool = hyper(True, Flag())
    m = Slot()
    v = Slot()
    h = Slot(signed=False)
    g_prev = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        correction = math.sqrt(1.0 - self.beta3**t)
        lr_t = self.lr * correction
        return (
            1.0 - self.beta1,
            1.0 - self.beta2,
            self.beta2,
            1.0 - self.beta3,
            lr_t / (1.0 - self.beta1**t),
            lr_t * self.beta2 / (1.0 - self.beta2**t),
            self.eps * correction,
            float(t > 1),
        )


@dataclass(eq=False, repr=False)
class ScheduleFreeAdamW(ScheduleFree):
    r"""Schedule-free AdamW: Adam's steps without momentum, and their average in its place.

    .. math::

        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        s &= \frac{\eta g}{\sqrt{v / (1-\beta_2^t)} + \epsilon} + \eta\lambda p \\
        d &\leftarrow d - s \\
        p &\leftarrow p + \beta_1 c_t\,d - (1-\beta_1)\,s \\
        d &\leftarrow (1-c_t)\,d,
        \qquad c_t = \frac{w_t}{w_1 + \dots + w_t}, \quad w_t = \max(\eta_1, \dots, \eta_t)^2

    The last three lines are those of `ScheduleFreeSGD`, which says what d is, and where to
    evaluate.

    Parameters
    ----------
    lr : float in [0, inf), default 0.0025
        Learning rate η. It stays, or rises at the start: ``schedules.linear(0.0, 0.0025, 1000)``.
    beta1 : float in [0, 1], default 0.9
        How near to the average gradients are taken.
    beta2 : float in [0, 1), default 0.999
        Decay of the average of squares.
    eps : float in [0, inf), default 1e-8
        ε, added to the corrected root. If not 0, at least 1.4e-45.
    weight_decay : float in [0, inf), default 0.0
        λ, taken at p, which is y, as in PyTorch's schedulefree and Optax.
    decoupled : bool, default True
        ηλp is a part of s, as above; the parameter itself is never scaled. With False the rule
        sees g + λp.

    Attributes
    ----------
    v : mapping of key to array
        Moving average of the squared gradients, shaped like the parameter.
    d : mapping of key to array
        z − x, shaped like the parameter. z is p + β₁d, and x is p − (1−β₁)d.

    Notes
    -----
    The numbers are those of Optax and of newer versions of the authors' code for PyTorch. The
    paper, and older versions of that code, multiply η by √(1−β₂ᵗ) and add ε to the uncorrected
    root, so the correction is also in their weights and in their decay.

    √(1−β₂ᵗ) is multiplied into the η and the ε of the fraction, so v is not divided.

    References
    ----------
    A. Defazio et al., "The road less scheduled", algorithm 1, arXiv:2405.15682 (2024).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.ScheduleFreeAdamW(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    59.432
    >>> with opt.evaluation(params):
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    55.544
    """

    kernels = {"schedule_free_adamw": ("v", "d")}
    lr: Number = hyper(0.0025, RATE)
    beta1: Number = hyper(0.9, SHARE)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-8, EPS)
    _: KW_ONLY
    trust_ratio: bool | tuple[float, float] = hyper(
        False, NoTrustRatio("a schedule-free rule makes no step that is apart from its parameters")
    )
    decoupled: bool = hyper(True, Flag())
    v = Slot(signed=False)
    d = Slot(not_in_8_bits="it is a difference of parameters")

    def scalars_at(self, t: int, c: float) -> tuple[float, ...]:
        """Return the kernel's scalars, where c is the last step's share in the average."""
        correction = math.sqrt(1.0 - self.beta2**t)
        return (
            1.0 - self.beta2,
            self.lr * correction,
            self.eps * correction,
            self.lr * self.weight_decay if self.decoupled else 0.0,
            1.0 - self.beta1,
            self.beta1 * c,
            c,
        )


@dataclass(eq=False, repr=False)
class Adafactor(Optimizer):
    r"""Adafactor: RMSprop whose second moment of a matrix is kept as two vectors.

    For a matrix of n rows and k columns, with the means over a row's and a column's elements:

    .. math::

        r_i &\leftarrow \beta_{2t} r_i
        + (1-\beta_{2t}) \Big(\frac1k \sum_j g_{ij}^2 + \epsilon_1\Big) \\
        c_j &\leftarrow \beta_{2t} c_j
        + (1-\beta_{2t}) \Big(\frac1n \sum_i g_{ij}^2 + \epsilon_1\Big) \\
        u_{ij} &= \sqrt{\frac{\bar r}{r_i}}\; g_{ij}\, \frac{1}{\sqrt{c_j}},
        \qquad \bar r = \frac1n \sum_i r_i \\
        p &\leftarrow p - \alpha_t u

    For a vector the second moment is kept whole:

    .. math::

        v \leftarrow \beta_{2t} v + (1-\beta_{2t}) (g^2 + \epsilon_1), \qquad u = \frac{g}{\sqrt v}

    The step has a length in proportion to the parameter's, and is shortened if it is too long:

    .. math::

        \alpha_t = \frac{\rho_t \max(\epsilon_2, \mathrm{RMS}(p))}{\max(1, \mathrm{RMS}(u)/d)},
        \qquad \rho_t = \min(\eta, 1/\sqrt t), \qquad \beta_{2t} = 1 - t^{-\gamma}

    With a momentum β₁ > 0 the last line of an update becomes

    .. math::

        m &\leftarrow \beta_1 m + (1-\beta_1)\,\alpha_t u \\
        p &\leftarrow p - m

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η, relative to the size of p.
    decay_rate : float in [0, 1], default 0.8
        γ: how fast the decay β₂ₜ of the second moment comes near 1. It is 0 at a parameter's first
        update, so no bias is to be corrected.
    d : float in (0, inf) or None, default 1.0
        The largest RMS of u; None leaves the steps as long as they are.
    eps1 : float in (0, inf), default 1e-30
        ε₁, added to every square; at least 1.4e-45.
    eps2 : float in [0, inf), default 1e-3
        ε₂, the smallest size that a parameter is taken to have; one that starts at zero would
        stay there with 0.
    beta1 : float in [0, 1), default 0.0
        β₁. With a momentum there is another array as large as the parameter.
    relative_step : bool, default True
        False: ρₜ is η itself, as in Optax.
    scale_parameter : bool, default True
        False: the step's length does not depend on the parameter's, 1 takes the place of the
        maximum in αₜ.
    factor_from : int of at least 0, default 2
        The two vectors take the place of v where both sizes of the matrix are at least this.
        Optax has 128.
    decoupled : bool, default True
        As in PyTorch and Optax; the size of p in αₜ is that before the decay.

    Attributes
    ----------
    r : mapping of key to array
        Moving average of the rows' mean squares, of shape (…, n) for a parameter of shape
        (…, n, k).
    c : mapping of key to array
        Moving average of the columns' mean squares, of shape (…, k).
    v : mapping of key to array
        Moving average of the squared gradients, shaped like the parameter; only where there are no
        r and c.
    m : mapping of key to array
        Momentum of the steps, shaped like the parameter; only with `beta1`.

    Notes
    -----
    The matrix is made of the last two axes, and each of those that the other axes count has its own
    r and c; α is the whole parameter's. So it is in PyTorch; Optax takes the two longest axes.
    PyTorch has a smallest v in the place of ε₁ (the square of its eps[0]); the numbers are the same
    where the squares of gradients are far above both.

    RMS is the root of the mean square. The sums are of doubles in a fixed order, so the number of
    threads and the arrays' layout change no bit. An update reads the gradient three times and the
    parameter twice.

    A gradient of some rows (`Rows`, a sparse array) is refused: the means are over whole tensors.

    References
    ----------
    N. Shazeer and M. Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
    arXiv:1804.04235 (2018); the numbers of its algorithm 6 are the defaults.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = fo.Adafactor(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    41.969
    25.832

    A matrix of 1000 rows and 400 columns has 1,400 numbers of state in the place of 400,000:

    >>> params = {"W": np.ones((1000, 400), np.float32), "b": np.ones(400, np.float32)}
    >>> opt = fo.Adafactor()
    >>> opt.update(params, {key: np.ones_like(p) for key, p in params.items()})
    >>> opt.r["W"].shape, opt.c["W"].shape, opt.v["b"].shape
    ((1000,), (400,), (400,))
    """

    kernels = {"adafactor": ("v",), "adafactor_momentum": ("v", "m")}
    factored = {"adafactor": ("r", "c"), "adafactor_momentum": ("r", "c", "m")}
    lr: Number = hyper(0.01, RATE)
    decay_rate: Number = hyper(0.8, SHARE)
    d: NumberOrNone = hyper(1.0, OrNone(Interval("(0, inf)")))
    eps1: Number = hyper(1e-30, POSITIVE)
    eps2: Number = hyper(1e-3, RATE)
    beta1: Number = hyper(0.0, DECAY)
    _: KW_ONLY
    relative_step: bool = hyper(True, Flag())
    scale_parameter: bool = hyper(True, Flag())
    factor_from: int = hyper(2, Steps())
    decoupled: bool = hyper(True, Flag())
    r = Slot(whole=True)
    c = Slot(whole=True)
    v = Slot(signed=False)
    m = Slot()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prelude", Factored())

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "adafactor_momentum" if self.beta1 else "adafactor"

    def coefficients(self, t: int) -> tuple[float, ...]:
        one_minus_beta2 = t**-self.decay_rate
        rho = min(self.lr, 1.0 / math.sqrt(t)) if self.relative_step else self.lr
        beta2 = 1.0 - one_minus_beta2
        if self.beta1:
            return beta2, one_minus_beta2, self.eps1, self.beta1, (1.0 - self.beta1) * rho
        return beta2, one_minus_beta2, self.eps1, rho
