"""Sizes of world models, for build_world_model."""

from __future__ import annotations

from typing import Any

WORLD_MODEL: dict[str, dict[str, Any]] = {
    "tiny": {
        "class": "ChunkWarp",
        "sizes": {
            "views": 3,
            "height": 64,
            "width": 64,
            "window": (48, 40),
            "chunk": 4,
            "channels": (32, 64, 96),
            "embedding": 128,
        },
    },
    "small": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 8,
            "latent_height": 16,
            "latent_width": 16,
            "chunk": 4,
            "history": 6,
            "block_out_channels": (64, 128, 256, 256),
            "layers": 2,
            "heads": (2, 4, 8, 8),
            "token_dim": 512,
            # Its autoencoder's latents have unit deviation already.
            "vae_scale": 1.0,
        },
    },
    # Views of 192 x 320 pixels, three of them as latents 4 x 72 x 40. `load_stable_video` for its weights.
    "paper": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 24,
            "latent_width": 40,
            "chunk": 4,
            "history": 6,
            "block_out_channels": (320, 640, 1280, 1280),
            "layers": 2,
            "heads": (5, 10, 20, 20),
            "token_dim": 1024,
            "vae_scale": 0.18215,
        },
    },
    "toy": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 6,
            "latent_width": 10,
            "chunk": 4,
            "history": 2,
            "block_out_channels": (32, 64),
            "layers": 1,
            "heads": (1, 2),
            "token_dim": 32,
            "vae_scale": 0.18215,
        },
    },
    # World-VLA-Loop's: Cosmos-Predict2 with 2 billion parameters. `vlaw weights import cosmos` for its weights.
    "cosmos": {
        "class": "CosmosWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 16,
            "latent_height": 24,
            "latent_width": 40,
            "chunk": 24,
            "heads": 16,
            "head_dim": 128,
            "layers": 28,
            "text_dim": 1024,
            "adaln_dim": 256,
        },
    },
    "cosmos_toy": {
        "class": "CosmosWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 6,
            "latent_width": 10,
            "chunk": 24,
            "heads": 2,
            "head_dim": 16,
            "layers": 2,
            "text_dim": 8,
            "adaln_dim": 8,
        },
    },
}
