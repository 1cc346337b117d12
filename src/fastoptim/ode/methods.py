"""The methods: Heun's, and two Runge–Kutta methods with step-size control."""

from dataclasses import dataclass

from fastoptim.ode.adaptive import Adaptive
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.ode.tableaus import BOGACKI_SHAMPINE, DORMAND_PRINCE, HEUN


@dataclass(eq=False)
class Heun(RungeKutta):
    r"""Heun's method: the mean of the gradients before and after a step of gradient descent.

    .. math::

        \tilde p &= p - h\, g(p) \\
        p &\leftarrow p - \tfrac{h}{2} \bigl(g(p) + g(\tilde p)\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; or a schedule, a callable from the number of completed steps to it, which may
        also give 0.

    Attributes
    ----------
    step_size, time : float
        h, and the sum of all h.
    iter : int
        Completed steps.

    Notes
    -----
    Of second order: half the step leaves a quarter of the error. Two evaluations of fn per step.

    References
    ----------
    K. Heun, "Neue Methoden zur approximativen Integration der Differentialgleichungen einer
    unabhängigen Veränderlichen", Zeitschrift für Mathematik und Physik 45 (1900), pages 23–38.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.Heun(lr=0.015)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    43.076
    29.803
    """

    tableau = HEUN


@dataclass(eq=False)
class RK23(Adaptive):
    r"""The Runge–Kutta method of Bogacki and Shampine, third order, with steps as long as may be.

    .. math::

        k_1 &= -g(p), \quad k_2 = -g(p + \tfrac{1}{2} h k_1), \quad
            k_3 = -g(p + \tfrac{3}{4} h k_2) \\
        p &\leftarrow p + h \bigl(\tfrac{2}{9} k_1 + \tfrac{1}{3} k_2 + \tfrac{4}{9} k_3\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; with tolerances that of the first step, and assigning it starts again from it.
        Without tolerances it may be a schedule, a callable from the number of completed steps to
        the step size, which may also give 0.
    rtol, atol : float or None, default None
        Relative tolerance in [2.2e-14, inf) and absolute tolerance in [0, inf). If either is given
        the step adapts: h is the largest for which the root mean square over all elements of
        ``error / (atol + rtol max(|p|, |p_new|))`` is expected below 1, as in
        scipy.integrate.RK23. One that is None is then 1e-3 and 1e-6, SciPy's defaults.
    deterministic : bool, default False
        Whether fn gives the same gradient whenever it is given the same parameters. With
        tolerances the last stage of a step is then the first of the next one, which saves one
        evaluation per step; with mini-batches it would be wrong. It is used only if every
        parameter still has the bits that the step wrote.

    Attributes
    ----------
    step_size, time : float
        The h that the next step begins with, and the sum of all h.
    iter, rejected : int
        Completed steps, and trials on the way to them whose error was too large.

    Notes
    -----
    Three evaluations of fn per step; with tolerances four in the first trial (three if
    `deterministic`), three more for each that is rejected. Memory: four times the parameters'.

    References
    ----------
    P. Bogacki and L. F. Shampine, "A 3(2) pair of Runge–Kutta formulas", Applied Mathematics
    Letters 2 (1989), pages 321–325, doi:10.1016/0893-9659(89)90079-7.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.RK23(lr=0.01, rtol=0.1, atol=0.1)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    29.575
    26.346
    """

    tableau = BOGACKI_SHAMPINE


@dataclass(eq=False)
class RK45(Adaptive):
    r"""The Runge–Kutta method of Dormand and Prince, fifth order, with steps as long as may be.

    .. math::

        k_i &= -g\Bigl(p + h \sum_{j<i} a_{ij} k_j\Bigr), \quad i = 1, …, 6 \\
        p &\leftarrow p + h \bigl(\tfrac{35}{384} k_1 + \tfrac{500}{1113} k_3
            + \tfrac{125}{192} k_4 - \tfrac{2187}{6784} k_5 + \tfrac{11}{84} k_6\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; with tolerances that of the first step, and assigning it starts again from it.
        Without tolerances it may be a schedule, a callable from the number of completed steps to
        the step size, which may also give 0.
    rtol, atol : float or None, default None
        Relative tolerance in [2.2e-14, inf) and absolute tolerance in [0, inf). If either is given
        the step adapts: h is the largest for which the root mean square over all elements of
        ``error / (atol + rtol max(|p|, |p_new|))`` is expected below 1, as in
        scipy.integrate.RK45. One that is None is then 1e-3 and 1e-6, SciPy's defaults.
    deterministic : bool, default False
        Whether fn gives the same gradient whenever it is given the same parameters; see RK23.

    Attributes
    ----------
    step_size, time : float
        The h that the next step begins with, and the sum of all h.
    iter, rejected : int
        Completed steps, and trials on the way to them whose error was too large.

    Notes
    -----
    Six evaluations of fn per step; with tolerances seven in the first trial (six if
    `deterministic`), six more for each that is rejected. Memory: six times the parameters'.

    References
    ----------
    J. R. Dormand and P. J. Prince, "A family of embedded Runge–Kutta formulae", Journal of
    Computational and Applied Mathematics 6 (1980), pages 19–26,
    doi:10.1016/0771-050X(80)90013-3.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.RK45(lr=0.01, rtol=0.1, atol=0.1)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    30.803
    22.286
    """

    tableau = DORMAND_PRINCE
