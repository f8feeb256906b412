"""A training that was interrupted ends as one that was not, and what cannot be gone on with is said."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training_worker
from small_policies import FLOW, make
from small_trainings import KINDS, clip_judge, episodes
from training_worker import digest, state

from vlaw_models.config import PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners import resume
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.policy import update_policy
from vlaw_models.learners.resume import EVERY, Checkpoints
from vlaw_models.learners.reward_model import train_reward_model
from vlaw_models.policies.flow_policy import FlowPolicy

STEPS = 6
JUDGES = {"clip", "qwen"}
"""What is learned without averaged weights."""


class KilledError(Exception):
    pass


def killing(after: int):
    def progress(done: int, *_said) -> None:
        if done == after:
            raise KilledError

    return progress


@pytest.fixture(autouse=True)
def _at_every_step(monkeypatch):
    monkeypatch.setenv(EVERY, "1")


@pytest.mark.parametrize(("kind", "steps"), [pytest.param("warp", 3, marks=pytest.mark.slow), ("flow", STEPS)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(kind, steps, tmp_path):
    learn, checkpoints, undisturbed = KINDS[kind], Checkpoints(tmp_path / "work" / "state"), tmp_path / "undisturbed"
    whole = digest(*learn(steps=steps))
    assert digest(*learn(steps=steps, checkpoints=Checkpoints(undisturbed))) == whole, "keeping states changes nothing"
    for killed_after in (steps // 3, 2 * steps // 3):
        with pytest.raises(KilledError):
            learn(steps=steps, checkpoints=checkpoints, progress=killing(killed_after))
    told: list[int] = []
    again = Checkpoints(checkpoints.folder, seen=lambda losses: told.append(len(losses)))
    assert digest(*learn(steps=steps, checkpoints=again)) == whole
    assert told == list(range(2 * steps // 3 + 1, steps + 1)), "it goes on where it was"
    assert [path.name for path in checkpoints.folder.iterdir()] == [f"step-{steps:08d}"]
    assert state(checkpoints.folder) == state(undisturbed)
    assert digest(*learn(steps=steps, checkpoints=again)) == whole, "also where nothing is left to do"


def test_a_judge_with_dropout_goes_on_with_the_same_chance(tmp_path):
    def learn(checkpoints=None, after=0):
        judge, labels = clip_judge(dropout=0.3, frozen_eyes=True), [bool(e.success) for e in episodes()]
        options: dict[str, Any] = {"checkpoints": checkpoints, "progress": killing(after)}
        done = train_reward_model(judge, episodes(), labels, steps=STEPS, seed=1, batch_size=3, **options)
        return digest(done["losses"], judge)

    checkpoints = Checkpoints(tmp_path / "state")
    with pytest.raises(KilledError):
        learn(checkpoints, after=3)
    torch.rand(7)  # torch's own generator stands elsewhere by then
    assert learn(checkpoints) == learn()


@pytest.mark.parametrize("learner", ["filtered", "dsrl"])
def test_an_update_with_stopping_points_goes_on(learner, tmp_path):
    start = make(FlowPolicy, {**FLOW, "image_size": 64}, episodes(), execute_steps=4, euler_steps=2)
    start.save(tmp_path / "start")
    settings = PolicyConfig(steps=STEPS, batch_size=4, stops=(2, STEPS), learner=learner)
    table = {"steps": STEPS, "batch_size": 4} if learner == "dsrl" else {}
    real = Examples.equal(episodes())

    def learn(folder, checkpoints=None, after=0):
        seen: list[str] = []

        def evaluate(policy) -> dict[str, list[bool]]:
            seen.append(digest([], policy))
            return {"stack": [len(seen) == 2]}

        options: dict[str, Any] = {"checkpoints": checkpoints, "progress": killing(after), "evaluate": evaluate}
        chosen = load_learner(learner, table, where="test")
        log = update_policy(tmp_path / "start", chosen, real, Examples(), settings, folder, seed=2, **options)
        return log["losses"], log["stop"], seen, (folder / "model.safetensors").read_bytes()

    checkpoints = Checkpoints(tmp_path / "state")
    with pytest.raises(KilledError):
        learn(tmp_path / "killed", checkpoints, after=4)
    assert not (tmp_path / "killed").exists()
    assert learn(tmp_path / "again", checkpoints) == learn(tmp_path / "whole")


def test_a_write_that_breaks_off_anywhere_leaves_a_state_to_go_on_from(tmp_path, monkeypatch):
    """Every operation of a write fails once, before it or half way."""
    monkeypatch.setenv(EVERY, "2")
    whole = digest(*KINDS["mlp"](steps=STEPS))

    def learn(folder: Path, at: int, half: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in training_worker.WATCHED:
                patch.setattr(owner, name, getattr(owner, name))  # put back afterwards
            patch.setattr(training_worker, "die", broken)
            seen = training_worker.Moments({"at": at, "half": half})
            done = KINDS["mlp"](steps=STEPS, checkpoints=Checkpoints(folder), progress=seen)
        return digest(*done), seen.count

    def broken() -> None:
        raise KilledError

    # Of the second write, which takes the place of the first: both steps before it, all of its operations.
    _, moments = learn(tmp_path / "all", 0, half=False)
    each = moments // (STEPS // 2)
    assert each >= 6
    for at in range(each + 1, 2 * each + 1):
        folder, half = tmp_path / str(at), bool(at % 2)
        with pytest.raises(KilledError):
            learn(folder, at, half)
        assert learn(folder, 0, half=False)[0] == whole, (at, half)
        assert [path.name for path in folder.iterdir()] == [f"step-{STEPS:08d}"]


def test_a_state_that_is_none_or_of_another_training_is_refused(tmp_path):
    learn, folder = KINDS["mlp"], tmp_path / "state"
    learn(steps=STEPS, checkpoints=Checkpoints(folder))
    with pytest.raises(VlawError, match="of another training"):
        learn(steps=STEPS + 1, checkpoints=Checkpoints(folder))
    with pytest.raises(VlawError, match="of another training"):
        KINDS["flow"](steps=STEPS, checkpoints=Checkpoints(folder))
    whole = folder / f"step-{STEPS:08d}" / resume.WHOLE
    whole.write_text(whole.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(VlawError, match="as many processes"):
        learn(steps=STEPS, checkpoints=Checkpoints(folder))
    (folder / f"step-{STEPS:08d}" / "process-0.pt").write_bytes(b"no state")
    with pytest.raises(VlawError, match="cannot be read"):
        learn(steps=STEPS, checkpoints=Checkpoints(folder))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "often"])
def test_how_often_a_state_is_kept_is_a_number_of_steps(text, monkeypatch):
    monkeypatch.setenv(EVERY, text)
    with pytest.raises(VlawError, match="no number of steps"):
        resume.steps_between(100)
    monkeypatch.delenv(EVERY)
    assert resume.steps_between(50_000) == 2500
    assert resume.steps_between(3) == resume.steps_between(0) == 1


def played(runs: list[dict[str, Any]], *, every: int) -> list[list[Any]]:
    """What the processes of each run said."""
    environment = {**os.environ, EVERY: str(every), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    worker = [sys.executable, str(Path(training_worker.__file__))]
    done = subprocess.run(worker, input=json.dumps(runs), text=True, capture_output=True, env=environment, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("kind", "steps", "kills"),
    [
        ("mlp", 12, 40),
        ("warp", 5, 6),
        *((kind, 4, 4) for kind in ("ctrl", "pi0", "pi05", "oft", "qwen")),
        ("flow", 5, 4),
        ("clip", 5, 4),
    ],
)
def test_processes_killed_at_any_moment_end_as_if_they_had_not_been(kind, steps, kills, ranks, tmp_path):
    """By SIGKILL, two times each before it may end: between steps and inside the write of a state. What is compared
    is the whole state at the end of every process, optimizer and averages too."""
    run, undisturbed = {"kind": kind, "steps": steps, "ranks": ranks}, tmp_path / "whole"
    chance, runs = random.Random(f"{kind} {ranks}"), [{**run, "folder": str(undisturbed)}]
    for number in range(kills // 2):
        folder = str(tmp_path / str(number))
        for most in (1.0, 0.5):  # what is left to do after the first is less
            kill = {"rank": chance.randrange(ranks), "share": most * chance.random(), "half": chance.random() < 0.5}
            runs.append({**run, "folder": folder, "kill": kill})
        runs.append({**run, "folder": folder})
    whole, *ends = played(runs, every=2)
    assert sum(None in end for end, one in zip(ends, runs[1:], strict=True) if "kill" in one) > kills // 2
    expected = state(undisturbed)
    assert len(expected) == ranks
    shared = expected["process-0"]["shared"]
    assert {*shared} == {"weights", "optimizer", "schedule", "noise", *(["average"] if kind not in JUDGES else [])}
    moments = shared["optimizer"]["state"].values()
    assert len(moments) > 0.9 * len(shared["weights"]), "of all but those that no loss reads"
    assert all({"exp_avg", "exp_avg_sq"} < {*each} for each in moments)
    for end, one in zip(ends, runs[1:], strict=True):
        if "kill" not in one:
            for here, there in zip(end, whole, strict=True):
                assert {**here, "moments": 0} == {**there, "moments": 0}
            assert [path.name for path in Path(one["folder"]).iterdir()] == [f"step-{steps:08d}"]
            assert state(Path(one["folder"])) == expected
    shutil.rmtree(tmp_path)
