"""The classes of torch.optim: their arguments, in fastoptim's rules; their state's names."""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from fastoptim import rules
from fastoptim.optimizer.base import Optimizer
from fastoptim.torch import rules as own
from fastoptim.torch.states import Form
from fastoptim.torch.stepped import Stepped
from fastoptim.torch.work import number

Group = Mapping[str, Any]

# What most classes have, under the names of both.
DECAY = ("weight_decay", "maximize")
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}


def numbers(group: Group, **names: str) -> dict[str, Any]:
    """Return hyperparameters by our names, each with what PyTorch's has in its group."""
    return {ours: number(group[theirs]) for ours, theirs in names.items()}


def betas(group: Group) -> dict[str, Any]:
    """Return the two decays of a rule with moments."""
    beta1, beta2 = group["betas"]
    return {"beta1": number(beta1), "beta2": number(beta2)}


class SGD(Stepped, torch.optim.SGD):
    r"""SGD, with momentum or without: `fastoptim.SGD` and `fastoptim.HeavyBall`.

    .. math::

        v &\leftarrow \mu v + (1-\tau)\,g, \qquad v \leftarrow g \text{ at first} \\
        p &\leftarrow p - \eta v

    With ``nesterov=True`` the step is along g + μv, and without momentum along g.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-3
        Learning rate η.
    momentum : float in [0, 1], default 0
        μ.
    dampening : float in [0, 1], default 0
        τ; the first gradient that a parameter's momentum gets is not dampened.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    nesterov : bool, default False
        Needs a momentum, and no dampening.
    maximize : bool, default False
        Go along the gradient instead of against it.
    foreach, fused : bool, optional
        How PyTorch would make the step: hints, for which nothing changes here.
    differentiable : bool, default False
        True is refused: a step is made outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``momentum_buffer`` is v; without momentum there is none, and PyTorch counts no steps.
    The state of half types is float32.

    A sparse gradient moves its rows alone. With momentum all rows move that ever had one, so it is
    made dense. With weight decay it is refused.

    References
    ----------
    The papers are those of `fastoptim.SGD` and `fastoptim.HeavyBall`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import SGD
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = SGD([x], lr=0.005, momentum=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    37.00
    23.77
    """

    form = Form({"v": "momentum_buffer"}, step=None)
    followed = ("lr", "momentum", "dampening", "nesterov", *DECAY)
    sparse = "rows"

    def new_rule(self) -> Optimizer:
        return own.SGD()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", mu="momentum", dampening="dampening", nesterov="nesterov",
            weight_decay="weight_decay", maximize="maximize",
        )

    def counts_anew(self, rule: Any, changed: Group) -> bool:
        return bool(changed.get("mu")) and not rule.mu  # the first update is not dampened


class Adam(Stepped, torch.optim.Adam):
    r"""Adam: `fastoptim.Adam` with ``eps_corrected=True``.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta}{1-\beta_1^t}\,\frac{m}{\sqrt{v / (1-\beta_2^t)} + \epsilon}

    With ``amsgrad=True`` the largest v so far takes the place of v.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-3
        Learning rate η.
    betas : tuple of two floats or tensors, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, added to the root.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    amsgrad : bool, default False
        Use the largest v.
    foreach, fused : bool, optional
        How PyTorch would make the step: hints, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.
    decoupled_weight_decay : bool, default False
        Let p ← (1 − ηλ) p come before the update instead.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, ``exp_avg`` is m, ``exp_avg_sq`` is v, and ``max_exp_avg_sq`` the largest v.
    The state of half types is float32.

    With `amsgrad` turned on while training, the maximum begins with the v of then; PyTorch's step
    raises KeyError.

    References
    ----------
    The papers are those of `fastoptim.Adam`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Adam
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Adam([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    32.75
    16.07
    """

    form = Form(MOMENTS)
    followed = ("lr", "betas", "eps", "amsgrad", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.Adam(eps_corrected=True)

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", amsgrad="amsgrad", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class AdamW(Adam, torch.optim.AdamW):
    r"""AdamW: `fastoptim.AdamW`, which is Adam with decoupled weight decay.

    .. math::

        p \leftarrow (1 - \eta\lambda)\,p

    comes before the update of `Adam`. An `AdamW` is an `Adam`, as in PyTorch.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-3
        Learning rate η.
    betas : tuple of two floats or tensors, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, added to the root.
    weight_decay : float, default 1e-2
        λ; see above.
    amsgrad : bool, default False
        Use the largest v.
    maximize : bool, default False
        Go along the gradient instead of against it.
    foreach, fused : bool, optional
        How PyTorch would make the step: hints, for which nothing changes here.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    As of `Adam`.

    References
    ----------
    The papers are those of `fastoptim.AdamW`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import AdamW
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = AdamW([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    32.28
    15.68
    """


class NAdam(Stepped, torch.optim.NAdam):
    r"""NAdam, Adam with Nesterov's momentum: `fastoptim.NAdam`.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \eta\,\frac{\frac{1-\mu_t}{1-\mu_1\cdots\mu_t}\,g
            + \frac{\mu_{t+1}}{1-\mu_1\cdots\mu_{t+1}}\,m}
            {\sqrt{v / (1-\beta_2^t)} + \epsilon},
        \qquad \mu_t = \beta_1\,(1 - 0.5 \cdot 0.96^{t\psi})

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 2e-3
        Learning rate η.
    betas : tuple of two floats, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, added to the root.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    momentum_decay : float, default 4e-3
        ψ.
    decoupled_weight_decay : bool, default False
        Let p ← (1 − ηλ) p come before the update instead.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, ``exp_avg`` is m, ``exp_avg_sq`` is v, and ``mu_product`` is μ₁⋯μₜ.
    The state of half types is float32.

    If β₁ changes while training, the product is of the momenta that there were, as in PyTorch.

    References
    ----------
    The papers are those of `fastoptim.NAdam`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import NAdam
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = NAdam([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    31.13
    19.23
    """

    form = Form(MOMENTS, carried="mu_product")
    followed = ("lr", "betas", "eps", "momentum_decay", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return own.CarryingNAdam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", psi="momentum_decay", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class RAdam(Stepped, torch.optim.RAdam):
    r"""RAdam, Adam that is plain momentum at first: `fastoptim.RAdam`.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \frac{\eta}{1-\beta_1^t}\,m\ \cdot
        \begin{cases}
            r_t\,\sqrt{1-\beta_2^t} \,/\, (\sqrt v + \epsilon) & \text{if } \rho_t > 5 \\
            1 & \text{else}
        \end{cases}

    `fastoptim.RAdam` says what ρₜ and rₜ are.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-3
        Learning rate η.
    betas : tuple of two floats, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, added to the root.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    decoupled_weight_decay : bool, default False
        Let p ← (1 − ηλ) p come before the update instead.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, ``exp_avg`` is m and ``exp_avg_sq`` is v.
    The state of half types is float32.

    References
    ----------
    The papers are those of `fastoptim.RAdam`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import RAdam
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = RAdam([x], lr=0.005)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    37.00
    24.88
    """

    form = Form(MOMENTS)
    followed = ("lr", "betas", "eps", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.RAdam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class Adamax(Stepped, torch.optim.Adamax):
    r"""Adamax, Adam with a decaying maximum: `fastoptim.AdaMax`.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        u &\leftarrow \max(\beta_2 u,\ |g| + \epsilon) \\
        p &\leftarrow p - \frac{\eta}{1-\beta_1^t}\,\frac{m}{u}

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 2e-3
        Learning rate η.
    betas : tuple of two floats, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, added to each absolute value.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, ``exp_avg`` is m and ``exp_inf`` is u.
    The state of half types is float32.

    References
    ----------
    The papers are those of `fastoptim.AdaMax`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Adamax
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Adamax([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    32.75
    17.07
    """

    form = Form({"m": "exp_avg", "u": "exp_inf"})
    followed = ("lr", "betas", "eps", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.AdaMax()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", weight_decay="weight_decay", maximize="maximize"
        )


class Adagrad(Stepped, torch.optim.Adagrad):
    r"""Adagrad, steps that shrink with all squared gradients: `fastoptim.AdaGrad`.

    .. math::

        h &\leftarrow h + g^2 \\
        p &\leftarrow p - \frac{\eta}{1 + (t-1)\,\gamma}\,\frac{g}{\sqrt h + \epsilon}

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-2
        Learning rate η.
    lr_decay : float, default 0
        γ.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    initial_accumulator_value : float, default 0
        What h starts at, in all groups: one that has another value is refused.
    eps : float, default 1e-10
        ε, added to the root.
    foreach, fused : bool, optional
        How PyTorch would make the step: hints, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.
    differentiable : bool, default False
        True is refused: a step is made outside of autograd.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t and ``sum`` is h; they are there from the beginning, as in PyTorch.
    The state of half types is float32.

    A sparse gradient updates its rows alone, and all rows have the t of their parameter. With
    weight decay it is refused. `share_memory` is refused: the state is in this process's memory.

    References
    ----------
    The papers are those of `fastoptim.AdaGrad`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Adagrad
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Adagrad([x], lr=1.0)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    16.00
    11.39
    """

    form = Form({"h": "sum"})
    followed = ("lr", "lr_decay", "eps", *DECAY)
    sparse = "rows"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            start = self.defaults["initial_accumulator_value"]
            own = param_group.get("initial_accumulator_value", start)
            if own != start:
                raise ValueError(
                    f"initial_accumulator_value={own!r} in a group: PyTorch's Adagrad starts all "
                    f"parameters with the constructor's, {start!r}; give it there"
                )
        super().add_param_group(param_group)

    @functools.wraps(torch.optim.Adagrad.__init__)  # type: ignore[misc, unused-ignore]
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lent = False  # it has looked at the state to fill it

    def new_rule(self) -> Optimizer:
        return rules.AdaGrad()

    def translated(self, group: Group) -> dict[str, Any]:
        return {"initial": self.defaults["initial_accumulator_value"]} | numbers(
            group, lr="lr", lr_decay="lr_decay", eps="eps", weight_decay="weight_decay",
            maximize="maximize",
        )

    def share_memory(self) -> None:
        raise NotImplementedError(
            "the state lies in this process's memory, and share_memory would move it elsewhere; "
            "processes that train together: fastoptim.mpi.Sharded"
        )


class Adadelta(Stepped, torch.optim.Adadelta):
    r"""Adadelta, whose rate is the size of its steps so far: `fastoptim.AdaDelta`.

    .. math::

        h &\leftarrow \rho h + (1-\rho)\,g^2 \\
        \Delta &= \frac{\sqrt{d + \epsilon}}{\sqrt{h + \epsilon}}\,g \\
        d &\leftarrow \rho d + (1-\rho)\,\Delta^2 \\
        p &\leftarrow p - \eta \Delta

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1.0
        Learning rate η.
    rho : float in [0, 1), default 0.9
        ρ.
    eps : float, default 1e-6
        ε, under both roots.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.
    maximize : bool, default False
        Go along the gradient instead of against it.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, ``square_avg`` is h and ``acc_delta`` is d.
    The state of half types is float32.

    References
    ----------
    The papers are those of `fastoptim.AdaDelta`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Adadelta
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Adadelta([x], lr=100.0)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    45.31
    28.01
    """

    form = Form({"h": "square_avg", "d": "acc_delta"})
    followed = ("lr", "rho", "eps", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.AdaDelta()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", rho="rho", eps="eps", weight_decay="weight_decay", maximize="maximize"
        )


class RMSprop(Stepped, torch.optim.RMSprop):
    r"""RMSprop, Adagrad with a moving average: `fastoptim.RMSprop`.

    .. math::

        h &\leftarrow \rho h + (1-\rho)\,g^2 \\
        p &\leftarrow p - \frac{\eta g}{\sqrt h + \epsilon}

    With ``centered=True`` the root is of h − m², where m ← m + (1 − ρ)(g − m). With a momentum μ
    the second line becomes v ← μv + g/(√· + ε), p ← p − ηv.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-2
        Learning rate η.
    alpha : float in [0, 1), default 0.99
        ρ.
    eps : float, default 1e-8
        ε, added to the root.
    weight_decay : float, default 0
        λ; λp is added to the gradient.
    momentum : float in [0, 1), default 0
        μ.
    centered : bool, default False
        Divide by the root of the variance.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step``, ``square_avg`` is h, ``grad_avg`` is m, and ``momentum_buffer`` is v.
    The state of half types is float32.

    With `momentum` or `centered` turned on while training, v or m begins at zero; PyTorch's step
    raises KeyError.

    References
    ----------
    The papers are those of `fastoptim.RMSprop`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import RMSprop
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = RMSprop([x], lr=0.2)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    59.00
    12.60
    """

    form = Form({"h": "square_avg", "m": "grad_avg", "v": "momentum_buffer"})
    followed = ("lr", "alpha", "eps", "momentum", "centered", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.RMSprop()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", decay_rate="alpha", eps="eps", momentum="momentum", centered="centered",
            weight_decay="weight_decay", maximize="maximize",
        )


class Rprop(Stepped, torch.optim.Rprop):
    r"""Rprop, a step size for each element: `fastoptim.Rprop`.

    .. math::

        \Delta &\leftarrow \mathrm{clip}(\eta^\pm \Delta,\ \Delta_{min},\ \Delta_{max}), \qquad
            \eta^\pm = \eta^+,\ \eta^-,\ 1 \text{ where } g\,g_{prev} >, <, = 0 \\
        g_{prev} &\leftarrow 0 \text{ where } g\,g_{prev} < 0, \text{ else } g \\
        p &\leftarrow p - \Delta\,\mathrm{sign}(g_{prev})

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-2
        What every Δ starts at.
    etas : tuple of two floats, default (0.5, 1.2)
        η⁻ and η⁺.
    step_sizes : tuple of two floats, default (1e-6, 50)
        Δ_min and Δ_max.
    capturable, differentiable : bool, default False
        True is refused: a step is made on the CPU, outside of autograd.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step``, ``prev`` is g_prev, and ``step_size`` is Δ.
    The state of half types is float32.

    References
    ----------
    The papers are those of `fastoptim.Rprop`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Rprop
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Rprop([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    32.75
    15.71
    """

    form = Form({"g_prev": "prev", "delta": "step_size"})
    followed = ("lr", "etas", "step_sizes", "maximize")

    def new_rule(self) -> Optimizer:
        return rules.Rprop()

    def translated(self, group: Group) -> dict[str, Any]:
        names = ("eta_minus", "eta_plus", "step_min", "step_max")
        given = dict(zip(names, (*group["etas"], *group["step_sizes"]), strict=True))
        return given | numbers(group, lr="lr", maximize="maximize")


class SparseAdam(Stepped, torch.optim.SparseAdam):
    r"""Adam of a sparse gradient's rows: `fastoptim.Adam` with `fastoptim.Rows`.

    .. math::

        m &\leftarrow m + (1-\beta_1)(g - m) \\
        v &\leftarrow v + (1-\beta_2)(g^2 - v) \\
        p &\leftarrow p - \eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt v + \epsilon}

    in the rows of the gradient. The others keep p, m and v; t counts the steps of the parameter.
    Values of one row that come several times are summed first.

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-3
        Learning rate η, more than 0.
    betas : tuple of two floats, default (0.9, 0.999)
        β₁ and β₂, in [0, 1).
    eps : float, default 1e-8
        ε, more than 0. It is not corrected as in `Adam`.
    maximize : bool, default False
        Go along the gradient instead of against it.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t, an int; ``exp_avg`` is m and ``exp_avg_sq`` is v.
    The state of half types is float32.

    A dense gradient is refused, as in PyTorch.

    References
    ----------
    The papers are those of `fastoptim.Adam`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import SparseAdam
    >>> words = torch.nn.Embedding(1000, 3, sparse=True)
    >>> _ = torch.nn.init.ones_(words.weight)
    >>> opt = SparseAdam(words.parameters(), lr=0.1)
    >>> for step in range(3):
    ...     loss = words(torch.tensor([7, 3, 7])).square().sum()
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    9.00
    7.29
    5.77
    """

    form = Form({"m": "exp_avg", "v": "exp_avg_sq"}, step=int)
    followed = ("lr", "betas", "eps", "maximize")
    sparse = "only"

    def new_rule(self) -> Optimizer:
        return rules.Adam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(group, lr="lr", eps="eps", maximize="maximize")


class Adafactor(Stepped, torch.optim.Adafactor):
    r"""Adafactor, second moments of matrices as two vectors: `fastoptim.Adafactor`.

    Its recursion is that of `fastoptim.Adafactor` without momentum: with the means r and c of g²
    over rows and columns,

    .. math::

        u_{ij} = \sqrt{\frac{\bar r}{r_i}}\; g_{ij}\, \frac{1}{\sqrt{c_j}}, \qquad
        p \leftarrow (1 - \eta\lambda)\,p - \frac{\rho_t \max(\epsilon_2, \mathrm{RMS}(p))}
            {\max(1, \mathrm{RMS}(u)/d)}\,u, \qquad \rho_t = \min(\eta, 1/\sqrt t)

    Parameters
    ----------
    params : iterable of tensors, of (name, tensor), or of dicts
        The parameters, in groups or not.
    lr : float or Tensor of one element, default 1e-2
        Learning rate η.
    beta2_decay : float, default -0.8
        The moments of step t have the decay 1 − t to this power.
    eps : tuple of None and a float, default (None, 1e-3)
        Its second is ε₂. A number as the first is refused, see below.
    d : float of at least 1, default 1.0
        The largest root of the mean of u² that is not shortened.
    weight_decay : float, default 0
        λ; decoupled, as above.
    foreach : bool, optional
        How PyTorch would make the step: a hint, for which nothing changes here.
    maximize : bool, default False
        Go along the gradient instead of against it.

    Raises
    ------
    ValueError, TypeError
        A number is outside of its interval, here or at a step; see `step`.

    Notes
    -----
    ``step`` is t; ``row_var`` is r and ``col_var`` is c, each with an axis of length 1, and of a
    vector ``variance`` is the second moment as a whole.
    The state of half types is float32.

    For None as eps[0], PyTorch takes the distance from 1 to the next number of the dtype (float64:
    2.2e-16, float32: 1.2e-7); it takes no r̄ below it, and no second moment of an element below its
    square. `fastoptim.Adafactor` adds its eps1, 1e-30, to each g². So the numbers are equal while
    the mean of g² is above that distance: in float32, while the root mean square of gradients is
    above 3.5e-4.
    A parameter without elements is left as it is; PyTorch's step raises ZeroDivisionError.

    References
    ----------
    The papers are those of `fastoptim.Adafactor`.

    Examples
    --------
    >>> import torch
    >>> from fastoptim.torch import Adafactor
    >>> x = torch.nn.Parameter(torch.tensor([5.0, 1.0]))       # minimise x₀² + 50 x₁²
    >>> opt = Adafactor([x], lr=0.5)
    >>> for step in range(3):
    ...     loss = x[0]**2 + 50 * x[1]**2
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     print(f"{loss.item():.2f}")
    75.00
    42.44
    8.23
    """

    form = Form({"r": "row_var", "c": "col_var", "v": "variance"}, axes={"r": -1, "c": -2})
    followed = ("lr", "beta2_decay", "eps", "d", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.Adafactor(factor_from=0)

    def translated(self, group: Group) -> dict[str, Any]:
        eps1, eps2 = group["eps"]
        if eps1 is not None:
            raise ValueError(
                f"eps[0] is {eps1!r}, the smallest root of a mean square that PyTorch divides by; "
                f"fastoptim adds a number to each square: leave it None, or use "
                f"fastoptim.torch.Optimizer(params, fastoptim.Adafactor(eps1=…))"
            )
        return {"decay_rate": -group["beta2_decay"], "eps2": eps2} | numbers(
            group, lr="lr", d="d", weight_decay="weight_decay", maximize="maximize"
        )
