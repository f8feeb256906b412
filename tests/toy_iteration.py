"""An iteration of the pipeline on a simulator that is not ours, at toy size, with new models that know nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from factories import write_toml
from smoke_place import Place

from vlaw_models import presets
from vlaw_models.autoencoders.base import build_autoencoder
from vlaw_models.episodes import Episode
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.reward_models.base import build_reward_model
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.world_models.base import build_world_model

SMALL = {"steps": 1, "batch_size": 2}
PIXELS = 64


def run_iteration(
    place: Place,
    robot: RobotSpec,
    demonstrations: Sequence[Episode],
    *,
    tasks: Sequence[str],
    foundation: Mapping[str, Any],
) -> None:
    """From demonstrations (pictures of 64 pixels), of which the models know words and ranges, to an evaluated policy;
    `foundation`: where the pipeline takes them from. Asserts that it ends well, and that rollouts and evaluation are
    there."""
    weights = place.root / "weights"
    said = [episode.instruction for episode in demonstrations]
    vectors = [[getattr(episode, name) for episode in demonstrations] for name in ("states", "actions")]
    policy, judge, world_model = (
        dict(preset["toy"]) for preset in (presets.POLICY, presets.REWARD_MODEL, presets.WORLD_MODEL)
    )
    policy["sizes"] = policy["sizes"] | {"vision": policy["sizes"]["vision"] | {"image_size": PIXELS}}
    judge["sizes"] = judge["sizes"] | {"image_size": PIXELS}
    world_model["sizes"] = world_model["sizes"] | {"latent_height": PIXELS // 8, "latent_width": PIXELS // 8}
    normalization = Normalization.fit(*vectors, chunk_size=policy["chunk_size"], absolute=robot.action.as_is)
    made = {
        "base_policy": build_policy(policy, normalization, robot=robot, seed=0, instructions=said),
        "reward_model": build_reward_model(judge, robot=robot, instructions=said),
        "world_model": build_world_model(world_model, robot=robot, seed=0),
        "autoencoder": build_autoencoder(presets.AUTOENCODER["toy"], seed=0),
    }
    for name, model in made.items():
        model.save(weights / name)
    both = {"robot": robot.name, "preset": "toy"}
    counts = {"demonstrations_per_task": 1, "co_training_per_task": 1}
    paths = {name: str(weights / name) for name in made}
    write_toml(place.recipes / "foundation.toml", {**both, **counts, **foundation, "weights": paths})
    recipe = {
        "name": "toy_iteration",
        **both,
        "iterations": 1,
        "tasks": list(tasks),
        "rollouts": {"episodes_per_task": 1, "num_steps": 4},
        "world_model": SMALL,
        "reward_model": SMALL | {"replays": False},
        "imagine": {"episodes_per_task": 2, "num_steps": 4, "batch_size": 4},
        "score": {"alpha": 1e-6},
        "policy": SMALL | {"frozen_encoder": False, "validation_per_task": 0},
        "evaluation": {"episodes_per_task": 1, "num_steps": 4},
        "world_model_metrics": {"clips_per_task": 1, "num_steps": 4},
        "promotion": {"enabled": False},
    }
    write_toml(place.recipes / "toy_iteration.toml", recipe)
    code = "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--experiment", "toy_iteration", "--iterations", "1"],
        env={**os.environ, **place.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    held = place.lake.read(place.lake.ledger.require("real_rollouts", "toy_iteration|01")).episodes(frames=False)
    assert sorted(episode.task for episode in held) == sorted(tasks)
    assert place.lake.ledger.require("policy_evaluation", "toy_iteration|01")
