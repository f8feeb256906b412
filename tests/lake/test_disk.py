"""Disks that are full, read-only or failing, folders whose locks or links are none: each is said."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from factories import commit_all
from typer.testing import CliRunner

from vlaw_assets.cli import app, doctor
from vlaw_assets.lake import Lake, disk, durable
from vlaw_assets.lake.durable import FileLock, write_page
from vlaw_assets.lake.upkeep.garbage import collect
from vlaw_models.errors import VlawError

# Whose errors they are


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EMFILE, "Too many open files"), "open more files"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "full"),
        (
            Exception("Generic LocalFileSystem error: Unable to copy data to file: Disk quota exceeded (os error 122)"),
            "quota",
        ),
        (RuntimeError("LanceError(IO): External error: Read-only file system (os error 30)"), "read-only"),
        (Exception("(sqlite3.OperationalError) database or disk is full"), "full"),
        (Exception("(sqlite3.OperationalError) attempt to write a readonly database"), "read-only"),
        (Exception("IO Error: Could not write file: No space left on device"), "full"),
        (Exception("Too many open files (os error 24)"), "open more files"),
    ],
)
def test_every_library_is_understood(error, said):
    heard = disk.named(error, where="x")
    assert heard is not None
    assert said in heard.what
    outer = ValueError("outer")
    outer.__cause__ = error
    assert disk.named(outer).what == heard.what, "through what it caused"


def test_other_errors_are_not_the_disks():
    for error in (
        ValueError("28"),
        FileNotFoundError(2, "No such file"),
        KeyError("x"),
        RuntimeError("step 28 of 30"),
        OSError("odd"),
    ):
        assert disk.named(error) is None


# Folders


def test_a_good_folder_is_left_as_it_was(tmp_path):
    disk.try_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def no_lock(_descriptor, _how):
    return None


def refuses(number):
    def refuse(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return refuse


def overwrites(source, target, **_kwargs):
    shutil.copy(source, target)


BROKEN = {
    "locks do nothing": ("fcntl.flock", no_lock, "do not exclude"),
    "no locks": ("fcntl.flock", refuses(errno.ENOLCK), "do not work here"),
    "locks unknown": ("fcntl.flock", refuses(errno.ENOSYS), "do not work here"),
    "no links": ("os.link", refuses(errno.EOPNOTSUPP), "no hard links"),
    "links forbidden": ("os.link", refuses(errno.EPERM), "no hard links"),
    "links copy": ("os.link", overwrites, "replaces a file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_lake_is_not_made_where_locks_or_links_are_none(tmp_path, monkeypatch, name):
    place, double, message = BROKEN[name]
    monkeypatch.setattr(place, double)
    with pytest.raises(VlawError, match=message) as caught:
        Lake.open(tmp_path / "lake")
    assert "local folder" in caught.value.remedy
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.parametrize("name", BROKEN)
def test_doctor_finds_it_in_a_lake_that_is_there(tmp_path, monkeypatch, name):
    lake = Lake.open(tmp_path / "lake")
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    place, double, message = BROKEN[name]
    monkeypatch.setattr(place, double)
    from vlaw_assets.cli import doctor

    with pytest.raises(VlawError, match=message):
        doctor.CHECKS["folder"]()


def test_a_lock_that_binds_one_process_only(tmp_path, monkeypatch):
    """As on a file system that keeps locks to itself: within a process they exclude, between processes they do not."""
    real, held = fcntl.flock, set()

    def own(descriptor, how):
        key = os.fstat(descriptor).st_ino
        if key in held:
            raise BlockingIOError(errno.EAGAIN, "held")
        held.add(key)

    monkeypatch.setattr(fcntl, "flock", own)
    with pytest.raises(VlawError, match="another process had the same one"):
        disk.try_folder(tmp_path)
    monkeypatch.setattr(fcntl, "flock", real)


MOUNTS = {
    "nfs4 rw,nolock": "nolock",
    "nfs rw,vers=3,local_lock=all": "local_lock=all",
    "nfs rw,local_lock=flock": "local_lock=flock",
    "cifs rw,nobrl": "nobrl",
    "smb3 rw,nobrl": "nobrl",
    "lustre rw,localflock": "localflock",
    "lustre rw": "without flock",
    "fuse.s3fs rw": "shares no locks",
    "fuse.sshfs rw": "shares no locks",
    "nfs4 rw,local_lock=none": "",
    "nfs rw,local_lock=posix": "",
    "cifs rw": "",
    "lustre rw,flock": "",
    "ext4 rw": "",
    "xfs rw": "",
    "btrfs rw": "",
    "tmpfs rw": "",
}


@pytest.mark.parametrize("mount", MOUNTS)
def test_locks_that_are_not_shared_with_other_machines(tmp_path, monkeypatch, mount):
    kind, options = mount.split()
    (tmp_path / "mounted here").mkdir()
    table = tmp_path / "mountinfo"
    escaped = str(tmp_path / "mounted here").replace(" ", r"\040")
    table.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {escaped} rw,relatime shared:5 - {kind} server:/x {options}\n"
        f"3 1 0:3 / {escaped}er rw - ext4 /dev/sdb rw\n"
    )
    monkeypatch.setattr(disk, "MOUNTS", table)
    assert disk.mount_of(tmp_path / "mounted here" / "lake")[0] == kind
    if MOUNTS[mount]:
        with pytest.raises(VlawError, match=MOUNTS[mount]) as caught:
            Lake.open(tmp_path / "mounted here" / "lake")
        assert "local folder" in caught.value.remedy
    else:
        Lake.open(tmp_path / "mounted here" / "lake")


def test_a_commit_without_hard_links_says_so(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    monkeypatch.setattr(os, "link", refuses(errno.EOPNOTSUPP))
    with pytest.raises(VlawError, match="no hard links") as caught:
        commit_all(lake)
    assert "space" not in str(caught.value)


# Locks and pages


def test_a_lock_needs_no_place_for_its_note(tmp_path, monkeypatch):
    lock = FileLock(tmp_path / "a.lock")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuses(errno.ENOSPC))
        assert lock.acquire(holder="me")
        assert not FileLock(lock.path).acquire(), "and it is a lock"
        assert lock.held_since() is not None
        lock.release()
        assert lock.acquire()
        lock.release()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.ENOSYS])
def test_a_lock_that_fails_leaves_no_descriptor(tmp_path, monkeypatch, number):
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", refuses(number))
    for _ in range(20):
        with pytest.raises(VlawError, match="lock cannot be taken"):
            FileLock(tmp_path / "a.lock").acquire()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    page = tmp_path / "page.html"
    write_page(page, "good", remedy="r")
    if call == "fsync":
        monkeypatch.setattr(durable.os, "fsync", refuses(errno.ENOSPC))
    else:
        monkeypatch.setattr(Path, "replace", refuses(errno.EROFS))
    with pytest.raises(VlawError, match="cannot be written"):
        write_page(page, "x" * 100_000, remedy="r")
    assert page.read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_gc_says_how_much_it_could_free(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    commit_all(lake)
    stray = lake.paths.checkpoints / ("0" * 64)
    stray.mkdir()
    (stray / "x.json").write_text("12345")
    monkeypatch.setattr("vlaw_assets.lake.upkeep.garbage.forget_rows", refuses(errno.ENOSPC))
    with pytest.raises(VlawError, match="5 bytes were freed, then no more could be"):
        collect(lake, older_than_s=0)
    assert not stray.exists()
    monkeypatch.undo()
    assert collect(lake, older_than_s=0) == []


def test_json_of_doctor_with_a_flipped_byte_and_without_a_seal(tmp_path, monkeypatch):
    """What `vlaw doctor` passed over: a lost seal, and a checkpoint that changed."""
    lake = Lake.open(tmp_path / "lake")
    ref = commit_all(lake)
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    asked = ("folder", "lake", "seal", "files")
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in asked})

    def said() -> dict[str, dict]:
        return {item["check"]: item for item in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)}

    good = said()
    assert all(good[name]["ok"] for name in asked), good
    victim = lake.paths.root / ref.location / "sub" / "model.safetensors"
    data = victim.read_bytes()
    victim.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    found = said()
    assert not found["files"]["ok"]
    assert "model.safetensors: content changed" in found["files"]["text"]
    victim.write_bytes(data)
    manifest = lake.paths.root / ref.location / "MANIFEST.json"
    text = manifest.read_bytes()
    manifest.unlink()
    assert "MANIFEST.json: missing" in said()["files"]["text"]
    manifest.write_bytes(text)
    for name in ("ledger.seal", "ledger.chain"):
        kept = (lake.paths.root / name).read_bytes()
        (lake.paths.root / name).unlink()
        found = said()
        assert not found["seal"]["ok"]
        assert name in found["seal"]["text"]
        (lake.paths.root / name).write_bytes(kept)
    assert said()["files"]["ok"]


def test_a_sample_says_that_it_is_one(tmp_path):
    from vlaw_assets.lake.upkeep import sample

    root = Lake.open(tmp_path / "lake").paths.root
    ref = commit_all(Lake.open(root))
    whole = sample.look(Lake.open(root))
    assert whole.whole
    assert whole.problems == ()
    victim = root / ref.location / "sub" / "model.safetensors"
    victim.write_bytes(b"x")
    assert any(
        "model.safetensors: 1 bytes" in line for line in sample.look(Lake.open(root), most_bytes=1, seed=1).problems
    ), "sizes are of all"
