"""An import: every episode is read and checked first, then all of them are committed as one artifact.

What was read lies in a spool until the commit (spool.py), so a killed import goes on where it was, and memory holds one
episode, however many there are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.importers.base import Latents, Recordings
from vlaw_assets.importers.description import Options
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.origin import ROLE, Origin
from vlaw_assets.importers.reading import SKIP, Limits, Seen, read_apart
from vlaw_assets.importers.recorded_statistics import commit_statistics
from vlaw_assets.importers.spool import Batch, Spool
from vlaw_assets.importers.strips import TITLE, Strips
from vlaw_assets.lake import Identity, canonical_json
from vlaw_assets.partitions import single_partition
from vlaw_assets.pipeline.code_identity import made_with
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress, silent

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Draft, Lake

ASSET = KIND = "recorded_episodes"
SHOWN = 20
"""How many findings the ledger row names."""
READING = "episodes"
"""What progress counts while they are read."""


def commit_recordings(
    lake: Lake,
    recordings: Recordings,
    options: Options,
    *,
    code: str,
    name: str,
    run_id: str,
    force: bool = False,
    new_version: bool = False,
    progress: Progress = silent,
    origin: Origin | None = None,
) -> ArtifactRef:
    """Commits a dataset as `recorded_episodes` of partition `name|00` and returns its ledger row.

    The identity holds the digest of every file read: the same dataset again is recognised, a changed one becomes the
    partition's new version. Raises VlawError before anything is committed.

    Args:
        code: digest of the code that reads and commits it.
        new_version: become the name's new version, whatever dataset has the name now.
        progress: told of every episode that is read.
        origin: the policy that acted, where it is known.
    """
    numbers = options.chosen(len(recordings.index))
    stamps = _stamps(recordings)
    recipe = _recipe(recordings, options, numbers) | ({"session": dict(origin.session)} if origin else {})
    acted = origin.policy.content_digest if origin else None
    parents = ((ROLE, acted),) if acted else ()
    identity = Identity(kind=KIND, code=code, recipe=canonical_json(recipe), parents=parents)
    check_name_free(lake, name, recordings, recipe["source_sha256"], new_version=new_version)
    commit = partial(
        lake.commit, asset=ASSET, partition=single_partition(name), identity=identity, run_id=run_id, force=force
    )
    known = None if force else lake.ledger.find(identity)
    if known is not None and not lake.read(known).problems(deep=False):
        _check_known(known, recordings, options)
        with commit() as draft:
            if draft.reused is None:
                raise VlawError(
                    "files of what was imported before have just gone from the lake",
                    where=str(lake.paths.root),
                    remedy="Run it again.",
                )
        return _with_statistics(lake, draft.committed, recordings, run_id)
    # Read before the commit block as well as checked: a lock held while videos decode would help nobody.
    with Spool.held(lake.paths, identity.digest, run_id) as spool:
        read_all(recordings, options, numbers, spool=spool, progress=progress, policy=acted)
        batches = spool.whole()
        _check_whole(recordings, numbers, batches, stamps)
        with commit() as draft:
            check_name_free(lake, name, recordings, recipe["source_sha256"], new_version=new_version)  # as of now
            if draft.reused is None:
                if origin:
                    draft.read(origin.policy, role=ROLE)
                strips = Strips(_findings(recordings, batches))
                names = draft.write_encoded(strips.passing(spool.tables(batches)))
                if recordings.latents is not None:
                    _write_latents(draft, recordings.latents, names, strips.lengths)
                if (png := strips.picture()) is not None:
                    draft.keep_picture(TITLE, png)
                draft.write_findings([asdict(finding) for finding in _findings(recordings, batches)])
                draft.set_metrics({**_summary(name, recordings, options, batches), "made_with": made_with()})
                if origin:
                    draft.set_metrics(dict(origin.facts))
                    origin.check(draft)
        spool.remove()
    return _with_statistics(lake, draft.committed, recordings, run_id)


def _write_latents(draft: Draft, latents: Latents, names: Sequence[str], lengths: Sequence[tuple[int, int]]) -> None:
    """Of the episodes of these ids, each with its number in the recording and how many frames it has."""
    for name, (number, length) in zip(names, lengths, strict=True):
        made = latents.of(number)
        if made is not None and len(made) == length:
            draft.write_latents(latents.model, draft.artifact_id, name, range(length), made)


def _with_statistics(lake: Lake, ref: ArtifactRef, recordings: Recordings, run_id: str) -> ArtifactRef:
    """Derived from the recording: an import that is killed before them makes them when it is run again."""
    commit_statistics(lake, ref, recordings.robot, run_id=run_id)
    return ref


@dataclass
class Verdict:
    """What an import would do, or did: counts, and everything that was found."""

    episodes: int = 0
    excluded: int = 0
    findings: list[Finding] = field(default_factory=list)

    def take(self, seen: Seen) -> None:
        self.episodes += seen.kept
        self.excluded += not seen.kept
        self.findings += seen.findings


def examine(recordings: Recordings, options: Options, *, progress: Progress = silent) -> Verdict:
    """Reads and checks everything that an import would, and writes nothing. VlawError for what is wrong with the
    dataset; a faulty episode is counted."""
    numbers = options.chosen(len(recordings.index))
    verdict = Verdict(findings=list(recordings.findings))
    for place, seen in enumerate(read_apart(recordings, options, numbers, limits=Limits.here()), start=1):
        verdict.take(seen)
        progress(place, len(numbers), READING)
    return verdict


def read_all(
    recordings: Recordings,
    options: Options,
    numbers: Sequence[int],
    *,
    spool: Spool,
    progress: Progress,
    policy: str | None = None,
) -> None:
    """Reads into the spool what it has not yet. An episode that is left out refuses the import, unless bad ones are to
    be skipped. `policy`: content digest of what acted."""
    limits = Limits.here()
    batches = spool.whole()
    for finding in (finding for batch in batches for finding in batch.findings):
        _refuse(finding, recordings, options)
    begin = batches[-1].end if batches else 0
    progress(begin, len(numbers), READING)
    reading = read_apart(recordings, options, numbers, begin=begin, folder=spool.folder, limits=limits, policy=policy)
    for place, seen in enumerate(reading, start=begin + 1):
        for finding in seen.findings:
            _refuse(finding, recordings, options)
        progress(place, len(numbers), READING)


def check_verdict(verdict: Verdict, recordings: Recordings, options: Options) -> None:
    """VlawError where an import with this verdict would be refused."""
    for finding in verdict.findings:
        _refuse(finding, recordings, options)
    _check_some(recordings, verdict.episodes, verdict.excluded)


def check_name_free(lake: Lake, name: str, recordings: Recordings, digest: str = "", *, new_version: bool) -> None:
    """VlawError where a dataset from elsewhere has the name: a name tells where the data are from.

    Args:
        digest: `recordings.source_digest()`, where it is known already.
    """
    taken = lake.ledger.current(ASSET, single_partition(name))
    if taken is None or new_version or taken.metrics.get("source") == str(recordings.root):
        return
    if json.loads(taken.recipe_json).get("source_sha256") != (digest or recordings.source_digest()):
        raise VlawError(
            f"the name {name!r} is taken by a dataset from {taken.metrics.get('source') or 'elsewhere'}",
            where=str(recordings.root),
            remedy="Give another name (--name), or make this one that name's new version (--replace).",
        )


def _refuse(finding: Finding, recordings: Recordings, options: Options) -> None:
    if finding.decision == "excluded" and not options.skip_bad:
        where = recordings.root if finding.episode < 0 else f"{recordings.root}, episode {finding.episode}"
        raise VlawError(finding.value, where=str(where), remedy=SKIP)


def _check_known(known: ArtifactRef, recordings: Recordings, options: Options) -> None:
    """VlawError where an import of these options would have refused what was imported before with others."""
    left_out, unlabelled = known.metrics.get("excluded", 0), known.metrics.get("unlabelled", 0)
    if left_out and not options.skip_bad:
        first = next((finding["value"] for finding in known.metrics.get("first_findings", ())), "")
        raise VlawError(
            f"{left_out} episodes of this recording are faulty and were left out when it was imported: {first}",
            where=str(recordings.root),
            remedy=SKIP,
        )
    if options.require_success and unlabelled:
        raise VlawError(
            f"{unlabelled} of {known.num_rows} episodes have no success label",
            where=str(recordings.root),
            remedy="Label the episodes, or import them unlabelled.",
        )


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
        # Who is left out, where faulty ones are: alone it decides only whether there is an import.
        **({"only_labelled": True} if options.require_success and options.skip_bad else {}),
        **recordings.settings,
    }


def _stamps(recordings: Recordings) -> list[tuple[Path, int, int, int]]:
    """Which files there are, as far as can be told without reading them."""
    found = [(path, path.stat()) for path in recordings.files]
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in found]


def _check_whole(
    recordings: Recordings,
    numbers: Sequence[int],
    batches: Sequence[Batch],
    stamps: Sequence[tuple[Path, int, int, int]],
) -> None:
    """VlawError where a file changed while it was read, or no episode is left."""
    if batches and batches[-1].end != len(numbers):
        raise RuntimeError(f"{batches[-1].end} of {len(numbers)} episodes were read")
    for before, after in zip(stamps, _stamps(recordings), strict=True):
        if before != after:
            raise VlawError(
                "a file changed while it was imported",
                where=str(before[0]),
                remedy="Import it when nobody writes to it.",
            )
    kept = sum(batch.episodes for batch in batches)
    _check_some(recordings, kept, len(numbers) - kept)


def _check_some(recordings: Recordings, kept: int, excluded: int) -> None:
    if not kept:
        raise VlawError(
            f"all {excluded} episodes are faulty",
            where=str(recordings.root),
            remedy="Mend the recording; --dry-run names every fault.",
        )


def _findings(recordings: Recordings, batches: Sequence[Batch]) -> list[Finding]:
    """Those on the dataset first, then by episode."""
    return [*recordings.findings, *(finding for batch in batches for finding in batch.findings)]


def _summary(name: str, recordings: Recordings, options: Options, batches: Sequence[Batch]) -> dict[str, Any]:
    """What the ledger row tells people. The checks have passed for every episode: the others are not in it."""
    findings = _findings(recordings, batches)
    episodes = sum(batch.episodes for batch in batches)
    said = {key: getattr(options, key) for key in ("frame", "collector", "extrinsics", "components", "units")}
    checks = {
        "finite": f"{episodes} episodes hold finite numbers only",
        "schema": f"episodes: {episodes} rows fit the schema",
    }
    found = {
        "excluded": batches[-1].end - episodes,
        "findings": len(findings),
        "findings_by_rule": dict(Counter(finding.rule for finding in findings)),
        "first_findings": [asdict(finding) for finding in findings[:SHOWN]],
    }
    return {
        "dataset": name,
        "source": str(recordings.root),
        "robot": recordings.robot.name,
        "episodes": episodes,
        "judged": sum(batch.judged for batch in batches),
        "successes": sum(batch.successes for batch in batches),
        "unlabelled": sum(batch.unlabelled for batch in batches),
        "frames": sum(batch.frames for batch in batches),
        **recordings.facts,
        **{key: value for key, value in said.items() if value},
        **({"understood": dict(recordings.understood)} if recordings.understood else {}),
        **(found if findings else {}),
        "checks": {check: {"passed": True, "text": text, "blocking": True} for check, text in checks.items()},
    }
