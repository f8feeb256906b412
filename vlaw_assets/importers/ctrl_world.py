"""Ctrl-World's dataset layout: one JSON file and one video per camera for each episode, a pose for every frame.

    annotation/{train,val}/<episode>.json       states and commands (ctrl_world_annotation.py)
    videos/{train,val}/<episode>/<view>.mp4     the same T frames
    latent_videos/{train,val}/<episode>/<view>.pt   what an autoencoder made of them (ctrl_world_latents.py)

Conventions as for other recordings: the action of a control step is the last pose commanded within it; the last frame
has none. Latents are taken where a person says which autoencoder made them (`latents_of`): then a world model of that
autoencoder learns from them as they are.
Source: the Ctrl-World repository, dataset_example (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlaw_assets.importers import ctrl_world_latents, videos
from vlaw_assets.importers.base import Found, Latents, Read, Recordings, read_each, robot_of
from vlaw_assets.importers.cameras import check_shape
from vlaw_assets.importers.ctrl_world_annotation import Annotation, annotation
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import Folder
from vlaw_assets.importers.findings import Fault, Finding
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import POSE
from vlaw_models.robots.spec import RobotSpec

CALLED = "droid"
"""What the layout's recordings are of, where nobody names another robot."""
SPLITS = ("train", "val")
SHAPE = (192, 320)
"""(height, width) of the layout's videos."""
LOOKED_AT = 2
"""Episodes whose latents are decoded, of each two frames."""
NO_LATENTS = "latents"
"""Rule of a finding: the episode's frames are encoded, as if there were no latents."""


def open_recordings(path: Path, options: Options) -> Recordings:
    """The dataset in a folder that holds annotation/ and videos/. Raises VlawError for what is wrong."""
    if options.split and options.split not in SPLITS:
        raise VlawError(
            f"the layout has no split {options.split!r}", where=str(path), remedy=f"Use one of {', '.join(SPLITS)}."
        )
    if options.cameras:
        raise VlawError(
            f"the layout has no name for camera {next(iter(options.cameras))!r}: its videos are numbered",
            where=str(path),
            remedy="Leave --camera out: the videos are the robot's cameras in their order.",
        )
    splits = [split for split in SPLITS if options.split in ("", split)]
    remedy = "Give the folder that contains annotation/ and videos/."
    there = next((split for split in splits if (path.expanduser() / "annotation" / split).is_dir()), splits[0])
    folder = Folder.of(path, holds=f"annotation/{there}", remedy=remedy)
    names = [name for split in splits for name in sorted(folder.listed(f"annotation/{split}/*.json"), key=_number)]
    if not names:
        raise VlawError(
            f"this is not a dataset in Ctrl-World's layout: there is no annotation/{there}/*.json",
            where=str(folder.root),
            remedy=remedy,
        )
    robot = robot_of(options, called=CALLED, where=str(folder.root))
    size = options.size_for(robot)
    check_shape(robot, SHAPE, where=str(folder.root))
    reader = Reader(folder, names, robot, size, options.task)
    seen = [reader.look(number) for number in range(len(names))]
    latents = None
    if options.latents_of:
        reader, latents = _with_latents(reader, seen, options.latents_of)
    used = [path for one in seen for path in (*one.videos, *(one.latents if latents else ()))]
    return Recordings(
        "ctrl-world",
        folder.root,
        robot=robot,
        files=folder.sound({*names, *used}),
        index=[one.found for one in seen],
        read=reader,
        settings={"latents_of": latents.model} if latents else {},
        facts={"recorded_fps": robot.control_hz},
        understood={
            "robot": robot.name,
            "rate": f"{robot.control_hz:g} Hz",
            "actions": "the commands of each step"
            if robot.motion
            else f"the last command of each step, of those at {3 * robot.control_hz:g} Hz",
            **{f"camera {name}": f"video {view}" for view, name in enumerate(robot.camera_names)},
            **({"latents": f"as they are, for world models of autoencoder {latents.model[:12]}"} if latents else {}),
        },
        latents=latents,
    )


def _number(relative: str) -> tuple[int, str]:
    stem = Path(relative).stem
    return (int(stem) if stem.isdecimal() else -1, stem)


@dataclass(frozen=True)
class Looked:
    """What is kept of an annotation that was only looked at."""

    found: Found
    videos: tuple[str, ...] = ()
    latents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """Reads episodes by number, one at a time."""

    folder: Folder
    names: Sequence[str]
    robot: RobotSpec
    size: tuple[int, int]
    task: str
    latent_size: tuple[int, int] | None = None
    """(h, w) of latents that are wanted too; None: they are not."""

    def __call__(self, numbers: Sequence[int]) -> Iterator[Read]:
        return read_each(numbers, self._read, lambda number: self.folder.root / self.names[number])

    def look(self, number: int) -> Looked:
        name = self._name(number)
        try:
            one = self.annotation(number)
        except (Fault, VlawError):  # reading it says so
            return Looked(Found(number, name, 0))
        return Looked(Found(number, name, len(one.states), (one.instruction,)), one.videos, one.latents)

    def annotation(self, number: int) -> Annotation:
        """`Fault` where it is no episode, VlawError where it cannot be read."""
        found = self.folder.json(self.names[number], what="annotation")
        return annotation(found, Path(self.names[number]).stem, len(self.robot.cameras))

    def frames(self, one: Annotation, steps: Sequence[int], size: tuple[int, int]) -> np.ndarray:
        """(len(steps), V, height, width, 3) uint8 of the frames of these numbers."""
        views = [
            videos.read_frames(
                self.folder.open(path, what=f"video of view {view}"),
                len(one.states),
                fps=self.robot.control_hz,
                keep=np.asarray(steps),
                shape=SHAPE,
                image_size=size,
            )
            for view, path in enumerate(one.videos)
        ]
        return np.stack(views, axis=1)

    def latents(self, one: Annotation, size: tuple[int, int]) -> np.ndarray:
        """(T, 4, V*h, w) float16. `LatentsError` where they are not as they must be, VlawError where a file is not."""
        if not one.latents:
            raise ctrl_world_latents.LatentsError("the annotation names no latents")
        files = [self.folder.open(path, what=f"latents of view {view}") for view, path in enumerate(one.latents)]
        return ctrl_world_latents.read_latents(files, len(one.states), size)

    def kept(self, number: int) -> np.ndarray | None:
        """The latents of an episode that was read; None where it has none that can be used."""
        assert self.latent_size is not None
        try:
            return self.latents(self.annotation(number), self.latent_size)
        except (Fault, ctrl_world_latents.LatentsError, VlawError):  # its finding says why
            return None

    def _name(self, number: int) -> str:
        return "/".join(Path(self.names[number]).with_suffix("").parts[-2:])

    def _read(self, number: int) -> Read:
        one = self.annotation(number)
        states, actions = self._numbers(one)
        self.robot.check_numbers(states, actions, where=str(self.folder.root / self.names[number]))
        findings = [Finding(rule, text, "keep", number) for rule, text in one.notes]
        if not one.commanded and self.robot.motion is None:
            text = "it has no commands: the action of a step is the state that followed"
            findings.append(Finding("no_commands", text, "world_model_only", number))
        if self.latent_size is not None:
            findings += self._without_latents(number, one, self.latent_size)
        episode = Episode(
            task=self.task or one.instruction,
            instruction=one.instruction,
            seed=number,
            images=self.frames(one, range(len(one.states)), self.size),
            states=states,
            actions=actions,
            success=one.success,
            event="success" if one.success else "",
            cameras=self.robot.camera_names,
            control_hz=self.robot.control_hz,
            extra={"recorded_episode": self._name(number), "recorded_fps": self.robot.control_hz},
        )
        return Read(number, episode, tuple(findings))

    def _numbers(self, one: Annotation) -> tuple[np.ndarray, np.ndarray]:
        """States (T, D) and actions (T - 1, A) of the robot. `Fault` where it is commanded in what was not recorded."""
        commands = self.robot.commands
        if commands is None or commands.kind == POSE:
            return one.states, one.actions
        if one.joints is None or commands.kind not in one.joint_commands:
            raise Fault(f"robot {self.robot.name} is commanded in {commands}, which was not recorded", rule="numbers")
        return one.joints, one.joint_commands[commands.kind]

    def _without_latents(self, number: int, one: Annotation, size: tuple[int, int]) -> list[Finding]:
        try:
            self.latents(one, size)
        except (ctrl_world_latents.LatentsError, VlawError) as error:
            what = error.what if isinstance(error, VlawError) else str(error)
            return [Finding(NO_LATENTS, f"its frames are encoded: {what}", "keep", number)]
        return []


def _with_latents(reader: Reader, looked: Sequence[Looked], folder: str) -> tuple[Reader, Latents]:
    """A reader that reads latents too, once it is clear that the autoencoder in this folder made them."""
    where = str(reader.folder.root)
    if reader.size != SHAPE:
        raise VlawError(
            f"latents are of frames of {SHAPE[0]}x{SHAPE[1]} pixels, {reader.size[0]}x{reader.size[1]} are asked for",
            where=where,
            remedy=f"Leave --image-size out, or --latents-of; the robot's own frames are {reader.robot.frame_size}.",
        )
    model, autoencoder, size = ctrl_world_latents.autoencoder_of(Path(folder), SHAPE)
    compared = 0
    for one in looked:
        if not one.latents or compared == LOOKED_AT:
            continue
        try:
            read = reader.annotation(one.found.number)
            steps = [0, len(read.states) - 1]
            latents, frames = reader.latents(read, size)[steps], reader.frames(read, steps, SHAPE)
        except (Fault, ctrl_world_latents.LatentsError, VlawError):  # reading it says so
            continue
        ctrl_world_latents.check_made_by(autoencoder, latents, frames, where=f"{where}, episode {one.found.name}")
        compared += 1
    if not compared:
        raise VlawError(
            "no episode has latents that can be read", where=where, remedy="Leave --latents-of out: frames are encoded."
        )
    reader = replace(reader, latent_size=size)
    return reader, Latents(model, reader.kept)
