"""One scripted episode at a time on the simulated robot, careful or of mixed quality.

Which layouts are shown, and which attempts are kept, is decided in rollouts/demonstrate.py; the experts are in tasks/.
"""

from __future__ import annotations

import threading

import numpy as np

from vlaw_models.episodes import REWARDS, Episode
from vlaw_models.robots.tabletop.render import GlRenderer, RayRenderer, make_renderer, project
from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks import TASKS, Expert, Quality
from vlaw_models.robots.tabletop.world import make_sim

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


class Robots:
    """The simulated robots and the renderer of each thread."""

    def __init__(self, image_size: int):
        self.image_size = image_size
        self._local = threading.local()

    def of(self, task: str) -> tuple[Sim, RayRenderer | GlRenderer]:
        """Those of the thread that asks."""
        local = self._local
        if not hasattr(local, "sims"):
            local.sims, local.renderer = {}, make_renderer(self.image_size)
        if task not in local.sims:
            local.sims[task] = make_sim(task)
        return local.sims[task], local.renderer


class Demonstrator:
    """Records one scripted episode per call."""

    def __init__(self, num_steps: int, image_size: int, *, mixed: bool, points: bool):
        self.num_steps, self.mixed, self.points = num_steps, mixed, points
        self._robots = Robots(image_size)

    def __call__(self, task: str, seed: int) -> Episode:
        sim, renderer = self._robots.of(task)
        rng = np.random.default_rng([seed, TASKS[task].stream])
        name, quality = _draw_quality(rng) if self.mixed else ("clean", DEMONSTRATION)
        episode = record_expert(sim, renderer, seed, quality, rng, self.num_steps, points=self.points)
        episode.extra["quality"] = name
        return episode


def record_expert(
    sim: Sim,
    renderer: RayRenderer | GlRenderer,
    seed: int,
    quality: Quality,
    rng: np.random.Generator,
    num_steps: int,
    *,
    points: bool = False,
    shift: tuple[str, np.ndarray] | None = None,
) -> Episode:
    """One episode of the scripted expert from the layout of `seed`; `rng` drives the errors that `quality` asks for,
    `shift` is the Expert's.

    `points`: with `look_at` of every frame as extra['points'] (T+1, V, P, 2).
    """
    sim.reset(seed)
    expert = Expert(sim, rng, quality, shift)
    images, states, places = [renderer.render(sim.model, sim.data)], [sim.state.copy()], [look_at(sim)]
    rewards = []
    for _ in range(num_steps):
        states.append(sim.step(next_action(expert, sim)).copy())
        rewards.append(float(sim.task.outcome(sim).success))
        images.append(renderer.render(sim.model, sim.data))
        places.append(look_at(sim))
    outcome = sim.task.judged(sim)
    return Episode(
        task=sim.task.name,
        instruction=sim.instruction,
        seed=seed,
        images=np.stack(images),
        states=np.stack(states),
        actions=np.stack(states[1:]),
        success=outcome.success,
        event=outcome.event,
        nearness=outcome.nearness,
        cameras=SPEC.camera_names,
        control_hz=SPEC.control_hz,
        extra={REWARDS: rewards, **({"points": np.stack(places)} if points else {})},
    )


def next_action(expert: Expert, sim: Sim) -> np.ndarray:
    """Its next pose target (5,). A finished expert stays where it is: the success must last until the end."""
    return expert.act(sim) if expert.index < len(expert.plan) else sim.state


def look_at(sim: Sim) -> np.ndarray:
    """(V, P, 2) places in the pictures of what the instruction is about, see `Task.points`."""
    return project(sim.model, sim.data, sim.task.points(sim))


def _draw_quality(rng: np.random.Generator) -> tuple[str, Quality]:
    edges = np.cumsum([share for share, _, _ in MIXTURE])
    part = min(int(np.searchsorted(edges, rng.random(), side="right")), len(MIXTURE) - 1)
    return MIXTURE[part][1:]
