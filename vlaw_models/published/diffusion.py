"""Stable Video Diffusion (diffusers' folder: `unet`, `vae`), Ctrl-World (a `.pt` state dict) and CLIP (transformers'
folder): autoencoder, world model, and what the world model reads the instruction by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.checkpoint import TOKENIZER, WEIGHTS, read_text
from vlaw_models.errors import VlawError
from vlaw_models.presets import AUTOENCODER, WORLD_MODEL
from vlaw_models.published.keys import match
from vlaw_models.published.part import Options, Part, preset_of, published_config, shapes_of
from vlaw_models.published.tensors import Stored, pickled_tensors, stored_tensors, weight_files

if TYPE_CHECKING:
    import torch

    from vlaw_models.autoencoders.base import DiffusersAutoencoder
    from vlaw_models.world_models.ctrl_world import CtrlWorldConfig

ANOTHER = "Give weights of this architecture, and the preset of their size (--preset)."
FROM_CLIP = "from CLIP's folder"
_TEXT = "text_encoder."
_DROPPED = {
    "vae.": "the autoencoder's: `vlaw weights import svd` takes them",
    "image_encoder.": "Ctrl-World does not ask it",
}
_POSITIONS = "embeddings.position_ids"
"""Of older transformers: the numbers 0, 1, 2, ..."""


def svd(path: Path, options: Options) -> list[Part]:
    """The autoencoder, and a world model of the U-Net whose action encoder is new."""
    return [_autoencoder(path / "vae", options), _start(path / "unet", options)]


def ctrl_world(path: Path, options: Options) -> list[Part]:
    """The world model with its action encoder and text encoder."""
    if options.clip is None:
        raise VlawError(
            "Ctrl-World reads the instruction by CLIP, whose vocabulary is not in its file",
            where=str(path),
            remedy="Give --clip FOLDER, the folder of openai/clip-vit-base-patch32.",
        )
    published: Mapping[str, Stored | torch.Tensor]
    published = stored_tensors(path) if path.is_dir() or path.suffix == ".safetensors" else pickled_tensors(path)
    text, vocabulary, words = _clip(options.clip)
    config = _config(preset_of(WORLD_MODEL, options.preset, "CtrlWorld")["sizes"], options, text)
    inside = any(name.startswith(_TEXT) for name in published)

    def name(key: str) -> str:
        if key.startswith(_TEXT):
            return key.replace(_TEXT, _TEXT + "model.", 1)
        return key.replace("action_encoder.action_encode.", "action_encoder.", 1)

    def drop(key: str) -> str | None:
        if key.startswith(_TEXT) and key.endswith(_POSITIONS):
            return "numbers of positions, which the class counts itself"
        return next((why for start, why in _DROPPED.items() if key.startswith(start)), None)

    report = match(
        {key: tuple(value.shape) for key, value in published.items()},
        _shapes(config),
        name=name,
        drop=drop,
        made=lambda key: FROM_CLIP if key.startswith(_TEXT) and not inside else None,
    ).check("Ctrl-World", where=str(path), remedy=ANOTHER)
    tensors: dict[str, Stored | torch.Tensor] = {key: published[key] for key in report.used}
    tensors |= {ours: published[key] for key, ours in report.renamed.items()}
    tensors |= {key: words[key.removeprefix(_TEXT)] for key in report.made}
    return [_world_model(config, report, tensors, vocabulary)]


def clip(path: Path, _options: Options) -> list[Part]:
    """CLIP's text tower alone."""
    sizes, vocabulary, _ = _clip(path)
    published = stored_tensors(path)
    report = _clip_report(published, sizes, path)
    return [
        Part(
            "text encoder",
            {"class": "ClipText", "sizes": sizes},
            report,
            tensors={ours: published[key] for key, ours in report.renamed.items()},
            texts={TOKENIZER: vocabulary},
            notes=["give this folder, or the published one, to `vlaw weights import ctrl-world` as --clip"],
        )
    ]


def autoencoder_part(folder: Path, kind: type[DiffusersAutoencoder], sizes: Mapping[str, Any], *, of: str) -> Part:
    """diffusers' `vae` folder: its own sizes, and of `sizes` those that it does not say."""
    given = published_config(folder, needed_for="the autoencoder")
    known = {item.name for item in fields(kind.config_class)}
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key in known}
    config = kind.config_class(**{**sizes, **own})
    ours = shapes_of(lambda: kind(config))
    report = match(
        {key: one.shape for key, one in stored_tensors(folder).items()},
        {key.removeprefix("network."): shape for key, shape in ours.items()},
    ).check(f"{of}'s autoencoder", where=str(folder), remedy=ANOTHER)
    files = weight_files(folder)
    links = {WEIGHTS: files[0]} if len(files) == 1 else {file.name: file for file in files}
    return Part("autoencoder", {"class": kind.__name__, **asdict(config)}, report, links=links)


def _autoencoder(folder: Path, options: Options) -> Part:
    from vlaw_models.autoencoders.video_autoencoder import VideoAutoencoder

    sizes = preset_of(AUTOENCODER, options.preset, "VideoAutoencoder")["sizes"]
    return autoencoder_part(folder, VideoAutoencoder, sizes, of="Stable Video Diffusion")


def _start(folder: Path, options: Options) -> Part:
    from vlaw_models.device import seeded
    from vlaw_models.world_models.ctrl_world import new_action_encoder

    given = published_config(folder, needed_for="the U-Net")
    sizes = dict(preset_of(WORLD_MODEL, options.preset, "CtrlWorld")["sizes"])
    for key, theirs in (
        ("latent_channels", "out_channels"),
        ("block_out_channels", "block_out_channels"),
        ("layers", "layers_per_block"),
        ("heads", "num_attention_heads"),
        ("token_dim", "cross_attention_dim"),
        ("addition_time_embed_dim", "addition_time_embed_dim"),
    ):
        if given.get(theirs) is not None:
            sizes[key] = tuple(given[theirs]) if isinstance(given[theirs], list) else given[theirs]
    text, vocabulary, words = _clip(options.clip) if options.clip is not None else (None, None, {})
    config = _config(sizes, options, text)
    with seeded(0):
        new = new_action_encoder(len(config.pose_low), config.token_dim).state_dict()
    published = stored_tensors(folder)
    report = match(
        {key: one.shape for key, one in published.items()},
        _shapes(config),
        name=lambda key: f"unet.{key}",
        made=_new,
    ).check("Stable Video Diffusion's U-Net", where=str(folder), remedy=ANOTHER)
    tensors: dict[str, Stored | torch.Tensor] = {ours: published[key] for key, ours in report.renamed.items()}
    for key, why in report.made.items():
        tensors[key] = words[key.removeprefix(_TEXT)] if why == FROM_CLIP else new[key.removeprefix("action_encoder.")]
    part = _world_model(config, report, tensors, vocabulary)
    part.notes.append("its action encoder is new: it has to be trained before it imagines")
    return part


def _new(key: str) -> str | None:
    if key.startswith("action_encoder."):
        return "the action encoder, which Stable Video Diffusion does not have"
    return FROM_CLIP if key.startswith(_TEXT) else None


def _world_model(
    config: CtrlWorldConfig, report: Any, tensors: Mapping[str, Stored | torch.Tensor], vocabulary: str | None
) -> Part:
    from vlaw_models.world_models.clip_text import TEXT_TOKENIZER

    texts = {} if vocabulary is None else {TEXT_TOKENIZER: vocabulary}
    return Part("world_model", {"class": "CtrlWorld", **asdict(config)}, report, tensors=tensors, texts=texts)


def _config(sizes: Mapping[str, Any], options: Options, text: dict[str, Any] | None) -> CtrlWorldConfig:
    from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig

    switches = _switches(options.defects)
    return CtrlWorldConfig(**{**sizes, **CtrlWorld.of_robot(options.robot), **switches, "text_encoder": text})


def _switches(defects: str) -> Mapping[str, Any]:
    """What a configuration says for the published defects that are kept. Raises VlawError for an unknown word."""
    from vlaw_models.world_models.ctrl_world import PUBLISHED_ROLLOUTS

    known: dict[str, Mapping[str, Any]] = {
        "training": {},  # what its weights were trained with: the defaults
        "all": PUBLISHED_ROLLOUTS,
        "none": {"own_tokens": True, "learn_current": False},
    }
    if defects not in known:
        raise VlawError(
            f"{defects!r} says nothing of defects", where="--defects", remedy=f"Give one of: {', '.join(known)}."
        )
    return known[defects]


def _shapes(config: CtrlWorldConfig) -> dict[str, tuple[int, ...]]:
    from vlaw_models.world_models.ctrl_world import CtrlWorld

    return shapes_of(lambda: CtrlWorld(config))


def _clip(folder: Path) -> tuple[dict[str, Any], str, dict[str, Stored]]:
    """Sizes, vocabulary, and the tensors by ClipText's names. Raises VlawError for a folder that is not CLIP's."""
    from vlaw_models.world_models.clip_text import SIZES, ClipText

    given = published_config(folder, needed_for="CLIP's text tower")
    if given.get("class") == "ClipText":
        tensors = stored_tensors(folder)
        ClipText.load(folder)
        return given["sizes"], read_text(folder / TOKENIZER), tensors
    from transformers import CLIPTextConfig

    try:
        config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise VlawError(
            f"this is no CLIP: {str(error).splitlines()[0][:200]}",
            where=str(folder),
            remedy="Give the folder of openai/clip-vit-base-patch32.",
        ) from error
    sizes = {key: getattr(config, key) for key in SIZES}
    vocabulary = _vocabulary(folder)
    published = stored_tensors(folder)
    report = _clip_report(published, sizes, folder)
    return sizes, vocabulary, {ours: published[key] for key, ours in report.renamed.items()}


def _clip_report(published: Mapping[str, Stored], sizes: Mapping[str, Any], folder: Path) -> Any:
    from vlaw_models.world_models.clip_text import ClipText

    def drop(key: str) -> str | None:
        if key.startswith(("vision_model.", "visual_projection.")) or key == "logit_scale":
            return "the picture's side of CLIP"
        return "numbers of positions, which the class counts itself" if key.endswith(_POSITIONS) else None

    return match(
        {key: one.shape for key, one in published.items()},
        shapes_of(lambda: ClipText(sizes)),
        name=lambda key: f"model.{key}",
        drop=drop,
    ).check("CLIP", where=str(folder), remedy=ANOTHER)


def _vocabulary(folder: Path) -> str:
    if (folder / TOKENIZER).is_file():
        return read_text(folder / TOKENIZER)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError) as error:
        raise VlawError(
            f"CLIP's vocabulary cannot be read: {str(error).splitlines()[0][:200]}",
            where=str(folder),
            remedy="Give the folder with tokenizer.json, or vocab.json and merges.txt.",
        ) from error
