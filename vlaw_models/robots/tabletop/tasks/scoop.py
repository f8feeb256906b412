"""Scooping: "transfer some candies to the bowl", with a scoop that the gripper holds from the start.

Success (paper, Appendix B): at least a minimum of the snacks lies in the bowl, and more of those that left the heap are
inside the bowl than spilled outside. The scoop is part of the hand: picking it up first would not fit an episode. Its
place at the start is random, as are the bowl's and the heap's.

The snacks lie against a fixed backstop; driving the scoop forward under them gathers them. All kinds are capsules
(a candy is one of length zero), because capsules collide by formula and one scene then serves the three kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.scene import Sim, compile_scene
from vlaw_models.robots.tabletop.tasks.base import Target, Task, Waypoint


@dataclass(frozen=True)
class Snack:
    """How one kind of snack looks: capsule `radius` and half `length` between its caps, metres."""

    radius: float
    length: float
    rgb: tuple[float, float, float]


SNACKS = {
    "peanuts": Snack(0.0140, 0.006, (0.98, 0.62, 0.10)),
    "candies": Snack(0.0170, 0.0, (0.95, 0.08, 0.35)),
    "almonds": Snack(0.0155, 0.004, (0.38, 0.16, 0.04)),
}
COUNT = 4
MINIMUM = 2
"""Snacks that must be in the bowl."""
BOWL = 0.056
"""Half the inner width of the bowl, metres."""
BOWL_WALL = 0.034
"""Height of the bowl's walls, metres."""
_SNACKS = [f"snack_{i}" for i in range(COUNT)]
_LIP = 0.088
"""The scoop's front edge, metres in front of the pinch point."""
_FLOOR = -0.020
"""Underside of the scoop's floor in the hand's frame, metres."""
_SIDE = 0.045
"""Half the inner width of the scoop, metres."""
_MOVED = 0.06
"""A snack farther than this from where it lay has left the heap, metres."""
_LIFTED = 0.045
"""A snack in the scoop above this height has been picked up, metres."""
_WALL = 0.006
"""Half the thickness of the backstop, metres."""


class Scoop(Task):
    """Gather snacks with a scoop and pour them into a bowl.

    Events: 'missed' (none was ever picked up), 'not_poured' (still in the scoop), 'spilled' (some lie outside the
    bowl), 'too_few' (too few reached the bowl, the others still lie at the heap).
    """

    name = "scoop"
    stream = 4
    home = np.array([-0.06, 0.0, 0.14, 0.0, 1.0], dtype=np.float32)
    # The bowl and the scoop are wide: a smaller error would often still succeed.
    mistake_offset = (0.08, 0.10)

    def compile(self) -> mujoco.MjModel:
        # Compiled at the largest size of any kind: the bounding volumes then hold whatever reset() chooses.
        radius = max(kind.radius for kind in SNACKS.values())
        length = max(kind.length for kind in SNACKS.values())
        snacks = "".join(
            f'<body name="{name}" pos="{0.05 * i} 0.1 {radius}">'
            f'<joint name="{name}" type="free" damping="0.00006"/>'
            f'<geom name="{name}" type="capsule" size="{radius} {length}" mass="0.012" priority="1" solref="0.02 1"'
            f' friction="0.35 0.004 0.001"/></body>'
            for i, name in enumerate(_SNACKS)
        )
        side, half = BOWL + 0.004, BOWL_WALL / 2
        bowl = 'type="box" rgba="0.10 0.30 0.90 1"'
        bodies = f"""
          {snacks}
          <body name="bowl">
            <geom name="bowl_floor" type="box" size="{side} {side} 0.001" pos="0 0 0.001" rgba="0.55 0.75 0.98 1"/>
            <geom {bowl} size="0.004 {side + 0.004} {half}" pos="{side} 0 {half}"/>
            <geom {bowl} size="0.004 {side + 0.004} {half}" pos="{-side} 0 {half}"/>
            <geom {bowl} size="{side} 0.004 {half}" pos="0 {side} {half}"/>
            <geom {bowl} size="{side} 0.004 {half}" pos="0 {-side} {half}"/>
          </body>
          <body name="backstop">
            <geom type="box" size="{_WALL} 0.060 0.014" pos="0 0 0.014" rgba="0.50 0.20 0.62 1"/>
          </body>"""
        scoop = 'type="box" rgba="0.10 0.68 0.25 1" mass="0.01" friction="0.2 0.005 0.001" priority="1"'
        middle, long = (0.013 + _LIP) / 2, (_LIP - 0.013) / 2
        hand = f"""
          <geom name="scoop_floor" {scoop} size="{long} {_SIDE} 0.0012" pos="{middle} 0 {_FLOOR + 0.0012}"/>
          <geom name="scoop_back" {scoop} size="0.002 {_SIDE} 0.015" pos="0.015 0 {_FLOOR + 0.015}"/>
          <geom name="scoop_left" {scoop} size="{long} 0.002 0.012" pos="{middle} {_SIDE} {_FLOOR + 0.012}"/>
          <geom name="scoop_right" {scoop} size="{long} 0.002 0.012" pos="{middle} {-_SIDE} {_FLOOR + 0.012}"/>"""
        # Speed, not looks: the closed fingers rest on their joint limits, and pyramidal cones solve a full scoop
        # faster.
        extra = '<option cone="pyramidal"/><contact><exclude body1="left" body2="right"/></contact>'
        model = compile_scene(bodies=bodies, hand=hand, extra=extra)
        for name in _SNACKS:
            # A joint has one damping: this one is for rolling. Drag on the three translations is set apart; it keeps
            # a snack that was squeezed away inside the pictures.
            first = model.joint(name).dofadr[0]
            model.dof_damping[first : first + 3] = 0.05
        return model

    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        kind = str(rng.choice(list(SNACKS)))
        side = rng.choice([-1.0, 1.0])
        heap = np.array([rng.uniform(0.06, 0.12), side * rng.uniform(0.07, 0.115)])
        bowl = np.array([rng.uniform(-0.06, 0.09), -side * rng.uniform(0.07, 0.115)])
        sim.model.body("backstop").pos[:2] = heap
        sim.model.body("bowl").pos[:2] = bowl
        look = SNACKS[kind]
        places = _heap(rng, look) + heap
        for name, place in zip(_SNACKS, places, strict=True):
            sim.model.geom(name).size[:2] = look.radius, look.length
            sim.paint(name, look.rgb)
            sim.place(name, np.array([*place, look.radius]))
            # The capsule's axis stands upright in its own frame; lay it down along y.
            sim.data.joint(name).qpos[3:] = np.sqrt(0.5) * np.array([1.0, -1.0, 0.0, 0.0])
        start = np.array([rng.uniform(-0.12, 0.0), rng.uniform(-0.1, 0.1), rng.uniform(0.12, 0.16), 0.0, 1.0])
        sim.state = start.astype(np.float32)
        for joint, value in zip(("x", "y", "z", "pitch"), sim.state, strict=False):
            sim.data.joint(joint).qpos[0] = value
        sim.data.ctrl[:4] = sim.state[:4]
        sim.memory.update(kind=kind, heap=heap.tolist(), bowl=bowl.tolist(), places=places.tolist(), lifted=0)
        return f"transfer some {kind} to the bowl"

    def update(self, sim: Sim) -> None:
        spots = _spots(sim)
        lifted = spots[:, 2] > _LIFTED
        if lifted.any():
            sim.memory["lifted"] = max(sim.memory["lifted"], int((lifted & _in_scoop(sim, spots)).sum()))

    def _where(self, sim: Sim) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(COUNT,) bool each: which snacks are inside the bowl, spilled, and still in the scoop."""
        spots = _spots(sim)
        carried = _in_scoop(sim, spots)
        inside = (np.abs(spots[:, :2] - sim.memory["bowl"]) < BOWL).all(1) & (spots[:, 2] < BOWL_WALL + 0.02) & ~carried
        moved = np.linalg.norm(spots[:, :2] - sim.memory["places"], axis=1) > _MOVED
        return inside, moved & ~inside & ~carried, carried

    def outcome(self, sim: Sim) -> Outcome:
        inside, spilled, carried = self._where(sim)
        if inside.sum() >= MINIMUM and inside.sum() > spilled.sum():
            return Outcome(success=True, event="success")
        if sim.memory["lifted"] == 0:
            return Outcome(success=False, event="missed")
        if carried.sum() > spilled.sum():
            return Outcome(success=False, event="not_poured")
        return Outcome(success=False, event="spilled" if spilled.any() else "too_few")

    def distance(self, sim: Sim) -> float:
        """Metres from the bowl's inside, summed over the nearest snacks: as many as have still to be put there."""
        inside, spilled, _ = self._where(sim)
        spots = _spots(sim)
        aside = np.maximum(np.abs(spots[:, :2] - sim.memory["bowl"]) - BOWL, 0.0)
        away = np.hypot(np.linalg.norm(aside, axis=1), np.maximum(spots[:, 2] - BOWL_WALL - 0.02, 0.0))
        order = np.argsort(np.where(inside, -1.0, away))
        for count in range(MINIMUM, COUNT):
            if count > spilled[order[count:]].sum():
                break
        else:
            count = COUNT
        return float(away[order[:count]].sum())

    def points(self, sim: Sim) -> np.ndarray:
        return np.stack([_spots(sim).mean(0), [*sim.memory["bowl"], 0.0]])

    def waypoints(self, sim: Sim) -> list[Waypoint]:
        heap, bowl = np.array(sim.memory["heap"]), np.array(sim.memory["bowl"])

        def at(x: float, y: float, z: float, pitch: float) -> Target:
            return lambda _sim: np.array([x, y, z, pitch])

        nose = 0.10  # The lip touches the table first and slides under the snacks.
        low = -_FLOOR + np.sin(nose) * _LIP + 0.001
        before = heap[0] - _LIP - 0.088
        against = heap[0] - _WALL - _LIP - 0.003
        pour = bowl[0] - 0.075
        return [
            Waypoint(at(before, heap[1], 0.09, nose), 1.0, group="first"),
            Waypoint(at(before, heap[1], low, nose), 1.0, group="first"),
            Waypoint(at(against, heap[1], low, nose), 1.0, hold=1, group="first"),
            Waypoint(at(against, heap[1], 0.06, -0.4), 1.0, group="first"),
            Waypoint(at(pour, bowl[1], 0.13, -0.4), 1.0, group="last"),
            Waypoint(at(pour, bowl[1], 0.13, 1.1), 1.0, hold=2, group="last"),
            Waypoint(at(pour - 0.04, bowl[1], 0.16, 0.6), 1.0, group="last"),
        ]


def _heap(rng: np.random.Generator, look: Snack) -> np.ndarray:
    """(COUNT, 2) places of the snacks relative to the backstop's centre: two rows of two, loosely laid."""
    row = np.array([-_WALL - look.radius - 0.002, -_WALL - 3 * look.radius - 0.006])
    column = np.array([-1.0, 1.0]) * (look.radius + look.length + 0.002)
    grid = np.array([[x, y] for x in row for y in column])
    grid = grid[:COUNT]
    return grid + rng.uniform(-0.002, 0.002, grid.shape)


def _spots(sim: Sim) -> np.ndarray:
    """(COUNT, 3) world positions of the snacks, metres."""
    first = sim.model.body(_SNACKS[0]).id
    return sim.data.xpos[first : first + COUNT]


def _in_scoop(sim: Sim, spots: np.ndarray) -> np.ndarray:
    """(COUNT,) bool: which of the snacks at `spots` lie between the scoop's walls."""
    hand = sim.data.body("hand")
    local = (spots - hand.xpos) @ hand.xmat.reshape(3, 3)
    return (np.abs(local - [0.05, 0.0, 0.005]) < [0.045, _SIDE, 0.025]).all(1)
