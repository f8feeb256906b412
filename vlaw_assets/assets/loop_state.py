"""Where the loop closes: the state (policy, world model, reward model, real dataset) that an iteration starts with.

Here: resolving that state from the ledger, and reading it back in later stages. Why an asset of its own: Dagster's graph
must be acyclic whatever the partition offsets, so the edge from iteration i-1 to i is the one edge that is not
declared. It is recorded all the same: the ledger has an edge to every artifact the state consists of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from vlaw_assets.assets.stage import Stage, stage_asset
from vlaw_assets.partitions import partition_key
from vlaw_models.errors import VlawError

FOUNDATION_STATE = {"policy": "base_policy", "world_model": "pretrained_world_model",
                    "reward_model": "pretrained_reward_model"}
MODELS = tuple(FOUNDATION_STATE)
REAL = "real_rollouts"


@dataclass(frozen=True)
class LoopState:
    """The state an iteration starts with: references into the ledger."""

    ref: Any
    policy: Any
    world_model: Any
    reward_model: Any
    real: Mapping[str, Any]
    """Role -> real rollouts of each iteration so far, e.g. "real_rollouts_01"; D_real before this iteration."""


@stage_asset(group="iteration", kinds=("json",),
             deps=("base_policy", "pretrained_world_model", "pretrained_reward_model", "autoencoder"))
def loop_state(stage: Stage) -> dg.MaterializeResult:
    """The state of the loop: iteration 01 starts from the foundation, iteration i from what i-1 left.

    Every checkpoint of the state is hashed again before it is passed on.
    """
    _check_recipe(stage)
    parents = _state_before(stage.ledger, stage.experiment, stage.iteration)
    with stage.commit("loop_state", recipe={"preset": stage.recipe.preset}, parents=parents) as work:
        if work.wanted:
            for role in parents:
                handle = work.read(role)
                if role in MODELS:
                    handle.checkpoint()
            state = {role: ref.content_digest for role, ref in parents.items()}
            (work.draft.checkpoint_dir() / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
    rows = [f"| {role} | {ref.asset} | {ref.partition or 'foundation'} | `{ref.content_digest[:16]}` |"
            for role, ref in parents.items()]
    return stage.result(work, state=dg.MetadataValue.md(
        "\n".join(["| role | asset | partition | content |", "|---|---|---|---|", *rows])))


def read_state(stage: Stage) -> LoopState:
    """The loop state of this partition, as its own edges in the ledger say."""
    ref = stage.require("loop_state")
    parents = dict(stage.ledger.edges(ref.owner))
    return LoopState(ref, *(parents[role] for role in MODELS),
                     real={role: parents[role] for role in sorted(parents) if role.startswith(REAL)})


def real_so_far(stage: Stage, state: LoopState) -> dict[str, Any]:
    """D_real of this iteration: the real rollouts of the iterations before, and this one's."""
    return {**state.real, f"{REAL}_{stage.iteration:02d}": stage.require(REAL)}


def _check_recipe(stage: Stage) -> None:
    recipe, foundation = stage.recipe, stage.foundation
    if stage.iteration > recipe.iterations:
        raise VlawError(f"experiment {recipe.name} has {recipe.iterations} iterations, not {stage.iteration}",
                        where=f"partition {stage.partition}", remedy=f"Raise 'iterations' in {recipe.name}.toml.")
    if recipe.preset != foundation.preset:
        raise VlawError(f"recipe {recipe.name} is for preset {recipe.preset!r}, the foundation is {foundation.preset!r}",
                        where=f"partition {stage.partition}",
                        remedy="Set the same preset in the recipe and in foundation.toml.")


def _state_before(ledger: Any, experiment: str, iteration: int) -> dict[str, Any]:
    """Role -> artifact of the state that iteration `iteration` starts with. Raises VlawError where it is missing."""
    if iteration == 1:
        return {role: ledger.require(asset, "") for role, asset in FOUNDATION_STATE.items()}
    before = partition_key(experiment, iteration - 1)
    found = {asset: ledger.current(asset, before) for asset in ("loop_state", REAL, *MODELS)}
    missing = [asset for asset, ref in found.items() if ref is None]
    if missing:
        raise VlawError(
            f"iteration {iteration:02d} of {experiment} needs {iteration - 1:02d}: {', '.join(missing)} missing",
            where=f"loop_state, partition {experiment}|{iteration:02d}",
            remedy=f"Materialize partition '{before}' first: vlaw run --experiment {experiment} --iterations {iteration}")
    earlier = {role: ref for role, ref in ledger.edges(found["loop_state"].owner) if role.startswith(REAL)}
    return {**{role: found[role] for role in MODELS}, **earlier, f"{REAL}_{iteration - 1:02d}": found[REAL]}
