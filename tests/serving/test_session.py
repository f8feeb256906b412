"""The record of a session and the recording of its messages: written whole, read back, checked, torn by kills."""

from __future__ import annotations

import os
import resource
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vlaw_assets.lake import Lake
from vlaw_assets.lake.durable import FileLock
from vlaw_assets.serving.recorder import HEADER, Kind, Recorder, read_messages
from vlaw_assets.serving.session import (
    FILE,
    LOCK,
    Counts,
    Session,
    folder_of,
    is_served,
    new_id,
    read_session,
    session_ids,
    write_session,
)
from vlaw_models.errors import VlawError


def session(**changes) -> Session:
    values = {
        "id": new_id(),
        "experiment": "vlaw",
        "iteration": 1,
        "robot": "tabletop",
        "policy": "artifact-1",
        "policy_name": "policy[vlaw|01]",
        "policy_content_sha256": "0" * 64,
        "policy_class": "FlowPolicy",
        "execute_steps": 4,
        "noise_scale": 1.0,
        "noise_seed": 0,
        "image_size": (64, 64),
        "code_revision": "",
        "recorded": False,
        "started_at": datetime.now(UTC),
    }
    return Session(**{**values, **changes})


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    return Lake.open(tmp_path_factory.mktemp("sessions") / "lake")


def test_a_session_is_read_as_it_was_written(lake):
    made = session(counts=Counts(requests=3, answered=2, refused=1), latency_ms={"p50": 1.5})
    write_session(lake, made)
    assert read_session(lake, made.id) == made
    ended = made.model_copy(update={"ended_at": datetime.now(UTC), "end": "interrupted"})
    write_session(lake, ended)
    assert read_session(lake, made.id) == ended
    assert made.id in session_ids(lake)
    assert [path.name for path in folder_of(lake, made.id).iterdir()] == [FILE]


def test_a_lock_says_whether_a_session_is_at_work(lake):
    made = session()
    write_session(lake, made)
    assert not is_served(lake, made.id)
    with FileLock(folder_of(lake, made.id) / LOCK).hold("test", wait_s=0, remedy=""):
        assert is_served(lake, made.id)
    assert not is_served(lake, made.id)


@pytest.mark.parametrize("name", ["", "../other", "20260301T120000Z-0a1b2c3", "20260301T120000Z-0a1b2c3d/..", "a" * 99])
def test_what_is_no_id_is_refused(lake, name):
    with pytest.raises(VlawError, match="no id of a session"):
        read_session(lake, name)


def test_a_session_of_another_lake_is_refused(lake):
    with pytest.raises(VlawError, match="served no session"):
        read_session(lake, new_id())


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace('"robot"', '"robots"'), "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "cannot be read"),
        (lambda text: text.replace("Z-", "Z-f", 1), "cannot be read"),
    ],
)
def test_a_changed_session_is_refused(lake, damage, what):
    made = session()
    write_session(lake, made)
    path = folder_of(lake, made.id) / FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(VlawError, match=what):
        read_session(lake, made.id)


def test_a_session_that_was_copied_under_another_id_is_refused(lake):
    made, other = session(), new_id()
    write_session(lake, made)
    folder_of(lake, other).mkdir()
    (folder_of(lake, other) / FILE).write_bytes((folder_of(lake, made.id) / FILE).read_bytes())
    with pytest.raises(VlawError, match="that of session"):
        read_session(lake, other)


BODIES = [b"", b"metadata", bytes(range(256)) * 300, "später".encode()]


def record(path: Path) -> None:
    recorder = Recorder(path)
    for number, body in enumerate(BODIES):
        recorder.write(Kind.REQUEST if number % 2 else Kind.ANSWER, 7, number, body)
    recorder.close()


def test_messages_are_read_as_they_were_recorded(tmp_path):
    record(tmp_path / "messages.rec")
    found = list(read_messages(tmp_path / "messages.rec"))
    assert [message.body for message in found] == BODIES
    assert [(message.connection, message.number) for message in found] == [(7, number) for number in range(4)]
    assert [message.kind for message in found][:2] == [Kind.ANSWER, Kind.REQUEST]
    assert found[0].at_ns <= found[-1].at_ns


def test_a_recording_that_was_torn_anywhere_gives_the_messages_before(tmp_path):
    record(tmp_path / "whole.rec")
    data = (tmp_path / "whole.rec").read_bytes()
    torn, known = tmp_path / "torn.rec", 0
    for length in [*range(len(HEADER), 120), len(data) - 1]:
        torn.write_bytes(data[:length])
        found = [message.body for message in read_messages(torn)]
        assert found == BODIES[: len(found)]
        assert len(found) >= known
        known = len(found)
    assert known == len(BODIES) - 1


def test_a_changed_byte_ends_the_reading(tmp_path):
    record(tmp_path / "messages.rec")
    data = bytearray((tmp_path / "messages.rec").read_bytes())
    data[-1] ^= 1
    (tmp_path / "messages.rec").write_bytes(data)
    assert [message.body for message in read_messages(tmp_path / "messages.rec")] == BODIES[:-1]


def test_what_is_no_recording_is_refused(tmp_path):
    (tmp_path / "messages.rec").write_bytes(b"something else altogether")
    with pytest.raises(VlawError, match="no recording"):
        list(read_messages(tmp_path / "messages.rec"))
    with pytest.raises(VlawError, match="cannot be read"):
        list(read_messages(tmp_path / "absent.rec"))


def test_a_message_that_does_not_fit_on_the_disk_leaves_nothing_behind(tmp_path):
    """A limit of the file's size in place of a full disk: what is written later is found all the same."""
    recorder = Recorder(tmp_path / "messages.rec")
    recorder.write(Kind.REQUEST, 1, 1, b"first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        with pytest.raises(OSError, match="too large"):
            recorder.write(Kind.ANSWER, 1, 1, os.urandom(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    recorder.write(Kind.ANSWER, 1, 1, b"second")
    recorder.close()
    assert [message.body for message in read_messages(tmp_path / "messages.rec")] == [b"first", b"second"]
