"""How many processors this process may use: its affinity mask, and the quota of its control group.

A container with a quota of 1.5 processors shows all processors of its host, and OpenMP counts
these. Its threads are then stopped together when the quota of a period is used up.
"""

import math
import os
from pathlib import Path

MOST = 1 << 20  # no quota


def processors() -> int:
    """Return how many processors the affinity mask has; all there are, where there is none."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path = Path("/")) -> int:
    """Return the quota of the control group in whole processors, rounded up; MOST without one.

    Parameters
    ----------
    root : Path
        The folder that has proc and sys; another one in tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or /proc is hidden
        return MOST
    groups = root / "sys/fs/cgroup"
    quotas = [MOST]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2: one tree
            quotas += [quota_v2(folder) for folder in up(groups, path)]
        elif "cpu" in controllers.split(","):
            for tree in (groups / controllers, groups / "cpu"):
                quotas += [quota_v1(folder) for folder in up(tree, path)]
    return min(quotas)


def up(tree: Path, path: str) -> list[Path]:
    """Return the folder of a group and those of the groups around it, which limit it, too.

    Inside a container the path may be that of the host, and the tree starts at the group itself.
    """
    inside = Path(path.lstrip("/"))
    return [tree / inside, *(tree / folder for folder in inside.parents)]


def quota_v2(folder: Path) -> int:
    """Return the quota in a folder of version 2: "quota period" or "max period" in one file."""
    try:
        most, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return MOST if most == "max" else whole(int(most), int(period))
    except (OSError, ValueError):  # the root group has none
        return MOST


def quota_v1(folder: Path) -> int:
    """Return the quota in a folder of version 1: two files, and −1 for no quota."""
    try:
        most, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii"))
            for name in ("quota", "period")
        )
        return MOST if most <= 0 else whole(most, period)
    except (OSError, ValueError):
        return MOST


def whole(most: int, period: int) -> int:
    """Return a quota in processors, rounded up, at least 1."""
    return max(1, math.ceil(most / period)) if period > 0 else MOST
