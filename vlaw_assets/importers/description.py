"""What a person says of a dataset: the robot description that an importer goes by, from options or a TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec

IMAGE_SIDES = range(16, 1025)
IMAGE_SIZE = (64, 64)
"""(height, width) of frames where neither the robot nor anybody else says one."""
ACTION_KINDS = ("absolute", "delta", "velocity")
GRIPPERS = ("closed_is_1", "open_is_1")
UNITS = ("m", "mm", "cm", "rad", "deg", "")
VECTORS = ("state", "action")
NUMBERS = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may say of a dataset and ask of its import. Every field is an option of `vlaw import` and a key of
    a description file."""

    robot: str = ""
    """The robot that it was recorded on; '': found by what the recording calls it, or by its cameras."""
    task: str = ""
    """The task category of all episodes; '': each one's instruction."""
    split: str = ""
    """The part of the dataset, by its own name ("train"); '': all."""
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels that pictures are resized to; None: the robot's."""
    require_success: bool = False
    """An episode without a success label is an error; by default its success is None."""
    skip_bad: bool = False
    """A faulty episode is left out and found in `import_findings`; by default it refuses the import."""
    episodes: str = ""
    """Which episodes, by their numbers in the recording: "0-9,12"; '': all."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """The robot's camera -> what the recording calls it; one may serve for several. {}: found by name."""
    state: str = ""
    """What the recording calls the state; '': found by name."""
    action: str = ""
    """What the recording calls the action; '': found by name."""
    action_kind: str = ""
    """One of ACTION_KINDS: targets, differences from the state, or differences per second; '': by the names."""
    components: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """'state' and 'action' -> which of the recording's numbers are the robot's, in the robot's order: names, or
    numbers from 0 as text. {}: the numbers are the robot's."""
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """'state' and 'action' -> units of those numbers, of UNITS, in the robot's order. {}: the robot's."""
    frame: str = ""
    """The frame of reference of poses, in words: kept as a fact."""
    collector: str = ""
    """Who or what recorded it: kept as a fact."""
    extrinsics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Camera -> its pose, in whatever form the lab uses: kept as a fact."""
    gripper: str = ""
    """One of GRIPPERS: what the recording's gripper number means; '': what the robot's means."""
    rate: float | None = None
    """Rows per second, where the recording's own word is wrong; None: as it says."""
    latents_of: str = ""
    """Folder of the checkpoint of the autoencoder that made the latents beside the videos; '': frames are encoded."""
    success_key: str = ""
    """What holds the success label; '': found by name."""
    success_values: Mapping[str, bool] = field(default_factory=dict)
    """Text of a label -> whether it means success; {}: true and 1 do, false and 0 do not."""

    def __post_init__(self) -> None:
        if self.image_size is not None and any(side not in IMAGE_SIDES for side in self.image_size):
            raise VlawError(
                f"image size {self.image_size[0]}x{self.image_size[1]}",
                where="import",
                remedy=f"Give {IMAGE_SIDES[0]} to {IMAGE_SIDES[-1]} pixels a side.",
            )
        _one_of(self.action_kind, ACTION_KINDS, "action_kind")
        _one_of(self.gripper, GRIPPERS, "gripper")
        for name, table in (("components", self.components), ("units", self.units)):
            for vector in table:
                _one_of(vector, VECTORS, name)
        for unit in (unit for units in self.units.values() for unit in units):
            _one_of(unit, UNITS, "units")
        if self.rate is not None and not 0 < self.rate < 1e6:
            raise VlawError(f"rate {self.rate:g} Hz", where="import", remedy="Give rows per second, above 0.")
        if self.episodes and not NUMBERS.fullmatch(self.episodes.replace(" ", "")):
            raise VlawError(
                f"{self.episodes[:80]!r} is no list of episodes",
                where="import, episodes",
                remedy="Give numbers and ranges, as in 0-9,12.",
            )

    def size_for(self, robot: RobotSpec) -> tuple[int, int]:
        """(height, width) of the pictures of this robot. VlawError where what was asked for is no size of its."""
        size = self.image_size or robot.frame_size or IMAGE_SIZE
        if not robot.fits_frame(*size):
            full = robot.frame_size or size
            raise VlawError(
                f"{size[0]}x{size[1]} squeezes or enlarges the frames of robot {robot.name!r}, {full[0]}x{full[1]}",
                where="import, image size",
                remedy=f"Leave it out, or give a smaller one of the same shape, e.g. {full[0] // 2}x{full[1] // 2}.",
            )
        return size

    def chosen(self, count: int) -> list[int]:
        """The numbers of the episodes to import of a recording with `count`, ascending. VlawError for one it lacks."""
        if not self.episodes:
            return list(range(count))
        found: set[int] = set()
        for part in self.episodes.replace(" ", "").split(","):
            first, _, last = part.partition("-")
            begin, end = int(first), int(last or first)
            if end < begin or end >= count:
                raise VlawError(
                    f"the recording has no episodes {part}: it has {count}, from 0",
                    where="import, episodes",
                    remedy=f"Give numbers from 0 to {count - 1}.",
                )
            found.update(range(begin, end + 1))
        return sorted(found)


def _one_of(value: str, choices: tuple[str, ...], what: str) -> None:
    if value and value not in choices:
        raise VlawError(
            f"{what} {value[:80]!r}",
            where="import",
            remedy=f"Choose from {', '.join(choice for choice in choices if choice)}.",
        )
