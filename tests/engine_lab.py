"""A lake in which an iteration can be imagined with the shipped models, by the engine of a file."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from factories import commit, episode, write_toml
from light_parts import TASKS, light_part
from one_stage import Bench

import vlaw_models
from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Plan
from vlaw_assets.engines import worker
from vlaw_assets.engines.elsewhere import BEGUN
from vlaw_assets.engines.settings import ENGINES
from vlaw_assets.lake import ArtifactRef, Draft, Lake
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.robots.tabletop.spec import SPEC

PARTITION = "lab|01"
WEIGHTS = Path(vlaw_models.__file__).parent / "weights"
MODELS = {
    "policy": "base_policy",
    "world_model": "world_model",
    "reward_model": "reward_model",
    "autoencoder": "autoencoder",
}
"""Kind -> folder of the shipped weights."""
STEPS = 4
SIZE = (64, 64)
POSE = np.array([0.0, 0.0, 0.2, 0.0, 0.0], np.float32)


def shipped(kind: str) -> Any:
    def write(draft: Draft) -> None:
        shutil.copytree(WEIGHTS / MODELS[kind], draft.checkpoint_dir(), dirs_exist_ok=True)

    return write


def real(count: int, purpose: str, *, steps: int = STEPS) -> Any:
    """A writer of `count` episodes per task whose pixels are noise."""
    rng = np.random.default_rng(count)
    made = [
        episode(
            task,
            number,
            success=bool(number % 2),
            cameras=SPEC.camera_names,
            control_hz=SPEC.control_hz,
            images=rng.integers(0, 256, (steps + 1, len(SPEC.cameras), *SIZE, 3), dtype=np.uint8),
            states=np.repeat(POSE[None], steps + 1, 0),
            actions=np.repeat(POSE[None], steps, 0),
        )
        for number in range(count)
        for task in TASKS
    ]
    return lambda draft: draft.write_episodes(made, purpose=purpose, world=SPEC.world)


class Lab(Bench):
    """`make` as a step of Dagster, with the engine of a file."""

    def __init__(self, root: Path, *, models: bool = True, lake: Lake | None = None):
        """Without `models` for `make_light` alone."""
        super().__init__(root, lake)
        self.root, self.engine = root, ""
        self.recipe("lab", imagine={"episodes_per_task": 3, "batch_size": 2, "num_steps": STEPS})
        if models:
            self._up_to_imagination(self.lake)

    def _up_to_imagination(self, lake: Lake) -> None:
        base = {
            "base_policy": commit(lake, "base_policy", "", {}, shipped("policy"), kind="policy"),
            "autoencoder": commit(lake, "autoencoder", "", {}, shipped("autoencoder"), kind="autoencoder"),
            "pretrained_reward_model": commit(
                lake, "pretrained_reward_model", "", {}, shipped("reward_model"), kind="reward_model"
            ),
        }
        commit(lake, "corpus_latents", "", {}, lambda draft: draft.set_metrics({"costless": True}), kind="latents")
        world = commit(lake, "world_model", PARTITION, {}, shipped("world_model"), kind="world_model")
        commit(lake, "reward_model", PARTITION, {}, shipped("reward_model"), kind="reward_model")
        models = {
            "policy": base["base_policy"],
            "world_model": world,
            "reward_model": base["pretrained_reward_model"],
        }
        commit(lake, "loop_state", PARTITION, models, kind="loop_state")
        for asset, purpose in (("real_rollouts", "rollout"), ("validation_rollouts", "validation")):
            commit(lake, asset, PARTITION, {}, real(2, purpose), kind=asset)

    def by(self, engine: str, **values: Any) -> Lab:
        """From now on stages run there."""
        self.engine = str(write_toml(self.root / f"{engine}.toml", {"engine": engine, **values}))
        return self

    def make(self, asset: str, partition: str = PARTITION, *, force: bool = False) -> ArtifactRef:
        self._as_step(asset, partition, STAGES[asset].run, force=force)
        return self.lake.ledger.require(asset, partition)

    def make_light(self, parts: int, again: int = 0) -> ArtifactRef:
        """Imagined episodes that no model imagines (`light_part`): a worker of it starts in a moment. `again`: another
        artifact of the same content."""

        def run(stage: Stage) -> None:
            plan = Plan(kind="imagined_rollouts", recipe={"parts": parts, "again": again})
            with stage.commit(plan) as work:
                for batch in stage.spread(work)(light_part, {}, {"steps": 2}, [{"seed": n} for n in range(parts)]):
                    work.draft.write_episodes(batch, purpose="imagined", world="world_model")

        self._as_step("imagined_rollouts", PARTITION, run)
        return self.lake.ledger.require("imagined_rollouts", PARTITION)

    def _as_step(self, asset: str, partition: str, run: Callable[[Stage], Any], *, force: bool = False) -> None:
        @dg.asset(name=asset)
        def body(context):
            place = Workplace(str(self.lake.paths.root), str(self.recipes), engine=self.engine)
            run(Stage(self.lake, place, asset, partition, force=force, run_id="run-1", context=context))
            return dg.MaterializeResult()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, dg.PreviewWarning))  # Dagster's own, of Pipes
            dg.materialize([body], instance=dg.DagsterInstance.ephemeral())

    def python(self, script: str) -> str:
        """A Python of workers that does this instead, in sh; "$PYTHON" "$@" is the true worker."""
        path = self.root / "python"
        found = os.pathsep.join(filter(None, sys.path))
        own = 'case "$*" in *submitit*) exec $PYTHON "$@";; esac'  # what Slurm starts first is not the worker
        path.write_text(f"#!/bin/sh\nPYTHON={sys.executable}\nexport PYTHONPATH={found}\n{own}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)


LIGHT = """exec $PYTHON -c "
from vlaw_assets.engines import files, worker
files.TRUSTED = ('vlaw_models.', 'light_parts')
{0}
worker.main()" """
"""A Python of workers that also trusts `light_part`, and begins with some lines of its own."""


class Threads:
    """An engine whose workers are threads of this process: all of a worker but its start."""

    queues = False

    def __init__(self, settings: Any):
        pass

    def check(self) -> None:
        pass

    def run(self, _context: Any, call: Any) -> None:
        (call.folder / BEGUN).touch()
        worker.work(call.folder, lambda _said: None)


ENGINES.add("threads", "engine_lab:Threads")
