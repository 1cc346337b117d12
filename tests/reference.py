"""The NumPy oracle: the published listing of every rule, under the rule's class name.

The rules that ``fastoptim demo`` shows have their listings in the package, since the demo runs
where the tests are not; the test suite has no other statement of them. A rule that the demo does
not show has its listing below. test_registry.py holds the names against the library's.
"""

from fastoptim.listings import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop

ORACLES = {cls.__name__: cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)}
