"""What is kept of a lake outside it only saves work: it is never believed where the log says otherwise."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from factories import commit

from vlaw_assets.lake import Lake, artifact, deltalog, kept, verified
from vlaw_assets.lake.artifact import Edge
from vlaw_assets.lake.upkeep import chain_checks
from vlaw_assets.lake.upkeep.verify import verify_ledger
from vlaw_models.errors import VlawError

COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    lake = Lake.open(tmp_path_factory.mktemp("kept") / "lake")
    fill(lake, "a")
    return lake.paths.root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A lake of a few artifacts, and memories that take note of it at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST", 3)
    for module in (kept, verified):
        monkeypatch.setattr(module, "RACY_NS", -(10**12))
    return shutil.copytree(made, tmp_path / "lake")


def fill(lake, word):
    """`COUNT` artifacts, each made from the one before."""
    parents = {}
    for number in range(COUNT):

        def write(draft, number=number):
            draft.write_evaluations([{"task": "stack", "metric": word, "value": float(number), "trials": number}])
            draft.set_metrics({"said": f"{word}{number}", "long": list(range(50))})

        key = f"{word}|{number + 1:02d}"
        parents = {"before": commit(lake, "note", key, parents, write, recipe={"number": number}, code=word * 64)}


def seen(root):
    """All that a fresh ledger says."""
    ledger = Lake.open(root, create=False).ledger
    return [(ref.to_row(), ref.versions, ref.metrics, ledger.edge_rows(ref.artifact_id)) for ref in ledger.artifacts()]


@pytest.fixture
def plain(root, monkeypatch):
    """What the log says, read without any memory."""
    with monkeypatch.context() as patch:
        patch.setattr(kept, "LEAST", 10**6)
        return seen(root)


@pytest.fixture
def reads(monkeypatch):
    """The log entries that are read, in order."""
    found, real = [], deltalog.read_entry
    monkeypatch.setattr(
        deltalog,
        "read_entry",
        lambda table, version, **more: found.append((table.name, version)) or real(table, version, **more),
    )
    return found


def memories(root):
    return sorted(root.parent.glob("cache/vlaw/ledger-*-artifacts"))


def test_a_fresh_ledger_says_the_same_and_reads_no_entry_again(root, plain, reads):
    assert seen(root) == plain, "the first time, which keeps it"
    reads.clear()
    ledger = Lake.open(root, create=False).ledger
    assert [ref.to_row() for ref in ledger.artifacts()] == [row for row, *_ in plain]
    assert [version for name, version in reads if name == "artifacts"] == [0], "only the entry that made the table"
    assert seen(root) == plain
    past = Lake.open(root, create=False).as_of(4).ledger
    assert [ref.to_row() for ref in past.artifacts()] == [row for row, *_ in plain][:5]


def test_edges_of_many_are_kept_too(root, plain, reads, monkeypatch):
    monkeypatch.setattr("vlaw_assets.lake.ledger.FEW", 2)
    assert seen(root) == plain
    reads.clear()
    assert seen(root) == plain
    assert len([version for name, version in reads if name == "edges"]) <= 4, "those before it was worth it"
    # What is asked for is looked up; nothing else is decoded.
    ledger = Lake.open(root, create=False).ledger
    refs = ledger.artifacts()
    decoded = []
    monkeypatch.setattr("vlaw_assets.lake.ledger.Edge", lambda *values: decoded.append(values) or Edge(*values))
    asked = [edge for ref in refs[:10] for edge in ledger.edge_rows(ref.artifact_id)]
    assert len(decoded) == len(asked) == 9, "each but the first stands on the one before"


def test_a_changed_entry_is_read_from_the_log_and_named_by_verification(root, plain):
    seen(root)
    lake = Lake.open(root, create=False)
    assert verify_ledger(lake) == []
    assert verify_ledger(lake) == []
    path = deltalog.entry_path(lake.paths.table("artifacts"), 5)
    before, times = path.read_text(), path.stat()
    path.write_text(re.sub(r"(said\W+)a4", r"\1b4", before))  # nowhere else: digests may hold an a4 too
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    said = [metrics["said"] for _, _, metrics, _ in seen(root)]
    assert said == ["a0", "a1", "a2", "a3", "b4", *(f"a{n}" for n in range(5, COUNT))], (
        "as whoever reads the log would see it"
    )
    assert [problem.path for problem in verify_ledger(lake)] == [lake.paths.relative(path)]
    path.write_text(before)
    assert seen(root) == plain
    assert verify_ledger(lake) == []


def test_a_changed_data_file_or_link_is_named_after_a_good_verification(root):
    lake = Lake.open(root, create=False)
    assert verify_ledger(lake) == []
    entry = deltalog.read_entry(lake.paths.table("artifacts"), 3)
    data = bytearray(entry.added[0].read_bytes())
    data[len(data) // 2] ^= 1
    entry.added[0].write_bytes(data)
    assert [problem.path for problem in verify_ledger(lake)] == [lake.paths.relative(entry.added[0])]
    data[len(data) // 2] ^= 1
    entry.added[0].write_bytes(data)
    assert verify_ledger(lake) == []
    chain = lake.paths.chain.read_bytes()
    lake.paths.chain.write_bytes(chain.replace(b'"version":4', b'"version":9', 1))
    assert any("line 5 was changed" in str(problem) for problem in verify_ledger(lake))


def test_verification_does_known_work_once_and_again_does_all_of_it(root, monkeypatch):
    lake = Lake.open(root, create=False)
    assert verify_ledger(lake) == []
    looked, real = [], chain_checks.unlike
    monkeypatch.setattr(
        chain_checks, "unlike", lambda paths, versions: looked.append(versions) or real(paths, versions)
    )
    assert verify_ledger(lake) == []
    assert looked == []
    fill(lake, "b")
    assert verify_ledger(lake) == []
    assert [version for versions in looked for version in versions] == list(range(COUNT + 1, 2 * COUNT + 1))
    looked.clear()
    assert verify_ledger(lake, again=True) == []
    assert [version for versions in looked for version in versions] == list(range(2 * COUNT + 1))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_garbled_or_cut_memory_serves_nothing(root, plain, share):
    seen(root)
    for change in (lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], lambda data, at: data[:at]):
        (memory,) = memories(root)
        data = memory.read_bytes()
        memory.write_bytes(change(data, int(share * len(data))))
        assert seen(root) == plain
    shutil.rmtree(root.parent / "cache")
    assert seen(root) == plain


def test_a_lake_made_anew_in_the_same_place_is_another_one(root):
    old = seen(root)
    (memory,) = memories(root)
    shutil.rmtree(root)
    lake = Lake.open(root)
    fill(lake, "b")
    (other,) = memories(root)
    assert other == memory, "the place is the same"
    said = [metrics["said"] for _, _, metrics, _ in seen(root)]
    assert said == [f"b{n}" for n in range(COUNT)]
    assert len(old) == COUNT


def test_an_older_copy_of_the_lake_is_not_served_from_the_newer_ones_memory(root):
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    fill(Lake.open(root), "b")
    seen(root)
    shutil.rmtree(root)
    shutil.move(copy, root)
    assert [metrics["said"] for _, _, metrics, _ in seen(root)] == [f"a{n}" for n in range(COUNT)]


def test_a_memory_bound_to_a_seal_that_is_not_in_the_chain_is_not_used(root, plain, reads):
    seen(root)
    lake = Lake.open(root, create=False)
    lines = lake.paths.chain.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])
    lines[-1] = json.dumps(last | {"chain": "0" * 64}) + "\n"
    lake.paths.chain.write_text("".join(lines))
    reads.clear()
    with pytest.raises(VlawError, match="does not fit"):
        seen(root)  # refused before anything of it is served
    kept_rows = kept.Kept(lake.paths, "artifacts", artifact.SHORT, artifact.LONG)
    assert kept_rows.rows == {}
