"""`vlaw_models` by itself: no orchestration, no storage."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ALONE = """
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dagster", "deltalake", "lance", "lancedb", "duckdb", "pyarrow", "vlaw_assets"}:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Missing())
import numpy as np
from vlaw_models.config import PolicyConfig, WorldModelConfig
from vlaw_models.episodes import Episode
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.policy import update_policy
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.presets import foundation
from vlaw_models.reward_models.score import score_episodes
from vlaw_models.robots.registry import find_robot

robot, rng, out = find_robot("tabletop", where="a test"), np.random.default_rng(0), Path(sys.argv[1])
states = rng.uniform(*robot.state.scale, (8, 5)).astype(np.float32)
images = rng.integers(0, 256, (8, 3, 64, 64, 3), dtype=np.uint8)
data = [Episode("stack", "stack it", 0, images, states, states[1:], True, cameras=robot.camera_names)]
base, world, encoder, judge = (
    foundation("tiny", kind) for kind in ("base_policy", "world_model", "autoencoder", "reward_model")
)
learner, settings = load_learner("filtered", where="a test"), PolicyConfig(steps=1, batch_size=2, stops=())
update_policy(base, learner, Examples.equal(data), Examples(), settings, out / "policy", seed=0)
finetune_world_model(world, encoder, data, [], WorldModelConfig(steps=1, batch_size=1), out / "world_model", seed=0)
print(*sorted(path.name for path in out.iterdir()), len(score_episodes(judge, data)))
"""


@pytest.mark.slow
def test_models_train_without_the_packages_of_the_lake_and_threads_spin_a_moment_and_sleep(tmp_path):
    """OpenMP itself says what it was told, when torch loads it."""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["policy", "world_model", "1"]
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    assert "GOMP_SPINCOUNT = '3000'" in done.stderr
