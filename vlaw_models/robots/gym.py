"""The embedded robot's tasks as Gymnasium environments: `vlaw/Stack-v0`, `vlaw/OpenBook-v0`, `vlaw/Erase-v0`, ...

Importing this module registers them; `gymnasium.make("vlaw_models.robots.gym:vlaw/Stack-v0")` imports it first. The
loop itself does not come this way (`world.py` runs batches); this is for trying policies trained elsewhere.
"""

from __future__ import annotations

import string
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from vlaw_models.config import RolloutConfig
from vlaw_models.episodes import CAMERAS, CONTROL_HZ
from vlaw_models.robots.tabletop.controller import HIGH, LOW
from vlaw_models.robots.tabletop.render import make_renderer
from vlaw_models.robots.tabletop.world import make_sim

ENVIRONMENTS = {
    "vlaw/Stack-v0": "stack",
    "vlaw/OpenBook-v0": "book",
    "vlaw/Erase-v0": "erase",
    "vlaw/Scoop-v0": "scoop",
    "vlaw/Draw-v0": "draw",
}


class TabletopEnv(gymnasium.Env):
    """One task for one robot, `num_steps` control steps of 0.2 s per episode.

    Action: absolute pose target (5,): x, y, z (m), pitch (rad), gripper (0 open .. 1 closed); the controller clips what
    is out of reach in one step. Observation: one picture per camera (size, size, 3) uint8, `state` (5,) the pose
    commanded last, `instruction`. Reward: 1 at the last step where the task stands accomplished then, else 0, so that
    an episode's return is its success. `reset(seed=n)` gives the layout of start seed n of the platform.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_HZ)}

    def __init__(
        self,
        task: str,
        *,
        num_steps: int = RolloutConfig.num_steps,
        image_size: int = 64,
        render_mode: str | None = None,
    ):
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.render_mode = render_mode
        self.num_steps = num_steps
        self._sim = make_sim(task)
        self._renderer = make_renderer(image_size)
        picture = (image_size, image_size, 3)
        self.action_space = spaces.Box(LOW, HIGH, dtype=np.float32)
        self.observation_space = spaces.Dict(
            {
                **{camera: spaces.Box(0, 255, picture, np.uint8) for camera in CAMERAS},
                "state": spaces.Box(LOW, HIGH, dtype=np.float32),
                "instruction": spaces.Text(120, charset=string.ascii_letters + string.digits + " ,.'-"),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Without a seed, the layout is drawn from the environment's own random numbers."""
        super().reset(seed=seed, options=options)
        layout = seed if seed is not None else int(self.np_random.integers(2**31))
        self._sim.reset(layout)
        return self._observe(), {"layout_seed": layout}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step. The episode's length is part of the task, so its end counts as termination."""
        self._sim.step(action)
        outcome = self._sim.task.outcome(self._sim)
        ended = self._sim.step_count >= self.num_steps
        reward = float(ended and outcome.success)
        return self._observe(), reward, ended, False, {"success": outcome.success, "event": outcome.event}

    def render(self) -> np.ndarray | None:
        """The cameras side by side, (size, V * size, 3) uint8; None without render_mode 'rgb_array'."""
        if self.render_mode is None:
            return None
        return np.concatenate(list(self._renderer.render(self._sim.model, self._sim.data)), axis=1)

    def _observe(self) -> dict[str, Any]:
        pictures = self._renderer.render(self._sim.model, self._sim.data)
        return {
            **dict(zip(CAMERAS, pictures, strict=True)),
            "state": self._sim.state.copy(),
            "instruction": self._sim.instruction,
        }


def register_environments() -> None:
    """Registers the environments with Gymnasium, once."""
    for name, task in ENVIRONMENTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=TabletopEnv, kwargs={"task": task})


register_environments()
