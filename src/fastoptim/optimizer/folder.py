"""``state_dir=``: an optimizer whose state lies in the files of a folder."""

import os
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from fastoptim.folder.files import Files
from fastoptim.folder.lock import HAS_LOCKS
from fastoptim.optimizer import state
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

    class FolderOrNone:
        """A hyperparameter that is the name of a folder."""

        def __get__(self, optimizer: object, owner: Any) -> str | None: ...
        def __set__(self, optimizer: object, value: str | PathLike[str] | None) -> None: ...

else:  # what signatures and help show
    FolderOrNone: TypeAlias = str | PathLike | None


class FolderName:
    """The name of a folder, or None."""

    def __call__(self, name: str, value: object) -> str | None:
        """Return the absolute path of a folder, wherever the process goes later; or None."""
        if value is None:
            return None
        if not isinstance(value, (str, PathLike)):
            raise TypeError(f"{name} must be the name of a folder or None, got {shown(value)}")
        path = os.fsdecode(os.fspath(value))
        if not path or "\0" in path:
            raise ValueError(f"{name} must be the name of a folder or None, got {path!r}")
        if not HAS_LOCKS:
            raise ValueError(f"{name} needs files that are locked and mapped as POSIX systems do")
        return os.path.abspath(path)


def keep_in_files(opt: "Optimizer", path: str | None) -> None:
    """Let the state of an optimizer lie in a folder, or in memory."""
    store = opt.engine.store
    if path == opt.state_dir and store.folder is not None:
        return
    if opt.whole is not None:
        raise ValueError(
            f"state_dir concerns the whole update, and this {type(opt).__name__} is a part of a "
            f"{type(opt.whole).__name__}; set it there"
        )
    if store.records:
        raise ValueError(
            "state_dir cannot change after the first update; save the state, and load it into a "
            "new optimizer that has the folder"
        )
    settings = partial(state.without_updates, opt)
    store.keep_in(None if path is None else Files(path, settings).folder)


def load_folder(
    opt: "Optimizer", path: str | PathLike[str], *, convert: bool = False
) -> None:
    """Take over the state of a folder: its files, if it is the optimizer's own, or copies."""
    folder = opt.engine.store.folder
    if folder is None or not is_same(folder.files.path, path):
        other = Files(
            os.path.abspath(os.fsdecode(os.fspath(path))), partial(state.without_updates, opt)
        )
        try:
            state.load(opt, other.read(), convert=convert)
        finally:
            other.let_go()
        return
    opt.engine.refuse_to_replace()
    try:
        state.load(opt, folder.files.read(), convert=convert)
    finally:
        folder.files.drop_new()


def is_same(one: str, other: str | PathLike[str]) -> bool:
    """Whether two names are of one folder."""
    return os.path.isdir(one) and os.path.samefile(one, other)


def sync(opt: "Optimizer") -> None:
    """Bring the files of an optimizer's state to the disk."""
    folder = opt.engine.store.folder
    if folder is None:
        raise ValueError(
            "this optimizer has no state_dir: its state is in memory, and save writes it to a file"
        )
    opt.engine.still(folder.files.sync)
