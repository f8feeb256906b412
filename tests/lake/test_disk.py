"""Disks that are full, read-only or failing, processes out of descriptors, folders whose locks or links are none: each
is said."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import needed
import pytest
from factories import PARTITION, commit_all, fill, identity
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, disk, durable
from vlaw_assets.lake.deltalog import entry_path
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
    told = disk.named(error, where="x")
    assert told is not None
    assert said in told.what
    outer = ValueError("outer")
    outer.__cause__ = error
    assert disk.named(outer).what == told.what, "through what it caused"


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
    assert len(os.listdir("/proc/self/fd")) == before


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


# Real disks


@contextmanager
def mounted(folder: Path, *options: str):
    folder.mkdir(parents=True, exist_ok=True)
    needed.worked("mount", *options, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def stuff(folder: Path) -> Path:
    """Use up the disk, to the last page."""
    full = folder / "ballast"
    with full.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    break
    return full


def ask(lake: Path, home: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "VLAW_LAKE": str(lake),
        "DAGSTER_HOME": str(home),
        "COLUMNS": "400",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.run(
        [sys.executable, "-c", "from vlaw_assets.cli import app; app()", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
    )


def test_a_full_disk(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as folder:
        lake = Lake.open(folder / "lake")
        ref = commit_all(lake)
        draft = lake.paths.drafts("dead", "vlaw|03") / "x" / "checkpoint"
        draft.mkdir(parents=True)
        (draft / "model.safetensors").write_bytes(b"x" * (1 << 20))
        stray = lake.paths.checkpoints / ("0" * 64)
        stray.mkdir()
        (stray / "x.json").write_bytes(b"x" * 100_000)
        torn = lake.paths.table("steps") / "asset=dead" / "partition_key=vlaw__03" / "part-torn.parquet"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"PAR1 torn" * 1000)
        page = folder / "audit.html"
        page.write_text("the old page")
        home = tmp_path / "home"
        home.mkdir()
        shutil.rmtree(lake.paths.locks)
        lake.paths.locks.mkdir()
        stuff(folder)
        name = lake.read(ref).table("episodes")["episode_id"][0].as_py()
        for words in (
            ["audit", "all", "vlaw", "1", "--html", str(page)],
            ["quarantine", name, "--why", "w"],
            ["migrate", "--reseal"],
            ["sql", "--attach", str(folder / "lake.duckdb")],
            ["export", "provenance", "all", "vlaw", "1", str(folder / "p.json")],
        ):
            done = ask(lake.paths.root, home, *words)
            assert done.returncode == 2, (words, done.stdout, done.stderr)
            assert "error:" in done.stderr, (words, done.stderr)
            assert "Traceback" not in done.stderr + done.stdout, (words, done.stderr)
            assert "full" in done.stderr or "No space left" in done.stderr, (words, done.stderr)
        assert page.read_text() == "the old page"
        assert {path.name for path in folder.iterdir()} == {"lake", "audit.html", "ballast"}, (
            "nothing half-written is left"
        )
        assert ask(lake.paths.root, home, "sql", "select 1").returncode == 0
        with (
            pytest.raises(VlawError, match="No space left"),
            lake.commit(asset="x", partition=PARTITION, identity=identity("x"), run_id="r") as made,
        ):
            fill(made)
        done = ask(lake.paths.root, home, "gc", "--older-than", "0")
        assert done.returncode == 0, done.stderr
        assert not draft.exists()
        assert not stray.exists()
        assert not torn.exists()
        assert ask(lake.paths.root, home, "audit", "all", "vlaw", "1", "--verify").returncode == 0, "nothing was lost"
        assert commit_all(Lake.open(lake.paths.root), force=True), "and there is space again"


def test_a_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as folder:
        lake = Lake.open(folder / "lake")
        ref = commit_all(lake)
        name = lake.read(ref).table("episodes")["episode_id"][0].as_py()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
        home = tmp_path / "home"
        home.mkdir()
        for words in (
            ["status"],
            ["audit", "all", "vlaw", "1", "--verify"],
            ["sql", "select count(*) from episodes"],
            ["impact", name],
            ["audit", "all", "vlaw", "1", "--html", str(tmp_path / "page.html")],
            ["seal"],
            ["quarantine"],
            ["sql", "--attach", str(tmp_path / "lake.duckdb")],
            ["gc", "--dry-run"],
        ):
            done = ask(lake.paths.root, home, *words)
            assert done.returncode == 0, (words, done.stderr)
        for words in (
            ["gc"],
            ["quarantine", name, "--why", "w"],
            ["migrate", "--reseal"],
            ["compact"],
            ["run", "--experiment", "smoke"],
            ["audit", "all", "vlaw", "1", "--html", str(folder / "page.html")],
        ):
            done = ask(lake.paths.root, home, *words)
            assert done.returncode == 2, (words, done.stderr)
            assert "read-only" in done.stderr.lower(), (words, done.stderr)
            assert "Traceback" not in done.stderr, (words, done.stderr)


def test_a_full_disk_inside_a_stage_is_no_defect(tmp_path, monkeypatch):
    """Whatever library meets it: the run ends with the disk's remedy and not with a traceback."""
    import dagster as dg

    from vlaw_assets.assets import stage, stage_asset
    from vlaw_assets.pipeline import driver
    from vlaw_assets.pipeline.resources import Workplace

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))

    monkeypatch.setattr(stage_asset, "code_digest", lambda _module: "0" * 64)  # this module is no part of the project

    def failing(_stage, _plan, _work):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    failing_stage = stage_asset.stage_asset(
        "failing_stage",
        "It meets a full disk.",
        plan=lambda _stage: stage.Plan(kind="failing", recipe={}),
        make=failing,
        group="g",
    )
    defs = dg.Definitions(
        assets=[failing_stage],
        jobs=[dg.define_asset_job("failing", [failing_stage])],
        resources={"workplace": Workplace(lake=str(tmp_path / "lake"))},
    )
    with driver.open_instance() as instance, pytest.raises(VlawError, match="No space left") as caught:
        driver.run_job(defs, instance, "failing")
    assert "vlaw gc" in caught.value.remedy
    stage.STAGES.pop("failing_stage")


@pytest.mark.slow
def test_few_descriptors_blame_no_file(tmp_path):
    """`ulimit -n`: the command works, or says what is short; at no number is a sound file called damaged or missing."""
    lake = Lake.open(tmp_path / "lake")
    commit_all(lake)
    for number in range(12):
        commit_all(lake, partition=f"p{number}|01", force=True)
    code = (
        "import resource, sys; limit = int(sys.argv.pop(1)); resource.setrlimit(resource.RLIMIT_NOFILE, (limit, "
        "limit));"
        "from vlaw_assets.cli import app; app()"
    )
    environment = {**os.environ, "VLAW_LAKE": str(lake.paths.root), "PYTHONPATH": str(Path(__file__).parents[2])}
    worked = []
    for limit in (8, 12, 16, 20, 24, 32, 64):
        for words in (["audit", "all", "vlaw", "1", "--verify"], ["sql", "select count(*) from steps"]):
            done = subprocess.run(
                [sys.executable, "-c", code, str(limit), *words],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stdout + done.stderr
            assert not any(
                word in said
                for word in ("is damaged", "damaged (", "is missing", ": missing", "sha256 differs", "restore it")
            ), (limit, words, said)
            worked += [(limit, words[0])] if done.returncode == 0 else []
    assert {(64, "audit"), (64, "sql")} <= set(worked), worked


def test_more_files_than_descriptors(tmp_path):
    """A lookup goes over its files in turns; SQL, which cannot, names what is short; both raise a limit that may be
    raised."""
    lake = Lake.open(tmp_path / "lake")
    for number in range(60):
        with lake.commit(asset="s", partition=f"p{number}|01", identity=identity(f"s{number}"), run_id="r") as draft:
            draft.write_scores([{"episode_id": f"e{number}", "p_success": 0.5}])
    code = (
        "import resource, sys; soft, hard = int(sys.argv[1]), int(sys.argv[2]); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "from vlaw_assets.lake import Lake\nfrom vlaw_assets.lake.lookup import Lookup\nfrom vlaw_assets.query "
        "import connect\n"
        "lake = Lake.open(sys.argv[3], create=False)\n"
        "with Lookup(lake) as lookup: print(len(lookup.rows('reward_scores', {f'e{n}' for n in range(60)}, "
        "lake.ledger.artifacts(), "
        "['episode_id'])))\n"
        "with connect(lake) as query: print(query.table('select count(*) as n from reward_scores').to_pylist())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def ask_with(soft: int, hard: int) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code, str(soft), str(hard), str(lake.paths.root)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    few = ask_with(48, 48)
    assert few.stdout.splitlines()[0] == "60", few.stderr
    assert "this process may not open more files" in few.stderr
    assert "ulimit -n" in few.stderr
    assert ask_with(48, 4096).stdout.splitlines() == ["60", "[{'n': 60}]"]


def test_out_of_descriptors_is_said_where_files_are_read(tmp_path, monkeypatch):
    lake = Lake.open(tmp_path / "lake")
    commit_all(lake)
    fresh = Lake.open(lake.paths.root, create=False)
    real = Path.read_bytes

    def none_left(self):
        if self == entry_path(lake.paths.table("artifacts"), 1):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", none_left)
    with pytest.raises(VlawError, match="may not open more files") as caught:
        fresh.ledger.artifacts()
    assert "ulimit -n" in caught.value.remedy


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

    def said() -> dict[str, dict]:
        return {item["check"]: item for item in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)}

    good = said()
    assert all(good[name]["ok"] for name in ("folder", "lake", "seal", "files")), good
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
