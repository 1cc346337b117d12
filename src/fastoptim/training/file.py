"""One file for a whole training: written as `fastoptim.checkpoint` writes trees of arrays."""

import os
from typing import Any

from fastoptim.checkpoint import file as checkpoint
from fastoptim.checkpoint.file import Path
from fastoptim.training.build import Builder, Classes
from fastoptim.training.into import Into
from fastoptim.training.objects import EXPECTED, Writer, while_still


def save(path: Path, tree: object) -> None:
    """Write a whole training to one file, which is replaced as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file. A symbolic link is followed and stays a link; a file that is replaced keeps its
        permissions.
    tree : object
        Dicts, lists and tuples, nested at will, of arrays of float32 or float64, str, int, float,
        bool, None; optimizers, Runge–Kutta methods and SoftBatches with all their state;
        `schedules`; ``numpy.random.Generator`` of NumPy's bit generators. A key is a str, int,
        float, bool, None or a tuple of these. An array that occurs twice is stored twice.

    Raises
    ------
    TypeError
        Something else is in the tree; the message says where. No file has been touched.
    ValueError
        An optimizer or a random generator is in the tree twice, and would come back as two; or the
        tree is nested too deeply.
    OSError
        The disk is full, the folder cannot be written, …: with `path` as its file name.
    RuntimeError
        An optimizer is in the middle of an update, or an array changed while it was being written.
    ImportError
        safetensors or xxhash is not installed: ``pip install 'fastoptim[checkpoint]'``.

    Notes
    -----
    It is a safetensors file with a digest (format 3 or 4; 1 or 2, as `fastoptim.checkpoint.save`
    writes it, if nothing but arrays and plain values is in the tree). A crash at any moment leaves
    the old file or the new one. Nothing is pickled: an optimizer is stored as its class's name and
    numbers, one of `schedules` as its name and arguments. A function of your own, as a schedule or
    as a group's predicate, is code and is not stored; `load` then wants an optimizer that has it.

    Examples
    --------
    >>> import tempfile, numpy as np, fastoptim as fo
    >>> params, rng = {"W": np.ones(2)}, np.random.default_rng(0)
    >>> opt = fo.Adam(lr=fo.schedules.linear(0.1, 0.0, steps=10))
    >>> opt.update(params, {"W": rng.normal(size=2)})
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = folder.name + "/training.safetensors"
    >>> fo.save(path, {"params": params, "opt": opt, "rng": rng, "epoch": 3})
    >>> then = fo.load(path)
    >>> then["opt"].update(then["params"], {"W": then["rng"].normal(size=2)})
    >>> opt.update(params, {"W": rng.normal(size=2)})
    >>> np.array_equal(then["params"]["W"], params["W"]), then["opt"].lr, then["epoch"]
    (True, linear(start=0.1, stop=0.0, steps=10), 3)
    >>> folder.cleanup()
    """
    while_still(tree, lambda: checkpoint.write(path, tree, Writer().describe, EXPECTED))


def load(
    path: Path, *, into: Any = None, classes: Classes = (), convert: bool = False
) -> Any:
    """Return what a file holds; training goes on to the bit as if it had never stopped.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.
    into : object, optional
        A tree of what is there already and is to take over what the file holds: arrays are written
        in place; optimizers, SoftBatches, plateaus and random generators take over the state; plain
        values are replaced in their dict. A key that the outermost dict lacks comes back as a new
        object; dicts inside must have the file's keys. All is checked before anything is replaced.
    classes : sequence of classes, optional
        Optimizer classes of your own, made by `rule` or derived from one, by whose name the file's
        optimizers are to be made.
    convert : bool, default False
        Let optimizers of `into` take over state of another ``state_dtype``: each number becomes the
        nearest that they can hold.

    Returns
    -------
    object
        The tree: new arrays, optimizers and generators, and what was given as `into` at its places.

    Raises
    ------
    ValueError
        The file is damaged, no checkpoint, or of another format; or it has an optimizer of a class
        of yours that is not in `classes`, or one whose schedule or predicate is a function of
        yours, which `into` must have; or an array has another shape or dtype than that in `into`;
        or an optimizer there has another ``state_dtype``, without `convert`; or `convert` is set
        and there is no `into`.
    KeyError, TypeError
        `into` is not like the file's tree.
    OSError
        The file does not exist, cannot be read, ….
    RuntimeError
        An optimizer of `into` is in the middle of an update.
    ImportError
        safetensors or xxhash is not installed.

    Warns
    -----
    UserWarning
        A hyperparameter was a function of yours when it was saved, and is a number in `into`.

    Notes
    -----
    A schedule that an optimizer of `into` has stays; where it has a number and the file a schedule,
    it gets the file's. A new random generator has the stored one's seed, too, so that it also
    spawns the same children; one of `into` keeps its own.

    Whatever is raised, a crash of the process aside, `into` is then as it was.

    Examples
    --------
    >>> import tempfile, numpy as np, fastoptim as fo
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = folder.name + "/training.safetensors"
    >>> fo.save(path, {"params": {"W": np.ones(2)}, "opt": fo.SGD(lr=0.5), "epoch": 3})
    >>> params, opt = {"W": np.zeros(2)}, fo.SGD()
    >>> fo.load(path, into={"params": params, "opt": opt})["epoch"], params, opt
    (3, {'W': array([1., 1.])}, SGD(lr=0.5))
    >>> folder.cleanup()
    """
    builder = Builder(os.fsdecode(os.fspath(path)), classes)
    if convert and into is None:
        raise ValueError(
            "convert is for optimizers that are there, with a state_dtype of their own; give them "
            "as into, or leave convert out"
        )
    return taken_over(checkpoint.read(path), builder, into, convert)


def taken_over(stored: Any, builder: Builder, into: Any, convert: bool = False) -> Any:
    """Return the objects of a tree that has been read."""
    plan = Into(builder, convert)
    try:
        if into is None:
            return builder.made(stored)
        found = plan.taken(into, stored)
    except RecursionError as error:  # save refuses such a tree
        raise ValueError(f"{builder.name} holds a tree that is nested too deeply") from error
    plan.replace_all()
    return found
