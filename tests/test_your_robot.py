"""docs/your_robot.md, command by command, with real DROID episodes: from a folder of recordings to a served policy."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from documents import ROOT, blocks, commands
from policy_client import Client

from vlaw_assets.lake import Lake
from vlaw_assets.serving.session import Session, read_session, session_ids

PAGE = ROOT / "docs" / "your_robot.md"
RECORDINGS = ROOT.parent / "shared" / "data" / "lerobot_v3_droid"
COMMANDS = [said.text for said in commands(PAGE)]
WAITS = "vlaw run --experiment lab --iterations 1"
"""Stops the first time, and is said to."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the DROID sample is not there")]


@dataclass
class Lab:
    """A folder in which the page's files lie and its commands are typed."""

    root: Path
    said: dict[str, list[str]] = field(default_factory=dict)
    """Command -> what it printed, each time."""

    @property
    def environment(self) -> dict[str, str]:
        places = {"VLAW_LAKE": "lake", "VLAW_RECIPES": "my_lab", "DAGSTER_HOME": str(self.root / "home")}
        return {**os.environ, **places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    @property
    def lake(self) -> Lake:
        return Lake.open(self.root / "lake", create=False)

    def start(self, text: str) -> subprocess.Popen:
        words = shlex.split(text.replace("RECORDINGS", str(RECORDINGS)))[1:]
        code = "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'; app()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str, *, status: int = 0) -> str:
        process = self.start(text)
        printed = process.communicate(timeout=900)[0]
        assert process.returncode == status, f"{text}: {printed[-3000:]}"
        self.said.setdefault(text, []).append(printed)
        return printed

    @contextmanager
    def served(self, text: str) -> Iterator[Session]:
        """The session of a server, which is ended by Ctrl-C."""
        known = set(session_ids(self.lake))
        process = self.start(f"{text} --port 0")
        try:
            deadline = time.monotonic() + 300
            while (session := self._answers(known)) is None:
                assert process.poll() is None, process.communicate()[0][-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield session
            process.send_signal(signal.SIGINT)
            self.said.setdefault(text, []).append(process.communicate(timeout=120)[0])
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()

    def _answers(self, known: set[str]) -> Session | None:
        for name in set(session_ids(self.lake)) - known:
            session = read_session(self.lake, name)
            try:
                urllib.request.urlopen(f"{session.address.replace('ws', 'http', 1)}/healthz", timeout=5).close()
            except (urllib.error.URLError, OSError):
                return None
            return session
        return None


def write_files(lab: Lab, session: str = "") -> None:
    """The blocks of TOML, where their first line says; that of a recording into the inbox, once it has a session."""
    for language, said in blocks(PAGE):
        if language == "toml":
            name = said.text.splitlines()[0].removeprefix("# ")
            if (name == "recording.toml") == bool(session):
                path = lab.root / ("lake/inbox/monday" if session else "") / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(said.text.replace("SESSION", session))


def test_every_command_of_the_page_in_its_order(tmp_path):
    lab, waited = Lab(tmp_path), False
    write_files(lab)
    for text in COMMANDS:
        if text.startswith("vlaw serve-policy"):
            with lab.served(text) as session, Client(int(session.address.rpartition(":")[2])) as client:
                assert client.metadata["session"] == session.id
            if text == "vlaw serve-policy lab 0":
                shutil.copytree(RECORDINGS, tmp_path / "lake/inbox/monday")  # what the robot has recorded meanwhile
                write_files(lab, session.id)
        elif text == WAITS and not waited:
            waited = True
            assert "iteration 01 waits for recordings: manipulation 0 of 4" in lab.run(text, status=2)
        else:
            lab.run(text)
    assert "taken: monday, 5 episodes" in lab.said["vlaw inbox"][0]
    assert "monday-" in lab.said["vlaw audit policy lab 1"][0]
    rows = json.loads(
        lab.run(
            "vlaw sql \"select distinct policy from episodes where purpose = 'rollout' and experiment = 'lab'\" --json"
        )
    )
    base = lab.lake.ledger.require("base_policy", "")
    assert base.content_digest in json.dumps(rows)
    assert session.policy == lab.lake.ledger.require("policy", "lab|01").artifact_id
    assert (tmp_path / "exported/meta/info.json").is_file()
