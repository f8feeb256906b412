"""What a LeRobot dataset was understood as: what its episodes depend on, what is kept of it, words for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.lerobot_format import Info
from vlaw_assets.importers.lerobot_labels import is_label
from vlaw_assets.importers.lerobot_reader import names_of
from vlaw_assets.importers.lerobot_rows import RowMap
from vlaw_assets.importers.numbers import kinds_in_words
from vlaw_models.robots.spec import RobotSpec


@dataclass
class Chosen:
    """Which of the dataset's features are which of the robot's."""

    robot: RobotSpec
    cameras: dict[str, str]
    state: str
    action: str
    kind: str

    @property
    def keys(self) -> list[str]:
        """The cameras' features, each once."""
        return list(dict.fromkeys(self.cameras.values()))


def lost_labels(info: Info, rows: RowMap) -> list[Finding]:
    """Notes of labels that info.json declares and no row has."""
    lost = [key for key in info.features if is_label(key) and key not in rows.label_keys]
    text = "info.json declares the success label {}, and no row has it"
    if rows.label_keys or (rows.place < 0).all():
        return []
    return [Finding("label_lost", text.format(key), "keep") for key in lost]


def settings(chosen: Chosen, options: Options) -> dict[str, object]:
    """What the episodes depend on of what was said and understood."""
    said = {
        "components": {what: list(found) for what, found in options.components.items()},
        "units": {what: list(found) for what, found in options.units.items()},
        "gripper": options.gripper,
        "rate": options.rate,
        "success_key": options.success_key,
        "success_values": dict(options.success_values),
    }
    return {
        "cameras": dict(chosen.cameras),
        "state": chosen.state,
        "action": chosen.action,
        "action_kind": chosen.kind,
        **{name: value for name, value in said.items() if value},
    }


def facts(info: Info, chosen: Chosen, options: Options) -> dict[str, object]:
    """What is kept of the dataset: its own words, and what a person said of it."""
    names = {what: names_of(info, key) for what, key in (("state", chosen.state), ("action", chosen.action))}
    said = {
        "state_names": list(names["state"] or ()),
        "action_names": list(names["action"] or ()),
        "frame": options.frame,
        "collector": options.collector,
        "extrinsics": {camera: list(values) for camera, values in options.extrinsics.items()},
    }
    return {
        "recorded_fps": info.fps,
        "robot_type": info.robot_type,
        "action_kind": chosen.kind,
        **{name: value for name, value in said.items() if value},
    }


def words_of(
    info: Info, chosen: Chosen, options: Options, way: str, rows: RowMap, text_column: str
) -> Mapping[str, str]:
    """How the dataset was understood, line by line.

    Args:
        way: how its rate becomes the robot's.
        text_column: where the task table has its texts.
    """
    layout = {
        "lance": "Lance tables",
        "files": "one file an episode" if info.version == 2 else "files of many episodes",
    }
    return {
        "layout": f"LeRobot v{info.version}, {layout[info.storage]}",
        "robot": f"{chosen.robot.name} (recorded as {info.robot_type})",
        "rate": way,
        **{f"camera {name}": key for name, key in chosen.cameras.items()},
        "state": f"{chosen.state}: {', '.join(names_of(info, chosen.state) or ('numbers without names',))}",
        "action": f"{chosen.action}: {', '.join(names_of(info, chosen.action) or ('numbers without names',))}",
        "action kind": kinds_in_words(chosen.kind, options.components),
        "instruction": f"column {text_column} of the task table",
        "success": options.success_key or ", ".join(rows.label_keys) or "no column: unlabelled",
    }
