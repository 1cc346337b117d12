r"""The rules, in order of complexity.

Each class says what the kernel of the same name cannot: names, defaults, intervals, and the
scalars of step t. The recursions are written with p parameter, g gradient, t = 1, 2, … the number
of this parameter's updates; products of arrays are element by element. State starts at zero.
"""

import math
from dataclasses import dataclass
from typing import Any

from fastoptim.base import Arrays, Number, Optimizer, Slot
from fastoptim.closure import Function, loss_and_grads
from fastoptim.hyperparameters import Choice, Epsilon, Flag, Interval, hyper
from fastoptim.lookahead import LookAhead

RATE = Interval("[0, inf)")
DECAY = Interval("[0, 1)")
EPS = Epsilon("[0, inf)")


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
    Without state, one SGD serves several networks, even under the same keys.

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
    alpha : float in [0, 1), default 0.9
        Share of the velocity that is kept at each step.
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
    alpha: Number = hyper(0.9, DECAY)
    lookahead: Any = hyper(False, Flag(), kw_only=True)
    v = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.alpha, self.lr

    def step(self, params: Arrays, fn: Function) -> Any:
        """Evaluate a function, with `lookahead` at p + αv, and update with its gradients.

        See `Optimizer.step`.
        """
        if not self.lookahead:
            return super().step(params, fn)
        loss, grads = loss_and_grads(fn(self.lookahead(params)))
        self.update(params, grads)
        return loss


# After the class: a dataclass would take it for the default.
Momentum.lookahead = LookAhead()


@dataclass(eq=False, repr=False)
class Nesterov(Optimizer):
    r"""Nesterov's accelerated gradient, with the gradient taken at p.

    With ``form="published"``, the right-hand sides using the old v:

    .. math::

        p &\leftarrow p + (\mu^2 v - (1+\mu)\,\eta g) \\
        v &\leftarrow \mu v - \eta g

    With ``form="listing"``, v first, so that the lines for p see the new v:

    .. math::

        v &\leftarrow \mu v - \eta g \\
        p &\leftarrow p + \mu^2 v \\
        p &\leftarrow p - (1+\mu)\,\eta g

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    mu : float in [0, 1), default 0.9
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
    mu: Number = hyper(0.9, DECAY)
    form: str = hyper("published", Choice(("published", "listing")))
    v = Slot()

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return "nesterov" if self.form == "published" else "nesterov_listing"

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.mu, self.lr, self.mu * self.mu, (1.0 + self.mu) * self.lr


@dataclass(eq=False, repr=False)
class AdaGrad(Optimizer):
    r"""AdaGrad: each element's steps shrink with the sum of its squared gradients.

    .. math::

        h &\leftarrow h + g^2 \\
        p &\leftarrow p - \frac{\eta g}{\sqrt h + \epsilon}

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    eps : float in [0, inf), default 1e-7
        ε, outside the root. If not 0, at least 1.4e-45.

    Attributes
    ----------
    h : mapping of key to array
        Sum of squared gradients, shaped like the parameter.

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
    h = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.lr, self.eps


@dataclass(eq=False, repr=False)
class RMSprop(Optimizer):
    r"""RMSprop: AdaGrad with a moving average in place of the sum.

    .. math::

        h &\leftarrow \rho h \\
        h &\leftarrow h + (1-\rho)\,g g \\
        p &\leftarrow p - \frac{\eta g}{\sqrt h + \epsilon}

    Parameters
    ----------
    lr : float in [0, inf), default 0.01
        Learning rate η.
    decay_rate : float in [0, 1), default 0.99
        Decay ρ of the average.
    eps : float in [0, inf), default 1e-7
        ε, outside the root (as in PyTorch; Keras and Optax have it inside). If not 0, at least
        1.4e-45.

    Attributes
    ----------
    h : mapping of key to array
        Moving average of the squared gradients, shaped like the parameter.

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

    kernels = {"rmsprop": ("h",)}
    lr: Number = hyper(0.01, RATE)
    decay_rate: Number = hyper(0.99, DECAY)
    eps: Number = hyper(1e-7, EPS)
    h = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        return self.decay_rate, 1.0 - self.decay_rate, self.lr, self.eps


@dataclass(eq=False, repr=False)
class Adam(Optimizer):
    r"""Adam: momentum and RMSprop together, both averages corrected for their start at zero.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta_t m}{\sqrt v + \epsilon},
        \qquad \eta_t = \eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
        Decay of the two averages.
    eps : float in [0, inf), default 1e-7
        ε, added to the root before the correction: the "epsilon hat" form, given just before
        section 2.1 of the paper and used by Keras, scikit-learn and *Deep Learning from Scratch*.
        PyTorch adds its ε after the correction. If not 0, at least 1.4e-45.

    Attributes
    ----------
    m, v : mapping of key to array
        Moving averages of the gradients and of their squares, shaped like the parameter.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", arXiv:1412.6980 (2014).

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
    """

    kernels = {"adam": ("m", "v")}
    lr: Number = hyper(0.001, RATE)
    beta1: Number = hyper(0.9, DECAY)
    beta2: Number = hyper(0.999, DECAY)
    eps: Number = hyper(1e-7, EPS)
    m = Slot()
    v = Slot()

    def coefficients(self, t: int) -> tuple[float, ...]:
        lr_t = self.lr * math.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t)
        return 1.0 - self.beta1, 1.0 - self.beta2, lr_t, self.eps
