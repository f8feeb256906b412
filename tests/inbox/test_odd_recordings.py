"""Folders in the inbox that are hostile, damaged or half there, and full disks: refused with the reason, or left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from inbox_lab import SESSION, TASK
from recorded_dataset import DATA

from vlaw_assets.inbox import take
from vlaw_assets.inbox.folder import MOST_BYTES
from vlaw_assets.inbox.refused import refusals
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError

GONE, UNKNOWN, OTHER_ROBOT, OTHER_POLICY = (f"2026030{day}T120000Z-0a1b2c3d" for day in (5, 6, 7, 8))


def note(text: bytes):
    return lambda folder: (folder / "recording.toml").write_bytes(text)


def instead(make):
    """A note that is something else than a file."""

    def change(folder: Path) -> None:
        (folder / "recording.toml").unlink()
        make(folder / "recording.toml")

    return change


def large(folder: Path) -> None:
    with (folder / "recording.toml").open("r+b") as file:
        file.truncate(1 << 30)


def link(name: str, target: str):
    return lambda folder: (folder / name).symlink_to(target)


def said(**values: object) -> bytes:
    values = {"format": "lerobot", "session": SESSION, "task": TASK} | values
    return "\n".join(f"{key} = {value!r}" for key, value in values.items() if value is not None).encode()


REFUSED = {
    "note a folder": (instead(Path.mkdir), "recording.toml is no file"),
    "note a pipe": (instead(os.mkfifo), "recording.toml is no file"),
    "note a link": (instead(lambda path: path.symlink_to("/etc/hostname")), "recording.toml is a symbolic link"),
    "note of a gigabyte": (large, f"has 1,073,741,824 bytes, more than {MOST_BYTES:,}"),
    "note no text": (note(b"\xff\xfe\x00"), "no text in UTF-8"),
    "note no toml": (note(b"format: lerobot"), "is no TOML"),
    "note too deep": (note(b"x = " + b"[" * 30_000), "is no TOML"),
    "note empty": (note(b""), "says no format and no session"),
    "note of other types": (note(said(session=3)), "session is 3"),
    "key unknown": (note(said(sesion="x")), "'sesion' is no key"),
    "format unknown": (note(said(format="vhs")), "there is no importer 'vhs'"),
    "session a path": (note(said(session="../../etc")), "no id of a session"),
    "session unknown": (note(said(session=GONE)), f"this lake served no session {GONE}"),
    "session of nobody": (note(said(session=UNKNOWN)), "is not the one of that id in this lake"),
    "session of another robot": (note(said(session=OTHER_ROBOT)), "served a policy for robot 'droid'"),
    "policy of another digest": (note(said(session=OTHER_POLICY)), "is not the one of that id in this lake"),
    "experiment another": (note(said(experiment="other")), "experiment is 'other', and of its session 'lab'"),
    "policy another": (note(said(policy_content_sha256="ab")), "policy_content_sha256 is 'ab'"),
    "iteration to come": (note(said(iteration=2)), "iteration 2 of lab is not open: 1 is"),
    "robot another": (note(said(robot="droid")), "the recording is of robot 'droid'"),
    "task of nobody": (note(said(task="draw")), "'draw' is no task of experiment lab"),
    "link out": (link("notes.txt", "/etc/hostname"), "leads out of the recording, or nowhere: /etc/hostname"),
    "link nowhere": (link("notes.txt", "gone"), "leads out of the recording, or nowhere: gone"),
    "pipe inside": (lambda folder: os.mkfifo(folder / "meta/pipe"), "neither file nor folder"),
    "damaged": (lambda folder: os.truncate(folder / DATA, 100), "parquet"),
}
"""Name -> (what is done to a sound recording, what the refusal says)."""


def test_what_is_wrong_with_a_recording_refuses_it_with_the_reason(lab):
    lab.serve(session=UNKNOWN, policy_artifact="nobody")
    lab.serve(session=OTHER_ROBOT, robot="droid")
    lab.serve(session=OTHER_POLICY, policy_content_sha256=lab.made["base_policy"].identity_digest)
    for name, (change, _) in REFUSED.items():
        change(lab.record(name))
    report = lab.take()
    assert (report.taken, report.left, report.stopped, lab.recorded()) == ([], [], "", [])
    assert lab.content() == {".": [], "taken": [], "refused": sorted(REFUSED)}
    for name, (_, what) in REFUSED.items():
        reason = (lab.inbox.root / "refused" / name / "reason.txt").read_text()
        assert what in reason, name
        assert "remedy: " in reason
    with connect(lab.lake) as query:
        rows = query.execute("select recording, what, remedy from refused_recordings").fetchall()
    assert {row[0] for row in rows} >= set(REFUSED)
    assert all(REFUSED[name][1] in what and remedy for name, what, remedy in rows if name in REFUSED)


def test_what_is_no_finished_recording_is_left_alone_and_said(lab):
    root = lab.inbox.root
    (root / "file.tar").write_text("x")
    (root / "link").symlink_to(lab.root / "template")
    (root / "busy").mkdir()
    report = lab.take()
    assert dict(report.left) == {
        "busy": "still being written: it has no recording.toml",
        "file.tar": "a file, no folder",
        "link": "a symbolic link: not followed",
    }
    assert (report.taken, report.refused, lab.content()["."]) == ([], [], ["busy", "file.tar", "link"])


def test_odd_names_are_names_and_one_that_is_no_text_is_refused(lab):
    names = ["..x", "a\x1b[31m\nb", "récolte 日本", "x" * 255]
    for number, name in enumerate(names):
        lab.record(name, number)
    lab.record("a", len(names)).rename(lab.inbox.root / os.fsdecode(b"a\xff"))
    report = lab.take()
    assert [(name, ref.metrics["dropped_as"]) for name, ref in report.taken] == [(name, name) for name in names]
    assert [name for name, _ in report.refused] == ["a\\xff"]
    assert lab.content()["."] == []


def test_a_reason_is_written_into_the_folder_and_nowhere_else(lab):
    victim = lab.root / "victim"
    victim.write_text("mine")
    folder = lab.record("bad", note={"format": "vhs"})
    (folder / "reason.txt").symlink_to(victim)
    lab.take()
    assert victim.read_text() == "mine"
    assert "vhs" in (lab.inbox.root / "refused/bad/reason.txt").read_text()


def test_the_same_refusal_is_noted_once(lab):
    lab.record("bad", note={"format": "vhs"})
    lab.take()
    shutil.move(lab.inbox.root / "refused/bad", lab.inbox.root / "bad")
    assert len(lab.take().refused) == 1
    assert len(refusals(lab.lake)) == 1
    lab.record("bad", note={"format": "dvd"})
    lab.take()
    assert [row["recording"] for row in refusals(lab.lake)] == ["bad", "bad"]
    assert lab.content()["refused"] == ["bad", "bad-2"]


def during_the_import(monkeypatch, change) -> None:
    """Something happens after a recording was digested and before it is read."""
    original = take.commit_recordings

    def changed(lake, recordings, *args, **options):
        change(recordings.root)
        return original(lake, recordings, *args, **options)

    monkeypatch.setattr(take, "commit_recordings", changed)


def append(root: Path) -> None:
    with (root / "meta/info.json").open("a") as file:
        file.write(" ")


@pytest.mark.parametrize("change", [append, pytest.param(lambda root: (root / "x").touch(), marks=pytest.mark.slow)])
def test_a_recording_that_changes_while_it_is_read_is_taken_another_time(lab, monkeypatch, change):
    lab.record("one", 1)
    with monkeypatch.context() as patch:
        during_the_import(patch, change)
        report = lab.take()
    assert report.left == [("one", "it was changed or taken away while it was read")]
    assert (lab.recorded(), lab.content()["."]) == ([], ["one"])
    assert [name for name, _ in lab.take().taken] == ["one"]


def test_a_folder_that_vanishes_stops_nothing(lab, monkeypatch):
    lab.record("a", 1), lab.record("b", 2)
    during_the_import(monkeypatch, lambda root: shutil.rmtree(root) if root.name == "a" else None)
    report = lab.take()
    assert [name for name, _ in report.left] == ["a"]
    assert [name for name, _ in report.taken] == ["b"]


FULL = OSError(errno.ENOSPC, "No space left on device")
BUSY = VlawError("is being made", where="LAKE/locks/x", remedy="wait")


@pytest.mark.parametrize(
    "error", [FULL, pytest.param(MemoryError(), marks=pytest.mark.slow), pytest.param(BUSY, marks=pytest.mark.slow)]
)
def test_what_is_no_recordings_fault_leaves_them_for_another_time(lab, monkeypatch, error):
    def fails(*_args, **_options):
        if isinstance(error, VlawError):
            error.where = error.where.replace("LAKE", str(lab.lake.paths.root))
        raise error

    lab.record("a", 1), lab.record("b", 2)
    with monkeypatch.context() as patch:
        patch.setattr(take, "commit_recordings", fails)
        report = lab.take()
    assert (str(error) or "MemoryError") in report.stopped
    assert [name for name, _ in report.left] == ["a", "b"]
    assert (lab.content()["."], refusals(lab.lake)) == (["a", "b"], [])
    assert [name for name, _ in lab.take().taken] == ["a", "b"]


def test_a_defect_of_an_importer_refuses_that_recording_alone(lab, monkeypatch):
    def defect(root: Path) -> None:
        if root.name == "a":
            raise KeyError("frames")

    lab.record("a", 1), lab.record("b", 2)
    during_the_import(monkeypatch, defect)
    report = lab.take()
    assert [(name, error.what) for name, error in report.refused] == [("a", "it cannot be read: KeyError: 'frames'")]
    assert [name for name, _ in report.taken] == ["b"]


def test_a_recipe_that_is_not_ready_leaves_the_recording(lab):
    lab.record("a", 1)
    lab.experiment(rollouts={"source": "recorded:lab"})
    assert "takes its real rollouts from 'recorded:lab'" in dict(lab.take().left)["a"]
    lab.experiment(preset="toy")
    assert "is for preset 'toy'" in dict(lab.take().left)["a"]
    lab.experiment()
    assert [name for name, _ in lab.take().taken] == ["a"]
