"""Pictures of paths, losses and schedules, drawn with matplotlib.

It comes with ``pip install 'fastoptim[plot]'``. Every function draws on the axes that it is given
and returns them. It never shows a picture, never writes one, and leaves matplotlib's settings as
they are. ``ax.figure.savefig("paths.png")`` writes.

>>> import fastoptim as fo
>>> bowl = fo.problems.bowl
>>> ax = fo.plot.paths(bowl, fo.trace(fo.Momentum(lr=0.1), bowl.start(), bowl))
>>> ax.get_xlabel(), ax.get_ylabel()
('x', 'y')
"""

from fastoptim.plot.curve import curve
from fastoptim.plot.losses import losses
from fastoptim.plot.paths import paths
from fastoptim.plot.schedule import schedule
from fastoptim.plot.speed import speed

__all__ = ["curve", "losses", "paths", "schedule", "speed"]
