"""The commit of a recording as one artifact: read in full and checked first, so that a bad dataset writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlaw_assets.importers.base import Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.findings import Finding
from vlaw_assets.lake import Identity, canonical_json
from vlaw_assets.partitions import single_partition
from vlaw_assets.pipeline.checks import all_finite, episodes_fit_schema
from vlaw_assets.pipeline.code_identity import made_with
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.episodes import Episode

ASSET = KIND = "recorded_episodes"
SHOWN = 20
"""How many findings the ledger row names."""


def commit_recordings(
    lake: Lake, recordings: Recordings, options: Options, *, code: str, name: str, run_id: str, force: bool = False
) -> ArtifactRef:
    """Commits a dataset as `recorded_episodes` of partition `name|00` and returns its ledger row.

    The identity holds the digest of every file read: the same dataset again is recognised, a changed one becomes the
    partition's new version. Raises VlawError before anything is written.

    Args:
        code: digest of the code that reads and commits it.
    """
    numbers = options.chosen(len(recordings.index))
    identity = Identity(kind=KIND, code=code, recipe=canonical_json(_recipe(recordings, options, numbers)), parents=())
    # Read before the commit block as well as checked: a lock held while videos decode would help nobody.
    known = lake.ledger.find(identity) is not None and not force
    episodes, findings = ([], []) if known else _checked(recordings, options, numbers)
    with lake.commit(
        asset=ASSET, partition=single_partition(name), identity=identity, run_id=run_id, force=force
    ) as draft:
        if draft.reused is None:
            if known:  # gone between the look and the lock
                episodes, findings = _checked(recordings, options, numbers)
            world = recordings.robot.world
            draft.write_episodes(episodes, purpose="rollout", world=world, label_source="recorded")
            draft.set_metrics({**_summary(name, recordings, episodes, findings), "made_with": made_with()})
    return draft.committed


def _recipe(recordings: Recordings, options: Options, numbers: Sequence[int]) -> dict[str, Any]:
    """What the episodes depend on besides code."""
    whole = len(numbers) == len(recordings.index)
    return {
        "format": recordings.format,
        "source_sha256": recordings.source_digest(),
        "image_size": list(options.size_for(recordings.robot)),
        "task": options.task,
        "split": options.split,
        "robot": recordings.robot.identity(),
        **({} if whole else {"episodes": list(numbers)}),
        **recordings.settings,
    }


def _checked(recordings: Recordings, options: Options, numbers: Sequence[int]) -> tuple[list[Episode], list[Finding]]:
    """The episodes and what was found; one that is excluded refuses the import, unless bad ones are to be skipped."""
    episodes: list[Episode] = []
    findings = list(recordings.findings)
    for read in recordings.read(numbers):
        findings += read.findings
        if read.excluded is not None and not options.skip_bad:
            raise VlawError(
                read.excluded.value,
                where=f"{recordings.root}, episode {read.number}",
                remedy="Mend the recording, leave the episode out (--episodes), or leave out whatever is faulty "
                "(--skip-bad).",
            )
        if read.episode is not None and read.excluded is None:
            episodes.append(read.episode)
    unlabelled = [episode.seed for episode in episodes if episode.success is None]
    if options.require_success and unlabelled:
        raise VlawError(
            f"episode {unlabelled[0]} has no success label ({len(unlabelled)} of {len(episodes)} have none)",
            where=str(recordings.root),
            remedy="Label the episodes, or import them unlabelled.",
        )
    return episodes, findings


def _summary(
    name: str, recordings: Recordings, episodes: Sequence[Episode], found: Sequence[Finding]
) -> dict[str, Any]:
    """Counts and the verdicts of the checks that every asset's episodes pass. VlawError where one fails."""
    parts = {
        labelled: [episode for episode in episodes if (episode.success is not None) is labelled]
        for labelled in (True, False)
    }
    tasks = sorted({episode.task for episode in episodes})
    verdicts = [
        all_finite(episodes),
        *(
            episodes_fit_schema(part, tasks=tasks, labelled=known, robot=recordings.robot)
            for known, part in parts.items()
            if part
        ),
    ]
    for verdict in verdicts:
        if not verdict.passed:
            raise VlawError(
                f"check '{verdict.name}' failed: {verdict.text}",
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
        **({"findings": len(found), "first_findings": [vars(finding) for finding in found[:SHOWN]]} if found else {}),
        "checks": {verdict.name: {"passed": True, "text": verdict.text, "blocking": True} for verdict in verdicts},
    }
