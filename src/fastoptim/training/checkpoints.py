"""A folder of training files: the last few, and the one with the lowest loss."""

import math
import os
import re
from operator import index
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

from fastoptim.checkpoint import file as checkpoint
from fastoptim.checkpoint.header import OtherFormat
from fastoptim.schedules.plateau import number_of
from fastoptim.training.build import Builder, Classes
from fastoptim.training.file import save, taken_over

NAME = re.compile(r"step-(\d+)(?:-loss-(\S+))?\.safetensors")


class Saved(NamedTuple):
    """A file of the folder, and what its name says."""

    step: int
    loss: float  # NaN: none was given
    path: Path


class Checkpoints:
    """Keep the last few states of a training in a folder, and the best by a loss.

    Parameters
    ----------
    folder : str or path-like
        It is made if it is not there. Other files in it are left alone.
    keep : int of at least 1, default 3
        How many of the last files stay. The one with the lowest loss stays besides.
    every : int of at least 1, default 1
        `save` writes when the step is a multiple of it, and does nothing else.

    Notes
    -----
    A file is named by its step and, if one was given, its loss, such as
    ``step-00000012-loss-0.25.safetensors``. All that is known of the folder is in these names, so
    there is nothing else that could be lost. An old file is deleted when the new one is whole and
    on the disk. One process writes to a folder.

    Examples
    --------
    >>> import tempfile, numpy as np, fastoptim as fo
    >>> folder = tempfile.TemporaryDirectory()
    >>> files = fo.Checkpoints(folder.name, keep=2)
    >>> params, opt = {"x": np.array([8.0])}, fo.SGD(lr=0.25)
    >>> for epoch in range(4):
    ...     opt.update(params, {"x": params["x"].copy()})
    ...     _ = files.save(epoch, {"params": params, "opt": opt, "epoch": epoch}, loss=epoch % 2)
    >>> [path.name for path in files.paths]
    ['step-00000000-loss-0.0.safetensors', 'step-00000002-loss-0.0.safetensors', \
'step-00000003-loss-1.0.safetensors']
    >>> then = fo.Checkpoints(folder.name).resume()
    >>> then["epoch"], then["params"]["x"] == params["x"]
    (3, array([ True]))
    >>> folder.cleanup()
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3, every: int = 1) -> None:
        self._folder = Path(os.fsdecode(os.fspath(folder)))
        self._keep = whole("keep", keep, 1)
        self._every = whole("every", every, 1)
        self._folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"Checkpoints({str(self._folder)!r}, keep={self._keep}, every={self._every})"

    @property
    def paths(self) -> list[Path]:
        """The files, the newest last."""
        return [one.path for one in self._saved()]

    @property
    def last(self) -> Path | None:
        """The newest file, None if there is none."""
        saved = self._saved()
        return saved[-1].path if saved else None

    @property
    def best(self) -> Path | None:
        """The file with the lowest loss, the oldest of several; None if none has a loss."""
        one = best_of(self._saved())
        return one.path if one else None

    def save(self, step: int, tree: object, loss: Any = None) -> bool:
        """Write a file if it is time to, then delete those that no longer count.

        Parameters
        ----------
        step : int
            An epoch's or an update's number, larger than those of the files that are there; the
            last one's is taken to replace it.
        tree : object
            As for `fastoptim.save`.
        loss : float, optional
            The lowest is the best; give ``-accuracy`` for what should be high. NaN never is.

        Returns
        -------
        bool
            Whether a file was written.

        Raises
        ------
        ValueError
            The folder has a later step, so another training wrote there, or this one should have
            been resumed. Nothing has been written then.
        TypeError, OSError, RuntimeError
            As for `fastoptim.save`.
        """
        step = whole("step", step, 0)
        x = math.nan if loss is None else number_of(loss)
        if step % self._every:
            return False
        there = self._saved()
        if there and there[-1].step > step:
            raise ValueError(
                f"{self._folder} has step {there[-1].step} already, and step must not go back, got "
                f"{step}; go on from the last one (resume), or take another folder"
            )
        of_loss = "" if loss is None else f"-loss-{x!r}"
        path = self._folder / f"step-{step:08}{of_loss}.safetensors"
        save(path, tree)
        there = [one for one in there if one.step < step]
        there.append(Saved(step, x, path))
        kept = {one.path for one in there[-self._keep :]}
        best = best_of(there)
        for one in self._saved():
            if one.path not in kept and (best is None or one.path != best.path):
                one.path.unlink(missing_ok=True)
        return True

    def resume(self, *, into: Any = None, classes: Classes = ()) -> Any:
        """Return what the newest whole file holds, None if the folder has no file.

        Parameters
        ----------
        into, classes
            As for `fastoptim.load`.

        Raises
        ------
        ValueError
            No file is whole; or as for `fastoptim.load`.
        KeyError, TypeError, OSError, RuntimeError
            As for `fastoptim.load`.

        Warns
        -----
        UserWarning
            A newer file is damaged. It has been renamed to end in ``.damaged``, so that training
            writes that step again.
        """
        damaged = []
        for one in reversed(self._saved()):
            builder = Builder(str(one.path), classes)
            try:
                stored = checkpoint.read(one.path)
            except OtherFormat:
                raise
            except ValueError as problem:
                damaged.append((one.path, str(problem)))
                continue
            found = taken_over(stored, builder, into)
            for path, what in damaged:
                os.replace(path, f"{path}.damaged")
                warn(f"{what} (renamed to {path.name}.damaged)", UserWarning, stacklevel=2)
            return found
        if damaged:
            raise ValueError(
                f"none of the {len(damaged)} files in {self._folder} is whole: {damaged[0][1]}"
            )
        return None

    def _saved(self) -> list[Saved]:
        """Return the files in the folder, the newest last."""
        found = []
        for entry in os.scandir(self._folder):
            match = NAME.fullmatch(entry.name)
            if match and entry.is_file():
                found.append(Saved(int(match[1]), loss_of(match[2]), Path(entry.path)))
        return sorted(found, key=lambda one: (one.step, one.path.name))


def best_of(saved: list[Saved]) -> Saved | None:
    """Return the first of those with the lowest loss; a NaN is none."""
    known = [one for one in saved if not math.isnan(one.loss)]
    return min(known, key=lambda one: one.loss, default=None)


def loss_of(text: str | None) -> float:
    """Return the loss of a file's name, NaN if there is none."""
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number that is large enough, or say that it is not."""
    try:
        n = index(value)
    except TypeError:
        n = None
    if n is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if n < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    return n
