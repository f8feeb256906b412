"""The world model of an iteration as a Gymnasium environment, for reinforcement learning of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from vlaw_models.config import Sampling
from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import find_robot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlaw_assets.lake import Lake
    from vlaw_models.world_models.gym import ImaginedEnv, ImaginedVectorEnv, Reward


def imagined_environment(
    lake: Lake,
    experiment: str,
    iteration: int,
    *,
    num_envs: int | None = None,
    tasks: Sequence[str] | None = None,
    reward: Literal["head", "judge"] | Reward | None = None,
    sampling: Sampling | None = None,
    **options: Any,
) -> ImaginedEnv | ImaginedVectorEnv:
    """The world model that an iteration trained, and as starts the first frames of its real rollouts (of `tasks`, else
    of all).

    `num_envs`: rows of a vector environment; None: a single one. `reward`: of the world model's own head, of the
    iteration's judge, or one of yours; None: of the head where there is one, else of the judge. `options`: see
    ImaginedVectorEnv. Raises VlawError where the lake does not have one of these, for a reward that there is not, and
    for tasks that nothing was recorded of.
    """
    from vlaw_assets.assets.starts import Starts
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.lineage.closure import subject
    from vlaw_assets.recipes import find_recipe
    from vlaw_models.autoencoders.base import load_autoencoder
    from vlaw_models.reward_models.base import load_reward_model
    from vlaw_models.reward_models.score import reward_so_far
    from vlaw_models.world_models.base import load_world_model
    from vlaw_models.world_models.gym import ImaginedEnv, ImaginedVectorEnv
    from vlaw_models.world_models.imagined_world import ImaginedWorld

    robot = find_robot(find_recipe(experiment, recipes_folder()).robot)
    episodes = list(lake.read(subject(lake, "real_rollouts", experiment, iteration)).source(tasks=tasks))
    if not episodes:
        raise VlawError(
            f"no real rollout of {', '.join(tasks or ['any task'])} to start from",
            where=f"real_rollouts {experiment} {iteration}",
            remedy="Name tasks of the experiment, or none.",
        )
    model = load_world_model(lake.read(subject(lake, "world_model", experiment, iteration)).checkpoint())
    if reward is None:
        reward = "judge" if model.heads is None else "head"
    if reward == "head":
        model.need_heads(needed_by='reward="head"')
        options["reward"] = None
    elif reward == "judge":
        judge = load_reward_model(lake.read(subject(lake, "reward_model", experiment, iteration)).checkpoint())
        options["reward"] = reward_so_far(judge, robot)
    elif callable(reward):
        options["reward"] = reward
    else:
        raise VlawError(
            f"unknown reward {reward!r}",
            where="imagined environment",
            remedy='Give "head", "judge", a function of the episodes so far, or None.',
        )
    world = ImaginedWorld(
        model,
        load_autoencoder(lake.read(subject(lake, "autoencoder", None, None)).checkpoint()),
        robot,
        sampling=sampling or Sampling(),
    )
    starts = Starts(list(enumerate(episodes)))
    if num_envs is None:
        return ImaginedEnv(world, starts, **options)
    return ImaginedVectorEnv(world, starts, num_envs, **options)
