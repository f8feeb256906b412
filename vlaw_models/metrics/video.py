"""How close a predicted video is to the recorded one: PSNR and SSIM of one camera.

    PSNR   per frame over all pixels and channels, 8-bit range, at most 100 dB (identical frames); mean over frames
    SSIM   per frame and channel, Gaussian window 11x11 with sigma 1.5, K1 .01, K2 .03, whole windows only;
           mean over frames

Compare raw recorded frames (not ones that went through the autoencoder) and leave the conditioning frame out: it is
given, not predicted. Not here: which clips (the manifest is the caller's), LPIPS, FVD.
"""

from __future__ import annotations

import numpy as np

from vlaw_models.episodes import CAMERAS
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
    first, second = _checked(a, b)
    error = ((first - second) ** 2).mean(axis=(1, 2, 3))
    floor = 255.0**2 / 10 ** (PSNR_CAP / 10)
    return 10 * np.log10(255.0**2 / np.maximum(error, floor))


def ssim_per_frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of each frame, (T,) float64."""
    first, second = _checked(a, b)
    if min(first.shape[1:3]) < WINDOW:
        raise VlawError(f"frames of {first.shape[2]}x{first.shape[1]} pixels are smaller than SSIM's window", where="SSIM",
                        remedy=f"Compare frames of at least {WINDOW}x{WINDOW} pixels.")
    mean1, mean2 = _blur(first), _blur(second)
    variance1, variance2 = _blur(first**2) - mean1**2, _blur(second**2) - mean2**2
    covariance = _blur(first * second) - mean1 * mean2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    score /= (mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2)
    return score.mean(axis=(1, 2, 3))


def per_camera(recorded: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    """{camera: {"psnr": dB, "ssim": ...}} of two episodes' images (T+1, V, h, w, 3); their first frame is left out."""
    if recorded.shape != predicted.shape or recorded.ndim != 5 or recorded.shape[1] != len(CAMERAS):
        raise VlawError(f"recorded images {recorded.shape}, predicted images {predicted.shape}", where="video metrics",
                        remedy=f"Give two arrays (T+1, {len(CAMERAS)}, height, width, 3) of equal shape.")
    return {name: {"psnr": psnr(recorded[1:, view], predicted[1:, view]), "ssim": ssim(recorded[1:, view], predicted[1:, view])}
            for view, name in enumerate(CAMERAS)}


def _blur(video: np.ndarray) -> np.ndarray:
    """Gaussian mean of every whole window, (T, h-10, w-10, 3)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    height, width = video.shape[1] - WINDOW + 1, video.shape[2] - WINDOW + 1
    rows = sum(weight * video[:, index : index + height] for index, weight in enumerate(kernel))
    return sum(weight * rows[:, :, index : index + width] for index, weight in enumerate(kernel))


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for video in (a, b):
        if video.ndim != 4 or video.shape[-1] != 3:
            raise VlawError(f"a video of shape {video.shape}", where="video metrics",
                            remedy="Give (T, height, width, 3), one camera at a time.")
    if len(a) != len(b):
        raise VlawError(f"videos of {len(a)} and {len(b)} frames", where="video metrics",
                        remedy="Compare the same steps of the same episode.")
    if a.shape != b.shape:
        raise VlawError(f"frames of {a.shape[2]}x{a.shape[1]} and {b.shape[2]}x{b.shape[1]} pixels", where="video metrics",
                        remedy="Compare at one resolution: resize first.")
    if len(a) < 2:
        raise VlawError("a video of fewer than 2 frames", where="video metrics", remedy="Give at least 2 frames.")
    first, second = a.astype(np.float64), b.astype(np.float64)
    for video in (first, second):
        if not np.isfinite(video).all():
            raise VlawError("a video has NaN or infinite pixels", where="video metrics",
                            remedy="The world model that predicted it diverged, or the recording is damaged.")
        if video.min() < 0 or video.max() > 255:
            raise VlawError(f"pixels from {video.min():.3g} to {video.max():.3g}", where="video metrics",
                            remedy="Give pixels in [0, 255].")
    return first, second
