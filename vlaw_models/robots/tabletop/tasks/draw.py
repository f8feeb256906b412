"""Drawing: "draw a complete circle on the whiteboard with the marker".

Success (paper, Appendix B): one closed curve, visually a complete circle whose ends meet with a small gap, inside the
white drawing region. The marker is in the hand from the start. Contact decides: the tip draws only where it touches
the board, and its trace is a line of thick dots from a fixed pool (MuJoCo cannot add geometry to a running scene).
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import mujoco
import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.scene import Sim, compile_scene
from vlaw_models.robots.tabletop.tasks.base import Target, Task, Waypoint

COLOURS = {
    "red": (0.90, 0.06, 0.06),
    "blue": (0.06, 0.16, 0.90),
    "green": (0.03, 0.55, 0.13),
    "black": (0.04, 0.04, 0.05),
}
DOTS = 42
"""Dots in the pool: 58 cm of line, 1.6 times the expert's circle. A marker that has used them all is dry."""
DOT = 0.011
"""Radius of a dot, metres: a line 3 px wide at 64 px."""
SPACING = 0.014
"""Distance between dots, metres: they overlap into a line, and few of them keep the pictures fast."""
BOARD = 0.115
"""Half the side of the board; its grey rim is 2.5 cm wide."""
REGION = 0.090
"""Half the side of the white drawing region."""
BOARD_TOP = 0.003
TIP = 0.050
"""The marker's tip is this far below the pinch point."""
CONTACT_Z = BOARD_TOP + TIP
PRESS_Z = CONTACT_Z - 0.015
HOVER_Z = CONTACT_Z + 0.035
RADIUS = 0.055
SEGMENTS = 12
GAP = 0.030
"""Largest distance between the ends of a closed curve; the line itself is 2.2 cm wide, so 8 mm of white."""
SWEEP = np.deg2rad(330)
JOIN = 0.022
"""A lift that leaves no white between the dots before and after it does not end the stroke, metres."""
_STEP = 0.003


class Draw(Task):
    """Draw a circle round the board's centre dot."""

    name = "draw"
    stream = 5
    home = np.array([0.0, 0.0, 0.15, 0.0, 1.0], dtype=np.float32)

    def compile(self) -> mujoco.MjModel:
        half = BOARD_TOP / 2
        bodies = (
            f'<body name="board" pos="0 0 {half}">'
            f'<geom name="board" type="box" size="{BOARD} {BOARD} {half}" rgba="0.36 0.42 0.52 1"/>'
            f'<geom name="region" class="visual" type="box" size="{REGION} {REGION} 0.0002" pos="0 0 {half}"'
            ' rgba="0.97 0.97 0.97 1"/>'
            f'<geom name="centre" class="visual" type="cylinder" size="0.011 0.0004" pos="0 0 {half}"'
            ' rgba="0.95 0.55 0.10 1"/></body>'
        )
        bodies += "".join(
            f'<geom name="dot_{i}" class="visual" type="ellipsoid" size="{DOT} {DOT} 0.0015" pos="0 0 -0.1"'
            ' rgba="0 0 0 0"/>'
            for i in range(DOTS)
        )
        hand = (
            '<geom name="marker" class="visual" type="cylinder" size="0.010 0.030" pos="0 0 -0.006"/>'
            f'<geom name="tip" type="sphere" size="0.008" pos="0 0 {0.008 - TIP}" mass="0.01" priority="1"'
            ' friction="0.1 0.001 0.0001" margin="0.001" gap="0.001"/>'
        )
        return compile_scene(bodies=bodies, hand=hand)

    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        centre = rng.uniform(-0.065, 0.065, 2)
        sim.model.body("board").pos[:2] = centre
        colour = list(COLOURS)[rng.integers(len(COLOURS))]
        for geom in ("marker", "tip"):
            sim.paint(geom, COLOURS[colour])
        sim.memory.update(
            centre=[float(v) for v in centre], colour=colour, strokes=[], dots=[], drawing=False, dry=False
        )
        return f"draw a complete circle on the whiteboard with the {colour} marker"

    def update(self, sim: Sim) -> None:
        memory = sim.memory
        if memory["dry"] or not sim.touching("tip", "board"):
            memory["drawing"] = False
            return
        x, y = (float(v) for v in sim.data.geom("tip").xpos[:2])
        strokes = memory["strokes"]
        if not strokes or (not memory["drawing"] and math.dist((x, y), strokes[-1][-1]) > JOIN):
            strokes.append([])
        memory["drawing"] = True
        from_x, from_y = strokes[-1][-1] if strokes[-1] else (x, y)
        # The tip moves up to 2 cm between two looks: the line between them is drawn too.
        count = max(1, math.ceil(math.dist((x, y), (from_x, from_y)) / _STEP))
        for i in range(1, count + 1):
            point = [from_x + i / count * (x - from_x), from_y + i / count * (y - from_y)]
            if not self._ink(sim, point):
                memory["dry"] = True
                return
            strokes[-1].append(point)

    def _ink(self, sim: Sim, point: list[float]) -> bool:
        """Puts a dot at `point` (x, y) unless one is there already; False where the pool is used up."""
        dots = sim.memory["dots"]
        # The latest dot is nearly always the nearest, so looking backwards ends at once.
        if any(math.hypot(x - point[0], y - point[1]) < SPACING for x, y in reversed(dots)):
            return True
        if len(dots) == DOTS:
            return False
        name = f"dot_{len(dots)}"
        dots.append(point)
        place = [*point, BOARD_TOP]
        # A geom of the world itself, not a body of its own: moving it is free and hidden ones cost the cameras nothing.
        # The next physics step would compute the second from the first, but the picture may be taken before it.
        sim.model.geom(name).pos[:] = place
        sim.data.geom(name).xpos[:] = place
        sim.paint(name, COLOURS[sim.memory["colour"]])
        return True

    def outcome(self, sim: Sim) -> Outcome:
        return outcome_of(sim.memory["strokes"], sim.memory["centre"])

    def distance(self, sim: Sim) -> float:
        """What is missing of a closed circle inside the region, as a share of one: see `missing`."""
        return missing(sim.memory["strokes"], sim.memory["centre"])

    def points(self, sim: Sim) -> np.ndarray:
        x, y = sim.memory["centre"]
        return np.array([[x, y, BOARD_TOP], [x + RADIUS, y, BOARD_TOP]])

    def waypoints(self, sim: Sim) -> list[Waypoint]:
        # Always from the same side and counter-clockwise, as one demonstrator would. A little past the start.
        angles = np.linspace(0.0, 2 * np.pi + 0.12, SEGMENTS + 1)
        centre = np.array(sim.memory["centre"])

        def at(angle: float, z: float) -> Target:
            spot = centre + RADIUS * np.array([np.cos(angle), np.sin(angle)])
            return lambda _sim: np.array([*spot, z, 0.0])

        plan = [Waypoint(at(0.0, HOVER_Z), 1.0, group="first"), Waypoint(at(0.0, PRESS_Z), 1.0, group="first")]
        for i, angle in enumerate(angles[1:], start=1):
            group = "first" if i <= 2 else "last" if i > SEGMENTS - 3 else ""
            plan.append(Waypoint(at(angle, PRESS_Z), 1.0, group=group))
        return [*plan, Waypoint(lambda s: np.array([*s.state[:2], 0.18, 0.0]), 1.0)]

    def mistake_shift(self, mistake: str, rng: np.random.Generator) -> np.ndarray:
        """None: mistakes of this task are made in `spoil`."""
        return np.zeros(2)

    def spoil(self, plan: list[Waypoint], mistake: str, rng: np.random.Generator) -> list[Waypoint]:
        """'first': the marker is not pressed, or starts beside the circle; 'last': it stops short of closing."""
        if mistake == "last":
            return [*plan[: -1 - int(rng.integers(2, 7))], plan[-1]]
        if rng.random() < 0.5:
            count, shift = int(rng.integers(5, 12)), np.array([0.0, 0.0, 0.030, 0.0])
        else:
            angle, size = rng.uniform(-0.8, 0.8), rng.uniform(*self.mistake_offset)
            # Away from the centre, since a circle begins on its +x side: outside the white region or off the board.
            count, shift = int(rng.integers(4, 7)), size * np.array([np.cos(angle), np.sin(angle), 0.0, 0.0])
        return [*(_shifted(waypoint, shift) for waypoint in plan[:count]), *plan[count:]]


def outcome_of(strokes: list[list[list[float]]], centre: list[float]) -> Outcome:
    """Judges what was drawn: `strokes` of points (x, y) in drawing order, on a board centred at `centre` (metres)."""
    if not strokes:
        return Outcome(success=False, event="nothing_drawn")
    drawn = np.concatenate([np.array(stroke) for stroke in strokes])
    if np.abs(drawn - np.array(centre)).max() > REGION:
        return Outcome(success=False, event="outside")
    if len(strokes) > 1:
        return Outcome(success=False, event="second_stroke")
    if not closed(drawn):
        return Outcome(success=False, event="open_curve")
    if not is_round(drawn):
        return Outcome(success=False, event="not_round")
    return Outcome(success=True, event="success")


def missing(strokes: list[list[list[float]]], centre: list[float]) -> float:
    """What `outcome_of` misses, 0 to 1, added up: of the way round and of its length; then the gap between the ends (in
    diameters) and unevenness; what lies outside the region (in widths of the rim); gaps between strokes."""
    if not strokes:
        return 1.0
    parts = [np.array(stroke) for stroke in strokes]
    drawn = np.concatenate(parts)
    if len(drawn) < 8:
        return 1.0
    # A short arc goes far round the middle of its bounding box: its length tells.
    length = sum(float(np.linalg.norm(np.diff(part, axis=0), axis=1).sum()) for part in parts)
    way = min(_swept(drawn) / SWEEP, length / (SWEEP * RADIUS))
    lacks = [
        1.0 - way,
        (np.abs(drawn - np.array(centre)).max() - REGION) / (BOARD - REGION),
        sum(float(np.linalg.norm(b[0] - a[-1])) for a, b in pairwise(parts)) / (2 * RADIUS),
    ]
    if way >= 1:
        radius = np.linalg.norm(drawn - _middle(drawn), axis=1)
        lacks += [(_gap(drawn) - GAP) / (2 * RADIUS), radius.std() / radius.mean() - 0.18]
    return min(sum(max(float(lack), 0.0) for lack in lacks), 1.0)


def closed(curve: np.ndarray) -> bool:
    """True where the curve (N, 2) goes all the way round and its end comes back to its beginning within `GAP`."""
    if len(curve) < 8:
        return False
    return _swept(curve) >= SWEEP and _gap(curve) < GAP


def _swept(curve: np.ndarray) -> float:
    """Radians that the curve (N, 2) goes round its middle."""
    offset = curve - _middle(curve)
    return float(np.ptp(np.unwrap(np.arctan2(offset[:, 1], offset[:, 0]))))


def _gap(curve: np.ndarray) -> float:
    """Metres between the beginning and the end of the curve (N, 2)."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    # An end that overshoots the start closes too: compare all of the first with all of the last third.
    head, tail = curve[length <= length[-1] / 3], curve[length >= length[-1] * 2 / 3]
    return float(np.linalg.norm(head[:, None] - tail[None], axis=-1).min())


def is_round(curve: np.ndarray) -> bool:
    """True where the distance from the middle of the curve (N, 2) varies little, and a hole is left inside the line."""
    radius = np.linalg.norm(curve - _middle(curve), axis=1)
    return bool(radius.mean() > 0.028 and radius.std() < 0.18 * radius.mean() and radius.max() < 2.2 * radius.min())


def _middle(curve: np.ndarray) -> np.ndarray:
    """Centre of the curve's bounding box: unlike the mean it does not depend on where the line was drawn twice."""
    return (curve.min(0) + curve.max(0)) / 2


def _shifted(waypoint: Waypoint, shift: np.ndarray) -> Waypoint:
    return replace(waypoint, pose=lambda s: waypoint.pose(s) + shift)
