"""What docs/costs.py computes: bytes as arrays have them, exchanges counted send by send."""

import sys
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import pytest

import fastoptim as fo

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import costs
import rule_pages

RULES = [cls for cls in rule_pages.rules() if not rule_pages.is_method(cls)]


@pytest.mark.parametrize("state", costs.STATES)
@pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
def test_the_bytes_are_those_of_the_arrays(cls, state):
    opt = cls()
    expected = costs.of_state(cls, cls.kernels[opt.kernel], state, 0)
    p = np.ones((64, 256) if cls.of_matrices else 64 * 256, np.float32)

    def bytes_of_state():
        opt = cls() if state == "float32" else cls(state_dtype=state)
        opt.update({"W": p}, {"W": np.ones_like(p)})
        kept = opt.state_dict()["parameters"]["W"]["state"]
        return sum(array.nbytes for array in kept.values())

    if expected == "–":
        with pytest.raises(ValueError, match=f"state_dtype='{state}' does not suit"):
            bytes_of_state()
    else:
        assert costs.number(bytes_of_state() / p.size) == expected


TABLE = [[cell.strip() for cell in row.split("|")[1:-1]] for row in costs.settings().splitlines()]
SETTINGS = {name: cells for name, *cells in TABLE[2:] if "Product" not in name}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_are_those_of_the_arrays(name):
    state = next((of for of in ("bfloat16", "int8") if of in name), None)
    p = np.ones(64 * 256, np.float16 if "16-bit" in name else np.float32)
    opt = fo.Adam(state_dtype=state, master="master=False" not in name)
    opt.update({"W": p}, {"W": np.ones_like(p)})
    kept = opt.state_dict()["parameters"]["W"]["state"]
    of_state = sum(array.nbytes for array in kept.values()) / p.size
    each = p.itemsize, p.itemsize, of_state, 2 * p.itemsize + of_state
    assert SETTINGS[name] == [costs.number(x) for x in each]


def ring(machines):
    """The bytes that one machine sends when Reduce_scatter and Allgather go around a ring."""
    share = Fraction(4, machines)
    reduced = sum(share for _ in range(machines - 1))     # each passes a share on, sum by sum
    gathered = sum(share for _ in range(machines - 1))
    return reduced + gathered


@pytest.mark.parametrize("machines", [1, 2, 3, 4, 7, 1024])
def test_the_network_carries_what_a_ring_sends(machines):
    assert costs.of_network(machines) == pytest.approx(float(ring(machines)), rel=1e-15)


@pytest.mark.parametrize("state", costs.STATES)
def test_one_machine_moves_parameter_and_state_twice_and_the_gradient_once(state):
    assert costs.of_memory(1, state) == 4 + 4 + 4 + 4 * costs.STATES[state]


@pytest.mark.parametrize("machines", [2, 3, 16])
def test_several_machines_together_read_each_gradient_and_write_each_sum_once(machines):
    update = costs.of_memory(1)
    assert costs.of_memory(machines) * machines == pytest.approx(update + 4 * machines + 4)


@pytest.mark.parametrize(("shape", "blocks"), [
    ((64, 300), 128), ((64, 10), 64), ((1, 1000), 4), ((8, 256), 8), ((64, 1), 64),
])
def test_no_block_spans_two_rows(shape, blocks):
    """A scale of 4 bytes for each block, a byte for each number."""
    total = prod(shape) * costs.int8_bytes(shape[1])
    assert total == pytest.approx(prod(shape) + 4 * blocks)


@pytest.mark.parametrize("rate", costs.NETWORKS.values())
@pytest.mark.parametrize("machines", costs.MACHINES[1:])
def test_from_the_least_batch_on_a_step_is_faster(machines, rate):
    def step(n, batch):
        return 6 * batch / costs.PRODUCTS / n + costs.seconds(n, rate)

    least = costs.least_batch(machines, rate)
    assert step(machines, least) <= step(1, least) * (1 + 1e-12)
    if least > 1:
        assert step(machines, least - 1) > step(1, least - 1)


def test_a_table_that_is_missing_is_said():
    text = costs.PAGE.read_text("utf-8")
    assert costs.page(text) == text
    with pytest.raises(LookupError, match=r"costs\.md must have the tables"):
        costs.page(text.replace("<!-- docs/costs.py: rows -->\n", ""))


def test_a_stale_table_is_written_anew():
    text = costs.PAGE.read_text("utf-8")
    assert text.count("| 1,024 | 0.00781 |") == 1
    assert costs.page(text.replace("0.00781", "1")) == text
