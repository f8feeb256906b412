"""What is folded at the end of the page: tables of metrics, losses, episodes of every task, and all that was named."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.picking import frames_of
from vlaw_assets.lineage.layout import SHORT, rank
from vlaw_assets.partitions import split_partition
from vlaw_assets.reports import stage_plots
from vlaw_assets.reports.episodes.command import file_name, watch_command, watch_note
from vlaw_assets.reports.iteration.frames import ending, moments, rows_of_frames, strip
from vlaw_assets.reports.iteration.measured import measured_before
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import SHARPER, Html, code, folded, joined, note, plot, table, tag
from vlaw_assets.reports.plots import DPI

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

MEASURED = {
    "world_model_metrics": "All measurements of the world model, on held-out clips",
    "reward_model_metrics": "All measurements of the reward model, on held-out clips",
    "imagined_outcomes": "All measurements of imagined outcomes",
}
LEARNED = {"world_model": "world model", "reward_model": "reward model", "policy": "policy"}
SHEETS = {"real_rollouts": "Real rollouts of every task", "imagined_rollouts": "Imagined rollouts of every task"}


def section(subject: Subject) -> Section:
    """Comes last: it lists what the other sections have named."""
    parts = [*_metrics(subject), *_losses(subject), *_sheets(subject)]
    # The sheets name episodes too, and episodes their artifacts.
    parts += [_episodes(subject), _artifacts(subject)]
    return Section("more", "More", "metrics, losses, episodes, artifacts", joined(parts))


def _metrics(subject: Subject) -> list[Html]:
    from vlaw_models.metrics.rows import shown

    parts = []
    for asset, title in MEASURED.items():
        ref = subject.current(asset)
        rows = shown(subject.lake.read(ref).table("evaluations").to_pylist()) if ref else []
        if ref is not None and rows:
            header = ["task", "metric", "camera", "value", "95 %", "n"]
            listed = table([header, *map(_measured, rows)])
            parts.append(folded(title, measured_before(subject, ref), listed, note(subject.artifact(ref))))
    return parts


def _measured(row: Mapping[str, Any]) -> list[str]:
    interval = f"[{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else ""
    return [row["task"], row["metric"], row["camera"] or "", f"{row['value']:.3f}", interval, str(row["trials"])]


def _losses(subject: Subject) -> list[Html]:
    drawn = []
    for asset, name in LEARNED.items():
        ref = subject.current(asset)
        if ref is not None and (losses := ref.metrics.get("losses")):
            drawn += [
                tag("h3", f"Loss of the {name}"),
                plot(stage_plots.loss(losses, dpi=SHARPER * DPI), f"loss, {name}"),
            ]
            drawn.append(note(subject.artifact(ref)))
    return [folded("Losses", *drawn)] if drawn else []


def _sheets(subject: Subject) -> list[Html]:
    """Of every task, of real rollouts a success and a failure, of imagined ones the best and the worst score."""
    parts = []
    for asset, title in SHEETS.items():
        ref = subject.current(asset)
        chosen, scores = _sample(subject, ref) if ref else ([], {})
        if ref is None or not chosen:
            continue
        frames = frames_of(subject.lake, [(ref.owner, row["episode_id"]) for row in chosen])
        strips = []
        for row in chosen:
            images = frames.get((ref.owner, row["episode_id"]))
            score = [f"P(yes) {scores[row['episode_id']]:.2f}"] if row["episode_id"] in scores else [ending(row)]
            words = [joined([tag("b", row["task"]), " ", *score]), subject.episode(ref.owner, row)]
            strips.append(strip(words, rows_of_frames([moments(images)], row["task"]), success=row["success"]))
        parts.append(folded(title, _watch(subject, ref), *strips))
    return parts


def _sample(subject: Subject, ref: ArtifactRef) -> tuple[list[Mapping[str, Any]], dict[str, float]]:
    rows = subject.lake.counted(ref).table("episodes").to_pylist()
    judged = subject.current("reward_scores") if ref.asset == "imagined_rollouts" else None
    scores = {
        row["episode_id"]: row["p_success"]
        for row in (subject.lake.counted(judged).table("reward_scores").to_pylist() if judged else ())
    }
    chosen: dict[str, Mapping[str, Any]] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        own.sort(key=lambda row: scores.get(row["episode_id"], float(bool(row["success"]))), reverse=True)
        chosen |= {row["episode_id"]: row for row in (own[0], own[-1])}
    return list(chosen.values()), scores


def _watch(subject: Subject, ref: ArtifactRef) -> Html:
    if subject.folder:
        return Html(watch_note(ref, subject.folder))
    command = watch_command(ref)
    return note("Watch them with ", code(command)) if command else Html("")


def _episodes(subject: Subject) -> Html:
    header = ["episode", "of", "task", "seed", "outcome", "watch it"]
    rows = [
        [
            code(row["episode_id"]),
            subject.artifact(subject.lake.ledger.get(owner)),
            row["task"],
            str(row["seed"]),
            ending(row),
            _page(subject.folder, row["episode_id"]),
        ]
        for (owner, _), row in subject.episodes.items()
    ]
    ids = {number: subject.anchor(key) for number, key in enumerate(subject.episodes)}
    return folded(f"The {len(rows)} episodes on this page", table([header, *rows], ids=ids, cls="names"))


def _page(folder: Path | None, episode: str) -> Html:
    """A link to the page of an episode where there is one beside this page, else the command that makes it."""
    name = file_name(episode)
    if folder and (folder / name).is_file():
        return tag("a", name, href=name)
    return code(f"vlaw watch {shlex.quote(episode)} --open")


def _artifacts(subject: Subject) -> Html:
    header = ["artifact", "content", "code", "run", "made (UTC)"]
    listed = sorted(subject.artifacts.values(), key=_order)
    rows = [
        [
            ref.name + (" (reused)" if ref.source_artifact_id else ""),
            tag("code", ref.content_digest[:SHORT], title=ref.content_digest),
            tag("code", ref.code_digest[:SHORT], title=ref.code_digest),
            code(ref.run_id[:8]),
            f"{ref.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        ]
        for ref in listed
    ]
    ids = {number: ref.artifact_id for number, ref in enumerate(listed)}
    return folded(f"The {len(rows)} artifacts on this page", table([header, *rows], ids=ids, cls="names"))


def _order(ref: ArtifactRef) -> tuple[int, str, tuple[int, str], str]:
    experiment, iteration = split_partition(ref.partition)
    return iteration, experiment, rank(ref.asset), ref.artifact_id
