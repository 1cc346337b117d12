"""State in files: the folder of ``state_dir=``.

=============== =====================================================================
lock            held as long as an optimizer, or an array of it, is there
index.json      which keys there are, how their arrays lie and in which files; the
                hyperparameters; the ledger's name
settings.json   hyperparameters that have changed since the index was written
NNNNNN.ledger   counters, and whether an update is under way (kernels/update/folder.pyx)
NNNNNN-W1.m     an array: a number that no other file has, the key, the slot
=============== =====================================================================

What is not named in the index does not count. So new files are made beside the old ones, and a new
index, renamed over the old one, is the moment at which all changes.
"""
