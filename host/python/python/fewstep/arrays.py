"""Arrays that come from callers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def fitting(values: npt.ArrayLike, shape: tuple[int | None, ...], name: str) -> bytes:
    """The bytes of an array of this shape (None for any length). Grey pictures may come without their single channel."""
    array = np.asarray(values)
    if array.ndim + 1 == len(shape) and shape[-1] == 1:
        array = array[..., np.newaxis]
    fits = array.ndim == len(shape) and all(want in (None, found) for want, found in zip(shape, array.shape))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} of shape {array.shape}: give ({wanted})")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"{name} of {array.dtype}: give uint8, 0 to 255")
    return array.tobytes()
