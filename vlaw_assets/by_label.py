"""Which stages ask whether an episode was a success: only what these make depends on the labels that people give.

The others are given episodes with the success that was recorded, so that a label neither changes what they make nor
makes it stale.
"""

from __future__ import annotations

BLIND = frozenset(
    {
        "autoencoder",
        "base_policy",
        "corpus_latents",
        "episode_embeddings",
        "imagined_rollouts",
        "latents",
        "loop_state",
        "pretrained_reward_model",
        "pretrained_world_model",
        "reward_scores",
        "world_model",
    }
)
"""Assets whose stage does not ask what an episode's success was. Imagination asks whether one was recorded: what is for
world models alone is no start of what a policy learns from."""


def goes_by_label(asset: str) -> bool:
    return asset not in BLIND
