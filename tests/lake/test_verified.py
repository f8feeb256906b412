"""Files that are known to be what the ledger recorded are read once; whatever changed is read again."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from factories import rewrite

from vlaw_assets.lake import durable, verified
from vlaw_assets.lake.verified import Verified, memory_of


def entry(root: Path, name: str, data: bytes) -> dict:
    """A file and its record."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder whose files count as settled although they were just written."""
    monkeypatch.setattr(verified, "RACY_NS", -1)
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


@pytest.fixture
def hashed(monkeypatch):
    """How many files were read, as a list of their names."""
    names: list[str] = []
    check = verified.check
    monkeypatch.setattr(verified, "check", lambda root, one: (names.append(one["path"]), check(root, one))[1])
    return names


def test_a_file_is_read_once_and_again_when_it_changed(root, hashed):
    entries = [entry(root, f"a/{i}", bytes([i]) * 100) for i in range(200)]
    assert Verified(root).problems(entries) == []
    assert len(hashed) == 200
    assert Verified(root).problems(entries) == [], "another process: the memory is on the disk"
    assert len(hashed) == 200, "nothing is read again"
    rewrite(root / "a/7", b"x" * 100)
    for _ in range(2):
        assert Verified(root).problems(entries) == ["a/7: content changed (sha256 differs)"]
    assert hashed[200:] == ["a/7", "a/7"], "only that one is, every time"
    (root / "a/7").write_bytes(bytes([7]) * 100)
    assert Verified(root).problems(entries) == []


def test_it_says_what_file_problems_says(root):
    entries = [entry(root, name, b"0123456789") for name in ("good", "gone", "short", "other", "folder", "pipe")]
    (root / "gone").unlink()
    (root / "short").write_bytes(b"0123")
    (root / "other").write_bytes(b"9876543210")
    for name in ("folder", "pipe"):
        (root / name).unlink()
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    for _ in range(2):
        assert Verified(root).problems(entries) == durable.file_problems(root, entries)
    assert len(durable.file_problems(root, entries)) == 5


@pytest.mark.parametrize("how", ["replaced", "swapped", "copied", "linked"])
def test_another_file_of_the_same_name_and_times(root, how):
    entries = [entry(root, "a", b"a" * 50), entry(root, "b", b"b" * 50)]
    assert Verified(root).problems(entries) == []
    a, b = root / "a", root / "b"
    times = a.stat().st_mtime_ns
    if how == "replaced":
        (root / "new").write_bytes(b"c" * 50)
        (root / "new").replace(a)
    elif how == "swapped":
        a.rename(root / "x")
        b.rename(a)
        (root / "x").rename(b)
    elif how == "copied":
        a.write_bytes(b.read_bytes())
    else:
        a.unlink()
        a.symlink_to(b)
    os.utime(a, ns=(times, times))
    assert "a: content changed (sha256 differs)" in Verified(root).problems(entries)


def test_what_has_just_changed_is_not_remembered(tmp_path, hashed):
    """Within one tick of the clock a file could change again and keep its fingerprint (as git has it)."""
    entries = [entry(tmp_path, "a", b"a")]
    for _ in range(2):
        assert Verified(tmp_path).problems(entries) == []
    assert len(hashed) == 2


@pytest.mark.parametrize("harm", [b"", b"\x00\xff garbage \n\n 12", None, "cut", "folder", "link", "open"])
def test_a_memory_that_is_no_good_is_none(root, hashed, harm):
    entries = [entry(root, str(i), bytes([i])) for i in range(3)]
    Verified(root).problems(entries)
    memory = memory_of(root)
    whole = memory.read_bytes()
    if harm == "open":  # somebody else could have written it
        memory.chmod(0o666)
    else:
        memory.unlink()
    if harm == "cut":
        memory.write_bytes(whole[:-9])
    elif harm == "folder":
        memory.mkdir()
    elif harm == "link":
        (root.parent / "elsewhere").write_bytes(whole)
        memory.symlink_to(root.parent / "elsewhere")
    elif isinstance(harm, bytes):
        memory.write_bytes(harm)
    rewrite(root / "1", b"\x09")
    del hashed[:]
    assert Verified(root).problems(entries) == ["1: content changed (sha256 differs)"]
    assert len(hashed) >= (2 if harm == "cut" else 3)
    if harm in (b"", None, "cut") or isinstance(harm, bytes):
        del hashed[:]
        Verified(root).problems(entries)
        assert hashed == ["1"], "it is a memory again"


def test_a_folder_that_cannot_be_written(root, hashed, tmp_path):
    entries = [entry(root, "a", b"a")]
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert Verified(root, tmp_path / "file" / "memory").problems(entries) == []
    assert len(hashed) == 2


def test_the_memory_is_the_users_own_and_outside_the_lake(root, tmp_path, monkeypatch):
    Verified(root).problems([entry(root, "a", b"a")])
    memory = memory_of(root)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert stat.S_IMODE(memory.parent.stat().st_mode) == 0o700
    assert memory_of(tmp_path / "other") != memory
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert memory_of(root).is_relative_to(tmp_path / "home" / ".cache" / "vlaw")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    assert memory_of(root) is None, "whoever can write the lake must not be able to vouch for it"


def _verify(root: str, entries: list[dict]) -> None:
    verified.RACY_NS = -1
    for _ in range(5):
        assert Verified(Path(root)).problems(entries) == []


def test_several_processes_at_once(root, hashed):
    entries = [entry(root, str(i), str(i).encode()) for i in range(400)]
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_verify, args=(str(root), entries[i::2])) for i in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert Verified(root).problems(entries) == []
    assert hashed == [], "what the others found is known"


def test_a_memory_that_has_grown_too_large_begins_anew(root, hashed, monkeypatch):
    entries = [entry(root, str(i), str(i).encode()) for i in range(50)]
    Verified(root).problems(entries)
    monkeypatch.setattr(verified, "MOST_BYTES", 1000)
    Verified(root).problems([entry(root, "new", b"new")])
    assert memory_of(root).stat().st_size < 1000
    assert Verified(root).problems(entries) == []
