"""The embedded robot's scene: a Cartesian gripper above a table, three cameras, and one simulated copy of it (`Sim`).

The hand's frame sits at the pinch point between the fingertips, so a commanded z is the height of what is held.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vlaw_models.robots.tabletop.controller import HOME
from vlaw_models.robots.tabletop.spec import SPEC

if TYPE_CHECKING:
    from vlaw_models.robots.tabletop.tasks.base import Task

SUBSTEPS = 40
"""Physics steps of 5 ms per control step: 0.2 s, 5 Hz."""
UPDATES_PER_STEP = 4
"""How often per control step a task looks at contacts (erasing, drawing)."""
OPEN_FINGER = 0.042
"""Travel of each finger from closed to open, metres."""

_SCENE = """
<mujoco model="vlaw_tabletop">
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <default>
    <geom friction="1.2 0.01 0.001" solref="0.01 1"/>
    <default class="visual"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="axis"><joint armature="0.2" damping="2"/></default>
    <default class="finger">
      <joint type="slide" axis="0 1 0" range="0 {open}" armature="0.02" damping="1" limited="true"/>
      <geom type="box" size="0.011 0.006 0.024" pos="0 0 0.016" friction="1.5 0.02 0.002" rgba="0.15 0.15 0.18 1"
            mass="0.03"/>
    </default>
  </default>
  <worldbody>
    <geom name="table" type="box" size="0.32 0.32 0.02" pos="0 0 -0.02" rgba="0.82 0.80 0.76 1"/>
    <camera name="exterior_1" pos="0.44 0 0.56" xyaxes="0 1 0 -0.7837 0 0.6211" fovy="37"/>
    <camera name="exterior_2" pos="0 -0.44 0.56" xyaxes="1 -0 0 0 0.7837 0.6211" fovy="37"/>
    {bodies}
    <body name="carriage_x" gravcomp="1"><joint name="x" class="axis" type="slide" axis="1 0 0"/>
      <inertial pos="0 0 0.3" mass="0.2" diaginertia="0.001 0.001 0.001"/>
      <body name="carriage_y" gravcomp="1"><joint name="y" class="axis" type="slide" axis="0 1 0"/>
        <inertial pos="0 0 0.3" mass="0.2" diaginertia="0.001 0.001 0.001"/>
        <body name="carriage_z" gravcomp="1"><joint name="z" class="axis" type="slide" axis="0 0 1"/>
          <inertial pos="0 0 0.1" mass="0.3" diaginertia="0.001 0.001 0.001"/>
          <body name="hand" gravcomp="1">
            <joint name="pitch" type="hinge" axis="0 1 0" armature="0.02" damping="0.2"/>
            <geom name="palm" type="box" size="0.020 0.050 0.012" pos="0 0 0.052" rgba="0.93 0.93 0.95 1" mass="0.3"/>
            <geom name="wrist_post" class="visual" type="cylinder" size="0.016 0.05" pos="0 0 0.11"
                  rgba="0.93 0.93 0.95 1"/>
            <camera name="wrist" pos="0.085 0 0.10" xyaxes="0 1 0 -0.866 0 0.5" fovy="72"/>
            {hand}
            <body name="left" pos="0 0.006 0" gravcomp="1"><joint name="left" class="finger"/>
              <geom name="left_finger" class="finger"/></body>
            <body name="right" pos="0 -0.006 0" gravcomp="1"><joint name="right" class="finger" axis="0 -1 0"/>
              <geom name="right_finger" class="finger"/></body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="x" joint="x" kp="900" kv="50"/>
    <position name="y" joint="y" kp="900" kv="50"/>
    <position name="z" joint="z" kp="1200" kv="60"/>
    <position name="pitch" joint="pitch" kp="60" kv="4"/>
    <position name="left" joint="left" kp="150" kv="6" forcerange="-6 6"/>
    <position name="right" joint="right" kp="150" kv="6" forcerange="-6 6"/>
  </actuator>
  {extra}
</mujoco>
"""


def compile_scene(*, bodies: str, hand: str = "", extra: str = "") -> mujoco.MjModel:
    """The robot and table with a task's own MJCF: `bodies` on the table, `hand` held, `extra` top-level elements."""
    return mujoco.MjModel.from_xml_string(_SCENE.format(open=OPEN_FINGER, bodies=bodies, hand=hand, extra=extra))


class Sim:
    """One simulated copy of a task: physics, the commanded pose, and the task's own memory in `self.memory`."""

    def __init__(self, task: Task, model: mujoco.MjModel):
        self.task = task
        self.model = copy.copy(model)
        self.data = mujoco.MjData(self.model)
        # Every array of the model next to its compiled value; both are views, so this is looked up once.
        self._arrays = [(getattr(self.model, name), getattr(model, name)) for name in _array_names(model)]
        self.memory: dict = {}
        self.instruction = ""
        self.state = HOME.copy()
        self.step_count = 0
        self.far = 0.0
        """`Task.distance` at the start."""

    def reset(self, seed: int) -> None:
        """Seeded reset, the same bits for the same seed on one kind of CPU."""
        # All arrays, whichever a task changes (places, sizes, colours): an episode leaves nothing to the next.
        for own, compiled in self._arrays:
            own[:] = compiled
        mujoco.mj_resetData(self.model, self.data)
        self.memory = {}
        self.step_count = 0
        self.state = self.task.home.copy()
        for name, value in zip(("x", "y", "z", "pitch"), self.state, strict=False):
            self.data.joint(name).qpos[0] = value
        for name in ("left", "right"):
            self.data.joint(name).qpos[0] = OPEN_FINGER * (1.0 - self.state[4])
        self._command(self.state)
        rng = np.random.default_rng(np.random.SeedSequence([self.task.stream, seed]))
        self.instruction = self.task.reset(self, rng)
        mujoco.mj_step(self.model, self.data, nstep=SUBSTEPS)  # let things settle before the first picture
        self.task.update(self)
        self.far = self.task.distance(self)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Executes one control step towards an absolute pose target (5,); returns the target after clipping."""
        self.state = SPEC.clip(self.state, np.asarray(action, dtype=np.float32))
        self._command(self.state)
        for _ in range(UPDATES_PER_STEP):
            mujoco.mj_step(self.model, self.data, nstep=SUBSTEPS // UPDATES_PER_STEP)
            self.task.update(self)
        self.step_count += 1
        return self.state

    def _command(self, pose: np.ndarray) -> None:
        finger = OPEN_FINGER * (1.0 - pose[4])
        # A closed command presses 8 mm past contact so that the force limit, not the position error, sets the grip.
        squeeze = -0.008 if pose[4] > 0.5 else 0.0
        self.data.ctrl[:] = [*pose[:4], finger + squeeze, finger + squeeze]

    # What tasks and experts look at.
    def body(self, name: str) -> np.ndarray:
        """World position of a body (3,)."""
        return self.data.body(name).xpos.copy()

    def place(self, name: str, pos: np.ndarray, yaw: float = 0.0) -> None:
        """Puts a free body at `pos` (3,) turned by `yaw` about the vertical, at rest."""
        joint = self.data.joint(name)
        joint.qpos[:] = [*pos, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        joint.qvel[:] = 0.0

    def touching(self, first: str, second: str) -> bool:
        """True where two named geoms are in contact."""
        a, b = self.model.geom(first).id, self.model.geom(second).id
        pairs = self.data.contact.geom
        return bool(len(pairs)) and bool((((pairs == a) | (pairs == b)).sum(1) == 2).any())

    def paint(self, geom: str, rgba: tuple[float, ...]) -> None:
        """Colours a geom; alpha 0 hides it from the cameras."""
        self.model.geom(geom).rgba[:] = rgba if len(rgba) == 4 else (*rgba, 1.0)


def _array_names(model: mujoco.MjModel) -> list[str]:
    """Names of the model's arrays that hold anything."""
    values = ((name, getattr(model, name)) for name in dir(model) if not name.startswith("_"))
    return [name for name, value in values if isinstance(value, np.ndarray) and value.size]
