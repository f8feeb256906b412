"""Collecting episodes on the simulated robot: policy rollouts, evaluations, scripted demonstrations; and their seeds.

Not here: how a policy and a world are run against each other (`rollout.py`), what is imagined (`imagine.py`).
Which layouts a purpose sees is decided by `start_seeds` alone, so that nothing trained is ever evaluated on its own
layouts and two experiments are evaluated on the same ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlaw_models.config import EvaluationConfig, RolloutConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.worlds.tabletop.render import GlRenderer, RayRenderer, make_renderer, project
from vlaw_models.worlds.tabletop.scene import Sim
from vlaw_models.worlds.tabletop.tasks import TASKS, Expert, Quality
from vlaw_models.worlds.tabletop.world import TabletopWorld, make_sim

if TYPE_CHECKING:
    from vlaw_models.policies.base import Policy

Progress = Callable[[int, int, str], None]

PURPOSES = ("rollout", "evaluation", "demonstration", "co_training", "pretraining", "validation")
MEASURING = ("evaluation", "validation")
"""Purposes whose layouts nothing is trained on: policies are measured on these only."""
_PURPOSE, _SEED, _ITERATION = 10**15, 10**9, 10**6
"""A start seed reads purpose | seed (6 digits) | iteration (3) | index (6), so ranges cannot meet. Below 2**53."""
EVALUATION_NOISE_SEED = 0
"""Policy noise in evaluations: the same for everybody, as the starts are."""
IMAGE_SIZE = 64
"""Pixels of the pictures, for policies that do not declare an `image_size`."""
_BATCH = 50
"""Robots rolled out together."""
_GIVE_UP = 20
"""Demonstrations attempted per demonstration wanted, before the expert is declared broken."""

DEMONSTRATION = Quality(jitter=0.003, aim=0.004)
"""A careful teleoperator."""
MIXTURE: tuple[tuple[float, str, Quality], ...] = (
    (0.45, "clean", DEMONSTRATION),
    (0.20, "last_mistake", Quality(jitter=0.003, aim=0.004, mistake="last")),
    (0.17, "first_mistake", Quality(jitter=0.003, aim=0.004, mistake="first")),
    (0.10, "gives_up", Quality(jitter=0.003, aim=0.004, mistake="stop")),
    (0.08, "noisy", Quality(jitter=0.008, aim=0.015)),
)
"""Share, name and quality of the parts of a broad corpus."""


def start_seeds(purpose: str, task: str, iteration: int, seed: int, count: int) -> list[int]:
    """Seeds of `count` starts; disjoint between purposes, experiment seeds and iterations.

    Evaluation and validation ignore `seed` and `iteration`: everybody is measured on the same layouts. The task does
    not enter: each task draws from a stream of its own (`Task.stream`), so equal numbers are unrelated layouts.
    """
    where = f"start_seeds({purpose!r}, {task!r}, iteration={iteration}, seed={seed}, count={count})"
    if purpose not in PURPOSES:
        raise VlawError(f"unknown purpose {purpose!r}", where=where, remedy=f"choose one of {', '.join(PURPOSES)}")
    _check_tasks([task])
    if not (0 <= seed < _PURPOSE // _SEED and 0 <= iteration < _SEED // _ITERATION and 0 <= count <= _ITERATION):
        raise VlawError(
            "the seed ranges would overlap",
            where=where,
            remedy="keep 0 <= seed < 1,000,000, 0 <= iteration < 1,000 and count <= 1,000,000",
        )
    if purpose in MEASURING:
        seed = iteration = 0
    first = (PURPOSES.index(purpose) + 1) * _PURPOSE + seed * _SEED + iteration * _ITERATION
    return list(range(first, first + count))


def collect_rollouts(
    policy_dir: Path,
    tasks: Sequence[str],
    cfg: RolloutConfig,
    *,
    iteration: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Episode]:
    """Rolls the policy out on the simulated robot, task by task; success and event are the simulator's."""
    from vlaw_models.policies.base import load_policy

    starts = [
        Start(task, s) for task in tasks for s in start_seeds("rollout", task, iteration, seed, cfg.episodes_per_task)
    ]
    noise = np.random.SeedSequence([seed, iteration])
    policy = load_policy(Path(policy_dir))
    # A policy that says for which picture size it was made is shown that size.
    world = TabletopWorld(getattr(policy, "image_size", IMAGE_SIZE))
    return _roll(policy, world, starts, cfg.num_steps, cfg.noise_scale, noise, progress)


def evaluate_policy(
    policy_dir: Path,
    tasks: Sequence[str],
    cfg: EvaluationConfig,
    *,
    purpose: str = "evaluation",
    noise_seed: int = EVALUATION_NOISE_SEED,
    progress: Progress | None = None,
) -> list[Episode]:
    """Success on held-out layouts, the same for every policy. Episodes hold the last frame only (1, V, h, w, 3).

    `purpose` 'validation' measures on other layouts: whatever is tuned is tuned there, never on the evaluation's.
    `noise_seed` fixes the policy's noise; the layouts do not depend on it.
    """
    from vlaw_models.policies.base import load_policy

    return evaluate_loaded(load_policy(Path(policy_dir)), tasks, cfg, purpose=purpose, noise_seed=noise_seed,
                           progress=progress)


def evaluate_loaded(
    policy: Policy,
    tasks: Sequence[str],
    cfg: EvaluationConfig,
    *,
    purpose: str,
    noise_seed: int = EVALUATION_NOISE_SEED,
    progress: Progress | None = None,
) -> list[Episode]:
    """`evaluate_policy` of a policy at hand, such as one in the middle of its training."""
    if purpose not in MEASURING:
        raise VlawError(
            f"evaluation on training starts: the layouts of purpose {purpose!r} are there to be trained on",
            where=f"evaluate_policy(purpose={purpose!r})",
            remedy=f"Measure on the layouts of {' or '.join(map(repr, MEASURING))}: nothing is ever trained on them.",
        )
    starts = [
        Start(task, s) for task in tasks for s in start_seeds(purpose, task, 0, 0, cfg.episodes_per_task)
    ]
    noise = np.random.SeedSequence([noise_seed])
    world = TabletopWorld(getattr(policy, "image_size", IMAGE_SIZE), render_inner=False)
    return _roll(
        policy, world, starts, cfg.num_steps, cfg.noise_scale, noise, progress, last_only=True
    )


def _roll(
    policy: Policy,
    world: TabletopWorld,
    starts: list[Start],
    num_steps: int,
    noise_scale: float,
    noise: np.random.SeedSequence,
    progress: Progress | None,
    *,
    last_only: bool = False,
) -> list[Episode]:
    from vlaw_models.rollout import rollout

    episodes: list[Episode] = []
    batches = [starts[i : i + _BATCH] for i in range(0, len(starts), _BATCH)]
    for batch, seed in zip(batches, noise.generate_state(len(batches)), strict=True):
        done = rollout(policy, world, batch, num_steps=num_steps, seed=int(seed), noise_scale=noise_scale)
        if last_only:
            done = [replace(episode, images=episode.images[-1:].copy()) for episode in done]
        episodes += done
        if progress:
            progress(len(episodes), len(starts), f"rollouts: {batch[-1].task}")
    return episodes


def collect_demonstrations(
    tasks: Sequence[str], count_per_task: int, *, purpose: str, seed: int, progress: Progress | None = None
) -> list[Episode]:
    """Scripted experts, `count_per_task` episodes of each task: see `iterate_demonstrations`."""
    return list(iterate_demonstrations(tasks, count_per_task, purpose=purpose, seed=seed, progress=progress))


def iterate_demonstrations(
    tasks: Sequence[str],
    count_per_task: int,
    *,
    purpose: str,
    seed: int,
    num_steps: int = RolloutConfig.num_steps,
    image_size: int = IMAGE_SIZE,
    threads: int = 2,
    points: bool = False,
    progress: Progress | None = None,
) -> Iterator[Episode]:
    """Scripted experts' episodes, one after the other (a large corpus does not fit into memory).

    Purpose 'demonstration': good quality with human-like noise; failed attempts are thrown away, as a teleoperator
    would. Any other purpose: the broad corpus `MIXTURE`, everything kept with its true outcome. `extra['quality']`
    names the part; `points` adds extra['points'] for pretraining, see `look_at`. The result does not depend on `threads`.
    """
    if purpose == "evaluation":
        raise VlawError(
            "evaluation layouts must not be demonstrated",
            where="collect_demonstrations",
            remedy="use purpose 'demonstration', 'co_training', 'pretraining' or 'validation'",
        )
    _check_tasks(tasks)
    keep_failures = purpose != "demonstration"
    attempts = count_per_task if keep_failures else _GIVE_UP * count_per_task
    demonstrator = _Demonstrator(num_steps, image_size, mixture=keep_failures, points=points)
    done, total = 0, count_per_task * len(tasks)
    with ThreadPoolExecutor(threads) as pool:
        for task in tasks:
            seeds, missing = iter(start_seeds(purpose, task, 0, seed, attempts)), count_per_task
            while missing:
                # Windows bound the pictures in memory, and what is computed beyond the last episode needed.
                window = list(islice(seeds, min(missing, 8 * threads)))
                if not window:
                    raise VlawError(
                        f"the scripted expert of {task!r} succeeded only {count_per_task - missing} times in {attempts}",
                        where="collect_demonstrations",
                        remedy="the task's scene or expert is broken: run tests/test_task_*.py",
                    )
                for episode in pool.map(demonstrator, [task] * len(window), window):
                    if keep_failures or episode.success:
                        done, missing = done + 1, missing - 1
                        yield episode
                if progress:
                    progress(done, total, f"demonstrations: {task}")


class _Demonstrator:
    """Records one scripted episode per call; every thread has robots and a renderer of its own."""

    def __init__(self, num_steps: int, image_size: int, *, mixture: bool, points: bool):
        self.num_steps, self.image_size, self.mixture, self.points = num_steps, image_size, mixture, points
        self._local = threading.local()

    def __call__(self, task: str, seed: int) -> Episode:
        local = self._local
        if not hasattr(local, "sims"):
            local.sims, local.renderer = {}, make_renderer(self.image_size)
        if task not in local.sims:
            local.sims[task] = make_sim(task)
        sim: Sim = local.sims[task]
        rng = np.random.default_rng([seed, TASKS[task].stream])
        name, quality = _draw_quality(rng) if self.mixture else ("clean", DEMONSTRATION)
        episode = record_expert(sim, local.renderer, seed, quality, rng, self.num_steps, points=self.points)
        episode.extra["quality"] = name
        return episode


def record_expert(
    sim: Sim,
    renderer: RayRenderer | GlRenderer,
    seed: int,
    quality: Quality,
    rng: np.random.Generator,
    num_steps: int = RolloutConfig.num_steps,
    *,
    points: bool = False,
) -> Episode:
    """One episode of the scripted expert from the layout of `seed`; `rng` drives the errors that `quality` asks for.

    `points`: with `look_at` of every frame as extra['points'] (T+1, V, P, 2).
    """
    sim.reset(seed)
    expert = Expert(sim, rng, quality)
    images, states, places = [renderer.render(sim.model, sim.data)], [sim.state.copy()], [look_at(sim)]
    for _ in range(num_steps):
        # A finished expert stays where it is: the success must last until the end.
        action = expert.act(sim) if expert.index < len(expert.plan) else sim.state
        states.append(sim.step(action).copy())
        images.append(renderer.render(sim.model, sim.data))
        places.append(look_at(sim))
    outcome = sim.task.outcome(sim)
    return Episode(
        task=sim.task.name,
        instruction=sim.instruction,
        seed=seed,
        images=np.stack(images),
        states=np.stack(states),
        actions=np.stack(states[1:]),
        success=outcome.success,
        event=outcome.event,
        extra={"points": np.stack(places)} if points else {},
    )


def look_at(sim: Sim) -> np.ndarray:
    """(V, P, 2) places in the pictures of what the instruction is about, see `Task.points`."""
    return project(sim.model, sim.data, sim.task.points(sim))


def _draw_quality(rng: np.random.Generator) -> tuple[str, Quality]:
    edges = np.cumsum([share for share, _, _ in MIXTURE])
    part = min(int(np.searchsorted(edges, rng.random(), side="right")), len(MIXTURE) - 1)
    return MIXTURE[part][1:]


def _check_tasks(tasks: Sequence[str]) -> None:
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise VlawError(f"unknown task {unknown[0]!r}", where="tasks", remedy=f"choose from {', '.join(TASKS)}")
