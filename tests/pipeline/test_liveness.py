"""A run lives as long as its process holds the run's lock: asked by whoever tidies up, and never ended by who only
reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import dagster as dg
import needed
import pytest
from smoke_place import smoke_copy, smoke_place
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.pipeline import driver, liveness

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, time; from vlaw_assets.pipeline import driver, liveness\n"
    "with driver.open_instance() as instance:\n    liveness.begin(instance, sys.argv[1])\n"
    "    print('holding', flush=True)\n    time.sleep(600)\n"
)
CLOSE = (
    "from vlaw_assets.pipeline import driver, liveness\n"
    "with driver.open_instance() as instance:\n    print(len(liveness.close_dead_runs(instance)))\n"
)
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
STARTED, CANCELING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING


@pytest.fixture
def instance(first_home, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(first_home, tmp_path / "home")))
    with driver.open_instance() as instance:
        yield instance


def add_run(instance: dg.DagsterInstance, status=STARTED, **tags: str) -> str:
    run = dg.DagsterRun(job_name="iteration", run_id=str(uuid.uuid4()), status=status, tags=tags)
    return instance.add_run(run).run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    return instance.get_run_by_id(run_id).status


def lock_of(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / liveness.FOLDER / f"{run_id}.lock"


def left_by_a_dead_process(instance: dg.DagsterInstance, status=STARTED, tag: str = "", **tags: str) -> str:
    run_id = add_run(instance, status, **{liveness.TAG: tag or liveness.place()}, **tags)
    path = lock_of(instance, run_id)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    return run_id


def started(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*before, sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    while (line := process.stdout.readline()) and "holding" not in line:
        pass
    return process


@pytest.mark.slow
@pytest.mark.parametrize("before", [(), NAMESPACE], ids=["here", "another-container"])
def test_the_lock_of_a_process_says_whether_its_run_lives(instance, before):
    """In a process namespace of its own a process has a number that is free here, or is another's."""
    if before:
        needed.worked(*before, "true")
    run_id = add_run(instance)
    process = started(HOLD, run_id, before=before)
    try:
        run = instance.get_run_by_id(run_id)
        assert not liveness.is_dead(instance, run)
        assert liveness.close_dead_runs(instance) == []
        asked = subprocess.run(
            [*before, sys.executable, "-c", CLOSE],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout.strip() == "0", "nor is it ended from there"
        assert status_of(instance, run_id) == STARTED
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(100):  # --kill-child needs a moment
        if FileLock(lock_of(instance, run_id)).held_since() is None:
            break
        time.sleep(0.05)
    assert liveness.is_dead(instance, run)
    assert status_of(instance, run_id) == STARTED, "asking ends nothing"
    assert liveness.close_dead_runs(instance) == [run_id]
    assert status_of(instance, run_id) == dg.DagsterRunStatus.FAILURE
    assert not lock_of(instance, run_id).exists()
    assert liveness.close_dead_runs(instance) == []


def test_a_run_that_waited_long_before_its_process_began(instance):
    run_id = add_run(instance)
    with sqlite3.connect(Path(instance.root_directory) / "history" / "runs.db") as database:
        assert database.execute("update runs set create_timestamp = datetime('now', '-1 day')").rowcount == 1
    liveness.begin(instance, run_id)
    try:
        assert liveness.close_dead_runs(instance) == []
        assert status_of(instance, run_id) == STARTED
    finally:
        liveness.let_go(instance, run_id)
    assert liveness.close_dead_runs(instance) == [run_id]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_that_has_not_begun_is_left_to_dagster(instance, status):
    run_id = left_by_a_dead_process(instance, status)
    assert liveness.close_dead_runs(instance) == []
    assert status_of(instance, run_id) == status
    assert lock_of(instance, run_id).exists()


def test_a_run_started_again_has_the_tags_of_the_one_before(instance):
    """Dagster copies them; without a lock file of its own nothing is known about the new run."""
    again = add_run(instance, **{liveness.TAG: liveness.place()})
    untagged = add_run(instance)
    lock_of(instance, again).parent.mkdir()
    lock_of(instance, untagged).write_text("{}")  # a lock about to be taken
    assert liveness.close_dead_runs(instance) == []
    assert [status_of(instance, run_id) for run_id in (again, untagged)] == [STARTED, STARTED]
    elsewhere = add_run(instance, **{liveness.TAG: "elsewhere/1"})
    liveness.begin(instance, elsewhere)
    assert instance.get_run_by_id(elsewhere).tags[liveness.TAG] == liveness.place()
    liveness.let_go(instance, elsewhere)


def test_a_dead_run_that_was_to_be_canceled_is_canceled(instance):
    run_id = left_by_a_dead_process(instance, CANCELING)
    assert liveness.close_dead_runs(instance) == [run_id]
    assert status_of(instance, run_id) == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize(
    ("kind", "tag", "closed"),
    [
        ("ext4", "the boot before/4026531836", True),
        ("nfs4", "another host/4026531836", False),
        ("", "another host/1", False),
        ("nfs4", "", True),
    ],
    ids=["after-a-reboot", "shared-home", "unknown-file-system", "shared-home-own"],
)
def test_runs_of_another_kernel_are_judged_only_where_no_other_kernel_can_hold_the_lock(
    instance, monkeypatch, kind, tag, closed
):
    monkeypatch.setattr(liveness, "file_system", lambda folder: kind)
    run_id = left_by_a_dead_process(instance, tag=tag)
    assert liveness.is_dead(instance, instance.get_run_by_id(run_id)) is closed
    assert liveness.close_dead_runs(instance) == ([run_id] if closed else [])
    assert status_of(instance, run_id) == (dg.DagsterRunStatus.FAILURE if closed else STARTED)


def test_the_file_system_is_that_of_the_longest_mount_point(monkeypatch, tmp_path):
    table = (
        f"22 1 8:1 / / rw - ext4 /dev/a rw\n30 22 0:40 / {str(tmp_path).replace('_', chr(92) + '137')} rw shared:1 - "
        f"nfs4 h:/x rw\n"
        f"31 22 0:41 / {tmp_path}x rw - xfs /dev/b rw\n"
    )
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: table if path.name == "mountinfo" else read(path, *a, **k)
    )
    assert liveness.file_system(tmp_path / "home") == "nfs4"
    assert liveness.file_system(tmp_path.parent) == "ext4"


def test_a_run_that_ends_while_it_is_looked_at_keeps_its_end(instance, monkeypatch):
    run_id = left_by_a_dead_process(instance)
    stale = instance.get_run_by_id(run_id)
    monkeypatch.setattr(type(instance), "get_runs", lambda self, *a, **k: [stale])
    instance.report_run_canceled(stale)
    assert not liveness.is_dead(instance, stale)
    assert liveness.close_dead_runs(instance) == []
    assert status_of(instance, run_id) == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize("dies_in", ["nowhere", "_free", "_free_places"])
def test_a_pool_is_free_again_even_where_whoever_closed_the_dead_run_died_while_doing_so(
    instance, monkeypatch, dies_in
):
    storage, dead, at_work = instance.event_log_storage, left_by_a_dead_process(instance), add_run(instance)
    storage.set_concurrency_slots("accelerator", 2)
    for run_id in (dead, at_work):
        assert storage.claim_concurrency_slot("accelerator", run_id, "policy").is_claimed

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if dies_in != "nowhere":
            patch.setattr(liveness, dies_in, died)
            with pytest.raises(KeyboardInterrupt):
                liveness.close_dead_runs(instance)
    liveness.close_dead_runs(instance)
    assert status_of(instance, dead) == dg.DagsterRunStatus.FAILURE
    assert storage.get_concurrency_run_ids() == {at_work}, "that of a run at work is kept"
    assert storage.claim_concurrency_slot("accelerator", add_run(instance), "policy").is_claimed


def test_status_asks_dagster_only_where_a_run_may_have_begun(instance, monkeypatch):
    from vlaw_assets.cli.status import running_partitions

    home = Path(instance.root_directory)
    assert liveness.none_has_begun(), "a home that has seen no run"
    at_work = add_run(instance, **{"dagster/partition": "vlaw|01", liveness.TAG: liveness.place()})
    liveness.begin(instance, at_work)
    assert not liveness.none_has_begun()
    assert running_partitions() == {"vlaw|01"}
    instance.report_run_failed(instance.get_run_by_id(at_work))
    liveness.let_go(instance, at_work)
    assert liveness.none_has_begun()
    assert running_partitions() == set()
    text = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(f"{text}\nstorage:\n  postgres: {{}}\n")
    assert not liveness.none_has_begun(), "another home may have runs in the same storage"
    (home / "dagster.yaml").unlink()
    assert liveness.none_has_begun()


def test_lock_files_of_runs_that_are_over_are_removed_and_no_others(instance):
    over, at_work, unknown = add_run(instance, dg.DagsterRunStatus.SUCCESS), add_run(instance), "never-began"
    for run_id in (over, unknown):
        lock_of(instance, run_id).parent.mkdir(exist_ok=True)
        lock_of(instance, run_id).write_text("")
    liveness.begin(instance, at_work)
    assert liveness.close_dead_runs(instance) == []
    assert [path.stem for path in lock_of(instance, "").parent.iterdir()] == [at_work]
    assert FileLock(lock_of(instance, at_work)).held_since() is not None
    instance.report_run_failed(instance.get_run_by_id(at_work))
    liveness.let_go(instance, at_work)
    assert list(lock_of(instance, "").parent.iterdir()) == []


def test_who_waited_for_a_lock_that_was_deleted_takes_the_new_one(tmp_path):
    path = tmp_path / "x.lock"
    first, second, third = (FileLock(path) for _ in range(3))
    waited = os.open(path, os.O_RDWR | os.O_CREAT)  # as `second` has it open when `first` deletes it
    assert first.acquire()
    first.remove()
    opened = os.open
    try:
        os.open = lambda *a, **k: (setattr(os, "open", opened), os.dup(waited))[1]
        assert second.acquire()
    finally:
        os.open = opened
        os.close(waited)
    assert not third.acquire(), "it is the file at the path that is locked"
    second.release()
    third.remove()
    assert path.exists(), "not held: not deleted"


def test_whoever_starts_a_run_it_holds_its_lock_from_before_the_first_step(tmp_path, instance, monkeypatch):
    """As Dagster's own launcher does it, without run_job."""
    from vlaw_assets.pipeline.resources import Workplace

    seen = []

    def looked_at(self):
        [run] = instance.get_runs(dg.RunsFilter(statuses=[STARTED]))
        seen.append((run.tags.get(liveness.TAG), FileLock(lock_of(instance, run.run_id)).held_since() is not None))
        raise RuntimeError("seen")

    monkeypatch.setattr(Workplace, "open_lake", looked_at)
    defs = build_defs(lake=tmp_path / "lake")
    keys = [dg.AssetKey("autoencoder")]
    result = defs.resolve_job_def("foundation").execute_in_process(
        instance=instance, asset_selection=keys, raise_on_error=False
    )
    assert seen == [(liveness.place(), True)]
    assert not result.success
    liveness.let_go(instance, result.run_id)
    with pytest.raises(driver.StageError, match="seen"):
        driver.run_job(defs, instance, "foundation", only=["autoencoder"])
    assert seen == [(liveness.place(), True)] * 2
    assert list(lock_of(instance, "").parent.iterdir()) == [], "a run that is over leaves nothing"


@pytest.mark.slow
def test_what_reads_ends_no_run_and_what_runs_ends_the_dead(tmp_path, tmp_path_factory, monkeypatch):
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path / "place")
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with driver.open_instance() as instance:
        dead = left_by_a_dead_process(instance, **{"dagster/partition": "smoke|01"})

        def vlaw(*arguments: str) -> str:
            result = CliRunner().invoke(app, list(arguments))
            assert result.exit_code == 0, result.output
            return result.output

        def running() -> list[str]:
            return [row["partition"] for row in json.loads(vlaw("status", "--json")) if row["running"]]

        assert running() == []
        CliRunner().invoke(app, ["doctor"])  # whatever it thinks of this machine
        for command in (
            ["report", "smoke", "01"],
            ["audit", "policy", "smoke", "01"],
            ["sql", "select 1"],
            ["reconcile", "--dry-run"],
            ["run", "--rebuild-stale"],
        ):
            vlaw(*command)
            assert status_of(instance, dead) == STARTED, command
        alive = add_run(instance, **{"dagster/partition": "smoke|01"})
        liveness.begin(instance, alive)
        assert running() == ["smoke|01"]
        assert dead in vlaw("reconcile")
        assert (status_of(instance, dead), status_of(instance, alive)) == (dg.DagsterRunStatus.FAILURE, STARTED)
        liveness.let_go(instance, alive)
