"""A world model as a world: the same protocol as the robot, so one rollout loop serves both.

The closed loop in latent space and the controller's clipping. Latents of all frames are kept; each is decoded once, for
the pictures, and never encoded again, so errors of the autoencoder do not add up over chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel
from vlaw_models.worlds import Transition


class ImaginedWorld:
    """A batch of imagined trajectories that begin in recorded first frames. Seeded: same calls, same frames."""

    name = "imagined"

    def __init__(
        self,
        model: WorldModel,
        autoencoder: Autoencoder,
        robot: RobotSpec,
        *,
        sampling_steps: int = 2,
        seed: int = 0,
        clips: bool = True,
    ):
        """`robot`: whose actions are imagined. `clips` False executes them as given, not within its limits.

        Raises VlawError as `check_robot` does.
        """
        check_robot(model, robot)
        self.model, self.autoencoder, self.robot = model.eval(), autoencoder.eval(), robot
        self.sampling_steps, self.clips = sampling_steps, clips
        self.image_size = model.latent_shape[2] * autoencoder.factor
        self._generator = torch.Generator().manual_seed(seed)
        self._instructions: list[str] = []
        self._latents: list[torch.Tensor] = []
        self._poses: list[np.ndarray] = []
        self._text: torch.Tensor | None = None

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Begins at the starts' recorded frames. Raises VlawError for a start without frame or state, or a misfit."""
        frames, states = [], []
        for start in starts:
            if start.images is None or start.state is None:
                raise VlawError(
                    "an imagined rollout needs a recorded first frame and state",
                    where=f"start {start.seed} of {start.task}",
                    remedy="Take the start from a real episode.",
                )
            frames.append(start.images)
            states.append(start.state)
        images, state = np.stack(frames), np.stack(states).astype(np.float32)
        known = [start.latents for start in starts if start.latents is not None]
        latents = (
            torch.from_numpy(np.stack(known)).float() if len(known) == len(starts) else self.autoencoder.encode(images)
        )
        if tuple(latents.shape[1:]) != tuple(self.model.latent_shape) or state.shape[1] != self.model.pose_dim:
            raise VlawError(
                f"first frames give latents {tuple(latents.shape[1:])} and states of {state.shape[1]} numbers; "
                f"the world model takes {tuple(self.model.latent_shape)} and {self.model.pose_dim}",
                where="imagined world",
                remedy="Use a world model and an autoencoder that were trained for this robot.",
            )
        self._latents, self._poses = [latents.to(self.model.device)], [state]
        self._instructions = [start.instruction for start in starts]
        self._text = self.model.embed_text(self._instructions)
        return Observation(images, state)

    def instructions(self) -> list[str]:
        return list(self._instructions)

    def step(self, actions: np.ndarray) -> Transition:
        """Executes a chunk of absolute pose targets (B, H, A); any H, in pieces of the model's own chunk length."""
        first = len(self._latents)
        for action in np.asarray(actions, dtype=np.float32).swapaxes(0, 1):
            self._poses.append(self.robot.clip(self._poses[-1], action) if self.clips else action)
        executed = np.stack(self._poses[first:], axis=1)
        while len(self._latents) < len(self._poses):
            self._imagine_chunk()
        images = self.autoencoder.decode(torch.stack(self._latents[first:], dim=1), self.model.views)
        return Transition(images, executed, executed.copy())

    def outcomes(self) -> list[Outcome] | None:
        """None: a world model does not know whether a task succeeded; the reward model judges."""
        return None

    def _imagine_chunk(self) -> None:
        now = len(self._latents) - 1
        before, after = self.model.offsets()
        past = [max(now - offset, 0) for offset in before]
        # A last chunk that is too short is imagined as if the last pose were held, and its surplus dropped.
        coming = [min(now + offset, len(self._poses) - 1) for offset in after]
        poses = torch.from_numpy(np.stack([self._poses[i] for i in past + coming], axis=1)).to(self.model.device)
        context = torch.stack([self._latents[i] for i in past], dim=1)
        text = None if self._text is None else self._text.to(self.model.device)
        frames = edm.sample(
            self.model, Condition(context, poses, text), steps=self.sampling_steps, generator=self._generator
        )
        wanted = len(self._poses) - len(self._latents)
        self._latents += list(frames[:, :wanted].unbind(1))


def check_robot(model: WorldModel, robot: RobotSpec) -> None:
    """Raises VlawError for a world model that was made for a robot of other poses or cameras."""
    if (len(robot.action), len(robot.cameras)) != (model.pose_dim, model.views):
        raise VlawError(
            f"the world model was made for poses of {model.pose_dim} numbers and {model.views} cameras; robot "
            f"{robot.name!r} has {len(robot.action)} and {len(robot.cameras)}",
            where="imagined world",
            remedy="Use a world model that was trained for this robot.",
        )


def batch_seeds(seed: int, begin: int) -> tuple[int, int]:
    """Seeds of the world's and the policy's noise for the batch that begins at index `begin`."""
    world, policy = np.random.SeedSequence([seed, begin]).generate_state(2, np.uint32)
    return int(world), int(policy)
