"""What is measured on held-out clips, as rows of the table `evaluations`.

From episodes, their replays and scores to rows {task, metric, camera, value, low, high, trials, detail}; clips that do
not compare are refused. Task "all" is pooled; its rows come first. Every row's `detail` names the clips it stands on.

    video_rows      recorded clips against their replays: PSNR, SSIM, perceptual, Fréchet of frames and of clips
    verdict_rows    the robot's outcome against the judge's verdict, at 0.5 and at alpha: precision, recall, false
    positives score_rows      the judge's scores against the robot's outcome: order, calibration, threshold sweep
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.metrics.bootstrap import auroc_interval, mean_interval
from vlaw_models.metrics.calibration import auroc, brier_score, calibration_curve, threshold_sweep
from vlaw_models.metrics.confusion import Confusion, confusion
from vlaw_models.metrics.events import ALL, event_confusion
from vlaw_models.metrics.inputs import numbers, same_length
from vlaw_models.metrics.stats import Interval
from vlaw_models.sources import cut

PLAIN_YES = 0.5
"""The judge's plain answer: yes more likely than no. Compared with the recipe's alpha, as in the paper's Table 3."""
SWEEP = (0.01, *(number / 20 for number in range(1, 20)), 0.99)
"""Thresholds of the sweep, besides alpha."""
PRECISE = 0.9
"""`real_threshold_sweep`'s value is the largest recall at this precision or more."""
WITH_INTERVAL = ("precision", "recall", "false_positive_rate")
Row = dict[str, Any]


def check_clips(clips: Sequence[Episode], *, num_steps: int | None = None) -> None:
    """Refuses, VlawError naming the clip, what cannot be measured on.

    Each clip: labelled, a frame (uint8) before every action and a last one, T+1 states, finite numbers. Among them: the
    same cameras and picture size and, where `num_steps` is given, the same length once cut to that many steps.
    """
    for index, clip in enumerate(clips):
        where = _called(clip, index)
        _check_pixels(clip, where)
        if len(clip.images) != clip.num_steps + 1 or len(clip.states) != clip.num_steps + 1:
            raise VlawError(
                f"{len(clip.images)} frames and {len(clip.states)} states for {clip.num_steps} actions",
                where=where,
                remedy="Measure on episodes recorded with a frame and a state at every step.",
            )
        if clip.success is None:
            raise VlawError(
                "nobody has judged this clip", where=where, remedy="Measure on real episodes with their outcome."
            )
        _check_alike(clip, clips[0], where, against=_called(clips[0], 0))
        lengths = [min(one.num_steps, num_steps) if num_steps else 0 for one in (clip, clips[0])]
        if lengths[0] != lengths[1]:
            raise VlawError(
                f"clips of {lengths[0]} and {lengths[1]} steps",
                where=f"{where}, against {_called(clips[0], 0)}",
                remedy="Lower world_model_metrics.num_steps to the shortest clip's length.",
            )


def check_replays(clips: Sequence[Episode], replayed: Sequence[Episode]) -> None:
    """Refuses, VlawError naming the clip, replays that are not one of each clip, in order, as long at most."""
    if len(clips) != len(replayed):
        raise VlawError(
            f"{len(clips)} clips and {len(replayed)} replays", where="replays", remedy="Replay every clip once."
        )
    for index, (clip, copy) in enumerate(zip(clips, replayed, strict=True)):
        where = f"replay of {_called(clip, index)}"
        _check_pixels(copy, where)
        if (copy.task, copy.seed) != (clip.task, clip.seed):
            raise VlawError(
                f"it is of {copy.task}, seed {copy.seed}", where=where, remedy="Keep the order of the clips."
            )
        if len(copy.images) != copy.num_steps + 1 or copy.num_steps > clip.num_steps:
            raise VlawError(
                f"{len(copy.images)} frames and {copy.num_steps} steps for a clip of {clip.num_steps}",
                where=where,
                remedy="Replay at most the recorded actions, with a frame for each.",
            )
        _check_alike(copy, clip, where, against="the recording")


def video_rows(
    clips: Sequence[Episode],
    replayed: Sequence[Episode],
    net: Any | None,
    perceptual: Any | None = None,
    *,
    replay_seed: int,
) -> tuple[list[Row], list[str]]:
    """All video metrics per camera, pooled, then the means over clips per task; and what was left out, with the reason.

    `net` (a FeatureNet) and `perceptual` (a PerceptualNet) as for `clips.compare_clips`; None leaves their metrics out.
    Clips are cut to their replays' length. `low`, `high`: bootstrap over clips, for means only. In detail:
    compare_clips' manifest with the clips' ids, `replay_seed`, and the values of each clip where the metric has one.
    VlawError before anything is computed for clips that do not compare.
    """
    from vlaw_models.metrics.clips import compare_clips

    check_clips(clips, num_steps=replayed[0].num_steps if replayed else None)
    check_replays(clips, replayed)
    ids, tasks = [_called(clip, index) for index, clip in enumerate(clips)], [clip.task for clip in clips]
    names, views = [clip.episode_id for clip in clips], clips[0].cameras
    few = len(clips) < 2
    found = compare_clips(
        [cut(clip.images, len(copy.images)) for clip, copy in zip(clips, replayed, strict=True)],
        [copy.images for copy in replayed],
        net,
        perceptual=perceptual,
        cameras=views,
        clip_ids=ids,
        seeds=[clip.seed for clip in clips],
        frechet=not few,
    )
    left_out = ["Fréchet distances: too few clips (1)"] if few and net is not None else []
    manifest = {key: value for key, value in found.manifest.items() if key not in ("clips", "clip_ids")}
    manifest |= {"clips": names, "tasks": list(dict.fromkeys(tasks)), "replay_seed": replay_seed}
    each: dict[tuple[str, str], list[float]] = {}
    for one in found.per_clip:
        each.setdefault((one["camera"], one["metric"]), []).append(one["value"])
    rows = []
    for row in found.rows:
        values = each.get((row["camera"], row["metric"]))
        detail = manifest | {key: row[key] for key in ("samples", "dimensions", "higher_is_better")}
        rows.append(
            {
                "task": ALL,
                "metric": row["metric"],
                "camera": row["camera"],
                "value": row["value"],
                "trials": len(clips),
                **_mean_bounds(values),
                "detail": detail | ({"values": values} if values else {}),
            }
        )
    for task in dict.fromkeys(tasks):
        own = [index for index, name in enumerate(tasks) if name == task]
        for (camera, metric), values in each.items():
            part = [values[index] for index in own]
            rows.append(
                {
                    "task": task,
                    "metric": metric,
                    "camera": camera,
                    "value": float(np.mean(part)),
                    "trials": len(part),
                    **_mean_bounds(part),
                    "detail": {"clips": [names[index] for index in own]},
                }
            )
    return rows, left_out


def verdict_rows(clips: Sequence[Episode], scores: Sequence[float] | np.ndarray, alpha: float, what: str) -> list[Row]:
    """The verdicts on `what` ("real", "replay"; "head": the world model's own, on its replays) against the robot's own
    outcome, at 0.5 and at alpha.

    A verdict is success where score > threshold. Pooled, then per task: `{what}_precision_at_A`, `{what}_recall_at_A`,
    `{what}_false_positive_rate_at_A`, each with its Wilson interval; one whose denominator is zero is left out. detail:
    tp, fp, fn, tn; of the false-positive rate `events`: for each way the robot failed, how many were judged successes;
    of pooled rows `real` and `judged` (0/1, in the order of the clips), for paired comparisons. VlawError for unjudged
    clips, NaN.
    """
    cuts = numbers(scores, "scores", where="verdicts")
    same_length(clips=clips, scores=cuts, where="verdicts")
    check_labels(clips)
    real, tasks = np.array([bool(clip.success) for clip in clips]), [clip.task for clip in clips]
    rows = []
    for threshold in sorted({PLAIN_YES, alpha}):
        judged = cuts > threshold
        tables = event_confusion(real, judged, tasks)
        for task in (ALL, *dict.fromkeys(tasks)):
            own = [index for index, name in enumerate(tasks) if task in (ALL, name)]
            detail: Row = {"clips": [clips[index].episode_id for index in own], **_counts(tables[task])}
            if task == ALL:
                detail |= {"real": real.astype(int).tolist(), "judged": judged.astype(int).tolist()}
            for name in WITH_INTERVAL:
                rate = getattr(tables[task], name)
                if rate is None:
                    continue
                more = {"events": _by_event(clips, judged, own)} if name == "false_positive_rate" else {}
                rows.append(
                    {
                        "task": task,
                        "metric": f"{what}_{name}_at_{threshold:g}",
                        "trials": rate.n,
                        "successes": rate.k,
                        "value": rate.value,
                        "low": rate.low,
                        "high": rate.high,
                        "detail": detail | more,
                    }
                )
    return rows


def score_rows(
    clips: Sequence[Episode], scores: Sequence[float] | np.ndarray, alpha: float
) -> tuple[list[Row], list[str]]:
    """The judge's scores on real clips against their outcome, all tasks pooled; and what was left out, with the reason.

        real_auroc              chance that a success outscores a failure; bootstrap interval, of two of each or more
        real_brier              mean squared error of the score; bootstrap interval
        real_ece                expected calibration error, ten bins
        real_calibration        the same value; detail.bins: success rate by score with Wilson intervals
        real_threshold_sweep    the largest recall at a precision of `PRECISE` or more, 0 where there is none (chosen on
        these
                                very clips); detail.rows: threshold, tp, fp, fn, tn, and the rates with Wilson intervals

    VlawError for scores outside [0, 1], NaN, unjudged clips, none.
    """
    found = numbers(scores, "scores", where="scores of clips", unit_range=True)
    same_length(clips=clips, scores=found, where="scores of clips")
    check_labels(clips)
    real = np.array([bool(clip.success) for clip in clips])
    common = {"task": ALL, "trials": len(clips)}
    detail = {"clips": [clip.episode_id for clip in clips], "successes": int(real.sum())}
    left_out, rows = [], []
    if real.any() and not real.all():
        bounds = _bounds(auroc_interval(found, real))
        rows.append({**common, "metric": "real_auroc", "value": auroc(found, real), **bounds, "detail": detail})
    else:
        left_out.append(f"real_auroc: all {len(clips)} clips {'succeeded' if real.all() else 'failed'}")
    rows.append(
        {
            **common,
            "metric": "real_brier",
            "value": brier_score(found, real),
            **_mean_bounds((found - real) ** 2),
            "detail": detail,
        }
    )
    curve = calibration_curve(found, real)
    error = sum(one.count * abs(one.rate - one.mean_score) for one in curve) / len(clips)
    bins = [vars(one) for one in curve]
    rows.append({**common, "metric": "real_ece", "value": error, "detail": detail | {"bins": 10}})
    rows.append({**common, "metric": "real_calibration", "value": error, "detail": detail | {"bins": bins}})
    sweep = [one.row() for one in threshold_sweep(found, real, sorted({*SWEEP, alpha}))]
    best = max((row["recall"] or 0.0 for row in sweep if (row["precision"] or 0.0) >= PRECISE), default=0.0)
    rows.append(
        {
            **common,
            "metric": "real_threshold_sweep",
            "value": best,
            "detail": detail | {"rows": sweep, "precision_wanted": PRECISE},
        }
    )
    return rows, left_out


def shown(rows: Sequence[Row]) -> list[Row]:
    """The rows whose number says something to a person; the curves among them are pictures.

    `real_calibration` has the value of `real_ece`. `real_threshold_sweep` goes by what its value is, and is left out
    where no threshold is that precise.
    """
    found = []
    for row in rows:
        if row["metric"] == "real_threshold_sweep":
            if row["value"] > 0:
                found.append({**row, "metric": f"real_recall_at_precision_{PRECISE:g}"})
        elif row["metric"] != "real_calibration":
            found.append(row)
    return found


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """One number per metric that is shown: means over cameras of the pooled rows."""
    values: dict[str, list[float]] = {}
    for row in shown(rows):
        if row["task"] == ALL:
            values.setdefault(row["metric"], []).append(row["value"])
    return {name: sum(found) / len(found) for name, found in values.items()}


def check_labels(clips: Sequence[Episode]) -> None:
    """VlawError naming the first clip without an outcome."""
    for index, clip in enumerate(clips):
        if clip.success is None:
            raise VlawError(
                "nobody has judged this clip",
                where=_called(clip, index),
                remedy="Measure on real episodes with their outcome.",
            )


def _by_event(clips: Sequence[Episode], judged: np.ndarray, own: Sequence[int]) -> Row:
    """{event: trials, judged_success, value, low, high} of the failures among `own`; those without an event are left
    out."""
    found: Row = {}
    for event in sorted({clips[index].event for index in own if not clips[index].success and clips[index].event}):
        seen = np.array([judged[index] for index in own if not clips[index].success and clips[index].event == event])
        rate = confusion(np.zeros(len(seen), bool), seen).false_positive_rate
        if rate is not None:
            found[event] = {
                "trials": rate.n,
                "judged_success": rate.k,
                "value": rate.value,
                "low": rate.low,
                "high": rate.high,
            }
    return found


def _counts(table: Confusion) -> Row:
    return {"tp": table.tp, "fp": table.fp, "fn": table.fn, "tn": table.tn}


def _mean_bounds(values: Any) -> Row:
    return _bounds(mean_interval(values) if values is not None else None)


def _bounds(bounds: Interval | None) -> Row:
    return {} if bounds is None else {"low": bounds.low, "high": bounds.high}


def _called(clip: Episode, index: int) -> str:
    return f"clip {clip.episode_id or index} ({clip.task}, seed {clip.seed})"


def _check_pixels(clip: Episode, where: str) -> None:
    pixels = clip.images
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise VlawError(
            "its pixels hold NaN or infinity", where=where, remedy="What made it diverged, or it is damaged."
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 5 or pixels.shape[-1] != 3:
        raise VlawError(
            f"its images are {pixels.dtype} {pixels.shape}",
            where=where,
            remedy="Give uint8 pixels, (T+1, V, height, width, 3).",
        )
    for name, values in (("states", clip.states), ("actions", clip.actions)):
        if not np.isfinite(values).all():
            raise VlawError(
                f"its {name} hold NaN or infinity", where=where, remedy="What made it diverged, or it is damaged."
            )


def _check_alike(clip: Episode, other: Episode, where: str, *, against: str) -> None:
    if (clip.images.shape[1], clip.cameras) != (other.images.shape[1], other.cameras):
        raise VlawError(
            f"{clip.images.shape[1]} and {other.images.shape[1]} cameras: {', '.join(clip.cameras) or 'without names'} "
            f"and {', '.join(other.cameras) or 'without names'}",
            where=f"{where}, against {against}",
            remedy="Measure on clips of the same cameras.",
        )
    if clip.images.shape[2:4] != other.images.shape[2:4]:
        sizes = [f"{one.images.shape[3]}x{one.images.shape[2]}" for one in (clip, other)]
        raise VlawError(
            f"frames of {sizes[0]} and {sizes[1]} pixels",
            where=f"{where}, against {against}",
            remedy="Measure on clips of one size: resize first.",
        )
