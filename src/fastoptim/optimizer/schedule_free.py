"""Rules whose gradients are taken at one point, and which are evaluated at another: the average.

In the paper (arXiv:2405.15682) z is what gradients move, x the weighted average of all z so far,
and y = (1−β)z + βx the point of the gradients. The parameters hold y. One slot, d = z − x, is
enough for the other two. It starts at zero, and what a caller writes into the parameters moves z
and x along.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.averaged import Averaged
from fastoptim.kernels.update.store import Record
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.state_dtypes import numbers_of
from fastoptim.optimizer.types import Params
from fastoptim.porting import answers

Array = NDArray[Any]
Carried = tuple[float, ...]


class ScheduleFree(Optimizer):
    """The part that both schedule-free rules share."""

    # The weights of all steps so far as multiples of the last one's, summed up; and the largest
    # learning rate. A sum of the weights themselves could overflow, or be 0 with a small rate.
    carries: ClassVar[int] = 2
    decays: ClassVar[bool] = True
    beta_name: ClassVar[str] = "beta1"  # which hyperparameter is β

    if TYPE_CHECKING:  # each rule's own
        lr: float
    else:
        eval, train = answers.NotHere(), answers.NotHere()

    def scalars_at(self, t: int, c: float) -> tuple[float, ...]:
        """Return the kernel's scalars, where c is the last step's share in the average."""
        raise NotImplementedError

    def carried_on(self, t: int, carried: Carried | None) -> tuple[tuple[float, ...], Carried]:
        """Return the scalars of a parameter's t-th update, and the numbers that it goes on with."""
        total, before = carried or (0.0, 0.0)
        highest = max(before, self.lr)
        if not highest:  # nothing has moved
            return self.scalars_at(t, 0.0), (0.0, 0.0)
        total = total * (before / highest) ** 2 + 1.0
        return self.scalars_at(t, 1.0 / total), (total, highest)

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars of a parameter's t-th update, had lr always been what it is."""
        return self.scalars_at(t, 1.0 / t if self.lr else 0.0)

    def evaluation(self, params: Params) -> Averaged:
        """Let the parameters hold the point to evaluate at for as long as a ``with`` lasts.

        Parameters
        ----------
        params : dict or list
            As for `update`. Within the ``with`` their arrays hold x, the average, and afterwards y
            again, to the bit, whatever was raised: these arrays, whichever the dict has by then. A
            parameter that has not been updated stays as it is.

        Returns
        -------
        context manager
            Its value is `params`. Within it this optimizer makes no update and is not saved. As the
            rest of a `Muon` it is ``opt.rest.evaluation(params)``, with all parameters: the
            matrices stay as they are.

        Raises
        ------
        KeyError, ValueError, TypeError
            A parameter that has been updated is not there, or is not as `update` wants it.
        RuntimeError
            Within another ``with opt.evaluation`` or ``with opt.averaged``.

        Notes
        -----
        x = y − (1−β)d is written to memory of its own, as much as the parameters have, which then
        takes the parameters' place. The rest of a `Muon` has ``opt.rest.evaluation(params)``, with
        the parameters of both; those of its own keys hold x.

        Examples
        --------
        >>> import numpy as np, fastoptim as fo
        >>> opt, params = fo.ScheduleFreeSGD(lr=1.0, beta=0.5), {"x": np.array([8.0])}
        >>> for step in range(2):
        ...     opt.update(params, {"x": np.array([4.0])})
        >>> with opt.evaluation(params):                          # the mean of z = 4 and z = 0
        ...     print(params["x"])
        [2.]
        >>> params["x"]
        array([1.])
        """
        whole = self if self.whole is None else self.whole  # a rest has the engine of both
        plan = whole.plan()
        shares = [1.0 - getattr(view, self.beta_name) for view in self.views()]

        def write_point(record: Record, y: Array, out: Array) -> None:
            if "d" not in record.state:  # another rule's, around this one
                out[...] = y
                return
            d = numbers_of(record.state, "d", record.coding, signed=True, dtype=y.dtype)
            with np.errstate(all="ignore"):
                share = y.dtype.type(shares[record.group - self.first_group])
                np.multiply(d, share, out=out)
                np.subtract(y, out, out=out)

        return Averaged(whole.engine, params, plan, write_point, self.own_groups)
