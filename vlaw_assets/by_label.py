"""Which stages ask whether an episode was a success: only what these make depends on the labels that people give.

The others are given episodes with the success that was recorded, so that a label neither changes what they make nor
makes it stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BLIND = frozenset(
    {
        "autoencoder",
        "base_policy",
        "corpus_latents",
        "episode_embeddings",
        "latents",
        "loop_state",
        "pretrained_reward_model",
        "pretrained_world_model",
        "reward_scores",
        "world_model",
    }
)
"""Assets whose stage does not ask what an episode's success was."""


def goes_by_label(asset: str, recipe: Mapping[str, Any]) -> bool:
    """`recipe`: what the artifact depends on of it (`Plan.recipe`, `recipe_json` in the ledger).

    Imagination asks what came of a rollout where failures are tried more often. Otherwise it asks only whether an
    outcome was recorded: what is for world models alone is no start of what a policy learns from.
    """
    if asset == "imagined_rollouts":
        return bool(recipe.get("imagine", {}).get("tries_per_failure", 1) > 1)
    return asset not in BLIND
