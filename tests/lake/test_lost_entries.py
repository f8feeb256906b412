"""A ledger that has lost entries is refused by every reader and by every commit; no sealed version number is given out
twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable
from factories import commit_all, identity
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, deltalog
from vlaw_assets.lake.quarantine import add
from vlaw_assets.lake.upkeep import migrate
from vlaw_assets.lake.upkeep.garbage import collect
from vlaw_assets.lake.upkeep.verify import verify, verify_ledger
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError

COUNT = 5
"""Artifacts, and the version of the last one."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    lake = Lake.open(tmp_path_factory.mktemp("lost") / "lake")
    commit_all(lake)  # base, all[vlaw|01]
    commit_all(lake, partition="ablation|01")
    commit_all(lake, force=True)
    before = {name: (lake.paths.root / name).read_bytes() for name in ("ledger.seal", "ledger.chain")}
    commit_all(lake, force=True)
    return lake.paths.root, before


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "lake")
    return tmp_path / "lake"


def log(root: Path, version: int) -> Path:
    return deltalog.entry_path(root / "delta" / "artifacts", version)


def data(root: Path, version: int) -> Path:
    (path,) = deltalog.read_entry(root / "delta" / "artifacts", version).added
    return path


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


DAMAGE = {
    "the newest entry": lambda root: remove(log(root, 5)),
    "the last two": lambda root: remove(log(root, 5), log(root, 4)),
    "all but the first": lambda root: remove(*(log(root, n) for n in range(1, 6))),
    "one in the middle": lambda root: remove(log(root, 3)),
    "the newest and its data file": lambda root: remove(data(root, 5), log(root, 5)),
    "the newest data file": lambda root: remove(data(root, 5)),
    "the seal": lambda root: remove(root / "ledger.seal"),
    "the chain": lambda root: remove(root / "ledger.chain"),
    "seal, chain and the newest entry": lambda root: remove(root / "ledger.seal", root / "ledger.chain", log(root, 5)),
}
RESTORED = {
    "the newest entry": (5,),
    "the last two": (4, 5),
    "all but the first": (1, 2, 3, 4, 5),
    "one in the middle": (3,),
}
LEFT = {"the newest and its data file": COUNT - 1, "seal, chain and the newest entry": COUNT - 1}
READERS = {
    "artifacts": lambda root: Lake.open(root, create=False).ledger.artifacts(),
    "as of": lambda root: Lake.open(root, create=False).as_of("#0"),
    "current": lambda root: Lake.open(root, create=False).ledger.current("base"),
    "sql": lambda root: connect(Lake.open(root, create=False)).__enter__(),
    "gc": lambda root: collect(Lake.open(root, create=False), older_than_s=0),
    "quarantine": lambda root: add(Lake.open(root, create=False), ["e"], why="w", by="b"),
    "commit": lambda root: commit_all(Lake.open(root), force=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_reader_and_no_commit_takes_what_is_left_for_the_whole(root, damage):
    DAMAGE[damage](root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "locks" not in path.parts}
    for name, read in READERS.items():
        with pytest.raises(VlawError) as caught:
            read(root)
        assert "restore" in caught.value.remedy, name
        if name != "gc":
            assert "--reseal" in caught.value.remedy, name
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "locks" not in path.parts}
    assert after == before, "nothing is written on it"


def test_the_message_names_the_versions(root):
    remove(log(root, 4), log(root, 5))
    with pytest.raises(VlawError, match=r"lost versions 4, 5: sealed up to version 5"):
        Lake.open(root).ledger.artifacts()


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_remedy_works(made, root, damage):
    """`vlaw migrate --reseal`: rows whose data files are there come back, the others' numbers stay taken."""
    whole = Lake.open(made[0]).ledger.artifacts()
    DAMAGE[damage](root)
    done = migrate.reseal(root)
    assert done.restored == RESTORED.get(damage, ())
    assert done.lost == ((5,) if damage == "the newest and its data file" else ())
    lake = Lake.open(root)
    refs = lake.ledger.artifacts()
    assert refs == whole[: LEFT.get(damage, COUNT)]
    assert verify_ledger(lake) + verify(lake, refs) == []
    commit_all(lake, force=True)
    taken = 5 if damage == "seal, chain and the newest entry" else 6
    assert deltalog.newest(lake.paths.table("artifacts")) == taken, (
        "no number is given out twice that a seal or chain still knew"
    )
    assert verify_ledger(Lake.open(root)) == []
    assert len(DeltaTable(str(root / "delta" / "artifacts")).to_pyarrow_table()) == len(refs) + 1, (
        "other readers see the same"
    )


def test_a_row_that_is_gone_in_the_middle_is_named_afterwards(root):
    remove(data(root, 1), log(root, 1))
    assert migrate.reseal(root).lost == (1,)
    lake = Lake.open(root)
    assert len(lake.ledger.artifacts()) == COUNT - 1
    assert any("its parent" in str(problem) for problem in verify(lake, lake.ledger.artifacts()))


def test_an_older_seal_beside_a_longer_chain(made, root):
    """Only the seal is from a backup: sound while the log has what the chain says, refused when it has lost that."""
    (root / "ledger.seal").write_bytes(made[1]["ledger.seal"])
    assert len(Lake.open(root).ledger.artifacts()) == COUNT
    remove(log(root, 5))
    with pytest.raises(VlawError, match="lost version 5"):
        Lake.open(root).ledger.artifacts()


def test_a_newer_seal_beside_an_older_chain(made, root):
    (root / "ledger.chain").write_bytes(made[1]["ledger.chain"])
    for read in READERS.values():
        with pytest.raises(VlawError):
            read(root)


def test_a_reader_at_work_notices_a_gap(root):
    lake = Lake.open(root)
    assert len(lake.ledger.artifacts()) == COUNT
    other = Lake.open(root)
    commit_all(other, force=True)
    commit_all(other, force=True)
    remove(log(root, 6))
    with pytest.raises(VlawError, match=r"log entry 6 .* missing"):
        lake.ledger.artifacts()
    with pytest.raises(VlawError, match=r"log entry 6 .* missing"):
        commit_all(Lake.open(root), force=True)


def test_an_entry_that_is_lost_while_something_is_made(root):
    """Between the check at the beginning of a commit and its end."""
    lake = Lake.open(root)

    def losing(draft):
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
        remove(log(root, 5))

    with (
        pytest.raises(VlawError, match="lost version 5"),
        lake.commit(asset="x", identity=identity("x"), run_id="r") as draft,
    ):
        losing(draft)
    assert not log(root, 5).exists()


@pytest.mark.parametrize("table", ["edges", "episodes"])
def test_a_lost_entry_of_another_table_is_not_replaced(root, table):
    lake = Lake.open(root)
    last = lake.ledger.newest_version(table)
    remove(deltalog.entry_path(lake.paths.table(table), last))
    with pytest.raises(VlawError, match=rf"log entry {last} of Delta table {table} is missing"):
        commit_all(Lake.open(root), force=True)
    assert not deltalog.entry_path(lake.paths.table(table), last).exists()


def test_edges_are_never_fewer_than_were_committed(root):
    lake = Lake.open(root)
    ref = lake.ledger.require("all", "vlaw|01")
    path = deltalog.entry_path(lake.paths.table("edges"), ref.versions["edges"]["version"])
    path.write_text(path.read_text().replace(ref.artifact_id, "f" * len(ref.artifact_id)))
    with pytest.raises(VlawError, match="table edges: content changed"):
        lake.ledger.edges(ref.artifact_id)


def test_the_commands_say_it(root, monkeypatch, tmp_path):
    monkeypatch.setenv("VLAW_LAKE", str(root))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    remove(log(root, 5))
    for words in (
        ["audit", "all", "vlaw", "1"],
        ["audit", "all", "vlaw", "1", "--verify"],
        ["sql", "select 1"],
        ["status"],
        ["impact", "e"],
        ["gc"],
        ["quarantine", "e", "--why", "w"],
        ["seal"],
        ["compact"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, (words, done.output)
        assert "00000000000000000005.json" in done.output or "version 5" in done.output, (words, done.output)
    done = CliRunner().invoke(app, ["migrate", "--reseal"])
    assert done.exit_code == 0, done.output
    assert "restored from their data files: versions 5" in done.output
    assert CliRunner().invoke(app, ["audit", "all", "vlaw", "1", "--verify"]).exit_code == 0
