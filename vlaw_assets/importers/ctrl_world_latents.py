"""Latents that lie beside the videos of Ctrl-World's layout, and whether an autoencoder is the one that made them.

A file is a pickle of one tensor, (T, 4, 24, 40) for 192 x 320 pixels: it is read without running anything that it says
(`weights_only`), once its size is known to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.autoencoders.base import Autoencoder

CHANNELS = 4
OVERHEAD = 1 << 16
"""Bytes of a pickle besides its numbers, at most."""
APART = 0.5
"""How far the pictures of the latents may be from those of the autoencoder's own, as a share of their contrast:
Ctrl-World's are drawn from the encoder's distribution, before the video was compressed."""


class LatentsError(Exception):
    """What is wrong with the latents of one episode."""


def read_latents(files: Sequence[BinaryIO], length: int, size: tuple[int, int]) -> np.ndarray:
    """The latents of all views of an episode of `length` frames, stacked as world models take them: (T, 4, V*h, w)
    float16. `size` is (h, w). Closes the files."""
    views = []
    for view, file in enumerate(files):
        with file:
            views.append(_view(file, view, (length, CHANNELS, *size)))
    return np.concatenate(views, axis=2)


def _view(file: BinaryIO, view: int, shape: tuple[int, ...]) -> np.ndarray:
    import torch

    most = 4 * int(np.prod(shape)) + OVERHEAD
    if file.seek(0, 2) > most:
        raise LatentsError(f"the latents of view {view} have {file.tell()} bytes, {shape} are at most {most}")
    file.seek(0)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a pickle that is none, or wants more than numbers
        raise LatentsError(f"the latents of view {view} cannot be read: {str(error).splitlines()[0][:160]}") from error
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != shape:
        was = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise LatentsError(f"the latents of view {view} are {was}, must be {shape}")
    if found.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise LatentsError(f"the latents of view {view} are {found.dtype}")
    values: np.ndarray = found.to(torch.float16).numpy()
    if not np.isfinite(values).all():
        raise LatentsError(f"the latents of view {view} are not finite, or too large for half precision")
    return values


def autoencoder_of(folder: Path, frame: tuple[int, int]) -> tuple[str, Autoencoder, tuple[int, int]]:
    """(content digest, the autoencoder, (h, w) of its latents) of a checkpoint folder. VlawError for one whose latents
    of frames of this (height, width) have another form."""
    from vlaw_assets.lake.checkpoints import manifest_of
    from vlaw_assets.lake.durable import digest_of
    from vlaw_models.autoencoders.base import load_autoencoder

    autoencoder = load_autoencoder(folder.expanduser())
    if autoencoder.latent_channels != CHANNELS or any(side % autoencoder.factor for side in frame):
        raise VlawError(
            f"its latents have {autoencoder.latent_channels} channels and a pixel for {autoencoder.factor}: the "
            f"dataset's have {CHANNELS}",
            where=str(folder),
            remedy="Name the checkpoint of the autoencoder that made them (latents_of), or leave it out.",
        )
    size = frame[0] // autoencoder.factor, frame[1] // autoencoder.factor
    return digest_of(manifest_of(folder.expanduser())), autoencoder, size


def check_made_by(autoencoder: Autoencoder, latents: np.ndarray, frames: np.ndarray, *, where: str) -> float:
    """Decodes latents (N, 4, V*h, w) of frames (N, V, height, width, 3) uint8 and compares their pictures with those
    that the autoencoder makes of the frames. Returns how far they are apart, as a share of the contrast. VlawError
    where that is too far: another autoencoder made them, or they are of another video."""
    import torch

    views = frames.shape[1]
    given = autoencoder.decode(torch.from_numpy(latents.astype(np.float32)), views).astype(np.float32)
    own = autoencoder.decode(autoencoder.encode(frames), views).astype(np.float32)
    contrast = float(np.sqrt(np.mean((own - own.mean()) ** 2)))
    apart = float(np.sqrt(np.mean((given - own) ** 2))) / max(contrast, 1e-6)
    if apart > APART:
        raise VlawError(
            f"the latents were not made of these videos by this autoencoder: decoded they are {apart:.2f} of the "
            f"contrast away from its own pictures, at most {APART:g} is expected",
            where=where,
            remedy="Name the checkpoint of the autoencoder that made them (latents_of), or leave it out: then frames "
            "are encoded as for any other recording.",
        )
    return apart
