"""What simulates a robot: worlds for policies, scripted demonstrations, the true outcome of recorded actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from vlaw_models.errors import VlawError
from vlaw_models.registry import attribute_of

if TYPE_CHECKING:
    import numpy as np

    from vlaw_models.episodes import Episode, Outcome, Start
    from vlaw_models.robots.spec import RobotSpec
    from vlaw_models.worlds import World

Demonstrator = Callable[[str, int], "Episode"]
"""(task, seed of the layout) -> one scripted episode with its true outcome. Several threads may call it at once."""
PairMaker = Callable[[str, int], "tuple[Episode, Episode] | None"]
"""(task, seed of the layout) -> the expert's success, and the same perturbed just enough to fail; None where this
layout gives no such pair. Several threads may call it at once."""
Player = Callable[["Start", "np.ndarray"], "Outcome"]
"""(start, actions (T, A)) -> how they end, physics only. For one thread."""


class Simulator(Protocol):
    """What a RobotSpec's `simulator` names. Importing its module and asking for `renderer` is cheap: the identity of
    what it makes is known before anything is simulated."""

    @property
    def environments(self) -> Mapping[str, str]:
        """Gymnasium id -> task, see gym.py."""
        ...

    def renderer(self) -> str:
        """What draws the pictures: part of the identity of whatever holds them. VlawError where it is misspelt."""
        ...

    def world(self, image_size: int | None = None, *, inner_frames: bool = True) -> World:
        """Simulated robots with square pictures of `image_size` pixels; None: the simulator's own size.

        `inner_frames` False: pictures only at the end of a chunk; its other frames repeat the last one.
        """
        ...

    def demonstrator(
        self, *, num_steps: int, image_size: int | None = None, mixed: bool = False, points: bool = False
    ) -> Demonstrator:
        """A scripted expert. `mixed`: of mixed quality, extra['quality'] names which; else careful throughout.

        `points`: extra['points'] (T+1, V, P, 2) says where in the pictures the things are that the instruction is
        about, as a share of the picture.
        """
        ...

    def near_success(self, *, num_steps: int, image_size: int | None = None, points: bool = False) -> PairMaker:
        """Pairs of success and near-success; `extra` of the latter says what was perturbed by how much. Raises
        VlawError where this simulator makes none."""
        ...

    def player(self) -> Player:
        """Plays recorded actions from recorded starts."""
        ...


def simulator_of(robot: RobotSpec, *, needed_by: str, remedy: str) -> Simulator:
    """What simulates `robot`. Raises VlawError where nothing does, naming what needed it (a stage, a recipe's key)."""
    if not robot.simulator:
        raise VlawError(f"{needed_by} needs a simulator; robot {robot.name!r} has none", where=needed_by, remedy=remedy)
    try:
        return attribute_of(robot.simulator)
    except (ImportError, AttributeError) as error:
        raise VlawError(
            f"the simulator of robot {robot.name!r} cannot be loaded: {error}",
            where=f"{needed_by}, {robot.simulator}",
            remedy="Install what it needs, or mend `simulator` of the RobotSpec.",
        ) from error


def no_pairs(robot: str) -> VlawError:
    """The error of a simulator that makes no pairs of success and near-success."""
    return VlawError(
        f"the simulator of robot {robot!r} makes no near-success data",
        where="near_success",
        remedy="Set near_success_per_task = 0 in foundation.toml, or near_success = 'recorded:NAME'.",
    )
