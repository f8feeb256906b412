"""A stage whose batches other processes read, as `vlaw run` and as Dagster's multiprocess executor make it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from smoke_place import smoke_copy, smoke_place

ROOT = Path(__file__).parents[2]
AGAIN = ("run", "-e", "smoke", "-i", "1", "--only", "world_model", "--force")
COMMANDS = {
    "vlaw run": ("-c", "from vlaw_assets.cli import app; app()", *AGAIN),
    "multiprocess executor": (str(Path(__file__).with_name("step_apart.py")),),
}


def below(root: int) -> dict[int, tuple[int, str]]:
    """Process id -> its parent and command line, of all processes that stem from one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = parent, folder.joinpath("cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
    inside = {root}
    while more := {pid for pid, (parent, _) in found.items() if parent in inside} - inside:
        inside |= more
    return {pid: found[pid] for pid in inside - {root} if found[pid][1]}  # without one once it has ended


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_stage_makes_the_same_with_processes_that_read(tmp_path, tmp_path_factory, command):
    smoke_place(tmp_path_factory)
    place = smoke_copy(tmp_path)
    before = place.lake.ledger.require("world_model", "smoke|01")
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT), "VLAW_WORKERS": "1"}
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[command]],
        env=environment,
        cwd=ROOT,
        stdout=(output := (tmp_path / "output").open("w+")),
        stderr=subprocess.STDOUT,
    )
    seen: dict[int, tuple[int, str]] = {}
    while process.poll() is None:
        seen |= below(process.pid)
        time.sleep(0.05)
    output.seek(0)
    assert process.returncode == 0, output.read()
    after = place.lake.ledger.require("world_model", "smoke|01")
    assert after.artifact_id != before.artifact_id
    assert after.content_digest == before.content_digest
    spawned = {pid for pid, (_, line) in seen.items() if "spawn_main" in line}
    trainer = {process.pid} if command == "vlaw run" else spawned
    assert [pid for pid in spawned if seen[pid][0] in trainer], "no process has read"
    deadline = time.monotonic() + 30  # Python's and Dagster's own watchers see only now that nobody is there
    while left := [line for pid, (_, line) in seen.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
