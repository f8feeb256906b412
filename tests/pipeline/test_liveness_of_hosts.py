"""Hosts share the runs and a lake in a bucket, and have a DAGSTER_HOME each: a run whose host is gone is closed by
another one, and a run that lives is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import dagster as dg
import object_store
import pytest

from vlaw_assets.lake.objects import Bucket
from vlaw_assets.pipeline import driver, liveness
from vlaw_models.errors import VlawError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LEASE_S, POOL = 4.0, "models"
BEGIN = f"""
import sys, time
from vlaw_assets.pipeline import driver, liveness
liveness.LEASE_S = {LEASE_S}
with driver.open_instance() as instance:
    liveness.begin(instance, sys.argv[1], sys.argv[2])
    instance.event_log_storage.claim_concurrency_slot("{POOL}", sys.argv[1], "step")
    print("begun", flush=True)
    if sys.argv[3] == "ends":
        instance.report_run_failed(instance.get_run_by_id(sys.argv[1]))
        liveness.let_go(instance, sys.argv[1])
    else:
        time.sleep(600)
"""


class Hosts:
    """Two homes over one storage: SQLite in a folder, or the Postgres of VLAW_POSTGRES. This process is the second
    host."""

    def __init__(self, folder: Path):
        self.homes = [folder / "one", folder / "two"]
        for home in self.homes:
            home.mkdir()
            if driver.POSTGRES not in os.environ:
                (home / "dagster.yaml").write_text(f"storage:\n  sqlite:\n    base_dir: {folder / 'runs'}\n")
        self.store = object_store.Place("bucket", folder)
        self.store.open("one")
        self.bucket = Bucket(self.store.address)

    def begin(self, run_id: str, then: str = "lives") -> subprocess.Popen:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "DAGSTER_HOME": str(self.homes[0]),
            "VLAW_LAKE_COPY": str(self.homes[0] / "copy"),
        }
        call = [sys.executable, "-c", BEGIN, run_id, self.store.address, then]
        process = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        return process

    def leases(self) -> list[str]:
        return [item.name for item in self.bucket.names("locks") if item.name.endswith(".run")]


@pytest.fixture
def hosts(s3, tmp_path, monkeypatch):
    hosts = Hosts(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(hosts.homes[1]))
    return hosts


@pytest.fixture
def instance(hosts):
    with driver.open_instance() as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        yield instance


def started(instance: dg.DagsterInstance) -> str:
    run = dg.DagsterRun(job_name="iteration", run_id=str(uuid.uuid4()), status=dg.DagsterRunStatus.STARTED)
    return instance.add_run(run).run_id


def is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    return liveness.is_dead(instance, instance.get_run_by_id(run_id))


def test_a_run_of_a_host_that_is_gone_is_closed_by_another_and_no_run_that_lives(hosts, instance):
    run_id = started(instance)
    process = hosts.begin(run_id)
    try:
        time.sleep(2 * LEASE_S)
        assert not is_dead(instance, run_id), "renewed"
        assert liveness.close_dead_runs(instance) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert liveness.close_dead_runs(instance) == [], "it may live, for all that is known"
    time.sleep(LEASE_S + 2)
    assert is_dead(instance, run_id)
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED, "asking ends nothing"
    assert liveness.close_dead_runs(instance) == [run_id]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0
    assert hosts.leases() == []


def test_the_lease_of_a_run_goes_with_its_end(hosts, instance):
    assert hosts.begin(started(instance), "ends").wait() == 0
    assert hosts.leases() == []


def test_a_bucket_that_cannot_be_reached_makes_no_run_dead(hosts, instance, monkeypatch):
    run_id = started(instance)
    process = hosts.begin(run_id)
    process.kill()
    process.wait()
    time.sleep(LEASE_S + 2)
    with monkeypatch.context() as patch:

        def away(*_given: object, **_named: object) -> None:
            raise VlawError("the object store did not answer", where=hosts.bucket.address, remedy="look at it")

        patch.setattr(Bucket, "get", away)
        assert not is_dead(instance, run_id)
        assert liveness.close_dead_runs(instance) == []
    assert liveness.close_dead_runs(instance) == [run_id]


def test_a_run_whose_lake_cannot_be_reached_is_refused_before_its_first_step(hosts, instance, monkeypatch):
    from vlaw_assets.definitions import build_defs

    def away(*_given: object, **_named: object) -> None:
        raise VlawError("the object store did not answer", where=hosts.bucket.address, remedy="look at it")

    monkeypatch.setattr(Bucket, "get", away)
    defs = build_defs(lake=hosts.store.address)
    with pytest.raises(VlawError, match="did not answer"):
        driver.run_job(defs, instance, "foundation", only=("expert_demonstrations",))
    assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.CANCELED


def test_a_run_ends_as_it_ended_where_its_lease_cannot_be_given_back(hosts, instance, monkeypatch):
    run_id = started(instance)
    liveness.begin(instance, run_id, hosts.store.address)

    def away(*_given: object, **_named: object) -> None:
        raise VlawError("the object store did not answer", where=hosts.bucket.address, remedy="look at it")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "swap", away)
        instance.report_run_failed(instance.get_run_by_id(run_id))
        liveness.let_go(instance, run_id)
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert hosts.leases() == [f"locks/{run_id}.run"], "which runs out"


def test_a_run_started_again_is_not_judged_by_the_lease_of_the_one_before(hosts, instance, monkeypatch):
    run_id = started(instance)
    process = hosts.begin(run_id)
    process.kill()
    process.wait()
    monkeypatch.setattr(liveness, "WAIT_S", 0.0)
    monkeypatch.setenv("DAGSTER_HOME", str(hosts.homes[0]))
    with driver.open_instance() as first:
        liveness.begin(first, run_id, hosts.store.address)
        time.sleep(LEASE_S + 2)
        assert not is_dead(instance, run_id), "it lives: nothing can be told from another host"
        assert liveness.close_dead_runs(instance) == []
        first.report_run_failed(first.get_run_by_id(run_id))
        liveness.let_go(first, run_id)
