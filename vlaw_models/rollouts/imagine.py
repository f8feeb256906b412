"""Imagined rollouts: a policy inside a world model (VLAW Algorithm 1, line 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import ImagineConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import load_policy
from vlaw_models.progress import Progress
from vlaw_models.robots.spaces import check_acts
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.rollout import rollout
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
) -> Iterator[list[Episode]]:
    """Rolls the policy out inside the world model from recorded first frames; yields batches in the order of `starts`.

    `robot` is the one that acts: its limits bound the imagined actions too. Episodes have success None,
    `start_episode_id` set and images[0] equal to the start's frame; those that end early (`cfg.done_above`) are shorter
    and say what was saved (rollout.py). The models are loaded (and their errors raised, as
    VlawError) before the first batch is asked for.
    """
    policy = load_policy(policy_dir)
    model, autoencoder = load_world_model(world_model_dir), load_autoencoder(autoencoder_dir)
    check_robot(model, robot)
    check_acts(getattr(policy, "space", None), robot, where="imagine")
    if cfg.done_above is not None:
        model.need_heads(needed_by="imagine.done_above")
    if cfg.batch_size < 1 or cfg.sampling_steps < 1:
        raise VlawError("batch_size and sampling_steps must be at least 1", where="imagine", remedy="Mend the recipe.")

    def batches() -> Iterator[list[Episode]]:
        for begin in range(0, len(starts), cfg.batch_size):
            part = starts[begin : begin + cfg.batch_size]
            world_seed, policy_seed = batch_seeds(seed, begin)
            world = ImaginedWorld(
                model,
                autoencoder,
                robot,
                sampling=cfg.sampling,
                seed=world_seed,
                done_above=cfg.done_above,
            )
            yield rollout(policy, world, part, num_steps=cfg.num_steps, seed=policy_seed, noise_scale=cfg.noise_scale)
            if progress is not None:
                progress(begin + len(part), len(starts), "imagined episodes")

    return batches()
