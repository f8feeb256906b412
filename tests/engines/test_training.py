"""A training that processes share: what is made is believed by its bytes, and nothing of one that fails is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from engine_lab import PARTITION, Lab, Threads

from vlaw_assets.engines import files, training
from vlaw_assets.engines.settings import read_settings
from vlaw_models.errors import VlawError

TWO = {"processes": 2}


@pytest.fixture(scope="module")
def made_here(tmp_path_factory):
    lab = to_train(Lab(tmp_path_factory.mktemp("here")))
    made = lab.make("reward_model")
    return made, read_by(lab, made)


@pytest.fixture
def lab(tmp_path):
    return to_train(Lab(tmp_path))


def to_train(lab, steps=3):
    lab.recipe("lab", reward_model={"steps": steps, "batch_size": 4, "replays": False})
    return lab


def read_by(lab, made):
    return {(edge.role, edge.scope, edge.selection) for edge in lab.lake.ledger.edge_rows(made.artifact_id)}


def in_this_process(monkeypatch, after=lambda _folder: None):
    def launch(folder, _job):
        training.share(folder)
        after(folder)

    monkeypatch.setattr(training, "launch", launch)


def test_a_training_in_a_worker_makes_what_it_makes_here(lab, made_here, monkeypatch):
    here, read = made_here
    in_this_process(monkeypatch)
    made = lab.by("threads", training={"processes": 1}).make("reward_model")
    assert (made.identity_digest, made.content_digest) == (here.identity_digest, here.content_digest)
    assert made.metrics["losses"] == here.metrics["losses"]
    assert made.metrics["engine"] == {"engine": "threads", "processes": 1}
    assert read_by(lab, made) == read, "the run itself notes what was read"
    assert not any(lab.lake.paths.training.iterdir())


def test_only_a_training_has_what_its_own_table_of_the_engine_asks_for(lab, monkeypatch):
    told = []
    monkeypatch.setattr(Threads, "__init__", lambda _self, settings: told.append(dict(settings.options)))
    in_this_process(monkeypatch)
    lab.by("threads", threads={"gpus": 1, "queue": "a"}, training={"processes": 1, "threads": {"gpus": 8}})
    lab.make("reward_model")
    assert told == [{"gpus": 8, "queue": "a"}]
    monkeypatch.setattr(files, "TRUSTED", ("vlaw_models.", "light_parts"))
    lab.make_light(1)
    assert told[1:] == [{"gpus": 1, "queue": "a"}]


def test_what_a_training_gives_is_believed_by_its_bytes_and_its_identity(lab, monkeypatch):
    before = lab.lake.ledger.require("reward_model", PARTITION)

    def damage(folder):
        (folder / training.CHECKPOINT / "config.json").write_text("{}")

    in_this_process(monkeypatch, damage)
    lab.by("threads", training={"processes": 1})
    with pytest.raises(VlawError, match=r"config.json of a training has another sha256"):
        lab.make("reward_model")

    in_this_process(monkeypatch)
    lab.by("threads", training=TWO)
    with pytest.raises(VlawError, match="made by 1 processes instead of 2"):
        lab.make("reward_model")

    def other(folder, job):
        files.replace(folder / "job.json", json.dumps({**job, "identity": "0" * 64}))
        training.share(folder)

    monkeypatch.setattr(training, "launch", other)
    with pytest.raises(VlawError, match=r"would make \w+ instead of 000000"):
        lab.make("reward_model")
    assert lab.lake.ledger.require("reward_model", PARTITION) == before


def test_a_training_sees_all_gpus(lab, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("VLAW_DEVICE", "auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    lab.by("subprocess", python=lab.python("echo GPUs $CUDA_VISIBLE_DEVICES; exit 7"), training=TWO)
    with pytest.raises(VlawError, match=r"(?s)a worker died: exit status 7.*GPUs 4,6\b"):
        lab.make("reward_model")


@pytest.mark.parametrize(
    "table", [{"processes": 0}, {"arguments": ["--cpu"]}, {"processes": 2, "arguments": "--cpu"}, {"ranks": 2}, 2]
)
def test_a_table_that_asks_for_nothing_sensible_is_refused(lab, table):
    with pytest.raises(VlawError, match="training has a value"):
        read_settings(lab.by("subprocess", training=table).engine)


@pytest.mark.slow
def test_a_killed_process_is_one_error_and_the_training_goes_on_where_it_was(lab, tmp_path, monkeypatch):
    # That two processes make what one makes, but for rounding and dropout, is shown in learners/test_parts.py.
    monkeypatch.setenv("VLAW_CHECKPOINT_STEPS", "1")
    to_train(lab, 60).by("subprocess", training=TWO)
    before = lab.lake.ledger.require("reward_model", PARTITION)
    watch, killed = training._watch, []  # noqa: SLF001

    def and_kill(stage, call, running, chosen, *, queues):
        while not any(lab.lake.paths.training.glob("*/step-*/whole.json")):
            assert not running.done(), running.exception()
            time.sleep(0.01)
        found = subprocess.run(["pgrep", "-f", str(call.folder)], capture_output=True, text=True, check=True)
        ranks = [pid for pid in found.stdout.split() if "RANK=1" in _environment(pid)]
        os.kill(int(ranks[0]), signal.SIGKILL)
        killed.append(ranks[0])
        watch(stage, call, running, chosen, queues=queues)

    monkeypatch.setattr(training, "_watch", and_kill)
    with pytest.raises(VlawError, match="a worker died"):
        lab.make("reward_model")
    assert killed
    assert lab.lake.ledger.require("reward_model", PARTITION) == before
    assert any(lab.lake.paths.training.glob("*/step-*/whole.json"))
    monkeypatch.setattr(training, "_watch", watch)
    again = lab.make("reward_model")
    whole = to_train(Lab(tmp_path / "other"), 60).by("subprocess", training=TWO).make("reward_model")
    assert (again.identity_digest, again.content_digest) == (whole.identity_digest, whole.content_digest)
    assert again.metrics["losses"] == whole.metrics["losses"]
    assert again.metrics["engine"] == {"engine": "subprocess", "processes": 2}
    assert torch.isfinite(torch.tensor(again.metrics["losses"])).all()


def _environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().decode(errors="replace").split("\0")
