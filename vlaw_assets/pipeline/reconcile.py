"""Bringing Dagster's event log back in line with the ledger: the ledger is the truth, Dagster's events mirror it.

Here: comparing the two both ways for every asset partition (`compare`), reporting what is missing (`repair`), and a
cheap look at the newest events only (`glance`). A run that is killed between the ledger commit and Dagster's event
leaves data that Dagster does not know of; a lost DAGSTER_HOME is the same thing for every artifact. An event that names
an artifact the ledger does not have is evidence: of a lake that was replaced by an older copy, or of an instance that
belongs to another lake. So nothing is reported over it until somebody accepts it; then it is outlived by a newer event,
and what was accepted is noted in the instance (accepted.py). Events are only ever added. Not here: what an event says
(mirror.py) and the command (cli/reconcile.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from vlaw_assets.lake.durable import FileLock
from vlaw_assets.pipeline import accepted, mirror
from vlaw_models.errors import VlawError

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
    specs = _specs(defs)
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
    specs, active = _specs(defs), _active_ids(instance)
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


def repair(
    lake: Lake, instance: dg.DagsterInstance, defs: dg.Definitions, *, accept: bool = False
) -> tuple[Comparison, int]:
    """Compares and reports to Dagster what it lacks, checks included. Returns what was found and how many events were
    added.

    Over an unexplained foreign event nothing is reported, unless with `accept`, which notes them all. Interrupted, it
    goes on where it stopped when it is called again. Raises VlawError where another process is at it.
    """
    lock = FileLock(lake.paths.locks / "reconcile.lock")
    if not lock.acquire(holder="vlaw reconcile"):
        raise VlawError(
            f"process {lock.holder().get('pid', '?')} is reconciling this lake",
            where=str(lock.path),
            remedy="Wait until it is done.",
        )
    try:
        found = compare(lake, instance, defs)
        if found.unexplained and not accept:
            return found, 0
        reporter = Reporter(lake, instance, defs, found)
        for ref in found.to_report:
            reporter.report(ref)
        checks = _report_checks(lake, instance, defs)
        accepted.note(lake, instance, [item.artifact for item in found.unexplained])
    finally:
        lock.release()
    return found, len(found.to_report) + checks


def report_outside(lake: Lake, instance: dg.DagsterInstance, defs: dg.Definitions, ref: ArtifactRef) -> bool:
    """Tells Dagster at once of an artifact that a command has made, not a run: as long as only the lake knows of it,
    nobody sees its loss. False, and nothing is reported, over a newest event that is itself evidence of a loss."""
    key = _specs(defs)[ref.asset].key
    last = Seen()
    for record in instance.fetch_materializations(_slot(key, ref.partition), limit=1).records:
        last.add(record)
    known = {ref.artifact_id for ref in lake.ledger.artifacts()} | {"", UNNAMED} | set(accepted.load(lake, instance))
    if last.latest not in known:
        return False
    Reporter(lake, instance, defs, Comparison()).report(ref)
    return True


class Reporter:
    """Reports artifacts as events without a run, each with the tags by which Dagster decides what is stale."""

    def __init__(self, lake: Lake, instance: dg.DagsterInstance, defs: dg.Definitions, found: Comparison):
        self._lake, self._instance, self._specs, self._seen = lake, instance, _specs(defs), found.seen
        self._history: dict[Slot, list[tuple[int, ArtifactRef]]] = {}
        self._position: dict[str, int] = {}
        for number, ref in enumerate(lake.ledger.artifacts()):
            self._history.setdefault((ref.asset, ref.partition), []).append((number, ref))
            self._position[ref.artifact_id] = number
        self._reported: dict[Slot, str] = {}

    def report(self, ref: ArtifactRef) -> None:
        spec = self._specs[ref.asset]
        if ref.partition and isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition):
            self._instance.add_dynamic_partitions(str(spec.partitions_def.name), [ref.partition])
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(
                spec.key,
                partition=_partition(spec, ref.partition),
                tags=self._tags(spec, ref),
                metadata={
                    **mirror.metadata_of(self._lake, ref),
                    **mirror.pictures_of(self._lake, ref),
                    "vlaw/reused": bool(ref.source_artifact_id),
                    "vlaw/run": ref.run_id,
                    mirror.RECONCILED: True,
                },
            )
        )
        self._reported[ref.asset, ref.partition] = ref.artifact_id

    def _tags(self, spec: dg.AssetSpec, ref: ArtifactRef) -> dict[str, str]:
        """Data version, code version and inputs as a run would have written them at that commit."""
        tags = {
            "dagster/data_version": mirror.data_version_of(ref),
            "dagster/data_version_is_user_provided": "true",
            mirror.RECONCILED: "true",
        }
        key = _partition(spec, ref.partition)
        if isinstance(key, dg.MultiPartitionKey):
            tags |= {f"dagster/partition/{dimension}": value for dimension, value in key.keys_by_dimension.items()}
        if spec.code_version is None:  # an external asset: no code of the definitions makes it
            return tags
        tags["dagster/code_version"] = mirror.code_version_of(ref)
        for dep in spec.deps:
            name = dep.asset_key.to_user_string()
            partitioned = name in self._specs and self._specs[name].partitions_def is not None
            slot = (name, ref.partition if partitioned else "")
            parent = self._before(slot, ref)
            pointer = self._pointer(slot, parent) if parent else None
            # Dagster's own words for an input that was not there.
            tags[f"dagster/input_data_version/{name}"] = mirror.data_version_of(parent) if parent else "INITIAL"
            tags[f"dagster/input_event_pointer/{name}"] = str(pointer) if pointer else "NULL"
        return tags

    def _before(self, slot: Slot, ref: ArtifactRef) -> ArtifactRef | None:
        """What an asset partition held when `ref` was committed."""
        position = self._position[ref.artifact_id]
        return next((item for number, item in reversed(self._history.get(slot, [])) if number < position), None)

    def _pointer(self, slot: Slot, parent: ArtifactRef) -> int | None:
        """Storage id of the event of `parent`. Dagster does not return it: what was reported last is asked for."""
        events = self._seen.setdefault(slot, Seen()).events
        if self._reported.get(slot) == parent.artifact_id:
            events[self._reported.pop(slot)] = _newest_id(self._instance, self._specs[slot[0]].key, slot[1])
        return events.get(parent.artifact_id)


def _report_checks(lake: Lake, instance: dg.DagsterInstance, defs: dg.Definitions) -> int:
    """Results of the checks that Dagster has none of, as the ledger noted them when the newest artifact was
    committed."""
    keys = list(defs.resolve_asset_graph().asset_check_keys)
    there = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    newest = {ref.asset: ref for ref in lake.ledger.artifacts()}
    added = 0
    for key in sorted(set(keys) - set(there)):
        ref = newest.get(key.asset_key.to_user_string())
        noted = ref.metrics.get("checks", {}).get(key.name) if ref else None
        if noted is not None:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    passed=noted["passed"],
                    blocking=True,
                    severity=dg.AssetCheckSeverity.ERROR if noted["blocking"] else dg.AssetCheckSeverity.WARN,
                    description=f"{noted['text']} (when it was committed)",
                    metadata={mirror.RECONCILED: True},
                )
            )
            added += 1
    return added


def _specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def _partition(spec: dg.AssetSpec, partition: str) -> str | None:
    """The key as the definitions have it: Dagster tags the dimensions of a product one by one."""
    if not partition or not isinstance(spec.partitions_def, dg.MultiPartitionsDefinition):
        return partition or None
    experiment, _, iteration = partition.partition("|")
    return dg.MultiPartitionKey({"experiment": experiment, "iteration": iteration})


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


def _newest_id(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> int:
    """Storage id of the newest materialization of one partition that has one ('' for an asset without any)."""
    return instance.fetch_materializations(_slot(key, partition), limit=1).records[0].storage_id


def _slot(key: dg.AssetKey, partition: str) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)


def active_runs() -> dg.RunsFilter:
    """Runs that may still report what they made."""
    return dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    )


def _active_ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs(active_runs())}
