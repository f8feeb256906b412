"""A lake in which the packaged recipe `smoke` has run through Dagster: made once per test session, copied for each
file."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from factories import write_toml
from once import made_once

from vlaw_assets.definitions import build_defs
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline import driver

FOUNDATION_ASSETS = (
    "autoencoder",
    "base_policy",
    "co_training_data",
    "corpus_latents",
    "expert_demonstrations",
    "pretrained_reward_model",
    "pretrained_world_model",
)
LOOP_ASSETS = (
    "episode_embeddings",
    "imagined_outcomes",
    "imagined_rollouts",
    "iteration_report",
    "latents",
    "loop_state",
    "policy",
    "policy_evaluation",
    "policy_evaluation_low_noise",
    "real_rollouts",
    "reward_model",
    "reward_model_metrics",
    "reward_scores",
    "start_evaluation",
    "start_evaluation_low_noise",
    "start_world_model_metrics",
    "training_set",
    "validation_rollouts",
    "world_model",
    "world_model_metrics",
)


UP_TO_POLICY = (
    "loop_state",
    "real_rollouts",
    "reward_model",
    "world_model",
    "imagined_rollouts",
    "reward_scores",
    "training_set",
    "policy",
)
"""What an iteration makes to improve the policy, without measuring it."""


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
        return {
            "VLAW_LAKE": str(self.root / "lake"),
            "VLAW_RECIPES": str(self.recipes),
            "DAGSTER_HOME": str(self.root / "dagster_home"),
            "OMP_NUM_THREADS": "1",
        }

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
    write_toml(place.recipes / "foundation.toml", {"demonstrations_per_task": 1, "co_training_per_task": 1})
    return place


def parts_of(table: object) -> dict[str, str]:
    """The rows of the identity on an asset's page."""
    return {record.data["part"]: record.data["value"] for record in table.value.records}


_made: dict[str, Place] = {}


def smoke_place(tmp_path_factory) -> Place:
    """Foundation and smoke|01 are materialized. The tests of one file share this copy, no other file sees it."""
    if "own" not in _made:
        _made["untouched"] = _untouched(tmp_path_factory)
        _made["own"] = smoke_copy(tmp_path_factory.mktemp("smoke"))
    return _made["own"]


def smoke_copy(root: Path, source: Place | None = None) -> Place:
    """A place of one's own, as `smoke_place` (to be called before) was when it was made, whatever others did to it
    since."""
    source = source or _made["untouched"]
    for name in ("lake", "recipes", "dagster_home"):
        shutil.copytree(source.root / name, root / name)
    return Place(root)


def forget() -> None:
    """The next call of `smoke_place` gives another copy."""
    _made.pop("own", None)


def _untouched(tmp_path_factory) -> Place:
    def make(root: Path) -> None:
        place = new_place(root)
        place.run("foundation", only=FOUNDATION_ASSETS)
        place.run("iteration", "smoke|01")

    return Place(made_once(tmp_path_factory, "smoke-untouched", make))
