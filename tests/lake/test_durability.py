"""What is flushed to the disk, and when: neither Delta nor Lance calls fsync, and SIGKILL cannot show that it is
missing.

Shown with strace, on the system calls themselves; where there is none, test_lake_crashes.py still shows the order
in which Python flushes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from strace_log import Call, Disk, calls, tracing

TESTS = Path(__file__).parents[1]
REMOVED = (
    "nothing",
    "tables.fsync_files",
    "lance_table.fsync_files",
    "checkpoints.fsync_files",
    "deltalog.fsync_path",
    "os.fsync",
)
"""What the traced process leaves out, one commit each."""
UNIMPORTANT = ("locks/", "tmp/", ".writable-", "lance/frames.lance/_versions/latest_version_hint.json")
"""Nothing is lost with these: locks, drafts, what Lance finds by itself."""


@pytest.fixture(scope="module")
def commits(tmp_path_factory):
    """For each of REMOVED, the calls of one commit: everything between two marks."""
    folder = tmp_path_factory.mktemp("durable")
    lake, trace = folder / "lake", folder / "trace"
    command = [
        *tracing(trace),
        sys.executable,
        str(TESTS / "lake_worker.py"),
        "durable",
        str(lake),
        str(folder),
        *REMOVED,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[Call]] = {}
    mark = None
    for call in calls(trace):
        marks = [Path(path).name for path in call.paths if path.startswith(str(folder / "mark-"))]
        if marks:
            mark = marks[0].removeprefix("mark-") if marks[0] != "mark-end" else None
        elif mark is not None:
            found.setdefault(mark, []).append(call)
    assert list(found) == list(REMOVED)
    return lake.resolve(), found


def play(lake: Path, found: list[Call]) -> tuple[Disk, set[str], set[str]]:
    """The disk after a commit, and what was dirty when the ledger's log entry was linked, and when the commit
    returned."""
    disk, at_link = Disk(str(lake), set()), None
    # Every file there before: the folders and the lock files; data files have new names.
    disk.known = {str(path) for path in lake.rglob("*") if path.is_dir() and "=" not in path.name} | {
        str(path) for path in lake.iterdir()
    }
    for call in found:
        if call.name.startswith(("link", "rename")) and call.paths[-1].startswith(
            f"{lake}/delta/artifacts/_delta_log/0"
        ):
            assert at_link is None, "one ledger entry per commit"
            at_link = important(lake, disk)
        disk.do(call)
    assert at_link is not None, "the ledger's log entry is linked or renamed into place"
    return disk, at_link, important(lake, disk)


def important(lake: Path, disk: Disk) -> set[str]:
    """What is dirty, relative to the lake. A temporary name may be lost, once its bytes have a final one."""
    dirty = disk.data | {path for path in disk.entries if not path.endswith(".tmp")}
    return {name for name in (os.path.relpath(path, lake) for path in dirty) if not name.startswith(UNIMPORTANT)}


def test_everything_is_on_the_disk_before_the_ledger_entry_and_that_before_the_end(commits):
    lake, found = commits
    disk, at_link, at_end = play(lake, found["nothing"])
    assert at_link == set()
    assert at_end == set()
    seen = {str(Path(path).relative_to(lake)) for path in disk.touched}
    for kind in (
        "delta/episodes/asset=all",
        "delta/steps/asset=all",
        "delta/members/asset=all",
        "delta/edges/_delta_log/0",
        "delta/artifacts/_delta_log/0",
        "lance/frames.lance/data/",
        "lance/frames.lance/_versions/",
        "lance/frames.lance/_refs/tags/",
        "checkpoints/",
        "ledger.seal",
        "ledger.chain",
    ):
        assert any(path.startswith(kind) for path in seen), f"{kind}: the trace has it at all"


@pytest.mark.parametrize(
    ("removed", "lost"),
    [
        ("tables.fsync_files", "delta/episodes/asset=all"),
        ("lance_table.fsync_files", "lance/frames.lance/data/"),
        ("checkpoints.fsync_files", "checkpoints/"),
        ("deltalog.fsync_path", "delta/episodes/_delta_log/0"),
    ],
)
def test_a_flush_that_is_left_out_is_noticed_before_the_ledger_entry(commits, removed, lost):
    lake, found = commits
    _, at_link, _ = play(lake, found[removed])
    assert any(name.startswith(lost) for name in at_link), sorted(at_link)


def test_without_any_flush_the_ledger_and_its_seal_are_dirty_at_the_end(commits):
    lake, found = commits
    _, _, names = play(lake, found["os.fsync"])
    for lost in ("delta/artifacts/_delta_log/0", "ledger.seal", "ledger.chain"):
        assert any(name.startswith(lost) for name in names), lost
