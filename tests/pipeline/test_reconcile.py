"""`vlaw reconcile`: Dagster's event log is brought back in line with the ledger, whatever happened to either."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import dagster as dg
import factories
import pytest
from factories import write_recipe
from scratch_package import install
from smoke_place import FOUNDATION_ASSETS, LOOP_ASSETS, parts_of, smoke_copy, smoke_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.pipeline import comparison, driver, liveness, mirror, page, reconcile
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import LEARNERS

ROOT = Path(__file__).parents[2]
KEY = "smoke|01"


@pytest.fixture
def place(tmp_path, tmp_path_factory, monkeypatch):
    """A lake in which smoke|01 has run, to spoil."""
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path / "place")
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    return place


@pytest.fixture
def defs(place):
    return build_defs(lake=place.root / "lake", recipes=place.recipes)


@pytest.fixture
def instance(place):
    with driver.open_instance() as instance:
        yield instance


def commit(lake: Lake, asset: str, partition: str = KEY, run_id: str = "gone", **recipe: int):
    """An artifact that Dagster is not told of."""
    return factories.commit(
        lake,
        asset,
        partition,
        write=lambda draft: draft.write_scores([{"episode_id": "e", "p_success": 0.5}]),
        recipe=recipe or {"seed": 1},
        run_id=run_id,
    )


def newest(instance, asset: str, partition: str | None = KEY) -> dg.AssetMaterialization:
    chosen = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    return instance.fetch_materializations(chosen, limit=1).records[0].asset_materialization


def events(instance) -> int:
    return sum(len(instance.fetch_materializations(key, limit=500).records) for key in instance.all_asset_keys())


def statuses(place) -> dict[str, str]:
    """What Dagster's UI says of each asset."""
    partitions = {"smoke|01": LOOP_ASSETS, "": FOUNDATION_ASSETS}
    asked = "".join(
        f'{asset}: assetNodeOrError(assetKey: {{path: ["{asset}"]}}) '
        f"{{ ... on AssetNode {{ staleStatus{f'(partition: {json.dumps(key)})' if key else ''} }} }}\n"
        for key, assets in partitions.items()
        for asset in assets
    )
    command = [Path(sysconfig.get_path("scripts")) / "dagster-graphql", "-m", "vlaw_assets.definitions"]
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT)}
    answer = place.root / "answer.json"
    subprocess.run(
        [*command, "--text", f"{{ {asked} }}", "--output", answer], env=environment, capture_output=True, check=True
    )
    return {asset: node["staleStatus"] for asset, node in json.loads(answer.read_text())["data"].items()}


def status(instance, defs, asset: str) -> str:
    """The same of one asset of smoke|01, asked of what the UI asks: in this process, which the UI takes seconds for."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
    return resolver.get_status(dg.AssetKey(asset), KEY).value


def test_an_undisturbed_run_is_in_line(place, instance, defs):
    found, added = reconcile.repair(place.lake, instance, defs)
    assert (found.in_line, added, found.foreign, found.outside) == (True, 0, [], [])
    assert found.artifacts == found.partitions == len(FOUNDATION_ASSETS) + len(LOOP_ASSETS)
    assert comparison.glance(place.lake, instance, defs).behind == []


def test_data_there_event_missing(place, instance, defs):
    ref = commit(place.lake, "training_set")
    assert [item.artifact_id for item in comparison.glance(place.lake, instance, defs).behind] == [ref.artifact_id]
    found, added = reconcile.repair(place.lake, instance, defs)
    assert [item.artifact_id for item in found.missing] == [ref.artifact_id]
    assert (added, found.misled) == (1, []), "it is not misled: only late"
    event = newest(instance, "training_set")
    said = {key: value.value for key, value in event.metadata.items()}
    wanted = page.page_of(place.lake, ref, reused=False)
    assert said | {key: getattr(value, "value", value) for key, value in wanted.items()} == said
    assert said[mirror.RECONCILED] is True
    assert event.tags[mirror.RECONCILED] == "true"
    assert event.tags["dagster/data_version"] == mirror.data_version_of(ref)
    assert event.partition == KEY
    again, added = reconcile.repair(place.lake, instance, defs)
    assert (again.in_line, added) == (True, 0)
    assert status(instance, defs, "policy") == "STALE", "what stands on the replaced version"
    assert status(instance, defs, "world_model") == "FRESH"


@pytest.mark.slow
def test_a_missing_event_of_the_past_does_not_become_the_newest(place, instance, defs):
    """Killed after the ledger commit of one version; the next version was made and reported as usual."""
    past = commit(place.lake, "training_set")
    done = place.run("iteration", KEY, only=["training_set"], force=True)
    assert done.made == ("training_set",)
    current = place.lake.ledger.require("training_set", KEY)
    found, added = reconcile.repair(place.lake, instance, defs)
    assert [ref.artifact_id for ref in found.to_report] == [past.artifact_id, current.artifact_id]
    assert added == 2
    assert newest(instance, "training_set").metadata[mirror.ARTIFACT].value == current.artifact_id
    assert comparison.compare(place.lake, instance, defs).in_line


@pytest.mark.slow
def test_lost_dagster_home_is_rebuilt_from_the_ledger(place, defs):
    with driver.open_instance() as instance:
        before = {
            asset: newest(instance, asset, KEY if asset in LOOP_ASSETS else None)
            for asset in (*LOOP_ASSETS, *FOUNDATION_ASSETS)
        }
    shutil.rmtree(place.root / "dagster_home")
    lake = place.lake
    with driver.open_instance() as instance:
        found, added = reconcile.repair(lake, instance, defs)
        assert [ref.artifact_id for ref in found.to_report] == [ref.artifact_id for ref in lake.ledger.artifacts()]
        ids = []
        for ref in lake.ledger.artifacts():
            record = instance.fetch_materializations(dg.AssetKey(ref.asset), limit=1).records[0]
            ids.append(record.storage_id)
            event = record.asset_materialization
            assert event.metadata[mirror.ARTIFACT].value == ref.artifact_id
            version = instance.get_latest_data_version_record(
                dg.AssetKey(ref.asset), partition_key=ref.partition or None
            )
            assert version.storage_id == record.storage_id
            ours = {
                key: value for key, value in before[ref.asset].metadata.items() if key.startswith(("vlaw/", "dagster/"))
            }
            assert {key: event.metadata[key] for key in ours} == ours, "what the run itself said, pictures apart"
            names = {
                name for name in before[ref.asset].tags if "event_pointer" not in name and "dagster/input" not in name
            }
            assert {name: event.tags[name] for name in names} == {name: before[ref.asset].tags[name] for name in names}
            assert set(before[ref.asset].tags) <= set(event.tags), "inputs and their pointers are told too"
        assert ids == sorted(ids), "in commit order"
        assert all(instance.get_materialized_partitions(dg.AssetKey(asset)) == {KEY} for asset in LOOP_ASSETS)
        assert set(statuses(place).values()) == {"FRESH"}
        checks = defs.resolve_asset_graph().asset_check_keys
        there = instance.event_log_storage.get_asset_check_partition_info(list(checks))
        assert added - len(ids) == len(there) > 0
        finite = dg.AssetCheckKey(dg.AssetKey("real_rollouts"), "finite")
        [info] = [info for info in there if info.check_key == finite]
        assert (info.partition_key, info.latest_execution_status.value) == (KEY, "SUCCEEDED")
        again, added = reconcile.repair(lake, instance, defs)
        assert (again.in_line, added) == (True, 0)
    done = place.run("iteration", KEY, only=["training_set", "policy"])
    assert (done.made, sorted(done.reused)) == ((), ["policy", "training_set"])
    with driver.open_instance() as instance:
        assert comparison.compare(lake, instance, defs).in_line


@pytest.mark.slow
def test_what_a_plug_in_made_is_reported_with_the_code_version_of_its_stage(place, defs, tmp_path, monkeypatch):
    learner = "from vlaw_models.learners.imitation import Filtered as Careful\n"
    install(tmp_path / "site", "theirs", {"theirs.py": learner}, {LEARNERS.group: {"careful": "theirs:Careful"}})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_recipe(place.recipes, "smoke", policy={"learner": "careful"})
    assert place.run("iteration", KEY, only=["training_set"]).made == ("training_set",)
    ref = place.lake.ledger.require("training_set", KEY)
    assert "learner 'careful' of package theirs" in ref.metrics["code"]
    with driver.open_instance() as instance:
        reported = newest(instance, "training_set").tags["dagster/code_version"]
    shutil.rmtree(place.root / "dagster_home")
    with driver.open_instance() as instance:
        reconcile.repair(place.lake, instance, defs)
        event = newest(instance, "training_set")
    (spec,) = [spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == "training_set"]
    assert event.tags["dagster/code_version"] == reported == spec.code_version
    said = parts_of(event.metadata[mirror.IDENTITY])
    assert said["code sha256"] == ref.code_digest[: mirror.SHOWN] != reported, "which has the package's code too"


@pytest.mark.slow
def test_rebuilt_history_knows_what_became_stale(place, defs):
    """An input that was replaced after its reader was made: Dagster must say so of the rebuilt log as of the old
    one."""
    commit(place.lake, "training_set")
    shutil.rmtree(place.root / "dagster_home")
    with driver.open_instance() as instance:
        reconcile.repair(place.lake, instance, defs)
        found = statuses(place)
    assert found["policy"] == "STALE"
    assert found["world_model"] == "FRESH"


def test_an_event_reported_by_hand_is_outlived(place, instance, defs):
    instance.report_runless_asset_event(dg.AssetMaterialization("policy", partition=KEY))
    count, current = events(instance), place.lake.ledger.require("policy", KEY)
    assert comparison.glance(place.lake, instance, defs).behind == [current]
    found, _ = reconcile.repair(place.lake, instance, defs)
    assert [(item.ref, item.seen) for item in found.misled] == [(current, comparison.UNNAMED)]
    assert [(item.asset, item.artifact) for item in found.foreign] == [("policy", comparison.UNNAMED)]
    assert newest(instance, "policy").metadata[mirror.ARTIFACT].value == current.artifact_id
    assert events(instance) == count + 1, "nothing is deleted"
    again = comparison.compare(place.lake, instance, defs)
    assert again.in_line
    assert comparison.glance(place.lake, instance, defs).foreign == [], "it names no artifact that was lost"
    assert again.foreign == found.foreign, "listed for ever, repaired once"


def test_an_event_with_another_digest_is_repaired(place, instance, defs):
    current = place.lake.ledger.require("policy", KEY)
    wrong = page.page_of(place.lake, current, reused=False)
    other = {**parts_of(wrong[mirror.IDENTITY]), "content sha256": "0" * 64}
    wrong[mirror.IDENTITY] = dg.MetadataValue.table(
        [dg.TableRecord({"part": part, "value": value}) for part, value in other.items()]
    )
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "policy", partition=KEY, metadata=wrong, tags={"dagster/data_version": mirror.data_version_of(current)}
        )
    )
    found, _ = reconcile.repair(place.lake, instance, defs)
    assert [item.wrong for item in found.misled] == [("content sha256",)]
    assert comparison.compare(place.lake, instance, defs).in_line


@pytest.mark.slow
def test_a_lake_restored_from_a_backup(place, tmp_path, defs):
    """Dagster remembers what the restored lake has not."""
    backup = smoke_copy(tmp_path / "backup", place)
    place.run("iteration", KEY, only=["training_set"], force=True)
    lost = place.lake.ledger.require("training_set", KEY).artifact_id
    shutil.rmtree(place.root / "lake")
    shutil.move(backup.root / "lake", place.root / "lake")
    with driver.open_instance() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization("policy", partition="smoke|02", metadata={mirror.ARTIFACT: "only-there"})
        )
        found, added = reconcile.repair(place.lake, instance, defs)
        assert {(item.asset, item.partition, item.artifact) for item in found.foreign} == {
            ("training_set", KEY, lost),
            ("policy", "smoke|02", "only-there"),
        }
        assert (added, found.in_line) == (0, False), "the evidence stays until somebody accepts it"
        assert newest(instance, "training_set").metadata[mirror.ARTIFACT].value == lost
        assert {item.artifact for item in comparison.glance(place.lake, instance, defs).foreign} == {lost, "only-there"}
        found, added = reconcile.repair(place.lake, instance, defs, accept=True)
        assert (added, len(found.unexplained)) == (1, 2)
        current = place.lake.ledger.require("training_set", KEY)
        assert newest(instance, "training_set").metadata[mirror.ARTIFACT].value == current.artifact_id != lost
        again = comparison.compare(place.lake, instance, defs)
        assert again.in_line
        assert all(item.accepted for item in again.foreign)
        assert comparison.glance(place.lake, instance, defs) == comparison.Glance([], [])


@pytest.mark.slow
def test_what_a_run_at_work_made_is_left_to_it(place, instance, defs):
    job = defs.resolve_job_def("iteration")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    liveness.begin(instance, run.run_id)
    ref = commit(place.lake, "training_set", run_id=run.run_id)
    assert liveness.close_dead_runs(instance) == []
    found, added = reconcile.repair(place.lake, instance, defs)
    assert (found.running, found.missing, added) == ([ref], [], 0)
    assert comparison.glance(place.lake, instance, defs).behind == []
    instance.report_run_failed(run, "killed")
    liveness.let_go(instance, run.run_id)
    assert [item.artifact_id for item in reconcile.repair(place.lake, instance, defs)[0].missing] == [ref.artifact_id]


def test_artifacts_made_outside_dagster(place, instance, defs):
    commit(place.lake, "recorded_episodes", "droid|00")
    commit(place.lake, "quarantine", "")
    commit(place.lake, "notes", "")
    found, added = reconcile.repair(place.lake, instance, defs)
    assert (added, [ref.asset for ref in found.missing]) == (2, ["recorded_episodes", "quarantine"])
    assert [ref.asset for ref in found.outside] == ["notes"], "said, and not in the way"
    assert instance.get_materialized_partitions(dg.AssetKey("recorded_episodes")) == {"droid|00"}
    assert instance.get_dynamic_partitions("recordings") == ["droid|00"]
    assert comparison.compare(place.lake, instance, defs).in_line


@pytest.mark.slow
def test_interrupted_and_again_adds_nothing_twice(place, defs, monkeypatch):
    shutil.rmtree(place.root / "dagster_home")
    with driver.open_instance() as instance:
        report, count = instance.report_runless_asset_event, []

        def stops(event):
            if len(count) == 7:
                raise KeyboardInterrupt
            count.append(event)
            report(event)

        monkeypatch.setattr(instance, "report_runless_asset_event", stops)
        with pytest.raises(KeyboardInterrupt):
            reconcile.repair(place.lake, instance, defs)
        monkeypatch.undo()
        found, _ = reconcile.repair(place.lake, instance, defs)
        total = len(place.lake.ledger.artifacts())
        assert len(found.missing) == total - 7
        assert events(instance) == total


def test_one_at_a_time(place, instance, defs):
    lock = FileLock(place.lake.paths.locks / "reconcile.lock")
    assert lock.acquire(holder="the other")
    try:
        with pytest.raises(VlawError, match=f"process {os.getpid()} is reconciling"):
            reconcile.repair(place.lake, instance, defs)
    finally:
        lock.release()


@pytest.mark.slow
def test_the_command(place):
    ref = commit(place.lake, "training_set")

    def ask(*words: str) -> str:
        done = CliRunner().invoke(app, ["reconcile", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    dry = [json.loads(ask("--dry-run", "--json")) for _ in range(2)]
    assert (
        dry[0]["to_report"]
        == dry[1]["to_report"]
        == [{"asset": "training_set", "partition": KEY, "artifact": ref.artifact_id, "run": "gone"}]
    )
    assert dry[0]["events_added"] == 0
    doctor = CliRunner().invoke(app, ["doctor", "--json"])
    said = {item["check"]: item for item in json.loads(doctor.stdout)}["mirror"]
    assert said["ok"]
    assert "lags behind the ledger in 1 asset partition (training_set[smoke|01]" in said["text"]
    assert f"training_set[{KEY}]  {ref.artifact_id}" in ask()
    assert "nothing to do" in ask()
    again = json.loads(ask("--json"))
    assert (again["in_line"], again["events_added"]) == (True, 0)
