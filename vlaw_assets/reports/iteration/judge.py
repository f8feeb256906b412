"""Where the judge errs: its scores of real clips that nothing was trained on, against the robot's own outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake.picking import frames_of
from vlaw_assets.reports import plots
from vlaw_assets.reports.iteration.frames import ending, moments, rows_of_frames, strip
from vlaw_assets.reports.iteration.measured import measured_before
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import SHARPER, Html, joined, note, plot, table, tag
from vlaw_assets.reports.threshold import alpha_of

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

WORST = 3
"""Strips of each kind."""
THRESHOLDS = 40
"""Of the plot over thresholds."""


@dataclass(frozen=True)
class Judged:
    """A real clip, the judge's score and the robot's outcome."""

    row: Mapping[str, Any]
    """Of the table `episodes`."""
    score: float
    """P(yes)."""

    @property
    def task(self) -> str:
        return str(self.row["task"])

    @property
    def won(self) -> bool:
        return bool(self.row["success"])


@dataclass(frozen=True)
class Counts:
    """Clips by verdict and truth."""

    right_yes: int
    wrong_yes: int
    wrong_no: int
    right_no: int

    @property
    def precision(self) -> str:
        return share(self.right_yes, self.right_yes + self.wrong_yes)

    @property
    def recall(self) -> str:
        return share(self.right_yes, self.right_yes + self.wrong_no)


def section(subject: Subject) -> Section | None:
    """None where no clip was judged."""
    ref = subject.current("reward_model_metrics")
    found, clips = judged(subject, ref) if ref else ([], None)
    alpha = alpha_of(ref) if ref else None
    if ref is None or clips is None or alpha is None or not found:
        return None
    total = counts(found, alpha)
    failures, successes = total.wrong_yes + total.right_no, total.right_yes + total.wrong_no
    parts = [f"accepts {total.wrong_yes} of {failures} failures"] if failures else []
    parts += [f"refuses {total.wrong_no} of {successes} successes"] if successes else []
    finding = f"{', '.join(parts)} at alpha {alpha:g}"
    body = joined(
        [
            tag("p", f"On {len(found)} held-out real clips the judge {finding}. {_order(found)}"),
            tag("div", *_plots(found, alpha), cls="beside"),
            table(rows(found, alpha)),
            *_strips(subject, clips, found, alpha),
            measured_before(subject, ref),
            note("Measured by ", subject.artifact(ref), " on ", subject.artifact(clips), "."),
        ]
    )
    return Section("judge", "Where the judge errs", finding, body)


def judged(subject: Subject, ref: ArtifactRef) -> tuple[list[Judged], ArtifactRef | None]:
    """The scored clips, by the labels in force and without those in quarantine, and the artifact that holds them."""
    clips = dict(subject.lake.ledger.edges(ref.owner)).get("clips")
    if clips is None or "reward_scores" not in ref.versions:
        return [], clips
    known = {row["episode_id"]: row for row in subject.lake.counted(clips).table("episodes").to_pylist()}
    scores = subject.lake.counted(ref).table("reward_scores").to_pylist()
    return [
        Judged(known[row["episode_id"]], row["p_success"])
        for row in scores
        if row["episode_id"] in known and known[row["episode_id"]]["success"] is not None
    ], clips


def counts(found: Sequence[Judged], alpha: float) -> Counts:
    def number(*, yes: bool, won: bool) -> int:
        return sum((one.score > alpha) is yes and one.won is won for one in found)

    return Counts(
        number(yes=True, won=True),
        number(yes=True, won=False),
        number(yes=False, won=True),
        number(yes=False, won=False),
    )


def share(part: int, of: int) -> str:
    """'0.95', '' where there is nothing to be a part of."""
    return f"{part / of:.2f}" if of else ""


def rows(found: Sequence[Judged], alpha: float) -> list[list[str]]:
    """A row per task and one of all, the header first."""
    header = ["task", "clips", "succeeded", "accepted", "wrongly accepted", "wrongly refused", "precision", "recall"]
    tasks = list(dict.fromkeys(one.task for one in found))
    listed = [(task, [one for one in found if one.task == task]) for task in tasks]
    body = []
    for task, own in [*listed, *([("all", list(found))] if len(tasks) > 1 else [])]:
        one = counts(own, alpha)
        accepted, won = one.right_yes + one.wrong_yes, one.right_yes + one.wrong_no
        numbers = len(own), won, accepted, one.wrong_yes, one.wrong_no
        body.append([task, *map(str, numbers), one.precision, one.recall])
    return [header, *body]


def _order(found: Sequence[Judged]) -> str:
    from vlaw_models.metrics.calibration import auroc

    scores, won = _arrays(found)
    if won.all() or not won.any():
        return ""
    return f"A success outscores a failure with chance {auroc(scores, won):.2f} (AUC)."


def _plots(found: Sequence[Judged], alpha: float) -> list[Html]:
    from dataclasses import asdict

    from vlaw_models.metrics.calibration import calibration_curve, threshold_sweep

    scores, won = _arrays(found)
    cuts = sorted({alpha, *(number / THRESHOLDS for number in range(THRESHOLDS + 1))})
    sweep = [one.row() for one in threshold_sweep(scores, won, cuts)]
    dpi = SHARPER * plots.DPI
    return [
        plot(plots.calibration_plot(list(map(asdict, calibration_curve(scores, won))), dpi=dpi), "calibration"),
        plot(plots.threshold_plot(sweep, alpha, dpi=dpi), "precision, recall and false positives by threshold"),
    ]


def _arrays(found: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one.score for one in found]), np.array([one.won for one in found])


def _strips(subject: Subject, clips: ArtifactRef, found: Sequence[Judged], alpha: float) -> list[Html]:
    """The failures with the highest scores and the successes with the lowest."""
    by_score = sorted(found, key=lambda one: (one.score, one.row["episode_id"]))
    kinds = {
        "Failures that it likes best": [one for one in reversed(by_score) if not one.won][:WORST],
        "Successes that it likes least": [one for one in by_score if one.won][:WORST],
    }
    frames = frames_of(subject.lake, [(clips.owner, one.row["episode_id"]) for own in kinds.values() for one in own])
    said: list[Html] = []
    for title, own in kinds.items():
        said += [tag("h3", title)] if own else []
        for one in own:
            accepted = one.score > alpha
            verdict = f"{'accepted' if accepted else 'refused'}{'' if accepted is one.won else ', wrongly'}"
            images = frames.get((clips.owner, one.row["episode_id"]))
            drawn = rows_of_frames([moments(images)], f"{one.task}: {ending(one.row)}")
            words = [
                joined([tag("b", one.task), f" P(yes) {one.score:.2f}"]),
                joined([tag("b", ending(one.row)), f"; {verdict}"]),
                subject.episode(clips.owner, one.row),
            ]
            said.append(strip(words, drawn, success=one.won))
    return said
