"""Cosmos-Predict2 for video (diffusers' folder: `transformer`, `vae`): autoencoder, and the start of a world model.

Published for text and video alone, it knows no actions: their embedding is new, and changes nothing before it is
trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError
from vlaw_models.presets import AUTOENCODER, WORLD_MODEL
from vlaw_models.published.diffusion import ANOTHER, autoencoder_part
from vlaw_models.published.keys import match
from vlaw_models.published.part import Options, Part, preset_of, published_config, shapes_of
from vlaw_models.published.tensors import Stored, stored_tensors

if TYPE_CHECKING:
    import torch

    from vlaw_models.world_models.cosmos_world import CosmosWorldConfig

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
    part.notes.append("its text encoder is not taken: it reads no instruction")
    part.notes.append("its embedding of actions is new: it has to be trained before what it imagines follows them")
    return part


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
