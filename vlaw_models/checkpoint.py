"""A checkpoint is a folder: config.json (with its "class"), *.safetensors and, where needed, tokenizer.json.

Here: writing and reading such a folder, and the table from class name to loader. Not here: what the configuration
means (each class does that). Why JSON and safetensors only: a checkpoint from somebody else must not run code.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"

LOADERS: dict[str, str] = {
    "FlowPolicy": "vlaw_models.policies.flow_policy:FlowPolicy",
    "Pi0Policy": "vlaw_models.policies.pi0:Pi0Policy",
    "NoisePolicy": "vlaw_models.policies.noise_policy:NoisePolicy",
    "ChunkUNet": "vlaw_models.world_models.chunk_unet:ChunkUNet",
    "CtrlWorld": "vlaw_models.world_models.ctrl_world:CtrlWorld",
    "WarpUNet": "vlaw_models.world_models.warp_unet:WarpUNet",
    "FoldedPixels": "vlaw_models.world_models.autoencoder:FoldedPixels",
    "TinyAutoencoder": "vlaw_models.world_models.autoencoder:TinyAutoencoder",
    "VideoAutoencoder": "vlaw_models.world_models.autoencoder:VideoAutoencoder",
    "ClipJudge": "vlaw_models.reward_models.clip_judge:ClipJudge",
    "QwenJudge": "vlaw_models.reward_models.qwen_judge:QwenJudge",
}
"""config["class"] -> "module:Class", imported when first needed; the class has `load(folder)`. See `register`."""

KINDS: dict[str, str] = {
    "FlowPolicy": "policy",
    "Pi0Policy": "policy",
    "NoisePolicy": "policy",
    "ChunkUNet": "world model",
    "CtrlWorld": "world model",
    "WarpUNet": "world model",
    "FoldedPixels": "autoencoder",
    "TinyAutoencoder": "autoencoder",
    "VideoAutoencoder": "autoencoder",
    "ClipJudge": "reward model",
    "QwenJudge": "reward model",
}
"""config["class"] -> what it is, so that a world model is not taken for a policy."""


def register(class_name: str, target: str, *, kind: str = "") -> None:
    """Adds a class of your own to the table: `target` is "module:Class", and Class.load(folder) returns the model.

    `kind` is what the loop may use it as: 'policy', 'world model', 'autoencoder' or 'reward model'.
    """
    if ":" not in target:
        raise VlawError(
            f"{target!r} is not of the form 'module:Class'",
            where=f"checkpoint class {class_name!r}",
            remedy="Name the module and the class, e.g. 'my_package.my_module:MyPolicy'.",
        )
    LOADERS[class_name] = target
    KINDS[class_name] = kind


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
            remedy=f'Set config["class"] to one of {sorted(LOADERS)} or a class that you registered.',
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
    save_file(stored, str(folder / WEIGHTS))
    if tokenizer is not None:
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    (folder / CONFIG).write_text(text, encoding="utf-8")
    return folder


def load_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a checkpoint. Raises VlawError where it is missing, damaged or has no "class"."""
    path = Path(folder) / CONFIG
    text = _read_text(path)
    try:
        config = json.loads(text)
    except ValueError as error:
        raise VlawError(f"config.json is not readable JSON: {error}", where=str(path), remedy=_REMEDY) from error
    if not isinstance(config, dict) or not isinstance(config.get("class"), str):
        raise VlawError('config.json does not name a "class"', where=str(path), remedy=_REMEDY)
    return config


def load_tensors(folder: Path | str) -> dict[str, torch.Tensor]:
    """All tensors of the folder's *.safetensors files, on the CPU. Raises VlawError where they are missing or
    damaged."""
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
    return _read_text(Path(folder) / TOKENIZER)


def load_weights(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, where: Path | str) -> None:
    """Strict load_state_dict whose complaint is one a person can read."""
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise VlawError(
            f"the weights do not fit the configuration: {' '.join(lines)[:600]}",
            where=str(where),
            remedy="config.json and model.safetensors must come from the same checkpoint.",
        ) from error


def load_checkpoint(folder: Path | str, *, kind: str | None = None) -> Any:
    """The model in a checkpoint, built by the class it names. `kind` (see KINDS) restricts what is acceptable here.

    Raises VlawError for a missing or damaged folder and for a class that is unknown or of another kind.
    """
    name = load_config(folder)["class"]
    acceptable = _classes(kind)
    if name not in acceptable:
        raise VlawError(
            f"a checkpoint of class {name!r} cannot be used as {_article(kind or 'model')}",
            where=str(folder),
            remedy=f"Give a checkpoint of one of: {', '.join(acceptable)}.",
        )
    return _attribute(LOADERS[name]).load(Path(folder))


def preset_class(preset: Mapping[str, Any], *, kind: str) -> tuple[type, type]:
    """The class that a preset's entry names, and its configuration's (same module, same name and "Config").

    Raises VlawError for a class that is unknown or of another kind.
    """
    name, acceptable = preset.get("class"), _classes(kind)
    if name not in acceptable:
        raise VlawError(
            f"a preset of class {name!r} cannot be used as {_article(kind)}",
            where="presets",
            remedy=f"Name one of: {', '.join(acceptable)}.",
        )
    return _attribute(LOADERS[name]), _attribute(LOADERS[name] + "Config")


def _classes(kind: str | None) -> list[str]:
    return sorted(name for name in LOADERS if kind is None or KINDS.get(name) == kind)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


_REMEDY = "Point to a complete checkpoint folder (config.json and *.safetensors), or make it again."


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VlawError(f"the checkpoint file cannot be read: {error}", where=str(path), remedy=_REMEDY) from error
