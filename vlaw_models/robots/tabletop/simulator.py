"""The simulator of the embedded robot (robots/simulator.py says what each method is for). MuJoCo is imported when
something is simulated, not before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from vlaw_models.robots.tabletop.renderer import renderer_name

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Outcome, Start
    from vlaw_models.robots.simulator import Demonstrator, PairMaker, Player, Simulator
    from vlaw_models.robots.tabletop.scene import Sim
    from vlaw_models.robots.tabletop.world import TabletopWorld


class TabletopSimulator:
    """MuJoCo on the CPU."""

    environments: ClassVar[Mapping[str, str]] = {
        "vlaw/Stack-v0": "stack",
        "vlaw/OpenBook-v0": "book",
        "vlaw/Erase-v0": "erase",
        "vlaw/Scoop-v0": "scoop",
        "vlaw/Draw-v0": "draw",
    }

    def renderer(self) -> str:
        return renderer_name()

    def world(self, image_size: int | None = None, *, inner_frames: bool = True) -> TabletopWorld:
        from vlaw_models.robots.tabletop.world import IMAGE_SIZE, TabletopWorld

        return TabletopWorld(image_size or IMAGE_SIZE, inner_frames=inner_frames)

    def demonstrator(
        self, *, num_steps: int, image_size: int | None = None, mixed: bool = False, points: bool = False
    ) -> Demonstrator:
        from vlaw_models.robots.tabletop.demonstrations import Demonstrator
        from vlaw_models.robots.tabletop.world import IMAGE_SIZE

        return Demonstrator(num_steps, image_size or IMAGE_SIZE, mixed=mixed, points=points)

    def near_success(self, *, num_steps: int, image_size: int | None = None, points: bool = False) -> PairMaker:
        from vlaw_models.robots.tabletop.near_success import NearSuccess
        from vlaw_models.robots.tabletop.world import IMAGE_SIZE

        return NearSuccess(num_steps, image_size or IMAGE_SIZE, points=points)

    def player(self) -> Player:
        from vlaw_models.robots.tabletop.world import make_sim

        sims: dict[str, Sim] = {}

        def play(start: Start, actions: np.ndarray) -> Outcome:
            if start.task not in sims:
                sims[start.task] = make_sim(start.task)
            sim = sims[start.task]
            sim.reset(start.seed)
            for action in actions:
                sim.step(action)
            return sim.task.judged(sim)

        return play


SIMULATOR: Simulator = TabletopSimulator()
