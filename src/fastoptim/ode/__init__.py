"""Gradient flow, followed by Runge–Kutta steps: `fastoptim.Heun`, `RK23` and `RK45`."""
