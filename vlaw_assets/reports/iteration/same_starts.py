"""The same starts before and after: moving clips side by side, chosen by a rule that is stated beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from vlaw_assets.lake.picking import Key, Picked, pick
from vlaw_assets.reports.episodes.clips import Pictures, pictures_of
from vlaw_assets.reports.episodes.pairs import Pairs, pairs
from vlaw_assets.reports.iteration.frames import counted, ending, moments, outcome, rows_of_frames
from vlaw_assets.reports.iteration.subject import Section, Subject
from vlaw_assets.reports.markup import Html, code, data_of, joined, note, table, tag
from vlaw_models.errors import VlawError
from vlaw_models.mp4 import LEAST_HEIGHT, encode_mp4, side_by_side

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

BEFORE, AFTER = "before", "after"
ONLY_AFTER, ONLY_BEFORE, BOTH_LOST, BOTH_WON = "only after won", "only before won", "both lost", "both won"
WANTED = (ONLY_AFTER, ONLY_AFTER, ONLY_BEFORE, BOTH_LOST)
"""The group of each clip."""
INSTEAD = (ONLY_AFTER, ONLY_BEFORE, BOTH_LOST, BOTH_WON)
"""Where a group has no start left, the first of these that has one."""
RULE = (
    "Chosen by rule: two starts that only the policy after won, one that only the policy before won, one that both "
    "lost; where there is none, the next kind that there is. Of each kind a start of a task that is not shown yet, the "
    "one with the smallest seed."
)
PARTING, BLOCK = 4, 16
"""Fewest pixels between the two; and of what the sides of a clip are multiples: then its bytes depend on its frames
alone (see encode_mp4)."""
MOST_HEIGHT = 480
"""Pixels of both together."""


def section(subject: Subject) -> Section | None:
    """None where one of the two was not evaluated, or they share no start."""
    before, after = subject.current("start_evaluation"), subject.current("policy_evaluation")
    found = _pairs(subject, before, after) if before and after else None
    if found is None or before is None or after is None:
        return None
    chosen = choose(found)
    shown = pick(subject.lake, list(chain.from_iterable(pair for _, pair in chosen)), images=False)
    frames = {one.item.key: one for part in pictures_of(subject.lake, shown, redraw=True) for one in part}
    counts = [list(found.groups), [str(len(listed)) for listed in found.groups.values()]]
    body = joined(
        [
            table(counts),
            tag("div", *(_clip(subject, name, pair, shown, frames) for name, pair in chosen), cls="clips"),
            note(RULE, " ", *_said(frames)),
            note(
                "All of them: ", code(_command(subject)), "; ", subject.artifact(before), ", ", subject.artifact(after)
            ),
        ]
    )
    gained, lost = len(found.groups[ONLY_AFTER]), len(found.groups[ONLY_BEFORE])
    return Section("starts", "The same starts, before and after", f"{gained} gained, {lost} lost", body)


def _pairs(subject: Subject, before: ArtifactRef, after: ArtifactRef) -> Pairs | None:
    try:
        return pairs(subject.lake, before, after, (BEFORE, AFTER))
    except VlawError:  # one policy twice, or other starts
        return None


def choose(found: Pairs) -> list[tuple[str, tuple[Key, Key]]]:
    """(group, episodes before and after) by `RULE`; fewer where there are fewer starts."""
    left = {name: list(listed) for name, listed in found.groups.items()}
    used: dict[str, int] = {}
    chosen = []
    for wanted in WANTED:
        name = next((group for group in (wanted, *INSTEAD) if left[group]), None)
        if name is None:
            break
        pair = min(left[name], key=lambda one: (used.get(found.starts[one][0], 0), found.starts[one][1], one))
        left[name].remove(pair)
        task = found.starts[pair][0]
        used[task] = used.get(task, 0) + 1
        chosen.append((name, pair))
    return chosen


def _clip(
    subject: Subject,
    name: str,
    pair: tuple[Key, Key],
    shown: Mapping[Key, Picked],
    frames: Mapping[Key, Pictures],
) -> Html:
    items = [shown[key] for key in pair]
    won = name in (ONLY_BEFORE, BOTH_WON), name in (ONLY_AFTER, BOTH_WON)
    task, seed = items[1].episode.task, items[1].episode.seed
    captions = [
        tag("p", tag("b", side), f": {ending(row)} ", subject.episode(item.key[0], row), cls=outcome(success=success))
        for side, item, success in zip((BEFORE, AFTER), items, won, strict=True)
        for row in [counted(item.row, success=success)]
    ]
    said = f'"{items[1].episode.instruction}"' if items[1].episode.instruction not in ("", task) else ""
    title = tag("p", tag("b", f"{task}, {name}"), f" {said} seed {seed}")
    first, second = (frames[key].images for key in pair)
    if first is None or second is None:
        return tag("figure", title, *captions, note("No frames were kept."))
    film = encode_mp4(together(first, second), items[1].episode.control_hz, most_height=MOST_HEIGHT)
    still = rows_of_frames([moments(first), moments(second)], f"moments of {task}, before and after")
    video = tag(
        "video",
        src=data_of(film, "video/mp4"),
        controls="",
        loop="",
        muted="",
        autoplay="",
        playsinline="",
        aria_label=f"{task}, seed {seed}, before above after",
    )
    return tag("figure", title, captions[0], video, tag("div", still, cls="on-paper"), captions[1])


def together(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two episodes (T, V, h, w, 3) as one clip (T, H, W, 3): all cameras of the one above those of the other, on white;
    the shorter one stands still at its end. Small frames are enlarged as they would be alone."""
    both = [side_by_side(images) for images in (first, second)]
    larger = max(1, -(-LEAST_HEIGHT // both[0].shape[1]))
    steps, (height, width) = max(map(len, both)), (larger * side for side in both[0].shape[1:3])
    gap = PARTING + -(2 * height + PARTING) % BLOCK
    clip = np.full((steps, 2 * height + gap, width + -width % BLOCK, 3), 255, np.uint8)
    for images, top in zip(both, (0, height + gap), strict=True):
        enlarged = images.repeat(larger, axis=1).repeat(larger, axis=2)
        clip[: len(images), top : top + height, :width] = enlarged
        clip[len(images) :, top : top + height, :width] = enlarged[-1]
    return clip


def _said(frames: Mapping[Key, Pictures]) -> Sequence[str]:
    """What is to be said of the frames of these clips, each once."""
    return [f"{said} " for said in dict.fromkeys(one.said for one in frames.values() if one.said)]


def _command(subject: Subject) -> str:
    last = subject.iteration - 1
    before = f"{subject.experiment}/{last:02d}" if last else "base_policy"
    return f"vlaw compare policy {before} {subject.experiment}/{subject.iteration:02d} --open"
