"""World models of every class, of sizes that train in seconds."""

from __future__ import annotations

from dataclasses import replace

import torch

from vlaw_models.autoencoders.base import Autoencoder, build_autoencoder
from vlaw_models.autoencoders.folded_pixels import FoldedPixels, FoldedPixelsConfig
from vlaw_models.presets import AUTOENCODER, WORLD_MODEL
from vlaw_models.robots.tabletop.controller import HIGH, LOW
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel
from vlaw_models.world_models.chunk_unet import ChunkUNet, ChunkUNetConfig
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.cosmos_world import CosmosWorld, CosmosWorldConfig
from vlaw_models.world_models.ctrl_world import CtrlWorld, CtrlWorldConfig

SMALL = ChunkUNetConfig(
    **ChunkUNet.of_robot(SPEC), latent_channels=8, latent_height=4, latent_width=4, channels=(32, 48)
)
TOY = CtrlWorldConfig(
    latent_channels=8,
    latent_height=4,
    latent_width=4,
    history=2,
    history_spacing=2,
    vae_scale=1.0,
    **CtrlWorld.of_robot(SPEC),
    block_out_channels=(32, 32),
    layers=1,
    heads=(2, 2),
    token_dim=32,
    addition_time_embed_dim=8,
    text_dim=16,
    edm=edm.EdmConfig(sigma_max=80.0, guidance=2.0),
)
WARP = ChunkWarpConfig(
    **ChunkWarp.of_robot(SPEC), height=16, width=16, window=(8, 8), channels=(16, 16, 32), embedding=32
)
COSMOS = CosmosWorldConfig(
    **WORLD_MODEL["cosmos_toy"]["sizes"]
    | {"latent_height": 2, "latent_width": 2, "chunk": 8}
    | CosmosWorld.of_robot(SPEC)
)
FOLDED = {"latent_channels": 12}
CLASSES = {
    "ChunkWarp": (ChunkWarp, WARP),
    "ChunkUNet": (ChunkUNet, replace(SMALL, **FOLDED)),
    "CtrlWorld": (CtrlWorld, replace(TOY, **FOLDED)),
    "CosmosWorld": (CosmosWorld, COSMOS),
}
"""Class name -> class and a size for which `autoencoder_for` has the autoencoder."""


def made(kind: str) -> WorldModel:
    """A world model of a class, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLASSES[kind][0](CLASSES[kind][1]).eval()
        for parameter in model.parameters():  # also the layers that start at zero
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def autoencoder_for(kind: str) -> Autoencoder:
    """One whose latents such a model takes."""
    if kind == "CosmosWorld":
        return build_autoencoder(AUTOENCODER["cosmos_toy"], seed=0).eval()
    return FoldedPixels(FoldedPixelsConfig(fold=1 if kind == "ChunkWarp" else 2))


def condition(model: WorldModel, instructions: list[str]) -> Condition:
    """Seeded context frames and poses, one row for each instruction."""
    g, count = torch.Generator().manual_seed(0), len(model.offsets()[0])
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    poses = low + (high - low) * torch.rand(len(instructions), count + model.chunk, 5, generator=g)
    context = torch.rand(len(instructions), count, *model.latent_shape, generator=g) * 2 - 1
    return Condition(context, poses, words=model.read_words(instructions))
