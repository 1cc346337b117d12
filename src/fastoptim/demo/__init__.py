"""The command ``fastoptim``, and the demonstration that it runs."""
