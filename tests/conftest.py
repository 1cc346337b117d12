from importlib import import_module

import pytest

import fastoptim
from fastoptim import base, lookahead, ode
from fastoptim.kernels import RULES, available_isas, module_name, set_stages


@pytest.fixture(autouse=True)
def default_threads():
    """Give every test OpenMP's own thread count, and take back what it chose."""
    yield
    fastoptim.set_num_threads(None)


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request):
    """Run on one to four threads, more than this machine may have cores."""
    from fastoptim.kernels import driver

    driver.set_num_threads(request.param)  # without the warning of a build that has no OpenMP
    return request.param


@pytest.fixture(params=available_isas())
def isa(request, monkeypatch):
    """Run with the rules of one instruction set that this machine has."""
    rules = import_module(module_name(request.param)).RULES
    for module in (base, lookahead, ode):
        monkeypatch.setattr(module, "RULES", rules)
    set_stages(rules)
    yield request.param
    set_stages(RULES)
