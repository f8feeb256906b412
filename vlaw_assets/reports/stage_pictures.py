"""The picture of each stage's asset page: a plot of its numbers and film strips of episodes, one PNG, 700 pixels wide.

From what the stage has at hand to bytes; where there is nothing to draw, None.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.reports import plots, stage_plots
from vlaw_models.film import WIDTH, Line, Strip, difference, even, film, moments, stacked
from vlaw_models.pictures import png_bytes

if TYPE_CHECKING:
    from vlaw_assets.reports.success import Rate
    from vlaw_models.episodes import Episode

STRIPS = 8
"""Film strips of one picture."""
CLIPS = 64
"""Replays whose error is drawn by step, at most."""
BLACK_DB = 100.0
"""PSNR of equal frames, as in the metrics."""


class WonAndLost:
    """The first success and the first failure of every task, with their frames, of episodes that come by."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, bool | None], Episode] = {}

    def __call__(self, episode: Episode) -> None:
        from dataclasses import replace

        key = (episode.task, episode.success)
        if key not in self._found:
            # The moments alone: a view would keep the whole batch.
            moments_kept = np.rint(np.linspace(0, len(episode.images) - 1, min(8, len(episode.images)))).astype(int)
            self._found[key] = replace(episode, images=np.stack([episode.images[at] for at in moments_kept]))

    @property
    def episodes(self) -> list[Episode]:
        """By task, successes first."""
        tasks = list(dict.fromkeys(task for task, _ in self._found))
        return sorted(self._found.values(), key=lambda one: (tasks.index(one.task), not one.success))


def evaluation(after: Mapping[str, Rate], before: Mapping[str, Rate], shown: Sequence[Episode]) -> bytes | None:
    """Bars of success per task, before and after where both are known; a won and a lost trial of every task."""
    if not after:
        return None
    columns = {"before": before, "after": after} if before else {"success": after}
    return _put([stage_plots.before_after(columns)], [_strip(episode) for episode in shown])


def rollouts(episodes: Iterable[Episode], shown: Sequence[Episode]) -> bytes | None:
    """How the episodes of each task ended, and a film strip of some."""
    counts: dict[str, Counter[str]] = {}
    for episode in episodes:
        counts.setdefault(episode.task, Counter())[_ending(episode)] += 1
    if not counts:
        return None
    return _put([stage_plots.kinds_of_events(counts)], [_strip(episode) for episode in shown[: STRIPS + 2]])


def imagined(pairs: Sequence[tuple[Episode, Episode]]) -> bytes | None:
    """Real episodes, and below each what was imagined from its first frame."""
    rows: list[Strip | Line] = []
    for real, made in pairs:
        rows += [_strip(real, "real: "), Strip(moments(made), [f"imagined: {made.task}", "not judged yet"])]
    return _put([], rows)


def scored(ranked: Sequence[tuple[float, bool | None]], episodes: Sequence[Episode], alpha: float) -> bytes | None:
    """Scores (P(yes), true outcome or None) of episodes as a histogram; film strips by falling score, a line at alpha.

    `episodes` belong to `ranked` one by one; only the frames of those that are drawn are read.
    """
    if not ranked:
        return None
    known = any(truth is not None for _, truth in ranked)
    groups: dict[str, list[float]] = {"truly succeeds": [], "truly fails": []} if known else {"imagined episodes": []}
    for score, truth in ranked:
        name = "imagined episodes" if not known else "truly succeeds" if truth else "truly fails"
        groups[name].append(score)
    rows: list[Strip | Line] = []
    chosen = chosen_by_score(ranked, [episode.task for episode in episodes], alpha)
    for number, index in enumerate(chosen):
        score, truth = ranked[index]
        if score <= alpha and (not number or ranked[chosen[number - 1]][0] > alpha):
            rows.append(Line(f"alpha {alpha:g}: below this line not accepted", (150, 60, 30)))
        said = [f"P(yes) {score:.2f}", *([] if truth is None else [f"truly {'succeeds' if truth else 'fails'}"])]
        rows.append(Strip(moments(episodes[index]), [episodes[index].task, *said], truth))
    return _put([stage_plots.scores(groups, alpha)], rows)


def chosen_by_score(ranked: Sequence[tuple[float, bool | None]], tasks: Sequence[str], alpha: float) -> list[int]:
    """Numbers of the episodes to show, by falling score: from the top to the bottom of those accepted, and of the
    others; where true outcomes are known, half of each side are those that the judge got wrong. Of every task some."""
    order = sorted(range(len(ranked)), key=lambda index: -ranked[index][0])
    shown: list[int] = []
    for accepted in (True, False):
        side = [index for index in order if (ranked[index][0] > alpha) is accepted]
        wrong = [index for index in side if ranked[index][1] is not None and ranked[index][1] is not accepted]
        right = [index for index in side if index not in set(wrong)]
        parts = [part for part in (right, wrong) if part]
        for part in parts:
            for place in range(STRIPS // 2 // len(parts)):
                target = place * len(part) * len(parts) * 2 // STRIPS
                free = [number for number in range(len(part)) if part[number] not in shown]
                used = Counter(tasks[index] for index in shown)
                if free:  # close to where it is looked for, rather of a task that is not there yet
                    shown.append(
                        part[min(free, key=lambda at: (abs(at - target) // 8, used[tasks[part[at]]], abs(at - target)))]
                    )
    return sorted(shown, key=lambda index: -ranked[index][0])


def replays(clips: Sequence[Episode], replayed: Sequence[Episode]) -> bytes | None:
    """PSNR by step of every camera, and for two clips what was recorded, what was replayed and the difference."""
    if not clips:
        return None
    cameras = clips[0].cameras or tuple(str(view) for view in range(clips[0].images.shape[1]))
    rows: list[Strip | Line] = []
    for index in sorted({0, len(clips) - 1}):
        real, made = clips[index], replayed[index]
        steps = even(len(made.images), 8)
        recorded, copied = ([np.asarray(one.images[step][0]) for step in steps] for one in (real, made))
        rows += [
            Strip(recorded, [real.task, "recorded", _ending(real)], real.success),
            Strip(copied, ["", "replayed in the", "world model"], real.success),
            Strip(
                [difference(*both) for both in zip(recorded, copied, strict=True)],
                ["", "difference, x 3"],
                real.success,
            ),
        ]
    errors = psnr_each_step(clips[:CLIPS], replayed[:CLIPS])
    return _put([stage_plots.psnr_by_step(dict(zip(cameras, errors, strict=True)))], rows)


def psnr_each_step(clips: Sequence[Episode], replayed: Sequence[Episode]) -> np.ndarray:
    """(V, clips, T) dB, of the frames after the first, over as many steps as every replay has."""
    steps = min(len(made.images) for made in replayed)
    found = []
    for real, made in zip(clips, replayed, strict=True):
        error = np.asarray(real.images[1:steps]).astype(np.float32) - np.asarray(made.images[1:steps])
        mean = np.square(error).mean(axis=(2, 3, 4))
        found.append(np.where(mean > 0, 10 * np.log10(255.0**2 / np.maximum(mean, 1e-12)), BLACK_DB))
    return np.minimum(np.stack(found), BLACK_DB).transpose(2, 0, 1)


def training(
    losses: Sequence[float], validation: Mapping[int, Rate], stop: int | None, shown: Sequence[Episode] = ()
) -> bytes | None:
    """Loss by update, success at the stopping points if it was measured, and some episodes that were learned from."""
    if not losses:
        return None
    drawn = stage_plots.training(losses, validation, stop) if validation else stage_plots.loss(losses)
    rows = [_strip(one, "real: " if one.success is not None else "imagined: ") for one in shown]
    return _put([drawn], [Line("learned from, among others"), *rows] if rows else [])


def members(tasks: Sequence[str], counted: Mapping[tuple[str, str], int]) -> bytes | None:
    """A training set's episodes per task, parted by source. `counted`: (task, source) -> episodes."""
    if not counted:
        return None
    every = dict.fromkeys([*tasks, *(task for task, _ in counted)])
    return stage_plots.composition(
        {task: {source: count for (name, source), count in counted.items() if name == task} for task in every}
    )


def iterations(columns: Mapping[str, Mapping[str, Rate]]) -> bytes | None:
    """Success after every update so far, with its band; below it the last one against the first, per task."""
    if not columns:
        return None
    first, last = next(iter(columns)), list(columns)[-1]
    ends = {name: columns[name] for name in dict.fromkeys((first, last))}
    return _put([stage_plots.success_over_iterations(columns), stage_plots.before_after(ends)], [])


def judge(
    bins: Sequence[Mapping[str, Any]],
    sweep: Sequence[Mapping[str, Any]],
    clips: Sequence[Episode],
    scores: Sequence[float] | np.ndarray,
    alpha: float,
) -> bytes | None:
    """How often a score comes true, every threshold, and the failures that the judge is surest of: its worst false
    positives."""
    if not len(clips):
        return None
    failed = [index for index in range(len(clips)) if not clips[index].success]
    worst = sorted(failed, key=lambda index: -scores[index])[: STRIPS - 2]
    rows: list[Strip | Line] = [Line("failures on the robot, the judge's highest scores first")] if worst else []
    for number, index in enumerate(worst):
        if scores[index] <= alpha and (not number or scores[worst[number - 1]] > alpha):
            rows.append(Line(f"alpha {alpha:g}: below this line not accepted", (150, 60, 30)))
        clip = clips[index]
        rows.append(Strip(moments(clip), [clip.task, f"P(yes) {scores[index]:.2f}", _ending(clip)], clip.success))
    return _put([_beside(plots.calibration_plot(bins), plots.threshold_plot(sweep, alpha))], rows)


def _strip(episode: Episode, begin: str = "") -> Strip:
    words = [begin + episode.task, *([] if episode.success is None else [_ending(episode)])]
    if episode.instruction and episode.instruction != episode.task:
        words.append(f'"{episode.instruction}"')
    return Strip(moments(episode), words, episode.success)


def _ending(episode: Episode) -> str:
    if episode.success is None:
        return "not judged"
    return "success" if episode.success else episode.event.replace("_", " ") or "failure"


def _beside(*drawn: bytes) -> bytes:
    """Plots of about one height next to one another, as wide together as the others."""
    from PIL import Image

    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in drawn]
    scale = WIDTH / sum(image.width * images[0].height / image.height for image in images)
    height = round(images[0].height * scale)
    images = [
        image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS) for image in images
    ]
    sheet, left = Image.new("RGB", (WIDTH, height), "white"), 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width
    return png_bytes(sheet)


def _put(drawn: Sequence[bytes], rows: Sequence[Strip | Line]) -> bytes | None:
    """Plots, then strips, one picture; a plot alone stays as it is."""
    from PIL import Image

    if len(drawn) == 1 and not rows:
        return drawn[0]
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in drawn] + ([film(rows)] if rows else [])
    return png_bytes(stacked(images)) if images else None
