"""Every stored byte is under a digest: whatever is changed, cut, lost or swapped in a lake is named, file by file.

Every file of a lake is tried, but for two folders that no guarantee is about because they come and go: `locks/` and
`tmp/`.
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
from factories import PARTITION, commit_all, identity
from object_store import IMAGES, STORES, imaged, read_anew

from vlaw_assets.lake import ArtifactRef, Lake, seal
from vlaw_assets.lake.delta_checkpoints import LAST, RECORD
from vlaw_assets.lake.upkeep.compaction import compact
from vlaw_assets.lake.upkeep.verify import Problem, unsealed, verify, verify_ledger
from vlaw_models.errors import VlawError

SOME_POSITIONS = 25


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with every kind of stored file: tables and checkpoints of their logs, frames, vectors, a checkpoint, a
    picture, a page."""
    lake = Lake.open(tmp_path_factory.mktemp("tamper") / "lake")
    ref = commit_all(lake)
    commit_all(lake, partition="ablation|01")
    with lake.commit(
        asset="vectors", partition=PARTITION, identity=identity("v", parents={"all": ref}), run_id="r"
    ) as draft:
        episodes = draft.read(ref, role="episodes").episodes(frames=False)
        rows = [
            {
                "owner": ref.artifact_id,
                "episode_id": e.episode_id,
                "task": e.task,
                "purpose": "rollout",
                "outcome": "success",
            }
            for e in episodes
        ]
        draft.write_embeddings("a" * 64, rows, np.eye(len(rows), 4, dtype=np.float32))
        draft.keep_picture("loss", b"a picture")
        draft.keep_page("report", "<p>a page")
    compact(lake, checkpoints_only=True)
    return lake.paths.root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "lake")
    return tmp_path / "lake"


@pytest.fixture(params=STORES)
def stored(request, root):
    """The files of a lake in a folder, or those that a bucket has as objects."""
    if request.param == "bucket":
        request.getfixturevalue("s3")
        imaged(root)
    return root


def covered(root: Path) -> list[Path]:
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in {"locks", "tmp"}
    ]


HARMLESS = {
    ("delete", RECORD): "the checkpoints it tells the digests of are held against the log all the same",
    ("truncate", LAST): "its last byte is a newline, as delta-rs writes it: the same JSON with and without",
}
"""What may stay unsaid, and why: test_delta_checkpoints.py names every lie of a checkpoint without a record."""


def found(root: Path) -> str:
    """Everything that checking a lake says, as text. Nothing but a VlawError may come out of it."""
    said: list[str] = []
    try:
        with read_anew(root) as lake:
            said += map(str, verify_ledger(lake, again=True))
            said += map(str, verify(lake, lake.ledger.artifacts()))
    except VlawError as error:
        said.append(str(error))
    return "\n".join(said)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << position % 8
    path.write_bytes(data)


def test_a_sound_lake_has_no_problems(stored):
    assert found(stored) == ""
    with read_anew(stored) as lake:
        assert unsealed(lake) == []


def test_a_row_with_any_byte_changed_is_refused_or_compared_with_the_files(root):
    """What reaches `verify` has the shape that it goes by: nothing but problems and a VlawError come out."""
    lake = Lake.open(root)
    refused = compared = 0
    for ref in lake.ledger.artifacts():
        row = ref.to_row()
        data = row["versions_json"].encode()
        for position in range(0, len(data), 9):
            text = bytes([*data[:position], data[position] ^ 1 << position % 7, *data[position + 1 :]]).decode()
            try:
                changed = ArtifactRef.from_row(row | {"versions_json": text})
            except (KeyError, TypeError, ValueError):
                refused += 1
                continue
            compared += 1
            if position % 225 == 0:
                verify(lake, [changed])
    assert refused > 50
    assert compared > 50


SHARES = [("folder", 32), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("folder", 1), ("bucket", 13)))]


@pytest.mark.parametrize(("stored", "share"), SHARES, indirect=["stored"])
def test_every_change_of_every_file_is_named(stored, capsys, share):
    """`share` 1: every file in four ways; 32: every eighth file in one of them."""
    rng, root = np.random.default_rng(0), stored
    files = covered(root)
    kinds = {path.relative_to(root).parts[0] for path in files}
    assert kinds == {"FORMAT.json", "ledger.seal", "ledger.chain", "delta", "lance", "checkpoints", "pictures"}
    assert {path.suffix for path in files} == {
        ".json",
        ".seal",
        ".chain",
        ".parquet",
        ".lance",
        ".manifest",
        ".txn",
        ".safetensors",
        ".png",
        ".html",
        "",
    }
    names = [path.name for path in files]
    assert {LAST, RECORD, "latest_version_hint.json", f"{2**64 - 2:020d}.manifest"} <= set(names)
    assert sum(name.endswith(".checkpoint.parquet") for name in names) >= 5
    done: Counter[str] = Counter()
    silent = []
    for number, path in enumerate(files):
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        position = int(rng.integers(len(data)))
        for kind, (damage, change) in enumerate(
            (
                ("flip", lambda path=path, position=position: flip(path, position)),
                ("truncate", lambda path=path, data=data: path.write_bytes(data[:-1])),
                ("delete", path.unlink),
            )
        ):
            if (number + kind) % share:
                continue
            change()
            done[damage] += 1
            if name not in found(root) and (damage, path.name) not in HARMLESS:
                silent.append(f"{damage} {name} at {position}")
            if (damage, path.name) == ("truncate", LAST):
                assert data[-1:] == b"\n"
            path.write_bytes(data)
    contents = {path: path.read_bytes() for path in files}
    for number, (one, other) in enumerate(zip(files, files[1:] + files[:1], strict=True)):
        if contents[one] == contents[other] or (number + 3) % share:
            continue
        one.write_bytes(contents[other])
        other.write_bytes(contents[one])
        done["swap"] += 1
        said = found(root)
        # Where the list of files is itself damaged, that is what is named; otherwise both files are.
        names = [path.relative_to(root).as_posix() for path in (one, other)]
        lists = [
            name
            for name in names
            if name.endswith(("FORMAT.json", "MANIFEST.json", "ledger.seal", "ledger.chain"))
            or "artifacts/_delta_log" in name
        ]
        if not (any(name in said for name in lists) if lists else all(name in said for name in names)):
            silent.append(f"swap {names}")
        one.write_bytes(contents[one])
        other.write_bytes(contents[other])
    assert found(root) == "", "all put back"
    with capsys.disabled():
        sys.stdout.write(f"\n{len(files)} stored files; {dict(done)}; silent: {len(silent)}\n")
    assert "\n".join(silent) == ""


def test_a_hint_is_read_by_nobody_here(root):
    """Whatever Lance's version hint says, or if it is gone: the same rows, and the next commit is on top of the newest
    version."""
    import lance

    uris = [root / "lance" / "frames.lance", *(root / "lance" / "embeddings").glob("*.lance")]
    before = [(lance.dataset(str(uri)).version, lance.dataset(str(uri)).to_table()) for uri in uris]
    for text in (b'{"version":1}', b'{"version":99}', b"no JSON", None):
        hints = []
        for uri, (version, rows) in zip(uris, before, strict=True):
            hint = uri / "_versions" / "latest_version_hint.json"
            hint.unlink(missing_ok=True)
            if text is not None:
                hint.write_bytes(text)
            assert lance.dataset(str(uri)).version == version
            assert lance.dataset(str(uri)).to_table() == rows
            hints.append(hint.relative_to(root).as_posix())
        said = found(root)
        assert [name for name in hints if name not in said] == []
    commit_all(Lake.open(root), force=True)
    assert lance.dataset(str(uris[0])).version == before[0][0] + 1
    compact(Lake.open(root), checkpoints_only=True)
    assert found(root) == "", "mended"


def test_a_hint_that_a_killed_process_left_behind_is_no_damage(root, monkeypatch):
    import lance

    from vlaw_assets.lake.lance_table import hint

    lake = Lake.open(root)
    monkeypatch.setattr(lake.ledger, "append", lambda _ref: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        commit_all(lake, force=True)
    newest = lance.dataset(str(lake.paths.frames)).version
    hint(lake.paths.frames).write_text(f'{{"version":{newest - 1}}}')
    assert found(root) == ""


@pytest.mark.slow
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


def test_an_extra_file_in_a_checkpoint_is_named(stored):
    (folder,) = (stored / "checkpoints").iterdir()
    (folder / "sub" / "adapter.safetensors").write_bytes(b"x")
    assert f"checkpoints/{folder.name}/sub/adapter.safetensors: not part of the checkpoint" in found(stored)


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
        patch.setattr(seal, "seal_tail", lambda _paths: (_ for _ in ()).throw(OSError(5, "power cut")))
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
def test_nothing_is_committed_on_a_broken_seal(stored, name):
    with read_anew(root := stored) as lake:
        before = len(lake.ledger.artifacts())
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(VlawError, match=name), read_anew(root) as lake:
        commit_all(lake, force=True)
    with pytest.raises(VlawError, match=name), read_anew(root) as lake:
        lake.ledger.artifacts()
    if root in IMAGES:
        return  # sealed anew only in a folder
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
    assert any(
        "its num_rows is not that of" in str(p) for p in verify(lake, [dataclasses.replace(pointer, num_rows=1)])
    )
    child = lake.ledger.require("vectors", PARTITION)
    edges = {
        child.artifact_id: tuple(
            dataclasses.replace(edge, parent="nobody") for edge in lake.ledger.edge_rows(child.artifact_id)
        )
    }
    monkeypatch.setattr(lake.ledger, "own_edges", edges.__getitem__)
    assert [problem.path for problem in verify(lake, [child])] == ["delta/edges"]
    assert isinstance(verify(lake, [child])[0], Problem)
