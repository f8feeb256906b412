"""Sizes of world models that train in seconds."""

from __future__ import annotations

from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.chunk_unet import ChunkUNet, ChunkUNetConfig
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
