"""`vlaw gc` deletes orphans and nothing else: every reader sees what it saw, a second pass finds nothing."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
from factories import commit_all, fill, identity, sample_episodes
from lake_pictures import moments, picture
from object_store import Place
from typer.testing import CliRunner

from vlaw_assets.lake import Draft, Lake, replica
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.tables import tables_of
from vlaw_assets.lake.upkeep import garbage
from vlaw_assets.lake.upkeep.garbage import collect, find_garbage
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_models.errors import VlawError


def fail(lake: Lake, monkeypatch, *, before_ledger: bool) -> None:
    """A run that writes all its data and dies: before the ledger row, or with uncommitted files only."""

    def dying(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lake.ledger if before_ledger else lake.tables, "append", dying)
        if not before_ledger:
            patch.setattr("vlaw_assets.lake.frames.FrameWriter.commit", dying)
        with (
            pytest.raises(KeyboardInterrupt),
            lake.commit(
                asset="dead", partition="vlaw|03", identity=identity(f"dead {before_ledger}"), run_id="r"
            ) as draft,
        ):
            fill_differently(draft, before_ledger)


def fill_differently(draft: Draft, before_ledger: bool) -> None:
    fill(draft, sample_episodes(2, seed=int(before_ledger)))
    (draft.checkpoint_dir() / "config.json").write_text(json.dumps({"dead": before_ledger}))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return littered(Lake.open(tmp_path_factory.mktemp("gc") / "lake")).paths.root


def littered(lake: Lake) -> Lake:
    """Live artifacts, superseded and reused ones among them, and the leftovers of two dead runs between."""
    commit_all(lake)
    with pytest.MonkeyPatch.context() as patch:
        fail(lake, patch, before_ledger=True)
        commit_all(lake, partition="ablation|01")
        commit_all(lake, force=True)
        fail(lake, patch, before_ledger=False)
    torn = lake.paths.table("steps") / "asset=dead" / "partition_key=vlaw__03" / "part-torn.parquet"
    torn.write_bytes(b"PAR1 torn")
    (lake.paths.frames / "data" / "torn.lance").write_bytes(b"torn")
    folder = lake.paths.drafts("dead", "vlaw|03") / "x" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"12345")
    (lake.paths.table("steps") / "_delta_log" / "_commit_1.json.tmp").write_text("{}")
    (lake.paths.root / ".FORMAT.json.1.tmp").write_text("{")
    if replica.of(lake.paths.root):
        time.sleep(1.1)  # a store tells time by the second: what is of this one is not old yet
    return lake


@pytest.fixture
def lake(made, tmp_path):
    shutil.copytree(made, tmp_path / "lake")
    return Lake.open(tmp_path / "lake")


@pytest.fixture
def stored(place, made):
    """The same in a folder and in a bucket."""
    if place.kind == "bucket":
        return littered(place.open())
    shutil.copytree(made, place.address)
    return place.open()


def outside(lake: Lake) -> dict[str, list]:
    """What Delta and Lance readers that know nothing of vlaw see, rows of dead artifacts left out by their id."""
    import lance
    from deltalake import DeltaTable

    live = {ref.artifact_id for ref in lake.ledger.artifacts()}
    tables = {name: DeltaTable(str(lake.paths.table(name))).to_pyarrow_table() for name in tables_of(lake.paths)}
    tables["frames"] = lance.dataset(str(lake.paths.frames)).to_table()
    return {
        name: sorted(str(row) for row in table.to_pylist() if row["artifact_id"] in live)
        for name, table in tables.items()
    }


def test_orphans_go_and_everything_else_stays(stored, place):
    import lance

    lake = stored

    before, seen = moments(lake), outside(lake)
    found = find_garbage(lake, older_than_s=0)
    kinds = {item.kind for item in found}
    assert kinds == {"rows", "frames", "checkpoint", "temporary"}
    tables = {item.path.relative_to(lake.paths.root).parts[1] for item in found if item.kind == "rows"}
    assert tables == {"episodes", "steps", "reward_scores", "members", "evaluations"}
    assert sum(item.kind == "frames" for item in found) == 3, "committed, uncommitted, torn"
    assert {item.path.name for item in found} >= {"part-torn.parquet", "_commit_1.json.tmp", ".FORMAT.json.1.tmp"}
    assert find_garbage(lake, older_than_s=3600) == [], "young files may belong to somebody"
    files = {path for path in lake.paths.root.rglob("*") if path.is_file()}
    assert outside(lake) == seen
    assert files == {path for path in lake.paths.root.rglob("*") if path.is_file()}, "looking changes nothing"

    assert collect(lake, older_than_s=0) == found
    assert not any(item.path.exists() for item in found)
    fresh = Lake.open(lake.paths.root)
    assert moments(fresh) == before
    for reader in (lake, fresh):
        assert picture(reader) == before[max(before)]
        assert verify_ledger(reader) + verify(reader, reader.ledger.artifacts()) == []
    assert outside(lake) == seen
    live = {ref.artifact_id for ref in lake.ledger.artifacts()}
    frames = lance.dataset(str(lake.paths.frames))
    assert set(frames.to_table(columns=["artifact_id"])["artifact_id"].to_pylist()) <= live
    assert {tag.removeprefix("artifact-") for tag in frames.tags.list()} <= live | {"created"}
    left = {path for path in lake.paths.root.rglob("*") if path.is_file()}
    assert find_garbage(lake, older_than_s=0) == collect(lake, older_than_s=0) == []
    assert {path for path in lake.paths.root.rglob("*") if path.is_file()} == left, "a second pass does nothing"
    other = place.open("another host")
    assert find_garbage(other, older_than_s=0) == [], "nor is it there for others"
    assert verify_ledger(other) + verify(other, other.ledger.artifacts()) == []
    commit_all(lake, force=True)
    assert verify_ledger(lake) == []


@pytest.mark.slow
def test_another_host_collects_what_a_dead_one_left(s3, tmp_path):
    """It has never seen those files: the bucket tells what there is, and how old."""
    place = Place("bucket", tmp_path)
    lake = littered(place.open())
    other = place.open("another host")
    found = collect(other, older_than_s=0)
    assert {item.kind for item in found} == {"rows", "frames", "checkpoint"}, "temporary files are of one host"
    names = {item.name for item in replica.of(other.paths.root).bucket.names()}
    assert not names & {other.paths.relative(item.path) for item in found}
    third = place.open("a third host")
    assert find_garbage(third, older_than_s=0) == []
    assert verify_ledger(third, again=True) + verify(third, third.ledger.artifacts()) == []
    assert [len(third.read(ref).episodes()) for ref in third.ledger.artifacts()] == [
        len(lake.read(ref).episodes()) for ref in lake.ledger.artifacts()
    ]
    commit_all(third, force=True)
    time.sleep(replica.FRESH_S)  # a host sees what others commit after so long
    assert place.open("here").ledger.artifacts() == third.ledger.artifacts()


@pytest.mark.parametrize("step", ["forget_rows", "forget_frames", "remove", "remove_checkpoint", "remove_drafts"])
@pytest.mark.parametrize("after", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_collector_that_dies_does_no_harm(lake, monkeypatch, step, after):
    seen, current = outside(lake), [lake.read(ref).episodes()[0].images.tobytes() for ref in lake.ledger.artifacts()]
    original, calls = getattr(garbage, step), []

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(garbage, step, dying)
        try:
            collect(lake, older_than_s=0)
        except KeyboardInterrupt:
            assert len(calls) == after + 1
    fresh = Lake.open(lake.paths.root)
    assert outside(fresh) == seen
    assert [fresh.read(ref).episodes()[0].images.tobytes() for ref in fresh.ledger.artifacts()] == current
    assert verify_ledger(fresh) + verify(fresh, fresh.ledger.artifacts()) == []
    collect(fresh, older_than_s=0)
    assert find_garbage(fresh, older_than_s=0) == []
    assert outside(fresh) == seen


def test_a_draft_at_work_keeps_its_files(stored):
    lake = stored
    with lake.commit(asset="slow", partition="vlaw|09", identity=identity("slow"), run_id="night") as draft:
        draft.write_episodes(sample_episodes(1, seed=3), purpose="rollout")
        (draft.checkpoint_dir() / "config.json").write_text("{}")
        collect(lake, older_than_s=0)
    ref = lake.ledger.require("slow", "vlaw|09")
    assert len(lake.read(ref).episodes()) == 1
    assert verify(lake, [ref]) == []


def test_nothing_younger_than_the_oldest_draft_at_work_goes(lake):
    lock = FileLock(lake.paths.lock("slow", "vlaw|09"))
    assert lock.acquire(holder="night")
    try:
        old = time.time() - 3600
        os.utime(lock.path, (old, old))
        assert find_garbage(lake, older_than_s=0) == []
    finally:
        lock.release()
    assert find_garbage(lake, older_than_s=0)


def test_a_checkpoint_that_a_draft_finds_a_use_for_stays(lake, monkeypatch):
    """The same bytes as an old orphan: the draft keeps the folder there is, and the collector sees it in time."""
    orphan = next(item.path for item in find_garbage(lake, older_than_s=0) if item.kind == "checkpoint")
    old = time.time() - 30 * garbage.DAY_S
    os.utime(orphan, (old, old))
    remove = garbage.remove_checkpoint
    made = []

    def late(paths, path, limit):
        if path == orphan:  # between the marking and the deletion
            with lake.commit(asset="new", partition="vlaw|09", identity=identity("new"), run_id="r") as draft:
                shutil.copy(orphan / "config.json", draft.checkpoint_dir())
                if (orphan / "sub").is_dir():
                    shutil.copytree(orphan / "sub", draft.checkpoint_dir() / "sub")
            made.append(draft.ref)
        remove(paths, path, limit)

    monkeypatch.setattr(garbage, "remove_checkpoint", late)
    collect(lake, older_than_s=60)
    assert made[0].location == lake.paths.relative(orphan)
    assert lake.read(made[0]).checkpoint() == orphan


def test_only_one_collects_at_a_time(stored):
    lake = stored
    with (
        FileLock(lake.paths.collector_lock).hold("vlaw gc", wait_s=0, remedy=""),
        pytest.raises(VlawError, match=f"vlaw gc is at work: pid {os.getpid()}"),
    ):
        collect(lake, older_than_s=0)
    assert collect(lake, older_than_s=0)


@pytest.mark.parametrize("damage", ["last entry", "row", "seal"])
def test_a_damaged_ledger_collects_nothing(lake, damage):
    """A ledger that lost its newest row would make garbage of live data."""
    log = sorted((lake.paths.table("artifacts") / "_delta_log").glob("*.json"))
    if damage == "last entry":
        log[-1].unlink()
    elif damage == "row":
        log[2].write_text(log[2].read_text().replace("artifact_id", "artifact_ix"))
    else:
        lake.paths.seal.unlink()
    files = {path for path in lake.paths.root.rglob("*") if path.is_file()}
    for act in (find_garbage, collect):
        with pytest.raises(VlawError, match="cannot tell what is garbage"):
            act(Lake.open(lake.paths.root), older_than_s=0)
    assert {path for path in lake.paths.root.rglob("*") if path.is_file()} >= files


def test_the_past_is_not_what_decides(lake):
    assert find_garbage(lake.as_of(0), older_than_s=0) == find_garbage(lake, older_than_s=0)


def test_command(lake, monkeypatch):
    from vlaw_assets.cli import app

    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    found = find_garbage(lake, older_than_s=0)

    def run(*args: str) -> str:
        done = CliRunner().invoke(app, ["gc", *args])
        assert done.exit_code == 0, done.output
        return done.output

    assert "nothing" in run(), "younger than a week"
    dry = json.loads(run("--dry-run", "--older-than", "0", "--json"))
    assert dry == {
        "deleted": False,
        "bytes": sum(item.size for item in found),
        "orphans": [{"path": lake.paths.relative(item.path), "kind": item.kind, "bytes": item.size} for item in found],
    }
    assert all(item.path.exists() for item in found)
    assert f"{dry['bytes']:,} bytes" in run("--older-than", "0")
    assert not any(item.path.exists() for item in found)
    assert "nothing" in run("--older-than", "0")
