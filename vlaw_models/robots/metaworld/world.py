"""A batch of Meta-World's arms behind the `World` protocol, and its scripted experts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from vlaw_models.episodes import Episode, Observation, Outcome, Start
from vlaw_models.robots.metaworld.scene import Artist, Sim
from vlaw_models.robots.metaworld.spec import INNER_STEPS, SPEC
from vlaw_models.worlds import Transition, advance, ended

IMAGE_SIZE = 64
"""Pixels of the pictures, for policies that do not declare an `image_size`."""
JITTER = 0.002
"""Metres: the standard deviation of where a careful teleoperator leads the hand, about where the expert does."""
MIXTURE = ((0.5, "clean", JITTER, False), (0.3, "noisy", 0.02, False), (0.2, "gives_up", JITTER, True))
"""Share, name, jitter, and whether it stops on the way, of the parts of a broad corpus."""


class MetaWorld:
    """Arms that advance together; for one thread."""

    name, robot = SPEC.world, SPEC

    def __init__(self, image_size: int = IMAGE_SIZE, *, inner_frames: bool = True):
        self.image_size, self.inner_frames = image_size, inner_frames
        self.done_above: float | None = None
        self.sims: list[Sim] = []
        self._artist = Artist(image_size)
        self._idle: dict[str, list[Sim]] = {}

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Resets one arm per start by (task, seed)."""
        for sim in self.sims:
            self._idle.setdefault(sim.task, []).append(sim)
        self.sims = [
            self._idle[start.task].pop() if self._idle.get(start.task) else Sim(start.task) for start in starts
        ]
        for sim, start in zip(self.sims, starts, strict=True):
            sim.reset(start.seed)
        return Observation(
            np.stack([self._artist.draw(sim) for sim in self.sims]), np.stack([s.state for s in self.sims])
        )

    def instructions(self) -> list[str]:
        return [sim.instruction for sim in self.sims]

    def step(self, actions: np.ndarray) -> Transition:
        """Executes absolute targets (B, H, A) float32."""
        parts = map(self._step_one, self.sims, actions)
        images, states, reward = (np.stack(column) for column in zip(*parts, strict=True))
        return Transition(images, states, states.copy(), reward, ended(reward, self.done_above))

    def _step_one(self, sim: Sim, chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return advance(
            chunk,
            sim.step,
            lambda: sim.outcome().success,
            lambda: self._artist.draw(sim),
            inner_frames=self.inner_frames,
            done_above=self.done_above,
        )

    def keep(self, rows: np.ndarray) -> None:
        """The arms of the other rows are reset when they are needed again."""
        for row, sim in enumerate(self.sims):
            if row not in rows:
                self._idle.setdefault(sim.task, []).append(sim)
        self.sims = [self.sims[row] for row in rows]

    def outcomes(self) -> list[Outcome]:
        return [sim.outcome() for sim in self.sims]


class Demonstrator:
    """Records one scripted episode per call; every thread has arms and a renderer of its own."""

    def __init__(self, num_steps: int, image_size: int, *, mixed: bool):
        self.num_steps, self.image_size, self.mixed = num_steps, image_size, mixed
        self._local = threading.local()

    def __call__(self, task: str, seed: int) -> Episode:
        local = self._local
        if not hasattr(local, "sims"):
            local.sims, local.artist = {}, Artist(self.image_size)
        if task not in local.sims:
            local.sims[task] = Sim(task)
        sim: Sim = local.sims[task]
        rng = np.random.default_rng([seed, SPEC.tasks.index(task)])
        part = rng.choice(len(MIXTURE), p=[share for share, *_ in MIXTURE]) if self.mixed else 0
        _, quality, jitter, stops = MIXTURE[part]
        acting = int(rng.integers(1, self.num_steps)) if stops else self.num_steps
        expert = ENV_POLICY_MAP[f"{task}-v3"]()
        sim.reset(seed)
        images, states = [local.artist.draw(sim)], [sim.state]
        for step in range(self.num_steps):
            target = led(sim, expert) if step < acting else sim.state
            noise = rng.normal(0, jitter, 3) if step < acting else np.zeros(3)
            states.append(sim.step(target + np.append(noise, 0).astype(np.float32)))
            images.append(local.artist.draw(sim))
        outcome = sim.outcome()
        return Episode(
            task=task,
            instruction=sim.instruction,
            seed=seed,
            images=np.stack(images),
            states=np.stack(states),
            actions=np.stack(states[1:]),
            success=outcome.success,
            event=outcome.event,
            cameras=SPEC.camera_names,
            control_hz=SPEC.control_hz,
            extra={"quality": quality},
        )


def led(sim: Sim, expert: Any) -> np.ndarray:
    """Where Meta-World's expert, which acts at 80 Hz, leads the hand within a control step: a target (4,).

    It is tried, and the arm goes back: the demonstration does what its actions say, as everybody else has to.
    """
    kept = sim.keep()
    action = np.zeros(4)
    for _ in range(INNER_STEPS):
        action = np.clip(expert.get_action(sim.observation), -1, 1)
        sim.inner_step(action)
    target = np.append(sim.data.mocap_pos[0], (action[3] + 1) / 2)
    sim.go_back(kept)
    return target.astype(np.float32)
