"""Messages as openpi's client writes and reads them: msgpack, with numpy arrays as maps (its msgpack_numpy).

An array is {b"__ndarray__": True, b"data", b"dtype", b"shape"}, a numpy number {b"__npgeneric__": True, b"data",
b"dtype"}. What arrives is from anybody: only numbers, texts, lists and flat maps are taken, an array's bytes must be as
many as it says, and the objects that a message makes are counted while they are made.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

from vlaw_models.errors import VlawError

MOST_OBJECTS = 256
"""Lists and maps in one message: a million empty lists take a megabyte, and a hundred times that once they are made."""
MOST_ITEMS = 1024
"""Of one list or map."""
DTYPE = re.compile(r"\|[bu]1|\|i1|[<>=][iu][248]|[<>=]f[248]")
_REMEDY = "Send a dictionary of arrays, numbers and texts, packed by openpi_client.msgpack_numpy."


def pack(value: Any) -> bytes:
    """msgpack of plain values, numpy arrays and numbers."""
    return msgpack.packb(value, default=_plain)


def unpack(data: bytes) -> dict[str, Any]:
    """The dictionary that a message is; its arrays are read-only views of it. Raises VlawError for anything else."""
    made = 0

    def count() -> None:
        nonlocal made
        made += 1
        if made > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS} lists and maps")

    def pairs(found: list[tuple[Any, Any]]) -> Any:
        count()
        values = dict(found)
        if len(values) != len(found):
            raise ValueError("a key came twice")
        if b"__ndarray__" in values:
            return _array(values)
        return _number(values) if b"__npgeneric__" in values else values

    def items(found: list[Any]) -> list[Any]:
        count()
        return found

    try:
        value = msgpack.unpackb(
            data,
            object_pairs_hook=pairs,
            list_hook=items,
            ext_hook=_no_extension,
            max_array_len=MOST_ITEMS,
            max_map_len=MOST_ITEMS,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise VlawError(f"the message cannot be read: {said[:200]}", where="request", remedy=_REMEDY) from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise VlawError("the message is no dictionary of named values", where="request", remedy=_REMEDY)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind not in "VOc":
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind not in "VOc":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _array(values: dict[Any, Any]) -> np.ndarray:
    shape, data, dtype = values.get(b"shape"), values.get(b"data"), _dtype(values)
    sizes = isinstance(shape, list) and all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
    if not sizes or not isinstance(shape, list) or len(shape) > 8 or not isinstance(data, bytes):
        raise ValueError("an array without a shape or without data")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {tuple(shape)} and {dtype} with {len(data)} bytes")
    found = np.frombuffer(data, dtype).reshape(shape)
    return found if dtype.isnative else found.astype(dtype.newbyteorder("="))


def _number(values: dict[Any, Any]) -> Any:
    data = values.get(b"data")
    if not isinstance(data, bool | int | float):
        raise ValueError("a number that is none")
    return _dtype(values).type(data)


def _dtype(values: dict[Any, Any]) -> np.dtype[Any]:
    """Of numbers and truth values only: objects, texts and records are refused."""
    text = values.get(b"dtype")
    if not isinstance(text, str) or not DTYPE.fullmatch(text):
        raise ValueError(f"an array of type {str(text)[:40]!r}")
    return np.dtype(text)


def _no_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"msgpack extension {code}")
