"""Settings as JSON, parts and results as files: arrays, and what is said besides, in one safetensors file each.

No pickle: what a worker returns must not run code. Same value, same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_assets.lake.frames import decode
from vlaw_assets.lake.source import LanceEpisodes
from vlaw_models.errors import VlawError
from vlaw_models.registry import attribute_of
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.sources import Frames, Pairs

TRUSTED = "vlaw_models."
"""What the module of a dataclass that travels begins with, and that of a heavy part: nothing else is made or run."""
_ARRAY, _FRAMES, _KIND, _ROBOT, _TUPLE, _VALUE = "$array", "$frames", "$kind", "$robot", "$tuple", "value"


class StoredFrames:
    """Reader of one episode's frames that travelled as they are stored: each is decoded when it is asked for."""

    portable = False

    def __init__(self, data: np.ndarray, lengths: np.ndarray, shape: Sequence[int]):
        """`data`: the pictures of all steps and views one after the other, (bytes,) uint8; `lengths`: of each, in
        bytes; `shape`: (T', V, height, width, 3)."""
        self._data, self._shape, self._ends = data, shape, np.cumsum([0, *lengths])

    def take(self, pairs: Pairs) -> np.ndarray:
        views = self._shape[1]
        rows = [step * views + view for _, step in pairs for view in range(views)]
        pictures = [decode(self._data[self._ends[row] : self._ends[row + 1]].tobytes()) for row in rows]
        return np.stack(pictures).reshape(len(pairs), *self._shape[1:])


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(path: Path, value: Any) -> dict[str, Any]:
    """Writes a value to a file that is there whole or not at all; returns {"file", "sha256", "size"}.

    Values: see vlaw_models/spread.py. TypeError for others.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_plain(value, arrays), allow_nan=True)
    data = save(arrays, metadata={_VALUE: text})
    replace(path, data)
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def get(path: Path, sha256: str) -> Any:
    """The value in a file. Raises VlawError where it is missing or its bytes are not those of this sha256."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise VlawError(
                f"the file has sha256 {found[:16]} where {sha256[:16]} was listed",
                where=str(path),
                remedy="Materialize the asset again; if it comes back, look at the disk that workers share.",
            )
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return _made(json.loads(header["__metadata__"][_VALUE]), load(data))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise VlawError(
            f"the file of a part cannot be read: {error}", where=str(path), remedy="Materialize the asset again."
        ) from error


def replace(path: Path, data: bytes | str) -> None:
    """Writes a file beside its place and moves it there."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    temporary.replace(path)


def as_json(value: Any) -> Any:
    """Settings as JSON. TypeError for values that cannot travel so."""
    arrays: dict[str, np.ndarray] = {}
    found = _plain(value, arrays)
    if arrays:
        raise TypeError("settings hold arrays: give them as a part")
    return found


def of_json(value: Any) -> Any:
    """Settings that `as_json` wrote."""
    return _made(value, {})


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, RobotSpec):
        found = find_robot(value.name, where="a worker's settings")
        if found is not value and found != value:
            raise TypeError(f"a robot {value.name!r} that is not the registered one cannot travel to a worker")
        return {_ROBOT: value.name}
    if isinstance(value, Frames):
        if isinstance(value.source, LanceEpisodes):
            # As they are stored, a part of the size: they are decoded where they are used.
            stored = value.source.stored(value.index, len(value))
            lengths = np.array([len(data) for data in stored], np.int64)
            data = np.frombuffer(b"".join(stored), np.uint8)
            return {_FRAMES: _plain([data, lengths], arrays), "shape": list(value.shape)}
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"an array of {value.dtype} cannot travel to a worker")
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {_ARRAY: name, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        value = value.item()
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith(TRUSTED):
        inner = {one.name: _plain(getattr(value, one.name), arrays) for one in dataclasses.fields(value)}
        return {_KIND: f"{type(value).__module__}:{type(value).__qualname__}", _VALUE: inner}
    if isinstance(value, dict):
        if not all(isinstance(key, str) and not key.startswith("$") for key in value):
            raise TypeError(f"keys of a value that travels are texts without '$': {list(value)[:3]}")
        return {key: _plain(one, arrays) for key, one in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(one, arrays) for one in value]}
    if isinstance(value, list):
        return [_plain(one, arrays) for one in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot travel to a worker")


def _made(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_made(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if _ROBOT in value:
        return find_robot(value[_ROBOT], where="a worker's settings")
    if _ARRAY in value:
        return arrays[value[_ARRAY]].reshape(value["shape"]).copy()  # as read they cannot be written
    if _FRAMES in value:
        data, lengths = _made(value[_FRAMES], arrays)
        return Frames(StoredFrames(data, lengths, value["shape"]), 0, tuple(value["shape"]))
    if _TUPLE in value:
        return tuple(_made(one, arrays) for one in value[_TUPLE])
    if _KIND in value:
        kind = attribute_of(value[_KIND]) if str(value[_KIND]).startswith(TRUSTED) else None
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise TypeError(f"{value[_KIND]!r} is nothing that travels")
        return kind(**{key: _made(one, arrays) for key, one in value[_VALUE].items()})
    return {key: _made(one, arrays) for key, one in value.items()}


def listing(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of all files of a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def digest_of(value: Any) -> str:
    """sha256 (hex) of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
