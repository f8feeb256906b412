"""The simulator of LIBERO's arm: a client of the process that has LIBERO (server.py). What it needs to know:

VLAW_LIBERO_PYTHON   the Python of an environment with hf-libero (or LIBERO) and msgpack, 3.10 or newer
VLAW_LIBERO_ASSETS   the folder of LIBERO's scene assets (scenes/, articulated_objects/, ...); without it, the one
                     inside its package
MUJOCO_GL            egl or osmesa
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from vlaw_models.errors import VlawError
from vlaw_models.robots.libero.spec import SPEC
from vlaw_models.robots.opengl import REMEDY, VARIABLE, opengl_name

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Outcome, Start
    from vlaw_models.robots.process import ProcessWorld
    from vlaw_models.robots.simulator import Demonstrator, Player, Simulator

PYTHON, ASSETS = "VLAW_LIBERO_PYTHON", "VLAW_LIBERO_ASSETS"
IMAGE_SIZE = 128
"""Pixels of the pictures, for policies that do not declare an `image_size`: LIBERO's own."""
INSTALL = (
    "Make an environment of its own (python -m venv libero; libero/bin/pip install hf-libero msgpack), and set "
    f"{PYTHON} to its python."
)
SCENES = f"Set {ASSETS} to the folder of LIBERO's assets (the one with scenes/ and articulated_objects/)."


class LiberoSimulator:
    """LIBERO in a process of its own."""

    environments: ClassVar[Mapping[str, str]] = {}

    def renderer(self) -> str:
        return opengl_name()

    def world(self, image_size: int | None = None, *, inner_frames: bool = True) -> ProcessWorld:
        from vlaw_models.robots.libero import server
        from vlaw_models.robots.process import ProcessWorld, readable_path

        if opengl_name() not in ("egl", "osmesa"):
            raise VlawError("LIBERO draws without a screen", where=f"environment variable {VARIABLE}", remedy=REMEDY)
        python = readable_path(PYTHON, os.environ.get(PYTHON), remedy=INSTALL)
        size = image_size or IMAGE_SIZE
        command = [str(python), server.__file__, str(size), str(int(inner_frames))]
        # Our packages are not for it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYOPENGL_PLATFORM"] = opengl_name()
        if os.environ.get(ASSETS):
            assets = readable_path(ASSETS, os.environ[ASSETS], remedy=SCENES)
            readable_path(ASSETS, str(assets / "scenes"), remedy=SCENES)
            environment[ASSETS] = str(assets.resolve())
        return ProcessWorld(SPEC, command, image_size=size, remedy=INSTALL, environment=environment)

    def demonstrator(
        self, *, num_steps: int, image_size: int | None = None, mixed: bool = False, points: bool = False
    ) -> Demonstrator:
        """LIBERO has none."""
        raise VlawError(
            "LIBERO has no scripted experts",
            where="robot 'libero'",
            remedy="Import its demonstrations (vlaw import lerobot PATH), and set demonstrations = 'recorded:NAME'.",
        )

    def player(self) -> Player:
        world = self.world(16, inner_frames=False)

        def play(start: Start, actions: np.ndarray) -> Outcome:
            world.reset([start])
            world.step(actions[None])
            return world.outcomes()[0]

        return play


SIMULATOR: Simulator = LiberoSimulator()
