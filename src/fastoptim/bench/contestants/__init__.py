"""Who takes part: a file for each library, each contestant in the strongest form that it has."""
