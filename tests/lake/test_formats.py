"""Lakes of other formats: newer ones are refused, older ones are refused until they are migrated, in place and
safely."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from factories import PARTITION, commit, commit_all, sample_episodes

from vlaw_assets.lake import Lake, write_format
from vlaw_assets.lake.artifact import ArtifactRef
from vlaw_assets.lake.durable import FileLock, as_written, canonical_json, digest_of, sha256_file
from vlaw_assets.lake.schemas import ADDED, TABLES
from vlaw_assets.lake.upkeep import migrate
from vlaw_assets.lake.upkeep.verify import unsealed, verify, verify_ledger
from vlaw_models.errors import VlawError


def make_old(root: Path) -> list[ArtifactRef]:
    """A lake as format 1 wrote it, through delta-rs: no seal, no log in versions, fewer columns and tables."""
    from deltalake import CommitProperties, DeltaTable, write_deltalake

    lake = Lake.open(root)
    commit_all(lake)
    commit_all(lake, partition="ablation|01")
    refs, edges = [], {ref.artifact_id: lake.ledger.edge_rows(ref.artifact_id) for ref in lake.ledger.artifacts()}
    for name in ("reads", "quarantine", "edges", "artifacts"):
        shutil.rmtree(lake.paths.table(name))
    for name in ("edges", "artifacts"):
        schema = pa.schema([field for field in TABLES[name] if field.name not in ADDED[name]])
        DeltaTable.create(str(lake.paths.table(name)), schema=schema, name=name)

    def append(name: str, rows: list[dict], artifact_id: str) -> dict:
        table = DeltaTable(str(lake.paths.table(name)))
        there = set(table.file_uris())
        schema = pa.schema([field for field in TABLES[name] if field.name not in ADDED[name]])
        write_deltalake(
            table,
            pa.Table.from_pylist(rows, schema=schema),
            mode="append",
            commit_properties=CommitProperties(custom_metadata={"vlaw.artifact_id": artifact_id}),
        )
        new = [Path(uri.removeprefix("file://")) for uri in set(table.file_uris()) - there]
        files = [
            {"path": lake.paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}
            for path in new
        ]
        return {"version": table.version(), "rows": len(rows), "files": files}

    for ref in lake.ledger.artifacts():
        versions = {
            name: {key: entry[key] for key in ("version", "rows", "files")} for name, entry in ref.versions.items()
        }
        row = ref.to_row()
        if "edges" in versions and not ref.source_artifact_id:
            owner = {key: row[key] for key in ("artifact_id", "asset", "partition_key", "experiment", "iteration")}
            rows = [
                owner | {"parent_id": edge.parent, "role": edge.role, "read_as": edge.read_as}
                for edge in edges[ref.artifact_id]
            ]
            versions["edges"] = append("edges", rows, ref.artifact_id)
        elif ref.source_artifact_id:
            versions["edges"] = refs[-1].versions["edges"]
        append("artifacts", [row | {"versions_json": canonical_json(versions)}], ref.artifact_id)
        refs.append(dataclasses.replace(ref, versions=versions, contents_json=""))
    for path in (lake.paths.seal, lake.paths.chain):
        path.unlink()
    lake.paths.format.write_text(
        as_written({"format": "vlaw-lake", "version": 1, "created_at": "2026-01-01T00:00:00+00:00"})
    )
    return refs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats") / "lake"
    return root, make_old(root)


@pytest.fixture
def old(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "lake")
    return tmp_path / "lake", made[1]


def test_an_old_lake_is_refused_until_it_is_migrated(old):
    root, refs = old
    for create in (True, False):
        with pytest.raises(VlawError, match="vlaw migrate"):
            Lake.open(root, create=create)
    assert migrate.migrate(root) == 1
    assert migrate.migrate(root) == 3, "again: nothing to do"

    lake = Lake.open(root)
    assert lake.ledger.artifacts() == refs, "rows, order and ids are as they were"
    assert json.loads(lake.paths.format.read_text())["created_at"] == "2026-01-01T00:00:00+00:00"
    (edge,) = lake.ledger.edge_rows(refs[1].artifact_id)
    assert (edge.role, edge.parent) == ("start", refs[0].artifact_id)
    assert (edge.scope, edge.selection, edge.selection_id) == ("whole", "all", "")
    assert verify_ledger(lake) + verify(lake, refs) == []
    assert unsealed(lake) == []
    assert len(lake.read(refs[1]).episodes()) == len(sample_episodes())

    assert commit_all(lake).artifact_id == refs[1].artifact_id, "what was made is still found"
    again = commit_all(lake, force=True)
    assert again.content_digest == refs[1].content_digest
    assert Lake.open(root).ledger.artifacts() == [*refs, again]
    assert verify_ledger(lake) + verify(lake, [again]) == []
    from deltalake import DeltaTable

    table = DeltaTable(str(lake.paths.table("artifacts"))).to_pyarrow_table()
    assert sorted(table["contents_json"].is_null().to_pylist()) == [False, True, True, True], (
        "one table for all readers"
    )


@pytest.mark.parametrize("table", ["episodes", "edges", "artifacts"])
def test_a_migrated_lake_pins_the_log_it_came_with(old, table):
    root, _ = old
    migrate.migrate(root)
    path = root / "delta" / table / "_delta_log" / f"{1:020d}.json"
    path.write_bytes(path.read_bytes().replace(b'"numRecords', b'"numrecords'))
    assert [problem.path for problem in verify_ledger(Lake.open(root))] == [path.relative_to(root).as_posix()]


def test_sql_and_audit_after_migration(old):
    from vlaw_assets.lineage.closure import audit_of
    from vlaw_assets.query import connect

    root, refs = old
    migrate.migrate(root)
    lake = Lake.open(root)
    with connect(lake) as query:
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]
        assert query.execute("SELECT scope, selection FROM edges").fetchall() == [("whole", "all")]
        assert query.execute("SELECT count(*) FROM reads").fetchall() == [(0,)]
    found = audit_of(lake, lake.ledger.require("all", PARTITION))
    assert [item["artifact"] for item in found["artifacts"]] == [refs[0].artifact_id, refs[1].artifact_id]


def test_a_migration_that_dies_anywhere_leaves_an_old_lake_that_can_be_migrated(old, monkeypatch):
    root, refs = old
    steps = [(migrate.Tables, "create"), (migrate, "_add_columns"), (migrate.seal, "start"), (migrate, "write_format")]
    for holder, name in steps:
        for after in (False, True):
            with monkeypatch.context() as patch:
                original = getattr(holder, name)

                def dying(*args, original=original, after=after, **kwargs):
                    if after:
                        original(*args, **kwargs)
                    raise KeyboardInterrupt

                patch.setattr(holder, name, dying)
                with pytest.raises(KeyboardInterrupt):
                    migrate.migrate(root)
            if (name, after) != ("write_format", True):
                with pytest.raises(VlawError, match="format 1"):
                    Lake.open(root)
    lake = Lake.open(root)
    assert lake.ledger.artifacts() == refs
    assert verify_ledger(lake) == []


def test_a_lake_of_format_2_keeps_its_seal_and_gets_the_new_column(tmp_path, monkeypatch):
    from vlaw_assets.query import connect

    lake = Lake.open(tmp_path / "lake")
    with monkeypatch.context() as patch:
        shutil.rmtree(lake.paths.table("episodes"))
        fields = [field for field in TABLES["episodes"] if field.name != "nearness"]
        patch.setitem(TABLES, "episodes", pa.schema(fields))
        lake.tables.create()
        patch.setattr("vlaw_assets.lake.FORMAT_VERSION", 2)
        write_format(lake.paths)
        ref = commit(
            lake, "base", "", {}, lambda draft: draft.write_episodes(sample_episodes(), purpose="rollout"), kind="base"
        )
    with pytest.raises(VlawError, match="vlaw migrate"):
        Lake.open(lake.paths.root)
    seal = lake.paths.seal.read_bytes()
    assert migrate.migrate(lake.paths.root) == 2
    assert lake.paths.seal.read_bytes() == seal
    lake = Lake.open(lake.paths.root)
    (old,) = [one for one in lake.ledger.artifacts() if one.artifact_id == ref.artifact_id]
    with connect(lake) as query:
        assert set(query.execute("SELECT nearness FROM episodes").fetchall()) == {(None,)}
    new = commit(
        lake, "near", "", {}, lambda draft: draft.write_episodes([near_episode()], purpose="near_success"), kind="near"
    )
    with connect(lake) as query:
        rows = query.execute("SELECT nearness, count(*) FROM episodes GROUP BY ALL ORDER BY 1 NULLS LAST").fetchall()
    assert rows == [(0.75, 1), (None, len(sample_episodes()))]
    assert [one.nearness for one in lake.read(new).episodes()] == [0.75]
    assert {one.nearness for one in lake.read(old).episodes()} == {None}
    assert verify_ledger(lake) + verify(lake, [old, new]) == []
    lake.paths.seal.write_bytes(b"{}")
    with pytest.raises(VlawError):
        Lake.open(lake.paths.root).ledger.artifacts()


def near_episode():
    return dataclasses.replace(sample_episodes()[0], nearness=0.75)


def test_migration_waits_for_no_run(old):
    root, _ = old
    lock = FileLock(root / "locks" / "all--vlaw__01.lock")
    assert lock.acquire(holder="night run")
    try:
        with pytest.raises(VlawError, match="run night run"):
            migrate.migrate(root)
    finally:
        lock.release()
    assert json.loads((root / "FORMAT.json").read_text())["version"] == 1
    assert migrate.migrate(root) == 1


def test_damaged_rows_are_an_error_before_anything_changes(old):
    root, _ = old
    victim = max((root / "delta" / "artifacts").glob("*.parquet"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-20])
    before = sorted(path for path in root.rglob("*") if path.suffix == ".json")
    with pytest.raises(VlawError, match=victim.name):
        migrate.migrate(root)
    assert sorted(path for path in root.rglob("*") if path.suffix == ".json") == before


def test_newer_formats_and_strangers_are_refused(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    found = json.loads(lake.paths.format.read_text())
    found.pop("digest")
    newer = found | {"version": 4}
    lake.paths.format.write_text(as_written(newer | {"digest": digest_of(newer)}))
    for attempt in (lambda: Lake.open(lake.paths.root), lambda: migrate.migrate(lake.paths.root)):
        with pytest.raises(VlawError, match="update vlaw"):
            attempt()
    with pytest.raises(VlawError, match="no lake"):
        migrate.migrate(tmp_path / "nowhere")


def test_a_lost_format_file_is_not_made_up(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    refs = [lake.ledger.require("base"), commit_all(lake)] if commit_all(lake) else []
    lake.paths.format.unlink()
    for create in (True, False):
        with pytest.raises(VlawError, match=r"FORMAT\.json is missing"):
            Lake.open(lake.paths.root, create=create)
    migrate.reseal(lake.paths.root)
    again = Lake.open(lake.paths.root)
    assert again.ledger.artifacts() == refs
    assert verify_ledger(again) == []
