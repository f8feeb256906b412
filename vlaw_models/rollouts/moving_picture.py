"""`python -m vlaw_models.rollouts.moving_picture FILE.gif`: a policy on the robot, and in the world model from the same
starts.

The shipped base policy and world model, as they are before the loop begins, on the robot that they are for. Of each
task the first success on the robot
is shown, and what the world model made of its first frame: the policy acts in both, by what it sees there, with noise
of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlaw_models.config import ImagineConfig, RolloutConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.pictures import fit
from vlaw_models.presets import foundation
from vlaw_models.robots.registry import DEFAULT, find_robot
from vlaw_models.robots.spec import EXTERIOR, WRIST
from vlaw_models.rollouts.collect import collect_rollouts
from vlaw_models.rollouts.imagine import imagine

ROBOT = find_robot(DEFAULT)
TRIES = 10
"""Rollouts per task among which a success is looked for."""
SHOWN = ROBOT.cameras_of((EXTERIOR, WRIST))
"""One camera beside the table, and the one at the wrist."""
SCALE, GAP, CAPTION, SIDE = 2, 8, 22, 24
FRAME_MS, LAST_FRAME_MS = round(1000 / ROBOT.control_hz), 2000
"""The robot's own speed; the end is held."""
COLOURS = 128
INK = (40, 44, 52)


def successes(tasks: Sequence[str]) -> list[Episode]:
    """The first successful rollout of each task. Raises VlawError for a task without one."""
    policy = foundation("tiny", "base_policy")
    found = []
    for task in tasks:
        cfg = RolloutConfig(episodes_per_task=TRIES)
        rolled = collect_rollouts(policy, [task], cfg, robot=ROBOT, iteration=1, seed=0)
        won = next((episode for batch in rolled for episode in batch if episode.success), None)
        if won is None:
            raise VlawError(
                f"none of {TRIES} rollouts succeeds", where=f"task {task}", remedy="Show other tasks: --tasks."
            )
        found.append(won)
    return found


def imagined_from(episodes: Sequence[Episode]) -> list[Episode]:
    """The same policy in the world model, from the first frame of each episode."""
    starts = [
        Start(episode.task, episode.seed, episode.instruction, episode.images[0], episode.states[0])
        for episode in episodes
    ]
    policy, world_model, autoencoder = (
        foundation("tiny", kind) for kind in ("base_policy", "world_model", "autoencoder")
    )
    batches = imagine(policy, world_model, autoencoder, starts, ImagineConfig(), robot=ROBOT, seed=0)
    return [episode for batch in batches for episode in batch]


def frames_of(real: Sequence[Episode], imagined: Sequence[Episode]) -> list[Image.Image]:
    """One picture per control step: a column per pair of episodes, the robot above, the world model below."""
    steps = max(len(episode.images) for episode in [*real, *imagined])
    return [_picture(real, imagined, step) for step in range(steps)]


def save(frames: Sequence[Image.Image], path: Path) -> None:
    """Writes a GIF that repeats for ever. One palette for all frames, so that nothing flickers."""
    sample = np.concatenate([np.asarray(frame) for frame in frames[:: max(1, len(frames) // 8)]])
    palette = Image.fromarray(sample).quantize(COLOURS)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    lasting = [FRAME_MS] * len(others) + [LAST_FRAME_MS]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=lasting, loop=0, optimize=True)


def _picture(real: Sequence[Episode], imagined: Sequence[Episode], step: int) -> Image.Image:
    rows = [[_cell(episode, step) for episode in episodes] for episodes in (real, imagined)]
    width, height = rows[0][0].size
    font = ImageFont.load_default(size=14)
    picture = Image.new("RGB", (SIDE + len(real) * (width + GAP), CAPTION + 2 * (height + GAP)), "white")
    draw = ImageDraw.Draw(picture)
    for column, episode in enumerate(real):
        text = fit(f"“{episode.instruction}”", width, draw, font)
        draw.text((SIDE + column * (width + GAP), 3), text, fill=INK, font=font)
    for row, name in enumerate(("robot", "imagined")):
        top = CAPTION + row * (height + GAP)
        label = Image.new("RGB", (height, SIDE), "white")
        pen = ImageDraw.Draw(label)
        pen.text(((height - pen.textlength(name, font=font)) / 2, 2), name, fill=INK, font=font)
        picture.paste(label.rotate(90, expand=True), (0, top))
        for column, cell in enumerate(rows[row]):
            picture.paste(cell, (SIDE + column * (width + GAP), top))
    return picture


def _cell(episode: Episode, step: int) -> Image.Image:
    views = episode.images[min(step, len(episode.images) - 1)]
    seen = np.concatenate([views[episode.cameras.index(camera)] for camera in SHOWN], axis=1)
    return Image.fromarray(seen).resize((seen.shape[1] * SCALE, seen.shape[0] * SCALE), Image.Resampling.NEAREST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the picture; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m vlaw_models.rollouts.moving_picture", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.gif", help="picture to write")
    parser.add_argument("--tasks", nargs="+", default=list(ROBOT.tasks), metavar="TASK", help="default: all")
    options = parser.parse_args(arguments)
    try:
        real = successes(options.tasks)
        save(frames_of(real, imagined_from(real)), options.file)
    except VlawError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
