"""Shifts of how well models fit: the last losses of what learned, and PSNR of the world model, camera by camera."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.reports.shifts.base import LESS, MORE, Shift, means, single
from vlaw_assets.reports.shifts.sides import Item, Side, label, measured_by, names, parent
from vlaw_assets.reports.shifts.watching import watch_ids
from vlaw_assets.reports.success import ALL

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

TAIL = 10
"""A loss is the mean of the last one in so many: single batches say little."""
PSNR = "psnr"


def losses(lake: Lake, pairs: Sequence[tuple[Item, Item]]) -> list[Shift]:
    """Of every pair of models, where both logged any. They were measured on other batches: no interval."""
    found = []
    for pair in pairs:
        first, second = (_last_loss(lake.ledger.get(item["owner"])) for item in pair)
        if first is not None and second is not None:
            shift = single(
                f"last loss of {label(pair, list(pairs))}",
                first,
                second,
                kind="loss",
                assets=(pair[1]["asset"],),
                of=names(pair),
                better=LESS,
                watch=_what_it_does(lake, pair[1]),
            )
            found.append(shift)
    return found


def _last_loss(ref: ArtifactRef) -> float | None:
    logged = [float(loss) for loss in ref.metrics.get("losses", ()) if math.isfinite(loss)]
    last = logged[-math.ceil(len(logged) / TAIL) :] if logged else []
    return sum(last) / len(last) if last else None


def _what_it_does(lake: Lake, item: Item) -> str:
    from vlaw_assets.reports.episodes.choosing import shown_by

    shown = shown_by(lake, lake.ledger.get(item["artifact"]))
    if shown is None or "episodes" not in shown.versions:
        return ""
    rows = lake.counted(shown).table("episodes").select(["episode_id", "success"]).to_pylist()
    return watch_ids(lake, [row["episode_id"] for row in sorted(rows, key=lambda row: row["success"] is not False)])


def pictures(a: Side, b: Side) -> list[Shift]:
    """PSNR of the last world model of each side on held-out clips, per camera; paired where the clips are the same."""
    refs = [_measurement(side) for side in (a, b)]
    first, second = refs
    if first is None or second is None or first.owner == second.owner:
        return []
    sides = [_per_clip(side.lake, ref) for side, ref in ((a, first), (b, second))]
    found = []
    for camera in [camera for camera in sides[0] if camera in sides[1]]:
        values = [side[camera] for side in sides]
        more: dict[str, Any] = {
            "kind": "world_model",
            "assets": ("world_model", second.asset),
            "of": (first.name, second.name),
            "better": MORE,
            "watch": _worst(b.lake, second, values),
        }
        found.append(means(f"PSNR {camera}", *values, **more))
    return [shift for shift in found if shift]


def _measurement(side: Side) -> ArtifactRef | None:
    model = side.last("world_model")
    if model is None:
        return None
    return measured_by(side.lake, side.get(model), "world_model", "world_model_metrics", "evaluations")


def _per_clip(lake: Lake, ref: ArtifactRef) -> dict[str, dict[str, float]]:
    """Camera -> clip -> PSNR, without the clips in quarantine."""
    clips = parent(lake, ref, "clips")
    held = lake.counted(clips).available() if clips is not None else None
    found: dict[str, dict[str, float]] = {}
    for row in lake.read(ref).table("evaluations").to_pylist():
        if (row["metric"], row["task"]) == (PSNR, ALL) and row["camera"]:
            detail = json.loads(row["detail_json"])
            values = zip(detail.get("clips", ()), detail.get("values", ()), strict=False)
            found[row["camera"]] = {name: value for name, value in values if held is None or name in held}
    return found


def _worst(lake: Lake, ref: ArtifactRef, values: Sequence[dict[str, float]]) -> str:
    """The replays of b's clips that fell most against a, or that are worst where the clips are others."""
    first, second = values
    paired = first.keys() == second.keys()
    order = sorted(second, key=lambda name: (second[name] - (first[name] if paired else 0.0), name))
    clips = parent(lake, ref, "clips")
    if clips is None or "episodes" not in ref.versions:
        return ""
    seeds = {row["episode_id"]: (row["task"], row["seed"]) for row in lake.read(clips).table("episodes").to_pylist()}
    replays = {(row["task"], row["seed"]): row["episode_id"] for row in lake.read(ref).table("episodes").to_pylist()}
    return watch_ids(lake, [replays[seeds[name]] for name in order if seeds.get(name) in replays])
