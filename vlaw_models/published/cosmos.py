"""Cosmos-Predict2 for video (diffusers' folder: `transformer`, `vae`, `text_encoder`, `tokenizer`): autoencoder, and
the start of a world model, with T5, which it reads the instruction by.

Published for text and video alone, it knows no actions: their embedding is new, and changes nothing before it is
trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models.checkpoint import CONFIG, TOKENIZER, read_text
from vlaw_models.errors import VlawError
from vlaw_models.presets import AUTOENCODER, WORLD_MODEL
from vlaw_models.published.diffusion import ANOTHER, autoencoder_part
from vlaw_models.published.keys import match
from vlaw_models.published.part import Options, Part, preset_of, published_config, shapes_of
from vlaw_models.published.tensors import Stored, stored_tensors, weight_files

if TYPE_CHECKING:
    import torch

    from vlaw_models.world_models.cosmos_world import CosmosWorldConfig

FOLDER = "text_encoder"
"""Of the published folder, and of ours (world_models/t5_text.py)."""
PRESETS = {"paper": "cosmos", "toy": "cosmos_toy"}
"""What --preset means here: the sizes of these backbones."""
ACTIONS = "action_embedders."
NEW = "the embedding of actions, which Cosmos-Predict2 does not have"
_SIZES = {
    "latent_channels": "out_channels",
    "heads": "num_attention_heads",
    "head_dim": "attention_head_dim",
    "layers": "num_layers",
    "text_dim": "text_embed_dim",
    "adaln_dim": "adaln_lora_dim",
    "max_size": "max_size",
    "rope_scale": "rope_scale",
}
"""Field of CosmosWorldConfig -> key of the published config.json."""


def cosmos(path: Path, options: Options) -> list[Part]:
    """The autoencoder, and a world model of the transformer whose embedding of actions is new."""
    from vlaw_models.autoencoders.wan_autoencoder import WanAutoencoder

    preset = PRESETS.get(options.preset, options.preset)
    sizes = preset_of(AUTOENCODER, preset, "WanAutoencoder")["sizes"]
    autoencoder = autoencoder_part(path / "vae", WanAutoencoder, sizes, of="Cosmos-Predict2")
    world_model = _world_model(path, preset, options)
    there, wanted = autoencoder.config["z_dim"], world_model.config["latent_channels"]
    if there != wanted:
        raise VlawError(
            f"the autoencoder makes {there} channels of latents, the transformer takes {wanted}",
            where=str(path),
            remedy="Give the folder as it was published: both are of one model.",
        )
    return [autoencoder, world_model]


def _world_model(path: Path, preset: str, options: Options) -> Part:
    from vlaw_models.world_models.cosmos_world import CosmosWorld, CosmosWorldConfig

    folder = path / "transformer"
    given = published_config(folder, needed_for="the transformer")
    sizes = dict(preset_of(WORLD_MODEL, preset, "CosmosWorld")["sizes"])
    for ours, theirs in _SIZES.items():
        if given.get(theirs) is not None:
            sizes[ours] = tuple(given[theirs]) if isinstance(given[theirs], list) else given[theirs]
    config = CosmosWorldConfig(**{**sizes, **CosmosWorld.of_robot(options.robot)})
    published = stored_tensors(folder)
    report = match(
        {key: one.shape for key, one in published.items()},
        shapes_of(lambda: CosmosWorld(config)),
        name=lambda key: f"network.{key}",
        made=lambda key: NEW if key.startswith(ACTIONS) else None,
    ).check("Cosmos-Predict2 for video (Video2World)", where=str(folder), remedy=ANOTHER)
    tensors: dict[str, Stored | torch.Tensor] = {ours: published[key] for key, ours in report.renamed.items()}
    tensors |= {key: value for key, value in _new_embedders(config).items() if key in report.made}
    part = Part("world_model", {"class": "CosmosWorld", **asdict(config)}, report, tensors=tensors)
    if (path / FOLDER).is_dir():
        _add_text(part, path, config.text_dim)
    else:
        part.notes.append(f"there is no {FOLDER}: it reads no instruction")
    part.notes.append("its embedding of actions is new: it has to be trained before what it imagines follows them")
    return part


def _add_text(part: Part, path: Path, text_dim: int) -> None:
    """T5's files go into the world model's folder as they are, with its tokenizer. Raises VlawError where it is another
    model's."""
    from transformers import T5Config, T5EncoderModel

    folder = path / FOLDER
    given = published_config(folder, needed_for="the text encoder")
    if given.get("model_type") != "t5" or given.get("d_model") != text_dim:
        raise VlawError(
            f"the text encoder is a {given.get('model_type')} of {given.get('d_model')} numbers a token, the "
            f"transformer reads a t5's of {text_dim}",
            where=str(folder),
            remedy="Give the folder as it was published: all are of one model.",
        )
    config = T5Config.from_pretrained(folder, local_files_only=True)
    tied = "encoder.embed_tokens.weight"
    ours = shapes_of(lambda: T5EncoderModel(config))
    report = match(
        {key: one.shape for key, one in stored_tensors(folder).items()},
        {key: shape for key, shape in ours.items() if key != tied},
        drop=lambda key: "a copy of the words' embedding" if key == tied else None,
    ).check("T5's encoder", where=str(folder), remedy=ANOTHER)
    part.report.used += [f"{FOLDER}.{key}" for key in report.used]
    part.report.dropped |= {f"{FOLDER}.{key}": why for key, why in report.dropped.items()}
    names = [folder / CONFIG, *weight_files(folder), *sorted(folder.glob("*.safetensors.index.json"))]
    part.links |= {f"{FOLDER}/{file.name}": file for file in names}
    words = path / "tokenizer" / TOKENIZER
    if not words.is_file():
        raise VlawError(
            "T5's vocabulary is not there as the `tokenizers` package reads it",
            where=str(words),
            remedy="Download tokenizer.json too, or save it where sentencepiece is installed: transformers' "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    part.texts[f"{FOLDER}/{TOKENIZER}"] = read_text(words)


def _new_embedders(config: CosmosWorldConfig) -> Mapping[str, torch.Tensor]:
    """As a new CosmosWorld has them: of the rest no number is made."""
    import torch
    from torch import nn

    from vlaw_models.device import seeded
    from vlaw_models.world_models.cosmos_world import CosmosWorld

    with torch.device("meta"):
        embedders = CosmosWorld(config).action_embedders
    embedders.to_empty(device="cpu")
    with seeded(0):
        for layer in embedders.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    for embedder in embedders:
        for value in embedder[-1].parameters():
            nn.init.zeros_(value)
    return {f"{ACTIONS}{name}": value for name, value in embedders.state_dict().items()}
