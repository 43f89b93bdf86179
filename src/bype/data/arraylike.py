"""Conversion of what users pass as arrays to numpy, without losing masks, units or zeros that are not stored."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bype.core.errors import InputError

#: Floating dtypes of torch that numpy has too.
SHARED_FLOATS = (torch.float16, torch.float32, torch.float64)


def as_array(values: object, where: str) -> np.ndarray:
    """An array from arrays, tensors, data frames or lists of them.

    Args:
        values: The values.
        where: What they are, for errors.

    Raises:
        InputError: If they are not an array, or a conversion would lose a mask, a unit, or zeros that are not stored.
    """
    _refuse_lossy(values, where)
    if isinstance(values, list | tuple):
        for value in values:
            _refuse_lossy(value, where)
        if values and all(isinstance(value, Tensor) for value in values):
            values = _stacked(values, where)
        elif any(isinstance(value, str) for value in values):
            values = np.array(values, object)  # numpy would write numbers among text as text
    try:
        array = np.asarray(_plain(values))
        if array.dtype == object and array.ndim == 1 and len(array) and hasattr(array[0], "shape"):
            array = np.stack([np.asarray(_plain(value)) for value in array])  # a column of arrays
    except (ValueError, TypeError, RuntimeError, OverflowError) as e:  # ragged lists, dtypes that numpy lacks
        raise InputError(f"{where}: expected an array, got {_kind(values)} ({e})") from None
    if array.ndim == 0:
        raise InputError(f"{where}: expected an array, got {_kind(values)}")
    if array.dtype == object and "labels" not in where:
        raise InputError(
            f"{where}: expected an array of uint8 or floats, got {_kind(values)} of Python objects; convert it with "
            "numpy.asarray(values, dtype), with no value missing"
        )
    return array


def _stacked(values: Sequence[Tensor], where: str) -> Tensor:
    try:
        return torch.stack(list(values))
    except RuntimeError as e:
        raise InputError(f"{where}: expected tensors of one shape, got {e}") from None


def _plain(values: object) -> object:
    """A tensor on the CPU with a dtype that numpy has; anything else unchanged."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu().resolve_conj().resolve_neg()
    return values.float() if values.is_floating_point() and values.dtype not in SHARED_FLOATS else values


def _kind(values: object) -> str:
    """The name of a type with its library, such as `pandas DataFrame`."""
    library = type(values).__module__.partition(".")[0]
    return type(values).__name__ if library == "builtins" else f"{library} {type(values).__name__}"


def _refuse_lossy(values: object, where: str) -> None:
    """Rejects what numpy would convert without its mask, its unit or its zeros."""
    kind, library = _kind(values), type(values).__module__
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise InputError(f"{where}: expected a dense tensor, got one of layout {values.layout}; pass x.to_dense()")
        if values.is_quantized:
            raise InputError(f"{where}: expected a tensor of numbers, got a quantized one; pass x.dequantize()")
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.getmaskarray(values).any():
            raise InputError(
                f"{where}: expected an array without a mask, got {kind} with masked values; leave their images out, or "
                "pass x.filled(value)"
            )
        return
    if type(values).__name__ == "MaskedTensor":
        raise InputError(f"{where}: expected a tensor without a mask, got {kind}; pass x.to_tensor(value)")
    if library.startswith(("scipy.sparse", "cupyx.scipy.sparse")):
        raise InputError(f"{where}: expected a dense array, got {kind}, which is sparse; pass x.toarray()")
    if library.partition(".")[0] == "sparse":
        raise InputError(f"{where}: expected a dense array, got {kind}, which is sparse; pass x.todense()")
    if isinstance(values, np.ndarray) and type(values) is not np.ndarray:
        for attribute in ("mask", "unit", "units"):
            if getattr(values, attribute, None) is not None:
                raise InputError(
                    f"{where}: expected a plain array, got {kind} with a {attribute}; pass numpy.asarray(x) if its "
                    "values are the pixels"
                )
