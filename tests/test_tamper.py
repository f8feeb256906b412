"""Every stored byte is under a digest: whatever is changed, cut, lost or swapped in a lake is named, file by file.

Left out, because no guarantee is about them: `locks/` and `tmp/` (they come and go), Lance's `latest_version_hint.json`
(Lance looks for the newest version itself), and the empty first version of an embeddings table (no row stands on it).
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_worker import PARTITION, commit_all, identity

from vlaw_assets.lake import Lake, seal
from vlaw_assets.lake.verify import Problem, unsealed, verify, verify_ledger
from vlaw_models.errors import VlawError

SOME_POSITIONS = 25


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with every kind of stored file: tables, frames, vectors, a checkpoint, a reused artifact."""
    lake = Lake.open(tmp_path_factory.mktemp("tamper") / "lake")
    ref = commit_all(lake)
    commit_all(lake, partition="ablation|01")
    with lake.commit(asset="vectors", partition=PARTITION, identity=identity("v", None, (ref,)), run_id="r") as draft:
        episodes = draft.read(ref, role="episodes").episodes(frames=False)
        rows = [{"owner": ref.artifact_id, "episode_id": e.episode_id, "task": e.task, "purpose": "rollout", "outcome": "success"}
                for e in episodes]
        draft.write_embeddings("a" * 64, rows, np.eye(len(rows), 4, dtype=np.float32))
    return lake.paths.root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "lake")
    return tmp_path / "lake"


def covered(root: Path) -> list[Path]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    left_out = {"locks", "tmp"}
    (embeddings,) = (root / "lance" / "embeddings").glob("*.lance")
    first = {*(embeddings / "_versions").glob(f"{2**64 - 2:020d}.manifest"), *(embeddings / "_transactions").glob("0-*.txn"),
             embeddings / "_refs" / "tags" / "created.json"}
    return [
        path for path in files
        if path.relative_to(root).parts[0] not in left_out and path.name != "latest_version_hint.json" and path not in first
    ]


def found(root: Path) -> str:
    """Everything that checking a lake says, as text. Nothing but a VlawError may come out of it."""
    said: list[str] = []
    try:
        lake = Lake.open(root, create=False)
        said += map(str, verify_ledger(lake))
        said += map(str, verify(lake, lake.ledger.artifacts()))
    except VlawError as error:
        said.append(str(error))
    return "\n".join(said)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << position % 8
    path.write_bytes(data)


def test_a_sound_lake_has_no_problems(root):
    assert found(root) == ""
    assert unsealed(Lake.open(root)) == []


def test_every_change_of_every_file_is_named(root, capsys):
    rng = np.random.default_rng(0)
    files = covered(root)
    kinds = {path.relative_to(root).parts[0] for path in files}
    assert kinds == {"FORMAT.json", "ledger.seal", "ledger.chain", "delta", "lance", "checkpoints"}
    assert {path.suffix for path in files} == {".json", ".seal", ".chain", ".parquet", ".lance", ".manifest", ".txn", ".safetensors"}
    done: Counter[str] = Counter()
    silent = []
    for path in files:
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        position = int(rng.integers(len(data)))
        for damage, change in (
            ("flip", lambda path=path, position=position: flip(path, position)),
            ("truncate", lambda path=path, data=data: path.write_bytes(data[:-1])),
            ("delete", path.unlink),
        ):
            change()
            done[damage] += 1
            if name not in found(root):
                silent.append(f"{damage} {name} at {position}")
            path.write_bytes(data)
    contents = {path: path.read_bytes() for path in files}
    for one, other in zip(files, files[1:] + files[:1], strict=True):
        if contents[one] == contents[other]:
            continue
        one.write_bytes(contents[other])
        other.write_bytes(contents[one])
        done["swap"] += 1
        said = found(root)
        # Where the list of files is itself damaged, that is what is named; otherwise both files are.
        names = [path.relative_to(root).as_posix() for path in (one, other)]
        lists = [name for name in names if name.endswith(("FORMAT.json", "MANIFEST.json", "ledger.seal", "ledger.chain"))
                 or "artifacts/_delta_log" in name]
        if not (any(name in said for name in lists) if lists else all(name in said for name in names)):
            silent.append(f"swap {names}")
        one.write_bytes(contents[one])
        other.write_bytes(contents[other])
    assert found(root) == "", "all put back"
    with capsys.disabled():
        sys.stdout.write(f"\n{len(files)} stored files; {dict(done)}; silent: {len(silent)}\n")
    assert "\n".join(silent) == ""


@pytest.mark.parametrize("name", ["ledger.seal", "ledger.chain", "FORMAT.json"])
def test_each_part_of_the_seal_counts(root, name):
    path = root / name
    data = path.read_bytes()
    for position in {*np.linspace(0, len(data) - 1, SOME_POSITIONS).astype(int).tolist(), len(data) - 1}:
        for bit in (0, 2):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            assert name in found(root), (position, bit)
    path.write_bytes(data)
    assert found(root) == ""


def test_an_extra_file_in_a_checkpoint_is_named(root):
    (folder,) = (root / "checkpoints").iterdir()
    (folder / "sub" / "adapter.safetensors").write_bytes(b"x")
    assert f"checkpoints/{folder.name}/sub/adapter.safetensors: not part of the checkpoint" in found(root)


@pytest.mark.parametrize("table", ["members", "edges", "artifacts"])
def test_a_row_added_to_a_table_file_is_named(root, table):
    path = max((root / "delta" / table).rglob("*.parquet"), key=lambda item: item.stat().st_size)
    rows = pq.ParquetFile(path).read()
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), path)
    assert path.relative_to(root).as_posix() in found(root)


def test_a_ledger_row_added_by_another_program_is_named_and_not_believed(root):
    from deltalake import DeltaTable, write_deltalake

    before = Lake.open(root).ledger.artifacts()
    table = DeltaTable(str(root / "delta" / "artifacts"))
    forged = table.to_pyarrow_table().slice(0, 1)
    forged = forged.set_column(forged.schema.get_field_index("artifact_id"), "artifact_id", pa.array(["forged"]))
    write_deltalake(table, forged, mode="append")
    assert Lake.open(root).ledger.artifacts() == before
    assert f"{table.version():020d}.json: WRITE by another program" in found(root)
    commit_all(Lake.open(root), force=True)
    assert f"{table.version():020d}.json: WRITE by another program" in found(root), "also once it is sealed"


def test_a_crash_between_commit_and_seal_leaves_a_tail_that_the_next_commit_seals(root, monkeypatch):
    lake = Lake.open(root)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "_extend", lambda _paths: (_ for _ in ()).throw(OSError(5, "power cut")))
        commit_all(lake, force=True)
    assert unsealed(lake) == [lake.tables.open("artifacts").version()]
    assert found(root) == "", "not sealed yet is not damage"
    chain = root / "ledger.chain"
    chain.write_bytes(chain.read_bytes() + b'{"half a li')  # of a process killed while it sealed
    assert found(root) == ""
    commit_all(lake, force=True)
    assert unsealed(lake) == []
    assert found(root) == ""


@pytest.mark.parametrize("name", ["ledger.seal", "ledger.chain"])
def test_nothing_is_committed_on_a_broken_seal(root, name):
    before = len(Lake.open(root).ledger.artifacts())
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(VlawError, match=name):
        commit_all(Lake.open(root), force=True)
    with pytest.raises(VlawError, match=name):
        Lake.open(root).ledger.artifacts()
    seal.start(Lake.open(root).paths)  # what `vlaw migrate --reseal` does
    assert len(Lake.open(root).ledger.artifacts()) == before
    assert found(root) == ""
    assert commit_all(Lake.open(root), force=True)


def test_rows_that_contradict_each_other_are_named(root, monkeypatch):
    """Someone who can write the ledger can also make the digests fit; counts, edges and pointers must still agree."""
    import dataclasses

    lake = Lake.open(root)
    ref = lake.ledger.require("all", PARTITION)
    rows = {**ref.versions, "members": {**ref.versions["members"], "rows": 2}}
    for change, text in (
        ({"versions": rows}, "1 rows of members where the ledger has 2"),
        ({"num_rows": 7}, "num_rows is 7"),
        ({"contents_json": "{}"}, "contents_json is not"),
        ({"source_artifact_id": "nobody"}, "points at nobody"),
    ):
        problems = verify(lake, [dataclasses.replace(ref, **change)])
        assert any(text in str(problem) for problem in problems), (change, problems)
    pointer = lake.ledger.require("all", "ablation|01")
    assert verify(lake, [pointer]) == []
    assert any("its num_rows is not that of" in str(p) for p in verify(lake, [dataclasses.replace(pointer, num_rows=1)]))
    child = lake.ledger.require("vectors", PARTITION)
    edges = {child.artifact_id: tuple(dataclasses.replace(edge, parent="nobody") for edge in lake.ledger.edge_rows(child.artifact_id))}
    monkeypatch.setattr(lake.ledger, "_edges", edges)
    assert [problem.path for problem in verify(lake, [child])] == ["delta/edges"]
    assert isinstance(verify(lake, [child])[0], Problem)
