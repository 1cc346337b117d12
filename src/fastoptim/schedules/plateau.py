"""A schedule that is told losses, and falls when they no longer do."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from fastoptim.optimizer.hyperparameters import Choice, Interval, OrNone, real_number
from fastoptim.schedules.arguments import FINITE, NOT_NEGATIVE, count, whole
from fastoptim.schedules.arithmetic import Schedule

SHARE = Interval("[0, 1]")
FACTOR = Interval("(0, 1)")


def seen(default: Any) -> Any:
    """Declare what a plateau has observed: compared, shown and copied, but not part of its hash."""
    return dataclasses.field(default=default, kw_only=True, hash=False)


@dataclasses.dataclass(frozen=True, repr=False)
class plateau(Schedule):
    r"""Multiplied by `factor` when the loss has stopped falling, however many updates that takes.

    A loss x is an improvement on the best so far if

    .. math:: x < (1 - rtol) \, best - atol

    After more than `patience` losses in a row that are none, the number falls to
    :math:`\max(factor \cdot value,\; stop)`; then `cooldown` losses are not counted.

    Parameters
    ----------
    start : float
        In [0, inf).
    factor : float
        In (0, 1).
    patience : int
        How many losses without an improvement are let pass, in [0, inf).
    rtol : float
        In [0, 1].
    atol : float
        In [0, inf).
    cooldown : int
        In [0, inf).
    stop : float
        The least number, in [0, `start`].
    mode : {"min", "max"}
        With "max" what is observed should rise, as an accuracy does: an improvement is
        :math:`x > (1 + rtol) \, best + atol`.
    every : int
        How many losses make one, their mean, in [1, inf): for those of small batches.

    Attributes
    ----------
    value : float
        The number now.
    best : float or None
        The best loss so far.
    bad : int
        How many losses in a row have been no improvement.
    cooling : int
        How many losses will not be counted.
    gathered : int
        How many losses are in `mean`.
    mean : float or None
        Of the losses that do not make one yet; None if one of them was not finite.

    Notes
    -----
    **It is mutable**: `observe` changes it, alone of all schedules. An optimizer uses the object
    that it was given, so ``rate.observe(loss)`` and ``opt.lr.observe(loss)`` are the same; two
    optimizers or groups with one plateau change together. What it has observed is part of its repr
    and of comparisons, and is saved with the optimizer. ``dataclasses.replace(rate, patience=3)``
    is another one with the same past.

    **Losses below 0** (a log-likelihood, say) need ``rtol=0``, and `atol` for what is enough: there
    (1 − rtol)·best is larger than best, so a loss that stays where it is counts as an improvement,
    and the number never falls. With "max" the same holds for what is below 0. So it is in PyTorch
    and Optax.

    PyTorch's ``ReduceLROnPlateau(mode, factor, patience, threshold=rtol, threshold_mode="rel",
    cooldown=cooldown, min_lr=stop)``, or ``threshold=atol`` with "abs" and ``rtol=0``. PyTorch
    leaves out a reduction of at most ``eps=1e-8``; here `stop` says how far it goes. Optax'
    ``contrib.reduce_on_plateau(factor, patience, rtol, atol, cooldown, accumulation_size=every,
    min_scale=stop / start)`` reduces one loss earlier: its ``patience=n`` is ``patience=n - 1``
    here. A loss that is not finite is no improvement; an infinite one that is better than all
    others is to both.

    Examples
    --------
    >>> import fastoptim as fo
    >>> rate = plateau(0.1, factor=0.5, patience=1)
    >>> opt = fo.SGD(lr=rate)
    >>> [rate.observe(loss) for loss in (1.0, 0.8, 0.8, 0.9, 0.7)]
    [False, False, False, True, False]
    >>> opt.lr(step=0), rate.best
    (0.05, 0.7)
    """

    start: float
    factor: float = 0.1
    patience: int = 10
    rtol: float = 1e-4
    atol: float = 0.0
    cooldown: int = 0
    stop: float = 0.0
    mode: str = "min"
    every: int = 1

    value: float = seen(None)  # start, unless given
    best: float | None = seen(None)
    bad: int = seen(0)
    cooling: int = seen(0)
    gathered: int = seen(0)
    mean: float | None = seen(0.0)

    observes: ClassVar = True
    checks: ClassVar = {
        "start": NOT_NEGATIVE, "factor": FACTOR, "patience": count, "rtol": SHARE,
        "atol": NOT_NEGATIVE, "cooldown": count, "stop": NOT_NEGATIVE,
        "mode": Choice(("min", "max")), "every": whole,
        "value": OrNone(NOT_NEGATIVE), "best": OrNone(FINITE), "bad": count, "cooling": count,
        "gathered": count, "mean": OrNone(FINITE),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if vars(self)["value"] is None:
            object.__setattr__(self, "value", self.start)
        for name in ("stop", "value"):
            if getattr(self, name) > self.start:
                raise ValueError(
                    f"{name} must be at most start={self.start}, got {getattr(self, name)}"
                )
        if self.gathered >= self.every:
            raise ValueError(
                f"gathered must be less than every={self.every}, got {self.gathered}"
            )

    def __call__(self, step: int) -> float:
        """Return the number now, which does not depend on the step."""
        return self.value

    def __repr__(self) -> str:
        fresh = {"value": self.start}
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if not field.kw_only
            or getattr(self, field.name) != fresh.get(field.name, field.default)
        ]
        return f"plateau({', '.join(shown)})"

    def observe(self, loss: Any) -> bool:
        """Tell a loss, once it is known: that of an epoch, say, or with `every` that of a batch.

        Parameters
        ----------
        loss : float
            A number, or a 0-d array. NaN and infinity are no improvement.

        Returns
        -------
        bool
            Whether the number fell.

        Raises
        ------
        TypeError
            It is no real number. Nothing has changed then.
        """
        x = number_of(loss)
        gathered, before = self.gathered + 1, self.mean
        mean = None if before is None else (self.gathered * before + x) / gathered
        if mean is not None and not math.isfinite(mean):
            mean = None
        if gathered < self.every:
            vars(self).update(gathered=gathered, mean=mean)
            return False

        best, bad, value, cooling = self.best, self.bad + 1, self.value, self.cooling
        if mean is not None and self.improves(mean):
            best, bad = mean, 0
        if cooling:
            bad, cooling = 0, cooling - 1
        if bad > self.patience:
            value = max(value * self.factor, self.stop)
            bad, cooling = 0, self.cooldown
        fell = value < self.value
        # in one step, so that an interrupt leaves all or nothing of a loss
        vars(self).update(
            value=value, best=best, bad=bad, cooling=cooling, gathered=0, mean=0.0
        )
        return fell

    def improves(self, loss: float) -> bool:
        """Whether a loss is better than the best, by enough."""
        if self.best is None:
            return True
        if self.mode == "min":
            return loss < (1.0 - self.rtol) * self.best - self.atol
        return loss > (1.0 + self.rtol) * self.best + self.atol


def number_of(loss: Any) -> float:
    """Return a loss as a float; it may be an array of another library with one number."""
    if hasattr(loss, "shape"):
        loss = np.asarray(loss)
    return real_number("loss", loss, "a number")
