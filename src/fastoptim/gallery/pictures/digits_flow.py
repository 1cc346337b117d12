"""Handwritten digits: SGD beside RK45, at equal numbers of gradient evaluations.

Both follow the gradient of the loss downhill, the same network as above, from the same weights. SGD takes
one gradient per step; RK45, a Runge–Kutta method of fifth order, takes six, all of the same
mini-batch, and follows the curved way between very exactly.

Exactness does not pay here. After {evaluations:,} evaluations each, SGD has made {sgd_steps:,} steps
of {sgd_h:g} and RK45 {rk_steps:,} of {rk_h:g}: along the flow SGD is {farther:.0f} times as far. Its
training loss is {sgd:.4f}, RK45's {rk:.4f}. RK45's way is the exact one for a mini-batch, but the
next mini-batch has another, so most of the exactness is about noise. And its steps cannot be
much longer: ...

At the same training loss, {level:.3f}, which SGD reaches after {sgd_at:,} evaluations, the validation
losses are {sgd_then:.3f} and {rk_then:.3f}. 
"""
