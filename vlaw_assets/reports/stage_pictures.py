"""The picture of each stage's asset page: a plot of its numbers and film strips of episodes, one PNG, 700 pixels wide.

From what the stage has at hand to bytes; where there is nothing to draw, None.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vlaw_assets.reports import plots, stage_plots
from vlaw_models.film import WIDTH, Line, Strip, difference, even, film, moments, stacked
from vlaw_models.pictures import png_bytes

if TYPE_CHECKING:
    from vlaw_assets.reports.success import Rate
    from vlaw_models.episodes import Episode

STRIPS = 8
"""Film strips of one picture."""
NEAR = 8
"""How far from where it is looked for a shown episode may be, in order of scores, to be of another task."""
ALPHA = (150, 60, 30)
"""Colour of the line at the threshold."""
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


class Scored(NamedTuple):
    """An imagined episode and what the judge says of it."""

    episode_id: str
    task: str
    score: float
    """P(yes)."""
    truth: bool | None = None
    """Whether its actions truly succeed; None where that was not measured."""


def scored(found: Sequence[Scored], alpha: float, read: Callable[[Sequence[str]], Iterable[Episode]]) -> bytes | None:
    """The scores as a histogram, and film strips by falling score with a line at alpha. `read`: ids -> episodes with
    frames; asked for those that are drawn alone."""
    if not found:
        return None
    known = any(one.truth is not None for one in found)
    groups: dict[str, list[float]] = {"truly succeeds": [], "truly fails": []} if known else {"imagined episodes": []}
    for one in found:
        name = "imagined episodes" if not known else "truly succeeds" if one.truth else "truly fails"
        groups[name].append(one.score)
    chosen = chosen_by_score(found, alpha)
    episodes = {episode.episode_id: episode for episode in read([one.episode_id for one in chosen])}
    rows: list[Strip | Line] = []
    for number, one in enumerate(chosen):
        if one.score <= alpha and (not number or chosen[number - 1].score > alpha):
            rows.append(Line(f"alpha {alpha:g}: below this line not accepted", ALPHA))
        said = [] if one.truth is None else [f"truly {'succeeds' if one.truth else 'fails'}"]
        rows.append(Strip(moments(episodes[one.episode_id]), [one.task, f"P(yes) {one.score:.2f}", *said], one.truth))
    return _put([stage_plots.scores(groups, alpha)], rows)


def chosen_by_score(found: Sequence[Scored], alpha: float) -> list[Scored]:
    """Those to show, by falling score: from the top to the bottom of what is accepted, and of the others; where true
    outcomes are known, half of each side are those that the judge got wrong. Of every task some."""
    ordered, shown = sorted(found, key=lambda one: -one.score), list[Scored]()
    for accepted in (True, False):
        side = [one for one in ordered if (one.score > alpha) is accepted]
        wrong = [one for one in side if one.truth is not None and one.truth is not accepted]
        right = [one for one in side if one.truth is None or one.truth is accepted]
        parts = [part for part in (right, wrong) if part]
        for part in parts:
            for place in range(STRIPS // 2 // len(parts)):
                target = place * len(part) * len(parts) * 2 // STRIPS
                used, taken = Counter(one.task for one in shown), {one.episode_id for one in shown}
                near = range(max(0, target - NEAR), min(len(part), target + NEAR))
                if free := [at for at in near if part[at].episode_id not in taken]:  # rather of a task not there yet
                    shown.append(part[min(free, key=lambda at: (used[part[at].task], abs(at - target)))])
    return sorted(shown, key=lambda one: -one.score)


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
            rows.append(Line(f"alpha {alpha:g}: below this line not accepted", ALPHA))
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
