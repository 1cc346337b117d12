"""The whole suite, in as many processes as there are processors: what `make test` runs.

Each process takes the next group of files when it is done with one. A file is never divided, so
what its tests share is made once. pytest-xdist gains nothing here: most tests take a few
milliseconds, about as long as it takes to send their reports.

What follows the script's name goes to pytest, as in ``python tests/side_by_side.py -k row``.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
GROUPS = 12  # many, so that no process is long without work; few, since each imports the library
PASSED, NO_TESTS = 0, 5
SUMMARY = "short test summary info"


def processors():
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def groups_of(files):
    """Deal files out by size, the largest first, so that the groups take about as long."""
    by_size = sorted(files, key=lambda file: (-file.stat().st_size, file.name))
    return [group for start in range(GROUPS) if (group := by_size[start::GROUPS])]


def run(group, arguments):
    """Run pytest on some files; return its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *group],
        cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8", errors="replace", check=False,
    )
    return done.returncode, done.stdout


def main(arguments):
    """Run all groups, and print what failed and what was skipped; return an exit status."""
    start, failed = perf_counter(), 0
    groups = groups_of(HERE.glob("test_*.py"))
    with ThreadPoolExecutor(processors()) as pool:
        found = pool.map(lambda group: run(group, arguments), groups)
        for number, (group, (status, text)) in enumerate(zip(groups, found, strict=True), 1):
            good = status in (PASSED, NO_TESTS)
            failed += not good
            lines = text.splitlines()
            if good:  # its dots say nothing
                first = [i for i, line in enumerate(lines) if SUMMARY in line]
                lines = lines[first[0] + 1 if first else -1:]
            names = " ".join(file.stem.removeprefix("test_") for file in group)
            print(f"--- {number} of {len(groups)}: {names}", *lines, sep="\n", flush=True)
    print(f"{failed} of {len(groups)} groups failed; {perf_counter() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
