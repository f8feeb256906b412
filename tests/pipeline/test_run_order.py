"""The iterations of an experiment begin one after the other, however they are asked for."""

from __future__ import annotations

import shutil
import threading
import time

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.timestamp import TimestampWithTimezone
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._utils.tags import TagConcurrencyLimitsCounter

from vlaw_assets.definitions import build_defs
from vlaw_assets.pipeline import driver, liveness, partitions, run_order
from vlaw_assets.pipeline.resources import Workplace

PARTITION = run_order.PARTITION


@pytest.fixture
def instance(first_home, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(first_home, tmp_path / "home")))
    with driver.open_instance() as instance:
        yield instance


def run_of(instance, partition: str, status=dg.DagsterRunStatus.NOT_STARTED, tags=None) -> dg.DagsterRun:
    @dg.job
    def nothing():
        pass

    tags = {**(tags or {}), **({PARTITION: partition} if partition else {})}
    code = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("localhost", port=1), "repository")
    origin = RemoteJobOrigin(code, "nothing")
    return instance.create_run_for_job(nothing, tags=tags, status=status, remote_job_origin=origin)


def queue_limits(instance) -> list[dict]:
    return [dict(limit) for limit in instance.get_concurrency_config().run_queue_config.tag_concurrency_limits]


def backfill_of(names: list[str], *, of_assets: bool) -> PartitionBackfill:
    shared = {"status": BulkActionStatus.REQUESTED, "from_failure": False, "tags": {}, "backfill_timestamp": 1.0}
    if not of_assets:
        return PartitionBackfill("asked", partition_names=names, **shared)
    subset = partitions.LOOP.empty_subset().with_partition_keys(names)
    target = AssetGraphSubset(partitions_subsets_by_asset_key={dg.AssetKey("loop_state"): subset})
    nothing = AssetGraphSubset()
    data = AssetBackfillData(
        target_subset=target,
        requested_runs_for_target_roots=False,
        latest_storage_id=None,
        materialized_subset=nothing,
        requested_subset=nothing,
        failed_and_downstream_subset=nothing,
        backfill_start_time=TimestampWithTimezone(1.0, "UTC"),
    )
    return PartitionBackfill("asked", asset_selection=[dg.AssetKey("loop_state")], asset_backfill_data=data, **shared)


class Log:
    def __init__(self):
        self.said: list[str] = []

    def info(self, text: str) -> None:
        self.said.append(text)


def test_the_queue_of_a_home_knows_the_order(instance):
    assert isinstance(instance.run_coordinator, run_order.InOrder)
    limits = yaml.safe_load(driver.DAGSTER_YAML)["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limits == [
        {"key": run_order.EXPERIMENT, "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
        {"key": run_order.HELD, "value": run_order.YES, "limit": 0},
    ]
    assert queue_limits(instance) == limits, "Dagster has read them"


@pytest.mark.parametrize("set_to", [None, 3])
def test_a_pool_has_its_limit_before_the_first_run_and_keeps_what_a_person_sets(instance, set_to):
    if set_to:
        instance.event_log_storage.set_concurrency_slots("accelerator", set_to)
    run_order.limit(instance, "accelerator")
    [pool] = instance.event_log_storage.get_pool_limits()
    assert (pool.name, pool.limit) == ("accelerator", set_to or 1)


@pytest.mark.parametrize(
    ("partition", "tags"),
    [
        ("vlaw|01", {"experiment": "vlaw", "dagster/priority": "-1"}),
        ("claims-vlaw-s0|10", {"experiment": "claims-vlaw-s0", "dagster/priority": "-10"}),
        ("", {}),
        ("droid|00", {}),
    ],
)
def test_earlier_iterations_come_first(instance, partition, tags):
    assert run_order.order_tags(run_of(instance, partition)) == tags


@pytest.mark.parametrize("kind", ["job", "assets"])
def test_a_backfill_that_asks_for_the_second_first_begins_with_the_first(instance, kind):
    """As Dagster does it: each run is made, then enters the queue; the daemon may look at the queue at any moment."""
    names = ["vlaw|03", "vlaw|02", "vlaw|01", "dsrl|02"]
    backfill = backfill_of(names, of_assets=kind == "assets")
    instance.add_backfill(backfill)

    def enter(partition: str) -> None:
        tags = {run_order.BACKFILL: backfill.backfill_id}
        run = run_of(instance, partition, tags=tags)
        instance.run_coordinator.submit_run(dg.SubmitRunContext(run, workspace=None))

    def begin() -> set[str]:
        """What the daemon would take up, were there no other limit."""
        limits = [limit for limit in queue_limits(instance) if limit["key"] == run_order.HELD]
        counter = TagConcurrencyLimitsCounter(limits, [])
        queued = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
        return {run.tags[PARTITION] for run in queued if not counter.is_blocked(run)}

    enter("vlaw|03")
    enter("vlaw|02")
    assert begin() == set()
    assert {run.tags[run_order.HELD] for run in instance.get_runs()} == {run_order.YES}
    enter("dsrl|02")
    assert begin() == {"dsrl|02"}, "the backfill does not ask for its first: that one is refused in words"
    enter("vlaw|01")
    assert begin() == {*names}, "which of them begins first, the other two limits say"
    again = run_of(instance, "vlaw|02", tags={run_order.HELD: run_order.YES})
    instance.run_coordinator.submit_run(dg.SubmitRunContext(again, workspace=None))
    assert instance.get_run_by_id(again.run_id).tags[run_order.HELD] == run_order.NO, "it is of no backfill"


def test_it_waits_while_the_one_before_is_at_work_and_says_so(instance, monkeypatch):
    monkeypatch.setattr(run_order, "LOOK_S", 0.02)
    before, log = run_of(instance, "vlaw|01", dg.DagsterRunStatus.STARTED), Log()
    threading.Timer(0.5, instance.report_run_canceled, [before]).start()
    begun = time.monotonic()
    run_order.wait_for_the_one_before(instance, "vlaw|02", log)
    assert time.monotonic() - begun > 0.4
    assert log.said == [f"waiting for vlaw|01, run {before.run_id[:8]}, since 0 s"]


@pytest.mark.parametrize(
    ("partition", "other", "status"),
    [
        ("vlaw|01", "vlaw|00", dg.DagsterRunStatus.STARTED),
        ("vlaw|02", "vlaw|01", dg.DagsterRunStatus.NOT_STARTED),
        ("vlaw|02", "vlaw|01", dg.DagsterRunStatus.FAILURE),
        ("vlaw|02", "smoke|01", dg.DagsterRunStatus.STARTED),
        ("vlaw|02", "vlaw|02", dg.DagsterRunStatus.STARTED),
        ("", "", dg.DagsterRunStatus.STARTED),
    ],
)
def test_it_waits_for_nothing_else(instance, partition, other, status):
    run_of(instance, other, status)
    log = Log()
    run_order.wait_for_the_one_before(instance, partition, log)
    assert log.said == []


def test_it_does_not_wait_for_a_dead_one(instance, monkeypatch):
    before = run_of(instance, "vlaw|01", dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr(liveness, "is_dead", lambda _, run: run.run_id == before.run_id)
    log = Log()
    run_order.wait_for_the_one_before(instance, "vlaw|02", log)
    assert log.said == []


def reported(instance, *keys: str) -> None:
    for key in keys:
        instance.report_runless_asset_event(dg.AssetMaterialization("iteration_report", partition=key))


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_advance_asks_for_each_next_iteration_once(instance, tmp_path):
    defs = build_defs(lake=tmp_path / "lake")
    sensor = defs.resolve_sensor_def("advance")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.description

    def tick(cursor):
        place = Workplace(lake=str(tmp_path / "lake"))
        context = dg.build_sensor_context(
            instance=instance, definitions=defs, resources={"workplace": place}, cursor=cursor
        )
        found = sensor(context)
        for request in found.dynamic_partitions_requests or ():
            assert request.partitions_def_name == partitions.LOOP.name
        return [(run.partition_key, run.run_key) for run in found.run_requests or ()], found.cursor or cursor

    reported(instance, "vlaw|01", "filtered_bc|01", "dsrl|01", "vlaw|01")
    asked, cursor = tick(None)
    assert asked == [(key, key) for key in ("vlaw|02", "filtered_bc|02", "dsrl|02")], "all since the last tick"
    assert tick(cursor) == ([], cursor)
    reported(instance, "vlaw|02", "nobody|01")
    asked, cursor = tick(cursor)
    assert asked == [], "its last, and one without a recipe"
    reported(instance, "vlaw|01", "oracle|01")
    asked, cursor = tick(cursor)
    assert asked == [("vlaw|02", "vlaw|02"), ("oracle|02", "oracle|02")], "Dagster drops the run key it knows"
