"""How well networks train when state is kept in fewer bits: final losses, and their spread.

    python bench/quality.py                                 # float32 state
    python bench/quality.py --state float32 bfloat16 int8

Two models, each trained by each rule from five seeds: a perceptron on scikit-learn's handwritten
digits, and one that predicts the next character of Python's own help texts from the eight before
it. A seed sets the weights and the order of the batches, so that two kinds of state meet the same
ones. What is compared is the loss over the whole training set and over what is held out.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean, stdev
from typing import Any

import numpy as np
from tqdm import tqdm

import fastoptim as fo
from fastoptim.demo import data as demo
from fastoptim.demo import mlp

SEEDS = range(5)
STATES = ("float32", "bfloat16", "int8")
CHARACTERS, CONTEXT = 60_000, 8


@dataclass
class Task:
    """What is trained: the data, the network's layers, the steps, and each rule's rate."""

    x: Any
    t: Any
    x_held_out: Any
    t_held_out: Any
    layers: list[int]
    batch: int
    steps: int
    rates: dict[str, float]

    def inputs(self, x):
        """Return what the network reads: a context's characters become vectors of 0 and 1."""
        if x.dtype != np.uint8:
            return x
        hot = np.zeros((len(x), CONTEXT, self.layers[-1]), np.float32)
        np.put_along_axis(hot, x[:, :, None].astype(np.intp), 1, axis=2)
        return hot.reshape(len(x), -1)

    def loss(self, params, x, t):
        """Return the mean cross-entropy over a whole set."""
        parts = range(0, len(x), 5000)
        sums = [
            mlp.loss(params, self.inputs(x[k : k + 5000]), t[k : k + 5000]) * len(t[k : k + 5000])
            for k in parts
        ]
        return sum(sums) / len(x)


def digits():
    """Return the demonstration's digits, with a smaller network."""
    found = demo.digits()
    return Task(*found, layers=[64, 256, 128, 10], batch=120, steps=600, rates={
        "Adam": 0.001, "RMSprop": 0.001, "Momentum": 0.1, "Lion": 0.0001,
    })


def characters(text):
    """Return the model of a text: the last tenth of it is held out."""
    known = sorted(set(text))
    numbers = np.array([known.index(c) for c in text], np.uint8)
    x = np.lib.stride_tricks.sliding_window_view(numbers[:-1], CONTEXT)
    t = numbers[CONTEXT:].astype(np.intp)
    kept = len(x) * 9 // 10
    return Task(
        x[:kept], t[:kept], x[kept:], t[kept:],
        layers=[CONTEXT * len(known), 256, len(known)], batch=128, steps=2000,
        rates={"Adam": 0.001, "RMSprop": 0.001, "Momentum": 0.3, "Lion": 0.0003},
    )


def help_text():
    """Return the first characters of Python's help texts, which differ from version to version."""
    return "\n".join(topics[name] for name in sorted(topics))[:CHARACTERS]


def train(task, rule, state, seed, bar):
    """Return the losses of a network at the end: over the training set, and over the rest."""
    options = {} if state == "float32" else {"state_dtype": state}
    opt = getattr(fo, rule)(task.rates[rule], **options)
    params = mlp.init(task.layers, seed)
    rng = np.random.default_rng(seed)
    for _ in range(task.steps):
        chosen = rng.integers(0, len(task.x), task.batch)
        opt.update(params, mlp.gradients(params, task.inputs(task.x[chosen]), task.t[chosen]))
        bar.update()
    return (
        task.loss(params, task.x, task.t), task.loss(params, task.x_held_out, task.t_held_out)
    )


def as_text(losses, of_float32):
    """Return mean ± standard deviation, and how many of float32's deviations the mean is off."""
    text = f"{mean(losses):.4f} ± {stdev(losses):.4f}"
    if not of_float32:
        return text
    off = round((mean(losses) - mean(of_float32)) / stdev(of_float32), 1)
    return f"{text} ({off + 0.0:+.1f})"     # −0 becomes 0


def table(found):
    """Yield the lines of a table: (task, rule, state) → losses of the seeds."""
    yield "| model | rule | state | training loss | validation loss |"
    yield "|---|---|---|---|---|"
    for (task, rule, state), pairs in found.items():
        of_float32 = [] if state == "float32" else found.get((task, rule, "float32"), [])
        texts = [
            as_text([pair[k] for pair in pairs], [pair[k] for pair in of_float32])
            for k in (0, 1)
        ]
        yield f"| {task} | {rule} | {state} | {texts[0]} | {texts[1]} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", nargs="+", choices=STATES, default=["float32"])
    parser.add_argument("--rule", nargs="+", choices=list(digits().rates))
    parser.add_argument("--steps", type=int, help="fewer, for a trial")
    parser.add_argument("--json", type=Path, help="a file for all losses")
    arguments = parser.parse_args()
    text = help_text()
    tasks = {"digits": digits(), "characters": characters(text)}
    rules = arguments.rule or list(tasks["digits"].rates)
    for task in tasks.values():
        task.steps = min(task.steps, arguments.steps or task.steps)
    runs = [(name, rule, state) for name in tasks for rule in rules for state in arguments.state]
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    steps = sum(tasks[name].steps for name, _, _ in runs) * len(SEEDS)
    with tqdm(total=steps, unit="step", disable=None) as bar:
        for run in runs:
            bar.set_description(", ".join(run))
            name, rule, state = run
            found[run] = [train(tasks[name], rule, state, seed, bar) for seed in SEEDS]
    print(*table(found), sep="\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"\n{len(text):,} characters of Python {version}'s help texts, SHA-256 {digest[:12]}…")
    if arguments.json:
        arguments.json.write_text(json.dumps({", ".join(key): v for key, v in found.items()}))


if __name__ == "__main__":
    main()
