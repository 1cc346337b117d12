"""Every rule on a valley.

x² + 50y² from (180, 90), 100 steps. A ring is the start, a star the minimum. Above each path are
its rate and the highest of its last ten heights. Where points of the animation coincide, the
smaller one is in front.

As far from the minimum, the wall is 50 times as steep as the floor. Rules that step along the
gradient, or add it up in a velocity, must have a rate that the wall bears, and it is small for the
floor: SGD comes to x = {SGD_x:.0f}. Rules that divide the gradient of each parameter by its size so
far do not see the 50. With x² + y² in its place, AdaGrad's path and Adam's are the same:
{AdaGrad_apart:.0e} and {Adam_apart:.0e} apart at most. That helps because wall and floor lie along
the parameters here.

Lion's steps all have one length, so it does not come to rest: {Lion:,.0f}. RAdam begins with five
steps of plain momentum, which the wall bears only with a small rate. The steps after those are
about as long as the rate at most: the {RAdam_steps} of them move it by {RAdam_way:.2f} along x.

HeavyBall is Momentum while the rate is constant. Lion, AdamW and LAMB have no weight decay here, as
it pulls to 0, where the minimum is; AdamW without it is Adam. x and y are two keys, and LARS and
LAMB go by the norm of each key, which is |x| and |y|.
"""

import numpy as np

import fastoptim as fo
from fastoptim.gallery.side_by_side import follow, highest, moving, still
from fastoptim.problems import valley

WINDOW = (-110, 200), (-100, 105)


def paths():
    # Of 1, 2 and 5 times powers of ten, each rate is the one with which the highest of the last ten
    # heights is lowest; those with which some height is above that of the start are left out.
    rules = {
        "velocity": [fo.SGD(0.01), fo.Momentum(0.002), fo.HeavyBall(0.002), fo.Nesterov(0.01)],
        "sign of the gradient; sum of its squares": [
            fo.Lion(5, weight_decay=0.0), fo.Rprop(10), fo.AdaGrad(100), fo.FTRL(100),
        ],
        "moving average of its squares": [
            fo.RMSprop(10), fo.AdaDelta(2000), fo.AdaBelief(50), fo.RAdam(0.002),
        ],
        "Adam's family": [
            fo.Adam(10), fo.AdamW(10, weight_decay=0.0), fo.AdaMax(20), fo.NAdam(50),
        ],
    }
    return follow(valley, rules, steps=100)


def round_bowl(params):
    """x² + y²."""
    x, y = params["x"], params["y"]
    return float(x * x + y * y), {"x": 2 * x, "y": 2 * y}


def draw():
    groups = paths()
    traces = {k.partition(",")[0]: trace for g in groups.values() for k, trace in g.items()}
    numbers = {name: highest(trace) for name, trace in traces.items()}
    numbers["SGD_x"] = traces["SGD"].positions["x"][-1]
    x = traces["RAdam"].positions["x"]
    numbers |= {"RAdam_steps": len(x) - 6, "RAdam_way": x[5] - x[-1]}
    for rule in (fo.AdaGrad(100), fo.Adam(10)):
        name = type(rule).__name__
        path, other = traces[name], fo.trace(rule, valley.start(), round_bowl, steps=100)
        apart = [path.positions[key] - other.positions[key] for key in ("x", "y")]
        numbers[f"{name}_apart"] = np.abs(apart).max()
    return still(valley, groups, WINDOW), numbers


def animate():
    return moving(valley, paths(), WINDOW, legend="upper left")
