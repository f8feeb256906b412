"""Stacking: "stack the A block on the B block", four coloured blocks on the table.

Success (paper, Appendix B): A rests on B, not on the table, is released and upright, and stays so.
"""

from __future__ import annotations

import mujoco
import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.scene import Sim, compile_scene
from vlaw_models.robots.tabletop.tasks.base import Target, Task, Waypoint

COLOURS = {
    "red": (0.85, 0.12, 0.10),
    "green": (0.10, 0.62, 0.18),
    "blue": (0.10, 0.22, 0.85),
    "yellow": (0.95, 0.80, 0.08),
}
HALF = 0.026
"""Half the side of a block, metres: 9 px at 64 px, so that the outcome is visible."""
_REACH = 0.125


class Stack(Task):
    """Pick one block and set it on another."""

    name = "stack"
    stream = 1

    def compile(self) -> mujoco.MjModel:
        bodies = "".join(
            f'<body name="{name}" pos="{0.1 * i - 0.15} 0 {HALF}"><freejoint name="{name}"/>'
            f'<geom name="{name}" type="box" size="{HALF} {HALF} {HALF}" mass="0.08" rgba="{r} {g} {b} 1"/></body>'
            for i, (name, (r, g, b)) in enumerate(COLOURS.items())
        )
        return compile_scene(bodies=bodies)

    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        names = list(COLOURS)
        spots = _spots(rng, len(names))
        for name, spot in zip(names, spots, strict=True):
            sim.place(name, np.array([*spot, HALF]), yaw=rng.uniform(-0.15, 0.15))
        top, base = rng.choice(len(names), 2, replace=False)
        sim.memory.update(top=names[top], base=names[base], lifted=False)
        return f"stack the {names[top]} block on the {names[base]} block"

    def update(self, sim: Sim) -> None:
        if sim.body(sim.memory["top"])[2] > HALF + 0.03:
            sim.memory["lifted"] = True

    def outcome(self, sim: Sim) -> Outcome:
        top, base = sim.body(sim.memory["top"]), sim.body(sim.memory["base"])
        upright = abs(sim.data.body(sim.memory["top"]).xmat.reshape(3, 3)[2, 2]) > 0.95
        held = sim.touching(sim.memory["top"], "left_finger") and sim.touching(sim.memory["top"], "right_finger")
        above = abs(top[2] - base[2] - 2 * HALF) < 0.012 and np.linalg.norm(top[:2] - base[:2]) < 1.1 * HALF
        if above and upright and not held:
            return Outcome(success=True, event="success")
        if held:
            return Outcome(success=False, event="not_released")
        return Outcome(success=False, event="toppled" if sim.memory["lifted"] else "missed_grasp")

    def distance(self, sim: Sim) -> float:
        """Metres from the block to its place on the other."""
        place = sim.body(sim.memory["base"]) + np.array([0.0, 0.0, 2 * HALF])
        return float(np.linalg.norm(sim.body(sim.memory["top"]) - place))

    def points(self, sim: Sim) -> np.ndarray:
        return np.stack([sim.body(sim.memory["top"]), sim.body(sim.memory["base"])])

    def waypoints(self, sim: Sim) -> list[Waypoint]:
        top, base = sim.memory["top"], sim.memory["base"]
        grasp = sim.body(top)

        def over(target: np.ndarray, z: float) -> Target:
            return lambda _sim: np.array([target[0], target[1], z, 0.0])

        def onto(z: float) -> Target:
            # Aim the held block, not the hand: a block that slipped in the fingers is still set down centred.
            def pose(s: Sim) -> np.ndarray:
                slip = s.body(top)[:2] - s.state[:2]
                slip = slip if np.linalg.norm(slip) < 0.03 else np.zeros_like(slip)
                return np.array([*(s.body(base)[:2] - slip), z, 0.0])

            return pose

        up = 4 * HALF + 0.05
        return [
            Waypoint(over(grasp, 0.12), 0.0, group="first"),
            Waypoint(over(grasp, HALF), 0.0, group="first"),
            Waypoint(over(grasp, HALF), 1.0, hold=1, group="first"),
            Waypoint(over(grasp, up), 1.0, group="first"),
            Waypoint(onto(up), 1.0, group="last"),
            Waypoint(onto(3 * HALF + 0.006), 1.0, hold=1, group="last", speed=0.7),
            Waypoint(lambda s: s.state[:4].copy(), 0.0, hold=1),
            Waypoint(lambda s: np.array([*s.state[:2], 0.22, 0.0]), 0.0),
        ]


def _spots(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """`count` places on the table, far enough apart for the open fingers to pass between."""
    while True:
        spots = rng.uniform(-_REACH, _REACH, (count, 2))
        gap = np.abs(spots[:, None] - spots[None])
        # Fingers open along y and add 1.8 cm and the opening on each side of a block.
        clear = (gap[..., 1] > 2 * HALF + 0.045) | (gap[..., 0] > 2 * HALF + 0.02)
        if clear[np.triu_indices(count, 1)].all():
            return list(spots)
