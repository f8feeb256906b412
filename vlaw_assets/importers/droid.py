"""DROID as it was recorded: a folder per episode with an HDF5 trajectory, its metadata and a video of each camera.

    <anywhere>/metadata_<uuid>.json         success, current_task, the serial number of each camera
    <anywhere>/trajectory.h5                states and targets, a row per step
    <anywhere>/recordings/MP4/<serial>.mp4  a frame per row, 1280 x 720
    aggregated-annotations*.json            optional, in the folder that is imported: instructions by uuid

Frame k of a video belongs to row k. Sources: DROID's documentation of the raw dataset, and its trajectory writer (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers import videos
from vlaw_assets.importers.base import UNNAMED_TASK, Found, Read, Recordings, read_each, robot_of
from vlaw_assets.importers.cameras import check_shape
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.droid_trajectory import ACTIONS, STATES, Trajectory, read_trajectory, require_h5py
from vlaw_assets.importers.files import Folder, shown
from vlaw_assets.importers.findings import Fault, Finding
from vlaw_assets.importers.numbers import check_rate, control_steps
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import POSE
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    from pathlib import Path

CALLED = "droid"
RATE = 15.0
"""Rows per second."""
SHAPE = (720, 1280)
"""(height, width) of the videos."""
SERIALS = {"exterior_1": "ext1", "exterior_2": "ext2", "wrist": "wrist"}
"""The robot's camera -> what the metadata call it."""
INSTRUCTIONS = ("language_instruction1", "language_instruction2", "language_instruction3")


def open_recordings(path: Path, options: Options) -> Recordings:
    """The episodes below a folder. Raises VlawError for what is wrong with all of them, and where h5py is missing."""
    require_h5py()
    folder = Folder.of(path, holds=".", remedy="Give the folder that the episodes lie in.")
    names = folder.listed("**/metadata_*.json")
    if not names:
        raise VlawError(
            "there is no metadata_*.json, so no episode of DROID as it was recorded",
            where=str(folder.root),
            remedy="Give the folder that the episodes lie in.",
        )
    robot = robot_of(options, called=CALLED, where=str(folder.root))
    rate = options.rate or RATE
    cameras = _cameras(robot, options.cameras, where=str(folder.root))
    size = options.size_for(robot)
    check_shape(robot, SHAPE, where=str(folder.root))
    reader = Reader(folder, names, robot, size, options.task, rate, cameras, _instructions(folder))
    files = {name for number in range(len(names)) for name in reader.files(number)}
    return Recordings(
        "droid",
        folder.root,
        robot=robot,
        files=folder.sound(files),
        index=[reader.found(number) for number in range(len(names))],
        read=reader,
        settings={"cameras": dict(cameras), "rate": rate},
        facts={"recorded_fps": rate},
        understood={
            "robot": robot.name,
            "rate": check_rate(rate, robot, where=str(folder.root)),
            "state": f"{STATES[kind_of(robot)][0]} and gripper_position",
            "action": f"{ACTIONS[kind_of(robot)][0]} and gripper_position, absolute targets"
            if robot.motion is None
            else f"{ACTIONS[kind_of(robot)][0]} and gripper_position, every row",
            "label": "success of the metadata",
            **{f"camera {name}": f"recordings/MP4 of {key}_cam_serial" for name, key in cameras.items()},
        },
    )


def kind_of(robot: RobotSpec) -> str:
    """In what the robot is commanded, of the kinds that a trajectory has."""
    return POSE if robot.commands is None else robot.commands.kind


def _cameras(robot: RobotSpec, given: Mapping[str, str], *, where: str) -> dict[str, str]:
    """The robot's camera -> its name in the metadata."""
    found = dict(given) or {name: SERIALS.get(name, "") for name in robot.camera_names}
    wrong = [name for name in robot.camera_names if found.get(name) not in SERIALS.values()]
    if wrong or set(found) != set(robot.camera_names):
        raise VlawError(
            f"which video is camera {(wrong or sorted(set(found) - set(robot.camera_names)))[0]!r} of robot "
            f"{robot.name!r} is not clear",
            where=where,
            remedy="Say so for each camera: --camera NAME=ext1, ext2 or wrist.",
        )
    return {name: found[name] for name in robot.camera_names}


def _instructions(folder: Folder) -> dict[str, tuple[str, ...]]:
    """uuid -> all instructions that people wrote, where the dataset's own file of them is there."""
    found: dict[str, tuple[str, ...]] = {}
    for name in folder.listed("aggregated-annotations*.json"):
        content = folder.json(name, what="file of instructions")
        for uuid, said in content.items() if isinstance(content, dict) else ():
            texts = [said.get(key) for key in INSTRUCTIONS] if isinstance(said, dict) else []
            kept = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
            if kept:
                found[str(uuid)] = kept
    return found


@dataclass(frozen=True)
class Reader:
    """Reads episodes by number, one at a time."""

    folder: Folder
    names: Sequence[str]
    """Of the metadata files."""
    robot: RobotSpec
    size: tuple[int, int]
    task: str
    rate: float
    cameras: Mapping[str, str]
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, numbers: Sequence[int]) -> Iterator[Read]:
        return read_each(numbers, self._read, lambda number: self.folder.root / self.names[number])

    def found(self, number: int) -> Found:
        """As the metadata tell; without a length where they are no metadata."""
        try:
            said = self._metadata(number)
        except (Fault, VlawError):  # reading it says so
            return Found(number, self.names[number], 0)
        rows = said.get("trajectory_length")
        return Found(number, self._called(number, said), rows if isinstance(rows, int) else 0, self._texts(said))

    def files(self, number: int) -> list[str]:
        """Relative paths of all files of an episode, whether they are there or not."""
        try:
            said = self._metadata(number)
            return [self.names[number], self._beside(number, "trajectory.h5"), *self._videos(number, said)]
        except (Fault, VlawError):
            return [self.names[number]]

    def _metadata(self, number: int) -> dict[str, Any]:
        found = self.folder.json(self.names[number], what="metadata")
        if not isinstance(found, dict):
            raise Fault(f"{shown(found)} is no metadata", rule="metadata")
        return found

    def _beside(self, number: int, name: str) -> str:
        return (PurePosixPath(self.names[number]).parent / name).as_posix()

    def _called(self, number: int, said: Mapping[str, Any]) -> str:
        uuid = said.get("uuid")
        return uuid if isinstance(uuid, str) and uuid else self.names[number]

    def _texts(self, said: Mapping[str, Any]) -> tuple[str, ...]:
        """All instructions, those that people wrote afterwards first."""
        task = said.get("current_task")
        own = (task.strip(),) if isinstance(task, str) and task.strip() else ()
        return self.instructions.get(str(said.get("uuid")), ()) + own

    def _videos(self, number: int, said: Mapping[str, Any]) -> list[str]:
        """Relative path of the video of each of the robot's cameras."""
        paths = []
        for name, key in self.cameras.items():
            serial = said.get(f"{key}_cam_serial")
            if not isinstance(serial, str | int) or not str(serial).isalnum():
                raise Fault(
                    f"{key}_cam_serial is {shown(serial)}: the video of camera {name} is not known", rule="metadata"
                )
            paths.append(self._beside(number, f"recordings/MP4/{serial}.mp4"))
        return paths

    def _success(self, number: int, said: Mapping[str, Any]) -> bool | None:
        found = said.get("success")
        if found is not None and not isinstance(found, bool):
            raise Fault(f"success is {shown(found)}: labels are true or false", rule="success")
        folders = {"success": True, "failure": False}
        by_folder = {folders[part] for part in PurePosixPath(self.names[number]).parts if part in folders}
        if found is not None and by_folder and by_folder != {found}:
            raise Fault(f"success is {found}, and the folder says otherwise", rule="success")
        return found if found is not None else by_folder.pop() if len(by_folder) == 1 else None

    def _read(self, number: int) -> Read:
        said = self._metadata(number)
        with self.folder.open(self._beside(number, "trajectory.h5"), what="trajectory") as file:
            trajectory = read_trajectory(file, self.rate, kind_of(self.robot))
        steps = control_steps(trajectory.times, self.rate, self.robot.control_hz)
        states = steps.states(trajectory.states, self.robot.state)
        actions = steps.targets(trajectory.actions, trajectory.states, "absolute", self.robot)
        self.robot.check_numbers(states, actions, where=str(self.folder.root / self.names[number]))
        texts, success = self._texts(said), self._success(number, said)
        instruction = texts[0] if texts else UNNAMED_TASK
        views = [self._frames(path, trajectory, steps.rows) for path in self._videos(number, said)]
        episode = Episode(
            task=self.task or instruction,
            instruction=instruction,
            seed=number,
            images=np.stack(views, axis=1),
            states=states,
            actions=actions,
            success=success,
            event="success" if success else "",
            cameras=self.robot.camera_names,
            control_hz=self.robot.control_hz,
            extra={
                "recorded_episode": self._called(number, said),
                "recorded_fps": self.rate,
                **({"instructions": list(texts)} if len(texts) > 1 else {}),
            },
        )
        return Read(number, episode, tuple(self._notes(number, said, trajectory)))

    def _frames(self, path: str, trajectory: Trajectory, keep: np.ndarray) -> np.ndarray:
        video = videos.Video(self.folder.open(path, what="video"), SHAPE)
        try:
            rows = len(trajectory.states)
            if video.count and video.count < rows:
                raise videos.VideoError(f"{path} has {video.count} frames for {rows} rows", video.count, "video_time")
            return video.read(0.0, rows, video.rate, keep.tolist(), self.size)
        finally:
            video.close()

    def _notes(self, number: int, said: Mapping[str, Any], trajectory: Trajectory) -> Iterator[Finding]:
        rows, declared = len(trajectory.states), said.get("trajectory_length")
        if isinstance(declared, int) and declared != rows:
            yield Finding("length", f"trajectory_length is {declared}, there are {rows} rows", "keep", number)
        if trajectory.skipped:
            what = f"{trajectory.skipped} of {rows} rows say skip_action: the robot was not being led there"
            yield Finding("skip_action", what, "keep", number)
