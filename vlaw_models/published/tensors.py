"""Tensors in files, without reading them: where each one's bytes lie, and writing files from such places.

Only the headers of safetensors files are read; bytes go from file to file in pieces of COPIED. A pickle is refused, but
for the one layout that is published as one (`pickled_tensors`), which torch reads without running code.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import torch

COPIED = 1 << 24
"""Bytes that are copied at once."""
LONGEST_HEADER = 100_000_000
"""Bytes; what the format allows."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
SINGLE = ("model.safetensors", "diffusion_pytorch_model.safetensors")
"""What a folder's weights are called where they are one file."""
BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
CONVERT = (
    "Convert it where you trust it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
    '"model.safetensors"), and give the folder of that file.'
)


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file."""

    file: Path
    dtype: str
    """As the format names it: "BF16"."""
    shape: tuple[int, ...]
    begin: int
    """Of its bytes in the file."""
    size: int
    """Bytes."""


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a published folder, or the one file. Raises VlawError where there are none, where one
    that the index names is missing, and for a pickle."""
    if path.is_file():
        if path.suffix in PICKLES:
            raise VlawError("these weights are a pickle, which may run code", where=str(path), remedy=CONVERT)
        return [path]
    indices = sorted(path.glob("*.safetensors.index.json"))
    if indices:
        try:
            names = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise VlawError(
                f"the index of the weights cannot be read: {error!r}",
                where=str(indices[0]),
                remedy="Download it again.",
            ) from error
        missing = [name for name in names if not (path / Path(name).name).is_file()]
        if missing:
            raise VlawError(
                f"{len(missing)} of {len(names)} files of the weights are missing, e.g. {missing[0]}",
                where=str(path),
                remedy="Download them: the index names them.",
            )
        return [path / Path(name).name for name in names]
    found = [path / name for name in SINGLE if (path / name).is_file()]
    if found:
        return found[:1]
    pickles = [file for file in sorted(path.glob("*")) if file.suffix in PICKLES]
    if pickles:
        raise VlawError("these weights are a pickle, which may run code", where=str(pickles[0]), remedy=CONVERT)
    if (path / "params").is_dir():
        raise VlawError(
            "these are openpi's weights for JAX",
            where=str(path / "params"),
            remedy="Convert them with openpi's examples/convert_jax_model_to_pytorch.py and give that folder.",
        )
    raise VlawError(
        "there are no weights",
        where=str(path),
        remedy=f"Give a folder with {' or '.join(SINGLE)}, or an index of them.",
    )


def stored_tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a published folder or safetensors file by name. Raises VlawError as `weight_files`, and for a file
    that is damaged or truncated."""
    found: dict[str, Stored] = {}
    for file in weight_files(path):
        found |= _header(file)
    return found


def pickled_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a state dict that was written by torch.save, mapped from the file and not read. Raises VlawError
    where it holds anything else, or is damaged."""
    import torch

    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            found = torch.load(path, map_location="cpu", weights_only=True)  # of a torch from before the zip format
    except pickle.UnpicklingError as error:
        raise VlawError(
            f"the file holds more than tensors, and reading it would run code: {str(error).splitlines()[0][:200]}",
            where=str(path),
            remedy="Load it where you trust it, and save the state dict alone: torch.save(model.state_dict(), FILE).",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise VlawError(
            f"the file cannot be read, it is damaged or truncated: {str(error).splitlines()[0][:200]}",
            where=str(path),
            remedy="Download it again, and compare its size.",
        ) from error
    if not isinstance(found, dict) or not found or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise VlawError(
            "the file is no state dict of names and tensors",
            where=str(path),
            remedy="Save the model's state dict alone: torch.save(model.state_dict(), FILE).",
        )
    return found


def write_tensors(path: Path, tensors: Mapping[str, Stored | torch.Tensor]) -> None:
    """Writes a safetensors file of tensors under new names, from files or from memory, piece by piece."""
    import torch

    kinds = {name: one.dtype if isinstance(one, Stored) else _DTYPES[str(one.dtype)] for name, one in tensors.items()}
    # Wide types first, as safetensors itself does: then every tensor begins at a multiple of its width.
    order = sorted(tensors, key=lambda name: (-BYTES[kinds[name]], name))
    header: dict[str, dict[str, object]] = {}
    begin = 0
    for name in order:
        one = tensors[name]
        size = one.size if isinstance(one, Stored) else one.numel() * one.element_size()
        header[name] = {"dtype": kinds[name], "shape": list(one.shape), "data_offsets": [begin, begin + size]}
        begin += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            one = tensors[name]
            if isinstance(one, torch.Tensor):
                out.write(memoryview(one.detach().contiguous().reshape(-1).view(torch.uint8).numpy()))
                continue
            with one.file.open("rb") as source:
                source.seek(one.begin)
                left = one.size
                while left:
                    piece = source.read(min(left, COPIED))
                    if not piece:
                        raise VlawError(
                            "the file became shorter while it was read", where=str(one.file), remedy="Try again."
                        )
                    out.write(piece)
                    left -= len(piece)


def _header(file: Path) -> dict[str, Stored]:
    with file.open("rb") as opened:
        begin, size = opened.read(8), file.stat().st_size
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
        if not 0 < length <= min(LONGEST_HEADER, size - 8):
            raise _damaged(file, "it is truncated, or no safetensors file")
        text = opened.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        found = {
            name: Stored(
                file,
                entry["dtype"],
                tuple(entry["shape"]),
                8 + length + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(file, f"its header cannot be read: {error!r}") from error
    end = max((one.begin + one.size for one in found.values()), default=8 + length)
    if end != size:
        raise _damaged(file, f"it has {size:,} bytes, its header says {end:,}: it is truncated")
    strange = sorted({one.dtype for one in found.values()} - set(BYTES))
    if strange:
        raise _damaged(file, f"its numbers are of type {strange[0]}, which is not read here")
    return found


def _damaged(file: Path, why: str) -> VlawError:
    return VlawError(f"the weights cannot be read: {why}", where=str(file), remedy="Download the file again.")


_DTYPES = {
    "torch.float64": "F64",
    "torch.int64": "I64",
    "torch.float32": "F32",
    "torch.int32": "I32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}
