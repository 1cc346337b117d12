"""``fastoptim demo``: a network on real images, trained by each rule, beside the NumPy listings.

A rule that has a NumPy listing trains the same network twice from the same seed, in turn at every
step: once with the listing, once with fastoptim. After each step all parameters and all state must
have the same bits.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import fastoptim
from fastoptim import listings
from fastoptim.bench import bits
from fastoptim.bench.figures import Figure, consecutive
from fastoptim.bench.quiet import Company, Watch, in_words
from fastoptim.demo import mlp, picture
from fastoptim.demo.data import NETWORK, SEED, Curve, Data, Report, digits, label, new_network
from fastoptim.demo.methods import compare as compare_methods
from fastoptim.optimizer.base import Optimizer

# What suits this network: of three to six rates, a factor of 2 to 3 apart, the one with the lowest
# validation loss in a run of 30 or 50 epochs. All else is the rule's default, with two exceptions.
# FTRL's first step would forget the weights that the network starts from, and Rprop's steps would
# grow on the noise of mini-batches (a validation loss of 1.1 in place of 0.1).
SETTINGS: dict[str, dict[str, float]] = {
    "SGD": {"lr": 0.5},
    "Momentum": {"lr": 0.2},
    "Nesterov": {"lr": 0.2},
    "AdaGrad": {"lr": 0.03},
    "RMSprop": {"lr": 0.003},
    "Adam": {"lr": 0.001},
    "HeavyBall": {"lr": 0.2},
    "Lion": {"lr": 0.0001},
    "Rprop": {"lr": 0.001, "step_max": 0.001},
    "FTRL": {"lr": 0.03, "initial": 0.0},
    "AdaDelta": {"lr": 3.0},
    "AdaMax": {"lr": 0.005},
    "AdamW": {"lr": 0.001},
    "NAdam": {"lr": 0.003},
    "RAdam": {"lr": 0.003},
    "AdaBelief": {"lr": 0.001},
}
LISTED = tuple(name for name in SETTINGS if hasattr(listings, name))


def rule_names() -> tuple[str, ...]:
    """Return the name of every rule of the library for any array, those of the table first."""
    exported = (getattr(fastoptim, name) for name in fastoptim.__all__)
    classes = (x for x in exported if isinstance(x, type) and issubclass(x, Optimizer))
    rules = [cls.__name__ for cls in classes if cls is not Optimizer and not cls.of_matrices]
    return tuple(dict.fromkeys([*SETTINGS, *rules]))


@dataclass
class Run:
    """One network in training with one optimizer, and its stopwatch."""

    optimizer: Any
    params: dict[Any, Any] = field(default_factory=new_network)
    grads: dict[Any, Any] = field(default_factory=dict)
    step_seconds: list[float] = field(default_factory=list)
    update_seconds: list[float] = field(default_factory=list)

    def step(self, x: Any, t: Any) -> None:
        """Train on one mini-batch."""
        start = perf_counter()
        self.grads = mlp.gradients(self.params, x, t)
        before = perf_counter()
        self.optimizer.update(self.params, self.grads)
        end = perf_counter()
        self.step_seconds.append(end - start)
        self.update_seconds.append(end - before)

    def evaluation(self) -> AbstractContextManager[Any]:
        """Return a context within which the parameters are where the rule is evaluated."""
        context: AbstractContextManager[Any] = nullcontext(self.params)
        if hasattr(self.optimizer, "evaluation"):
            context = self.optimizer.evaluation(self.params)
        return context

    def accuracy(self, data: Data) -> float:
        """Return the share of the digits to validate with that are recognised."""
        with self.evaluation() as params:
            return mlp.accuracy(params, data.x_validation, data.t_validation)


@dataclass
class Training:
    """What training with one rule gave; `theirs` is the listing's run, None where there is none."""

    name: str
    ours: Run
    theirs: Run | None
    curve: Curve = field(default_factory=Curve)
    difference: str = ""  # where the first one is


def first_difference(ours: Run, theirs: Run) -> str:
    """Return the name of the first array whose bits differ, or an empty text.

    The gradients come first: if they differ, the BLAS library multiplied equal numbers to different
    products.
    """
    pairs = {"grads": (ours.grads, theirs.grads), "params": (ours.params, theirs.params)}
    for slot in ours.optimizer.kernels[ours.optimizer.kernel]:
        pairs[slot] = getattr(ours.optimizer, slot), getattr(theirs.optimizer, slot)
    return bits.first_difference(pairs)


def train(name: str, epochs: int, data: Data, bar: Any) -> Training:
    """Train with fastoptim, and in turn at every step with the NumPy listing where there is one."""
    settings = SETTINGS.get(name, {})
    ours = Run(getattr(fastoptim, name)(**settings))
    theirs = Run(getattr(listings, name)(**settings)) if hasattr(listings, name) else None
    training = Training(name, ours, theirs)
    runs = [ours] if theirs is None else [theirs, ours]
    rng, step = np.random.default_rng(SEED), 0
    for _ in range(epochs):
        for x, t in data.batches(rng):
            step += 1
            for run in runs:
                run.step(x, t)
            runs.reverse()  # so that neither always finds the caches as the other left them
            if theirs is not None and not training.difference:
                array = first_difference(ours, theirs)
                training.difference = array and f"at step {step} in {array}"
        with ours.evaluation() as params:
            training.curve.add(params, data)
        bar.update()
    return training


def median_us(seconds: list[float]) -> float:
    """Return the median in microseconds."""
    return median(seconds) * 1e6


TABLE = (
    "                  loss            validation    whole step, µs   update alone, µs  same",
    "      lr  training  validation    accuracy    NumPy fastoptim    NumPy fastoptim  bits",
)


def table(trainings: Sequence[Training], data: Data) -> list[str]:
    """Return the lines of the table, its first column as wide as the longest name."""
    width = max(10, *(len(training.name) + 1 for training in trainings))
    heads = [f"{word:{width}}{line}" for word, line in zip(("", "rule"), TABLE, strict=True)]
    return [*heads, *(f"{t.name:{width}}{row(t, data)}" for t in trainings)]


def row(training: Training, data: Data) -> str:
    """Return one line of the table, without the name."""
    ours, theirs, curve = training.ours, training.theirs, training.curve
    accuracy = ours.accuracy(data)
    step, update, same = "–", "–", "–"
    if theirs is not None:
        step = f"{median_us(theirs.step_seconds):.0f}"
        update = f"{median_us(theirs.update_seconds):.0f}"
        same = "NO" if training.difference else "yes"
    return (
        f"{ours.optimizer.lr:8g}{curve.training[-1]:10.4f}{curve.validation[-1]:12.4f}"
        f"{accuracy:12.1%}{step:>9}{median_us(ours.step_seconds):10.0f}"
        f"{update:>9}{median_us(ours.update_seconds):10.0f}{same:>6}"
    )


PARTS = 8       # of a training, whose medians must agree
FEWEST = 5      # steps of a part
APART = 0.1     # how far they may be apart: a step of 1 ms is less steady than a benchmark's turns


def doubtful(training: Training) -> list[str]:
    """Return the names of the times of a training that are not to be trusted."""
    runs = {"NumPy": training.theirs, "fastoptim": training.ours}
    found = []
    for who, run in runs.items():
        if run is None:
            continue
        for what, seconds in ("step", run.step_seconds), ("update", run.update_seconds):
            few = len(seconds) < PARTS * FEWEST
            if few or not Figure.of(consecutive(seconds, PARTS), APART).steady:
                found.append(f"{what} with {who}")
    return found


def caveats(trainings: Sequence[Training], company: Company) -> list[str]:
    """Return what a reader must know before quoting a time; nothing of a quiet, steady training."""
    if not company.quiet:
        return [
            f"The machine was not quiet: {in_words(company)}.",
            "None of these times is to be trusted.",
        ]
    steps = min(len(training.ours.step_seconds) for training in trainings)
    if steps < PARTS * FEWEST:
        return [f"{steps} steps are too few for times to be trusted."]
    lines = [(training.name, doubtful(training)) for training in trainings]
    texts = [f"  {name}: {', '.join(which)}" for name, which in lines if which]
    return ["Times not to be trusted, since they changed on the way:", *texts] if texts else []


def figures(training: Training, data: Data) -> dict[str, Any]:
    """Return what a line of the table says, for a machine to read; times are in seconds."""
    curve, runs = training.curve, {"fastoptim": training.ours, "NumPy": training.theirs}
    return {
        "rule": training.name,
        "settings": SETTINGS.get(training.name, {}),
        "training": curve.training,
        "validation": curve.validation,
        "accuracy": training.ours.accuracy(data),
        "step": {who: median(run.step_seconds) for who, run in runs.items() if run},
        "update": {who: median(run.update_seconds) for who, run in runs.items() if run},
        "same bits": None if training.theirs is None else not training.difference,
    }


def compare_rules(
    names: Sequence[str], epochs: int, output: Path, data: Data, bar: Any, report: Report,
) -> int:
    """Train with each rule; print a table, draw the losses and return the exit status."""
    trainings, watch = [], Watch()
    for name in names:
        bar.set_postfix_str(name)
        trainings.append(train(name, epochs, data, bar))
    company = watch.company()
    bar.clear()
    words = caveats(trainings, company)
    report.add("rules", [figures(training, data) for training in trainings])
    report.add("not to be trusted", words)
    report.say(*table(trainings, data), *words)
    labels = {name: label(name, SETTINGS.get(name, {})) for name in names}
    more = [labels[name] for name in names if set(SETTINGS.get(name, {})) - {"lr"}]
    if more:
        report.say(f"({'; '.join(more)})")
    path = output / "loss.png"
    curves = {labels[t.name]: (t.curve.training, t.curve.validation) for t in trainings}
    picture.both_losses(curves, path, title=NETWORK, x="epoch")
    report.say(f"Losses: {path}\n")
    for training in trainings:
        if training.difference:
            print(
                f"error: {training.name} first differs from its NumPy listing "
                f"{training.difference}; please report this with the output of 'fastoptim info'",
                file=sys.stderr,
            )
    return int(any(training.difference for training in trainings))


def one_set_of_threads(wanted: bool) -> tuple[AbstractContextManager[object], str]:
    """Return what shares the threads of updates with NumPy's products, and what to say of it."""
    if not wanted:
        return nullcontext(), "NumPy's products on threads of their own"
    try:
        shared = fastoptim.share_threads()
    except RuntimeError:  # another BLAS than OpenBLAS
        return nullcontext(), "NumPy's products on threads of their own (share_threads says why)"
    if not shared.libraries:  # a build without OpenMP
        return shared, "updates on one thread"
    return shared, f"NumPy's products and updates share {shared.n_threads} threads"


def main(
    rules: Sequence[str], methods: Sequence[str], epochs: int, output: Path, quiet: bool,
    share: bool = True, as_json: bool = False,
) -> int:
    """Run the demonstration; return the exit status."""
    from tqdm import tqdm

    output.mkdir(parents=True, exist_ok=True)
    data, report = digits(), Report(as_json)
    threads, said = one_set_of_threads(share)
    report.add("network", NETWORK)
    report.add("epochs", epochs)
    report.add("threads", said)
    report.say(
        f"{NETWORK}, float32: {len(data.x):,} to train on,\n"
        f"{len(data.x_validation)} to validate; {epochs} epoch{'s' * (epochs > 1)}"
        f"{'; times are medians' if rules else ''}; {said}\n"
    )
    status = 0
    with threads, tqdm(
        total=(len(rules) + len(methods)) * epochs, desc="training", unit="epoch", leave=False,
        disable=True if quiet else None,
    ) as bar:
        if rules:
            status = compare_rules(rules, epochs, output, data, bar, report)
        if methods:
            compare_methods(methods, epochs, output, data, bar, report)
    report.end()
    return status
