"""``mpiexec -n 4 fastoptim demo --mpi``: the network trained by several processes together.

Each rank has a part of every mini-batch. Rank 0 trains a second network with the gradients of all
ranks, in one process, in soft batches; after every step both must have the same bits. It gets the
gradients themselves: two processors may multiply equal matrices to different products.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import fastoptim
from fastoptim.bench import bits
from fastoptim.cli.refused import Refused
from fastoptim.demo import mlp, picture
from fastoptim.demo.data import (
    BATCH,
    NETWORK,
    SEED,
    Curve,
    Data,
    Report,
    digits,
    label,
    new_network,
)
from fastoptim.demo.train import SETTINGS
from fastoptim.mpi import Sharded, starting


class Training:
    """A network in training on all ranks, and in rank 0 its twin in one process."""

    def __init__(self, name: str, comm: Any) -> None:
        settings = SETTINGS.get(name, {})
        rule = getattr(fastoptim, name)
        self.name, self.comm = name, comm
        self.params, self.twins = new_network(), new_network()
        self.ours = Sharded(rule(**settings), comm)
        self.theirs = fastoptim.SoftBatch(rule(**settings), comm.Get_size())
        self.curve = Curve()
        self.steps, self.difference = 0, ""

    def step(self, x: Any, t: Any) -> None:
        """Train on one mini-batch, of which this rank has a part."""
        rank, size = self.comm.Get_rank(), self.comm.Get_size()
        x, t = np.array_split(x, size)[rank], np.array_split(t, size)[rank]
        grads = mlp.gradients(self.params, x, t)
        every = self.comm.gather(grads)
        self.ours.update(self.params, grads)
        self.steps += 1
        if every is not None:
            for one in every:
                self.theirs.update(self.twins, one)
            array = bits.first_difference({"params": (self.params, self.twins)})
            if array and not self.difference:
                self.difference = f"at step {self.steps} in {array}"

    def evaluation(self) -> AbstractContextManager[Any]:
        """Return a context within which the parameters are where the rule is evaluated."""
        if hasattr(self.ours.opt, "evaluation"):
            context: AbstractContextManager[Any] = self.ours.evaluation(self.params)
            return context
        return nullcontext(self.params)

    def end_epoch(self, data: Data) -> None:
        """Note the losses."""
        with self.evaluation() as params:
            if self.comm.Get_rank() == 0:
                self.curve.add(params, data)

    def accuracy(self, data: Data) -> float:
        """Return the share of the digits to validate with that are recognised."""
        with self.evaluation() as params:
            return mlp.accuracy(params, data.x_validation, data.t_validation)

    def state_bytes(self) -> int:
        """Return how many bytes of state this rank keeps."""
        opt = self.ours.opt
        slots = (getattr(opt, slot) for slot in opt.kernels[opt.kernel])
        return sum(a.nbytes for arrays in slots for a in arrays.values())


HEAD = ("                  loss            validation  state of rank 0,  same",
        "      lr  training  validation    accuracy             bytes  bits")


def train(name: str, epochs: int, data: Data, comm: Any, bar: Any) -> Training:
    """Train with one rule."""
    training, rng = Training(name, comm), np.random.default_rng(SEED)
    for _ in range(epochs):
        for x, t in data.batches(rng):
            training.step(x, t)
        training.end_epoch(data)
        bar.update()
    return training


def row(training: Training, accuracy: float) -> str:
    """Return one line of the table, without the name."""
    curve = training.curve
    return (
        f"{training.ours.opt.lr:8g}{curve.training[-1]:10.4f}"  # type: ignore[attr-defined]
        f"{curve.validation[-1]:12.4f}{accuracy:12.1%}{training.state_bytes():18,}"
        f"{'NO' if training.difference else 'yes':>6}"
    )


def run(
    rules: Sequence[str], epochs: int, output: Path, quiet: bool, as_json: bool, comm: Any
) -> int:
    """Train on all ranks; rank 0 prints and draws. Return the exit status, the same in all."""
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    starting.share_cores(starting.mpi(), comm)
    # NumPy's products have the rank's cores, too: more threads than cores wait for each other
    threads = threadpool_limits(limits=fastoptim.get_num_threads(), user_api="blas")
    first, size = comm.Get_rank() == 0, comm.Get_size()
    data, report = digits(), Report(as_json)
    trainings, lines, figures = [], [], []
    width = max(10, *(len(name) + 1 for name in rules))
    with threads, tqdm(
        total=len(rules) * epochs, desc="training", unit="epoch", leave=False,
        disable=True if quiet or not first else None,
    ) as bar:
        for name in rules:
            training = train(name, epochs, data, comm, bar)
            accuracy = training.accuracy(data)
            trainings.append(training)
            if first:
                lines.append(f"{name:{width}}{row(training, accuracy)}")
                figures.append({
                    "rule": name, "settings": SETTINGS.get(name, {}),
                    "training": training.curve.training, "validation": training.curve.validation,
                    "accuracy": accuracy, "state bytes": training.state_bytes(),
                    "same bits": not training.difference,
                })
    differ = [one for one in trainings if one.difference]
    if first:
        for key, value in (("network", NETWORK), ("epochs", epochs), ("ranks", size)):
            report.add(key, value)
        report.add("rules", figures)
        report.say(
            f"{NETWORK}, float32,",
            f"on {size} rank{'s' * (size > 1)}, with {BATCH // size} of a batch each; "
            f"{epochs} epoch{'s' * (epochs > 1)}\n",
        )
        heads = [f"{word:{width}}{line}" for word, line in zip(("", "rule"), HEAD, strict=True)]
        report.say(*heads, *lines)
        curves = {
            label(one.name, SETTINGS.get(one.name, {})): (one.curve.training, one.curve.validation)
            for one in trainings
        }
        picture.both_losses(curves, output / "loss.png", title=NETWORK, x="epoch")
        report.say(f"Losses: {output / 'loss.png'}")
        report.end()
        for one in differ:
            print(
                f"error: {one.name} on {size} ranks first differs from one process "
                f"{one.difference}; please report this with the output of 'fastoptim info'",
                file=sys.stderr,
            )
    return int(comm.bcast(int(bool(differ))))


def main(
    rules: Sequence[str], epochs: int, output: Path, quiet: bool, as_json: bool,
    writable: Callable[[Path], Path],
) -> int:
    """Run the demonstration on all ranks; an error in one of them ends them all.

    `writable` makes the folder, or raises; rank 0 calls it.
    """
    comm = starting.mpi().COMM_WORLD
    try:
        refused = None
        if comm.Get_rank() == 0:
            try:
                writable(output)
            except Exception as problem:
                refused = problem
        if comm.bcast(refused is not None):
            if refused is not None:
                raise refused
            return 1
        return run(rules, epochs, output, quiet, as_json, comm)
    except Refused:     # the other ranks know
        raise
    except BaseException:
        if comm.Get_size() == 1:
            raise
        traceback.print_exc()
        sys.stderr.flush()
        comm.Abort(1)
        raise
