"""The world model in a row per camera: numbers, and what was recorded, what was replayed, and the difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake.picking import frames_of
from vlaw_assets.reports.iteration.frames import ending, moments, rows_of_frames
from vlaw_assets.reports.iteration.measured import measured_before
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, joined, note, tag
from vlaw_assets.reports.success import ALL
from vlaw_models.film import difference

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

Held = tuple[str, Mapping[str, Any]]
"""The artifact that holds an episode, and the episode's row."""
NAMES = {"psnr": "PSNR", "ssim": "SSIM"}
UNITS = {"psnr": " dB"}
DIGITS = {"psnr": ".1f"}
"""Of a number, where it is not three that count."""


def section(subject: Subject) -> Section | None:
    """None where nothing was replayed."""
    ref, start = subject.current("world_model_metrics"), subject.current("start_world_model_metrics")
    now, was = _by_camera(subject, ref), _by_camera(subject, start)
    if ref is None or not now:
        return None
    chosen = middling(subject, ref, now)
    frames = [
        frames_of(subject.lake, [(owner, row["episode_id"])]).get((owner, row["episode_id"])) for owner, row in chosen
    ]
    rows = [
        tag("tr", tag("th", camera), tag("td", *_numbers(found, was.get(camera, {}))), tag("td", drawn))
        for number, (camera, found) in enumerate(now.items())
        for drawn in [_drawn(frames, number, camera)]
    ]
    said = [f"{camera} {found['psnr']['value']:.1f} dB" for camera, found in now.items() if "psnr" in found]
    before = f"; in brackets by {start.name}, the model that this iteration began with" if start and was else ""
    clips = next(iter(now.values()))["psnr"]["trials"] if "psnr" in next(iter(now.values())) else 0
    body = joined(
        [
            note(
                f"Recorded actions of {clips} held-out clips replayed in the world model, mean over clips, with 95 % "
                f"intervals{before}. Above what was recorded, below it what was replayed, then the difference, three "
                "times brighter.",
            ),
            tag("div", tag("table", tag("tbody", *rows), cls="world"), cls="wide"),
            *_named(subject, chosen),
            measured_before(subject, ref),
            note("Measured by ", joined([subject.artifact(one) for one in (ref, start) if one], ", "), "."),
        ]
    )
    return Section("world", "The world model, camera by camera", "PSNR " + ", ".join(said) if said else "", body)


def _by_camera(subject: Subject, ref: ArtifactRef | None) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Camera -> metric -> its row of `evaluations` over all tasks."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in subject.lake.counted(ref).table("evaluations").to_pylist() if ref else ():
        if row["task"] == ALL and row["camera"]:
            found.setdefault(row["camera"], {})[row["metric"]] = row
    return found


def _named(subject: Subject, chosen: Sequence[Held]) -> list[Html]:
    if not chosen:
        return []
    (owner, clip), replay = chosen
    said = f" ({clip['task']}, {ending(clip)}), replayed as "
    return [note("The clip of middling error: ", subject.episode(owner, clip), said, subject.episode(*replay), ".")]


def middling(
    subject: Subject, ref: ArtifactRef, now: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> tuple[()] | tuple[Held, Held]:
    """The recorded clip whose PSNR, mean over cameras, is the median of all, and its replay; none where there are none
    but in quarantine."""
    details = [json.loads(found["psnr"]["detail_json"]) for found in now.values() if "psnr" in found]
    clips = dict(subject.lake.ledger.edges(ref.owner)).get("clips")
    if not details or clips is None:
        return ()
    errors = dict(zip(details[0]["clips"], np.mean([one["values"] for one in details], axis=0), strict=True))
    replays = {row["start_episode_id"]: row for row in subject.lake.counted(ref).table("episodes").to_pylist()}
    recorded = {row["episode_id"]: row for row in subject.lake.counted(clips).table("episodes").to_pylist()}
    known = sorted((value, name) for name, value in errors.items() if name in replays and name in recorded)
    if not known:
        return ()
    name = known[(len(known) - 1) // 2][1]
    return (clips.owner, recorded[name]), (ref.owner, replays[name])


def _numbers(found: Mapping[str, Mapping[str, Any]], was: Mapping[str, Mapping[str, Any]]) -> list[Html]:
    """A line for each metric: value, interval, which way is better, what it was."""
    lines = []
    for metric, row in found.items():
        higher = json.loads(row["detail_json"]).get("higher_is_better")
        form = DIGITS.get(metric, ".3g")
        name = NAMES.get(metric, metric.replace("_", " "))
        better = {True: " \N{UPWARDS ARROW}", False: " \N{DOWNWARDS ARROW}"}.get(higher, "")
        interval = f" [{row['low']:{form}}, {row['high']:{form}}]" if row["low"] is not None else ""
        before = f" (was {was[metric]['value']:{form}})" if metric in was else ""
        value = tag("b", f"{row['value']:{form}}{UNITS.get(metric, '')}")
        lines.append(tag("p", f"{name}{better} ", value, tag("span", f"{interval}{before}", cls="soft")))
    return lines


def _drawn(frames: Sequence[np.ndarray | None], camera: int, name: str) -> Html:
    """What was recorded, what was replayed and the difference, of one camera."""
    found = [images for images in frames if images is not None]
    if len(found) < 2:
        return note("No frames were kept.")
    recorded, replayed = found
    steps = min(len(recorded), len(replayed))
    pair: list[Sequence[np.ndarray]] = [moments(one[:steps], camera) for one in (recorded, replayed)]
    apart = [difference(*both) for both in zip(*pair, strict=True)]
    return rows_of_frames([*pair, apart], f"{name}: recorded, replayed, difference")
