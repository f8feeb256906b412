"""How close a predicted video is to the recorded one: PSNR and SSIM of one camera.

    PSNR   per frame over all pixels and channels, 8-bit range, at most 100 dB (identical frames); mean over frames
    SSIM   per frame, Gaussian window 11x11 with sigma 1.5, K1 .01, K2 .03, borders reflected, mean over channels and
           pixels; mean over frames

Both are torchmetrics'; here is what they are given. Compare raw recorded frames (not ones that went through the
autoencoder) and leave the conditioning frame out: it is given, not predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlaw_models.errors import VlawError

PSNR_CAP = 100.0
WINDOW, SIGMA = 11, 1.5


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Mean PSNR in dB of two videos (T, h, w, 3), uint8 or float in [0, 255]. VlawError where they do not compare."""
    return float(psnr_per_frame(a, b).mean())


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean SSIM of two videos (T, h, w, 3), uint8 or float in [0, 255], h and w at least 11. VlawError as for psnr."""
    return float(ssim_per_frame(a, b).mean())


def psnr_per_frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR in dB of each frame, (T,) float64: the curve over the horizon."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    first, second = _checked(a, b)
    values = peak_signal_noise_ratio(second, first, data_range=255.0, reduction="none", dim=(1, 2, 3))
    return values.clamp(max=PSNR_CAP).numpy()


def ssim_per_frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of each frame, (T,) float64."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = _checked(a, b)
    if min(first.shape[-2:]) < WINDOW:
        raise VlawError(
            f"frames of {first.shape[-1]}x{first.shape[-2]} pixels are smaller than SSIM's window",
            where="SSIM",
            remedy=f"Compare frames of at least {WINDOW}x{WINDOW} pixels.",
        )
    # Single precision and channels last: thirty times faster, and right to five digits.
    values = structural_similarity_index_measure(
        second.float(), first.float(), sigma=SIGMA, data_range=255.0, reduction="none"
    )
    return values.double().numpy()


def per_camera(recorded: np.ndarray, predicted: np.ndarray, cameras: Sequence[str]) -> dict[str, dict[str, float]]:
    """{camera: {"psnr": dB, "ssim": ...}} of two episodes' images (T+1, V, h, w, 3); their first frame is left out."""
    if recorded.shape != predicted.shape or recorded.ndim != 5 or recorded.shape[1] != len(cameras):
        raise VlawError(
            f"recorded images {recorded.shape}, predicted images {predicted.shape}",
            where="video metrics",
            remedy=f"Give two arrays (T+1, {len(cameras)}, height, width, 3) of equal shape.",
        )
    return {
        name: {
            "psnr": psnr(recorded[1:, view], predicted[1:, view]),
            "ssim": ssim(recorded[1:, view], predicted[1:, view]),
        }
        for view, name in enumerate(cameras)
    }


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Both videos as (T, 3, height, width) float64."""
    for video in (a, b):
        if video.ndim != 4 or video.shape[-1] != 3:
            raise VlawError(
                f"a video of shape {video.shape}",
                where="video metrics",
                remedy="Give (T, height, width, 3), one camera at a time.",
            )
    if len(a) != len(b):
        raise VlawError(
            f"videos of {len(a)} and {len(b)} frames",
            where="video metrics",
            remedy="Compare the same steps of the same episode.",
        )
    if a.shape != b.shape:
        raise VlawError(
            f"frames of {a.shape[2]}x{a.shape[1]} and {b.shape[2]}x{b.shape[1]} pixels",
            where="video metrics",
            remedy="Compare at one resolution: resize first.",
        )
    if len(a) < 2:
        raise VlawError("a video of fewer than 2 frames", where="video metrics", remedy="Give at least 2 frames.")
    first, second = a.astype(np.float64), b.astype(np.float64)
    for video in (first, second):
        if not np.isfinite(video).all():
            raise VlawError(
                "a video has NaN or infinite pixels",
                where="video metrics",
                remedy="The world model that predicted it diverged, or the recording is damaged.",
            )
        if video.min() < 0 or video.max() > 255:
            raise VlawError(
                f"pixels from {video.min():.3g} to {video.max():.3g}",
                where="video metrics",
                remedy="Give pixels in [0, 255].",
            )
    return tuple(torch.from_numpy(video).movedim(-1, 1) for video in (first, second))
