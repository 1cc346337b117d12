"""What contestants are called that others are held against; all else knows them by these names."""

OURS = "fastoptim"
LISTING = "NumPy listing"
WITH_OUT = "NumPy out="
LIMIT = "stream limit"  # of an update
NO_UPDATE = "no update"  # of a whole step
SHARED = "with share_threads"
PRODUCTS = "with Product"
