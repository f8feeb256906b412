"""What every importer gives: a recording whose metadata were read and found sound, and its episodes one at a time.

An importer is a function in a file of its own, found by name (registry.py): `open(path, options) -> Recordings`. It
looks at metadata only, and raises VlawError for what is wrong with the dataset as a whole. `Recordings.read` decodes;
what is wrong with one episode alone is no error but a finding, and the other episodes come. commit.py decides what an
import does with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.files import ChangedFileError
from vlaw_assets.importers.findings import Fault, Finding
from vlaw_assets.lake.decisions import UNNAMED_TASK  # noqa: F401 (importers take it from here)
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import ROBOTS, find_robot, importable_robots
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Episode


@dataclass(frozen=True, slots=True)
class Found:
    """One episode as the metadata tell of it."""

    number: int
    """Index in the recording, from 0."""
    name: str
    """What the recording calls it: "train/0", "17"."""
    rows: int
    """Length in rows of the recording, at the recording's rate."""
    instructions: tuple[str, ...] = ()
    """All that it was given, in the recording's order."""


@dataclass(frozen=True)
class Read:
    """What reading one episode gave."""

    number: int
    episode: Episode | None
    """At the robot's rate, with the robot's cameras and numbers; `seed` is the number. None where a finding excludes
    it."""
    findings: tuple[Finding, ...] = ()

    @property
    def excluded(self) -> Finding | None:
        """The finding that keeps the episode out; None where there is none."""
        return next((finding for finding in self.findings if finding.decision == "excluded"), None)


@dataclass(frozen=True)
class Latents:
    """What an autoencoder made of the frames of a recording, beside them."""

    model: str
    """Content digest of the autoencoder's checkpoint."""
    of: Callable[[int], np.ndarray | None]
    """Number of an episode that was read -> (T', C, V*h, w) float16, one for each of its frames; None where it has
    none."""


@dataclass(frozen=True)
class Recordings:
    """A dataset whose metadata were read and found sound."""

    format: str
    root: Path
    robot: RobotSpec
    """That they were recorded on."""
    files: Sequence[Path]
    """Every file whose bytes an import of it reads, sorted, all beneath `root`."""
    index: Sequence[Found]
    """All its episodes: `index[n].number == n`."""
    read: Callable[[Sequence[int]], Iterator[Read]]
    """Decodes and checks the episodes of these numbers, one `Read` for each, in that order, as it goes: one episode is
    in memory at a time, and beginning at any number costs about what one episode does. VlawError only for what is
    wrong with the dataset and not with one episode.

    It is called in a process of its own, so it can be pickled: `functools.partial` of a module's function with what was
    read of the metadata, or a method of a frozen dataclass; no lambda."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the episodes depend on, as plain values: the part of the description that this importer goes by."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is kept of the dataset for people, as plain values."""
    understood: Mapping[str, str] = field(default_factory=dict)
    """How the recording was understood, in words for people: 'camera wrist' -> 'observation.images.hand'."""
    findings: tuple[Finding, ...] = ()
    """Notes on the dataset as a whole that are no errors."""
    latents: Latents | None = None
    """Those that a world model of their autoencoder may learn from as they are."""

    def source_digest(self) -> str:
        """sha256 over the relative paths and the bytes of every file that is read."""
        total = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.relative_to(self.root).as_posix()}\0{digest}\n".encode())
        return total.hexdigest()


def read_each(numbers: Sequence[int], read: Callable[[int], Read], where: Callable[[int], Path]) -> Iterator[Read]:
    """What `read` gives of each episode, or the finding of its fault; `where` names the file that an episode lies in.

    A file that changes while it is read is a fault of the dataset, and raised.
    """
    for number in numbers:
        try:
            yield read(number)
        except Fault as fault:
            text = f"{where(number)}: {fault.what}"
            yield Read(number, None, (Finding(fault.rule, text, "excluded", number, fault.row),))
        except ChangedFileError:
            raise
        except VlawError as error:
            yield Read(number, None, (Finding("file", f"{error.where}: {error.what}", "excluded", number),))


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
