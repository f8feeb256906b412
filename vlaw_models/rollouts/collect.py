"""Collecting episodes of a policy on a simulated robot: rollouts and evaluations.

Which layouts a purpose sees is said in seeds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlaw_models.config import EvaluationConfig, RolloutConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.seeds import MEASURING, start_seeds

if TYPE_CHECKING:
    from vlaw_models.policies.base import Policy
    from vlaw_models.worlds import World


EVALUATION_NOISE_SEED = 0
"""Policy noise in evaluations: the same for everybody, as the starts are."""
_BATCH = 50
"""Robots rolled out together."""
_RECORDED = "Use a robot that can be simulated; what this one does comes from recordings (vlaw import)."


def collect_rollouts(
    policy_dir: Path,
    tasks: Sequence[str],
    cfg: RolloutConfig,
    *,
    robot: RobotSpec,
    iteration: int,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[list[Episode]]:
    """Rolls the policy out on the simulated robot, task by task, and yields batches; success and event are the
    simulator's.

    The policy is loaded (and its errors raised, as VlawError) before the first batch is asked for.
    """
    from vlaw_models.policies.base import load_policy

    robot.check_tasks(tasks)
    simulator = simulator_of(robot, needed_by="rollouts of a policy", remedy=_RECORDED)
    starts = [
        Start(task, s) for task in tasks for s in start_seeds("rollout", task, iteration, seed, cfg.episodes_per_task)
    ]
    noise = np.random.SeedSequence([seed, iteration])
    policy = load_policy(Path(policy_dir))
    # A policy that says for which picture size it was made is shown that size.
    world = simulator.world(getattr(policy, "image_size", None))
    world.done_above = cfg.done_above
    return _roll(policy, world, starts, cfg.num_steps, cfg.noise_scale, noise, progress)


def evaluate_policy(
    policy_dir: Path,
    tasks: Sequence[str],
    cfg: EvaluationConfig,
    *,
    robot: RobotSpec,
    purpose: str = "evaluation",
    noise_seed: int = EVALUATION_NOISE_SEED,
    progress: Progress | None = None,
    seen: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Success on held-out layouts, the same for every policy. Episodes hold the last frame only (1, V, h, w, 3).

    `purpose` 'validation' measures on other layouts: whatever is tuned is tuned there, never on the evaluation's.
    `noise_seed` fixes the policy's noise; the layouts do not depend on it. `seen` is called with every episode while it
    still has a frame for every step (inside a chunk the chunk's last one).
    """
    from vlaw_models.policies.base import load_policy

    return evaluate_loaded(
        load_policy(Path(policy_dir)),
        tasks,
        cfg,
        robot=robot,
        purpose=purpose,
        noise_seed=noise_seed,
        progress=progress,
        seen=seen,
    )


def evaluate_loaded(
    policy: Policy,
    tasks: Sequence[str],
    cfg: EvaluationConfig,
    *,
    robot: RobotSpec,
    purpose: str,
    noise_seed: int = EVALUATION_NOISE_SEED,
    progress: Progress | None = None,
    seen: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """`evaluate_policy` of a policy at hand, such as one in the middle of its training."""
    if purpose not in MEASURING:
        raise VlawError(
            f"evaluation on training starts: the layouts of purpose {purpose!r} are there to be trained on",
            where=f"evaluate_policy(purpose={purpose!r})",
            remedy=f"Measure on the layouts of {' or '.join(map(repr, MEASURING))}: nothing is ever trained on them.",
        )
    robot.check_tasks(tasks)
    simulator = simulator_of(robot, needed_by=f"{purpose} of a policy", remedy=_RECORDED)
    starts = [Start(task, s) for task in tasks for s in start_seeds(purpose, task, 0, 0, cfg.episodes_per_task)]
    noise = np.random.SeedSequence([noise_seed])
    world = simulator.world(getattr(policy, "image_size", None), inner_frames=False)
    batches = _roll(policy, world, starts, cfg.num_steps, cfg.noise_scale, noise, progress)
    return [last_frame_only(episode, seen) for batch in batches for episode in batch]


def last_frame_only(episode: Episode, seen: Callable[[Episode], None] | None = None) -> Episode:
    """What is kept of a trial, once `seen` has seen it whole."""
    if seen is not None:
        seen(episode)
    return replace(episode, images=episode.images[-1:].copy())  # a view would keep the other frames


def _roll(
    policy: Policy,
    world: World,
    starts: list[Start],
    num_steps: int,
    noise_scale: float,
    noise: np.random.SeedSequence,
    progress: Progress | None,
) -> Iterator[list[Episode]]:
    from vlaw_models.rollouts.rollout import rollout

    done = 0
    batches = [starts[i : i + _BATCH] for i in range(0, len(starts), _BATCH)]
    for batch, seed in zip(batches, noise.generate_state(len(batches)), strict=True):
        yield rollout(policy, world, batch, num_steps=num_steps, seed=int(seed), noise_scale=noise_scale)
        done += len(batch)
        if progress:
            progress(done, len(starts), f"rollouts: {batch[-1].task}")
