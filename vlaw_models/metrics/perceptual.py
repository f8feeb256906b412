"""How different two pictures look: LPIPS (Zhang et al. 2018) with AlexNet or VGG-16, weights given by path.

torchmetrics has the same distance (a test compares them), but its public class downloads the network's weights; here
they come from a file, and their digest is known. The offline substitute is `perceptual_judge` (features.JudgeNet, the
same distance on the judge's layers, without learned weights). Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vlaw_models.checkpoint import load_weights, read_safetensors
from vlaw_models.errors import VlawError
from vlaw_models.metrics.features import checked_pictures, file_digest, in_batches, unit_difference

STAGES = {"alexnet": (1, 4, 7, 9, 11), "vgg16": (3, 8, 15, 22, 29)}
"""torchvision network -> numbers of the layers of its `features` (all ReLU) at which LPIPS compares."""

SMALLEST = 32
"""Pixels each way below which AlexNet's last maps are empty."""


class PerceptualNet(Protocol):
    """What the perceptual distance needs of a network; `JudgeNet` has it too."""

    name: str
    digest: str
    perceptual_metric: str
    """What the distance is called."""

    def perceptual(self, a: np.ndarray, b: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, H, W, 3) uint8 twice -> (N,) float64, 0 for identical pictures. VlawError where it cannot read them."""
        ...


class Lpips:
    """LPIPS v0.1. `weights`: the torchvision network's state dict as safetensors (its classifier is not read).

    `linear`: the learned weights of LPIPS as safetensors, under their published names `lin0.model.1.weight` to lin4,
    (1, C, 1, 1) each. VlawError for an unknown network, files that cannot be read or do not fit, negative weights.
    """

    batch_size = 16

    def __init__(self, architecture: str, weights: Path | str, linear: Path | str):
        from torchvision import models

        if architecture not in STAGES:
            raise VlawError(
                f"unknown network {architecture!r}", where="LPIPS", remedy=f"Choose from {', '.join(STAGES)}."
            )
        tensors = {
            name.removeprefix("features."): value.float()
            for name, value in read_safetensors(weights).items()
            if name.startswith("features.")
        }
        # Not initialised: the weights replace everything that is read, and VGG's classifier alone is 120 million
        # numbers.
        with torch.device("meta"):
            layers: nn.Sequential = getattr(models, architecture)(weights=None).features
        self._layers = layers.to_empty(device="cpu")
        load_weights(self._layers, tensors, where=weights)
        self._layers = self._layers.eval()
        self._stages = STAGES[architecture]
        self._linear = _linear_weights(Path(linear), [self._layers[stage - 1].out_channels for stage in self._stages])
        self.name = f"lpips_{architecture}"
        self.perceptual_metric = self.name
        self.digest = f"{file_digest(weights)}+{file_digest(linear)}"

    def perceptual(self, a: np.ndarray, b: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, H, W, 3) uint8 twice -> (N,) float64. VlawError for pictures smaller than 32x32 or of unequal shape."""
        for images in (a, b):
            checked_pictures(images, 4)
        if a.shape != b.shape or min(a.shape[1:3]) < SMALLEST:
            raise VlawError(
                f"pictures of shape {a.shape} and {b.shape}",
                where="LPIPS",
                remedy=f"Give two arrays of equal shape, at least {SMALLEST}x{SMALLEST} pixels.",
            )
        both = np.concatenate([a, b], axis=-1)
        return in_batches(self._apart, both, self.batch_size).astype(np.float64)

    def _apart(self, both: Tensor) -> Tensor:
        return unit_difference(self._maps(both[..., :3]), self._maps(both[..., 3:]), weights=self._linear).sum(1)

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        hidden = pictures.movedim(-1, 1).float() / 127.5 - 1
        hidden = (hidden - hidden.new_tensor(SHIFT).reshape(3, 1, 1)) / hidden.new_tensor(SCALE).reshape(3, 1, 1)
        maps = []
        for number, layer in enumerate(self._layers[: self._stages[-1] + 1]):
            hidden = layer(hidden)
            if number in self._stages:
                maps.append(hidden)
        return maps


SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""LPIPS's own normalisation of pictures in [-1, 1], per channel."""


def _linear_weights(path: Path, channels: list[int]) -> list[Tensor]:
    tensors = read_safetensors(path)
    found = []
    for number, count in enumerate(channels):
        name = f"lin{number}.model.1.weight"
        weight = tensors.get(name)
        if weight is None or weight.shape != (1, count, 1, 1) or not (weight >= 0).all():
            raise VlawError(
                f"{name} should be (1, {count}, 1, 1) and not negative",
                where=str(path),
                remedy="Give LPIPS's linear weights of the same network, version 0.1, as safetensors.",
            )
        found.append(weight.float().reshape(1, count, 1, 1))
    return found
