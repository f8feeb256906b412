"""The Dagster code location: all assets, jobs and sensors. `dagster dev -m vlaw_assets.definitions` loads it.

Importing this module imports no torch, diffusers, transformers, lance or mujoco: a test proves it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg

from vlaw_assets.assets import (
    episode_embeddings,
    evaluation,
    foundation,
    imagined_outcomes,
    imagined_rollouts,
    latents,
    loop_state,
    near_success,
    outside,
    policy,
    real_rollouts,
    report,
    reward_model,
    reward_model_metrics,
    reward_scores,
    scripted,
    training_set,
    world_model,
    world_model_metrics,
)
from vlaw_assets.environment import default_lake, default_recipes, given_engine, given_inbox, given_lake
from vlaw_assets.inbox.sensor import inbox_job, inbox_sensor
from vlaw_assets.local_folder import is_address
from vlaw_assets.pipeline.first_look import first_look_job
from vlaw_assets.pipeline.jobs import foundation_job, iteration_job
from vlaw_assets.pipeline.resources import Workplace, no_values, workplace_resource
from vlaw_assets.pipeline.sensors import advance_sensor, recipes_sensor

__all__ = ["build_defs", "default_lake", "default_recipes", "defs"]

# Dagster's own decorator gives them: the release is pinned.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

FOUNDATION = (
    scripted.expert_demonstrations,
    scripted.co_training_data,
    near_success.near_success,
    foundation.base_policy,
    foundation.pretrained_world_model,
    foundation.pretrained_reward_model,
    foundation.autoencoder,
    latents.corpus_latents,
)
LOOP = (
    loop_state.loop_state,
    real_rollouts.real_rollouts,
    latents.latents,
    reward_model.reward_model,
    world_model.world_model,
    imagined_rollouts.imagined_rollouts,
    reward_scores.reward_scores,
    training_set.training_set,
    policy.policy,
    evaluation.start_evaluation,
    evaluation.policy_evaluation,
    evaluation.start_evaluation_low_noise,
    evaluation.policy_evaluation_low_noise,
    imagined_outcomes.imagined_outcomes,
    real_rollouts.validation_rollouts,
    world_model_metrics.world_model_metrics,
    world_model_metrics.start_world_model_metrics,
    reward_model_metrics.reward_model_metrics,
    episode_embeddings.episode_embeddings,
    report.iteration_report,
)


def build_defs(
    *, lake: str | Path, recipes: str | Path | None = None, inbox: str | Path | None = None, engine: str = ""
) -> dg.Definitions:
    """The code location for a lake and, besides the packaged recipes, a folder of the user's own; `inbox`: default a
    folder of the lake; `engine`: where heavy parts run, default in the process of a run."""
    folder = Path(recipes) if recipes else None
    iteration, take = iteration_job(), inbox_job()
    # An address stays as it is: the first step refuses it, and says what it was given.
    place = Workplace(
        lake=str(lake if is_address(lake) else Path(lake).expanduser().absolute()),
        recipes=str(folder or ""),
        inbox=str(inbox or ""),
        engine=engine,
    )
    defs = dg.Definitions(
        assets=[*FOUNDATION, *LOOP, *outside.OUTSIDE],
        jobs=[first_look_job(lambda: defs), foundation_job(), iteration, take],
        sensors=[recipes_sensor(), advance_sensor(iteration), inbox_sensor(take, iteration)],
        resources={
            "workplace": workplace_resource(place, loop_state.refuse_before_any_step),
            "io_manager": no_values(),
        },
        # One process per run: a step process costs two seconds of imports, and the models share the machine anyway.
        executor=dg.in_process_executor,
    )
    return defs


defs = build_defs(lake=given_lake(), recipes=default_recipes(), inbox=given_inbox(), engine=given_engine())
