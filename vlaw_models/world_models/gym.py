"""A world model as Gymnasium environments: `ImaginedVectorEnv`, all rows in one pass of the network, and `ImaginedEnv`.

What they observe and take is what `RobotEnv` of the same robot does (robots/gym.py): what was learned in imagination
can be tried on the robot, and libraries of reinforcement learning need no bridge of their own. A reward, which judges
the episode so far, ends an episode with success; without one episodes last `num_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.gym import box_of, observation_space
from vlaw_models.world_models.imagined_world import ImaginedWorld

Reward = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Sequence[str]], np.ndarray]
"""(frames, states, instructions) of B episodes so far -> (B,) how sure it is of success, in [0, 1].

Of each episode: frames (t+1, V, height, width, 3) uint8 and states (t+1, D) float32, the first ones included.
"""
MODES = ("rgb_array",)


class ImaginedVectorEnv(VectorEnv):
    """`num_envs` imagined episodes from recorded first frames, which need not be of the same age.

    Action: absolute targets (A,), or, with `execute_steps` H above 1, (H, A), as a policy's chunk is executed; what is
    out of the robot's reach is clipped. A world model imagines its own `chunk` of frames in a pass and drops what was
    not asked for: H = `chunk` is as quick as it gets. Observation: as of `RobotEnv`. Reward: 1 at the step where
    `reward` is above `threshold`, which terminates the episode, else 0, so that an episode's return is its success;
    without `reward` that of the world model's own head, where it has one.
    After `num_steps` control steps it is truncated. `info`: success, and p_success where there is a reward; at a reset
    start, the index of the start.

    `reset(seed=n)` fixes starts and noise; `options={"start": i}` or `{"start": [i, ...]}` names starts,
    `{"reset_mask": mask}` resets only some rows. Autoreset is as Gymnasium documents the three modes.
    """

    def __init__(
        self,
        world: ImaginedWorld,
        starts: Sequence[Start],
        num_envs: int,
        *,
        reward: Reward | None = None,
        threshold: float = 0.9,
        num_steps: int = RolloutConfig.num_steps,
        execute_steps: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ):
        """`world`: for these environments alone. Raises VlawError for no starts, and for a threshold or steps that
        cannot be."""
        if not len(starts) or num_envs < 1:
            raise _refused(f"{len(starts)} starts, {num_envs} environments", "Give at least one of both.")
        if execute_steps < 1 or num_steps < 1 or num_steps % execute_steps:
            raise _refused(f"{num_steps} steps, {execute_steps} at a time", "Give a multiple: num_steps=28 by 4.")
        if not 0 <= threshold < 1:
            raise _refused(f"a threshold of {threshold}", "Give one in [0, 1): success is a reward above it.")
        if render_mode not in (None, *MODES):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.world, self.starts, self.num_envs, self.reward, self.threshold = world, starts, num_envs, reward, threshold
        self.judged = reward is not None or world.model.heads is not None
        self.num_steps, self.execute_steps = num_steps, execute_steps
        self.autoreset_mode, self.render_mode = AutoresetMode(autoreset_mode), render_mode
        fps = round(world.robot.control_hz / execute_steps) or 1
        self.metadata = {"render_modes": list(MODES), "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(world.robot, world.picture)
        self.single_action_space = box_of(world.robot.action)
        if execute_steps > 1:
            self.single_action_space = batch_space(self.single_action_space, execute_steps)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._frames: list[list[np.ndarray]] = []
        self._states: list[list[np.ndarray]] = []
        self._ended = np.ones(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins all rows, or those of options["reset_mask"]."""
        super().reset(seed=seed)
        if seed is not None:
            self.world.seed(seed)
        options = options or {}
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any() or not (self._frames or mask.all()):
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool with some True, all at first: {mask}")
        info = self._begin(np.flatnonzero(mask), options.get("start"))
        return self._observe(), info

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """`execute_steps` control steps of every row, in one pass for each chunk of the world model."""
        waiting = self._ended.copy()  # rows that begin anew in this step
        if not self._frames or (waiting.any() and self.autoreset_mode == AutoresetMode.DISABLED):
            raise gymnasium.error.ResetNeeded(f"rows {np.flatnonzero(waiting).tolist()} have ended: reset them first")
        shape = (self.num_envs, self.execute_steps, len(self.world.robot.action))
        targets = np.array(actions, dtype=np.float32).reshape(shape)
        # Their actions are ignored, whatever they are.
        targets[waiting] = 0
        if not np.isfinite(targets).all():
            raise _refused("an action that is not finite", "Mend the policy.")
        success, scores = np.zeros(self.num_envs, bool), np.zeros(self.num_envs)
        if not waiting.all():
            moved = self.world.step(targets)
            for row in np.flatnonzero(~waiting):
                self._frames[row] += list(moved.images[row])
                self._states[row] += list(moved.states[row])
            scores[~waiting] = self._judge(np.flatnonzero(~waiting), moved.reward)
            success = scores > self.threshold
        truncated = np.array([len(states) > self.num_steps for states in self._states]) & ~success & ~waiting
        self._ended = success | truncated
        ended, same_step = self._ended.copy(), self.autoreset_mode == AutoresetMode.SAME_STEP
        info = self._told(success, scores, ~(ended if same_step else waiting))
        if same_step and ended.any():
            observed, final = self._observe(), np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(ended):
                final[row] = {name: values[row] for name, values in observed.items()}
            info |= {"final_obs": final, "_final_obs": ended}
            info |= {"final_info": self._told(success, scores, ended), "_final_info": ended}
        begins = ended if same_step else waiting
        if begins.any():
            info |= self._begin(np.flatnonzero(begins))
        return self._observe(), success.astype(np.float64), success, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Of each row the cameras side by side, (height, V * width, 3) uint8; None without render_mode 'rgb_array'."""
        if self.render_mode is None:
            return None
        return tuple(np.concatenate(list(frames[-1]), axis=1) for frames in self._frames)

    def _begin(self, rows: np.ndarray, chosen: int | Sequence[int] | None = None) -> dict[str, Any]:
        """These rows at starts drawn or chosen; tells which."""
        drawn = self.np_random.integers(len(self.starts), size=len(rows))
        numbers = drawn if chosen is None else np.asarray(chosen)
        there = numbers.dtype.kind in "iu" and ((numbers >= 0) & (numbers < len(self.starts))).all()
        if not there or numbers.shape not in ((), rows.shape):
            raise _refused(f"start {chosen}", f"Name one of 0 to {len(self.starts) - 1}, for each row that begins.")
        numbers = np.broadcast_to(numbers, rows.shape)
        starts = [self.starts[int(number)] for number in numbers]
        if len(rows) == self.num_envs:
            first = self.world.reset(starts)
            self._frames, self._states = [[] for _ in rows], [[] for _ in rows]
        else:
            first = self.world.restart(rows.tolist(), starts)
        for row, image, state in zip(rows, first.images, first.state, strict=True):
            self._frames[row], self._states[row] = [image], [state.copy()]
        self._ended[rows] = False
        told, among = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, bool)
        told[rows], among[rows] = numbers, True
        return {"start": told, "_start": among}

    def _judge(self, rows: np.ndarray, predicted: np.ndarray | None) -> np.ndarray:
        """(len(rows),) rewards; without `reward` the highest that the world model `predicted` in these steps (B, H).
        Raises VlawError for what is no reward."""
        if self.reward is None:
            return np.zeros(len(rows)) if predicted is None else predicted[rows].max(axis=1)
        said = self.world.instructions()
        frames, states = ([np.stack(of[row]) for row in rows] for of in (self._frames, self._states))
        found = np.asarray(self.reward(frames, states, [said[row] for row in rows]), dtype=np.float64)
        if found.shape != rows.shape or not ((found >= 0) & (found <= 1)).all():
            raise _refused(
                f"rewards {found} of {len(rows)} episodes", "Let `reward` give a number in [0, 1] for each episode."
            )
        return found

    def _told(self, success: np.ndarray, scores: np.ndarray, among: np.ndarray) -> dict[str, Any]:
        if not among.any():
            return {}
        told = {"success": success & among, "_success": among}
        return {**told, "p_success": np.where(among, scores, 0), "_p_success": among} if self.judged else told

    def _observe(self) -> dict[str, Any]:
        return {
            **{
                name: np.stack([frames[-1][view] for frames in self._frames])
                for view, name in enumerate(self.world.robot.camera_names)
            },
            "state": np.stack([states[-1] for states in self._states]),
            "instruction": tuple(self.world.instructions()),
        }


class ImaginedEnv(gymnasium.Env):
    """One imagined episode at a time; everything is as in `ImaginedVectorEnv`, which has the options."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(MODES)}

    def __init__(self, world: ImaginedWorld, starts: Sequence[Start], **options: Any):
        """`options`: of ImaginedVectorEnv, but num_envs and autoreset_mode."""
        self.rows = ImaginedVectorEnv(world, starts, 1, autoreset_mode=AutoresetMode.DISABLED, **options)
        self.metadata = {name: self.rows.metadata[name] for name in ("render_modes", "render_fps")}  # type: ignore[misc]  # as Gymnasium has it: of the class, and of each one
        self.render_mode = self.rows.render_mode
        self.observation_space, self.action_space = self.rows.single_observation_space, self.rows.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.rows.world.seed(seed)
        self.rows.np_random = self.np_random
        observed, told = self.rows.reset(options=options)
        return _first(observed), _first(told)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observed, rewards, terminated, truncated, told = self.rows.step(np.asarray(action)[None])
        return _first(observed), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _first(told)

    def render(self) -> np.ndarray | None:
        """The cameras side by side, (height, V * width, 3) uint8; None without render_mode 'rgb_array'."""
        drawn = self.rows.render()
        return None if drawn is None else drawn[0]


def _first(batch: dict[str, Any]) -> dict[str, Any]:
    """The first row, numbers as Python's; without the masks of `info`."""
    rows = {name: values[0] for name, values in batch.items() if not name.startswith("_")}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in rows.items()}


def _refused(what: str, remedy: str) -> VlawError:
    return VlawError(what, where="imagined environment", remedy=remedy)
