"""Recorded clips against a world model's replays of the same actions: all video metrics, per camera, with a manifest.

The clips are checked to compare; the five metrics become rows for a table, with what they were made from. The first
frame of every clip is left out: it is given to the world model, not predicted.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlaw_models.errors import VlawError
from vlaw_models.metrics.features import FeatureNet
from vlaw_models.metrics.frechet import frechet_distance
from vlaw_models.metrics.perceptual import PerceptualNet
from vlaw_models.metrics.video import psnr, ssim
from vlaw_models.sources import Frames

WHERE = "comparison of clips"
Pictures = np.ndarray | Frames
"""Of one clip, (T+1, V, height, width, 3) uint8, in memory or where they lie."""
PASS = 64
"""Pictures in one pass of a network, at most: groups of clips are whole passes, so that numbers do not depend
on how many clips are in memory. Every network's own number divides it."""


@dataclass(frozen=True)
class ClipComparison:
    """What `compare_clips` found; all plain JSON values."""

    rows: list[dict[str, Any]]
    """One per camera and metric: camera, metric, value, higher_is_better, samples (clips or frames behind the value),
    dimensions (of the features; None where there are none)."""
    per_clip: list[dict[str, Any]]
    """PSNR, SSIM and perceptual distance of each clip: clip, camera, metric, value; for intervals and paired tests."""
    manifest: dict[str, Any]
    """clips, clip_ids, seeds, frames (per clip, the first one excluded), height, width, cameras, feature_net and
    perceptual_net (name, digest), first_frame_excluded, recorded_sha256 and replayed_sha256 of the pixels."""


def compare_clips(
    recorded: Sequence[Pictures],
    replayed: Sequence[Pictures],
    net: FeatureNet | None,
    *,
    cameras: Sequence[str],
    perceptual: PerceptualNet | None = None,
    seeds: Sequence[int] | None = None,
    clip_ids: Sequence[str] | None = None,
    frechet: bool = True,
) -> ClipComparison:
    """PSNR, SSIM, perceptual distance, Fréchet distance of frames and of clips, per camera.

    `recorded` and `replayed` are N >= 2 clips (T+1, V, height, width, 3) uint8, or one array of them; replayed[i] plays
    the actions of recorded[i] from its first frame, T >= 2. Frames that are not in memory are read a few clips at a
    time. `cameras` names the V views in their order. `perceptual` is
    `net` itself where that has a perceptual distance (the judge). `seeds` and `clip_ids` (N) go into the manifest.
    `frechet` False leaves the Fréchet distances out, and one clip is enough; so does `net` None, which leaves the
    perceptual distance out too where `perceptual` is not given.

    PSNR (dB; 100 for identical frames, never infinite) and SSIM are means over clips of video.py's; the perceptual
    distance is the mean over frames. The Fréchet distances (squared units of the features; 0 identical) take every
    frame, or every clip, as one sample: they are biased at few clips (frechet.py), so compare them at equal N only.
    Deterministic. VlawError before anything is computed for no or one clip, clips of different number, length, size or
    cameras, fewer than two predicted frames, NaN, another dtype than uint8; and for what the network cannot read.
    """
    names = _checked_cameras(cameras)
    measured_net = net if frechet else None
    count = len(recorded)
    for label, values in (("seeds", seeds), ("clip ids", clip_ids)):
        if values is not None and len(values) != count:
            raise VlawError(f"{len(values)} {label} for {count} clips", where=WHERE, remedy="Give one for each clip.")
    _check(recorded, replayed, names, clip_ids, least=2 if measured_net else 1)
    judge: Any = perceptual if perceptual is not None else net
    if judge is not None and not hasattr(judge, "perceptual"):
        raise VlawError(
            f"{judge.name} has no perceptual distance",
            where=WHERE,
            remedy="Give `perceptual`: an Lpips, or the judge's network.",
        )
    ids = list(clip_ids) if clip_ids is not None else [str(index) for index in range(count)]
    length, digests = len(recorded[0]) - 1, (hashlib.sha256(), hashlib.sha256())
    measured: dict[tuple[str, str], list[float]] = defaultdict(list)
    seen: dict[tuple[str, str], tuple[list[np.ndarray], list[np.ndarray]]] = defaultdict(lambda: ([], []))
    group = math.lcm(PASS // math.gcd(PASS, length), PASS // 4)
    for begin in range(0, count, group):
        sides = [[np.asarray(clip) for clip in clips[begin : begin + group]] for clips in (recorded, replayed)]
        for digest, clips in zip(digests, sides, strict=True):
            _update(digest, clips)
        for view, camera in enumerate(names):
            # (N, T, h, w, 3), without the frame that was given.
            real, made = (np.stack([clip[1:, view] for clip in clips]) for clips in sides)
            flat = [videos.reshape(-1, *videos.shape[2:]) for videos in (real, made)]
            pairs = list(zip(real, made, strict=True))
            measured[camera, "psnr"] += [psnr(a, b) for a, b in pairs]
            measured[camera, "ssim"] += [ssim(a, b) for a, b in pairs]
            if judge is not None:
                looks = judge.perceptual(*flat, camera=camera).reshape(len(pairs), length).mean(axis=1)
                measured[camera, judge.perceptual_metric] += looks.tolist()
            if measured_net:
                for metric, read, both in (
                    (measured_net.frame_metric, measured_net.frames, flat),
                    (measured_net.clip_metric, measured_net.clips, [real, made]),
                ):
                    for kept, side in zip(seen[camera, metric], both, strict=True):
                        kept.append(read(side, camera=camera))
    rows, per_clip = [], []
    for camera in names:
        for metric, found in ((metric, found) for (view, metric), found in measured.items() if view == camera):
            rows.append(_row(camera, metric, float(np.mean(found)), count * length, None))
            per_clip += [
                {"clip": name, "camera": camera, "metric": metric, "value": value}
                for name, value in zip(ids, found, strict=True)
            ]
        for metric, features in ((metric, features) for (view, metric), features in seen.items() if view == camera):
            first, second = (np.concatenate(side) for side in features)
            rows.append(_row(camera, metric, frechet_distance(first, second), len(first), first.shape[1]))
    manifest = {
        "clips": count,
        "clip_ids": ids if clip_ids is not None else None,
        "seeds": None if seeds is None else [int(seed) for seed in seeds],
        "frames": len(recorded[0]) - 1,
        "height": recorded[0].shape[2],
        "width": recorded[0].shape[3],
        "cameras": list(names),
        "first_frame_excluded": True,
        "feature_net": {"name": measured_net.name, "digest": measured_net.digest} if measured_net else None,
        "perceptual_net": None if judge is None else {"name": judge.name, "digest": judge.digest},
        "recorded_sha256": digests[0].hexdigest(),
        "replayed_sha256": digests[1].hexdigest(),
    }
    return ClipComparison(rows, per_clip, manifest)


def _row(camera: str, metric: str, value: float, samples: int, dimensions: int | None) -> dict[str, Any]:
    return {
        "camera": camera,
        "metric": metric,
        "value": value,
        "higher_is_better": metric in ("psnr", "ssim"),
        "samples": samples,
        "dimensions": dimensions,
    }


def _update(digest: Any, clips: Sequence[np.ndarray]) -> None:
    """Shapes and pixels, first frames included."""
    for clip in clips:
        digest.update(repr(clip.shape).encode())
        digest.update(np.ascontiguousarray(clip).data)


def _checked_cameras(cameras: Sequence[str]) -> tuple[str, ...]:
    names = tuple(cameras)
    if not names or len(set(names)) != len(names):
        raise VlawError(
            f"cameras {list(names)}", where=WHERE, remedy="Name the robot's cameras in their order, each once."
        )
    return names


def _check(
    recorded: Sequence[Pictures],
    replayed: Sequence[Pictures],
    names: tuple[str, ...],
    ids: Sequence[str] | None,
    *,
    least: int,
) -> None:
    def called(side: str, index: int) -> str:
        return f"{side} clip {index}" + (f" ({ids[index]})" if ids is not None else "")

    if len(recorded) != len(replayed):
        raise VlawError(
            f"{len(recorded)} recorded and {len(replayed)} replayed clips",
            where=WHERE,
            remedy="Give one replay of each recorded clip, in the same order.",
        )
    if len(recorded) < least:
        raise VlawError(
            f"{len(recorded)} clips, where a Fréchet distance needs at least 2" if least > 1 else "no clips",
            where=WHERE,
            remedy="Replay more held-out episodes.",
        )
    for side, clips in (("recorded", recorded), ("replayed", replayed)):
        for index, clip in enumerate(clips):
            _check_clip(clip, names, called(side, index))
    shape = recorded[0].shape
    for side, clips in (("recorded", recorded), ("replayed", replayed)):
        for index, clip in enumerate(clips):
            where = f"{called(side, index)}, against {called('recorded', 0)}"
            if len(clip) != shape[0]:
                raise VlawError(
                    f"clips of {len(clip)} and {shape[0]} frames",
                    where=where,
                    remedy="Cut all clips to the same steps first.",
                )
            if clip.shape[2:4] != shape[2:4]:
                raise VlawError(
                    f"frames of {clip.shape[3]}x{clip.shape[2]} and {shape[3]}x{shape[2]} pixels",
                    where=where,
                    remedy="Compare at one resolution: resize first.",
                )


def _check_clip(clip: Pictures, names: tuple[str, ...], where: str) -> None:
    if np.issubdtype(clip.dtype, np.floating) and not np.isfinite(clip).all():
        raise VlawError(
            "a clip has NaN or infinite pixels",
            where=where,
            remedy="The world model that predicted it diverged, or the recording is damaged.",
        )
    if clip.dtype != np.uint8:
        raise VlawError(f"a clip of dtype {clip.dtype}", where=where, remedy="Give uint8 pixels in [0, 255].")
    if clip.ndim != 5 or clip.shape[-1] != 3:
        raise VlawError(f"a clip of shape {clip.shape}", where=where, remedy="Give (T+1, V, height, width, 3).")
    if clip.shape[1] != len(
        names
    ):  # an episode's cameras have no names of their own: their number is what can be checked
        raise VlawError(
            f"a clip of {clip.shape[1]} cameras, {len(names)} are named",
            where=where,
            remedy="Give the same cameras in recorded and replayed clips, and name them in `cameras`.",
        )
    if len(clip) < 3:
        raise VlawError(
            f"a clip with fewer than 2 frames to compare ({len(clip)} with the given first one)",
            where=where,
            remedy="Give at least 3 frames: the first is not predicted.",
        )
