"""The loop's state as the stages of an iteration read it: what loop_state passed on, by its edges in the ledger.

Apart from loop_state.py, which decides which state that is, so that the promotion gate's code is not that of every
stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlaw_assets.loop_roles import MODELS, REAL, REHEARSED
from vlaw_assets.partitions import split_partition

if TYPE_CHECKING:
    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.lake import ArtifactRef


@dataclass(frozen=True)
class LoopState:
    """The state an iteration starts with: references into the ledger. A stage that takes a model of it names it in its
    plan (`chosen_by`)."""

    ref: ArtifactRef
    policy: ArtifactRef
    world_model: ArtifactRef
    reward_model: ArtifactRef
    real: Mapping[str, ArtifactRef]
    """Role -> real rollouts of each iteration so far, e.g. "real_rollouts_01"; D_real before this iteration."""


def read_state(stage: Stage) -> LoopState:
    """The loop state of this partition, as its own edges in the ledger say."""
    ref = stage.require("loop_state")
    parents = dict(stage.ledger.edges(ref.owner))
    return LoopState(
        ref=ref,
        **{role: parents[role] for role in MODELS},
        real={role: parents[role] for role in sorted(parents) if role.startswith(REAL)},
    )


def real_so_far(stage: Stage, state: LoopState) -> dict[str, ArtifactRef]:
    """D_real of this iteration: the real rollouts of the iterations before, and this one's."""
    return {**state.real, f"{REAL}_{stage.iteration:02d}": stage.require(REAL)}


def rehearsed(stage: Stage, state: LoopState) -> dict[str, ArtifactRef]:
    """What the policy update of this iteration rehearses; nothing where its recipe does not ask for it.

    The demonstrations, unless policy.rehearse leaves them out, and for a policy that goes on from the one before what
    had been imagined when that one learned: its training set's parents say it. What was imagined for a policy that the
    promotion gate refused is not rehearsed.
    """
    recipe = stage.recipe
    if not recipe.learner.rehearses(recipe.policy):
        return {}
    found: dict[str, ArtifactRef] = {}
    learned_from = dict(stage.ledger.edges(state.policy.owner)).get("training_set")
    if learned_from is not None and recipe.learner.imagined and recipe.policy.start == "previous":
        for role, ref in stage.ledger.edges(learned_from.owner):
            if role.startswith(REHEARSED):
                found[role] = ref
            elif role in ("imagined_rollouts", "reward_scores"):
                found[f"{REHEARSED}{role}_{split_partition(ref.partition)[1]:02d}"] = ref
    if recipe.policy.rehearse == "all":
        found[f"{REHEARSED}demonstrations"] = stage.require_foundation("expert_demonstrations")
    return found
