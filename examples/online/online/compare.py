"""Examples per second and accuracy, beside scikit-learn and river (where they are installed).

    python -m online.compare                # synthetic, logistic regression
    python -m online.compare --data texts   # packages of the standard library, softmax regression
    python -m online.compare --data pairs   # users and items, factorisation machine

One pass over the same examples in the same order; a fifth of them are held out. Whoever takes the
whole stream in one call runs in turn with the others, --rounds times; the rate is the median.
Whoever takes one example per call runs once. The progressive loss is the mean of the losses of
each example before it is learned; the time that others need to predict it is not counted.
"""

import argparse
import sys
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from time import perf_counter

import numpy as np

import fastoptim as fo
from online import FactorisationMachine, Logistic, Softmax, data

LR = {"synthetic": 0.5, "texts": 1.0, "pairs": 0.2}
RANK = 8


class Task:
    """A training set, a test set, and what kind of model is wanted."""

    def __init__(self, name, n, seed):
        rng = np.random.default_rng(seed)
        self.name, self.lr = name, LR[name]
        x, y = getattr(data, name)(n, rng)
        cut = x.shape[0] * 4 // 5
        self.x, self.y, self.x_test, self.y_test = x[:cut], y[:cut], x[cut:], y[cut:]
        self.classes = int(y.max()) + 1
        self.rows, self.rows_test = rows_of(self.x), rows_of(self.x_test)

    def model(self, opt):
        features = self.x.shape[1]
        if self.name == "texts":
            return Softmax(opt, features, self.classes, bias=False)     # as river's
        if self.name == "pairs":
            return FactorisationMachine(opt, features, RANK, scale=0.1)
        return Logistic(opt, features)


def rows_of(x):
    """Return the columns and the values of each row of a CSR matrix."""
    return [(x.indices[a:b], x.data[a:b]) for a, b in pairwise(x.indptr)]


def as_table(chances):
    """Return the probabilities of all classes, of those of label 1 or of all."""
    chances = np.asarray(chances, float)
    return np.stack([1 - chances, chances], axis=1) if chances.ndim == 1 else chances


def log_loss(chances, y):
    return float(-np.log(np.maximum(as_table(chances)[np.arange(len(y)), y], 1e-15)).mean())


# ---------------------------------------------------------------- those who are compared
# Each takes a task and returns seconds, the progressive loss or None, and a function of x_test.


def in_one_call(make):
    def run(task):
        model = task.model(make(task.lr))
        start = perf_counter()
        losses = model.learn(task.x, task.y)
        return perf_counter() - start, losses.mean(), lambda: model.predict(task.x_test)
    return run


def one_by_one(task):
    model, labels, losses = task.model(fo.SGD(task.lr)), task.y.tolist(), []
    start = perf_counter()
    for (index, values), label in zip(task.rows, labels, strict=True):
        losses.append(model.learn_one(index, values, label))
    return perf_counter() - start, np.mean(losses), lambda: model.predict(task.x_test)


def sgd_classifier(task):
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(
        loss="log_loss", penalty=None, learning_rate="constant", eta0=task.lr, shuffle=False
    )


def sklearn_in_one_call(task):
    model, classes = sgd_classifier(task), np.arange(task.classes)
    start = perf_counter()
    model.partial_fit(task.x, task.y, classes)
    return perf_counter() - start, None, lambda: model.predict_proba(task.x_test)


def sklearn_one_by_one(task):
    """Of the first 1,000 examples: a call takes as long for each."""
    n = min(1000, len(task.y))
    model, classes, seconds = sgd_classifier(task), np.arange(task.classes), 0.0
    for k in range(n):
        x, y = task.x[k : k + 1], task.y[k : k + 1]
        start = perf_counter()
        model.partial_fit(x, y, classes)
        seconds += perf_counter() - start
    return seconds * len(task.y) / n, None, None


def as_dict(index, values):
    return dict(zip(index.tolist(), values.tolist(), strict=True))


def river_one_by_one(task):
    from river import facto, linear_model, optim

    if task.name == "synthetic":
        model = linear_model.LogisticRegression(optim.SGD(task.lr), intercept_lr=task.lr)
    elif task.name == "texts":
        model = linear_model.SoftmaxRegression(optim.SGD(task.lr))
    else:
        model = facto.FMClassifier(
            n_factors=RANK, weight_optimizer=optim.SGD(task.lr), intercept_lr=task.lr,
            latent_optimizer=optim.SGD(task.lr), seed=0,
        )
    labels = [bool(y) for y in task.y] if task.classes == 2 else task.y.tolist()
    seconds, losses = 0.0, []
    for (index, values), y in zip(task.rows, labels, strict=True):
        x = as_dict(index, values)
        losses.append(-np.log(max(model.predict_proba_one(x).get(y, 1 / task.classes), 1e-15)))
        start = perf_counter()
        model.learn_one(x, y)
        seconds += perf_counter() - start

    def predict():
        out = np.zeros((task.x_test.shape[0], task.classes))
        for k, row in enumerate(task.rows_test):
            for label, chance in model.predict_proba_one(as_dict(*row)).items():
                out[k, int(label)] = chance
        return out
    return seconds, np.mean(losses), predict


def contestants(task):
    """Return those who take part: name, function, whether it runs in every round."""
    found = [
        ("online, SGD", in_one_call(fo.SGD), True),
        ("online, AdaGrad", in_one_call(fo.AdaGrad), True),
        ("online, SGD, a call per example", one_by_one, False),
    ]
    if task.name != "pairs" and find_spec("sklearn"):
        found.insert(1, ("scikit-learn", sklearn_in_one_call, True))
        found.append(("scikit-learn, a call per example", sklearn_one_by_one, False))
    if find_spec("river"):
        found.append(("river, a call per example", river_one_by_one, False))
    return found


def measure(task, rounds):
    """Run everyone in turn; return for each its rate, its losses and its accuracy."""
    seconds, results, found = {}, {}, contestants(task)
    for k in range(rounds):
        for name, run, often in (found if k % 2 == 0 else found[::-1]):
            if often or k == 0:
                time, *results[name] = run(task)
                seconds.setdefault(name, []).append(time)
    lines = []
    for name, _, _ in found:
        progressive, predict = results[name]
        chances = None if predict is None else as_table(predict())
        lines.append((
            name, len(task.y) / median(seconds[name]), progressive,
            None if chances is None else log_loss(chances, task.y_test),
            None if chances is None else float((chances.argmax(axis=1) == task.y_test).mean()),
        ))
    return lines


def shown(number, form):
    return "" if number is None else format(number, form)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Examples per second and accuracy")
    parser.add_argument("--data", choices=sorted(LR), default="synthetic")
    parser.add_argument("--examples", type=int, default=100_000, help="at most")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    if chosen.examples < 100 or chosen.rounds < 1:
        parser.error("--examples must be at least 100, --rounds at least 1")
    task = Task(chosen.data, chosen.examples, chosen.seed)
    print(
        f"{chosen.data}: {len(task.y):,} examples with {task.x.nnz / len(task.y):.1f} of "
        f"{task.x.shape[1]:,} features, {task.classes} classes; {len(task.y_test):,} held out; "
        f"learning rate {task.lr}\n"
    )
    print("| | examples/s | progressive loss | loss, held out | accuracy |\n|---|---|---|---|---|")
    for name, rate, progressive, loss, right in measure(task, chosen.rounds):
        print(
            f"| {name} | {rate:,.0f} | {shown(progressive, '.4f')} | {shown(loss, '.4f')} | "
            f"{shown(right, '.1%')} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
