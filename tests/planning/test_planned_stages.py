"""A whole iteration planned: the published classes at toy size, and the shipped ones; what a recipe's keys change, and
what is not counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vlaw_assets.recipes
from vlaw_assets.assets import recordings
from vlaw_assets.planning import Planner
from vlaw_assets.recipes import load_foundation
from vlaw_assets.recipes.loading import load_recipe
from vlaw_models import presets
from vlaw_models.planning import needs
from vlaw_models.planning.choose import Hardware
from vlaw_models.planning.needs import Models
from vlaw_models.policies.build import build_policy
from vlaw_models.robots.registry import find_robot

RECIPES = Path(vlaw_assets.recipes.__file__).parent
DROID = "droid/droid_sample.toml"
STAGES = {
    DROID: {
        "corpus_latents": "VideoAutoencoder",
        "latents": "VideoAutoencoder",
        "world_model": "CtrlWorld",
        "reward_model": "QwenJudge",
        "imagined_rollouts": "CtrlWorld",
        "reward_scores": "QwenJudge",
        "policy": "Pi0Policy",
        "reward_model_metrics": "QwenJudge",
        "world_model_metrics": "CtrlWorld",
        "episode_embeddings": "QwenJudge",
    },
    # Its latents are the pixels themselves.
    "smoke.toml": {
        "real_rollouts": "FlowPolicy",
        "world_model": "ChunkWarp",
        "reward_model": "ClipJudge",
        "imagined_rollouts": "ChunkWarp",
        "reward_scores": "ClipJudge",
        "policy": "FlowPolicy",
        "policy_evaluation": "FlowPolicy",
        "reward_model_metrics": "ClipJudge",
        "world_model_metrics": "ChunkWarp",
        "episode_embeddings": "ClipJudge",
    },
}
TRAINED = ("world_model", "reward_model", "policy")
KEEPS_ROWS = ("real_rollouts", "reward_scores", "policy_evaluation", "reward_model_metrics")
"""Stages whose disk is not counted: rows of a table, or real episodes."""
GPU = Hardware(1, 4 * 2**30, 1e12)
FRAMES = 1000


def planner(file: str, **tables) -> Planner:
    """Of a packaged recipe with other values in its tables, and the foundation beside it; the lake has one corpus."""
    recipe = load_recipe(RECIPES / file)
    changed = {name: replace(getattr(recipe, name), **values) for name, values in tables.items()}
    return Planner(recipe.model_copy(update=changed), GPU, load_foundation((RECIPES / file).parent))


@pytest.fixture(autouse=True)
def corpora(monkeypatch):
    counted = {"expert_demonstrations": FRAMES, "co_training_data": None}
    monkeypatch.setattr(recordings, "frames_of_corpora", lambda *_: counted)


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGES)
def test_every_stage_is_planned_with_its_own_class(file):
    found = {one.stage: one for one in planner(file).stages()}
    assert {one.stage: one.model for one in found.values()} == STAGES[file]
    for one in found.values():
        assert one.fits, one
        assert one.parameters > 1000
        assert one.hours > 0
        assert one.state < one.memory < 4 * 2**30
        assert one.activations > 0
        assert (one.disk > 0) == (one.stage not in KEEPS_ROWS)
        assert (0 < one.optimizer < one.state) == (one.stage in TRAINED)
    if "corpus_latents" in found:
        each, rollouts = found["corpus_latents"].hours / FRAMES, 4 * 29
        assert found["latents"].hours == pytest.approx(each * rollouts), "four episodes of 28 steps"
        assert found["corpus_latents"].disk == FRAMES * 3 * 4 * 6 * 10 * 2, "views, channels and places, in float16"


@pytest.mark.slow
def test_lora_is_planned_as_what_it_trains():
    found = planner(
        DROID,
        policy={"lora_rank": 4},
        imagine={"share": 0.0},
        reward_model={"steps": 0},
        world_model_metrics={"clips_per_task": 0},
    )
    assert [one.stage for one in found.stages()] == ["policy", "episode_embeddings"]
    planned, real = next(found.stages()), toy_policy()
    whole = sum(value.numel() for value in real.parameters())
    real.adapt(4, seed=0)
    trained = sum(value.numel() for value in real.parameters() if value.requires_grad)
    assert planned.parameters == sum(value.numel() for value in real.parameters()) > whole
    assert planned.optimizer == 2 * 4 * trained < 2 * 4 * whole, "two moments of what learns, in float32"


def toy_policy():
    """Of the toy preset, with weights."""
    robot = find_robot("droid")
    normalization = Models("toy", robot).policy.normalization
    return build_policy(presets.POLICY["toy"], normalization, robot=robot, seed=0, instructions=[needs.WORDS])


@pytest.mark.slow
def test_a_frozen_trunk_is_planned_as_its_heads():
    models = Models("tiny", find_robot("tabletop"))
    whole, heads = (needs.of_world_model(models, heads=True, frozen_trunk=frozen) for frozen in (False, True))
    own = [value for value in models.world_model.heads.parameters() if value.requires_grad]
    assert heads.trained == needs.size(own) < whole.trained
    assert heads.weights == whole.weights
    assert heads.kept.saved < 0.5 * whole.kept.saved, "nothing is kept of what is not learned"


@pytest.mark.parametrize(
    ("file", "tables", "said"),
    [
        (DROID, {}, "corpus_latents of co_training_data, which the lake does not have"),
        (DROID, {"world_model": {"unroll": 2}}, "unrolling (world_model.unroll)"),
        (DROID, {"reward_model": {"replays": True}}, "replays for the judge (reward_model.replays)"),
        ("world_vla_loop.toml", {}, "practice and updates of the learner 'grpo'"),
        ("vlaw.toml", {}, "policies on validation starts (policy.validation_per_task)"),
        ("vlaw.toml", {}, "the simulator's own time"),
    ],
)
def test_what_is_not_counted_is_named(file, tables, said):
    assert said in planner(file, **tables).not_counted()
    if file == DROID and tables:
        assert said not in planner(file).not_counted()


def test_a_foundation_of_another_preset_gives_neither_checkpoints_nor_corpora():
    found = Planner(load_recipe(RECIPES / DROID), GPU, load_foundation())
    assert found.checkpoints == found.absent == {}
    assert "corpus_latents" in found.not_counted()
