"""Gradient descent as Euler's method: how closely the methods follow the gradient flow.

With ever smaller steps, gradient descent becomes a flow: dp/dt = −∇f(p). Of x²/20 + y² the flow
from (−7, 2) is known: x = −7 exp(−t/10), y = 2 exp(−2t). A step of SGD is Euler's step of length
h = lr along it.

On the left all methods take steps of h = 0.8. SGD crosses the valley at each step, and Heun's
method comes down late; at worst they are {sgd:.2f} and {heun:.2f} away from where the flow is at
the same time. RK23 is {rk23:.2f} away at worst, and RK45 {rk45:.3f}.

On the right is the distance from the flow at t = 2, against the gradients evaluated until then: 1 a
step of SGD, 2 of Heun's method, 3 of RK23, 6 of RK45. With steps half as long, a method of order k
leaves 1/2ᵏ of the distance. Between the last two points k is {SGD:.2f} for SGD, {Heun:.2f} for
Heun's method, {RK23:.2f} for RK23 and {RK45:.2f} for RK45.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import bowl

EVALUATIONS = {fo.SGD: 1, fo.Heun: 2, fo.RK23: 3, fo.RK45: 6}


def error(trace, h):
    """Return how far each point is from the flow."""
    t = h * np.arange(trace.steps + 1)
    x, y = trace.positions.values()
    return np.hypot(x + 7 * np.exp(-t / 10), y - 2 * np.exp(-2 * t))


def draw():
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    traces = {m.__name__: fo.trace(m(lr=0.8), bowl.start(), bowl, steps=8) for m in EVALUATIONS}
    plot.paths(bowl, traces, ax=left)
    t = np.linspace(0, 8 * 0.8, 200)
    x, y = -7 * np.exp(-t / 10), 2 * np.exp(-2 * t)
    left.plot(x, y, color="black", linewidth=7, alpha=0.2, label="flow")
    left.legend(loc="upper right", fontsize="small")
    numbers = {name.lower(): error(trace, 0.8).max() for name, trace in traces.items()}

    steps = np.array([5, 10, 20, 40, 80])
    for k, (method, evaluations) in enumerate(EVALUATIONS.items()):
        errors = [
            error(fo.trace(method(lr=2 / n), bowl.start(), bowl, steps=n), 2 / n)[-1] for n in steps
        ]
        right.loglog(evaluations * steps, errors, label=method.__name__, **plot.style.style(k))
        numbers[method.__name__] = np.log2(errors[-2] / errors[-1])
    right.set_xlabel("gradients evaluated")
    right.set_ylabel("distance from the flow at t = 2")
    right.legend(fontsize="small", handlelength=4)
    plot.style.plain(right)
    return figure, numbers
