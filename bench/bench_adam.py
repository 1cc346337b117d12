"""Adam, float32, against all who can do it. Run with `make bench`.

Contestants and cases are those of ``fastoptim bench``, each with arrays of its own.
pytest-benchmark's own columns time a whole round of all contestants; the table below them has the
medians of each.
"""

import pytest
from alternate import medians
from cases import CASES

from fastoptim.bench.contestants.everyone import PEERS, everyone, missing


@pytest.mark.parametrize("title", CASES)
def test_adam(title, benchmark, table):
    peers = [peer for peer in PEERS if not missing(peer)]
    CASES[title].check()
    table.append((title, medians(everyone(CASES[title], peers, {}), benchmark)))
