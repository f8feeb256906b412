"""A lake in which the packaged recipe `smoke` has run through Dagster: made once per test session, used by several files.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from vlaw_assets import driver
from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake

FOUNDATION_ASSETS = ("autoencoder", "base_policy", "co_training_data", "expert_demonstrations", "pretrained_reward_model",
                     "pretrained_world_model")
LOOP_ASSETS = ("episode_embeddings", "imagined_rollouts", "iteration_report", "loop_state", "policy", "policy_evaluation", "real_rollouts",
               "reward_model", "reward_model_metrics", "reward_scores", "start_evaluation", "training_set",
               "validation_rollouts", "world_model", "world_model_metrics")


@dataclass
class Place:
    """Folders of one test lake, and running jobs on it."""

    root: Path

    @property
    def lake(self) -> Lake:
        return Lake.open(self.root / "lake", create=True)

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    def environment(self) -> dict[str, str]:
        """What a `vlaw` process needs to work here."""
        return {"VLAW_LAKE": str(self.root / "lake"), "VLAW_RECIPES": str(self.recipes),
                "DAGSTER_HOME": str(self.root / "dagster_home"), "OMP_NUM_THREADS": "1"}

    def run(self, job: str, partition: str = "", **options: object) -> driver.Done:
        before = os.environ.get("DAGSTER_HOME")
        os.environ["DAGSTER_HOME"] = str(self.root / "dagster_home")
        try:
            with driver.open_instance() as instance:
                defs = build_defs(lake=self.root / "lake", recipes=self.recipes)
                return driver.run_job(defs, instance, job, partition=partition, **options)
        finally:
            os.environ.pop("DAGSTER_HOME")
            if before is not None:
                os.environ["DAGSTER_HOME"] = before


def new_place(root: Path) -> Place:
    """A place with nothing in it yet: the packaged recipes, a foundation of one scripted episode per task."""
    place = Place(root)
    place.recipes.mkdir(parents=True)
    (place.recipes / "foundation.toml").write_text("demonstrations_per_task = 1\nco_training_per_task = 1\n")
    return place


def add_recipe(place: Place, name: str, text: str) -> None:
    (place.recipes / f"{name}.toml").write_text(f'name = "{name}"\n{text}')


_made: dict[str, Place] = {}


def smoke_place(tmp_path_factory) -> Place:
    """Foundation and smoke|01 are materialized."""
    if "smoke" not in _made:
        place = new_place(tmp_path_factory.mktemp("smoke"))
        place.run("foundation")
        place.run("iteration", "smoke|01")
        _made["smoke"] = place
        _made["untouched"] = smoke_copy(place.root.parent / f"{place.root.name}-untouched", place)
    return _made["smoke"]


def smoke_copy(root: Path, source: Place | None = None) -> Place:
    """A place of one's own, as `smoke_place` (to be called before) was when it was made, whatever others did to it since."""
    source = source or _made["untouched"]
    for name in ("lake", "recipes", "dagster_home"):
        shutil.copytree(source.root / name, root / name)
    return Place(root)

