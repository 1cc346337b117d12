"""Every rule on Rosenbrock's function.

(1 − x)² + 100(y − x²)² from (−1.2, 1), 500 steps. A ring is the start, a star the minimum. Above
each path are its rate and the highest of its last ten heights; the start has {start:.1f}.

The floor of this valley is bent and all but level, and the gradient mostly points across it. All
rules come down to the floor soon. Then the way along it is long, and a velocity helps, which adds
up many small gradients of one direction: Momentum comes to {Momentum:.4f}, with the rate with which
SGD comes to {SGD:.2f}, and Adam to {Adam:.4f}, where RMSprop, which has no velocity, comes to
{RMSprop:.2f}.

AdaGrad adds up the squares of the steep gradients of the start for good, and AdaMax keeps the
largest for long. So their steps along the floor are short: they come to {AdaGrad:.2f} and
{AdaMax:.2f}. RAdam, whose first five steps are plain momentum, must have a rate with which those do
not climb the wall, and it is far too small for the steps that follow: {RAdam:.2f}.

Lion, AdamW and LAMB have no weight decay here, as it pulls to 0, away from the minimum.
"""

import fastoptim as fo
from fastoptim.gallery.side_by_side import follow, highest, moving, still
from fastoptim.problems import rosenbrock

WINDOW = (-1.5, 1.5), (-0.4, 1.7)


def paths():
    # Of 1, 2 and 5 times powers of ten, each rate is the one with which the highest of the last ten
    # heights is lowest; those with which some height is above that of the start are left out.
    rules = {
        "velocity": [
            fo.SGD(0.001), fo.Momentum(0.001), fo.HeavyBall(0.001), fo.Nesterov(0.0005),
        ],
        "sign of the gradient; sum of its squares": [
            fo.Lion(0.01, weight_decay=0.0), fo.Rprop(0.002), fo.AdaGrad(0.2), fo.FTRL(0.2),
        ],
        "moving average of its squares": [
            fo.RMSprop(0.02), fo.AdaDelta(1), fo.AdaBelief(0.2), fo.RAdam(0.001),
        ],
        "Adam's family": [
            fo.Adam(0.2), fo.AdamW(0.2, weight_decay=0.0), fo.AdaMax(0.2), fo.NAdam(0.05),
        ],
    }
    return follow(rosenbrock, rules, steps=500)


def draw():
    groups = paths()
    traces = {k.partition(",")[0]: trace for g in groups.values() for k, trace in g.items()}
    numbers = {name: highest(trace) for name, trace in traces.items()}
    numbers["start"] = traces["SGD"].losses[0]
    return still(rosenbrock, groups, WINDOW), numbers


def animate():
    return moving(rosenbrock, paths(), WINDOW, legend="upper center")
