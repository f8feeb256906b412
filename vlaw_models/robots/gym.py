"""The tasks of every robot with a simulator as Gymnasium environments: `vlaw/Stack-v0`, `vlaw/OpenBook-v0`, ...

Importing this module registers them; `gymnasium.make("vlaw_models.robots.gym:vlaw/Stack-v0")` imports it first. The
loop itself does not come this way (its worlds are batches); this is for trying policies trained elsewhere.
"""

from __future__ import annotations

import string
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import Observation, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.observation import LONGEST
from vlaw_models.robots.registry import find_robot, importable_robots
from vlaw_models.robots.simulator import simulator_of
from vlaw_models.robots.spec import RobotSpec, Vector

LETTERS = string.ascii_letters + string.digits + string.punctuation + " "
"""Of instructions."""
_REMEDY = "Use a robot that can be simulated."


class RobotEnv(gymnasium.Env):
    """One task of one simulated robot, `num_steps` control steps per episode.

    Action: an absolute target, as the robot's spec says (for the embedded one x, y, z, pitch, gripper); the controller
    clips what is out of reach in one step. Observation: one picture per camera (size, size, 3) uint8, `state` the pose
    commanded last, `instruction`. Reward: 1 at the last step where the task stands accomplished then, else 0, so that
    an episode's return is its success. `reset(seed=n)` gives the layout of start seed n of the platform.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        robot: str,
        task: str,
        *,
        num_steps: int = RolloutConfig.num_steps,
        image_size: int = 64,
        render_mode: str | None = None,
    ):
        """Raises VlawError for a robot without a simulator, and for a task that it does not have."""
        self.robot = find_robot(robot, where="gymnasium environment")
        self.robot.check_tasks([task], where="gymnasium environment")
        self.metadata = {  # type: ignore[misc]  # as Gymnasium has it: of the class, and of each one
            **type(self).metadata,
            "render_fps": round(self.robot.control_hz),
        }
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.render_mode, self.task, self.num_steps, self._step = render_mode, task, num_steps, 0
        simulator = simulator_of(self.robot, needed_by="a gymnasium environment", remedy=_REMEDY)
        self.world = simulator.world(image_size)
        picture = (image_size, image_size, 3)
        self._observation = Observation(np.zeros((1, 0, *picture), np.uint8), np.zeros((1, 0), np.float32))
        self.action_space = box_of(self.robot.action)
        self.observation_space = observation_space(self.robot, picture)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Without a seed, the layout is drawn from the environment's own random numbers."""
        super().reset(seed=seed, options=options)
        layout = seed if seed is not None else int(self.np_random.integers(2**31))
        self._step, self._observation = 0, self.world.reset([Start(self.task, layout)])
        return self._observe(), {"layout_seed": layout}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step. The episode's length is part of the task, so its end counts as termination."""
        moved = self.world.step(np.asarray(action, dtype=np.float32)[None, None])
        self._step, self._observation = self._step + 1, Observation(moved.images[:, -1], moved.states[:, -1])
        ended, judged = self._step >= self.num_steps, self.world.outcomes()
        if judged is None:
            raise VlawError(
                "this world does not judge its episodes",
                where=f"robot {self.robot.name!r}",
                remedy="Let the world of its simulator give outcomes().",
            )
        reward = float(ended and judged[0].success)
        return self._observe(), reward, ended, False, {"success": judged[0].success, "event": judged[0].event}

    def render(self) -> np.ndarray | None:
        """The cameras side by side, (size, V * size, 3) uint8; None without render_mode 'rgb_array'."""
        return None if self.render_mode is None else np.concatenate(list(self._observation.images[0]), axis=1)

    def _observe(self) -> dict[str, Any]:
        return {
            **dict(zip(self.robot.camera_names, self._observation.images[0], strict=True)),
            "state": self._observation.state[0].copy(),
            "instruction": self.world.instructions()[0],
        }


def observation_space(robot: RobotSpec, picture: tuple[int, int, int]) -> spaces.Dict:
    """One picture (height, width, 3) per camera under its name, `state`, `instruction`."""
    return spaces.Dict(
        {
            **{name: spaces.Box(0, 255, picture, np.uint8) for name in robot.camera_names},
            "state": box_of(robot.state),
            "instruction": spaces.Text(LONGEST, charset=LETTERS),
        }
    )


def box_of(vector: Vector) -> spaces.Box:
    """The space between a vector's limits; without limits, anything."""
    if not vector.low:
        return spaces.Box(-np.inf, np.inf, (len(vector),), np.float32)
    return spaces.Box(np.array(vector.low, np.float32), np.array(vector.high, np.float32), dtype=np.float32)


def environments() -> dict[str, tuple[str, str]]:
    """Gymnasium id -> (robot, task), of every robot that can be simulated."""
    found: dict[str, tuple[str, str]] = {}
    for robot in importable_robots():
        if robot.simulator:
            tasks = simulator_of(robot, needed_by="a gymnasium environment", remedy=_REMEDY).environments
            found |= {environment: (robot.name, task) for environment, task in tasks.items()}
    return found


def register_environments() -> None:
    """Registers the environments with Gymnasium, once."""
    for name, (robot, task) in environments().items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=RobotEnv, kwargs={"robot": robot, "task": task})


register_environments()
