"""What to say of another library's tensor or model, where an array of NumPy is wanted.

The library is known by the module of a class or of one of its bases: none is imported for that.
"""

from collections.abc import Mapping

# By the library whose class it is: how its memory becomes an array, or its values do.
HINTS = {
    "torch": "; tensor.detach().numpy() is an array of the same memory (of a tensor on the CPU); "
    "fastoptim.torch has optimizers that take tensors as they are",
    "jax": "; keep parameters as NumPy arrays, since np.asarray of a JAX array is read-only: "
    "np.array(x) once for a parameter, np.asarray(x) for each gradient",
    "tensorflow": "; keep parameters as NumPy arrays, since .numpy() of a TensorFlow tensor is a "
    "copy: x.numpy() once for a parameter, and for each gradient",
    "keras": "; keep parameters as NumPy arrays: np.asarray(variable).copy() once for a parameter, "
    "and variable.assign(array) after the update",
}
HINTS["cupy"] = (
    " of CuPy, which is on a GPU; updates run on the CPU: keep parameters as NumPy arrays, since "
    "x.get() is a copy: x.get() once for a parameter, and for each gradient"
)
HINTS["jaxlib"] = HINTS["jax"]
PAGE = " (docs/bridges.md)"

# By library and the end of a class's name: what stands for a value while a function is looked at.
TRACED = {
    ("autograd", "Box"): "the function that autograd differentiates; call update outside of it, "
    "with what autograd.grad(…)(params) returns",
    ("jax", "Tracer"): "a function that JAX traces; call update outside of it, with the "
    "gradients that jax.jit(jax.grad(…)) returns",
    ("tensorflow", "SymbolicTensor"): "a tf.function; call update outside of it, with the "
    "gradients that it returns",
}


def tensor_hint(x: object) -> str:
    """Return what to add to "got Tensor": how this tensor becomes an array; "" of another thing."""
    kind = type(x)
    libraries = libraries_of(kind)
    for (library, end), where in TRACED.items():
        if library in libraries and kind.__name__.endswith(end):
            return f", which stands for a value inside {where}{PAGE}"
    if "tensorflow" in libraries and kind.__name__ == "IndexedSlices":
        return f"; fastoptim.Rows(g.indices.numpy(), g.values.numpy()) is its gradient{PAGE}"
    if "torch" in libraries and getattr(x, "is_sparse", False):
        return (
            "; with g = g.coalesce(), fastoptim.Rows(g.indices()[0].numpy(), g.values().numpy()) "
            f"is its gradient{PAGE}"
        )
    for library in libraries:
        if library in HINTS:
            return f"{HINTS[library]}{PAGE}"
    if hasattr(kind, "__dlpack__"):
        return f"; np.from_dlpack(x) is an array of its memory, where that is the CPU's{PAGE}"
    return ""


def container_hint(name: str, x: object) -> str:
    """Return what to add to "must be a dict or a list of NumPy arrays, got Linear"."""
    libraries = libraries_of(type(x))
    if is_of_torch(x):
        return "; fastoptim.torch has optimizers that are made with a model's parameters"
    if "sklearn" in libraries and hasattr(x, "coefs_"):
        return f"; its arrays are {name} = [*mlp.coefs_, *mlp.intercepts_]{PAGE}"
    if not {"keras", "tensorflow", "jax", "jaxlib", "autograd", "thinc"}.isdisjoint(libraries):
        return f"; how its arrays become NumPy's is said in {PAGE[2:-1]}"
    return ""


def is_of_torch(x: object) -> bool:
    """Whether x is a tensor or a model of PyTorch, or begins with a tensor if it holds several.

    A generator such as net.parameters() is known by where it is written: nothing is taken of it.
    """
    if isinstance(x, (list, tuple)):
        x = x[0] if x else None
    elif isinstance(x, Mapping):
        x = next(iter(x.values()), None)
    written_in = getattr(getattr(x, "gi_frame", None), "f_globals", {}).get("__name__", "")
    return str(written_in).partition(".")[0] == "torch" or "torch" in libraries_of(type(x))


def libraries_of(kind: type) -> list[str]:
    """Return the library of a class, then those of its bases."""
    return list(dict.fromkeys(str(base.__module__).partition(".")[0] for base in kind.__mro__))
