"""One training on many machines, each of which keeps a part of the optimizer's state.

`fastoptim` itself imports nothing of this. It needs ``pip install 'fastoptim[mpi]'`` and an MPI.

- sharded.py: the class, and what each rank brings to an update
- starting.py: MPI itself, and how many threads each rank has
- cutting.py: which rank owns which elements of a key
- table.py: what one rank was given, and which way each key goes
- exchange.py: the buckets in which gradients and parameters travel, and gradients of rows
- agreement.py: what must be equal everywhere, and what all ranks raise
- checkpoint.py: a state of all ranks in one piece, or in a file for each
"""

from fastoptim.mpi.sharded import Sharded

__all__ = ["Sharded"]
