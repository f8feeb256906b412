"""How Dagster's event log differs from the ledger, both ways, for every asset partition: all of it (`compare`), or the
newest events only (`glance`). Changes nothing.

An event that names an artifact which the ledger does not have is evidence: of a lake that was replaced by an older
copy, or of an instance that belongs to another lake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from vlaw_assets.pipeline import accepted, mirror

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

PAGE = 500
"""Events per query; those of older versions carry pictures of a quarter of a megabyte."""
UNNAMED = "no artifact"
"""What an event names that somebody reported by hand, in the UI for example."""

Slot = tuple[str, str]
"""(asset, partition); the partition is '' where there is none."""


@dataclass
class Seen:
    """What Dagster's log has of one asset partition."""

    events: dict[str, int] = field(default_factory=dict)
    """Artifact -> storage id of the newest event that names it."""
    latest: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    data_version: str | None = None

    def add(self, record: dg.EventLogRecord) -> None:
        """Events come in the order of their storage ids."""
        event = record.asset_materialization
        if event is None:
            return
        self.metadata = {key: value.value for key, value in event.metadata.items()}
        self.data_version = (event.tags or {}).get("dagster/data_version")
        self.latest = str(self.metadata.get(mirror.ARTIFACT) or UNNAMED)
        self.events[self.latest] = record.storage_id


@dataclass(frozen=True)
class Misled:
    """A partition whose newest event says something else than the ledger."""

    ref: ArtifactRef
    seen: str
    """The artifact that the event names."""
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Foreign:
    """An event of an artifact that the ledger does not have."""

    asset: str
    partition: str
    artifact: str
    storage_id: int
    accepted: str = ""
    """When somebody accepted that this lake lacks it; '' where nobody did."""

    @property
    def name(self) -> str:
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    @property
    def unexplained(self) -> bool:
        """An artifact that was committed, to this lake or another, and that nobody accepted. What was reported by hand
        names none."""
        return self.artifact != UNNAMED and not self.accepted


@dataclass
class Glance:
    """How Dagster's newest event of each asset partition differs from the ledger."""

    behind: list[ArtifactRef]
    """The current artifacts that are not what Dagster shows last."""
    foreign: list[Foreign]
    """Unexplained ones only."""


@dataclass
class Comparison:
    """How Dagster's log differs from the ledger. Refs are in commit order."""

    missing: list[ArtifactRef] = field(default_factory=list)
    """In the ledger, and no event names them."""
    misled: list[Misled] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    running: list[ArtifactRef] = field(default_factory=list)
    """No event yet, and the run that made them is still at work: it will report them itself."""
    outside: list[ArtifactRef] = field(default_factory=list)
    """Artifacts of a name that is no asset of the definitions: Dagster has nowhere to show them."""
    to_report: list[ArtifactRef] = field(default_factory=list)
    """What `repair` reports, in this order: the missing ones, and again the current one of a partition that shows
    another."""
    artifacts: int = 0
    partitions: int = 0
    seen: dict[Slot, Seen] = field(default_factory=dict, repr=False)

    @property
    def in_line(self) -> bool:
        """True where there is nothing to repair and nothing to accept. Foreign events that were accepted may remain."""
        return not self.to_report and not self.unexplained

    @property
    def unexplained(self) -> list[Foreign]:
        return [item for item in self.foreign if item.unexplained]


def compare(lake: Lake, instance: dg.DagsterInstance, defs: dg.Definitions) -> Comparison:
    """Reads the whole ledger and every materialization event; changes nothing."""
    specs = specs_of(defs)
    refs = lake.ledger.artifacts()
    result = Comparison(artifacts=len(refs), outside=[ref for ref in refs if ref.asset not in specs])
    for key in sorted({*instance.all_asset_keys(), *(spec.key for spec in specs.values())}):
        asset = key.to_user_string()
        for record in _events(instance, key):
            result.seen.setdefault((asset, record.partition_key or ""), Seen()).add(record)
    # Asked after the events: what is committed meanwhile is reported after that.
    known, accepted_at = {ref.artifact_id for ref in lake.ledger.artifacts()}, accepted.load(lake, instance)
    for (asset, partition), seen in sorted(result.seen.items()):
        # An asset that is none of ours is in this instance for reasons of its own.
        result.foreign += [
            Foreign(asset, partition, artifact, storage_id, accepted_at.get(artifact, ""))
            for artifact, storage_id in seen.events.items()
            if artifact not in known and (asset in specs or artifact != UNNAMED)
        ]
    active = _active_ids(instance)
    history: dict[Slot, list[ArtifactRef]] = {}
    for ref in refs:
        if ref.asset in specs:
            history.setdefault((ref.asset, ref.partition), []).append(ref)
    result.partitions = len(history)
    order = {ref.artifact_id: number for number, ref in enumerate(refs)}
    for slot, made in history.items():
        seen = result.seen.get(slot, Seen())
        absent = [ref for ref in made if ref.artifact_id not in seen.events]
        result.running += [ref for ref in absent if ref.run_id in active]
        missing = [ref for ref in absent if ref.run_id not in active]
        result.missing += missing
        result.to_report += missing
        last, current = (missing[-1].artifact_id if missing else seen.latest), made[-1]
        if current in result.running or current in missing:
            continue
        wrong = (
            mirror.differences(seen.metadata, seen.data_version, current) if last == seen.latest else ["the artifact"]
        )
        if wrong:
            result.to_report.append(current)
            if last == seen.latest:
                result.misled.append(Misled(current, seen.latest, tuple(wrong)))
    for found in (result.missing, result.running, result.to_report):
        found.sort(key=lambda ref: order[ref.artifact_id])
    return result


def glance(lake: Lake | None, instance: dg.DagsterInstance, defs: dg.Definitions) -> Glance:
    """Reads one event per asset partition: quick, and blind to the history, which `compare` reads whole.

    `lake`: None where there is none, so that all that Dagster knows is foreign.
    """
    specs, active = specs_of(defs), _active_ids(instance)
    refs = lake.ledger.artifacts() if lake else []
    shown: dict[Slot, Seen] = {}
    for key in sorted({*instance.all_asset_keys(), *(spec.key for spec in specs.values())}):
        for record in _newest(instance, key):
            shown.setdefault((key.to_user_string(), record.partition_key or ""), Seen()).add(record)
    known = {ref.artifact_id for ref in lake.ledger.artifacts()} if lake else set()
    accepted_at = accepted.load(lake, instance) if lake else {}
    foreign = [
        Foreign(asset, partition, seen.latest, seen.events[seen.latest], accepted_at.get(seen.latest, ""))
        for (asset, partition), seen in sorted(shown.items())
        if seen.latest not in known
    ]
    current = {(ref.asset, ref.partition): ref for ref in refs if ref.asset in specs}
    behind = [
        ref
        for slot, ref in current.items()
        if ref.run_id not in active
        and mirror.differences((seen := shown.get(slot, Seen())).metadata, seen.data_version, ref)
    ]
    return Glance(behind, [item for item in foreign if item.unexplained])


def specs_of(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def _events(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    """Every materialization of an asset, the oldest first."""
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(key, limit=PAGE, cursor=cursor, ascending=True)
        yield from page.records
        cursor, more = page.cursor, page.has_more


def _newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    """The newest materialization of an asset without partitions, or of each partition that has one."""
    ids = _newest_ids(instance, key)
    for first in range(0, len(ids), PAGE):
        chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[first : first + PAGE])
        yield from instance.fetch_materializations(chosen, limit=PAGE).records


def _newest_ids(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[int]:
    """Storage ids of the newest materialization of each partition, and of the asset itself; ascending."""
    last = instance.fetch_materializations(key, limit=1).records
    ids = {record.storage_id for record in last}
    if not last or last[0].partition_key is not None:
        ids |= set(
            instance.event_log_storage.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION
            ).values()
        )
    return sorted(ids)


def active_runs() -> dg.RunsFilter:
    """Runs that may still report what they made."""
    return dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    )


def _active_ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs(active_runs())}
