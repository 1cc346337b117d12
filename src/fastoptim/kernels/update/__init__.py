"""One update: the stations that the keys of a dict pass through."""
