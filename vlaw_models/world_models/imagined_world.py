"""A world model as a world: the same protocol as the robot, so one rollout loop serves both.

The closed loop in latent space and the controller's clipping. Latents are kept as long as the model looks back; each is
decoded once, for the pictures, and never encoded again, so errors of the autoencoder do not add up over chunks. Where
frames share latents that cannot be: a chunk is decoded as one, and frames looked at again are encoded as stills.

What is decoded: every frame of an episode, since every frame is kept, the policy looks at the last one of each chunk
that it executes, and judges and people at any; but none of a chunk beyond the steps that were asked for.

Where the world model has heads, the state is what they predict and the reward too; else the state is the commanded
pose. A robot whose state is no pose (joints) moves by its own `motion`: commands become states, states become the poses
that the world model is conditioned in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlaw_models.autoencoders.base import Autoencoder
from vlaw_models.config import Sampling
from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.spaces import check_conditioned
from vlaw_models.robots.spec import RobotSpec
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import ANCHOR, Condition, WorldModel, check_autoencoder
from vlaw_models.worlds import Transition, ended

TWO_STEPS = Sampling(2)


class ImaginedWorld:
    """A batch of imagined trajectories that begin in recorded first frames. Seeded: same calls, same frames."""

    name = "imagined"

    def __init__(
        self,
        model: WorldModel,
        autoencoder: Autoencoder,
        robot: RobotSpec,
        *,
        sampling: Sampling = TWO_STEPS,
        seed: int = 0,
        clips: bool = True,
        done_above: float | None = None,
    ):
        """`robot`: whose actions are imagined. `clips` False: what is executed are states to pass through, taken as
        they are. `done_above`: the predicted reward above which a trajectory has ended.

        Raises VlawError as `check_robot` does, for `done_above` without a reward head, and for an autoencoder that is
        not the world model's.
        """
        check_robot(model, robot)
        check_autoencoder(model, autoencoder, where="imagined world")
        if done_above is not None:
            model.need_heads(needed_by="done_above")
        self.done_above = done_above
        self.model, self.autoencoder, self.robot = model.eval(), autoencoder.eval(), robot
        self.sampling, self.clips = sampling, clips
        self.image_size = model.latent_shape[2] * autoencoder.factor
        self._generator = torch.Generator().manual_seed(seed)
        self._instructions: list[str] = []
        self._latents: list[torch.Tensor | None] = []
        """Of every frame (B, C, V*h, w); None where they are to be encoded from its picture."""
        self._images: list[np.ndarray] = []
        """Of every frame, where frames share latents."""
        self._poses: list[np.ndarray] = []
        """Commanded for every frame, also for those that are not imagined yet: what the model is conditioned in."""
        self._states: list[np.ndarray] = []
        """Poses that were reached: commanded ones, or what the heads predict."""
        self._memory = np.zeros((0, 0))
        """Of the robot's motion, (B, M); of a robot without, nothing."""
        self._rewards: list[np.ndarray] = []
        self._text: torch.Tensor | None = None

    @property
    def picture(self) -> tuple[int, int, int]:
        """(height, width, 3) of the frames that it imagines."""
        _, rows, columns = self.model.latent_shape
        return rows * self.autoencoder.factor // self.model.views, columns * self.autoencoder.factor, 3

    def seed(self, seed: int) -> None:
        """The noise from now on."""
        self._generator.manual_seed(seed)

    def reset(self, starts: Sequence[Start]) -> Observation:
        """Begins at the starts' recorded frames. Raises VlawError for a start without frame or state, or a misfit."""
        first, latents = self._begin(starts)
        self._latents, self._images = [latents], [first.images]
        pose = self.robot.poses(first.state)
        self._poses, self._states, self._rewards = [pose], [pose], [np.zeros(len(starts), np.float32)]
        self._memory = self._begun(first.state)
        self._instructions = [start.instruction for start in starts]
        self._text = self.model.embed_text(self._instructions)
        return first

    @torch.inference_mode()
    def restart(self, rows: Sequence[int], starts: Sequence[Start]) -> Observation:
        """Begins these rows of the batch anew, one start each; the others go on. Returns the first observations of
        `rows`. Raises VlawError as `reset` does."""
        first, latents = self._begin(starts)
        # What a model is shown of the time before a first frame is that frame: here it is all that there was.
        index, pose = torch.tensor(rows, device=latents.device), self.robot.poses(first.state)
        self._latents = [None if one is None else one.index_copy(0, index, latents) for one in self._latents]
        self._memory = self._memory.copy()
        self._memory[rows] = self._begun(first.state)
        for kept, begun in (
            (self._images, first.images),
            (self._poses, pose),
            (self._states, pose),
            (self._rewards, np.float32(0)),
        ):
            kept[:] = [one.copy() for one in kept]
            for one in kept:
                one[rows] = begun
        for row, start in zip(rows, starts, strict=True):
            self._instructions[row] = start.instruction
        self._text = self.model.embed_text(self._instructions)
        return first

    def _begin(self, starts: Sequence[Start]) -> tuple[Observation, torch.Tensor]:
        """The first observations of the starts, and their latents (B, C, V*h, w) on the model's device."""
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
        if tuple(latents.shape[1:]) != tuple(self.model.latent_shape) or state.shape[1] != self._state_dim:
            raise VlawError(
                f"first frames give latents {tuple(latents.shape[1:])} and states of {state.shape[1]} numbers; "
                f"the world model takes {tuple(self.model.latent_shape)} and {self._state_dim}",
                where="imagined world",
                remedy="Use a world model and an autoencoder that were trained for this robot.",
            )
        return Observation(images, state), latents.to(self.model.device)

    def instructions(self) -> list[str]:
        return list(self._instructions)

    @property
    def _state_dim(self) -> int:
        return self.model.pose_dim if self.robot.motion is None else len(self.robot.state)

    def _begun(self, states: np.ndarray) -> np.ndarray:
        motion = self.robot.motion
        return np.zeros((len(states), 0)) if motion is None else motion.begin(states)

    def step(self, actions: np.ndarray) -> Transition:
        """Executes a chunk of actions (B, H, A) of the robot; any H, in pieces of the model's own chunk length."""
        self._forget()
        first = len(self._latents)
        executed, followed = self._follow(np.asarray(actions, dtype=np.float32))
        self._poses += list(self.robot.poses(followed).swapaxes(0, 1))
        while len(self._latents) < len(self._poses):
            self._imagine_chunk()
        states = followed if self.robot.motion else np.stack(self._states[first:], axis=1)
        reward = np.stack(self._rewards[first:], axis=1) if self.model.heads is not None else None
        return Transition(self._pictures(first), states, executed, reward, ended(reward, self.done_above))

    def _follow(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is executed of the actions (B, H, A), and the states (B, H, D) that it leads to."""
        motion = self.robot.motion
        if not self.clips:
            return actions, actions
        if motion is None:
            targets = [self._poses[-1]]
            for action in actions.swapaxes(0, 1):
                targets.append(self.robot.clip(targets[-1], action))
            found = np.stack(targets[1:], axis=1)
            return found, found
        actions = self.robot.clip(self._memory[:, None, :0], actions)
        self._memory, states = motion.follow(self._memory, actions)
        return actions, states

    def keep(self, rows: np.ndarray) -> None:
        """Nothing more is imagined of the other trajectories."""
        index = torch.from_numpy(rows).to(self.model.device)
        self._latents = [None if one is None else one[index] for one in self._latents]
        for kept in (self._images, self._poses, self._states, self._rewards):
            kept[:] = [one[rows] for one in kept]
        self._memory = self._memory[rows]
        self._instructions = [self._instructions[row] for row in rows]
        self._text = None if self._text is None else self._text[index.to(self._text.device)]

    def outcomes(self) -> list[Outcome] | None:
        """None: a world model does not know whether a task succeeded; the reward model judges."""
        return None

    def _forget(self) -> None:
        """Drops what no chunk to come looks back at: all but the first frame and the last ones."""
        before, _ = self.model.offsets()
        looks_back = max((offset for offset in before if offset < ANCHOR), default=0)
        for kept in (self._latents, self._images, self._poses, self._states, self._rewards):
            del kept[1 : -1 - looks_back]

    def _imagine_chunk(self) -> None:
        now = len(self._latents) - 1
        before, after = self.model.offsets()
        past = [max(now - offset, 0) for offset in before]
        # A last chunk that is too short is imagined as if the last pose were held, and its surplus dropped.
        coming = [min(now + offset, len(self._poses) - 1) for offset in after]
        known = [self._states[i] for i in past] + [self._poses[i] for i in coming]
        poses = torch.from_numpy(np.stack(known, axis=1)).to(self.model.device)
        context = torch.stack([self._latent(i) for i in past], dim=1)
        text = None if self._text is None else self._text.to(self.model.device)
        words = self.model.read_words(self._instructions)
        condition = Condition(context, poses, text, words=words)
        found = edm.imagine(self.model, condition, self.sampling, generator=self._generator)
        wanted = slice(len(self._poses) - len(self._latents))
        if found.reward is None or found.states is None:
            self._states += self._poses[len(self._states) :][wanted]
        else:
            self._states += list(found.states[:, wanted].cpu().numpy().swapaxes(0, 1))
            self._rewards += list(found.reward[:, wanted].cpu().numpy().swapaxes(0, 1))
        if self.model.frames_per_latent == 1:
            self._latents += list(found.frames[:, wanted].unbind(1))
        else:
            # A latent depends on none that comes after it: what nobody asked for is not decoded.
            count = -(-(len(self._poses) - len(self._latents)) // self.model.frames_per_latent)
            shown = found.frames[:, :count]
            images = self.autoencoder.decode_chunk(context[:, -1], shown, self.model.views)[:, wanted]
            self._images += list(images.swapaxes(0, 1))
            self._latents += [None] * images.shape[1]

    def _latent(self, frame: int) -> torch.Tensor:
        """(B, C, V*h, w) of a frame that has been imagined or recorded."""
        found = self._latents[frame]
        if found is None:
            found = self.autoencoder.encode(self._images[frame]).to(self.model.device)
            self._latents[frame] = found
        return found

    def _pictures(self, first: int) -> np.ndarray:
        """(B, H, V, height, width, 3) from frame `first` on."""
        if self.model.frames_per_latent > 1:
            return np.stack(self._images[first:], axis=1)
        latents = [self._latent(frame) for frame in range(first, len(self._latents))]
        return self.autoencoder.decode(torch.stack(latents, dim=1), self.model.views)


def check_robot(model: WorldModel, robot: RobotSpec) -> None:
    """Raises VlawError for a world model that was made for a robot of other poses, another rate or other cameras."""
    check_conditioned(model.space, robot, where="imagined world")
    numbers = len(robot.action if robot.pose is None else robot.pose)
    if (numbers, len(robot.cameras)) != (model.pose_dim, model.views):
        raise VlawError(
            f"the world model was made for poses of {model.pose_dim} numbers and {model.views} cameras; robot "
            f"{robot.name!r} has {numbers} and {len(robot.cameras)}",
            where="imagined world",
            remedy="Use a world model that was trained for this robot.",
        )


def batch_seeds(seed: int, begin: int) -> tuple[int, int]:
    """Seeds of the world's and the policy's noise for the batch that begins at index `begin`."""
    world, policy = np.random.SeedSequence([seed, begin]).generate_state(2, np.uint32)
    return int(world), int(policy)
