"""A whole training in one file: arrays, numbers, text, optimizers, schedules, random generators.

==============  =================================================================================
file.py         `save` and `load`
objects.py      what stands in a file for each object, and that it is in it once
build.py        new objects of what stands for them
into.py         objects and arrays that are there already, and take over what a file holds
schedules.py    schedules as their names and arguments
generators.py   random generators as their numbers
checkpoints.py  a folder with the last few files and the best
==============  =================================================================================

What stands for an object is a name of this library or of NumPy, and numbers. The name is looked up
in a table, so nothing of a file is code that runs.
"""

from fastoptim.training.checkpoints import Checkpoints
from fastoptim.training.file import load, save

__all__ = ["Checkpoints", "load", "save"]
