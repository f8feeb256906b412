"""Whether a recipe fits what it would stand on: the foundation's preset and robot, and policies that its learner can
update.

A file alone cannot say it, so this is asked before anything runs: by `vlaw run`, `vlaw study` and `vlaw doctor` of the
foundation's settings (preflight.py), by loop_state of the policy that an iteration begins with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.recipes.checking import problem
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.checkpoint import check_class, class_of, load_config
from vlaw_models.errors import VlawError
from vlaw_models.policies.registry import POLICIES
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.robots.registry import find_robot
from vlaw_models.world_models.registry import WORLD_MODELS

if TYPE_CHECKING:
    from vlaw_assets.recipes.schema import Foundation, Recipe


MODELS = {
    "base_policy": POLICIES,
    "world_model": WORLD_MODELS,
    "reward_model": REWARD_MODELS,
    "autoencoder": AUTOENCODERS,
}
"""Key of foundation.toml [weights] -> the registry of what its checkpoint may be."""
REWARD_HEADS = "reward_heads"
"""Entry of a world model's config.json where it has heads (vlaw_models/world_models/base.py)."""
RECORDED = "Name an imported dataset, 'recorded:NAME', or use a robot that can be simulated."


def check_weights(name: str, folder: Path) -> str:
    """The class of a checkpoint, by name. Raises VlawError where the model `name` cannot be of it; imports no model."""
    found = load_config(folder)["class"]
    check_class(found, MODELS[name], where=f"foundation.toml, key 'weights.{name}': {folder}")
    return found


def check_foundation(recipe: Recipe, foundation: Foundation) -> None:
    """Raises VlawError where a recipe is for another preset or robot than the foundation, or where either of them needs
    a simulator and the robot has none."""
    for key in ("preset", "robot"):
        wanted, there = getattr(recipe, key), getattr(foundation, key)
        if wanted != there:
            raise problem(
                recipe.file,
                key,
                f"says that {recipe.name} is for {key} {wanted!r}, the foundation is for {there!r}",
                f"Set the same {key} in the recipe and in foundation.toml.",
            )
    if recipe.world_model.near_success and not foundation.near_success_per_task:
        raise problem(
            foundation.file,
            "near_success_per_task",
            f"is 0, and the world model of {recipe.name} learns from near-successes",
            "Set near_success_per_task (World-VLA-Loop: 50), or world_model.near_success = false in the recipe.",
        )
    if find_robot(recipe.robot).simulator:
        return
    for file, found in ((foundation.file, _simulated_corpora(foundation)), (recipe.file, _simulated(recipe))):
        if found:
            (key, (value, _)), *others = found.items()
            more = f"; also wrong: {', '.join(repr(other) for other, _ in others)}" if others else ""
            what = f"is {value!r}, which needs a simulator; robot {recipe.robot!r} has none{more}"
            raise problem(file, key, what, " ".join(dict.fromkeys(remedy for _, remedy in found.values())))


def check_learner(recipe: Recipe, policy_class: str) -> None:
    """Raises VlawError, naming the key, where the recipe's learner cannot update policies of a class (by name)."""
    if not (recipe.policy.stops or recipe.learner.updates(recipe.policy)):
        return
    found = class_of(policy_class, POLICIES, where=f"recipe {recipe.name}, its policy")
    misfit = recipe.learner.fits(found, recipe.policy)
    if misfit is not None:
        value = f" = {recipe.policy.learner!r}" if misfit.key == "policy.learner" else ""
        raise VlawError(
            f"{misfit.key}{value} {misfit.why}", where=f"{recipe.file}, key '{misfit.key}'", remedy=misfit.remedy
        )


def check_heads(recipe: Recipe, world_model: Path | None) -> None:
    """Raises VlawError where a recipe needs a world model that predicts rewards, and neither finetuning adds the head
    nor the checkpoint that it would finetune (None: of an older lake) has one."""
    practises = recipe.learner.practises == "world_model"
    needs = {
        f"{recipe.policy.learner}.reward": practises and getattr(recipe.learner, "reward", "") == "head",
        "score.labels": recipe.imagine.count and recipe.score.labels == "head",
        "imagine.done_above": recipe.needs_world_model and recipe.imagine.done_above is not None,
    }
    asked = [key for key, asks in needs.items() if asks]
    trained = recipe.world_model.reward_weight > 0 and recipe.world_model.steps > 0
    if not asked or trained or world_model is None or REWARD_HEADS in load_config(world_model):
        return
    raise problem(
        recipe.file,
        asked[0],
        "needs a world model that predicts rewards; this one has no reward head",
        "Set world_model.reward_weight above 0, which adds one and trains it, or let the judge score "
        '(reward = "judge", score.labels = "judge") and leave out imagine.done_above.',
    )


def check_practice(recipe: Recipe) -> None:
    """Raises VlawError for what does not go together with a learner that practises in the world model."""
    if recipe.learner.practises != "world_model":
        return
    name, threshold = recipe.policy.learner, getattr(recipe.learner, "threshold", 0.0)
    ends = recipe.imagine.done_above
    if recipe.imagine.world == "simulator":
        raise problem(
            recipe.file,
            "imagine.world",
            f"= 'simulator' does not fit policy.learner = {name!r}, which practises in the world model",
            "Set imagine.world = 'world_model', or policy.learner = 'grpo_on_robot'.",
        )
    if ends is not None and getattr(recipe.learner, "reward", "") == "head" and ends < threshold:
        raise problem(
            recipe.file,
            "imagine.done_above",
            f"= {ends} ends rollouts before they are successes by {name}.threshold = {threshold}",
            f"Set it to {threshold} or more, or leave it out.",
        )


def _simulated_corpora(foundation: Foundation) -> dict[str, tuple[str, str]]:
    keys = ("demonstrations", "co_training", *(("near_success",) if foundation.near_success_per_task else ()))
    return {key: ("scripted", RECORDED) for key in keys if getattr(foundation, key) == "scripted"}


def _simulated(recipe: Recipe) -> dict[str, tuple[object, str]]:
    """Key -> (value, remedy) of what a recipe says that only a simulator can do."""
    sources = {key: getattr(recipe, key).source for key in ("rollouts", "evaluation", "world_model_metrics")}
    found: dict[str, tuple[object, str]] = {
        f"{key}.source": (source, RECORDED) for key, source in sources.items() if source == "robot"
    }
    if recipe.imagine.world == "simulator":
        found["imagine.world"] = "simulator", "Set imagine.world = 'world_model'."
    if recipe.score.labels == "simulator":
        found["score.labels"] = "simulator", "Set score.labels = 'judge'."
    if recipe.measures_policies:
        found["policy.validation_per_task"] = (
            recipe.policy.validation_per_task,
            "Set policy.validation_per_task = 0, policy.stops = [] and promotion.enabled = false.",
        )
    return found
