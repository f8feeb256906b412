"""Checkpoints of the Delta logs: made by whoever commits, true, whole or absent; other readers read the same with and
without.

DuckDB's delta extension is not asked: it comes by a download of its own.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable
from factories import PARTITION, fill, identity
from long_log import COMMITS, append, checkpoint, log_of, rows, said, scratch, state, versions, without
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, delta_checkpoints, deltalog
from vlaw_assets.lake.delta_checkpoints import EVERY, KEPT, LAST, RECORD
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.lake.upkeep import delta_checks
from vlaw_assets.lake.upkeep.compaction import compact
from vlaw_assets.lake.upkeep.garbage import collect, find_garbage
from vlaw_assets.lake.upkeep.verify import verify
from vlaw_models.errors import VlawError


@pytest.fixture
def lake(long, tmp_path):
    shutil.copytree(long, tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


def test_every_hundredth_version_has_one_and_it_is_true(lake, tmp_path):
    assert versions(lake) == [100, 200]
    assert json.loads((log_of(lake) / LAST).read_text())["version"] == 200
    assert all(versions(lake, name) == [] for name in TABLES if name != "members")
    assert said(lake) == []
    assert state(lake.paths.table("members")) == state(without(lake, tmp_path / "bare"))
    assert rows(lake.paths.table("members")) == rows(tmp_path / "bare")
    for version in (100, 150):
        found = [
            DeltaTable(str(table), version=version).to_pyarrow_table()
            for table in (lake.paths.table("members"), tmp_path / "bare")
        ]
        assert found[0].num_rows == 1 + 2 * (version - 1), "one row of the artifact, two of each commit after it"
        assert sorted(map(str, found[0].to_pylist())) == sorted(map(str, found[1].to_pylist()))


def test_the_log_is_not_read_where_there_is_a_checkpoint(lake):
    """Or else it saves nothing: an outside reader opens the table though an entry before the checkpoint is gone."""
    expected = rows(lake.paths.table("members"))
    deltalog.entry_path(lake.paths.table("members"), 42).unlink()
    assert rows(lake.paths.table("members")) == expected


def test_read_equal_by_polars(lake, tmp_path):
    polars = pytest.importorskip("polars")
    found = [
        polars.read_delta(str(table)).sort("artifact_id", "position")
        for table in (lake.paths.table("members"), without(lake, tmp_path / "bare"))
    ]
    assert found[0].equals(found[1])
    assert len(found[0]) == len(rows(lake.paths.table("members")))


def test_equal_after_compaction_and_after_deletes(lake, tmp_path):
    before = rows(lake.paths.table("members"))
    live = [row for row in before if any(ref.artifact_id in row for ref in lake.ledger.artifacts())]
    done = {item.table: item for item in compact(lake)}
    assert done["delta/members"].before > done["delta/members"].after
    newest = deltalog.newest(lake.paths.table("members"))
    assert done["delta/members"].checkpoint == newest
    assert versions(lake) == [100, 200, newest]
    assert rows(lake.paths.table("members")) == before == rows(without(lake, tmp_path / "compacted"))
    collect(lake, older_than_s=0)
    delta_checkpoints.complete(lake.paths, "members")
    assert rows(lake.paths.table("members")) == live == rows(without(lake, tmp_path / "collected"))
    assert state(lake.paths.table("members")) == state(tmp_path / "collected")
    assert said(lake) == []
    assert verify(lake, lake.ledger.artifacts()) == []


def test_whoever_commits_the_version_makes_it(lake):
    """Also where that is delta-rs for us: the collector's commit is number 300."""
    table = lake.paths.table("members")
    append(lake, 299 - deltalog.newest(table), "dead")
    assert versions(lake) == [100, 200]
    collect(lake, older_than_s=0)
    assert deltalog.newest(table) >= 300
    assert versions(lake) == [100, 200, 300]
    assert said(lake) == []


def test_after_the_ledger_row_and_not_before(lake, monkeypatch):
    """A checkpoint that comes due in a commit of several tables does not hold up the artifact."""
    append(lake, 299 - deltalog.newest(lake.paths.table("members")))
    order = []
    make, ledger_row = delta_checkpoints.make, lake.ledger.append
    monkeypatch.setattr(delta_checkpoints, "make", lambda *args: (order.append("checkpoint"), make(*args))[1])
    monkeypatch.setattr(lake.ledger, "append", lambda ref: (order.append("ledger"), ledger_row(ref))[1])
    with lake.commit(asset="all", partition=PARTITION, identity=identity("more"), run_id="r") as draft:
        fill(draft)
    assert order == ["ledger", "checkpoint"]
    assert versions(lake)[-1] == 300


@pytest.mark.parametrize("error", [OSError(28, "no space"), RuntimeError("anything")])
def test_one_that_fails_is_nothing(lake, monkeypatch, error):
    def failing(*_args):
        raise error

    monkeypatch.setattr(delta_checkpoints, "base_of", failing)
    append(lake, 300 - deltalog.newest(lake.paths.table("members")))
    assert deltalog.newest(lake.paths.table("members")) == 300
    assert versions(lake) == [100, 200]
    assert scratch(lake) == []
    assert said(lake) == []


@pytest.mark.parametrize(
    "place",
    ["keep", *(pytest.param(place, marks=pytest.mark.slow) for place in ("fill", "write_record", "fsync_path"))],
)
@pytest.mark.parametrize("after", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_maker_that_dies_leaves_a_sound_table_and_what_gc_finds(lake, tmp_path, monkeypatch, place, after):
    original, calls = getattr(delta_checkpoints, place), []

    def dying(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(delta_checkpoints, place, dying)
        patch.setattr(shutil, "rmtree", lambda *_args, **_more: None)  # a killed process tidies nothing up
        try:
            delta_checkpoints.make(lake.paths, "members", 250)
        except KeyboardInterrupt:
            assert len(calls) == after + 1
    assert rows(lake.paths.table("members")) == rows(without(lake, tmp_path / "bare"))
    assert said(lake) == []
    # The orphan rows of this table belong to nobody: what matters here are the names that are left.
    temporary = {item.path for item in find_garbage(lake, older_than_s=-60) if item.kind == "temporary"}
    assert temporary == {path for path in scratch(lake) if any(item.is_file() for item in path.rglob("*"))}
    lake.sweep()
    assert scratch(lake) == []
    delta_checkpoints.make(lake.paths, "members", 250)
    assert versions(lake) == [100, 200, 250]
    assert said(lake) == []


def test_it_is_on_the_disk_before_it_can_be_seen(lake, monkeypatch):
    flushed, seen = [], []
    fsync, replace = delta_checkpoints.fsync_path, Path.replace

    def watched(path: Path, target: Path) -> Path:
        if "delta-checkpoint" in str(path):
            seen.append((Path(target).name, path in flushed))
        return replace(path, target)

    monkeypatch.setattr(delta_checkpoints, "fsync_path", lambda path: (flushed.append(path), fsync(path))[1])
    monkeypatch.setattr(Path, "replace", watched)
    delta_checkpoints.make(lake.paths, "members", 250)
    assert seen == [(checkpoint(lake, 250).name, True), (LAST, True)]
    assert flushed[-1] == log_of(lake)


def test_an_older_one_that_comes_late_does_not_become_the_last(lake):
    delta_checkpoints.make(lake.paths, "members", 250)
    delta_checkpoints.make(lake.paths, "members", 150)
    assert json.loads((log_of(lake) / LAST).read_text())["version"] == 250
    assert said(lake) == []


def test_they_do_not_grow_with_the_square_of_the_log(lake, monkeypatch):
    monkeypatch.setattr(delta_checkpoints, "LANDMARK", 50)
    for version in range(205, 205 + KEPT + 2):
        delta_checkpoints.make(lake.paths, "members", version)
    assert versions(lake) == [100, 200, *range(207, 205 + KEPT + 2)]
    assert said(lake) == []
    assert set(delta_checkpoints.recorded(lake.paths.table("members"))) == {
        path.name for _, path in delta_checkpoints.files(log_of(lake))
    }


def test_those_of_other_programs_are_welcome(lake):
    """Made by hand, at a version of ours (with the same bytes) and at another; gc takes none of them."""
    for version in (200, 250):
        DeltaTable(str(lake.paths.table("members")), version=version).create_checkpoint()
    DeltaTable(str(lake.paths.table("episodes"))).create_checkpoint()
    assert said(lake) == []
    collect(lake, older_than_s=0)
    assert set(versions(lake)) >= {100, 200, 250}
    assert versions(lake, "episodes")


def test_command(lake, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    for path in (*log_of(lake).glob("*.checkpoint.parquet"), log_of(lake) / LAST, lake.paths.table("members") / RECORD):
        path.unlink()  # as in a lake from before there were any
    files = {path for path in lake.paths.root.rglob("*.parquet") if "_delta_log" not in path.parts}

    def run(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["compact", *args])
        assert done.exit_code == code, done.output
        return done.output

    found = {item["table"]: item for item in json.loads(run("--checkpoints-only", "--json"))}
    newest = deltalog.newest(lake.paths.table("members"))
    assert found["delta/members"] == {
        "table": "delta/members",
        "before": COMMITS + 1,
        "after": COMMITS + 1,
        "checkpoint": newest,
        "dropped": [],
    }
    assert files == {path for path in lake.paths.root.rglob("*.parquet") if "_delta_log" not in path.parts}
    assert "0 tables have fewer files, 0 a new checkpoint" in run("--checkpoints-only")
    assert said(lake) == []
    assert "the lake as of" in run("--as-of", "#0", code=2)
    with FileLock(lake.paths.collector_lock).hold("vlaw gc", wait_s=0, remedy=""):
        assert f"vlaw gc is at work: pid {os.getpid()}" in " ".join(run(code=2).split())
    assert "fewer files" in run()
    assert files <= set(lake.paths.root.rglob("*.parquet")), "never vacuums"
    assert said(lake) == []


def test_the_collectors_lock_is_not_asked_by_those_who_commit(lake):
    with FileLock(lake.paths.collector_lock).hold("vlaw gc", wait_s=0, remedy=""):
        append(lake, 300 - deltalog.newest(lake.paths.table("members")))
    assert versions(lake)[-1] == 300 == 3 * EVERY


def test_no_moment_makes_one(lake):
    with pytest.raises(VlawError, match="reading only"):
        compact(lake.as_of(0), checkpoints_only=True)


def test_problems_of_a_log_that_is_damaged_itself(lake):
    path = deltalog.entry_path(lake.paths.table("members"), 42)
    path.unlink()
    assert (
        lake.paths.relative(path),
        "log entry 42 of Delta table members is missing",
    ) in delta_checks.checkpoint_problems(lake.paths)


@pytest.mark.parametrize("broken", ["{", "[]", "7"])
def test_a_log_entry_whose_schema_is_none(lake, broken):
    path = deltalog.entry_path(lake.paths.table("members"), 0)
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["schemaString"] = broken
    path.write_text("\n".join(map(json.dumps, actions)))
    found = dict(delta_checks.checkpoint_problems(lake.paths))
    assert found, "a checkpoint that says something else, at least"
    assert broken != "{" or "is damaged" in found[lake.paths.relative(path)]
