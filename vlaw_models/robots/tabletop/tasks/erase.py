"""Erasing: "erase all marks using a tissue", one to three thick strokes of marker on a whiteboard.

Success (paper, Appendix B): no stroke is left on the whiteboard at the end of the episode.
The tissue is in the hand from the start. Contact decides: a piece of a stroke goes when the pad touches the board
and covers that piece; hovering over it does nothing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import mujoco
import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.scene import Sim, compile_scene
from vlaw_models.robots.tabletop.tasks.base import Target, Task, Waypoint

COLOURS = {
    "red": (0.88, 0.08, 0.08),
    "blue": (0.08, 0.18, 0.88),
    "green": (0.05, 0.58, 0.15),
    "black": (0.05, 0.05, 0.06),
}
MARKS = 3
"""Strokes in the scene; an episode shows one to all of them."""
PIECES = 3
"""Pieces of one stroke, each erased as a whole: 2.5 x 3.2 cm, 3 x 4 px at 64 px."""
PIECE = np.array([0.0125, 0.016])
PAD = np.array([0.0275, 0.0275, 0.013])
"""Half sizes of the tissue pad, metres; its lower face is 2.6 cm below the pinch point."""
COVER = 0.0245
"""A piece is covered when its centre is within this of the pad's centre along both sides of the pad, metres."""
BOARD = 0.175
BOARD_TOP = 0.003
CONTACT_Z = BOARD_TOP + 2 * PAD[2]
"""Height of the hand at which the pad begins to touch the board."""
PRESS_Z = CONTACT_Z - 0.013
HOVER_Z = CONTACT_Z + 0.035
_REACH = 0.088


class Erase(Task):
    """Wipe every stroke off the board with the pad."""

    name = "erase"
    stream = 3
    home = np.array([0.0, 0.0, 0.15, 0.0, 1.0], dtype=np.float32)

    def compile(self) -> mujoco.MjModel:
        half = BOARD_TOP / 2
        bodies = (
            f'<body name="board" pos="0 0 {half}">'
            f'<geom name="board" type="box" size="{BOARD} {BOARD} {half}" rgba="0.97 0.97 0.97 1"/></body>'
        )
        for mark in range(MARKS):
            pieces = "".join(
                f'<geom name="{_piece(mark, i)}" class="visual" type="box" size="{PIECE[0]} {PIECE[1]} 0.0008"'
                f' pos="{_along(i)} 0 0" rgba="0 0 0 0"/>'
                for i in range(PIECES)
            )
            bodies += f'<body name="mark_{mark}" pos="{0.1 * mark} 0 {BOARD_TOP + 0.0008}">{pieces}</body>'
        hand = (
            f'<geom name="pad" type="box" size="{PAD[0]} {PAD[1]} {PAD[2]}" pos="0 0 {-PAD[2]}" mass="0.02"'
            ' rgba="0.99 0.80 0.25 1" priority="1" friction="0.12 0.001 0.0001" solref="0.02 1" margin="0.001" '
            'gap="0.001"/>'
        )
        return compile_scene(bodies=bodies, hand=hand)

    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        shift = rng.uniform(-0.015, 0.015, 2)
        sim.model.body("board").pos[:2] = shift
        count = int(rng.integers(1, MARKS + 1))
        colours = rng.choice(len(COLOURS), count, replace=False)
        left = []
        for mark, (pose, colour) in enumerate(zip(_strokes(rng, count), colours, strict=True)):
            body = sim.model.body(f"mark_{mark}")
            body.pos[:2] = pose[:2] + shift
            body.quat[:] = [np.cos(pose[2] / 2), 0.0, 0.0, np.sin(pose[2] / 2)]
            for i, spot in enumerate(_spots(pose)):
                sim.paint(_piece(mark, i), list(COLOURS.values())[colour])
                left.append([mark, i, *(float(v) for v in spot + shift)])
        sim.memory.update(left=left, pieces=len(left))
        return "erase all marks using a tissue"

    def update(self, sim: Sim) -> None:
        if not sim.memory["left"] or not sim.touching("pad", "board"):
            return
        pad = sim.data.geom("pad")
        centre, turn = pad.xpos, pad.xmat.reshape(3, 3)
        left = []
        for mark, i, x, y in sim.memory["left"]:
            offset = turn.T @ (np.array([x, y, BOARD_TOP]) - centre)
            # A tilted pad wipes with the edge that is down: the raised side covers nothing.
            if np.all(np.abs(offset[:2]) < COVER) and abs(offset[2] + PAD[2]) < 0.006:
                sim.paint(_piece(mark, i), (0.0, 0.0, 0.0, 0.0))
            else:
                left.append([mark, i, x, y])
        sim.memory["left"] = left

    def outcome(self, sim: Sim) -> Outcome:
        left = len(sim.memory["left"])
        if left == 0:
            return Outcome(success=True, event="success")
        return Outcome(success=False, event="nothing_erased" if left == sim.memory["pieces"] else "mark_left")

    def distance(self, sim: Sim) -> float:
        """Pieces of strokes that are left."""
        return float(len(sim.memory["left"]))

    def points(self, sim: Sim) -> np.ndarray:
        if not sim.memory["left"]:
            return np.full((2, 3), np.nan)
        spots = np.array([[*piece[2:], BOARD_TOP] for piece in sim.memory["left"]])
        distance = np.linalg.norm(spots[:, :2] - sim.state[:2], axis=1)
        return spots[[distance.argmin(), distance.argmax()]]

    def waypoints(self, sim: Sim) -> list[Waypoint]:
        ends = []
        for mark in sorted({piece[0] for piece in sim.memory["left"]}):
            spots = np.array([piece[2:] for piece in sim.memory["left"] if piece[0] == mark])
            # From beyond one end of the stroke to beyond the other.
            out = (spots[-1] - spots[0]) / np.linalg.norm(spots[-1] - spots[0]) * 0.010
            ends.append((spots[0] - out, spots[-1] + out))
        route = _shortest(sim.state[:2], ends)
        plan = []
        for i, (start, end) in enumerate(route):
            group = "first" if i == 0 else "last" if i == len(route) - 1 else ""
            plan += [
                Waypoint(_at(start, HOVER_Z), 1.0, group=group),
                Waypoint(_at(start, PRESS_Z), 1.0, group=group),
                Waypoint(_at(end, PRESS_Z), 1.0, group=group),
            ]
        return [*plan, Waypoint(lambda s: np.array([*s.state[:2], 0.15, 0.0]), 1.0)]

    def mistake_shift(self, mistake: str, rng: np.random.Generator) -> np.ndarray:
        """None: mistakes of this task are made in `spoil`."""
        return np.zeros(2)

    def spoil(self, plan: list[Waypoint], mistake: str, rng: np.random.Generator) -> list[Waypoint]:
        """'first': the first stroke is wiped beside itself or in the air; 'last': the last is left half wiped."""
        if mistake == "last":
            start, end = plan[-3], plan[-2]
            short = rng.uniform(0.0, 0.36)
            half = replace(end, pose=lambda s: start.pose(s) + short * (end.pose(s) - start.pose(s)))
            return [*plan[:-2], half, plan[-1]]
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(*self.mistake_offset)
        aside = size * np.array([np.cos(angle), np.sin(angle), 0.0, 0.0])
        shift = aside if rng.random() < 0.5 else np.array([0.0, 0.0, 0.030, 0.0])
        return [*(_shifted(waypoint, shift) for waypoint in plan[:3]), *plan[3:]]


def _piece(mark: int, i: int) -> str:
    return f"mark_{mark}_{i}"


def _along(i: int) -> float:
    return (i - (PIECES - 1) / 2) * 2 * PIECE[0]


def _spots(pose: np.ndarray) -> np.ndarray:
    """Centres (PIECES, 2) of the pieces of a stroke at (x, y, yaw)."""
    direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
    return pose[:2] + np.array([_along(i) for i in range(PIECES)])[:, None] * direction


def _strokes(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """`count` poses (x, y, yaw), far enough apart that wiping one leaves the others."""
    while True:
        poses = [np.array([*rng.uniform(-_REACH, _REACH, 2), rng.uniform(0, np.pi)]) for _ in range(count)]
        spots = np.stack([_spots(pose) for pose in poses])
        gaps = np.linalg.norm(spots[:, None, :, None] - spots[None, :, None], axis=-1).min((2, 3))
        if (gaps[np.triu_indices(count, 1)] > 0.062).all():
            return poses


def _shortest(start: np.ndarray, ends: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The order and direction of wiping (entry, exit) with the shortest way through the air from `start`."""
    best, best_length = [], np.inf
    for order in permutations(ends):
        for flips in product((False, True), repeat=len(ends)):
            route = [(b, a) if flip else (a, b) for (a, b), flip in zip(order, flips, strict=True)]
            at, length = start, 0.0
            for entry, leave in route:
                length, at = length + float(np.abs(entry - at).max()), leave
            if length < best_length - 1e-9:
                best, best_length = route, length
    return best


def _at(spot: np.ndarray, z: float) -> Target:
    return lambda _sim: np.array([spot[0], spot[1], z, 0.0])


def _shifted(waypoint: Waypoint, shift: np.ndarray) -> Waypoint:
    return replace(waypoint, pose=lambda s: waypoint.pose(s) + shift)
