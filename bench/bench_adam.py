"""Adam, float32, against all who can do it. Run with `make bench`.

Each contestant has arrays of its own. pytest-benchmark's own columns time a whole round of all
contestants; the table below them has the medians of each.
"""

import pytest
from alternate import medians
from cases import CASES, contestants


@pytest.mark.parametrize("title", CASES)
def test_adam(title, benchmark, table):
    table.append((title, medians(contestants(CASES[title]), benchmark)))
