"""Sizes of autoencoders, for build_autoencoder."""

from __future__ import annotations

from typing import Any

AUTOENCODER: dict[str, dict[str, Any]] = {
    # The pixels themselves: the tiny world model moves what it sees.
    "tiny": {"class": "FoldedPixels", "sizes": {"fold": 1}},
    # 64-pixel frames to 8 x 16 x 16: a U-Net with attention can use the places.
    "small": {
        "class": "TinyAutoencoder",
        "sizes": {
            "patch": 2,
            "channels": 128,
            "latent_channels": 8,
            "encoder_blocks": (2, 3),
            "decoder_blocks": (3, 2),
        },
    },
    # Stable Video Diffusion's: its `vae` folder loads as a checkpoint.
    "paper": {
        "class": "VideoAutoencoder",
        "sizes": {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "latent_channels": 4,
            "scaling_factor": 0.18215,
            "decode_frames": 7,
        },
    },
    "toy": {
        "class": "VideoAutoencoder",
        "sizes": {
            "block_out_channels": (32, 32, 32, 32),
            "layers_per_block": 1,
            "latent_channels": 4,
            "scaling_factor": 0.18215,
            "decode_frames": 7,
        },
    },
    # Cosmos-Predict2's, which is Wan 2.1's: its `vae` folder loads as a checkpoint.
    "cosmos": {
        "class": "WanAutoencoder",
        "sizes": {"base_dim": 96, "z_dim": 16, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2},
    },
    "cosmos_toy": {
        "class": "WanAutoencoder",
        "sizes": {"base_dim": 8, "z_dim": 4, "dim_mult": (1, 1, 1, 1), "num_res_blocks": 1},
    },
}
