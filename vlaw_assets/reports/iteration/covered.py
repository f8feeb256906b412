"""Which real failures did imagination turn into successes, with pictures. What counts as covered is said in
reports/coverage.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.picking import frames_of
from vlaw_assets.reports.coverage import Coverage, Failure, coverage
from vlaw_assets.reports.iteration.frames import ending, moments, of_every_task, rows_of_frames, strip
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, folded, joined, note, table, tag
from vlaw_assets.reports.success import ALL, rate

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

SHOWN = 3
"""Failures of each kind."""
FIRST_TRIES = (1, 2, 4, 8)
"""Numbers of tries whose worth is shown."""


def section(subject: Subject) -> Section | None:
    """None where nothing was imagined or nothing failed."""
    found = coverage(subject.lake, subject.key)
    real, imagined = subject.current("real_rollouts"), subject.current("imagined_rollouts")
    if found is None or real is None or imagined is None or not found.scores or not found.failures:
        return None
    covered = sum(item.covered for item in found.failures)
    finding = f"{covered} of {len(found.failures)} failures covered"
    body = joined(
        [
            tag("p", f"Of {len(found.failures)} real failures imagination turned {covered} into accepted successes."),
            table(rows(found)),
            *_rescued(found),
            folded("What covered means", *_definition(found)),
            *_strips(subject, found, real, imagined),
            note("From ", subject.artifact(real), ", ", subject.artifact(imagined), "."),
        ]
    )
    return Section("coverage", "Did imagination cover the failures?", finding, body)


def _definition(found: Coverage) -> list[Html]:
    said = [
        note(
            "A real failure is covered ",
            tag("b", "by start"),
            " when at least one imagined episode that began with its first frame was accepted by the judge "
            f"(P(yes) > {found.alpha:g}).",
        )
    ]
    if found.left_out:
        said.insert(0, note(f"{found.left_out} episodes are left out, being in quarantine."))
    if not found.embedded:
        said.append(
            note("This iteration has no embeddings, so similarity is not looked at: materialize episode_embeddings.")
        )
        return said
    said.append(
        note(
            "It is covered ",
            tag("b", "by similarity"),
            " when an accepted imagined episode of the same task lies near it: the cosine distance of their embeddings "
            "(features of the pretrained reward model, mean over the frames it looks at) is at most the task's "
            "neighbour distance. That is the median, over this iteration's real episodes of the task, of the distance "
            "to the nearest other real episode of the task: as near as real episodes are to each other. It is the "
            "stricter of the two: an episode that fails and one that succeeds end differently, so they are seldom "
            "near. Both say that the policy has learned from an imagined success there, not that the success would be "
            "real.",
        )
    )
    return said


def rows(found: Coverage) -> list[list[str]]:
    """A row per task with failures and one of all, the header first."""
    header = [
        *("task", "real failures", "covered by start", "covered by similarity", "by either", "not covered"),
        *("imagined from failures", "of these accepted", "neighbour distance"),
    ]
    body = []
    for task in _tasks(found):
        own = [item for item in found.failures if task in (item.task, ALL)]
        covered = sum(item.covered for item in own)
        near = found.near.get(task)
        body.append(
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
    return [header, *body]


def _tasks(found: Coverage) -> list[str]:
    """Those with failures, and "all" where there are several."""
    tasks = [task for task in found.near if any(item.task == task for item in found.failures)]
    return [*tasks, *([ALL] if len(tasks) > 1 else [])]


def _rescued(found: Coverage) -> list[Html]:
    """Which failures imagination truly rescued, by number of tries; nothing where that was not measured."""
    if not found.rescued(ALL, None)[1]:
        return []
    tries = [None, *(number for number in FIRST_TRIES if found.rescued(ALL, number)[1])]
    header = ["task", *("by all tries" if number is None else f"by the first {number}" for number in tries)]
    body = [[task, *(_rate(*found.rescued(task, number)) for number in tries)] for task in _tasks(found)]
    return [
        tag("p", "Truly rescued: actions that were imagined from there succeed on the simulator. By number of tries:"),
        table([header, *body]),
        note("By the first 4: of the failures that were tried at least 4 times, by the first 4 tries of each."),
    ]


def _rate(part: int, of: int) -> str:
    return f"{part} of {of}: {rate(part, of)}" if of else ""


def _strips(subject: Subject, found: Coverage, real: ArtifactRef, imagined: ArtifactRef) -> list[Html]:
    kinds: list[tuple[str, list[Failure], Callable[[Failure], str | None]]] = [
        (
            "Covered by start: a failure, and below it the imagined success that began with its first frame",
            _first([item for item in found.failures if item.by_start], lambda item: -(item.best or 0.0)),
            lambda item: item.by_start,
        ),
        (
            "Covered by similarity only: a failure, and below it the nearest accepted imagined episode",
            _first(
                [item for item in found.failures if item.by_similarity and not item.by_start],
                lambda item: item.distance or 0.0,
            ),
            lambda item: item.by_similarity,
        ),
        (
            "Not covered: failures farthest from every accepted imagined episode",
            _first([item for item in found.failures if not item.covered], lambda item: -(item.distance or 0.0)),
            lambda item: None,
        ),
    ]
    rows_by_id = {
        row["episode_id"]: (ref.owner, row)
        for ref in (real, imagined)
        for row in subject.lake.counted(ref).table("episodes").to_pylist()
    }
    names = [name for _, chosen, beside in kinds for item in chosen for name in (item.episode_id, beside(item)) if name]
    frames = frames_of(subject.lake, [(rows_by_id[name][0], name) for name in dict.fromkeys(names)])
    said: list[Html] = []
    for title, chosen, beside in kinds:
        said += [tag("h3", title)] if chosen else []
        for item in chosen:
            shown = [name for name in (item.episode_id, beside(item)) if name]
            pictures = [moments(frames.get((rows_by_id[name][0], name))) for name in shown]
            drawn = rows_of_frames(pictures, f"{item.task}: {', '.join(shown)}")
            said.append(strip(_words(subject, found, item, rows_by_id, shown), drawn, success=False))
    return said


def _first(items: Sequence[Failure], order: Callable[[Failure], float]) -> list[Failure]:
    """Those to show, in the given order."""
    return of_every_task(sorted(items, key=lambda item: (order(item), item.episode_id)), SHOWN)


def _words(
    subject: Subject, found: Coverage, item: Failure, known: dict[str, tuple[str, dict[str, Any]]], shown: Sequence[str]
) -> list[Html]:
    owner, row = known[item.episode_id]
    tried = f"{item.tries} imagined from it" + (f", best P(yes) {item.best:.2f}" if item.best is not None else "")
    words = [
        joined([tag("b", item.task), f" {ending(row)}"]),
        joined([tried, f"; nearest accepted at {item.distance:.4f}" if item.distance is not None else ""]),
        subject.episode(owner, row),
    ]
    below = [joined([f"below: P(yes) {found.scores[n]:.2f} ", subject.episode(*known[n])]) for n in shown[1:]]
    return [*words, *below]
