"""The simulator of LIBERO's arm: a client of the process that has LIBERO (server.py), found as settings.py says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from vlaw_models.errors import VlawError
from vlaw_models.robots.libero.settings import INSTALL, libero_assets, libero_python, own_environment
from vlaw_models.robots.libero.spec import SPEC
from vlaw_models.robots.opengl import REMEDY, VARIABLE, opengl_name
from vlaw_models.robots.simulator import no_pairs

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Outcome, Start
    from vlaw_models.robots.process import ProcessWorld
    from vlaw_models.robots.simulator import Demonstrator, PairMaker, Player, Simulator

IMAGE_SIZE = 128
"""Pixels of the pictures, for policies that do not declare an `image_size`: LIBERO's own."""


class LiberoSimulator:
    """LIBERO in a process of its own."""

    environments: ClassVar[Mapping[str, str]] = {}

    def renderer(self) -> str:
        return opengl_name()

    def world(self, image_size: int | None = None, *, inner_frames: bool = True) -> ProcessWorld:
        from vlaw_models.robots.libero import server
        from vlaw_models.robots.process import ProcessWorld

        if opengl_name() not in ("egl", "osmesa"):
            raise VlawError("LIBERO draws without a screen", where=f"environment variable {VARIABLE}", remedy=REMEDY)
        size, assets = image_size or IMAGE_SIZE, libero_assets()
        command = [str(libero_python()), server.__file__, str(size), str(int(inner_frames)), str(assets or "")]
        environment = own_environment() | {"PYOPENGL_PLATFORM": opengl_name()}
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

    def near_success(self, *, num_steps: int, image_size: int | None = None, points: bool = False) -> PairMaker:
        """None are made for LIBERO."""
        raise no_pairs("libero")

    def player(self) -> Player:
        world = self.world(16, inner_frames=False)

        def play(start: Start, actions: np.ndarray) -> Outcome:
            world.reset([start])
            world.step(actions[None])
            return world.outcomes()[0]

        return play


SIMULATOR: Simulator = LiberoSimulator()
