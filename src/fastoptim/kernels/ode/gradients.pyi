from fastoptim.kernels.ode.caller_params import CallerParams
from fastoptim.kernels.ode.columns import Columns
from fastoptim.kernels.ode.param_memory import ParamMemory

class Gradients:
    def __init__(self, params: CallerParams, columns: Columns, memory: ParamMemory) -> None: ...
