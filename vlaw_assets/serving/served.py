"""Which policy is served: read from the ledger, its checkpoint verified, fitted to the robot, tried once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlaw_models.errors import VlawError
from vlaw_models.robots.observation import described
from vlaw_models.robots.registry import find_robot
from vlaw_models.robots.spec import RobotSpec

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_assets.recipes.schema import Recipe
    from vlaw_assets.serving.session import Session
    from vlaw_models.policies.base import Policy
    from vlaw_models.robots.observation import Asked

BASE = 0
"""The iteration whose policy is the one that an experiment starts from."""


@dataclass(frozen=True)
class Served:
    """A policy that is ready to be asked."""

    ref: ArtifactRef
    policy: Policy
    robot: RobotSpec
    image_size: tuple[int, int]
    """(height, width) that pictures are resized to."""

    @property
    def policy_class(self) -> str:
        return type(self.policy).__name__

    def check_prompt(self, prompt: str) -> None:
        """Raises VlawError for an instruction with words that the policy has never read: what it then does follows from
        the other words alone."""
        tokenizer = getattr(self.policy, "tokenizer", None)
        unknown = tokenizer.unknown(prompt) if tokenizer is not None else []
        if unknown:
            raise VlawError(
                f"the policy does not know {', '.join(map(repr, unknown[:5]))}",
                where="prompt",
                remedy="Give an instruction in the words that it was trained on.",
            )


def find_policy(lake: Lake, recipe: Recipe, iteration: int, *, despite_quarantine: bool = False) -> ArtifactRef:
    """The policy of an iteration, or the base policy for iteration 0.

    Raises VlawError where the ledger has none, and where it learned from episodes that are in quarantine now, unless
    `despite_quarantine`.
    """
    from vlaw_assets.lake.quarantine import quarantined
    from vlaw_assets.lineage.closure import subject
    from vlaw_assets.lineage.impact import that_reached

    ref = (
        subject(lake, "base_policy", None, None)
        if iteration == BASE
        else subject(lake, "policy", recipe.name, iteration)
    )
    reached = that_reached(lake, ref, quarantined(lake).keys())
    if reached and not despite_quarantine:
        raise VlawError(
            f"{ref.name} learned from {len(reached)} episodes that are in quarantine, {min(reached)} among them",
            where=str(lake.paths.root),
            remedy=f"Make it again without them: vlaw run --experiment {recipe.name}; or serve it all the same with "
            "--despite-quarantine.",
        )
    return ref


def load(lake: Lake, recipe: Recipe, ref: ArtifactRef, image_size: tuple[int, int] | None = None) -> Served:
    """The policy of an artifact, every file of its checkpoint hashed again before it is read.

    `image_size`: (height, width) of the pictures that it was trained on, where it is not the robot's. Raises VlawError
    for a damaged checkpoint, and for a policy or a size that does not fit the recipe's robot.
    """
    from vlaw_models.policies.base import load_policy
    from vlaw_models.robots.spaces import check_acts

    robot = find_robot(recipe.robot)
    policy = load_policy(lake.read(ref).checkpoint())
    check_acts(getattr(policy, "space", None), robot, where=f"{ref.name}, recipe {recipe.name}")
    known = getattr(policy, "image_size", None)
    size = image_size or robot.frame_size or ((known, known) if known else None)
    if size is None or not robot.fits_frame(*size):
        full = robot.frame_size
        raise VlawError(
            "the size of the pictures is not known" if size is None else f"pictures of {size[0]}x{size[1]} pixels",
            where=f"{ref.name}, robot {robot.name!r}",
            remedy=f"Give --image-size, at most {full[0]}x{full[1]} and of that shape."
            if full
            else "Give --image-size.",
        )
    return Served(ref, policy, robot, size)


def blank(robot: RobotSpec, size: tuple[int, int], prompt: str = "wait") -> Asked:
    """An observation to try a policy on: grey pictures, the middle of the state's range."""
    import numpy as np

    from vlaw_models.robots.observation import Asked

    ends = robot.state.scale if robot.state.usual_low or robot.state.low else ((0.0,) * len(robot.state),) * 2
    images = np.full((len(robot.cameras), *size, 3), 128, np.uint8)
    return Asked(images, np.asarray(ends, np.float32).mean(0), prompt, 0)


def metadata(served: Served, session: Session, limits: dict[str, float]) -> dict[str, Any]:
    """What a client is sent first: plain values."""
    robot = served.robot
    return {
        "server": "vlaw",
        "session": session.id,
        "experiment": session.experiment,
        "iteration": session.iteration,
        "policy": {
            "artifact": session.policy,
            "name": session.policy_name,
            "content_sha256": session.policy_content_sha256,
            "class": session.policy_class,
        },
        "robot": robot.name,
        "control_hz": robot.control_hz,
        "observation": described(robot),
        "image_size": list(served.image_size),
        "action": _action(robot, session.execute_steps),
        "noise_scale": session.noise_scale,
        "recorded": session.recorded,
        "limits": limits,
    }


def _action(robot: RobotSpec, execute_steps: int) -> dict[str, Any]:
    """What a client is told of the rows that it gets."""
    if robot.commands_per_step == 1:
        return {
            "names": list(robot.action.names),
            "units": list(robot.action.units),
            "meaning": "absolute targets, one row per control step, as the robot's limits allow them",
            "execute_steps": execute_steps,
        }
    assert robot.commands is not None
    return {
        "names": list(robot.commands.names),
        "units": list(robot.action.units[: len(robot.commands.names)]),
        "meaning": f"{robot.commands.kind}, one row per command at {robot.commands.hz:g} Hz, as the robot's limits "
        "allow them",
        "execute_steps": execute_steps * robot.commands_per_step,
    }
