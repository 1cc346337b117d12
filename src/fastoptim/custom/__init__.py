"""Rules that users write themselves: a Python function that becomes a loop over a span."""
