"""Tensors that do not lie in memory as an array of float32 or float64 does: taken, or refused."""

from typing import Any

import numpy as np
import torch

from fastoptim.rows import Elements, Rows

TENSORS = (torch.Tensor, torch.nn.Parameter)  # classes whose tensors have nothing of their own
HALVES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


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
    name = f"parameter {key!r}" if what == "params" else f"the gradient of parameter {key!r}"
    check_is_here(name, tensor)
    if tensor.is_sparse:
        if what == "params":
            raise TypeError(f"{name} is sparse; an update writes in place: use {name}.to_dense()")
        return rows_of(name, tensor)
    if tensor.layout != torch.strided:
        raise TypeError(
            f"{name} has layout {tensor.layout}, and an update takes torch.strided, or of gradients "
            f"torch.sparse_coo; convert it: .to_dense()"
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
    if hasattr(tensor, "__tensor_flatten__") or not has_memory(tensor):
        raise TypeError(
            f"{name} is a {described(tensor)}, which has no memory of its own to update; make the "
            f"optimizer of plain tensors, and step outside of transforms"
        )


def has_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements can be reached: not of a fake tensor, nor inside a transform."""
    if tensor.layout != torch.strided or not tensor.numel():
        return True
    try:
        return bool(tensor.untyped_storage().nbytes()) and tensor.data_ptr() != 0
    except RuntimeError:
        return False


def described(tensor: torch.Tensor) -> str:
    """Return what a message calls a tensor without memory."""
    if type(tensor) not in TENSORS:
        return type(tensor).__name__
    try:
        freed = not tensor.untyped_storage().nbytes()
    except RuntimeError:
        freed = False
    return "tensor whose storage was freed" if freed else "tensor of a transform of torch.func"


def as_array(name: str, tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return an array on a strided tensor's memory."""
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
        hint = "float32" if tensor.dtype not in (torch.complex64, torch.complex128) else (
            "a real tensor: torch.view_as_real shares its memory"
        )
        raise TypeError(
            f"{name} is {tensor.dtype}, and an update takes torch.float32, float64, float16 and "
            f"bfloat16; make it {hint}"
        )
    seen = tensor.numpy()
    return seen


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
