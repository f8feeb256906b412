"""`vlaw serve-policy` as it is typed: every command of its page, an orderly end by a signal, and a kill."""

from __future__ import annotations

import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
import types
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import needed
import numpy as np
import pytest
from documents import ROOT, blocks, commands
from policy_client import Client, asked
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.serving.recorder import Kind, read_messages
from vlaw_assets.serving.session import MESSAGES, Session, folder_of, is_served, read_session, session_ids

PAGE = ROOT / "docs" / "serving.md"
SHOWN = [said.text for said in commands(PAGE) if said.text.startswith("vlaw serve-policy")]


@pytest.fixture(autouse=True)
def _here(lake, monkeypatch, tmp_path):
    """A folder with a token and a certificate, as the page says how to make them."""
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    monkeypatch.chdir(tmp_path)
    made = re.findall(r"`(openssl [^`]+)`", PAGE.read_text())
    assert len(made) == 2
    needed.program("openssl")
    for command in made:
        subprocess.run(["bash", "-c", f"umask 077; {command}"], check=True, capture_output=True)


@dataclass
class Visit:
    """Waits for the server that this process is about to become, looks at it, and ends it by a signal."""

    lake: object
    visit: object
    number: int = signal.SIGINT
    session: Session | None = None
    failed: list[BaseException] = field(default_factory=list)

    def run(self, known: set[str]) -> None:
        try:
            for _ in range(600):
                new = [name for name in session_ids(self.lake) if name not in known]
                if new and is_served(self.lake, new[0]):
                    break
                time.sleep(0.05)
            self.session = read_session(self.lake, new[0])
            answered(self.session)
            self.visit(self.session)
        except BaseException as error:
            self.failed.append(error)
        finally:
            os.kill(os.getpid(), self.number)


def answered(session: Session) -> None:
    """Returns once the server is at work, so that a signal finds it there."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    scheme = "https" if session.address.startswith("wss:") else "http"
    urllib.request.urlopen(f"{scheme}://127.0.0.1:{port_of(session)}/healthz", context=trust, timeout=30).close()


def served_here(lake, text: str, visit, number=signal.SIGINT) -> tuple[Session, str]:
    """Types the command; returns the session as it was left, and what was printed."""
    visitor = Visit(lake, visit, number)
    thread = threading.Thread(target=visitor.run, args=(set(session_ids(lake)),))
    thread.start()
    result = CliRunner().invoke(app, shlex.split(text)[1:])
    thread.join(30)
    if visitor.failed:
        raise visitor.failed[0]
    assert result.exit_code == 0, result.output
    return read_session(lake, visitor.session.id), result.output


def port_of(session: Session) -> int:
    return int(session.address.rpartition(":")[2])


def anywhere(text: str) -> str:
    return f"{text} --port 0"


@pytest.mark.parametrize("text", SHOWN)
def test_the_commands_of_the_page_serve(lake, episodes, text):
    def visit(session):
        options = {}
        if "--tls-cert" in text:
            trust = ssl.create_default_context(cafile="cert.pem")
            options = {"scheme": "wss", "ssl": trust, "api_key": Path("token").read_text().strip()}
        with Client(port_of(session), **options) as client:
            assert client.ask(asked(episodes[0]))["actions"].shape == (8, 5)

    session, printed = served_here(lake, anywhere(text), visit)
    assert session.end == "interrupted"
    assert session.ended_at is not None
    assert (folder_of(lake, session.id) / MESSAGES).exists() is ("--record" in text)
    assert session.address in printed
    assert "warm: a chunk takes" in printed
    assert session.id in printed.splitlines()[-1]


def test_the_python_of_the_page_asks_the_policy(lake, episodes, monkeypatch):
    """In place of openpi's package, which needs another numpy, a client that sends the same."""
    (block,) = [said.text for language, said in blocks(PAGE) if language == "python"]
    names = {}

    def visit(session):
        made = types.ModuleType("openpi_client.websocket_client_policy")

        class WebsocketClientPolicy(Client):
            def __init__(self, host, port, api_key=None):
                super().__init__(port_of(session))

            infer = Client.ask

            def get_server_metadata(self):
                return self.metadata

        made.WebsocketClientPolicy = WebsocketClientPolicy
        package = types.ModuleType("openpi_client")
        package.websocket_client_policy = made
        monkeypatch.setitem(sys.modules, "openpi_client", package)
        monkeypatch.setitem(sys.modules, made.__name__, made)
        left, right, wrist = episodes[0].images[0]
        names.update(
            left=left, right=right, wrist=wrist, state=episodes[0].states[0], instruction="reach the red square"
        )
        exec(compile(block, PAGE.name, "exec"), names)
        names["client"].close()

    session, _ = served_here(lake, anywhere("vlaw serve-policy vlaw 1"), visit)
    assert names["actions"].shape == (8, 5)
    assert session.counts.answered == 1


def test_a_terminated_server_ends_its_session(lake):
    session, printed = served_here(lake, anywhere("vlaw serve-policy vlaw 0"), lambda _: None, signal.SIGTERM)
    assert session.end == "terminated"
    assert session.policy_name == "base_policy"
    assert "0 clients, 0 of 0 requests answered" in printed


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("vlaw serve-policy vlaw 9", "not in the ledger"),
        ("vlaw serve-policy nobody 1", "nobody"),
        ("vlaw serve-policy vlaw 1 --image-size 64", "no size"),
        ("vlaw serve-policy vlaw 1 --host 0.0.0.0", "other machines reach this address"),
        ("vlaw serve-policy vlaw 1 --time-limit 0", "a limit of 0"),
        ("vlaw serve-policy vlaw 1 --tls-key key.pem", "needs a certificate"),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(lake, text, what):
    before = session_ids(lake)
    result = CliRunner().invoke(app, shlex.split(text)[1:])
    assert result.exit_code == 2
    assert what in result.stderr
    assert session_ids(lake) == before


@pytest.mark.slow
def test_a_killed_server_leaves_what_it_had_said(lake, episodes):
    known = set(session_ids(lake))
    command = "from vlaw_assets.cli import app; app()"
    words = [sys.executable, "-c", command, *shlex.split("serve-policy vlaw 1 --port 0 --record")]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL) as process:
        while not (new := set(session_ids(lake)) - known):
            time.sleep(0.1)
            assert process.poll() is None
        (name,) = new
        for _ in range(100):
            try:
                client = Client(port_of(read_session(lake, name)))
                break
            except OSError:
                time.sleep(0.1)
        chunks = [client.ask(asked(episodes[0], noise_seed=seed))["actions"] for seed in range(5)]
        process.kill()
    assert not is_served(lake, name)
    assert read_session(lake, name).ended_at is None
    found = list(read_messages(folder_of(lake, name) / MESSAGES))
    assert [message.kind for message in found] == [Kind.OPEN, *[Kind.REQUEST, Kind.ANSWER] * 5]
    assert len(chunks) == 5
    assert np.isfinite(chunks).all()
