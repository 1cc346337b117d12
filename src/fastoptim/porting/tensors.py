"""How to get at the memory of another library's tensor, where an array of NumPy is wanted."""

# By the library whose class it is, which is not imported for that.
HINTS = {
    "torch": "; tensor.detach().numpy() is an array of the same memory (of a tensor on the CPU)",
    "jax": "; keep parameters as NumPy arrays, since np.asarray of a JAX array is read-only: "
    "np.array(x) once for a parameter, np.asarray(x) for each gradient",
    "tensorflow": "; keep parameters as NumPy arrays, since .numpy() of a TensorFlow tensor is a "
    "copy: x.numpy() once for a parameter, and for each gradient",
}
HINTS["cupy"] = (
    " of CuPy, which is on a GPU; updates run on the CPU: keep parameters as NumPy arrays, since "
    "x.get() is a copy: x.get() once for a parameter, and for each gradient"
)
HINTS["jaxlib"] = HINTS["jax"]


def tensor_hint(x: object) -> str:
    """Return what to add to "got Tensor": how this tensor becomes an array; "" of another thing."""
    return HINTS.get(type(x).__module__.partition(".")[0], "")
