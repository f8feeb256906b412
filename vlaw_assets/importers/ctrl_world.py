"""Ctrl-World's dataset layout: one JSON file and one video per camera for each episode, a pose for every frame.

    annotation/{train,val}/<episode>.json   texts, success, states (T, 7), the commands at the robot's own rate
    videos/{train,val}/<episode>/<view>.mp4 the same T frames

Conventions as for other recordings: the action of a control step is the last pose commanded within it; the last frame
has none. Latents that lie beside the videos (`.pt`, pickles) are not read.
Source: the Ctrl-World repository, dataset_example (MIT).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlaw_assets.importers import videos
from vlaw_assets.importers.base import UNNAMED_TASK, Found, Read, Recordings, robot_of
from vlaw_assets.importers.cameras import check_shape
from vlaw_assets.importers.description import Options
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec

CALLED = "droid"
"""What the layout's recordings are of, where nobody names another robot."""
SPLITS = ("train", "val")
SHAPE = (192, 320)
"""(height, width) of the layout's videos."""
POSE = 7
"""x, y, z (metres), roll, pitch, yaw (radians), gripper (0 open to 1 closed)."""
REMEDY = "Copy the episode again, or remove its file from annotation/."
MAX_BYTES = 64 * 2**20
"""A larger annotation is no episode."""


@dataclass(frozen=True)
class Annotation:
    """One episode's JSON file, checked."""

    path: Path
    name: str
    """"train/0"."""
    instruction: str
    success: bool | None
    states: np.ndarray
    """(T, 7) float32."""
    commands: np.ndarray
    """(T - 1, 7) float32: the last pose commanded in each control step."""
    videos: tuple[Path, ...]


def open_recordings(path: Path, options: Options) -> Recordings:
    """The dataset in a folder that holds annotation/ and videos/. Raises VlawError for what is wrong."""
    root = path.expanduser().resolve()
    if options.split and options.split not in SPLITS:
        raise VlawError(
            f"the layout has no split {options.split!r}", where=str(root), remedy=f"Use one of {', '.join(SPLITS)}."
        )
    if options.cameras:
        raise VlawError(
            f"the layout has no name for camera {next(iter(options.cameras))!r}: its videos are numbered",
            where=str(root),
            remedy="Leave --camera out: the videos are the robot's cameras in their order.",
        )
    splits = [split for split in SPLITS if options.split in ("", split)]
    files = [file for split in splits for file in sorted((root / "annotation" / split).glob("*.json"), key=_number)]
    if not files:
        raise VlawError(
            f"this is not a dataset in Ctrl-World's layout: there is no annotation/{splits[0]}/*.json",
            where=str(root),
            remedy="Give the folder that contains annotation/ and videos/.",
        )
    robot = robot_of(options, called=CALLED, where=str(root))
    annotations = [_annotation(root, file, robot) for file in files]
    size = options.size_for(robot)
    check_shape(robot, SHAPE, where=str(root))
    return Recordings(
        "ctrl-world",
        root,
        robot=robot,
        files=sorted({*files, *(video for annotation in annotations for video in annotation.videos)}),
        index=[
            Found(number, annotation.name, len(annotation.states), (annotation.instruction,))
            for number, annotation in enumerate(annotations)
        ],
        read=partial(_read, annotations, robot, size, options.task),
        facts={"recorded_fps": robot.control_hz},
        understood={"robot": robot.name, "rate": f"{robot.control_hz:g} Hz"}
        | {f"camera {name}": f"video {view}" for view, name in enumerate(robot.camera_names)},
    )


def _read(
    annotations: Sequence[Annotation], robot: RobotSpec, size: tuple[int, int], task: str, numbers: Sequence[int]
) -> Iterator[Read]:
    for number in numbers:
        yield Read(number, _episode(number, annotations[number], robot, size, task))


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdecimal() else -1, path.stem)


def _annotation(root: Path, path: Path, robot: RobotSpec) -> Annotation:
    def wrong(what: str) -> VlawError:
        return VlawError(what, where=str(path), remedy=REMEDY)

    if path.stat().st_size > MAX_BYTES:
        raise wrong(f"the file has {path.stat().st_size} bytes, more than any episode")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise wrong(f"the file cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise wrong("the file holds no episode")
    states = _numbers(found, "states", POSE, path)
    commands = np.concatenate(
        [
            _numbers(found, "action.cartesian_position", POSE - 1, path),
            _numbers(found, "action.gripper_position", 1, path),
        ],
        axis=1,
    )
    length = len(states)
    stride = round(len(commands) / length)
    if length < 2 or stride < 1 or not (length - 1) * stride < len(commands) <= length * stride:
        raise wrong(f"{len(commands)} commands do not fit {length} states: their rates have no whole ratio")
    texts = found.get("texts")
    if not isinstance(texts, list) or len(texts) != 1 or not isinstance(texts[0], str):
        raise wrong(f"texts is {str(texts)[:80]}, which is not one instruction")
    success = found.get("success")
    if success is not None and (isinstance(success, float) or success not in (0, 1)):
        raise wrong(f"success is {success!r}: labels are 1 or 0")
    actions = commands[np.arange(1, length) * stride - 1]
    robot.check_numbers(states, actions, where=str(path))
    return Annotation(
        path,
        f"{path.parent.name}/{path.stem}",
        texts[0].strip() or UNNAMED_TASK,
        None if success is None else bool(success),
        states,
        actions,
        tuple(_video(root, path, found, view) for view in range(len(robot.cameras))),
    )


def _numbers(found: dict[str, Any], key: str, width: int, path: Path) -> np.ndarray:
    """(rows, width) float32."""
    try:
        values = np.asarray(found.get(key), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VlawError(f"{key} is not a table of numbers", where=str(path), remedy=REMEDY) from error
    values = values[:, None] if values.ndim == 1 and width == 1 else values
    if values.ndim != 2 or values.shape[1] != width:
        raise VlawError(f"{key} has shape {values.shape}, must be (rows, {width})", where=str(path), remedy=REMEDY)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise VlawError(f"{key} is NaN or infinite in row {bad[0][0]}", where=str(path), remedy=REMEDY)
    return values


def _video(root: Path, path: Path, found: dict[str, Any], view: int) -> Path:
    """The video of one view, which must lie inside the dataset."""
    try:
        relative = found["videos"][view]["video_path"]
    except (KeyError, IndexError, TypeError) as error:
        raise VlawError(f"no video is named for view {view}", where=str(path), remedy=REMEDY) from error
    file = (root / str(relative)).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise VlawError(
            f"the video of view {view} is missing, or outside of the dataset: {str(relative)[:120]}",
            where=str(path),
            remedy=REMEDY,
        )
    return file


def _episode(number: int, annotation: Annotation, robot: RobotSpec, size: tuple[int, int], task: str) -> Episode:
    length = len(annotation.states)
    views = [_frames(file, length, robot.control_hz, size) for file in annotation.videos]
    return Episode(
        task=task or annotation.instruction,
        instruction=annotation.instruction,
        seed=number,
        images=np.stack(views, axis=1),
        states=annotation.states,
        actions=annotation.commands,
        success=annotation.success,
        event="success" if annotation.success else "",
        cameras=robot.camera_names,
        control_hz=robot.control_hz,
        extra={"recorded_episode": annotation.name, "recorded_fps": robot.control_hz},
    )


def _frames(file: Path, length: int, rate: float, size: tuple[int, int]) -> np.ndarray:
    try:
        return videos.read_frames(
            file.open("rb"), length, fps=rate, keep=np.arange(length), shape=SHAPE, image_size=size
        )
    except videos.VideoError as error:
        raise videos.refusal(error, str(file)) from error
