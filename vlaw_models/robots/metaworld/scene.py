"""One simulated arm of Meta-World, and what draws it. Importing this module imports Meta-World: see simulator.py."""

from __future__ import annotations

import metaworld.sawyer_xyz_env
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS

from vlaw_models.episodes import Outcome
from vlaw_models.robots.metaworld.spec import INNER_STEPS, REACH, SPEC
from vlaw_models.robots.opengl import open_renderer

INSTRUCTIONS = {
    "reach": "move the hand to the red ball",
    "push": "push the puck to the goal",
    "pick-place": "lift the puck to the goal",
    "door-open": "open the door",
    "drawer-open": "open the drawer",
    "drawer-close": "close the drawer",
    "button-press-topdown": "press the button from above",
    "window-open": "open the window",
    "window-close": "close the window",
}
TURNED = ("corner", "corner2")
"""Meta-World hangs these cameras upside down."""
NEARER = (0.75, 0.075, 0.7)
"""Where corner2 stands, as LeRobot has it: from where Meta-World put it a hand is a few pixels."""
ENDLESS = 2**31
"""Meta-World refuses to go on after 500 steps; how long episodes are is said elsewhere."""
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def _reset_welds(env: metaworld.sawyer_xyz_env.SawyerMocapBase) -> None:
    """As in Meta-World 3.0.0, which writes all numbers of a constraint: MuJoCo 4 has one more than it knows."""
    model = env.model
    model.eq_data[model.eq_type == mujoco.mjtEq.mjEQ_WELD, :11] = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]


metaworld.sawyer_xyz_env.SawyerMocapBase.reset_mocap_welds = _reset_welds


class Sim:
    """A task's scene, not yet reset."""

    def __init__(self, task: str):
        SPEC.check_tasks([task], where="metaworld")
        self.task, self.instruction = task, INSTRUCTIONS[task]
        self.env = ENVIRONMENTS[f"{task}-v3-goal-observable"](seed=0)
        self.env.max_path_length = ENDLESS
        # A layout per seed, drawn from the environment's own random numbers: it has no public name for that.
        vars(self.env).update(_freeze_rand_vec=False, seeded_rand_vec=True)
        self.model, self.data = self.env.model, self.env.data
        self.model.cam_pos[self.model.camera("corner2").id] = NEARER
        self.state = np.zeros(len(SPEC.state), np.float32)
        self.observation = np.zeros(0)
        """Meta-World's, for its experts."""
        self._success = False

    def reset(self, seed: int) -> None:
        """The layout of that seed, the gripper open."""
        self.env.seed(seed)
        self.observation, _ = self.env.reset()
        self._success = False
        self.state = np.append(self.data.mocap_pos[0], 0).astype(np.float32)

    def step(self, target: np.ndarray) -> np.ndarray:
        """One control step to an absolute target (4,); returns the state, which is what was commanded."""
        self.state = SPEC.clip(self.state, target)
        for _ in range(INNER_STEPS):
            way = (self.state[:3] - self.data.mocap_pos[0]) / REACH
            self.inner_step(np.append(way, 2 * self.state[3] - 1))
        return self.state

    def inner_step(self, action: np.ndarray) -> None:
        """One of Meta-World's own steps: action (4,) in [-1, 1]."""
        self.observation, _, _, _, info = self.env.step(np.clip(action, -1, 1))
        self._success |= bool(info["success"])

    def outcome(self) -> Outcome:
        return Outcome(self._success, "success" if self._success else "not_done")

    def keep(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """All that `go_back` needs to be here again."""
        kept = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, kept, _STATE)
        return kept, self.observation, self._success

    def go_back(self, kept: tuple[np.ndarray, np.ndarray, bool]) -> None:
        physics, self.observation, self._success = kept
        mujoco.mj_setState(self.model, self.data, physics, _STATE)
        mujoco.mj_forward(self.model, self.data)


class Artist:
    """Draws arms with OpenGL, without shadows and mirrors: in software they are six sevenths of the time. For one
    thread."""

    def __init__(self, size: int):
        self.size = size
        self._renderers: dict[str, mujoco.Renderer] = {}

    def draw(self, sim: Sim) -> np.ndarray:
        """Pictures from all cameras, (V, size, size, 3) uint8, in the order of the spec. VlawError without OpenGL."""
        renderer = self._renderers.get(sim.task) or self._open(sim)
        pictures = []
        for name in SPEC.camera_names:
            camera = mujoco.MjvCamera()
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, sim.model.camera(name).id
            # Arms of the same task share a renderer (its meshes and textures): what differs is in model and data.
            mujoco.mjv_updateScene(
                sim.model, sim.data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, renderer.scene
            )
            seen = renderer.render()
            pictures.append(seen[::-1, ::-1] if name in TURNED else seen.copy())
        return np.stack(pictures)

    def _open(self, sim: Sim) -> mujoco.Renderer:
        self._renderers[sim.task] = open_renderer(sim.model, self.size)
        for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderers[sim.task].scene.flags[costly] = 0
        return self._renderers[sim.task]
