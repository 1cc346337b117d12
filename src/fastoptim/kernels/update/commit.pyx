"""What must change in the same step as the arrays of an update.

Python delivers an interrupt between two of its own instructions. Compiled code has none, so what it
does in a row is done as a whole or not at all, as other threads see it, too.
"""

cimport cython


@cython.final
cdef class Commit:
    """A number by which its owner knows what holds, and a turn that one caller has at a time.

    The owner prepares what will hold after an update under a number of its own; the update sets
    the number (`Collector.update`, `restore`) with no interrupt between it and the arrays.

    Parameters
    ----------
    busy_text : str
        What a caller is told who comes while another has the turn.
    """

    def __init__(self, str busy_text):
        self.busy_text = busy_text

    def alone(self, function, *arguments):
        """Call a function unless another call is in the middle; return what it returns."""
        if self.busy:
            raise RuntimeError(self.busy_text)
        self.busy = True
        try:
            return function(*arguments)
        finally:
            self.busy = False
