"""Tensors that do not lie in memory as an array of float32 or float64 does: taken, or refused."""

from typing import Any

import numpy as np
import torch

from fastoptim.rows import Elements, Rows

TENSORS = (torch.Tensor, torch.nn.Parameter)  # classes whose tensors have nothing of their own
MOST_DIMS = 64  # NumPy's
HALVES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}

# What is asked at each step has to take no longer than a few tens of nanoseconds.
transform_level = torch._C._functorch.maybe_current_level
count_of_modes = torch._C._len_torch_dispatch_stack
mode_of = torch._C._get_dispatch_mode
FOLLOWING = tuple(
    getattr(torch._C._TorchDispatchModeKey, kind) for kind in ("FAKE", "FUNCTIONAL", "PROXY")
)


def check_no_transform() -> None:
    """Refuse a step where PyTorch follows what is done, without doing it: it would not see it."""
    if transform_level() is None and not (
        count_of_modes() and any(mode_of(kind) is not None for kind in FOLLOWING)
    ):
        return
    raise RuntimeError(
        "step is called inside of a transform (torch.func, FakeTensorMode, make_fx or the like), "
        "which cannot follow an update that is made outside of PyTorch; compute the gradients in "
        "the transform, and call step after it"
    )


def array_of(key: object, tensor: torch.Tensor, what: str) -> Any:
    """Return what an update takes for a tensor: an array, or of a sparse gradient its rows.

    Parameters
    ----------
    key : object
        The parameter's name or number.
    tensor : Tensor
    what : {"params", "grads"}
        Whether it is the parameter or its gradient.

    Raises
    ------
    TypeError, ValueError
        It cannot be used; the message says what to do.
    """
    name = name_of(key, what)
    check_is_here(name, tensor)
    if tensor.is_sparse:
        if what == "params":
            raise TypeError(f"{name} is sparse; an update writes in place: use {name}.to_dense()")
        return rows_of(name, tensor)
    if tensor.layout != torch.strided:
        raise TypeError(
            f"{name} has layout {tensor.layout}, and an update takes torch.strided, or of "
            f"gradients torch.sparse_coo; convert it: .to_dense()"
        )
    if tensor.is_neg():  # its signs are not in memory
        if what == "params":
            raise ValueError(
                f"{name} is the imaginary part of a conjugated tensor, whose memory has the other "
                f"sign; use .resolve_neg()"
            )
        tensor = tensor.resolve_neg()
    return as_array(name, tensor.detach())


def check_is_here(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor whose numbers are not in this process's memory."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise TypeError(
            f"{name} is on the device {str(tensor.device)!r}, and fastoptim updates parameters on "
            f"the CPU; move the model with model.cpu() before it makes its optimizer, or use "
            f"torch.optim there"
        )
    if tensor.is_nested or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else "quantized"
        raise TypeError(
            f"{name} is a {kind} tensor, and an update takes plain ones; make the optimizer of the "
            f"tensors that it is made of"
        )
    if hasattr(tensor, "__tensor_flatten__") or not has_memory(tensor):
        raise TypeError(
            f"{name} is a {described(tensor)}, which has no memory of its own to update; make the "
            f"optimizer of plain tensors, and step outside of transforms"
        )


def name_of(key: object, what: str) -> str:
    """Return what a message calls a tensor."""
    return f"{'parameter' if what == 'params' else 'the gradient of parameter'} {key!r}"


def check_memory(key: object, tensor: torch.Tensor, what: str) -> None:
    """Refuse a tensor that reaches beyond its storage; arguments as of `array_of`."""
    check_is_here(name_of(key, what), tensor)


def has_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements can be reached: not of a fake tensor, nor inside a transform."""
    if tensor.layout != torch.strided or not tensor.numel():
        return True
    try:
        ends = tensor.storage_offset() + 1 + sum(
            (n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)
        )
        storage = tensor.untyped_storage()
        if storage.device.type != "cpu":  # a fake tensor, whose address nobody may ask for
            return False
        return bool(
            storage.nbytes() >= ends * tensor.element_size() and tensor.data_ptr() != 0
        )
    except RuntimeError:
        return False


def described(tensor: torch.Tensor) -> str:
    """Return what a message calls a tensor without memory."""
    if type(tensor) not in TENSORS:
        return type(tensor).__name__
    try:
        size = tensor.untyped_storage().nbytes()
    except RuntimeError:
        return "tensor of a transform of torch.func"
    if size:
        return f"tensor whose storage was cut to {size} bytes"
    return "tensor whose storage was freed"


def as_array(name: str, tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return an array on a strided tensor's memory."""
    if tensor.ndim > MOST_DIMS:
        raise ValueError(
            f"{name} has {tensor.ndim} axes, and NumPy has at most {MOST_DIMS}; reshape it"
        )
    if tensor.dtype is torch.bfloat16:
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            raise ImportError(
                f"{name} is bfloat16, which NumPy has with the package ml_dtypes; "
                f"pip install 'fastoptim[lowbits]'"
            ) from None
        seen: np.ndarray[Any, Any] = tensor.view(torch.uint16).numpy().view(bfloat16)
        return seen
    if tensor.dtype not in (torch.float32, torch.float64, torch.float16):
        raise TypeError(
            f"{name} is {tensor.dtype}, and an update takes torch.float32, float64, float16 and "
            f"bfloat16; " + (
                "give the optimizer its real numbers: torch.view_as_real(p) shares its memory"
                if tensor.is_complex() else "convert it: .to(torch.float32)"
            )
        )
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array


def rows_of(name: str, grad: torch.Tensor) -> Any:
    """Return the rows, or the elements, of a sparse gradient; several for one row are summed."""
    index, values = grad._indices().numpy(), grad._values().detach()
    if values.is_neg():
        values = values.resolve_neg()
    if grad.sparse_dim() == 1:
        return Rows(index[0], as_array(name, values), unique=False)
    if grad.dense_dim():
        raise TypeError(
            f"{name} is sparse in {grad.sparse_dim()} axes and dense in {grad.dense_dim()}; an "
            f"update takes rows (one sparse axis) or elements (no dense axis): use .to_dense()"
        )
    flat = np.ravel_multi_index(tuple(index), tuple(grad.shape)) if index.size else index[0]
    return Elements(flat, as_array(name, values), unique=False)
