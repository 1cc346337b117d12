"""Checkpoints: a tree of arrays and plain values in one file, written whole or not at all."""

from fastoptim.checkpoint.file import load, save

__all__ = ["load", "save"]
