"""Scripted demonstrations on the simulated robot: good ones, and a broad corpus of mixed quality.

Not here: the experts themselves (worlds/tabletop/tasks), policies (collect.py), which layouts are shown (seeds.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.render import GlRenderer, RayRenderer, make_renderer, project
from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.tasks import TASKS, Expert, Quality
from vlaw_models.robots.tabletop.world import IMAGE_SIZE, make_sim
from vlaw_models.rollouts.seeds import check_tasks, start_seeds

Progress = Callable[[int, int, str], None]

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
    names the part; `points` adds extra['points'] for pretraining, see `look_at`. The result does not depend on
    `threads`.
    """
    if purpose == "evaluation":
        raise VlawError(
            "evaluation layouts must not be demonstrated",
            where="collect_demonstrations",
            remedy="use purpose 'demonstration', 'co_training', 'pretraining' or 'validation'",
        )
    check_tasks(tasks)
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
                        f"the scripted expert of {task!r} succeeded only {count_per_task - missing} times in "
                        f"{attempts}",
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
