"""Networks that turn frames and clips into vectors for Fréchet distances, each with a name and the digest of its
weights.

The protocol, the offline substitute (the judge's vision), a pair of two networks; Inception and Kinetics networks by
path are in torchvision_nets.py. Why a substitute: published networks are not shipped, and a metric must exist offline.
Why the judge: it has seen the robot's pictures, real and imagined, and learned what matters in them. Its numbers are
not FID or FVD, and its metrics are not called so: the network decides what they are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vlaw_models.errors import VlawError
from vlaw_models.reward_models.base import load_reward_model
from vlaw_models.reward_models.clip_judge import ClipJudge
from vlaw_models.threads import on_threads


class FeatureNet(Protocol):
    """What a Fréchet distance needs of a network. `camera` matters only where a network has a part for each; empty: its
    first."""

    name: str
    """What it is, e.g. 'judge', 'torchvision_inception_v3'."""
    digest: str
    """sha256 of its weights file, hex."""
    frame_metric: str
    """What the Fréchet distance of its frame features is called."""
    clip_metric: str
    """The same of its clip features."""

    def frames(self, images: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, H, W, 3) uint8 -> (N, D) float32, one vector per picture. VlawError where it cannot read them."""
        ...

    def clips(self, videos: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, T, H, W, 3) uint8 -> (N, D) float32, one vector per clip. VlawError where it cannot read them."""
        ...


class JudgeNet:
    """The vision of a ClipJudge: the offline substitute, also for the perceptual distance. Load with `judge_net`.

    A frame's vector is what the image encoder makes of it with no instruction given: what any task could ask
    about. Each camera has an encoder of its own.
    """

    name, frame_metric, clip_metric, perceptual_metric = (
        "judge",
        "frechet_judge_frames",
        "frechet_judge_clips",
        "perceptual_judge",
    )
    batch_size = 64
    """Pictures per pass; fixed, so that results do not depend on how many are asked for at once."""

    def __init__(self, judge: ClipJudge, digest: str):
        self.judge, self.digest = judge.eval(), digest

    def frames(self, images: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, size, size, 3) uint8 -> (N, width) float32."""
        view = camera or self.judge.cameras[0]
        return in_batches(
            lambda part: self.judge.camera_features(part, view)[0],
            self._checked(images, 4),
            self.batch_size,
        )

    def clips(self, videos: np.ndarray, *, camera: str = "") -> np.ndarray:
        """(N, T, size, size, 3) uint8 -> (N, 3 width) float32: `pooled_in_time`."""
        self._checked(videos, 5)
        return pooled_in_time(self.frames(videos.reshape(-1, *videos.shape[2:]), camera=camera), len(videos))

    def perceptual(self, a: np.ndarray, b: np.ndarray, *, camera: str = "") -> np.ndarray:
        """Distance of each picture of `a` (N, size, size, 3) uint8 from that of `b`, (N,) float64: 0 identical.

        LPIPS without learned weights: features of every layer before the question, each place of unit length; squared
        differences, summed over channels, averaged over places, summed over layers.
        """
        if a.shape != b.shape:
            raise VlawError(
                f"pictures of shape {a.shape} and {b.shape}",
                where="judge features",
                remedy="Give two arrays of equal shape.",
            )
        both = np.concatenate([self._checked(a, 4), self._checked(b, 4)], axis=-1)

        view = camera or self.judge.cameras[0]

        def apart(part: Tensor) -> Tensor:
            layers = (
                self.judge.camera_features(part[..., :3].contiguous(), view)[1],
                self.judge.camera_features(part[..., 3:].contiguous(), view)[1],
            )
            return unit_difference(*layers).sum(1)

        return in_batches(apart, both, self.batch_size).astype(np.float64)

    def _checked(self, images: np.ndarray, ndim: int) -> np.ndarray:
        size = self.judge.image_size
        checked_pictures(images, ndim)
        if images.shape[-3:-1] != (size, size):
            raise VlawError(
                f"pictures of {images.shape[-2]}x{images.shape[-3]} pixels, this judge was made for {size}x{size}",
                where="judge features",
                remedy="Resize both sides, or use another network.",
            )
        return images


class PairedNet:
    """Frames read by one network, clips by another, e.g. Inception and a Kinetics network."""

    def __init__(self, frames: FeatureNet, clips: FeatureNet):
        self._frames, self._clips = frames, clips
        self.name, self.digest = f"{frames.name}+{clips.name}", f"{frames.digest}+{clips.digest}"
        self.frame_metric, self.clip_metric = frames.frame_metric, clips.clip_metric

    def frames(self, images: np.ndarray, *, camera: str = "") -> np.ndarray:
        """The first network's."""
        return self._frames.frames(images, camera=camera)

    def clips(self, videos: np.ndarray, *, camera: str = "") -> np.ndarray:
        """The second network's."""
        return self._clips.clips(videos, camera=camera)


def judge_net(folder: Path | str) -> JudgeNet:
    """The vision of the judge in a checkpoint folder (`presets.foundation("tiny", "reward_model")`: the shipped one).

    VlawError for a damaged folder, and for a judge of another class than ClipJudge.
    """
    judge = load_reward_model(folder)
    if not isinstance(judge, ClipJudge):
        raise VlawError(
            f"a {type(judge).__name__} has no frame encoder to take features from",
            where=str(folder),
            remedy="Give a ClipJudge, e.g. the shipped one, or a network of torchvision_nets.py.",
        )
    return JudgeNet(judge, file_digest(Path(folder) / "model.safetensors"))


def pooled_in_time(vectors: np.ndarray, count: int) -> np.ndarray:
    """Frame vectors (count * T, D) -> (count, 3 D) float32: mean over time, mean absolute step, late minus early mean.

    The step is the difference to the next frame: it tells a smooth clip from a flickering, frozen or shuffled one,
    which the mean cannot. Late minus early (the halves of the clip) has the direction of time: it tells an opening
    drawer from a closing one, which mean and step cannot. VlawError for fewer than two frames each.
    """
    length = len(vectors) // count
    if length < 2:
        raise VlawError("a clip of fewer than 2 frames", where="clip features", remedy="Give at least 2 frames.")
    series = vectors.reshape(count, length, -1).astype(np.float64)
    steps = np.abs(np.diff(series, axis=1)).mean(axis=1)
    half = length // 2
    change = series[:, length - half :].mean(axis=1) - series[:, :half].mean(axis=1)
    return np.concatenate([series.mean(axis=1), steps, change], axis=1).astype(np.float32)


def unit_difference(first: list[Tensor], second: list[Tensor], weights: list[Tensor] | None = None) -> Tensor:
    """Of two lists of maps (N, C, h, w), each place scaled to length 1: mean squared difference per map, (N, maps).

    `weights` (1, C, 1, 1) of each map multiply the squared differences of its channels.
    """
    apart = [(unit(a) - unit(b)).square() for a, b in zip(first, second, strict=True)]
    if weights is not None:
        apart = [squares * weight for squares, weight in zip(apart, weights, strict=True)]
    return torch.stack([squares.sum(1).mean((1, 2)) for squares in apart], 1)


def unit(maps: Tensor) -> Tensor:
    """(N, C, h, w) with the channels of each place scaled to length 1, as LPIPS does."""
    return maps / (maps.square().sum(1, keepdim=True) + 1e-8).sqrt()


def in_batches(compute: Callable[[Tensor], Tensor], images: np.ndarray, batch_size: int) -> np.ndarray:
    """`compute` of each piece of `images`, joined: float32, on one thread. VlawError where it is not finite."""
    parts = []
    with torch.inference_mode(), on_threads(1):
        for start in range(0, len(images), batch_size):
            piece = np.require(images[start : start + batch_size], requirements=["C", "W"])
            parts.append(compute(torch.from_numpy(piece)).float().numpy())
    result = np.concatenate(parts)
    if not np.isfinite(result).all():
        raise VlawError(
            "the feature network gives NaN or infinity",
            where="feature network",
            remedy="Its weights are damaged: get them again and compare the digest.",
        )
    return result


def checked_pictures(images: np.ndarray, ndim: int) -> np.ndarray:
    """The same array; VlawError unless it is uint8 (N, [T,] H, W, 3) with something in it."""
    if images.ndim != ndim or images.shape[-1] != 3 or images.dtype != np.uint8 or images.size == 0:
        shape = "(N, H, W, 3)" if ndim == 4 else "(N, T, H, W, 3)"
        raise VlawError(
            f"pictures of shape {images.shape} {images.dtype}",
            where="feature network",
            remedy=f"Give {shape} uint8, at least one.",
        )
    return images


def file_digest(path: Path | str) -> str:
    """sha256 of a file, hex, as `sha256sum` prints it. VlawError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VlawError(
            f"the weights cannot be read: {error}", where=str(path), remedy="Give the path of a safetensors file."
        ) from error
