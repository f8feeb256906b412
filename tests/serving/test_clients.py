"""Clients that are faulty, hostile or many: each hears what is wrong, and the others go on being answered."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import needed
import numpy as np
import pytest
from policy_client import Client, asked, packed, running
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from vlaw_assets.serving.limits import Door, Limits, bind, listen, open_door
from vlaw_assets.serving.recorder import Recorder
from vlaw_models.errors import VlawError

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def place(lake, served):
    with running(lake, served("base"), limits=Limits(answer_s=20, message_bytes=200_000)) as place:
        yield place


@pytest.fixture
def friend(place, episodes):
    """Another client, which is answered before and after, the same."""
    with Client(place.port) as client:
        request = asked(episodes[0], noise_seed=1)
        before = client.ask(request)["actions"]
        yield client
        np.testing.assert_array_equal(client.ask(request)["actions"], before)


def said_to(place, message: bytes | str) -> str:
    """The error that a message is answered with; the connection must then be closed."""
    with Client(place.port) as client:
        with pytest.raises(RuntimeError) as error:
            client.send(message)
        with pytest.raises(ConnectionClosed):
            client.socket.recv(timeout=5)
        return str(error.value)


@pytest.mark.usefixtures("friend")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"observation__wrist": None}, "no picture of camera wrist"),
        ({"observation__wrist": np.zeros((3, 32, 32), np.uint8)}, "channels come last"),
        ({"observation__state": np.full(5, np.nan)}, "not finite"),
        ({"observation__state": np.zeros(7)}, "shape"),
        ({"prompt": "fetch the red square"}, "does not know 'fetch'"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_wrong_observation_is_answered_with_what_is_wrong(place, episodes, change, what):
    error = said_to(place, packed(asked(episodes[0], **change)))
    assert what in error
    assert "remedy:" in error


@pytest.mark.usefixtures("friend")
@pytest.mark.parametrize("message", ["a text", b"", b"\xc1", b"\x91" * 100_000, b"\x80"])
def test_a_message_that_is_no_observation_is_answered_with_what_is_wrong(place, message):
    assert "remedy:" in said_to(place, message)


@pytest.mark.usefixtures("friend")
def test_a_message_that_is_too_large_ends_its_connection(place):
    with Client(place.port) as client:
        client.socket.send(b"\x00" * 300_000)
        with pytest.raises(ConnectionClosed) as closed:
            client.socket.recv(timeout=5)
        assert closed.value.rcvd.code == 1009


@pytest.mark.usefixtures("friend")
def test_clients_that_break_off_or_never_begin_disturb_nobody(place, episodes):
    data = packed(asked(episodes[0]))
    silent = [socket.create_connection(("127.0.0.1", place.port)) for _ in range(5)]  # never speak
    silent[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    silent[1].sendall(b"\x16\x03\x01" + bytes(100))
    for cut in (1, 10, len(data) // 2):  # break off in the middle of a message
        client = Client(place.port)
        frame = b"\x82\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data
        client.socket.socket.sendall(frame[:cut])
        client.socket.socket.shutdown(socket.SHUT_RDWR)
    for _ in range(3):  # ask and be gone
        client = Client(place.port)
        client.socket.send(data)
        client.socket.socket.shutdown(socket.SHUT_RDWR)
    with Client(place.port) as client:
        assert client.ask(asked(episodes[1]))["actions"].shape == (8, 5)
    for one in silent:
        one.close()


def test_a_health_check_is_answered_without_a_websocket(place):
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz") as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")


def test_a_page_in_a_browser_is_not_let_in(place):
    with pytest.raises(InvalidStatus, match="403"), connect(f"ws://127.0.0.1:{place.port}", origin="http://localhost"):
        pass


class Slow:
    """A policy that takes its time, or hangs until it is let go."""

    execute_steps = 1

    def __init__(self):
        self.go = threading.Event()
        self.go.set()

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        self.go.wait(30)
        return np.repeat(observation.state[:, None], 2, axis=1)


def test_a_policy_that_hangs_is_said_to_each_client_and_to_the_health_check(lake, served, episodes):
    policy = Slow()
    with running(lake, replace(served("base"), policy=policy), limits=Limits(answer_s=0.3)) as place:
        policy.go.clear()
        try:
            for _ in range(2):
                assert "no answer within 0.3 s" in said_to(place, packed(asked(episodes[0])))
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz")
        finally:
            policy.go.set()
        with Client(place.port) as client:
            assert client.ask(asked(episodes[0]))["actions"].shape == (2, 5)
    assert place.ended.counts.late == 2


def test_a_client_that_asks_nothing_is_sent_away(lake, served):
    with running(lake, served("base"), limits=Limits(idle_s=0.2)) as place, Client(place.port) as client:
        assert "nothing was asked for 0.2 s" in client.socket.recv(timeout=5)
        with pytest.raises(ConnectionClosed):
            client.socket.recv(timeout=5)


@pytest.mark.slow
def test_a_client_that_stalls_within_a_message_is_sent_away(lake, served, episodes):
    with running(lake, served("base"), limits=Limits(idle_s=0.2)) as place, Client(place.port) as client:
        begun = packed(asked(episodes[0]))[:100]
        client.socket.socket.sendall(b"\x82\xfe" + (9000).to_bytes(2, "big") + bytes(4) + begun)
        assert "nothing was asked for 0.2 s" in client.socket.recv(timeout=5)


def test_more_clients_than_allowed_are_told_so(lake, served, episodes):
    with running(lake, served("base"), limits=Limits(clients=2)) as place:
        with Client(place.port) as one, Client(place.port):
            with pytest.raises(InvalidStatus, match="503"):
                Client(place.port)
            one.ask(asked(episodes[0]))
        for _ in range(50):  # a place is free once the server has seen the other go
            try:
                Client(place.port).close()
                break
            except InvalidStatus:
                time.sleep(0.05)
        else:
            pytest.fail("no place became free")


def test_who_has_asked_when_the_server_is_told_to_end_is_answered(lake, served, episodes):
    policy = Slow()
    with running(lake, replace(served("base"), policy=policy)) as place:
        idle, asking = Client(place.port), Client(place.port)
        policy.go.clear()
        asking.socket.send(packed(asked(episodes[0])))
        while not any("client 2 connected" in line for line in place.told):
            time.sleep(0.01)
        time.sleep(0.1)
        threading.Timer(0.3, policy.go.set).start()
    assert isinstance(asking.socket.recv(timeout=5), bytes)
    for client in (idle, asking):
        with pytest.raises(ConnectionClosed) as closed:
            client.socket.recv(timeout=5)
        assert closed.value.rcvd.code == 1001
    assert place.ended.counts.answered == 1


def test_what_cannot_be_recorded_is_not_answered(lake, served, episodes, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with running(lake, served("base"), record=True) as place:
        with Client(place.port) as client:
            client.ask(asked(episodes[0]))
            monkeypatch.setattr(Recorder, "write", full)
            with pytest.raises(RuntimeError, match="cannot be written: No space left"):
                client.ask(asked(episodes[0]))
        monkeypatch.undo()
        with Client(place.port) as client:
            assert client.ask(asked(episodes[0]))["actions"].shape == (8, 5)


def test_a_token_is_asked_for(lake, served, episodes):
    with running(lake, served("base"), door=Door(TOKEN)) as place:
        for wrong in ("", "0123456789abcdeF", TOKEN + "0"):
            with pytest.raises(InvalidStatus, match="401"):
                Client(place.port, api_key=wrong)
        with Client(place.port, api_key=TOKEN) as client:
            assert client.ask(asked(episodes[0]))["actions"].shape == (8, 5)
        with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz") as answer:
            assert answer.status == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem"]
    subprocess.run([needed.program("openssl"), *words, "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_a_client_comes_in_over_tls(lake, served, episodes, certificate, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "token").chmod(0o600)
    door = open_door(tmp_path / "token", *certificate)
    trust = ssl.create_default_context(cafile=certificate[0])
    with running(lake, served("base"), door=door) as place:
        with Client(place.port, api_key=TOKEN, scheme="wss", ssl=trust) as client:
            assert client.ask(asked(episodes[0]))["actions"].shape == (8, 5)
        with pytest.raises(ssl.SSLError):
            Client(place.port, api_key=TOKEN, scheme="wss", ssl=ssl.create_default_context())
        with pytest.raises(InvalidMessage):
            Client(place.port, api_key=TOKEN)  # without TLS


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_address_that_others_reach_needs_token_and_tls(host):
    with pytest.raises(VlawError, match="other machines reach this address") as error:
        bind(host, 0, Door())
    assert "--token-file and --tls-cert" in error.value.remedy
    with pytest.raises(VlawError, match="other machines") as error:
        bind(host, 0, Door(TOKEN))
    assert "Give --tls-cert (" in error.value.remedy


def test_addresses_of_this_machine_are_open_and_others_named():
    for host in ("127.0.0.1", "localhost", "127.1.2.3"):
        bind(host, 0, Door()).close()
    with pytest.raises(VlawError, match="no such address"):
        bind("no.such.host.invalid", 0, Door())


def test_an_address_is_taken_by_who_listens_there():
    with bind("127.0.0.1", 0, Door()) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):  # nobody gets in before it is told to listen
            socket.create_connection(("127.0.0.1", port))
        with bind("127.0.0.1", port, Door()) as second:
            listen(first)
            with pytest.raises(VlawError, match="cannot listen there"):
                listen(second)
        with pytest.raises(VlawError, match="cannot listen there"):
            bind("127.0.0.1", port, Door())


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [("short", 0o600, "no token"), (TOKEN, 0o644, "other users"), ("two words 0123456789", 0o600, "no token")],
)
def test_a_bad_token_file_is_refused(tmp_path, text, mode, what):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(VlawError, match=what):
        open_door(path, None, None)
    with pytest.raises(VlawError, match="cannot be read"):
        open_door(tmp_path / "absent", None, None)


def test_half_of_a_certificate_or_none_is_refused(tmp_path, certificate):
    with pytest.raises(VlawError, match="needs a certificate and its key"):
        open_door(None, certificate[0], None)
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(VlawError, match="cannot be used"):
        open_door(None, certificate[0], tmp_path / "key.pem")
