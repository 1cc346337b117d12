"""One picture a file; its name is that of the picture."""
