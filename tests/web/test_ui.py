"""`vlaw ui` in real processes, attacked as another page in the same browser could, and used as its own pages use it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import time
from functools import partial
from pathlib import Path

import pytest
import websockets.sync.client
from attacks import ATTACKS, as_json, mutation
from PIL import Image
from smoke_place import new_place
from typer.testing import CliRunner
from ui_server import JSON, children, serving

from vlaw_assets.cli import app
from vlaw_assets.pipeline import driver, liveness
from vlaw_assets.web.guard import Guard
from vlaw_assets.web.server import origins
from vlaw_models.pictures import png_bytes

# ---- another page


@pytest.mark.parametrize("name", ATTACKS)
def test_what_another_page_can_send_is_refused_and_changes_nothing(server, name):
    key = f"evil-{name}"
    status, body = server.ask(*ATTACKS[name](key))
    assert status in (400, 403, 405, 415), body
    assert key not in server.limits()
    assets = server.graphql("{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }")["assetsOrError"][
        "nodes"
    ]
    assert {"key": {"path": [key]}} not in assets


def test_the_same_operation_from_its_own_page_is_executed(server):
    """So that the tests above do not pass because nothing would be."""
    for number, host in enumerate(("localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "LOCALHOST:PORT")):
        origin = f"http://{host}"
        status, body = server.ask(
            "POST",
            "/graphql",
            {"Host": host, "Origin": origin, "Content-Type": "application/json; charset=utf-8"},
            as_json(f"good-{number}"),
        )
        assert (status, json.loads(body)) == (200, {"data": {"setConcurrencyLimit": True}})
    assert {f"good-{number}" for number in range(4)} <= server.limits()
    assert server.ask("POST", "/graphql", JSON, as_json("curl"))[0] == 200, "a client that is no browser says no origin"


def test_two_requests_in_one_are_not_taken_apart_in_two_ways(server):
    """Bytes after a body, and a body with two lengths."""
    inner = (
        f"POST /graphql HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: "
        f"{len(as_json('smuggled'))}\r\n\r\n{as_json('smuggled')}"
    )
    for lengths in (
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 200",
        "Transfer-Encoding: chunked, identity",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(
                f"POST /graphql HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: "
                f"application/json\r\n{lengths}\r\n\r\n"
                f"0\r\n\r\n{inner}".encode()
            )
            raw.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(partial(raw.recv, 65536), b""))
        assert b"200 OK" not in answer, answer
    assert "smuggled" not in server.limits()


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"Origin": "http://localhost:PORT"}, True),
        ({"Origin": "http://127.0.0.1:PORT"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
        ({"Origin": "http://localhost:PORT", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:PORT", "Host": "evil.example:PORT"}, False),
    ],
    ids=str,
)
def test_a_web_socket_is_opened_by_its_own_pages_only(server, headers, accepted):
    headers = {name: value.replace("PORT", str(server.port)) for name, value in headers.items()}
    origin, host = headers.pop("Origin", None), headers.pop("Host", f"localhost:{server.port}")
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connect = partial(
        websockets.sync.client.connect,
        f"ws://{host}/graphql",
        sock=raw,
        origin=origin,
        additional_headers=headers,
        subprotocols=["graphql-ws"],
        proxy=None,
    )
    if not accepted:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            connect()
        assert refused.value.response.status_code == 403
        return
    with connect() as opened:
        opened.send(json.dumps({"type": "connection_init"}))
        assert json.loads(opened.recv(timeout=20)) == {"type": "connection_ack"}
        opened.send(json.dumps({"id": "1", "type": "start", "payload": {"query": mutation("by-socket")}}))
        assert json.loads(opened.recv(timeout=20))["type"] == "error", "Dagster takes subscriptions only there"


# ---- its own pages


def test_the_page_and_its_files_are_served_and_shown_in_no_frame(server):
    status, page = server.ask("GET", "/", {"Sec-Fetch-Site": "none", "Accept": "text/html"})
    assert (status, ">Dagster</title>" in page) == (200, True)
    script = re.search(r'src="(/[^"]+\.js)"', page)[1]
    assert server.ask("GET", script, {"Referer": "http://localhost:PORT/", "Sec-Fetch-Site": "same-origin"})[0] == 200
    assert server.ask("GET", "/graphql", {"Accept": "text/html"})[0] == 200, "the page to try queries on"
    assert server.ask("GET", "/asset-groups/?asset-selection=key%3Apolicy", {"Accept": "text/html"})[0] == 200
    for path, headers in (("/", {}), ("/", {"Sec-Fetch-Site": "cross-site"})):
        connection = http.client.HTTPConnection("localhost", server.port)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers.get_all("Content-Security-Policy")
        assert answer.headers["Access-Control-Allow-Origin"] is None
    assert answer.status == 403
    assert b'<a href="/">' in answer.read(), "who came by a link is one click away"
    connection.request("GET", "/<script>", headers={"Host": "<script>"})
    assert b"<script>" not in connection.getresponse().read()


def test_the_lakes_pictures_have_an_address_and_nothing_else_of_the_disk_has(server):
    folder = server.place.root / "lake" / "pictures"
    digest, png = "ab" * 32, png_bytes(Image.new("RGB", (7, 5)))
    folder.mkdir(parents=True)
    try:
        (folder / f"{digest}.png").write_bytes(png)
        (folder / f"{digest}.html").write_text("<p>page")
        (folder / "plain.png").write_bytes(b"SECRET")
        page = {"Sec-Fetch-Site": "same-origin", "Referer": "http://localhost:PORT/assets/policy"}
        assert server.ask("GET", f"/vlaw/pictures/{digest}.png", page) == (200, png.decode(errors="replace"))
        assert server.ask("HEAD", f"/vlaw/pictures/{digest}.png", page) == (200, "")
        status, svg = server.ask("GET", f"/vlaw/pictures/{digest}.svg", page)
        assert (status, 'viewBox="0 0 7 5"' in svg, " width=" in svg.partition(">")[0]) == (200, True, False)
        assert server.ask("GET", f"/vlaw/pictures/{digest}.html", page) == (200, "<p>page")
        assert server.ask("GET", f"/vlaw/pictures/{'0' * 64}.png", page)[0] == 404
        assert server.ask("GET", f"/vlaw/pictures/{digest}.png", {"Sec-Fetch-Site": "cross-site"})[0] == 403
        for path in ("plain.png", "../FORMAT.json", "..%2FFORMAT.json", f"{digest}.png/../plain.png"):
            assert "SECRET" not in server.ask("GET", f"/vlaw/pictures/{path}", page)[1]
    finally:
        shutil.rmtree(server.place.root / "lake")


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"workplace": {"config": {"lake": "ELSEWHERE"}}}},
        {"resources": {"workplace": {"config": {"recipes": "ELSEWHERE"}}}},
        {"resources": {"workplace": {"config": {"lake": {"env": "HOME"}, "recipes": "ELSEWHERE"}}}},
        {"resources": {"workplace": {"config": "ELSEWHERE"}}},
        {"resources": {"workplace": {"lake": "ELSEWHERE"}}},
        {"resources": {"io_manager": {"config": {"base_dir": "ELSEWHERE"}}}},
        {"ops": {"autoencoder": {"config": {"lake": "ELSEWHERE"}}}},
        {"ops": {"autoencoder": {"config": {"force": False}, "resources": {"workplace": {"lake": "ELSEWHERE"}}}}},
    ],
    ids=str,
)
def test_a_runs_configuration_cannot_name_another_place(server, tmp_path, config):
    elsewhere = tmp_path / "elsewhere"
    moved = json.loads(json.dumps(config).replace("ELSEWHERE", str(elsewhere)))
    answer = server.launch(assets=["autoencoder"], config=moved)
    assert answer["__typename"] == "RunConfigValidationInvalid", answer
    assert not elsewhere.exists()
    assert not (server.place.root / "lake").exists(), "nothing was run"


@pytest.mark.slow
def test_a_run_is_started_from_the_page_and_holds_its_lock(server, monkeypatch):
    for name, value in server.place.environment().items():
        monkeypatch.setenv(name, value)
    answer = server.launch(assets=["autoencoder"], config={})
    assert answer["__typename"] == "LaunchRunSuccess", answer
    with driver.open_instance() as instance:
        for _ in range(900):
            run = instance.get_run_by_id(answer["run"]["runId"])
            assert liveness.close_dead_runs(instance) == [], "it waits, begins and ends; it is never dead"
            if run.is_finished:
                break
            time.sleep(0.2)
        assert run.is_success
        assert run.tags[liveness.TAG] == liveness.place()
        assert server.place.lake.ledger.current("autoencoder", "") is not None
        for _ in range(100):  # its process ends a little after it
            liveness.close_dead_runs(instance)
            if not list((server.place.root / "dagster_home" / liveness.FOLDER).iterdir()):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("a run that is over leaves nothing")


@pytest.mark.slow
def test_read_only_shows_and_changes_nothing(tmp_path):
    place = new_place(tmp_path / "place")
    with serving(place, "--read-only", "--origin", "https://vlaw.example.org") as viewer:
        assert viewer.graphql("{ version }")["version"]
        assert viewer.ask("GET", "/", {})[0] == 200
        proxied = {**JSON, "Host": "vlaw.example.org", "Origin": "https://vlaw.example.org"}
        assert viewer.ask("POST", "/graphql", proxied, json.dumps({"query": "{ version }"}))[0] == 200
        assert (
            viewer.ask(
                "POST",
                "/graphql",
                {**proxied, "Origin": "http://vlaw.example.org"},
                json.dumps({"query": "{ version }"}),
            )[0]
            == 403
        )
        key = "read-only"
        nested = "{" * 100_000
        for body in (
            as_json(key),
            json.dumps({"query": f"query A {{ version }} {mutation(key)}", "operationName": "A"}),
            '{"query": "{ version }", "query": ' + json.dumps(mutation(key)) + "}",
            f"[{as_json(key)}]",
            json.dumps({"query": f"# {{ version }}\n,,{mutation(key)}"}),
            json.dumps({"query": "fragment A on Query { version } " + mutation(key)}),
            json.dumps({"query": nested}),
            "[" * 100_000,
            "{}",
            "",
            json.dumps({"query": ["a"]}),
            json.dumps({"query": mutation(key)}) + " " * 5 * 2**20,
        ):
            status, said = viewer.ask("POST", "/graphql", JSON, body)
            assert status in (400, 403, 413), (body[:80], said)
        for path in ("materialization", "check", "observation"):
            assert viewer.ask("POST", f"/report_asset_{path}/policy", JSON, "{}")[0] == 403
        assert key not in viewer.limits()
        permissions = viewer.graphql("{ permissions { permission value } }")["permissions"]
        assert not any(item["value"] for item in permissions), "Dagster itself knows too"


@pytest.mark.slow
def test_without_its_daemon_the_ui_ends_and_says_so(tmp_path):
    place = new_place(tmp_path / "place")
    with serving(place, exit_code=2) as server:
        others = children(server.pid)
        [daemon] = [pid for pid, command in others.items() if "dagster-daemon" in command]
        os.kill(daemon, signal.SIGKILL)
        for _ in range(300):
            if not children(server.pid):
                break
            time.sleep(0.1)
    assert "dagster-daemon ended" in (place.root / "ui.log").read_text()
    assert not [pid for pid in others if Path(f"/proc/{pid}").exists()]


def test_what_cannot_be_served_is_said_at_once(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("VLAW_LAKE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for arguments, text in (
        (["--port", str(server.port)], "cannot listen"),
        (["--host", "no.such.name.invalid"], "cannot listen"),
        (["--origin", "vlaw.example.org"], "no address of a web page"),
        (["--origin", "file:///x"], "no address"),
    ):
        result = CliRunner().invoke(app, ["ui", "--port", "0", *arguments])
        assert result.exit_code != 0
        assert text in str(result.output) + str(result.exception)
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def answer_to(guard: Guard, server: tuple[str, int], **headers: str) -> int:
    """Status of a GET that came to an address of this machine."""
    sent: list[dict] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "server": server,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(guard(scope, lambda: None, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("server", "host", "origin", "status"),
    [
        (("192.168.1.5", 3000), "192.168.1.5:3000", "http://192.168.1.5:3000", 204),
        (("::1", 3000), "[::1]:3000", None, 204),
        (("fe80::2", 3000), "[fe80::2]:3000", None, 204),
        (("192.168.1.5", 3000), "192.168.1.6:3000", None, 403),
        (("192.168.1.5", 3000), "192.168.1.5:3001", None, 403),
        (("192.168.1.5", 3000), "192.168.1.5.evil.example:3000", None, 403),
        (("192.168.1.5", 3000), "localhost.:3000", None, 403),
        (("192.168.1.5", 3000), "", None, 403),
    ],
)
def test_a_server_on_every_address_is_known_by_the_one_that_was_asked(server, host, origin, status):
    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})

    guard = Guard(inner, origins("0.0.0.0", 3000))
    assert answer_to(guard, server, host=host, **({"origin": origin} if origin else {})) == status


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["--host", "0.0.0.0"], "can start and stop runs"),
        (["--host", "::"], "can start and stop runs"),
        (["--host", "0.0.0.0", "--read-only"], "sees everything"),
        ([], ""),
        (["--host", "localhost"], ""),
        (["--host", "[::1]"], ""),
    ],
    ids=str,
)
def test_a_server_that_others_can_reach_warns_that_there_is_no_login(tmp_path, monkeypatch, options, warned):
    monkeypatch.chdir(tmp_path)
    for name in ("VLAW_LAKE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    if any(":" in word for word in options):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    served = []
    monkeypatch.setattr(
        "vlaw_assets.web.server.serve",
        lambda listening, allowed, **rest: (served.append(allowed), listening.close()),
    )
    result = CliRunner().invoke(app, ["ui", "--port", "0", *options])
    assert result.exit_code == 0, result.output
    with driver.open_instance() as instance:
        limited = "accelerator" in instance.event_log_storage.get_concurrency_keys()
    assert limited is ("--read-only" not in options)
    assert ("there is no login" in result.output) is bool(warned)
    assert warned in " ".join(result.output.split())
    assert {f"http://{name}" for name in ("localhost", "127.0.0.1", "[::1]")} <= {
        address.rpartition(":")[0] for address in served[0]
    }
