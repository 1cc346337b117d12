"""Soft batches: gradients of several small batches, applied as one."""
