"""Imagined rollouts: a policy inside a world model (VLAW Algorithm 1, line 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import load_policy
from vlaw_models.progress import Progress
from vlaw_models.robots.spaces import check_acts
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.rollout import rollout
from vlaw_models.spread import Batches, Spread, here
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld, batch_seeds, check_robot


def imagine(
    policy_dir: Path,
    world_model_dir: Path,
    autoencoder_dir: Path,
    starts: Sequence[Start],
    cfg: ImagineConfig,
    *,
    robot: RobotSpec,
    seed: int,
    progress: Progress | None = None,
    spread: Spread = here,
) -> Iterator[list[Episode]]:
    """Rolls the policy out inside the world model from recorded first frames; yields batches in the order of `starts`.

    `robot` is the one that acts: its limits bound the imagined actions too. Episodes have success None,
    `start_episode_id` set and images[0] equal to the start's frame; those that end early (`cfg.done_above`) are shorter
    and say what was saved (rollout.py). The models are loaded (and their errors raised, as
    VlawError) before the first batch is asked for. A batch depends on no other, so `spread` may take them elsewhere.
    """
    if cfg.batch_size < 1 or cfg.sampling_steps < 1:
        raise VlawError("batch_size and sampling_steps must be at least 1", where="imagine", remedy="Mend the recipe.")
    made = spread(
        imagining,
        {"policy": policy_dir, "world_model": world_model_dir, "autoencoder": autoencoder_dir},
        {"config": cfg, "robot": robot, "seed": seed},
        Batches(starts, cfg.batch_size),
    )

    def batches() -> Iterator[list[Episode]]:
        done = 0
        for batch in made:
            yield batch
            done += len(batch)
            if progress is not None:
                progress(done, len(starts), "imagined episodes")

    return batches()


def imagining(inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], list[Episode]]:
    """The heavy part of `imagine`: a batch of starts -> their episodes. Its noise is that of the batch."""
    cfg: ImagineConfig = settings["config"]
    robot: RobotSpec = settings["robot"]
    policy = load_policy(inputs["policy"])
    model, autoencoder = load_world_model(inputs["world_model"]), load_autoencoder(inputs["autoencoder"])
    check_robot(model, robot)
    check_acts(getattr(policy, "space", None), robot, where="imagine")
    if cfg.done_above is not None:
        model.need_heads(needed_by="imagine.done_above")

    def batch(part: Mapping[str, Any]) -> list[Episode]:
        world_seed, policy_seed = batch_seeds(settings["seed"], part["begin"])
        world = ImaginedWorld(
            model,
            autoencoder,
            robot,
            sampling=cfg.sampling,
            seed=world_seed,
            done_above=cfg.done_above,
        )
        return rollout(
            policy, world, part["items"], num_steps=cfg.num_steps, seed=policy_seed, noise_scale=cfg.noise_scale
        )

    return batch
