"""Runge–Kutta steps: the parameters as a point that moves, and the passes that move it."""
