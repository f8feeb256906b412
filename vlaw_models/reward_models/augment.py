"""Augmentation of a judge's training clips: strong, because a judge overfits a few hundred clips within minutes.

Shifts, colour, blur, blocky noise; the last two also look like what a world model does to a picture, so that a judge
trained on real clips is not thrown by imagined ones.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

MAX_SHIFT = 3
"""Pixels at 64x64; scaled with the image size."""
COLOUR = 0.15
BRIGHTNESS = 18.0
BLUR_CHANCE = 0.4
NOISE_CHANCE = 0.5
NOISE = 9.0


def augment(frames: Tensor, generator: Generator) -> Tensor:
    """A batch of clips (B, F, V, h, w, 3) uint8 -> the same shape, float32 in [0, 255]; one draw per clip and
    camera."""
    batch, count, views, height, width, _ = frames.shape
    shifted = _shift(frames, max(1, round(MAX_SHIFT * height / 64)), generator)
    gain = 1.0 + COLOUR * (2 * torch.rand(batch, 1, views, 1, 1, 3, generator=generator) - 1)
    offset = BRIGHTNESS * (2 * torch.rand(batch, 1, views, 1, 1, 1, generator=generator) - 1)
    out = shifted.float().mul_(gain).add_(offset)
    # Every clip has its own draws, used or not: a clip is changed alike whatever part of a batch it is in.
    blurred, blur = torch.rand(batch, 2, generator=generator).unbind(1)
    noisy, level = torch.rand(batch, 2, generator=generator).unbind(1)
    coarse = torch.randn(batch, count * views, 3, -(-height // 4), -(-width // 4), generator=generator)
    for index in torch.nonzero(blurred < BLUR_CHANCE).flatten().tolist():
        _blur_(out[index], float(blur[index]))
    for index in torch.nonzero(noisy < NOISE_CHANCE).flatten().tolist():
        # Coarse noise enlarged without smoothing: blocks of 4 pixels, like the artefacts of a latent decoder or JPEG.
        scaled = NOISE * float(level[index]) * coarse[index]
        blocks = functional.interpolate(scaled, scale_factor=4, mode="nearest")[..., :height, :width]
        out[index] += blocks.movedim(1, -1).reshape(count, views, height, width, 3)
    return out.clamp_(0.0, 255.0)


def _shift(frames: Tensor, reach: int, generator: Generator) -> Tensor:
    """Moves each clip's camera picture by up to `reach` pixels, repeating the border; all frames of a clip alike."""
    batch, _, views, height, width, _ = frames.shape
    out = torch.empty_like(frames)
    moves = torch.randint(-reach, reach + 1, (batch, views, 2), generator=generator).tolist()
    for index in range(batch):
        for view in range(views):
            down, right = moves[index][view]
            rows = torch.arange(height).sub_(down).clamp_(0, height - 1)
            columns = torch.arange(width).sub_(right).clamp_(0, width - 1)
            out[index, :, view] = frames[index, :, view].index_select(1, rows).index_select(2, columns)
    return out


def _blur_(clip: Tensor, amount: float) -> None:
    """Blurs one clip (F, V, h, w, 3) in place: every pixel takes `amount` of the mean with its neighbours."""
    for dim in (2, 3):
        size = clip.shape[dim]
        neighbours = clip.narrow(dim, 0, size - 2) + clip.narrow(dim, 2, size - 2)
        clip.narrow(dim, 1, size - 2).mul_(1 - 0.5 * amount).add_(neighbours, alpha=0.25 * amount)
