"""The world models that a checkpoint can name: those shipped here, and those of installed packages."""

from __future__ import annotations

from vlaw_models.registry import Registry

WORLD_MODELS = Registry(
    "world model",
    "vlaw.world_models",
    {
        "ChunkUNet": "vlaw_models.world_models.chunk_unet:ChunkUNet",
        "ChunkWarp": "vlaw_models.world_models.chunk_warp:ChunkWarp",
        "CosmosWorld": "vlaw_models.world_models.cosmos_world:CosmosWorld",
        "CtrlWorld": "vlaw_models.world_models.ctrl_world:CtrlWorld",
    },
)
"""Class name, as in a checkpoint's config.json, -> class."""
