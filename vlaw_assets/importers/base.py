"""What every importer shares: recordings that were opened and checked, and their commit as one artifact.

An importer is a function in a file of its own, found by name (registry.py): `open(path, options) -> Recordings`. It
looks at metadata only and raises VlawError for what is wrong with it; `read` decodes. Everything is read and checked
before the commit begins, so a bad dataset writes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.partitions import single_partition
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import ROBOTS, find_robot, importable_robots
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.episodes import Episode

ASSET = KIND = "recorded_episodes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
UNNAMED_TASK = "unspecified"
"""Instruction of an episode that was recorded without one (some of DROID's were)."""
IMAGE_SIDES = range(16, 1025)
IMAGE_SIZE = (64, 64)
"""(height, width) of frames where neither the robot nor anybody else says one."""


@dataclass(frozen=True)
class Options:
    """What a person may ask of an import."""

    image_size: tuple[int, int] | None = None
    """(height, width) in pixels that pictures are resized to; None: the robot's."""
    task: str = ""
    """The task category of all episodes; '': each one's instruction."""
    require_success: bool = False
    """An episode without a success label is an error; by default its success is None."""
    robot: str = ""
    """The robot that it was recorded on; '': found by what the recording calls it, or by its cameras."""
    split: str = ""
    """The part of the dataset, by its own name ("train"); '': all."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """The robot's camera -> what the recording calls it; {}: found by name."""

    def __post_init__(self) -> None:
        if self.image_size is not None and any(side not in IMAGE_SIDES for side in self.image_size):
            raise VlawError(
                f"image size {self.image_size[0]}x{self.image_size[1]}",
                where="import",
                remedy=f"Give {IMAGE_SIDES[0]} to {IMAGE_SIDES[-1]} pixels a side.",
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


@dataclass(frozen=True)
class Recordings:
    """A dataset whose metadata was read and found sound."""

    format: str
    root: Path
    robot: RobotSpec
    """That they were recorded on."""
    files: Sequence[Path]
    """Every file that an import reads, sorted, all beneath `root`."""
    read: Callable[[], list[Episode]]
    """Decodes and checks all episodes. Raises VlawError, with the file and a remedy."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the episodes depend on, as plain values."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is kept of the dataset for people, as plain values."""

    def source_digest(self) -> str:
        """sha256 over the relative paths and the bytes of every file that is read."""
        total = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(self.root).as_posix()}\0{digest}\n".encode())
        return total.hexdigest()


def commit_recordings(
    lake: Lake, recordings: Recordings, options: Options, *, code: str, name: str, run_id: str, force: bool = False
) -> ArtifactRef:
    """Commits a dataset as `recorded_episodes` of partition `name|00` and returns its ledger row.

    The identity holds the digest of every file read: the same dataset again is recognised, a changed one becomes the
    partition's new version. Raises VlawError before anything is written.

    Args:
        code: digest of the code of the importer that opened it.
    """
    from vlaw_assets.lake import Identity, canonical_json
    from vlaw_assets.pipeline.code_identity import made_with

    recipe = {
        "format": recordings.format,
        "source_sha256": recordings.source_digest(),
        "image_size": list(options.size_for(recordings.robot)),
        "task": options.task,
        "split": options.split,
        "robot": recordings.robot.identity(),
        **recordings.settings,
    }
    identity = Identity(kind=KIND, code=code, recipe=canonical_json(recipe), parents=())
    # Read before the commit block as well as checked: a lock held while videos decode would help nobody.
    known = lake.ledger.find(identity) is not None and not force
    episodes = [] if known else _checked(recordings, options)
    with lake.commit(
        asset=ASSET, partition=single_partition(name), identity=identity, run_id=run_id, force=force
    ) as draft:
        if draft.reused is None:
            if known:  # gone between the look and the lock
                episodes = _checked(recordings, options)
            world = recordings.robot.world
            draft.write_episodes(episodes, purpose="rollout", world=world, label_source="recorded")
            draft.set_metrics({**_summary(name, recordings, episodes), "made_with": made_with()})
    return draft.committed


def _checked(recordings: Recordings, options: Options) -> list[Episode]:
    episodes = recordings.read()
    unlabelled = [episode.seed for episode in episodes if episode.success is None]
    if options.require_success and unlabelled:
        raise VlawError(
            f"episode {unlabelled[0]} has no success label ({len(unlabelled)} of {len(episodes)} have none)",
            where=str(recordings.root),
            remedy="Label the episodes, or import them unlabelled.",
        )
    return episodes


def _summary(name: str, recordings: Recordings, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Counts and the verdicts of the checks that every asset's episodes pass. VlawError where one fails."""
    from vlaw_assets.pipeline.checks import all_finite, episodes_fit_schema

    parts = {
        labelled: [episode for episode in episodes if (episode.success is not None) is labelled]
        for labelled in (True, False)
    }
    tasks = sorted({episode.task for episode in episodes})
    findings = [
        all_finite(episodes),
        *(
            episodes_fit_schema(part, tasks=tasks, labelled=known, robot=recordings.robot)
            for known, part in parts.items()
            if part
        ),
    ]
    for finding in findings:
        if not finding.passed:
            raise VlawError(
                f"check '{finding.name}' failed: {finding.text}",
                where=str(recordings.root),
                remedy="Mend the recording.",
            )
    return {
        "dataset": name,
        "robot": recordings.robot.name,
        "episodes": len(episodes),
        "successes": sum(bool(episode.success) for episode in episodes),
        "unlabelled": len(parts[False]),
        "frames": sum(len(episode.images) for episode in episodes),
        **recordings.facts,
        "checks": {finding.name: {"passed": True, "text": finding.text, "blocking": True} for finding in findings},
    }


def robot_of(options: Options, *, called: str, cameras: Sequence[str] = (), where: str) -> RobotSpec:
    """The robot of a recording: the one that was named, else the one that goes by what the recording calls it, else the
    only one whose cameras have these names. Raises VlawError where that is none, or several."""
    if options.robot:
        return find_robot(options.robot, where="import")
    robots, word = importable_robots(), called.strip().lower()
    found = [robot for robot in robots if word in (robot.name.lower(), *map(str.lower, robot.recorded_as))]
    found = found or [robot for robot in robots if set(robot.camera_names) <= set(cameras)]
    if len(found) != 1:
        several = f"may be of {' or '.join(robot.name for robot in found)}" if found else "is of no robot known here"
        raise VlawError(
            f"this recording, of {called!r} by its own word, {several}",
            where=where,
            remedy=f"Name the robot (--robot): one of {', '.join(ROBOTS.names())}; or describe yours: one file with a "
            f"RobotSpec, added by the entry point group {ROBOTS.group!r}.",
        )
    return found[0]
