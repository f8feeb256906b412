"""The simulator of Meta-World's arm (robots/simulator.py says what each method is for). Meta-World and MuJoCo are
imported when something is simulated, not before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from vlaw_models.errors import VlawError
from vlaw_models.robots.opengl import no_opengl, opengl_name
from vlaw_models.robots.simulator import no_pairs

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Outcome, Start
    from vlaw_models.robots.metaworld.scene import Sim
    from vlaw_models.robots.metaworld.world import MetaWorld
    from vlaw_models.robots.simulator import Demonstrator, PairMaker, Player, Simulator


class MetaWorldSimulator:
    """Meta-World 3 on the CPU; pictures by OpenGL."""

    environments: ClassVar[Mapping[str, str]] = {}
    """Meta-World registers its own."""

    def renderer(self) -> str:
        return opengl_name()

    def world(self, image_size: int | None = None, *, inner_frames: bool = True) -> MetaWorld:
        with _extra():
            from vlaw_models.robots.metaworld.world import IMAGE_SIZE, MetaWorld

        return MetaWorld(image_size or IMAGE_SIZE, inner_frames=inner_frames)

    def demonstrator(
        self, *, num_steps: int, image_size: int | None = None, mixed: bool = False, points: bool = False
    ) -> Demonstrator:
        if points:
            raise VlawError(
                "Meta-World does not say where in the pictures the things are",
                where="robot 'metaworld'",
                remedy="Pretrain on the embedded robot, or without points.",
            )
        with _extra():
            from vlaw_models.robots.metaworld.world import IMAGE_SIZE, Demonstrator

        return Demonstrator(num_steps, image_size or IMAGE_SIZE, mixed=mixed)

    def near_success(self, *, num_steps: int, image_size: int | None = None, points: bool = False) -> PairMaker:
        """None are made for Meta-World."""
        raise no_pairs("metaworld")

    def player(self) -> Player:
        with _extra():
            from vlaw_models.robots.metaworld.scene import Sim

        sims: dict[str, Sim] = {}

        def play(start: Start, actions: np.ndarray) -> Outcome:
            if start.task not in sims:
                sims[start.task] = Sim(start.task)
            sim = sims[start.task]
            sim.reset(start.seed)
            for action in actions:
                sim.step(action)
            return sim.outcome()

        return play


@contextmanager
def _extra() -> Iterator[None]:
    """Raises VlawError where Meta-World is not installed, or MuJoCo refuses the OpenGL that is named."""
    opengl_name()
    try:
        yield
    except ImportError as error:
        raise VlawError(
            f"Meta-World cannot be imported: {error}",
            where="robot 'metaworld'",
            remedy="pip install 'vlaw[metaworld]'",
        ) from error
    except AttributeError as error:  # PyOpenGL's, where the library of MUJOCO_GL is not there
        raise no_opengl(error) from error


SIMULATOR: Simulator = MetaWorldSimulator()
