"""Collecting episodes of a policy on a simulated robot: rollouts and evaluations.

Which layouts a purpose sees is said in seeds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_models.config import EvaluationConfig, RolloutConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.progress import Progress
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.rollouts.seeds import MEASURING, start_seeds
from vlaw_models.spread import Batches, Spread, here

if TYPE_CHECKING:
    from vlaw_models.policies.base import Policy
    from vlaw_models.worlds import World


EVALUATION_NOISE_SEED = 0
"""Policy noise in evaluations: the same for everybody, as the starts are."""
BATCH = 50
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
    spread: Spread = here,
) -> Iterator[list[Episode]]:
    """Rolls the policy out on the simulated robot, task by task, and yields batches; success and event are the
    simulator's.

    The policy is loaded (and its errors raised, as VlawError) before the first batch is asked for. A batch depends on
    no other, so `spread` may take them elsewhere.
    """
    robot.check_tasks(tasks)
    simulator_of(robot, needed_by="rollouts of a policy", remedy=_RECORDED)
    starts = [
        Start(task, s) for task in tasks for s in start_seeds("rollout", task, iteration, seed, cfg.episodes_per_task)
    ]
    noise = np.random.SeedSequence([seed, iteration])
    settings = {"config": cfg, "robot": robot}
    batches = spread(rolling_out, {"policy": Path(policy_dir)}, settings, _parts(starts, noise))
    return _told(batches, starts, progress)


def rolling_out(
    inputs: Mapping[str, Path], settings: Mapping[str, Any]
) -> Callable[[Mapping[str, Any]], list[Episode]]:
    """The heavy part of `collect_rollouts`: a batch of starts, and the seed of its noise -> their episodes."""
    from vlaw_models.policies.base import load_policy

    cfg: RolloutConfig = settings["config"]
    simulator = simulator_of(settings["robot"], needed_by="rollouts of a policy", remedy=_RECORDED)
    policy = load_policy(inputs["policy"])
    # A policy that says for which picture size it was made is shown that size.
    world = simulator.world(getattr(policy, "image_size", None))
    world.done_above = cfg.done_above
    return _batch(policy, world, cfg.num_steps, cfg.noise_scale)


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
    spread: Spread = here,
) -> list[Episode]:
    """Success on held-out layouts, the same for every policy. Episodes hold the last frame only (1, V, h, w, 3).

    `purpose` 'validation' measures on other layouts: whatever is tuned is tuned there, never on the evaluation's.
    `noise_seed` fixes the policy's noise; the layouts do not depend on it. `seen` is called with the first success and
    the first failure of every task in a batch, while they still have a frame for every step (inside a chunk the chunk's
    last one). A batch depends on no other, so `spread` may take them elsewhere.
    """
    starts = _measured(tasks, cfg, robot, purpose)
    noise = np.random.SeedSequence([noise_seed])
    settings = {"config": cfg, "robot": robot, "purpose": purpose}
    batches = spread(measuring, {"policy": Path(policy_dir)}, settings, _parts(starts, noise))
    return [_shown(episode, seen) for batch in _told(batches, starts, progress) for episode in batch]


def measuring(inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], list[Episode]]:
    """The heavy part of `evaluate_policy`: a batch of starts, and the seed of its noise -> their episodes, with all
    frames those that are shown and with the last one the others."""
    from vlaw_models.policies.base import load_policy

    policy = load_policy(inputs["policy"])
    roll = _batch(
        policy, _measuring_world(policy, settings["robot"], settings["purpose"]), *_lengths(settings["config"])
    )

    def batch(part: Mapping[str, Any]) -> list[Episode]:
        shown: set[tuple[str, bool | None]] = set()
        kept = []
        for episode in roll(part):
            key = (episode.task, episode.success)
            kept.append(last_frame_only(episode) if key in shown else episode)
            shown.add(key)
        return kept

    return batch


def _shown(episode: Episode, seen: Callable[[Episode], None] | None) -> Episode:
    """The last frame of an episode; one that has more is shown to `seen` before."""
    return last_frame_only(episode, seen if len(episode.images) > 1 else None)


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
    """`evaluate_policy` of a policy at hand, such as one in the middle of its training; `seen` is called with every
    episode."""
    starts = _measured(tasks, cfg, robot, purpose)
    roll = _batch(policy, _measuring_world(policy, robot, purpose), *_lengths(cfg))
    batches = map(roll, _parts(starts, np.random.SeedSequence([noise_seed])))
    return [last_frame_only(episode, seen) for batch in _told(batches, starts, progress) for episode in batch]


def _measured(tasks: Sequence[str], cfg: EvaluationConfig, robot: RobotSpec, purpose: str) -> list[Start]:
    """The starts that policies are measured on. Raises VlawError for those that are there to be trained on."""
    if purpose not in MEASURING:
        raise VlawError(
            f"evaluation on training starts: the layouts of purpose {purpose!r} are there to be trained on",
            where=f"evaluate_policy(purpose={purpose!r})",
            remedy=f"Measure on the layouts of {' or '.join(map(repr, MEASURING))}: nothing is ever trained on them.",
        )
    robot.check_tasks(tasks)
    simulator_of(robot, needed_by=f"{purpose} of a policy", remedy=_RECORDED)
    return [Start(task, s) for task in tasks for s in start_seeds(purpose, task, 0, 0, cfg.episodes_per_task)]


def _measuring_world(policy: Policy, robot: RobotSpec, purpose: str) -> World:
    simulator = simulator_of(robot, needed_by=f"{purpose} of a policy", remedy=_RECORDED)
    return simulator.world(getattr(policy, "image_size", None), inner_frames=False)


def _lengths(cfg: EvaluationConfig) -> tuple[int, float]:
    return cfg.num_steps, cfg.noise_scale


def last_frame_only(episode: Episode, seen: Callable[[Episode], None] | None = None) -> Episode:
    """What is kept of a trial, once `seen` has seen it whole."""
    if seen is not None:
        seen(episode)
    return replace(episode, images=episode.images[-1:].copy())  # a view would keep the other frames


def _parts(starts: list[Start], noise: np.random.SeedSequence) -> list[dict[str, Any]]:
    """Batches of the starts, each with the seed of its own noise."""
    batches = Batches(starts, BATCH)
    return [
        {**batch, "seed": int(seed)} for batch, seed in zip(batches, noise.generate_state(len(batches)), strict=True)
    ]


def _batch(
    policy: Policy, world: World, num_steps: int, noise_scale: float
) -> Callable[[Mapping[str, Any]], list[Episode]]:
    from vlaw_models.rollouts.rollout import rollout

    return lambda part: rollout(
        policy, world, part["items"], num_steps=num_steps, seed=part["seed"], noise_scale=noise_scale
    )


def _told(
    batches: Iterable[list[Episode]], starts: Sequence[Start], progress: Progress | None
) -> Iterator[list[Episode]]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        if progress:
            progress(done, len(starts), f"rollouts: {batch[-1].task}")
