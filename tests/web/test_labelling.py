"""The page whose buttons label: what its server takes and refuses, and what a label does to the lake and the page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from asking import at
from browser import tab
from factories import commit, episode

from vlaw_assets.cli import labelling as command
from vlaw_assets.lake import Lake, labels
from vlaw_assets.web import labelling
from vlaw_assets.web.guard import Guard
from vlaw_assets.web.labelling import Labelling

ROOT = Path(__file__).parents[2]
ORIGIN = "http://127.0.0.1:8000"
GOOD = {"host": "127.0.0.1:8000", "origin": ORIGIN, "sec-fetch-site": "same-origin", "content-type": "application/json"}
LABEL = {"episode_id": "e1", "label": "success", "why": "it stands"}


def ask(app, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One request through the guard, without a server."""
    sent: list = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 8000),
    }

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app, [ORIGIN])(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


def server(given: list) -> Labelling:
    def give(episode: str, label: str, why: str) -> dict:
        given.append((episode, label, why))
        return {"outcome": label}

    return Labelling(b"<p>page</p>", {"e1"}, give, "token")


def test_the_page_is_given_to_whoever_knows_the_token():
    app = server([])
    status, headers, body = ask(app, "GET", "/token/", GOOD)
    assert (status, body) == (200, b"<p>page</p>")
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    for path in ("/", "/toke/", "/token2/", "/label", "/Token/", "/token/other", "/token/label"):
        assert ask(app, "GET", path, GOOD)[0] == 404


def test_a_label_is_taken_from_this_page_alone():
    given: list = []
    app, body = server(given), json.dumps(LABEL).encode()
    status, _, said = ask(app, "POST", "/token/label", GOOD, body)
    assert (status, json.loads(said)) == (200, {"outcome": "success"})
    assert given == [("e1", "success", "it stands")]
    refused = {
        "another host": ({"host": "evil.example"}, 403),
        "another origin": ({"origin": "http://evil.example"}, 403),
        "no origin that can be told": ({"origin": "null"}, 403),
        "another site": ({"sec-fetch-site": "cross-site"}, 403),
        "a form": ({"content-type": "text/plain"}, 415),
    }
    for name, (changed, expected) in refused.items():
        assert ask(app, "POST", "/token/label", GOOD | changed, body)[0] == expected, name
    assert ask(app, "POST", "/wrong/label", GOOD, body)[0] == 404
    for wrong in (
        b"",
        b"[]",
        b"{}",
        b"x" * 100_000,
        json.dumps(LABEL | {"episode_id": "e2"}).encode(),
        json.dumps(LABEL | {"why": 1}).encode(),
        json.dumps(LABEL | {"episode_id": "\ud800"}).encode(),
        b"[" * 10_000,
    ):
        assert ask(app, "POST", "/token/label", GOOD, wrong)[0] == 400
    assert len(given) == 1


@pytest.fixture
def place(tmp_path, monkeypatch):
    """(vlaw, lake, ids of three episodes)."""
    lake = Lake.open(tmp_path / "lake")
    options = {"steps": 3, "size": (16, 16), "control_hz": 5.0}
    found = [episode("stack", seed, success=seed == 1, noise=seed, **options) for seed in range(3)]
    ids: list[str] = []
    commit(lake, "real", write=lambda draft: ids.extend(draft.write_episodes(found, purpose="rollout")))
    environment = {"VLAW_LAKE": str(lake.paths.root), "DAGSTER_HOME": str(tmp_path / "dagster_home")}
    return at(monkeypatch, tmp_path, environment), lake, ids


def test_a_label_is_in_the_lake_and_on_the_page(place, monkeypatch):
    vlaw, lake, ids = place
    told, answers = [], []

    def serve(app: Labelling, listening) -> None:
        listening.close()
        prefix = f"/{app.token}/label"
        good = "near_success", "it tips"
        for label, why in (good, ("no_label", "x"), ("success", " "), ("success", "half \ud800"), good):
            body = json.dumps({"episode_id": ids[1], "label": label, "why": why}).encode()
            answers.append(ask(app, "POST", prefix, GOOD, body))
        assert b"connect-src &#x27;self&#x27;" in app.page

    monkeypatch.setattr(labelling, "serve", serve)
    monkeypatch.setattr(command, "tell_dagster", lambda lake, ref: told.append(ref))
    said = vlaw("watch", *ids, "--label", "--who", "ann", code=0).stdout
    assert [status for status, *_ in answers] == [200, 409, 409, 409, 200]
    first = json.loads(answers[0][2])
    assert (first["outcome"], first["event"], first["label"]) == ("failure", "near_success", "ann")
    assert "'no_label' is no label" in json.loads(answers[1][2])["error"]
    (row,) = labels.history(lake)
    assert (row["label"], row["who"], row["why"]) == ("near_success", "ann", "it tips")
    assert [ref.artifact_id for ref in told] == [labels.latest(lake).artifact_id]
    assert "1 episodes were labelled" in said
    vlaw("watch", ids[1], "--out", "page.html", code=0)
    data = json.loads(re.search(r'id="data">(.*?)</script>', Path("page.html").read_text())[1])
    assert data["labelling"] is None
    assert (data["episodes"][0]["outcome"], data["episodes"][0]["recorded"]) == ("failure", "success")
    assert data["episodes"][0]["labels"][0]["why"] == "it tips"


@pytest.mark.parametrize("words", [["--as-of", "#0"], ["--out", "page.html"], ["--who", " "]])
def test_labels_are_given_now_by_somebody_on_a_page_that_is_served(place, words):
    vlaw, lake, ids = place
    said = vlaw("watch", ids[0], "--label", *words, code=2).stderr
    assert "--label" in said or "who" in said
    assert labels.history(lake) == []


@pytest.mark.slow
@pytest.mark.browser
def test_buttons_label_in_a_browser(place, tmp_path):
    _, lake, ids = place
    program = "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'; app()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "watch", *ids, "--label", "--who", "ann"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with tab(tmp_path / "profile") as page:
            page.open(f"{address}#{ids[1]}")
            page.until("!!document.getElementById('why')")
            reason = "(w => {{ w.value = '{}'; w.dispatchEvent(new Event('input')) }})(document.getElementById('why'))"
            page.run(reason.format("it tips"))
            page.run("document.dispatchEvent(new KeyboardEvent('keydown', { key: '2', bubbles: true }))")
            page.until("document.querySelector('.opened').textContent.includes('Labels, the last one holds')")
            assert page.run("document.getElementById('count').textContent") == "3 of 3 · 3 failure"
            page.run(reason.format(""))
            page.run("document.getElementById('label-success').click()")
            page.until("!!document.querySelector('.opened .cut')?.textContent.includes('a reason is missing')")
            # The browser notes that the request was refused; the page itself said so.
            assert [text for text in page.messages if "409" not in text] == []
        (row,) = labels.history(lake)
        assert (row["episode_id"], row["label"], row["who"], row["why"]) == (ids[1], "failure", "ann", "it tips")
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
    assert "1 episodes were labelled" in said
    assert process.returncode == 0
