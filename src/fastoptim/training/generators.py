"""NumPy's random generators as plain values: their numbers, and what their children are made of."""

from typing import Any

import numpy as np

CLASSES = {
    cls.__name__: cls
    for cls in (
        np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64
    )
}
WORDS = ("uint32", "uint64")
# NumPy mixes each word of a pool with each other one: a file that asks for 10⁹ would never load.
LARGEST_POOL = 1024
MOST = {"pos": 624, "buffer_pos": 4}  # NumPy takes any, and would read beyond its memory


def described(rng: np.random.Generator) -> dict[str, Any] | None:
    """Return a generator as plain values, None if its bit generator is not one of NumPy's."""
    bits = rng.bit_generator
    name = type(bits).__name__
    if CLASSES.get(name) is not type(bits):
        return None
    with bits.lock:
        state = plain(bits.state)
    return {"state": state, "seed": seed_of(bits)}


def plain(state: Any) -> Any:
    """Return a state with its arrays of whole numbers as (dtype, numbers), which no state has."""
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    if isinstance(state, np.ndarray):
        return state.dtype.name, state.tolist()
    return int(state) if isinstance(state, np.integer) else state


def seed_of(bits: np.random.BitGenerator) -> dict[str, Any] | None:
    """Return what `Generator.spawn` makes children of, None if it is not NumPy's SeedSequence."""
    seed: Any = bits.seed_seq
    if type(seed) is not np.random.SeedSequence:
        return None
    check_pool(seed.pool_size)
    entropy: Any = seed.entropy
    if entropy is not None and not isinstance(entropy, (int, np.integer)):
        entropy = [int(x) for x in np.asarray(entropy).ravel()]
    return {
        "entropy": int(entropy) if isinstance(entropy, np.integer) else entropy,
        "spawn_key": [int(x) for x in seed.spawn_key],
        "pool_size": int(seed.pool_size),
        "n_children_spawned": int(seed.n_children_spawned),
    }


def check_pool(size: Any) -> None:
    """Refuse a seed whose pool takes long to mix."""
    if size > LARGEST_POOL:
        raise ValueError(f"its SeedSequence has pool_size={size}, at most {LARGEST_POOL} is stored")


def made(content: Any) -> np.random.Generator:
    """Return a new generator that goes on where the stored one was."""
    try:
        name = content["state"]["bit_generator"]
        if name not in CLASSES:
            raise ValueError(f"NumPy has no bit generator {name!r}")
        seed = content["seed"]
        if seed is not None:
            check_pool(seed["pool_size"])
        bits = CLASSES[name](0 if seed is None else np.random.SeedSequence(**seed))
        state = state_of(content["state"])
        if form(state) != form(bits.state):
            raise ValueError(f"it is not as NumPy's {name} has it")
        bits.state = state
    except (TypeError, KeyError, ValueError, OverflowError, IndexError) as problem:
        raise ValueError(f"the state of a random generator cannot be: {problem}") from problem
    return np.random.Generator(bits)


def form(state: Any, name: Any = "") -> Any:
    """Return what two states of one bit generator have in common."""
    if isinstance(state, dict):
        return {name: form(value, name) for name, value in state.items()}
    if isinstance(state, np.ndarray):
        return state.dtype, state.shape
    if name in MOST and not 0 <= state <= MOST[name]:
        raise ValueError(f"{name} is {state}")
    return type(state)


def state_of(stored: Any) -> Any:
    """Return a state as NumPy takes it."""
    if isinstance(stored, dict):
        return {name: state_of(value) for name, value in stored.items()}
    if isinstance(stored, tuple):
        dtype, numbers = stored
        if dtype not in WORDS:
            raise ValueError(f"an array of {dtype!r}")
        return np.array(numbers, dtype)
    return stored
