"""Opening a book: "open the red book cover", one of four books lying closed on the table.

Success (paper, Appendix B): the front cover is opened beyond a given angle and remains open at the end.
The hinge has dry friction of half the cover's weight: a cover let go below about 60 degrees falls shut, between 60 and
120 degrees it stays half open, beyond that it falls open. So an outcome is one of three pictures, not a matter of
a few pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from vlaw_models.episodes import Outcome
from vlaw_models.robots.tabletop.scene import Sim, compile_scene
from vlaw_models.robots.tabletop.tasks.base import Target, Task, Waypoint


@dataclass(frozen=True)
class Book:
    """Size of one book, metres. The hinge is its right edge (+x), the cover overhangs the left one by `_LIP`."""

    rgb: tuple[float, float, float]
    length: float
    """Of the cover, from the hinge."""
    half_width: float
    thickness: float


BOOKS = {
    "red": Book((0.85, 0.10, 0.10), 0.110, 0.062, 0.038),
    "blue": Book((0.10, 0.22, 0.85), 0.102, 0.055, 0.041),
    "green": Book((0.08, 0.58, 0.18), 0.115, 0.055, 0.036),
    "purple": Book((0.52, 0.10, 0.62), 0.106, 0.066, 0.039),
}
OPEN_ANGLE = np.deg2rad(125.0)
HALF_OPEN_ANGLE = np.deg2rad(30.0)
_LIP = 0.030
"""What the cover overhangs the pages, so that a fingertip fits under it."""
_HALF_COVER = 0.004
_COVER_MASS = 0.06
_RANGE = 192.0
"""Degrees at which the open cover's edge rests on the table."""
_PARKED = "0 0 -20"
"""The other books: straight below, further than the cameras see (10 m)."""
_PITCH = -1.2
"""Of the hand while the finger goes under the lip: nearly flat, the palm on the far side of the lip."""


def _mjcf(name: str, book: Book) -> str:
    r, g, b = book.rgb
    pale = " ".join(f"{0.45 + 0.55 * c:.3f}" for c in book.rgb)
    pages = (book.length - _LIP) / 2
    half = book.thickness / 2
    lines = "".join(
        f'<geom class="visual" type="box" size="0.004 {0.7 * book.half_width} 0.0006" '
        f'pos="{-pages + shift} 0 {book.thickness}" rgba="0.2 0.2 0.25 1"/>'
        for shift in (-0.018, 0.018)
    )
    friction = 0.5 * _COVER_MASS * 9.81 * book.length / 2
    return f"""
    <body name="{name}" pos="{_PARKED}">
      <geom type="box" size="{pages + 0.003} {book.half_width} 0.004" pos="{-pages} 0 0.004" rgba="{r} {g} {b} 1"/>
      <geom name="{name}_pages" type="box" size="{pages} {book.half_width - 0.004} {half - 0.002}"
            pos="{-pages} 0 {half + 0.002}" rgba="0.98 0.98 0.98 1"/>
      {lines}
      <body name="{name}_cover" pos="0 0 {book.thickness + 0.002}">
        <joint name="{name}_hinge" type="hinge" axis="0 1 0" range="0 {_RANGE}" limited="true" damping="0.004"
               frictionloss="{friction}" armature="0.0002"/>
        <geom name="{name}_cover" type="box" size="{book.length / 2} {book.half_width} {_HALF_COVER}"
              pos="{-book.length / 2} 0 {_HALF_COVER}" rgba="{r} {g} {b} 1" mass="{_COVER_MASS}"/>
        <geom class="visual" type="box" size="{book.length / 2 - 0.006} {book.half_width - 0.006} 0.001"
              pos="{-book.length / 2} 0 0" rgba="{pale} 1"/>
      </body>
    </body>"""


class OpenBook(Task):
    """Lift the cover by its lip and turn it over."""

    name = "book"
    stream = 2
    home = np.array([-0.14, 0.0, 0.20, 0.0, 1.0], dtype=np.float32)

    def compile(self) -> mujoco.MjModel:
        # The hinge's range stops the cover, not its contact with the pages and the table.
        exclude = "".join(
            f'<exclude body1="{name}_cover" body2="{name}"/><exclude body1="{name}_cover" body2="world"/>'
            for name in BOOKS
        )
        bodies = "".join(_mjcf(name, book) for name, book in BOOKS.items())
        return compile_scene(bodies=bodies, extra=f"<contact>{exclude}</contact>")

    def reset(self, sim: Sim, rng: np.random.Generator) -> str:
        name = list(BOOKS)[rng.integers(len(BOOKS))]
        # Left of the book the hand needs room, right of it the open cover.
        sim.model.body(name).pos[:] = [rng.uniform(-0.02, 0.06), rng.uniform(-0.10, 0.10), 0.0]
        sim.memory.update(book=name, widest=0.0)
        return f"open the {name} book cover"

    def angle(self, sim: Sim) -> float:
        """How far the cover is open, radians; 0 closed."""
        return float(sim.data.joint(f"{sim.memory['book']}_hinge").qpos[0])

    def update(self, sim: Sim) -> None:
        sim.memory["widest"] = max(sim.memory["widest"], self.angle(sim))

    def outcome(self, sim: Sim) -> Outcome:
        if self.angle(sim) > OPEN_ANGLE:
            return Outcome(success=True, event="success")
        return Outcome(success=False, event="half_open" if sim.memory["widest"] > HALF_OPEN_ANGLE else "not_opened")

    def distance(self, sim: Sim) -> float:
        """Radians that the cover has still to be opened."""
        return max(float(OPEN_ANGLE) - self.angle(sim), 0.0)

    def mistake_shift(self, mistake: str, rng: np.random.Generator) -> np.ndarray:
        if mistake == "last":  # lets go before the cover falls open by itself
            return np.array([rng.uniform(-0.10, -0.055), rng.uniform(-0.03, 0.03)])
        kind = rng.integers(3)
        if kind == 0:  # in front of the lip
            return np.array([rng.uniform(-0.09, -0.06), rng.uniform(-0.03, 0.03)])
        if kind == 1:  # down on the cover
            return np.array([rng.uniform(0.05, 0.08), rng.uniform(-0.03, 0.03)])
        return np.array([rng.uniform(-0.02, 0.02), rng.choice([-1.0, 1.0]) * rng.uniform(0.09, 0.11)])  # beside it

    def points(self, sim: Sim) -> np.ndarray:
        name = sim.memory["book"]
        cover = sim.data.body(f"{name}_cover")
        lip = cover.xpos + cover.xmat.reshape(3, 3) @ np.array([-BOOKS[name].length, 0.0, 0.0])
        return np.stack([lip, cover.xpos])

    def waypoints(self, sim: Sim) -> list[Waypoint]:
        book = BOOKS[sim.memory["book"]]
        hinge = sim.body(sim.memory["book"]) + np.array([0.0, 0.0, book.thickness])
        under = np.array([hinge[0] - book.length + 0.006, hinge[1], 0.019])

        def at(x: float, z: float, pitch: float = _PITCH) -> Target:
            return lambda _sim: np.array([under[0] + x, under[1], z, pitch])

        def turned(angle: float, inward: float = 0.0) -> Target:
            """The hand as if it were fixed to a cover opened by `angle`, `inward` metres nearer to the hinge."""
            dx, dz = under[0] - hinge[0] + inward, under[2] - hinge[2]
            x, z = np.cos(angle) * dx + np.sin(angle) * dz, np.cos(angle) * dz - np.sin(angle) * dx
            pose = np.array([hinge[0] + x, hinge[1], hinge[2] + z, min(_PITCH + angle, 0.35)])
            return lambda _sim: pose

        return [
            Waypoint(at(-0.045, 0.09), 1.0, group="first"),
            Waypoint(at(-0.045, under[2]), 1.0, group="first", speed=0.8),
            Waypoint(at(0.0, under[2]), 1.0, group="first", speed=0.6),
            Waypoint(turned(0.35), 1.0, group="first", speed=0.7),
            Waypoint(turned(0.8), 1.0, group="first", speed=0.8),
            Waypoint(turned(1.3), 1.0, group="first", speed=0.8),
            Waypoint(turned(2.1), 1.0, hold=1, group="last", speed=0.8),
            Waypoint(lambda s: np.array([s.state[0] - 0.03, s.state[1], 0.20, 0.0]), 1.0),
        ]
