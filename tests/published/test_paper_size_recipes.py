"""What the page on the papers' sizes says of recipes: imported weights fit them, and are planned as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import published_layouts as layouts
import pytest
from documents import ROOT, blocks

from vlaw_assets.planning import Planner
from vlaw_assets.recipes import find_recipe, load_foundation
from vlaw_assets.recipes.fit import MODELS
from vlaw_assets.recipes.loading import PACKAGED
from vlaw_assets.recipes.preflight import check_fits
from vlaw_models.checkpoint import load_checkpoint
from vlaw_models.episodes import Episode
from vlaw_models.planning.choose import Hardware
from vlaw_models.planning.needs import size, window
from vlaw_models.presets import WORLD_MODEL
from vlaw_models.pretrain.imitation import new_policy, preset_of
from vlaw_models.published.importing import import_weights
from vlaw_models.published.part import Options
from vlaw_models.robots.droid import IN_JOINT_VELOCITY
from vlaw_models.robots.droid import SPEC as DROID

PAGE = ROOT / "docs" / "paper_size.md"


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A folder with the weights that the page imports, and the recipes with its table [weights]."""
    folder = tmp_path_factory.mktemp("papers")
    clip = layouts.clip(folder / "clip")
    policy = layouts.in_joints(layouts.openpi("pi05", folder / "pi05"))
    for kind, path, options in (
        ("svd", layouts.svd(folder / "svd"), {"clip": clip}),
        ("ctrl-world", layouts.ctrl_world(folder / "wm.pt"), {"clip": clip}),
        ("qwen3-vl", layouts.qwen3_vl(folder / "qwen"), {}),
        ("pi05", policy, {"tokenizer": next(policy.rglob("tokenizer.json")), "chunk": 15}),
    ):
        import_weights(kind, path, folder / "weights" / kind, Options(IN_JOINT_VELOCITY, preset="toy", **options))
    (table,) = (block.text for _, block in blocks(PAGE) if block.text.startswith("[weights]"))
    recipes = Path(shutil.copytree(PACKAGED / "paper_size", folder / "recipes"))
    packaged = (recipes / "foundation.toml").read_text().replace('"paper"', '"toy"')
    (recipes / "foundation.toml").write_text(packaged.replace("[weights]\n", table))
    return folder


def test_imported_weights_are_planned_by_their_class_and_sizes_and_no_tensor_is_read(imported, monkeypatch):
    monkeypatch.chdir(imported)
    foundation = load_foundation(imported / "recipes")
    recipe = find_recipe("vlaw_droid", imported / "recipes").model_copy(update={"preset": "toy"})
    sizes = {name: counted(load_checkpoint(folder, MODELS[name])) for name, folder in foundation.weights.items()}
    for folder in foundation.weights.values():
        shutil.move(Path(folder) / "model.safetensors", Path(folder) / "elsewhere")
    try:
        models = Planner(recipe, Hardware(1, 2**30, 1e12), foundation).models
        planned = {
            "base_policy": models.policy,
            "autoencoder": models.autoencoder,
            "world_model": models.world_model,
            "reward_model": models.judge,
        }
    finally:
        for folder in foundation.weights.values():
            shutil.move(Path(folder) / "elsewhere", Path(folder) / "model.safetensors")
    assert {name: counted(model) for name, model in planned.items()} == sizes
    assert sizes["base_policy"][0] == "Pi05Policy"
    _, condition = window(models.world_model)
    assert condition.text.shape == (1, models.world_model.text_encoder.size), "it is told the task"
    missing = foundation.model_copy(update={"weights": {"base_policy": "nowhere", "world_model": "weights/ctrl-world"}})
    planner = Planner(recipe, Hardware(1, 2**30, 1e12), missing)
    assert (planner.checkpoints, planner.absent) == (
        {"world_model": Path("weights/ctrl-world")},
        {"base_policy": Path("nowhere")},
    )


def counted(model) -> tuple[str, int, int]:
    """Class, parameters and their bytes."""
    values = list(model.parameters())
    return type(model).__name__, sum(value.numel() for value in values), size(values)


def test_the_packaged_recipe_minimises_eq_1_as_published():
    assert find_recipe("vlaw_droid", PACKAGED / "paper_size").world_model.change_weight == 0.0


def test_the_second_papers_recipe_fits_the_folders_of_the_page(tmp_path, monkeypatch):
    """The class, space and heads of each; the policy is a new one, of the published class at a small size."""
    monkeypatch.chdir(tmp_path)
    layouts.cosmos(tmp_path / "cosmos")
    layouts.qwen3_vl(tmp_path / "qwen")
    for kind, path in (("cosmos", "cosmos"), ("qwen3-vl", "qwen")):
        import_weights(kind, tmp_path / path, tmp_path / "weights" / kind, Options(DROID, preset="toy"))
    states = np.random.default_rng(0).uniform(*DROID.state.scale, (20, 7)).astype(np.float32)
    episode = Episode("move", "move it", 0, np.zeros((20, 3, 8, 8, 3), np.uint8), states, states[1:])
    policy = new_policy(preset_of("openvla-oft", "tiny"), [episode], robot=DROID, seed=0)
    policy.save(tmp_path / "weights" / "openvla-oft")
    (table,) = (block.text for _, block in blocks(PAGE) if block.text.startswith("# foundation.toml of that folder"))
    recipes = Path(shutil.copytree(PACKAGED / "paper_size_world_vla_loop", tmp_path / "recipes"))
    file = recipes / "foundation.toml"
    file.write_text(file.read_text().replace("[weights]\n", table))
    recipe, foundation = find_recipe("world_vla_loop_droid", recipes), load_foundation(recipes)
    check_fits(recipe, foundation)
    assert {Path(folder).parts[1] for folder in foundation.weights.values()} == {"cosmos", "openvla-oft", "qwen3-vl"}
    own = recipe.learner
    assert (own.groups, own.group_size, own.threshold, own.temperature) == (64, 8, 0.9, 1.6)
    assert (own.graded, own.normalized, own.negative, recipe.policy.start) == (False, True, 1.0, "base")
    assert recipe.imagine.num_steps % WORLD_MODEL["cosmos"]["sizes"]["chunk"] == 0
