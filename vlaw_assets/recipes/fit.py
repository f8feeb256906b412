"""Whether a recipe fits what it would stand on: the foundation's preset and robot, and policies that its learner can
update.

A file alone cannot say it, so this is asked before anything runs: by `vlaw run`, `vlaw study` and `vlaw doctor` of the
foundation's settings, by loop_state of the policy that an iteration begins with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models import presets
from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.checkpoint import check_class, class_of, load_config
from vlaw_models.errors import VlawError
from vlaw_models.policies.registry import POLICIES
from vlaw_models.reward_models.registry import REWARD_MODELS
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


def check_fits(recipe: Recipe, foundation: Foundation) -> None:
    """Raises VlawError, naming the key, for a recipe that does not fit the foundation. Imports its policy class."""
    check_foundation(recipe, foundation)
    given = {name: check_weights(name, Path(folder).expanduser()) for name, folder in foundation.weights.items()}
    check_learner(recipe, given.get("base_policy") or presets.POLICY[foundation.preset]["class"])


def check_weights(name: str, folder: Path) -> str:
    """The class of a checkpoint, by name. Raises VlawError where the model `name` cannot be of it; imports no model."""
    found = load_config(folder)["class"]
    check_class(found, MODELS[name], where=f"foundation.toml, key 'weights.{name}': {folder}")
    return found


def check_foundation(recipe: Recipe, foundation: Foundation) -> None:
    """Raises VlawError where a recipe is for another preset or robot than the foundation."""
    for key in ("preset", "robot"):
        wanted, there = getattr(recipe, key), getattr(foundation, key)
        if wanted != there:
            raise VlawError(
                f"recipe {recipe.name} is for {key} {wanted!r}, the foundation is for {there!r}",
                where=f"recipe {recipe.name}, key '{key}'",
                remedy=f"Set the same {key} in the recipe and in foundation.toml.",
            )


def check_learner(recipe: Recipe, policy_class: str) -> None:
    """Raises VlawError, naming the key, where the recipe's learner cannot update policies of a class (by name)."""
    if not (recipe.policy.stops or recipe.learner.updates(recipe.policy)):
        return
    found = class_of(policy_class, POLICIES, where=f"recipe {recipe.name}, its policy")
    misfit = recipe.learner.fits(found, recipe.policy)
    if misfit is not None:
        value = f" = {recipe.policy.learner!r}" if misfit.key == "policy.learner" else ""
        raise VlawError(
            f"{misfit.key}{value} {misfit.why}",
            where=f"recipe {recipe.name}, key '{misfit.key}'",
            remedy=misfit.remedy,
        )
