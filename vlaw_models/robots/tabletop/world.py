"""A batch of simulated robots behind the `World` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import mujoco
import numpy as np

from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.tabletop.render import make_renderer
from vlaw_models.robots.tabletop.scene import Sim
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.tasks import TASKS
from vlaw_models.worlds import Transition, advance, ended

IMAGE_SIZE = 64
"""Pixels of the pictures, for policies that do not declare an `image_size`."""


@cache
def _model(task: str) -> mujoco.MjModel:
    return TASKS[task].compile()


def make_sim(task: str) -> Sim:
    """A simulated copy of `task`, not yet reset."""
    if task not in TASKS:
        raise VlawError(f"unknown task {task!r}", where="tabletop", remedy=f"choose one of {', '.join(TASKS)}")
    return Sim(TASKS[task], _model(task))


class TabletopWorld:
    """Simulated robots that advance together; MuJoCo releases the interpreter lock, so two threads use two cores."""

    name, robot = SPEC.world, SPEC

    def __init__(self, image_size: int = IMAGE_SIZE, threads: int = 2, *, inner_frames: bool = True):
        self.image_size = image_size
        self.inner_frames = inner_frames
        """False: pictures only at the end of a chunk (evaluation needs no more); inner frames repeat the last one."""
        self.done_above: float | None = None
        self._pool = ThreadPoolExecutor(threads)
        self.sims: list[Sim] = []
        self._idle: dict[str, list[Sim]] = {}

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Resets one robot per start by (task, seed)."""
        for sim in self.sims:
            self._idle.setdefault(sim.task.name, []).append(sim)
        self.sims = [self._take(start.task) for start in starts]
        images = list(self._pool.map(_reset_and_render, self.sims, starts, [self.image_size] * len(starts)))
        return Observation(np.stack(images), np.stack([sim.state for sim in self.sims]))

    def _take(self, task: str) -> Sim:
        idle = self._idle.get(task)
        return idle.pop() if idle else make_sim(task)

    def instructions(self) -> list[str]:
        """The instruction that each robot's seed chose."""
        return [sim.instruction for sim in self.sims]

    def step(self, actions: np.ndarray) -> Transition:
        """Executes absolute pose targets (B, H, A) float32. The reward of each step is the simulator's judgement."""
        parts = list(self._pool.map(self._step_one, self.sims, actions))
        images, states, reward = (np.stack(column) for column in zip(*parts, strict=True))
        return Transition(images, states, states.copy(), reward, ended(reward, self.done_above))

    def _step_one(self, sim: Sim, chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        renderer = make_renderer(self.image_size)
        return advance(
            chunk,
            sim.step,
            lambda: sim.task.outcome(sim).success,
            lambda: renderer.render(sim.model, sim.data),
            inner_frames=self.inner_frames,
            done_above=self.done_above,
        )

    def keep(self, rows: np.ndarray) -> None:
        """The robots of the other rows are reset when they are needed again."""
        kept = set(rows.tolist())
        for row, sim in enumerate(self.sims):
            if row not in kept:
                self._idle.setdefault(sim.task.name, []).append(sim)
        self.sims = [self.sims[row] for row in rows]

    def outcomes(self) -> list[Outcome]:
        """The simulator's judgement of each robot's present state."""
        return [sim.task.judged(sim) for sim in self.sims]


def _reset_and_render(sim: Sim, start: Start, size: int) -> np.ndarray:
    sim.reset(start.seed)
    return make_renderer(size).render(sim.model, sim.data)
