"""Every stage whose heavy work goes to an engine makes there what it makes in the process of the run."""

from __future__ import annotations

import pytest
from engine_lab import PARTITION, STEPS, Lab
from factories import write_toml

from vlaw_models.reward_models.score import score_episodes
from vlaw_models.rollouts import collect, demonstrate, privileged
from vlaw_models.rollouts.replay import replay

COUNT = {"episodes_per_task": 3, "num_steps": STEPS}
RECIPE = {
    "rollouts": COUNT,
    "imagine": COUNT | {"batch_size": 2},
    "evaluation": COUNT,
    "world_model_metrics": {"clips_per_task": 2, "num_steps": STEPS},
}
STAGES = {
    "co_training_data": "",
    "real_rollouts": PARTITION,
    "validation_rollouts": PARTITION,
    "imagined_rollouts": PARTITION,
    "reward_scores": PARTITION,
    "imagined_outcomes": PARTITION,
    "episode_embeddings": PARTITION,
    "world_model_metrics": PARTITION,
    "reward_model_metrics": PARTITION,
    "start_evaluation": PARTITION,
}
"""Asset -> partition, each after what it reads."""


@pytest.fixture(scope="module")
def few():
    """Batches so small that every stage has several parts."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((collect, "BATCH"), (demonstrate, "_BATCH"), (privileged, "_PLAYED")):
            patch.setattr(module, name, 2)
        for function in (score_episodes, replay):
            patch.setitem(function.__kwdefaults__, "batch_size", 2)
        yield


def made_by(root, engine=""):
    """What each stage makes in a lake of its own."""
    lab = Lab(root)
    lab.recipe("lab", **RECIPE)
    write_toml(lab.recipes / "foundation.toml", {"co_training_per_task": 1})
    if engine:
        lab.by(engine, workers=2)
    return {asset: lab.make(asset, partition) for asset, partition in STAGES.items()}


@pytest.fixture(scope="module")
def here(few, tmp_path_factory):
    return made_by(tmp_path_factory.mktemp("here"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["subprocess", "forked"])
def test_every_stage_makes_there_what_it_makes_here(here, few, tmp_path, engine):
    there = made_by(tmp_path, engine)
    for asset, made in there.items():
        assert made.metrics["engine"]["engine"] == engine, asset
        assert "engine" not in here[asset].metrics, asset
        assert made.versions, f"{asset} has rows"
        assert (made.identity_digest, made.content_digest) == (
            here[asset].identity_digest,
            here[asset].content_digest,
        ), asset
