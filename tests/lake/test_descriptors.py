"""Processes out of file descriptors: what is short is said, and no file is blamed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from factories import commit_all, identity

from vlaw_assets.lake import Lake
from vlaw_assets.lake.deltalog import entry_path
from vlaw_models.errors import VlawError


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


@pytest.mark.slow
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
    # How many files are open at a time is up to DuckDB's threads; too many are named as what they are.
    if few.returncode:
        assert "this process may not open more files" in few.stderr
        assert "ulimit -n" in few.stderr
    else:
        assert few.stdout.splitlines()[1] == "[{'n': 60}]"
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
