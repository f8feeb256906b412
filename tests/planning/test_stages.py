"""A whole iteration planned: the published classes at toy size, and the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlaw_assets.recipes
from vlaw_assets.planning import Planner
from vlaw_assets.recipes.loading import load_recipe
from vlaw_models.planning.choose import Hardware

RECIPES = Path(vlaw_assets.recipes.__file__).parent
STAGES = {
    "droid/droid_sample.toml": {
        "latents": "VideoAutoencoder",
        "world_model": "CtrlWorld",
        "reward_model": "QwenJudge",
        "imagined_rollouts": "CtrlWorld",
        "reward_scores": "QwenJudge",
        "policy": "Pi0Policy",
    },
    # Its latents are the pixels themselves.
    "smoke.toml": {
        "world_model": "ChunkWarp",
        "reward_model": "ClipJudge",
        "imagined_rollouts": "ChunkWarp",
        "reward_scores": "ClipJudge",
        "policy": "FlowPolicy",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGES)
def test_every_stage_is_planned_with_its_own_class(file):
    recipe = load_recipe(RECIPES / file)
    found = list(Planner(recipe, Hardware(1, 4 * 2**30, 1e12)).stages())
    assert {one.stage: one.model for one in found} == STAGES[file]
    for one in found:
        assert one.fits, one
        assert one.parameters > 1000
        assert one.hours > 0
        assert one.state < one.memory < 4 * 2**30
        assert one.activations > 0
        assert one.disk > 0 or one.stage == "reward_scores"
