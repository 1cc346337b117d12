"""What ``fastoptim bench`` does: contestants in turn, on this machine, each figure with its spread.

The way of a run is that of `run.py`: networks first (`steps.py`), then updates alone
(`updates.py`), then threads. Who takes part is in `contestants`, what they work on in `cases.py`
and `networks.py`. A figure is made of turns (`turns.py`, `figures.py`), and `quiet.py` knows what
other programs did meanwhile. `files.py` writes and compares runs, `report.py` prints them.
"""
