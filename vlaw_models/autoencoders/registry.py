"""The autoencoders that a checkpoint can name: those shipped here, and those of installed packages."""

from __future__ import annotations

from vlaw_models.registry import Registry

AUTOENCODERS = Registry(
    "autoencoder",
    "vlaw.autoencoders",
    {
        "FoldedPixels": "vlaw_models.autoencoders.folded_pixels:FoldedPixels",
        "TinyAutoencoder": "vlaw_models.autoencoders.tiny_autoencoder:TinyAutoencoder",
        "VideoAutoencoder": "vlaw_models.autoencoders.video_autoencoder:VideoAutoencoder",
        "WanAutoencoder": "vlaw_models.autoencoders.wan_autoencoder:WanAutoencoder",
    },
)
"""Class name, as in a checkpoint's config.json, -> class."""
