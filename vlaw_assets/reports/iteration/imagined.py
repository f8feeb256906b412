"""Imagined against true outcome: what the judge says of imagined episodes, and what their actions truly do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.picking import Key, frames_of
from vlaw_assets.reports import stage_plots
from vlaw_assets.reports.iteration.frames import ending, moments, of_every_task, rows_of_frames, strip
from vlaw_assets.reports.iteration.judge import share
from vlaw_assets.reports.iteration.measured import measured_before
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import SHARPER, Html, code, joined, note, plot, table, tag
from vlaw_assets.reports.plots import DPI
from vlaw_assets.reports.success import ALL
from vlaw_assets.reports.threshold import alpha_of

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

WORST = 3
"""Pairs of strips of each kind."""
TRUE, FALSE, ANY = "truly succeeds", "truly fails", "imagined episodes"


@dataclass(frozen=True)
class Imagined:
    """An imagined episode: what the judge says of it, and what is true where that was measured."""

    row: Mapping[str, Any]
    """Of the table `episodes`."""
    score: float
    truth: bool | None

    @property
    def task(self) -> str:
        return str(self.row["task"])


def section(subject: Subject) -> Section | None:
    """None where nothing was imagined, or nobody judged it."""
    made, scored, rule = (subject.current(name) for name in ("imagined_rollouts", "reward_scores", "training_set"))
    found = imagined(subject, made, scored) if made and scored else []
    alpha, outcomes = alpha_of(rule) if rule else None, subject.current("imagined_outcomes")
    if made is None or scored is None or alpha is None or not found:
        return None
    known = [one for one in found if one.truth is not None]
    accepted = [one for one in known if one.score > alpha]
    finding = f"{sum(one.score > alpha for one in found)} of {len(found)} accepted"
    if known:
        finding += f", of which {sum(bool(one.truth) for one in accepted)} truly succeed"
    sources = [made, scored, *([outcomes] if outcomes else [])]
    body = joined(
        [
            tag("p", f"{finding[0].upper()}{finding[1:]}; alpha is {alpha:g}. ", _meaning(known)),
            plot(_histogram(found, known, alpha), "P(yes) of imagined episodes, and what is true"),
            table(rows(found, alpha, real_success(subject))),
            *_replayed(subject, alpha),
            *_strips(subject, made, known, alpha),
            measured_before(subject, scored),
            note(
                "From ", joined([subject.artifact(ref) for ref in sources], ", "), ". The question in SQL: ",
                code(f"vlaw sql imagined_against_real -p experiment={subject.experiment}"),
            ),
        ]
    )  # fmt: skip
    return Section("imagined", "Imagined against true outcome", finding, body)


def _meaning(known: Sequence[Imagined]) -> str:
    return (
        "True is what the same actions do on the robot's simulator from the same start: privileged, no model learns "
        "from it."
        if known
        else "What is true of them was not measured."
    )


def imagined(subject: Subject, made: ArtifactRef, scored: ArtifactRef) -> list[Imagined]:
    """The imagined episodes that were judged, without those in quarantine."""
    lake, outcomes = subject.lake, subject.current("imagined_outcomes")
    rows = {row["episode_id"]: row for row in lake.counted(made).table("episodes").to_pylist()}
    truth = {
        row["episode_id"]: row["p_success"] > 0.5
        for row in (lake.counted(outcomes).table("reward_scores").to_pylist() if outcomes else ())
        if row["owner"] == made.owner
    }
    return [
        Imagined(rows[row["episode_id"]], row["p_success"], truth.get(row["episode_id"]))
        for row in lake.counted(scored).table("reward_scores").to_pylist()
        if row["owner"] == made.owner and row["episode_id"] in rows
    ]


def real_success(subject: Subject) -> dict[str, tuple[int, int]]:
    """Task -> (successes, episodes) of the real rollouts of this iteration."""
    ref = subject.current("real_rollouts")
    found: dict[str, tuple[int, int]] = {}
    for row in subject.lake.counted(ref).table("episodes").to_pylist() if ref else ():
        if row["success"] is not None:
            for task in (row["task"], ALL):
                won, of = found.get(task, (0, 0))
                found[task] = won + bool(row["success"]), of + 1
    return found


def rows(found: Sequence[Imagined], alpha: float, real: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    """A row per task and one of all, the header first; what nobody measured is empty."""
    header = [
        *("task", "imagined", "accepted", "truly succeed", "accepted and true", "label precision", "label recall"),
        *("share accepted", "share true", "real rollouts"),
    ]
    tasks = list(dict.fromkeys(one.task for one in found))
    body = []
    for task in [*tasks, *([ALL] if len(tasks) > 1 else [])]:
        own = [one for one in found if task in (one.task, ALL)]
        known = [one for one in own if one.truth is not None]
        accepted, true = sum(one.score > alpha for one in own), sum(bool(one.truth) for one in known)
        yes = sum(one.score > alpha for one in known)
        both = sum(bool(one.truth) and one.score > alpha for one in known)
        measured = [str(true), str(both), share(both, yes), share(both, true)] if known else [""] * 4
        shares = [share(accepted, len(own)), share(true, len(known)), share(*real.get(task, (0, 0)))]
        body.append([task, str(len(own)), str(accepted), *measured, *shares])
    return [header, *body]


def _histogram(found: Sequence[Imagined], known: Sequence[Imagined], alpha: float) -> bytes:
    groups = (
        {TRUE: [one.score for one in known if one.truth], FALSE: [one.score for one in known if not one.truth]}
        if known
        else {ANY: [one.score for one in found]}
    )
    return stage_plots.scores(groups, alpha, dpi=SHARPER * DPI)


def _replayed(subject: Subject, alpha: float) -> list[Html]:
    """The judge on replays of recorded actions: whether what truly happened is seen in the world model."""
    ref = subject.current("world_model_metrics")
    wanted = {f"replay_{name}_at_{alpha:g}" for name in ("precision", "recall", "false_positive_rate")}
    for row in subject.lake.counted(ref).table("evaluations").to_pylist() if ref else ():
        if row["task"] == ALL and row["metric"] in wanted and ref is not None:
            detail = json.loads(row["detail_json"])
            yes, no, missed, right = (detail[name] for name in ("tp", "fp", "fn", "tn"))
            return [
                tag(
                    "p",
                    f"Recorded actions replayed in the world model: the judge accepts {yes} of the {yes + missed} "
                    f"replays of successes and {no} of the {no + right} replays of failures (",
                    subject.artifact(ref),
                    ").",
                )
            ]
    return []


def _strips(subject: Subject, made: ArtifactRef, known: Sequence[Imagined], alpha: float) -> list[Html]:
    """The worst of both errors, each above the real episode that it starts from."""
    by_score = sorted(known, key=lambda one: (one.score, one.row["episode_id"]))
    kinds = {
        "Accepted, and truly failing: the highest scores, by task": [
            one for one in reversed(by_score) if one.score > alpha and not one.truth
        ],
        "Refused, and truly succeeding: the lowest scores, by task": [
            one for one in by_score if one.score <= alpha and one.truth
        ],
    }
    kinds = {title: of_every_task(own, WORST) for title, own in kinds.items()}
    shown = [one for own in kinds.values() for one in own]
    starts = _starts(subject, made, shown)
    keys = [(made.owner, one.row["episode_id"]) for one in shown]
    frames = frames_of(subject.lake, [*keys, *starts])
    real = {key[1]: (key, row) for key, row in starts.items()}
    said: list[Html] = []
    for title, own in kinds.items():
        said += [tag("h3", title)] if own else []
        for one in own:
            words = [
                joined([tag("b", one.task), f" imagined, P(yes) {one.score:.2f}"]),
                joined([tag("b", TRUE if one.truth else FALSE), " on the robot"]),
                subject.episode(made.owner, one.row),
            ]
            pictures = [moments(frames.get((made.owner, one.row["episode_id"])))]
            if (start := real.get(one.row["start_episode_id"])) and start[0] in frames:
                words.append(joined(["below: the real one of this start, ", ending(start[1]), " "]))
                words.append(subject.episode(start[0][0], start[1]))
                pictures.append(moments(frames[start[0]]))
            said.append(
                strip(words, rows_of_frames(pictures, f"{one.task}: imagined, and real below"), success=one.truth)
            )
    return said


def _starts(subject: Subject, made: ArtifactRef, shown: Sequence[Imagined]) -> dict[Key, Mapping[str, Any]]:
    """The real episodes that these were imagined from, as the labels in force have them."""
    wanted = {one.row["start_episode_id"] for one in shown}
    found: dict[Key, Mapping[str, Any]] = {}
    for role, ref in subject.lake.ledger.edges(made.owner):
        if role.startswith("starts"):
            rows = subject.lake.counted(ref).table("episodes").to_pylist()
            found |= {(ref.owner, row["episode_id"]): row for row in rows if row["episode_id"] in wanted}
    return found
