"""One episode of a LeRobot dataset: its rows checked, at the robot's rate and as its numbers, its frames decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers.base import UNNAMED_TASK, Read
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import ChangedFileError, Folder
from vlaw_assets.importers.findings import Fault, Finding
from vlaw_assets.importers.lerobot_columns import check_order, check_times, integers, texts, vector
from vlaw_assets.importers.lerobot_format import Info
from vlaw_assets.importers.lerobot_frames import Frames
from vlaw_assets.importers.lerobot_index import EpisodeIndex
from vlaw_assets.importers.lerobot_labels import is_label
from vlaw_assets.importers.lerobot_rows import NUMBERS_PER_ROW, RowMap, RowSource
from vlaw_assets.importers.lerobot_tasks import instructions
from vlaw_assets.importers.numbers import ControlSteps, control_steps, looks_like, select
from vlaw_assets.importers.videos import VideoError
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 10**6
MAX_BYTES = 2 * 2**30
"""Of the frames of one episode at the size that they are stored in."""
EXACT = 0.02
"""By how much differences may miss the way that the state went, as a share of it, to be nothing else."""
PREFIX = re.compile(r"^(delta|diff|relative|rel|velocity|vel|d|v)[_.]", re.IGNORECASE)
LANGUAGE = re.compile(r"(.*[._/])?(language|instruction|subtask|annotation)([._/\d].*)?|.*(language|instruction).*")
"""Names of columns that hold what was said, besides the task table."""
ORIGIN, CATEGORY, IMAGINED = "origin", "task_category", "imagined"
"""Columns of datasets that vlaw exported, and what the first says of an episode that no robot was in."""
MAX_SAID = 64 * 2**10
"""Characters of those that are kept of an episode."""


@dataclass
class Reader:
    """Reads episodes one after another."""

    folder: Folder
    info: Info
    options: Options
    robot: RobotSpec
    cameras: Mapping[str, str]
    """The robot's camera -> feature key, in the order of its cameras."""
    state: str
    action: str
    kind: str
    """Of the action: 'absolute', 'delta' or 'velocity'."""
    index: EpisodeIndex
    tasks: Mapping[int, str]
    source: RowSource
    rows: RowMap
    frames: Mapping[str, Frames]
    """Of each camera feature."""
    faults: Mapping[int, Finding]
    """Of the episodes of which it is known that they cannot be read."""
    files: Sequence[str]
    """Relative paths of every file that is read."""

    def read(self, numbers: Sequence[int]) -> Iterator[Read]:
        """See `Recordings.read`."""
        try:
            for number in numbers:
                if number in self.faults:
                    yield Read(number, None, (self.faults[number],))
                else:
                    yield self._one(number)
        finally:
            for frames in self.frames.values():
                frames.close()
            self.source.close()

    def _one(self, number: int) -> Read:
        try:
            return self._episode(number)
        except VideoError as fault:  # it names its file itself
            return _left_out(number, fault.rule, fault.what, fault.row)
        except Fault as fault:
            where = self.source.files[int(self.rows.place[number])]
            return _left_out(number, fault.rule, f"{fault.what} ({where})", fault.row)
        except ChangedFileError:
            raise
        except VlawError as error:
            return _left_out(number, "damaged", f"{error.what} ({error.where})", None)

    def _episode(self, number: int) -> Read:
        length, fps = int(self.index.lengths[number]), self.info.fps
        size, names = self.options.size_for(self.robot), self.robot.camera_names
        if length > MAX_ROWS or length / fps * self.robot.control_hz * len(names) * size[0] * size[1] * 3 > MAX_BYTES:
            raise Fault(f"with {length} rows it is longer than any episode: its frames take gigabytes", rule="length")
        steps = control_steps(np.arange(length) / fps, fps, self.robot.control_hz)
        if len(steps) < 2:
            raise Fault(f"it has {length} frames at {fps:g} Hz: less than one control step", rule="too_short")
        place, first = int(self.rows.place[number]), int(self.rows.first[number])
        table = self._table(place, first, length)
        own = {name: texts(table[name]) for name in (ORIGIN, CATEGORY) if name in table.column_names}
        if IMAGINED in own.get(ORIGIN, ()):
            raise Fault("a world model made its frames: it is no recording of a robot", rule="imagined")
        findings: list[Finding] = []
        states, actions, beyond = self._numbers(number, table, steps, findings)
        said = {name: texts(table[name]) for name in table.column_names if _language(name, table[name].type)}
        given = instructions(
            integers(table["task_index"], "task_index") if "task_index" in table.column_names else None,
            self.tasks,
            self.index.tasks[number],
            [text for name in sorted(said) for text in said[name] if len(text) < 2000],
        )
        # Of a recording that is slower than the robot, one row's picture serves for two steps.
        rows, of_step = np.unique(steps.rows, return_inverse=True)
        images = np.empty((len(steps), len(names), *size, 3), np.uint8)
        for key in dict.fromkeys(self.cameras.values()):
            frames = self.frames[key].read(number, rows.tolist(), size)
            for view, name in enumerate(names):
                if self.cameras[name] == key:
                    images[:, view] = frames if len(rows) == len(steps) else frames[of_step]
        if beyond:  # last: whatever else is wrong may be why
            raise Fault(beyond, rule="limits")
        success = self.rows.labels.get(number)
        instruction = given[0] if given else UNNAMED_TASK
        extra: dict[str, Any] = {"recorded_episode": number, "recorded_fps": fps}
        if len(given) > 1:
            extra["instructions"] = given
        if said:
            extra["language"], cut = _kept(said)
            if cut:
                findings.append(Finding("language", "its language columns were cut", "keep", number))
        episode = Episode(
            task=self.options.task or next(iter(own.get(CATEGORY, ())), instruction),
            instruction=instruction,
            seed=number,
            images=images,
            states=states,
            actions=actions,
            success=success,
            event="success" if success else "",
            cameras=names,
            control_hz=self.robot.control_hz,
            extra=extra,
        )
        return Read(number, episode, tuple(findings))

    def _table(self, place: int, first: int, length: int) -> pa.Table:
        there = self.source.columns(place)
        wanted = [self.state, self.action, "frame_index"]
        wanted += [name for name in ("index", "task_index", "timestamp") if name in there]
        wanted += [name for name in (ORIGIN, CATEGORY) if name in there and self._is_text(name)]
        pictures = {key for key, feature in self.info.features.items() if feature.pictures}
        wanted += sorted(name for name in there if LANGUAGE.fullmatch(name) and name not in pictures)
        widest = max(self.info.features[key].width or 1 for key in (self.state, self.action))
        return self.source.take(
            place, first, length, list(dict.fromkeys(wanted)), most_values=NUMBERS_PER_ROW * max(widest, 256)
        )

    def _is_text(self, name: str) -> bool:
        return name in self.info.features and self.info.features[name].dtype == "string"

    def _numbers(
        self, number: int, table: pa.Table, steps: ControlSteps, findings: list[Finding]
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """(T+1, D) states and (T, A) actions of the robot, float32; in what they are beyond its limits, or ''."""
        robot, options, features = self.robot, self.options, self.info.features
        check_order(
            integers(table["frame_index"], "frame_index"),
            integers(table["index"], "index") if "index" in table.column_names else None,
        )
        if "timestamp" in table.column_names:
            videos = any(features[key].dtype == "video" for key in self.cameras.values())
            check_times(table["timestamp"], self.info.fps, from_zero=videos)
        found = {}
        for what, key, numbers in (("state", self.state, robot.state), ("action", self.action, robot.command)):
            values = vector(table[key], features[key].width or 0, key)
            found[what] = select(
                values,
                names_of(self.info, key, self.kind if what == "action" else "absolute"),
                options.components.get(what, ()),
                options.units.get(what, ()),
                numbers,
                gripper=options.gripper,
                what=what,
                where=self.info.where,
            )
        states = found["state"]
        self._check_kind(states, found["action"], findings, number)
        actions = steps.targets(found["action"], states, self.kind, robot)
        every = found["action"] if self.kind == "absolute" and robot.commands_per_step == 1 else actions
        beyond = ""
        try:
            robot.check_numbers(states, every, where=self.info.where)
        except VlawError as error:
            beyond = f"{error.what}; another robot (--robot) or other units (--unit) would have to be named"
        return steps.states(states, robot.state), actions, beyond

    def _check_kind(self, states: np.ndarray, actions: np.ndarray, findings: list[Finding], number: int) -> None:
        """Nobody has said what the actions are: their numbers may say that they are no targets."""
        kind = "" if self.options.action_kind else looks_like(states, actions, self.info.fps, self.robot)
        if kind in ("", self.kind):
            return
        text = (
            f"its actions look like {'differences' if kind == 'delta' else 'velocities'}: they say how the state "
            "moves, not where it goes"
        )
        moved = np.diff(states.astype(np.float64), axis=0)
        off = np.abs(actions[:-1] / (self.info.fps if kind == "velocity" else 1.0) - moved)
        # A constant action beside a constant speed may be chance.
        varies = np.abs(moved - moved.mean(axis=0)).mean()
        if off.mean() <= EXACT * np.abs(moved).mean() < varies:
            raise Fault(f"{text}; say what they are: --action-kind absolute, delta or velocity", rule="action_kind")
        findings.append(Finding("action_kind", f"episode {number}: {text}; taken as targets", "keep", number))


def names_of(info: Info, key: str, kind: str = "absolute") -> tuple[str, ...] | None:
    """What a vector's numbers are called; None where it does not say, one by one. Of differences and velocities,
    without the word in front that says so."""
    feature = info.features[key]
    if feature.names is None or len(feature.names) != feature.width:
        return None
    return feature.names if kind == "absolute" else tuple(PREFIX.sub("", name) for name in feature.names)


def _language(name: str, kind: pa.DataType) -> bool:
    """Whether a column holds what was said: texts, or lists of texts or records."""
    import pyarrow as pa

    if not LANGUAGE.fullmatch(name) or is_label(name):
        return False
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    inner = inner.value_type if pa.types.is_dictionary(inner) else inner
    return (
        pa.types.is_string(inner)
        or pa.types.is_large_string(inner)
        or (inner is not kind and pa.types.is_struct(inner))
    )


def _left_out(number: int, rule: str, text: str, row: int | None) -> Read:
    known = re.match(rf"episodes? {number}\b", text) is not None
    return Read(number, None, (Finding(rule, text if known else f"episode {number}: {text}", "excluded", number, row),))


def _kept(said: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], bool]:
    """Those texts, and whether some were left out for their length."""
    kept: dict[str, list[str]] = {}
    left = MAX_SAID
    for name, found in said.items():
        kept[name] = []
        for text in found:
            left -= len(text)
            if left < 0:
                return kept, True
            kept[name].append(text)
    return kept, False
