"""Rules with what PyTorch's classes have beside them: a momentum of 0, momenta that change."""

from dataclasses import dataclass

import numpy as np
import torch

from fastoptim.rules import HeavyBall, NAdam, momentum_products


@dataclass(eq=False, repr=False)
class SGD(HeavyBall):
    """`HeavyBall`, whose parameters have no state where μ is 0."""

    kernels = {"sgd": (), **HeavyBall.kernels}

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return super().kernel if self.mu else "sgd"

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars that the kernel gets."""
        return super().coefficients(t) if self.mu else (self.lr,)


@dataclass(eq=False, repr=False)
class CarryingNAdam(NAdam):
    """`NAdam` whose product of momenta is of those that there were: β₁ may have changed.

    It is kept, and multiplied, in the dtype in which PyTorch keeps counts: in float32, if that is
    its default.
    """

    carries = 1

    def carried_on(
        self, t: int, carried: tuple[float, ...] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the scalars of a parameter's t-th update, and the product up to it."""
        number = np.float64 if torch.get_default_dtype() is torch.float64 else np.float32
        before = 1.0 if carried is None else carried[0]
        momentum = momentum_products(self.beta1, self.psi).momentum(t)
        product = float(number(before) * number(momentum))
        return self.scalars_at(t, product), (product,)
