"""The part of `vlaw report` about coverage: which real failures did imagination turn into successes, with pictures.

What counts as covered is said in reports/coverage.py.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from vlaw_assets.cli import page

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_assets.reports.coverage import Coverage, Failure

SHOWN = 3
"""Failures on each contact sheet."""


def sections(lake: Lake, key: str) -> list[str]:
    """The section of one iteration; empty where nothing was imagined or nothing failed."""
    from vlaw_assets.reports.coverage import coverage

    found = coverage(lake, key)
    if found is None or not found.scores or not found.failures:
        return []
    return [
        "<h2>Did imagination cover the failures?</h2>",
        _definition(found),
        page.table(_rows(found)),
        *_sheets(lake, key, found),
    ]


def _definition(found: Coverage) -> str:
    left_out = f"{found.left_out} episodes are left out, being in quarantine. " if found.left_out else ""
    text = (
        f"{left_out}A real failure is covered <b>by start</b> when at least one imagined episode that began with its "
        f"first frame was "
        f"accepted by the judge (P(yes) &gt; {found.alpha:g}). "
    )
    if not found.embedded:
        return (
            f'<p class="note">{text}This iteration has no embeddings, so similarity is not looked at: materialize '
            f"episode_embeddings.</p>"
        )
    return (
        f'<p class="note">{text}It is covered <b>by similarity</b> when an accepted imagined episode of the same '
        f"task lies "
        "near it: the cosine distance of their embeddings (features of the pretrained reward model, mean over the "
        "frames it "
        "looks at) is at most the task's <i>neighbour distance</i>. That is the median, over this iteration's real "
        "episodes "
        "of the task, of the distance to the nearest other real episode of the task: as near as real episodes are to "
        "each "
        "other. It is the stricter of the two: an episode that fails and one that succeeds end differently, so they "
        "are seldom "
        "near. Both say that the policy has learned from an imagined success there, not that the success would be real."
        "</p>"
    )


def _rows(found: Coverage) -> list[list[str]]:
    rows = [
        [
            "task",
            "real failures",
            "covered by start",
            "covered by similarity",
            "by either",
            "not covered",
            "imagined from failures",
            "of these accepted",
            "neighbour distance",
        ]
    ]
    tasks = [task for task in found.near if any(item.task == task for item in found.failures)]
    for task in [*tasks, *(["all"] if len(tasks) > 1 else [])]:
        own = [item for item in found.failures if task in (item.task, "all")]
        covered = sum(item.covered for item in own)
        near = found.near.get(task)
        rows.append(
            [
                task,
                str(len(own)),
                str(sum(item.by_start is not None for item in own)),
                str(sum(item.by_similarity is not None for item in own)) if found.embedded else "-",
                str(covered),
                str(len(own) - covered),
                str(sum(item.tries for item in own)),
                str(sum(item.accepted for item in own)),
                f"{near:.4f}" if near is not None else "",
            ]
        )
    return rows


def _sheets(lake: Lake, key: str, found: Coverage) -> list[str]:
    by_start = _spread([item for item in found.failures if item.by_start], lambda item: -(item.best or 0.0))
    by_similarity = _spread(
        [item for item in found.failures if item.by_similarity and not item.by_start], lambda item: item.distance or 0.0
    )
    left = _spread([item for item in found.failures if not item.covered], lambda item: -(item.distance or 0.0))
    parts: list[str] = []
    for title, chosen, beside in (
        (
            "Covered by start: the failure (red), and below it the imagined success that began with its first frame",
            by_start,
            lambda item: item.by_start,
        ),
        (
            "Covered by similarity only: the failure (red), and below it the nearest accepted imagined episode",
            by_similarity,
            lambda item: item.by_similarity,
        ),
        ("Not covered: failures (red) farthest from every accepted imagined episode", left, lambda item: None),
    ):
        if chosen:
            parts += [
                f"<h3>{html.escape(title)}</h3>",
                _sheet(lake, key, found, [(item, beside(item)) for item in chosen]),
            ]
    return parts


def _sheet(lake: Lake, key: str, found: Coverage, pairs: list[tuple[Failure, str | None]]) -> str:
    from vlaw_models.pictures import contact_sheet, png_bytes

    real = _episodes(lake, key, "real_rollouts", [item.episode_id for item, _ in pairs])
    imagined = _episodes(lake, key, "imagined_rollouts", [name for _, name in pairs if name])
    rows, notes = [], []
    for item, name in pairs:
        rows.append(real[item.episode_id])
        tried = f"{item.tries} imagined from it" + (f", best P(yes) {item.best:.2f}" if item.best is not None else "")
        apart = f"; nearest accepted at {item.distance:.4f}" if item.distance is not None else ""
        notes.append(f"<li><code>{html.escape(item.episode_id)}</code> {html.escape(item.task)}: {tried}{apart}</li>")
        if name:
            episode = imagined[name]
            episode.extra["p_success"] = found.scores[name]
            if item.by_start != name:
                episode.extra["distance"] = item.distance
            rows.append(episode)
    picture = page.image(png_bytes(contact_sheet(rows, columns=6, scale=1)), "real failures and imagined episodes")
    return f'<ul class="note">{"".join(notes)}</ul>{picture}'


def _episodes(lake: Lake, key: str, asset: str, ids: list[str]) -> dict[str, Any]:
    handle = lake.counted(lake.ledger.require(asset, key))
    return {item.episode_id: item for item in handle.episodes(episode_ids=ids)} if ids else {}


def _spread(items: list[Failure], order: Any) -> list[Failure]:
    """The first SHOWN in the given order, of as many different tasks as there are."""
    ranked: list[tuple[int, Any, Failure]] = []
    seen: dict[str, int] = {}
    for item in sorted(items, key=lambda item: (order(item), item.episode_id)):
        ranked.append((seen.get(item.task, 0), len(ranked), item))
        seen[item.task] = seen.get(item.task, 0) + 1
    return [item for _, _, item in sorted(ranked)[:SHOWN]]
