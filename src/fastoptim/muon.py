"""Muon: the momentum of a matrix is orthogonalised before the step.

A pass of kernels/muon.pxi forms the directions, the iteration is in kernels/update/orthogonal.py,
and a second pass makes the step, with the stages of the options around it. `Muon.group_of` decides
which keys are whose.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels import PASSES
from fastoptim.kernels.update.checks.matrices import not_a_matrix
from fastoptim.kernels.update.newton_schulz import NewtonSchulz
from fastoptim.optimizer import groups as grouping
from fastoptim.optimizer.base import Optimizer, Slot
from fastoptim.optimizer.hyperparameters import (
    Check,
    Choice,
    Epsilon,
    Flag,
    Interval,
    hyper,
    real_number,
)
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.optimizer.rest import (
    KeyPatterns,
    Keys,
    PlanWithRest,
    Rest,
    bind,
    check_patterns,
    copy_observers,
    matches,
)
from fastoptim.optimizer.types import Number
from fastoptim.porting.answers import shown

RATE = Interval("[0, inf)")
MOST_STEPS = 99


class NewtonSteps:
    """A number of iterations."""

    def __call__(self, name: str, value: object) -> int:
        """Return a value as an int, or say what it must be."""
        wanted = f"{name} must be a whole number from 1 to {MOST_STEPS}, got {shown(value)}"
        if isinstance(value, (bool, np.bool)) or not isinstance(value, (int, np.integer)):
            raise TypeError(wanted)
        if not 1 <= value <= MOST_STEPS:
            raise ValueError(wanted)
        return int(value)


class Coefficients:
    """The three numbers of a polynomial."""

    def __call__(self, name: str, value: object) -> tuple[float, float, float]:
        """Return values as floats, or say what is wrong with them."""
        wanted = f"{name} must be three numbers (a, b, c)"
        if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
            raise TypeError(f"{wanted}, got {shown(value)}")
        if len(value) != 3:
            raise ValueError(f"{wanted}, got {shown(value)}")
        a, b, c = (real_number(name, x, "three numbers (a, b, c)") for x in value)
        if not all(map(math.isfinite, (a, b, c))):
            raise ValueError(f"{wanted}, all finite, got {shown(value)}")
        return a, b, c


@dataclass(eq=False, repr=False)
class Muon(Optimizer):
    r"""Muon: momentum, orthogonalised by Newton–Schulz iterations, for matrices.

    .. math::

        v &\leftarrow v + (1-\mu)(g - v) \\
        X &= \mu v + (1-\mu)\,g, \qquad X \leftarrow X / \max(\lVert X \rVert_F, \varepsilon) \\
        X &\leftarrow (aI + bA + cA^2)\,X, \quad A = XX^\top
            \qquad \text{5 times} \\
        p &\leftarrow (1 - \eta\lambda)\,p, \qquad p \leftarrow p - \eta\,\rho\,X

    The iteration brings the singular values of X, which are at most 1, near 1 (between 0.7 and
    1.2 or so), and leaves its singular vectors. ρ adjusts the rate to the matrix's shape.

    Parameters
    ----------
    lr : float in [0, inf), default 0.001
        Learning rate η.
    momentum : float in [0, 1), default 0.95
        μ.
    nesterov : bool, default True
        Without it X = v.
    ns_steps : int from 1 to 99, default 5
        Newton–Schulz iterations.
    ns_coefficients : three floats, default (3.4445, -4.775, 2.0315)
        a, b and c of an iteration.
    eps : float in (0, inf), default 1e-7
        ε; a smaller norm is taken for it.
    adjust_lr : {"original", "match_rms_adamw"}, default "original"
        For a matrix of m rows and n columns ρ is √max(1, m/n); or 0.2 √max(m, n), with which a step
        has about the root mean square of AdamW's, so that its rate and decay can be used.
    bias_correction : bool, default False
        Optax' form of Nesterov's momentum: v is divided by 1 − μᵗ⁺¹ in X, and g by 1 − μᵗ. Without
        `nesterov` it changes nothing but where ε begins.
    rest : Optimizer or None
        Updates all keys that are not matrices, and those of `to_rest`. Muon has its own copy of it
        (``opt.rest.lr = 0.1`` changes that), with its schedules and groups. What concerns a whole
        update (clip_norm, norm, nonfinite, denormals) is Muon's alone, and holds for all keys.
    to_rest : str, callable or list of these
        Matrices that go to `rest`, too, such as embeddings and the output layer: shell patterns or
        predicates, as those of `Group`.
    weight_decay : float in [0, inf), default 0.1
        λ, decoupled by default (``decoupled=True``), with η not adjusted.

    Attributes
    ----------
    v : mapping of key to array
        Momentum, shaped like the parameter.
    rest : Optimizer or None
        ``opt.rest.m["b"]`` is state of its keys.

    Raises
    ------
    ValueError
        At an update: a key is not a matrix (2 axes) and there is no `rest`; convolution kernels
        and stacks of matrices are not, either.
    TypeError
        At an update: a matrix has a gradient of rows.

    Notes
    -----
    The variant is that of ``torch.optim.Muon``, whose iteration runs in bfloat16: here it runs in
    the parameter's dtype. Its matrix products are NumPy's, so their last bits depend on the BLAS
    and its threads; v and the keys of `rest` have the bits of their listings. In exact arithmetic
    X and Xᵀ give the same, so the products are formed of the shorter side.

    The iteration reads and writes memory of its own, which is kept from update to update: one
    array like each matrix, one more like the largest, and twice its shorter side squared.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/ (2024). J. Liu et al., "Muon is scalable for LLM
    training", arXiv:2502.16982 (2025).

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"W": np.array([[5.0, 1.0], [0.0, 2.0]]), "b": np.array([3.0])}
    >>> opt = fo.Muon(lr=0.5, rest=fo.SGD(lr=0.1))
    >>> for step in range(3):                                  # minimise ‖W‖² + ‖b‖²
    ...     print(f"{sum((p**2).sum() for p in params.values()):.3f}")
    ...     opt.update(params, {key: 2 * p for key, p in params.items()})
    39.000
    27.680
    19.300
    >>> opt.v["W"].shape, opt.rest
    ((2, 2), SGD(lr=0.1))
    """

    kernels = {"muon": ("v",)}
    of_matrices: ClassVar[bool] = True
    scratch: ClassVar[int] = 1
    live_plans = PlanWithRest

    lr: Number = hyper(0.001, RATE)
    momentum: Number = hyper(0.95, Interval("[0, 1)"))
    nesterov: bool = hyper(True, Flag())
    _: KW_ONLY
    ns_steps: int = hyper(5, NewtonSteps())
    ns_coefficients: Sequence[float] = hyper((3.4445, -4.775, 2.0315), Coefficients())
    eps: Number = hyper(1e-7, Epsilon("(0, inf)"))
    adjust_lr: str = hyper("original", Choice(("original", "match_rms_adamw")))
    bias_correction: bool = hyper(False, Flag())
    rest: Optimizer | None = hyper(None, Rest())
    to_rest: Keys = hyper((), KeyPatterns())
    weight_decay: Number = hyper(0.1, RATE)
    decoupled: bool = hyper(True, Flag())
    v = Slot()

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self)["prelude"] = NewtonSchulz()
        if self.rest is not None:
            bind(self.rest, self)

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores."""
        value = super()._checked(name, check, value)
        if name in ("rest", "to_rest") and hasattr(self, "engine"):
            if self.engine.store.records:
                raise ValueError(
                    f"{name} cannot change after the first update; its hyperparameters can"
                )
            self.engine.store.forget_drafts()
            if isinstance(value, Optimizer):
                bind(value, self)
        return value

    def _forget(self) -> None:
        super()._forget()
        rest = vars(self).get("rest")
        if rest is not None:  # its groups come behind ours
            vars(rest).update(fixed_plan=None, live_plan=None)

    def inner(self) -> Optimizer | None:
        """Return the optimizer of the keys that are not this one's."""
        if self.to_rest and self.rest is None:
            raise ValueError(
                f"to_rest={self.to_rest!r} needs an optimizer for these keys: "
                f"rest=fastoptim.AdamW()"
            )
        if self.rest is not None:
            vars(self.rest)["first_group"] = 1 + len(self.groups)
        return self.rest

    def goes_to_rest(self, key: object, p: ParamInfo) -> bool:
        """Whether a key is not orthogonalised."""
        return p.ndim != 2 or any(matches(one, key, p) for one in self.to_rest)

    def part_of(self, key: object, p: ParamInfo) -> Optimizer:
        """Return which optimizer's rule a key has."""
        if not self.goes_to_rest(key, p):
            return self
        rest = self.inner()
        if rest is None:
            raise not_a_matrix(key, p.shape)
        return rest

    def group_of(self, key: object, p: NDArray[Any] | ParamInfo) -> int:
        """Return the index of the view that a key's parameter is updated with."""
        info = ParamInfo(p.shape, p.dtype)
        part = self.part_of(key, info)
        return part.first_group + grouping.index_of(part.groups, key, info)

    @property
    def own_groups(self) -> range | None:
        """The numbers of the groups whose keys have this optimizer's state."""
        return range(1 + len(self.groups))

    def check_keys(self, keys: Iterable[object], arrays: Iterable[object]) -> None:
        """Refuse a group or a pattern that no key belongs to."""
        infos = [(key, p, ParamInfo.of(p)) for key, p in zip(keys, arrays, strict=True)]
        known = [(key, info) for key, _, info in infos if info is not None]
        if len(known) < len(infos):
            return  # what is no parameter is refused in a moment, by its name
        check_patterns("to_rest", self.to_rest, known)
        for part in (self, self.rest):
            if part is None or not part.groups:
                continue
            own = [
                (key, p) for key, p, info in infos
                if info is not None and self.goes_to_rest(key, info) == (part is self.rest)
            ]
            grouping.check_keys(part.groups, [key for key, _ in own], [p for _, p in own])

    def views(self) -> list[Optimizer]:
        """Return copies whose hyperparameters are numbers: for each group, then rest's."""
        rest = self.inner()
        return [*super().views(), *([] if rest is None else rest.views())]

    def capsule(self) -> object:
        """Return the compiled pass that makes the step."""
        return PASSES[self.kernel]

    def coefficients(self, t: int) -> tuple[float, ...]:  # noqa: D102
        mu = self.momentum
        share_v, share_g = (mu, 1.0 - mu) if self.nesterov else (1.0, 0.0)
        if self.bias_correction:
            share_v /= 1.0 - mu ** (t + self.nesterov)
            share_g /= 1.0 - mu**t
        return 1.0 - mu, share_v, share_g, self.lr

    def factor_of(self, shape: tuple[int, int]) -> float:
        """Return ρ for a matrix."""
        rows, cols = shape
        if self.adjust_lr == "original":
            return math.sqrt(max(1.0, rows / cols))
        return 0.2 * math.sqrt(max(rows, cols))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = super().__deepcopy__(memo)
        if twin.rest is not None:
            copy_observers(twin.rest, memo)
        return twin
