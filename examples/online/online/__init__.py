"""Models of a stream of sparse examples, each trained on one example at a time.

>>> import fastoptim as fo, numpy as np
>>> from online import Logistic, hashed
>>> x = hashed([["cheap", "pills"], ["see", "you", "soon"]] * 50, bits=10)
>>> model = Logistic(fo.AdaGrad(lr=0.5), features=2**10)
>>> losses = model.learn(x, [1, 0] * 50)              # of each example, before it is learned
>>> round(float(losses[0]), 3), bool(losses[-1] < 0.1)
(0.693, True)
"""

from online._hashing import hashed
from online.models import FactorisationMachine, Logistic, Softmax

__all__ = ["FactorisationMachine", "Logistic", "Softmax", "hashed"]
