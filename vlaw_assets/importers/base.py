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

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.episodes import Episode

ASSET = KIND = "recorded_episodes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
UNNAMED_TASK = "unspecified"
"""Instruction of an episode that was recorded without one (some of DROID's were)."""
IMAGE_SIDES = range(16, 1025)


@dataclass(frozen=True)
class Options:
    """What a person may ask of an import."""

    image_size: tuple[int, int] = (64, 64)
    """(height, width) in pixels that pictures are resized to."""
    task: str = ""
    """The task category of all episodes; '': each one's instruction."""
    require_success: bool = False
    """An episode without a success label is an error; by default its success is None."""

    def __post_init__(self) -> None:
        if any(side not in IMAGE_SIDES for side in self.image_size):
            raise VlawError(
                f"image size {self.image_size[0]}x{self.image_size[1]}",
                where="import",
                remedy=f"Give {IMAGE_SIDES[0]} to {IMAGE_SIDES[-1]} pixels a side.",
            )


@dataclass(frozen=True)
class Recordings:
    """A dataset whose metadata was read and found sound."""

    format: str
    root: Path
    world: str
    """The robot that they were recorded on, by its own word."""
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
        "image_size": list(options.image_size),
        "task": options.task,
        **recordings.settings,
    }
    identity = Identity(kind=KIND, code=code, recipe=canonical_json(recipe), parents=())
    # Read before the commit block as well as checked: a lock held while videos decode would help nobody.
    known = lake.ledger.find(identity) is not None and not force
    episodes = [] if known else _checked(recordings, options)
    with lake.commit(asset=ASSET, partition=partition_of(name), identity=identity, run_id=run_id, force=force) as draft:
        if draft.reused is None:
            if known:  # gone between the look and the lock
                episodes = _checked(recordings, options)
            draft.write_episodes(episodes, purpose="rollout", world=recordings.world, label_source="recorded")
            draft.set_metrics({**_summary(name, recordings, episodes), "made_with": made_with()})
    return draft.ref


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
        judged: [episode for episode in episodes if (episode.success is not None) is judged] for judged in (True, False)
    }
    tasks = sorted({episode.task for episode in episodes})
    findings = [
        all_finite(episodes),
        *(episodes_fit_schema(part, tasks=tasks, judged=judged) for judged, part in parts.items() if part),
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
        "episodes": len(episodes),
        "successes": sum(bool(episode.success) for episode in episodes),
        "unlabelled": len(parts[False]),
        "frames": sum(len(episode.images) for episode in episodes),
        **recordings.facts,
        "checks": {finding.name: {"passed": True, "text": finding.text, "blocking": True} for finding in findings},
    }


def partition_of(name: str) -> str:
    """The ledger's partition of an imported dataset: the lake's partitions are pairs, an import is iteration 0."""
    return f"{name}|00"
