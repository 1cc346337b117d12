"""How many processors there are for this process: made-up control groups, and the affinity mask."""

import os

import pytest

from fastoptim.kernels import processors, threads


def machine(tmp_path, group, files):
    """Write a folder that looks like / with such control groups."""
    for path, text in {"proc/self/cgroup": group, **files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="ascii")
    return tmp_path


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"

MACHINES = {
    "version 2": ("0::/job", {f"{V2}/job/cpu.max": "150000 100000\n"}, 2),
    "version 2, the group around it": (
        "0::/a/b", {f"{V2}/a/b/cpu.max": "max 100000\n", f"{V2}/a/cpu.max": "300000 100000\n"}, 3,
    ),
    "version 2, the least of several": (
        "0::/a/b", {f"{V2}/a/b/cpu.max": "800000 100000", f"{V2}/a/cpu.max": "100000 100000"}, 1,
    ),
    "version 2, inside a container": ("0::/", {f"{V2}/cpu.max": "50000 100000\n"}, 1),
    "version 2, the host's path": ("0::/docker/abc", {f"{V2}/cpu.max": "400000 100000\n"}, 4),
    "version 2, no quota": ("0::/job", {f"{V2}/job/cpu.max": "max 100000\n"}, None),
    "version 1": (
        "4:memory:/\n3:cpu,cpuacct:/job",
        {f"{V1}/job/cpu.cfs_quota_us": "250000", f"{V1}/job/cpu.cfs_period_us": "100000"}, 3,
    ),
    "version 1, no quota": (
        "3:cpu,cpuacct:/",
        {f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, None,
    ),
    "version 1 under another name": (
        "3:cpu:/x",
        {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "1", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "9"},
        1,
    ),
    "something else in the file": ("0::/job", {f"{V2}/job/cpu.max": "many\n"}, None),
    "no files": ("0::/job", {}, None),
}


@pytest.mark.parametrize(("group", "files", "quota"), MACHINES.values(), ids=MACHINES.keys())
def test_quota_of_a_control_group(tmp_path, group, files, quota):
    expected = processors.MOST if quota is None else quota
    assert processors.quota(machine(tmp_path, group, files)) == expected


def test_no_control_groups(tmp_path):
    assert processors.quota(tmp_path) == processors.MOST


def test_processors_are_those_of_the_affinity_mask(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert processors.processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert processors.processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors.processors() == 1


def test_the_machine_limit_is_the_least_of_both():
    assert threads.machine_limit() == min(processors.processors(), processors.quota(), 1024)
