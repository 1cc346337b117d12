"""Every rule on a bowl.

x²/20 + y² from (−7, 2), 50 steps. A ring is the start, a star the minimum. Above each path are its
rate and the highest of its last ten heights.

The first step shows what a rate is. For SGD it is a factor of the gradient: its first step is
{SGD_x:.2f} along x and {SGD_y:.2f} along y, as the slopes are. The less curved a function, the
larger this rate may be. For AdaGrad, RMSprop, Rprop, Lion and the rules of Adam's family it is
a length, whatever the gradient: AdaGrad's first step is {AdaGrad_x:.2f} along both, and Adam's
{Adam_x:.2f}. The farther the way, the larger this rate should be.

That the first step of AdaGrad, RMSprop and Rprop ends on y = 0 is luck: one of the rates that were
tried makes it as long as y is at the start.

FTRL computes the parameters from its sums alone. Those start at nearly nothing, so its first step,
{FTRL_x:.2f} along x, is mostly a fall towards 0.

Lion, AdamW and LAMB have no weight decay here, as it pulls to 0, where the minimum is.
"""

import fastoptim as fo
from fastoptim.gallery.side_by_side import follow, highest, moving, still
from fastoptim.problems import bowl

WINDOW = (-8, 4.5), (-2.2, 2.4)


def paths():
    # Of 1, 2 and 5 times powers of ten, each rate is the one with which the highest of the last ten
    # heights is lowest; those with which some height is above that of the start are left out.
    rules = {
        "velocity": [fo.SGD(0.5), fo.Momentum(0.05), fo.HeavyBall(0.05), fo.Nesterov(0.5)],
        "sign of the gradient; sum of its squares": [
            fo.Lion(0.5, weight_decay=0.0), fo.Rprop(2), fo.AdaGrad(2), fo.FTRL(2),
        ],
        "moving average of its squares": [
            fo.RMSprop(0.2), fo.AdaDelta(200), fo.AdaBelief(0.1), fo.RAdam(1),
        ],
        "Adam's family": [
            fo.Adam(0.5), fo.AdamW(0.5, weight_decay=0.0), fo.AdaMax(2), fo.NAdam(1),
        ],
    }
    return follow(bowl, rules, steps=50)


def draw():
    groups = paths()
    traces = {k.partition(",")[0]: trace for g in groups.values() for k, trace in g.items()}
    numbers = {name: highest(trace) for name, trace in traces.items()}
    for name in ("SGD", "AdaGrad", "Adam", "FTRL"):
        x, y = traces[name].positions.values()
        numbers |= {f"{name}_x": x[1] - x[0], f"{name}_y": y[0] - y[1]}
    return still(bowl, groups, WINDOW), numbers


def animate():
    return moving(bowl, paths(), WINDOW, legend="upper right")
