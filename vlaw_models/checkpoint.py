"""A checkpoint is a folder: config.json (with its "class"), *.safetensors and, where needed, tokenizer.json.

What the configuration means is up to the class, found in the registry of its kind (policies, world models,
autoencoders, reward models). Why JSON and safetensors only: a checkpoint from somebody else must not run code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from vlaw_models.errors import VlawError
from vlaw_models.registry import Registry

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
WITHOUT_WEIGHTS: ContextVar[bool] = ContextVar("WITHOUT_WEIGHTS", default=False)
"""Whether models are loaded by their configuration alone: for planning, which asks for no number of theirs."""
T = TypeVar("T")


def save_checkpoint(
    folder: Path | str, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, tokenizer: str | None = None
) -> Path:
    """Writes config.json, model.safetensors and, if given, tokenizer.json; returns the folder.

    `config` is plain JSON values with a "class"; `tokenizer` is the text of tokenizer.json. Same input, same bytes.
    config.json is written last, so a folder without it is an unfinished one. Raises VlawError for a config without
    "class" or with values that JSON cannot hold, before anything is written.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if not isinstance(config.get("class"), str):
        raise VlawError(
            'a checkpoint configuration needs a "class"',
            where=str(folder),
            remedy='Set config["class"] to the name of its class in the registry of its kind.',
        )
    try:
        text = json.dumps(dict(config), indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise VlawError(
            f"the checkpoint configuration is not plain JSON: {error}",
            where=str(folder),
            remedy="Use numbers, strings, lists and dictionaries only; arrays belong to the tensors.",
        ) from error
    # A clone per tensor: safetensors refuses memory shared between entries (tied embeddings).
    stored = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)  # it may be another name of a published file, which stays as it is
    save_file(stored, str(folder / WEIGHTS))
    if tokenizer is not None:
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    (folder / CONFIG).write_text(text, encoding="utf-8")
    return folder


def load_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a checkpoint. Raises VlawError where it is missing, damaged or has no "class"."""
    path = Path(folder) / CONFIG
    text = read_text(path)
    try:
        config = json.loads(text)
    except ValueError as error:
        raise VlawError(f"config.json is not readable JSON: {error}", where=str(path), remedy=_REMEDY) from error
    if not isinstance(config, dict) or not isinstance(config.get("class"), str):
        raise VlawError('config.json does not name a "class"', where=str(path), remedy=_REMEDY)
    return config


def described(kind: type[T], values: Mapping[str, Any], *, by: str, where: Path | str) -> T:
    """The dataclass `kind` as config.json has it: its lists become tuples, its objects the dataclasses they stand for.

    `by`: the class whose configuration it is. Raises VlawError for a key that is missing or unknown.
    """
    with describing(by, where=where):
        return _of_json(kind, values)


@contextmanager
def describing(name: str, *, where: Path | str) -> Iterator[None]:
    """Reads config.json inside the block: what it lacks, or has too much, of class `name` becomes a VlawError."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise VlawError(
            f"config.json does not describe a {name}: {error}",
            where=str(where),
            remedy="Use a checkpoint written by this version, or make it again.",
        ) from error


def load_tensors(folder: Path | str) -> dict[str, torch.Tensor]:
    """All tensors of the folder's *.safetensors files, on the CPU; none of them WITHOUT_WEIGHTS. Raises VlawError where
    they are missing or damaged."""
    if WITHOUT_WEIGHTS.get():
        return {}
    folder = Path(folder)
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise VlawError("the checkpoint has no weights (*.safetensors)", where=str(folder), remedy=_REMEDY)
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        tensors.update(read_safetensors(path))
    return tensors


def read_safetensors(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of one file. Raises VlawError where it is missing, truncated or not a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise VlawError(f"the weights cannot be read: {error}", where=str(path), remedy=_REMEDY) from error


def read_tokenizer(folder: Path | str) -> str:
    """The text of tokenizer.json. Raises VlawError where it is missing."""
    return read_text(Path(folder) / TOKENIZER)


def load_weights(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, where: Path | str) -> None:
    """Strict load_state_dict whose complaint is one a person can read. Numbers of another type become the model's as
    they are copied, tensor by tensor. WITHOUT_WEIGHTS the model stays as it was made."""
    if WITHOUT_WEIGHTS.get():
        return
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise VlawError(
            f"the weights do not fit the configuration: {' '.join(lines)[:600]}",
            where=str(where),
            remedy="config.json and model.safetensors must come from the same checkpoint.",
        ) from error


def start_from(
    network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, where: Path | str, remedy: str
) -> list[str]:
    """Puts published weights into `network`; returns the names that they lack. Raises VlawError where a name is foreign
    or shapes disagree."""
    own = network.state_dict()
    wrong = [name for name, value in tensors.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise VlawError(
            f"{len(wrong)} tensors do not fit this configuration, e.g. {wrong[0]}", where=str(where), remedy=remedy
        )
    return list(network.load_state_dict(dict(tensors), strict=False).missing_keys)


def load_checkpoint(folder: Path | str, models: Registry) -> Any:
    """The model in a checkpoint, built by the class it names, of those in `models`; on the device that computes.

    Raises VlawError for a missing or damaged folder, for a class that is unknown or of another kind, and for a device
    that is not there.
    """
    from vlaw_models.device import compute_device

    device = compute_device()
    return class_of(load_config(folder)["class"], models, where=folder).load(Path(folder)).to(device)


def load_without_weights(folder: Path | str, models: Registry) -> Any:
    """As `load_checkpoint`, by config.json and vocabularies alone: class and sizes of a checkpoint, with the numbers
    of a new model, on the CPU. Raises VlawError as it does, but for tensors, which are not looked at."""
    token = WITHOUT_WEIGHTS.set(True)
    try:
        return class_of(load_config(folder)["class"], models, where=folder).load(Path(folder))
    finally:
        WITHOUT_WEIGHTS.reset(token)


def preset_class(preset: Mapping[str, Any], models: Registry) -> type[Any]:
    """The class that a preset's entry names. Raises VlawError for one that is unknown or of another kind."""
    return class_of(preset.get("class", ""), models, where="presets")


def class_of(name: str, models: Registry, *, where: Path | str) -> type[Any]:
    """The class of that name among `models`. Raises VlawError for one that is unknown or of another kind."""
    check_class(name, models, where=where)
    return models.load(name, where=str(where))


def check_class(name: str, models: Registry, *, where: Path | str) -> None:
    """Raises VlawError for a class that is not among `models`; imports none of them."""
    known = models.names()
    if name not in known:
        article = "an" if models.kind[0] in "aeiou" else "a"
        raise VlawError(
            f"a model of class {name!r} cannot be used as {article} {models.kind}",
            where=str(where),
            remedy=f"Give one of: {', '.join(known)}; an installed package adds more by the entry point group "
            f"{models.group!r}.",
        )


_REMEDY = "Point to a complete checkpoint folder (config.json and *.safetensors), or make it again."


def _of_json(kind: Any, value: Any) -> Any:
    if isinstance(kind, UnionType):  # with None
        kind = get_args(kind)[0]
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        kinds = get_type_hints(kind)
        return kind(**{name: _of_json(kinds.get(name), part) for name, part in value.items()})
    if isinstance(value, list):
        inner = next(iter(get_args(kind)), None)
        return tuple(_of_json(inner, part) for part in value)
    return value


def read_text(path: Path) -> str:
    """The text of a file of a checkpoint. Raises VlawError where it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VlawError(f"the checkpoint file cannot be read: {error}", where=str(path), remedy=_REMEDY) from error
