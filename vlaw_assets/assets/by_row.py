"""Which stages go through an input row by row: the claim behind edges of scope 'rows'.

A stage is listed where each row it writes depends, of that parent, on the rows it names and on no other: an imagined
episode on its start, a score on the episode scored, a member on that episode and its score. A stage that trains on a
parent, or counts over it, is not. One table, so that the claims can be read next to each other.
"""

from __future__ import annotations

BY_ROW: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "expert_demonstrations",
            "co_training_data",
            "near_success",
            "real_rollouts",
            "validation_rollouts",
            "start_evaluation",
            "policy_evaluation",
        ),
        ("recorded_episodes",),
    ),
    "loop_state": ("real_rollouts",),  # passed on by reference: the state has no row of them
    "latents": ("real_rollouts",),
    "corpus_latents": ("expert_demonstrations", "co_training_data", "near_success"),
    "imagined_rollouts": ("starts", "latents"),
    "reward_scores": ("imagined_rollouts",),
    "episode_embeddings": ("real_rollouts", "imagined_rollouts", "validation_rollouts"),
    "training_set": ("real_rollouts", "imagined_rollouts", "reward_scores", "rehearsed_"),
}
"""Asset -> beginnings of the roles (D_real has one role per iteration, "real_rollouts_01")."""


def goes_by_row(asset: str, role: str) -> bool:
    return role.startswith(BY_ROW.get(asset, ()))
