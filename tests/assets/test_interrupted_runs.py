"""A run that ends while a model is trained, by SIGKILL or as Dagster terminates it: run again, it goes on at the last
state of that training and makes what a run that nobody disturbed makes.

That it goes on there is seen by the losses in the artifact's metrics: the first of them is changed in the state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from factories import write_recipe
from smoke_place import FOUNDATION_ASSETS, UP_TO_POLICY, Place, new_place
from ui_server import serving

from vlaw_models.learners.resume import EVERY, newest

ROOT = Path(__file__).parents[2]
PARTITION, STEPS, AFTER, MARK = "small|01", 60, 3, 1234.5
ENDS = ("SUCCESS", "FAILURE", "CANCELED")
RECIPE = {
    "iterations": 1,
    "tasks": ["stack"],
    "rollouts": {"episodes_per_task": 2, "num_steps": 8},
    "world_model": {"steps": STEPS, "batch_size": 2},
    "reward_model": {"steps": 1, "batch_size": 2, "replays": False},
    "imagine": {"episodes_per_task": 2, "num_steps": 8, "batch_size": 2},
    "score": {"alpha": 1e-06},
    "policy": {"steps": STEPS, "batch_size": 2, "frozen_encoder": False, "validation_per_task": 0},
    "promotion": {"enabled": False},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Place:
    """A foundation, and what an iteration makes before it trains a model of the world."""
    place = new_place(tmp_path_factory.mktemp("begun"))
    write_recipe(place.recipes, "small", None, **RECIPE)
    place.run("foundation", only=FOUNDATION_ASSETS)
    place.run("iteration", PARTITION, only=["loop_state", "real_rollouts", "reward_model"])
    return place


@pytest.fixture(scope="module")
def undisturbed(begun, tmp_path_factory) -> Place:
    place = copied(begun, tmp_path_factory.mktemp("undisturbed"))
    place.run("iteration", PARTITION, only=UP_TO_POLICY)
    return place


@pytest.fixture
def place(begun, tmp_path, monkeypatch) -> Place:
    monkeypatch.setenv(EVERY, "1")
    return copied(begun, tmp_path)


def copied(place: Place, root: Path) -> Place:
    for name in ("lake", "recipes", "dagster_home"):
        shutil.copytree(place.root / name, root / name)
    return Place(root)


def states_of(asset: str, place: Place, undisturbed: Place) -> Path:
    """Where the training of an asset keeps its states: it has the name that the undisturbed one has."""
    return place.lake.paths.training / undisturbed.lake.ledger.require(asset, PARTITION).identity_digest


def step(state: Path | None) -> int:
    return int(state.name.removeprefix("step-")) if state else 0


def after_some_steps(folder: Path, *, over: Callable[[], str]) -> None:
    """Returns once a training has kept a state of its step AFTER, or a later one; `over`: why none will come."""
    while step(newest(folder)) < AFTER:
        assert not (why := over()), why
        time.sleep(0.01)


def mark(folder: Path) -> None:
    """Changes the first loss in the state that an interruption has left."""
    state = newest(folder)
    assert state is not None
    assert AFTER <= step(state) < STEPS, "it was interrupted"
    kept = torch.load(state / "process-0.pt", weights_only=True)
    assert len(kept["losses"]) == step(state)
    torch.save({**kept, "losses": [MARK, *kept["losses"][1:]]}, state / "process-0.pt")


def went_on(place: Place, undisturbed: Place, assets: tuple[str, ...]) -> None:
    """The same artifacts as without any interruption, those of `assets` by way of a marked state."""
    for asset in UP_TO_POLICY:
        made, other = (one.lake.ledger.require(asset, PARTITION) for one in (place, undisturbed))
        assert (made.identity_digest, made.content_digest) == (other.identity_digest, other.content_digest), asset
        if asset in assets:
            assert made.metrics["losses"] == [MARK, *other.metrics["losses"][1:]]
            assert len(made.metrics["losses"]) == STEPS
    assert list(place.lake.paths.training.iterdir()) == [], "states go with the commit"


def vlaw_run(place: Place) -> subprocess.Popen[str]:
    environment = {**os.environ, **place.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "from vlaw_assets.cli import app; app()"]
    command += ["run", "-e", "small", "--only", ",".join(UP_TO_POLICY)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_run_goes_on_where_its_training_was(place, undisturbed):
    trained = ("world_model", "policy")
    for asset in trained:
        process, folder = vlaw_run(place), states_of(asset, place, undisturbed)
        after_some_steps(
            folder, over=lambda process=process: process.communicate()[0] if process.poll() is not None else ""
        )
        process.kill()
        process.communicate()
        assert place.lake.ledger.current(asset, PARTITION) is None
        mark(folder)
    process = vlaw_run(place)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    went_on(place, undisturbed, trained)


def test_a_run_that_dagster_terminates_goes_on_where_its_training_was(place, undisturbed):
    folder = states_of("world_model", place, undisturbed)
    with serving(place) as server:

        def launched() -> str:
            answer = server.launch("iteration", assets=UP_TO_POLICY, partition=PARTITION, config={})
            assert "run" in answer, answer
            return answer["run"]["runId"]

        def ended(run: str) -> str:
            end = time.monotonic() + 600
            while (status := server.status(run)) not in ENDS:
                assert time.monotonic() < end, status
                time.sleep(0.2)
            return status

        run = launched()
        after_some_steps(folder, over=lambda: server.status(run) if server.status(run) in ENDS else "")
        server.graphql("mutation($run: String!) { terminateRun(runId: $run) { __typename } }", run=run)
        assert ended(run) == "CANCELED"
        assert place.lake.ledger.current("world_model", PARTITION) is None
        mark(folder)
        assert ended(launched()) == "SUCCESS"
    went_on(place, undisturbed, ("world_model",))
