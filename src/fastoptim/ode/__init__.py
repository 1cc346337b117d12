"""Gradient flow followed by Heun's and Runge–Kutta methods."""
