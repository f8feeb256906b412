"""Published feature networks of torchvision, with weights given by path: Inception v3 for frames, Kinetics for clips.

torchvision's own classes, how pictures are prepared, which layer is read. Nothing is downloaded. A weights file is the
network's state dict as safetensors (`safetensors.torch.save_file(model.state_dict(), path)` of the torchvision model).
What the numbers are called says which network it was: torchvision's Inception is a port with ImageNet weights of its
own, not the TensorFlow network of published FIDs, and none of the video networks is FVD's I3D. Whole frames are
resized, never cropped: what happens at a frame's edge counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlaw_models.checkpoint import load_weights, read_safetensors
from vlaw_models.errors import VlawError
from vlaw_models.metrics.features import checked_pictures, file_digest, in_batches, pooled_in_time

VIDEO_NETS = {
    "r3d_18": ("R3D_18_Weights", "fc"),
    "mvit_v2_s": ("MViT_V2_S_Weights", "head"),
    "s3d": ("S3D_Weights", "classifier"),
}
"""torchvision.models.video function -> its weights enum (for the preparation of pictures), and the layer left out."""

FRAMES_READ = 16
"""Frames a video network sees of a clip, evenly spaced, repeated where there are fewer; FVD's customary number."""


class InceptionFrames:
    """torchvision's inception_v3: the 2048 features after its last pooling, pictures at 299x299 in [-1, 1].

    Clips are `features.pooled_in_time` of the frames, 6144 numbers: pair it with a VideoNet instead
    (features.PairedNet).
    """

    name, frame_metric, clip_metric = (
        "torchvision_inception_v3",
        "fid_torchvision_inception_v3",
        "frechet_torchvision_inception_v3_clips",
    )
    batch_size = 16

    def __init__(self, weights: Path | str):
        from torchvision.models import inception_v3

        # The network's own input transform undoes ImageNet's normalisation; here pictures come in [-1, 1] directly.
        self._network = _loaded(
            lambda: inception_v3(weights=None, init_weights=False, transform_input=False), "fc", weights
        )
        self.digest = file_digest(weights)

    def frames(self, images: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, H, W, 3) uint8 -> (N, 2048) float32."""
        return in_batches(
            lambda part: self._network(_resized(part, (299, 299)) * 2 - 1), checked_pictures(images, 4), self.batch_size
        )

    def clips(self, videos: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, T, H, W, 3) uint8 -> (N, 6144) float32."""
        checked_pictures(videos, 5)
        return pooled_in_time(self.frames(videos.reshape(-1, *videos.shape[2:]), camera=camera), len(videos))


class VideoNet:
    """A Kinetics network of torchvision (`VIDEO_NETS`): the features before its last linear layer.

    r3d_18 gives 512 numbers, mvit_v2_s 768, s3d 1024. A clip is read at `FRAMES_READ` frames. It has no frame features.
    """

    batch_size = 4

    def __init__(self, architecture: str, weights: Path | str):
        from torchvision.models import video

        if architecture not in VIDEO_NETS:
            raise VlawError(
                f"unknown video network {architecture!r}",
                where="feature network",
                remedy=f"Choose from {', '.join(VIDEO_NETS)}.",
            )
        enum, last = VIDEO_NETS[architecture]
        self._network = _loaded(lambda: getattr(video, architecture)(weights=None), last, weights)
        prepare = getattr(video, enum).KINETICS400_V1.transforms()
        self._mean, self._std = (torch.tensor(values).reshape(3, 1, 1) for values in (prepare.mean, prepare.std))
        self._size = tuple(prepare.crop_size)
        self.name, self.digest = f"torchvision_{architecture}", file_digest(weights)
        self.frame_metric, self.clip_metric = f"frechet_{self.name}_frames", f"fvd_{self.name}"

    def frames(self, images: np.ndarray, *, camera: str = "") -> np.ndarray:
        """Refuses, VlawError: one picture is no clip."""
        raise VlawError(
            f"{self.name} reads clips, not single frames",
            where="feature network",
            remedy="Pair it with a network for frames: PairedNet(frames=..., clips=...).",
        )

    def clips(self, videos: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, T, H, W, 3) uint8 -> (N, D) float32. VlawError for fewer than two frames."""
        checked_pictures(videos, 5)
        if videos.shape[1] < 2:
            raise VlawError("a clip of fewer than 2 frames", where="clip features", remedy="Give at least 2 frames.")
        moments = np.rint(np.linspace(0, videos.shape[1] - 1, FRAMES_READ)).astype(np.int64)
        return in_batches(self._read, videos[:, moments], self.batch_size)

    def _read(self, videos: Tensor) -> Tensor:
        pictures = (_resized(videos.flatten(0, 1), self._size) - self._mean) / self._std
        return self._network(pictures.unflatten(0, videos.shape[:2]).movedim(1, 2)).flatten(1)


def _loaded(build: Callable[[], nn.Module], last: str, weights: Path | str) -> nn.Module:
    """The network with the weights of a file and without its layer `last`, in evaluation mode."""
    tensors = {
        name: value.float() if value.is_floating_point() else value for name, value in read_safetensors(weights).items()
    }
    # Nothing is initialised that the weights replace anyway, and torch's own generator is left alone.
    with torch.device("meta"):
        network = build()
    network = network.to_empty(device="cpu")
    load_weights(network, tensors, where=weights)
    setattr(network, last, nn.Identity())
    return network.eval()


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, *size) in [0, 1]; bilinear, smoothed where it shrinks."""
    return functional.interpolate(pictures.movedim(-1, 1).float() / 255, size, mode="bilinear", antialias=True)
