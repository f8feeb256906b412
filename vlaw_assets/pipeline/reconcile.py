"""Bringing Dagster's event log back in line with the ledger: the ledger is the truth, Dagster's events mirror it.

A run that is killed between the ledger commit and Dagster's event leaves data that Dagster does not know of; a lost
DAGSTER_HOME is the same thing for every artifact. Over an event of an artifact that the ledger does not have nothing is
reported until somebody accepts it; then it is outlived by a newer event, and what was accepted is noted in the instance
(accepted.py). Events are only ever added. What an event says is mirror.py's, the comparison comparison.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from vlaw_assets.lake.durable import FileLock
from vlaw_assets.pipeline import accepted, mirror, page
from vlaw_assets.pipeline.comparison import UNNAMED, Comparison, Seen, Slot, compare, specs_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


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
    key = specs_of(defs)[ref.asset].key
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
        self._lake, self._instance, self._specs, self._seen = lake, instance, specs_of(defs), found.seen
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
                partition=ref.partition or None,
                tags=self._tags(spec, ref),
                metadata={
                    **page.page_of(self._lake, ref, reused=bool(ref.source_artifact_id)),
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
    """Results of the checks that Dagster has none of, partition by partition, as the ledger noted them when the newest
    artifact was committed."""
    keys = sorted(defs.resolve_asset_graph().asset_check_keys)
    known = instance.event_log_storage.get_asset_check_partition_info(keys)
    there = {(info.check_key, info.partition_key or "") for info in known}
    newest: dict[str, dict[str, ArtifactRef]] = {}
    for ref in lake.ledger.artifacts():
        newest.setdefault(ref.asset, {})[ref.partition] = ref
    added = 0
    for key in keys:
        for partition, ref in newest.get(key.asset_key.to_user_string(), {}).items():
            noted = ref.metrics.get("checks", {}).get(key.name)
            if noted is None or (key, partition) in there:
                continue
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    partition=partition or None,
                    passed=noted["passed"],
                    blocking=True,
                    severity=dg.AssetCheckSeverity.ERROR if noted["blocking"] else dg.AssetCheckSeverity.WARN,
                    description=f"{noted['text']} (when it was committed)",
                    metadata={mirror.RECONCILED: True},
                )
            )
            added += 1
    return added


def _newest_id(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> int:
    """Storage id of the newest materialization of one partition that has one ('' for an asset without any)."""
    return instance.fetch_materializations(_slot(key, partition), limit=1).records[0].storage_id


def _slot(key: dg.AssetKey, partition: str) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
