"""Prints the table of ratios when the benchmarks are done."""

import sys
from pathlib import Path

import pytest

import fastoptim as fo

sys.path.insert(0, str(Path(__file__).parent))

ROWS = pytest.StashKey[list]()
SECTIONS = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[ROWS] = []
    config.stash[SECTIONS] = {}


@pytest.fixture(autouse=True)
def all_threads():
    """Updates alone run on all threads: contestants in turn are no loop to learn from."""
    fo.set_num_threads(fo.get_num_threads(), fixed=True)
    yield
    fo.set_num_threads(None)


@pytest.fixture
def table(request):
    """Collects (title, {contestant: seconds}) for the summary."""
    return request.config.stash[ROWS]


@pytest.fixture
def sections(request):
    """Collects {title: lines} of tables with columns of their own."""
    return request.config.stash[SECTIONS]


def pytest_terminal_summary(terminalreporter, config):
    for title, lines in config.stash[SECTIONS].items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
    rows = config.stash[ROWS]
    if not rows:
        return
    names = list(dict.fromkeys(name for _, medians in rows for name in medians))
    others = names[1:]
    write = terminalreporter.write_line
    terminalreporter.section("medians of alternating rounds; ratios to fastoptim's time")
    write("| case | fastoptim | " + " | ".join(f"vs {name}" for name in others) + " |")
    write("|---|---|" + "---|" * len(others))
    for title, medians in rows:
        ours = medians["fastoptim"]
        ratios = [f"{medians[name] / ours:.2f}×" if name in medians else "" for name in others]
        write(f"| {title} | {ours * 1e6:,.1f} µs | " + " | ".join(ratios) + " |")
    write("\nOver 1×: fastoptim takes less time than that contestant.")
