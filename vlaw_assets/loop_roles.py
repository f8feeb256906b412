"""Roles of what `loop_state` reads, and which of the loop's models each of them decides about.

The stage that writes these edges and whoever follows them share these names. The state of an iteration says for each
model which artifact goes on; the promotion gate may have read more than that artifact for it.
"""

from __future__ import annotations

MODELS = ("policy", "world_model", "reward_model")
"""The models of the state; each is read in the role of its name."""
REAL = "real_rollouts"
"""Beginning of the roles of D_real, one per iteration: "real_rollouts_01"."""
REHEARSED = "rehearsed_"
"""Beginning of the roles of what a policy update rehearses: "rehearsed_demonstrations", and of every iteration before
"rehearsed_imagined_rollouts_01" and what tells its successes, "rehearsed_reward_scores_01"."""
CANDIDATE = "judged_"
"""Beginning of the role of a new model that the promotion gate decides on ("judged_policy" in every lake); what was
passed on has the plain role."""
MEASURED, INCUMBENT = "world_model_metrics", "incumbent_policy"
"""What the gate read besides the candidates: the measurements of a world model, and of the policy before."""

GATED = ("policy", "world_model")
"""The models that the gate decides about."""
GATE_READS = (*(CANDIDATE + model for model in GATED), MEASURED, INCUMBENT)
"""All roles of what it reads."""


def deciding_roles() -> dict[str, str]:
    """Role -> the model that what is read in it decides about."""
    return {
        **{model: model for model in MODELS},
        **{CANDIDATE + model: model for model in MODELS},
        MEASURED: "world_model",
        INCUMBENT: "policy",
    }


def model_decided_by(role: str) -> str:
    """The model that what is read in this role decides about; '' where it decides about none."""
    return deciding_roles().get(role, "")
