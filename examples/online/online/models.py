"""The models: what they keep, what they are given, and which numbers the rule gets at each step."""

import operator
from dataclasses import fields, replace

import numpy as np
import scipy.sparse as sp

import fastoptim as fo
from online import _stream

BLOCK = 8192  # examples between two looks at Ctrl-C

# Options of opt.update, which is not called here; decoupled is nothing without weight_decay.
OPTIONS = [field.name for field in fields(fo.SGD) if field.kw_only and field.name != "decoupled"]


class AsksForStep(Exception):
    """A rule's coefficients depend on the step."""


class Unknown:
    """A step that may be any: what reads it is found out, but for t·0, which is 0 whatever t is."""

    checked = False

    def ask(self, *_):
        raise AsksForStep

    def __index__(self):
        """Let `coefficients` see, once, that this is a whole number of at least 1."""
        if self.checked:
            self.ask()
        self.checked = True
        return 1

    def shift(self, _):
        return self

    def times(self, other):
        return other if type(other) is float and other == 0.0 else self.ask()

    __add__ = __radd__ = __sub__ = shift
    __mul__ = __rmul__ = times
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __rpow__ = __rsub__ = ask
    __neg__ = __float__ = __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = ask
    __hash__ = None


class Model(_stream.Stream):
    """A table with a row for each feature and a bias, trained on one example at a time.

    Parameters
    ----------
    opt : optimizer of fastoptim, such as fo.AdaGrad(lr=0.1)
        The rule and its hyperparameters; schedules count examples. `opt.update` is not called, so
        options that belong to it are refused.
    features : int
        Columns of the examples.
    bias : bool
    dtype : float32 or float64
        Of the table, its state and the examples' values.

    Attributes
    ----------
    table, bias : arrays
    state, bias_state : arrays, (slots of the rule, …)
    t : int
        Examples learned so far.

    Notes
    -----
    An example's step is one update of the features that it has and of the bias, as `opt.update`
    makes it with `fo.Rows`: other features keep their state, and the step count is the stream's.
    """

    classes = 2

    def __init__(self, opt, features, *, scores, width, bias, dtype):
        plain = fo.SGD()
        for option in OPTIONS:
            if getattr(opt, option) != getattr(plain, option):
                raise ValueError(f"{option} is an option of opt.update, which is not called here")
        if opt.norms or opt.factored or opt.of_matrices:
            raise ValueError(
                f"{type(opt).__name__} goes by whole tensors, and single rows are updated here; "
                f"use another rule"
            )
        if vars(opt).get("lookahead"):
            raise ValueError("lookahead belongs to opt.step, which is not called here")
        if not isinstance(features, (int, np.integer)) or not 1 <= features < 2**31:
            raise ValueError(f"features must be a whole number in [1, 2**31), got {features!r}")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
        self.opt, self.scores, self.t = opt, scores, 0
        slots, n_bias = _stream.slots_of(opt.kernel), scores if bias else 0
        super().__init__(
            opt.kernel, scores, np.zeros((features, width), dtype), np.zeros(n_bias, dtype),
            np.zeros((slots, features, width), dtype), np.zeros((slots, n_bias), dtype),
        )
        for k, name in enumerate(opt.kernels[opt.kernel]):
            start = getattr(type(opt), name).start          # None: zeros
            if start is not None:
                value = opt.current(start)
                self.state[k], self.bias_state[k] = value, value

    def learn(self, x, y):
        """Learn examples one after the other.

        Parameters
        ----------
        x : sparse array or matrix of shape (n, features)
        y : array of n integers
            0 or 1; for `Softmax` the number of a class.

        Returns
        -------
        array of n
            The loss of each example before it was learned: progressive validation.
        """
        parts, labels = self.checked(x), np.asarray(y)
        if labels.shape != (x.shape[0],) or labels.dtype.kind not in "iub":
            raise ValueError(f"y must be {x.shape[0]} integers, got {labels.dtype} {labels.shape}")
        if labels.size and not 0 <= labels.min() <= labels.max() < self.classes:
            raise ValueError(
                f"labels must be in [0, {self.classes}), got {labels.min()} to {labels.max()}"
            )
        labels, losses = labels.astype(np.int32), np.empty(len(labels))
        bounds, index, values = parts
        for start in range(0, len(labels), BLOCK):
            end = min(start + BLOCK, len(labels))
            scalars = self.scalars(end - start)
            self.run_rows(
                scalars.reshape(-1), len(scalars), bounds[start : end + 1], index, values,
                labels[start:end], losses[start:end],
            )
            self.t += end - start
        return losses

    def learn_one(self, index, values, label):
        """Learn one example: its features in order, none twice, their values, its label.

        Returns
        -------
        float
            Its loss before it was learned.
        """
        try:
            scalars = self.opt.coefficients(self.t + 1)
        except TypeError:                                   # of a schedule
            scalars = self.scalars(1)
        dtype = self.table.dtype
        loss = self.run_one(
            np.array(scalars, dtype).reshape(-1), self.narrow(index), np.asarray(values, dtype),
            operator.index(label),
        )
        self.t += 1
        return loss

    def predict(self, x):
        """Return the probability of label 1 for each example; of `Softmax` those of all classes."""
        out = np.empty((x.shape[0], self.scores))
        self.run_predict(*self.checked(x), out)
        return out[:, 0] if self.scores == 1 else out

    def scalars(self, n):
        """Return the rule's coefficients for the next n examples: one row, if they are the same."""
        opt, dtype = self.opt, self.table.dtype
        given = {field.name: vars(opt)[field.name] for field in fields(opt)}
        schedules = {name: value for name, value in given.items() if callable(value)}
        if not schedules:
            try:
                return np.array([opt.coefficients(Unknown())], dtype)
            except AsksForStep:
                return np.array([opt.coefficients(self.t + k) for k in range(1, n + 1)], dtype)
        rows = []
        for step in range(self.t, self.t + n):
            now = replace(opt, **{name: schedule(step) for name, schedule in schedules.items()})
            rows.append(now.coefficients(step + 1))
        return np.array(rows, dtype)

    def narrow(self, index):
        """Return features as numbers of 32 bits, of which none is another's by its lower bits."""
        index = np.asarray(index)
        if index.dtype == np.int32:
            return index
        if index.size and index.dtype.kind not in "iu":
            raise TypeError(f"features must be integers, got {index.dtype}")
        if index.size and not 0 <= index.min() <= index.max() < len(self.table):
            raise ValueError(
                f"features must be numbers in [0, {len(self.table)}), got {index.min()} to "
                f"{index.max()}"
            )
        return index.astype(np.int32)

    def checked(self, x):
        """Return the parts of a CSR array: bounds, columns in order and none twice, values."""
        if not sp.issparse(x):
            raise TypeError(f"x must be a sparse array of SciPy, got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] != len(self.table):
            raise ValueError(f"x must have shape (n, {len(self.table)}), got {x.shape}")
        if x.dtype.kind not in "fiub":
            raise TypeError(f"x must be of real numbers, got {x.dtype}")
        csr = x.tocsr()
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        return (
            csr.indptr.astype(np.int64, copy=False), self.narrow(csr.indices),
            csr.data.astype(self.table.dtype, copy=False),
        )


class Logistic(Model):
    """Logistic regression: a weight for each feature."""

    def __init__(self, opt, features, *, bias=True, dtype=np.float64):
        super().__init__(opt, features, scores=1, width=1, bias=bias, dtype=dtype)


class Softmax(Model):
    """Softmax regression: a weight for each feature and class."""

    def __init__(self, opt, features, classes, *, bias=True, dtype=np.float64):
        if not isinstance(classes, (int, np.integer)) or classes < 2:
            raise ValueError(f"classes must be a whole number of at least 2, got {classes!r}")
        super().__init__(opt, features, scores=classes, width=classes, bias=bias, dtype=dtype)
        self.classes = classes


class FactorisationMachine(Model):
    """A weight for each feature and one for each pair, the product of two rows of `rank` factors.

    Factors start at normal numbers of standard deviation `scale`.
    """

    def __init__(
        self, opt, features, rank, *, scale=0.05, seed=0, bias=True, dtype=np.float64
    ):
        if not isinstance(rank, (int, np.integer)) or rank < 1:
            raise ValueError(f"rank must be a whole number of at least 1, got {rank!r}")
        super().__init__(opt, features, scores=1, width=1 + rank, bias=bias, dtype=dtype)
        draw = np.random.default_rng(seed).normal(0, scale, (features, rank))
        self.table[:, 1:] = draw
