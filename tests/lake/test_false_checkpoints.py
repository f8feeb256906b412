"""Checkpoints of a log that lie or are damaged: named, never believed here, and mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from long_log import append, checkpoint, log_of, rows, said, without
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, delta_checkpoints, deltalog
from vlaw_assets.lake.delta_checkpoints import LAST, RECORD
from vlaw_assets.lake.upkeep.compaction import compact
from vlaw_assets.lake.upkeep.garbage import collect, find_garbage
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger


@pytest.fixture
def lake(long, tmp_path):
    shutil.copytree(long, tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


def changed(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)


def other_adds(key: str, value: object) -> Callable[[list[dict]], list[dict]]:
    return lambda found: [
        row | {"add": row["add"] | {key: value}} if row["add"] and row["add"]["size"] else row for row in found
    ]


LIES = {
    "a file left out": (
        lambda found: [row for row in found if row is not next(r for r in found if r["add"])],
        "leaves out",
    ),
    "a file added": (
        lambda found: [*found, {"add": next(r for r in found if r["add"])["add"] | {"path": "x.parquet"}}],
        "adds x.parquet",
    ),
    "a file twice": (lambda found: [*found, next(r for r in found if r["add"])], "twice"),
    "another size": (other_adds("size", 7), "is not what the log says"),
    "other statistics": (other_adds("stats", '{"numRecords":0}'), "is not what the log says"),
    "another partition": (
        other_adds("partitionValues", [("asset", "x"), ("partition_key", "y")]),
        "is not what the log says",
    ),
    "deleted rows": (
        other_adds("deletionVector", {"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 2}),
        "is not what the log says",
    ),
    "a file removed": (lambda found: [*found, {"remove": {"path": "y.parquet", "dataChange": True}}], "was removed"),
    "no schema": (lambda found: [row for row in found if not row["metaData"]], "metaData is missing"),
    "another setting": (
        lambda found: [
            row | {"metaData": row["metaData"] | {"configuration": []}} if row["metaData"] else row for row in found
        ],
        "its metaData",
    ),
    "another protocol": (
        lambda found: [
            row | {"protocol": row["protocol"] | {"minReaderVersion": 2}} if row["protocol"] else row for row in found
        ],
        "its protocol",
    ),
    "a transaction": (lambda found: [*found, {"txn": {"appId": "x", "version": 1}}], "its txn"),
}


@pytest.mark.parametrize(
    ("lie", "recorded"),
    [
        *((lie, False) for lie in LIES),
        *(pytest.param(lie, True, marks=[pytest.mark.slow] if number else []) for number, lie in enumerate(LIES)),
    ],
)
def test_one_that_lies_is_named_and_changes_nothing_here(lake, monkeypatch, lie, recorded):
    """Also one of another program, of which there is no record; vlaw answers as before, and `vlaw compact` mends it."""
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    change, text = LIES[lie]
    before = [str(row) for ref in lake.ledger.artifacts() for row in lake.read(ref).table("members").to_pylist()]
    path = checkpoint(lake, 200)
    changed(path, change)
    if not recorded:
        table = lake.paths.table("members")
        delta_checkpoints.write_record(table, {})
    name = lake.paths.relative(path)
    expected = ("bytes instead of", "content changed") if recorded else (text,)
    assert any(line.startswith(name) and any(part in line for part in expected) for line in said(lake))
    fresh = Lake.open(lake.paths.root)
    assert verify_ledger(fresh) + verify(fresh, fresh.ledger.artifacts()) == []
    assert [
        str(row) for ref in fresh.ledger.artifacts() for row in fresh.read(ref).table("members").to_pylist()
    ] == before
    if lie != next(iter(LIES)):  # the commands ask and do the same
        assert name in [path for item in compact(lake, checkpoints_only=True) for path in item.dropped]
        assert said(lake) == []
        return
    done = CliRunner().invoke(app, ["audit", "--all", "--verify"])
    assert done.exit_code == 2
    assert name in done.output
    done = CliRunner().invoke(app, ["compact", "--checkpoints-only"])
    assert done.exit_code == 0, done.output
    assert f"{name}: deleted" in done.output
    assert said(lake) == []
    assert CliRunner().invoke(app, ["audit", "--all", "--verify"]).exit_code == 0


DAMAGES, NAMES = ("cut", "empty", "text", "gone"), ("200", "100", LAST, RECORD)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param(name, damage, marks=[] if first == second else [pytest.mark.slow])
        for first, name in enumerate(NAMES)
        for second, damage in enumerate(DAMAGES)
    ],
)
def test_one_that_is_damaged_is_named_and_mended(lake, tmp_path, name, damage):
    path = {LAST: log_of(lake) / LAST, RECORD: lake.paths.table("members") / RECORD}.get(name) or checkpoint(
        lake, int(name)
    )
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"PAR1 no PAR1"}[damage])
    assert any(line.startswith(f"{lake.paths.relative(path)}: ") for line in said(lake))
    assert {item.kind for item in find_garbage(lake, older_than_s=0)} <= {"rows"}, "gc works all the same"
    collect(lake, older_than_s=0)
    compact(lake, checkpoints_only=True)
    assert said(lake) == []
    assert rows(lake.paths.table("members")) == rows(without(lake, tmp_path / "bare"))


def test_a_lie_is_not_built_upon(lake, tmp_path):
    changed(checkpoint(lake, 200), LIES["a file left out"][0])
    append(lake, 300 - deltalog.newest(lake.paths.table("members")))
    assert [line.partition(":")[0] for line in said(lake)] == [lake.paths.relative(checkpoint(lake, 200))]
    assert rows(lake.paths.table("members")) == rows(without(lake, tmp_path / "bare"))
