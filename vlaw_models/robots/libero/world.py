"""LIBERO's scenes as a World, for the process that has LIBERO (server.py)."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vlaw_models.episodes import Observation, Outcome, Start
from vlaw_models.errors import VlawError
from vlaw_models.robots.libero.settings import INSTALL, SCENES
from vlaw_models.robots.libero.spec import INNER_STEPS, SPEC
from vlaw_models.robots.opengl import no_opengl
from vlaw_models.worlds import Transition, advance, ended

SETTLING = 10
"""LIBERO's own steps until what was placed lies still."""


class Scene:
    """One instruction of a suite, not yet reset."""

    def __init__(self, libero: Any, suite: str, number: int, size: int):
        task = libero.suites[suite].get_task(number)
        self.instruction, self.size = str(task.language), size
        path = Path(libero.root) / "bddl_files" / task.problem_folder / task.bddl_file
        # Drawn when it is asked for, not at each of its steps.
        self.env = libero.environment(
            bddl_file_name=str(path), use_camera_obs=False, hard_reset=False, ignore_done=True
        )
        self.state = np.zeros(len(SPEC.state), np.float32)
        self.success = False

    def reset(self, seed: int) -> None:
        """A layout drawn by LIBERO's own sampler. Its 50 kept ones would be met in training and evaluation alike."""
        self.env.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        self.env.reset()
        arm = self.env.robots[0].controller
        arm.use_delta = False  # targets are absolute; LIBERO offers no other way to say so
        pose = Rotation.from_matrix(arm.ee_ori_mat).as_euler("xyz")
        self.state = SPEC.clip(*[np.concatenate([arm.ee_pos, pose, [0]]).astype(np.float32)] * 2)
        for _ in range(SETTLING):
            self._command(self.state)
        self.success = False

    def step(self, target: np.ndarray) -> np.ndarray:
        """One control step to an absolute target (7,), on a line; returns the state, which is what was commanded."""
        before, self.state = self.state, SPEC.clip(self.state, target)
        way = self.state - before
        way[3:6] -= 2 * np.pi * np.round(way[3:6] / (2 * np.pi))
        for share in np.arange(1, INNER_STEPS + 1) / INNER_STEPS:
            pose = before + share * way
            pose[6] = self.state[6]
            self._command(pose)
            self.success |= bool(self.env.check_success())
        return self.state

    def _command(self, pose: np.ndarray) -> None:
        turn = Rotation.from_euler("xyz", pose[3:6]).as_rotvec()
        self.env.step(np.concatenate([pose[:3], turn, [2 * pose[6] - 1]]))

    def draw(self) -> np.ndarray:
        """(V, size, size, 3) uint8, turned by 180 degrees as in the datasets of LIBERO that policies learn from."""
        try:
            seen = [
                self.env.sim.render(camera_name=name, width=self.size, height=self.size) for name in SPEC.camera_names
            ]
        except Exception as error:  # each OpenGL fails in a way of its own
            raise no_opengl(error) from error
        return np.stack([picture[::-1, ::-1] for picture in seen])


class LiberoWorld:
    """Scenes that advance together."""

    name, robot = SPEC.world, SPEC

    def __init__(self, libero: Any, image_size: int, *, inner_frames: bool):
        self.libero, self.image_size, self.inner_frames = libero, image_size, inner_frames
        self.done_above: float | None = None
        self.scenes: list[Scene] = []
        self._keys: list[tuple[str, int]] = []
        self._idle: dict[tuple[str, int], list[Scene]] = {}

    def reset(self, starts: Sequence[Start]) -> Observation:
        for key, scene in zip(self._keys, self.scenes, strict=True):
            self._idle.setdefault(key, []).append(scene)
        self._keys = [(start.task, start.seed % self.libero.suites[start.task].n_tasks) for start in starts]
        self.scenes = [self._take(key) for key in self._keys]
        for scene, start in zip(self.scenes, starts, strict=True):
            scene.reset(start.seed)
        return Observation(np.stack([s.draw() for s in self.scenes]), np.stack([s.state for s in self.scenes]))

    def _take(self, key: tuple[str, int]) -> Scene:
        idle = self._idle.get(key)
        return idle.pop() if idle else Scene(self.libero, *key, self.image_size)

    def instructions(self) -> list[str]:
        return [scene.instruction for scene in self.scenes]

    def step(self, actions: np.ndarray) -> Transition:
        parts = map(self._step_one, self.scenes, actions)
        images, states, reward = (np.stack(column) for column in zip(*parts, strict=True))
        return Transition(images, states, states.copy(), reward, ended(reward, self.done_above))

    def _step_one(self, scene: Scene, chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return advance(
            chunk,
            scene.step,
            lambda: scene.success,
            scene.draw,
            inner_frames=self.inner_frames,
            done_above=self.done_above,
        )

    def keep(self, rows: np.ndarray) -> None:
        for row, (key, scene) in enumerate(zip(self._keys, self.scenes, strict=True)):
            if row not in rows:
                self._idle.setdefault(key, []).append(scene)
        self.scenes, self._keys = [self.scenes[row] for row in rows], [self._keys[row] for row in rows]

    def outcomes(self) -> list[Outcome]:
        return [Outcome(scene.success, "success" if scene.success else "not_done") for scene in self.scenes]


class Libero:
    """What is used of the installed package."""

    def __init__(self, given: str) -> None:
        """`given`: the folder of its assets; empty: inside the package. Raises VlawError where it or they are
        missing."""
        found = importlib.util.find_spec("libero")
        if found is None or not found.submodule_search_locations:
            raise VlawError("LIBERO is not installed", where=sys.executable, remedy=INSTALL)
        self.root = str(Path(next(iter(found.submodule_search_locations))) / "libero")
        assets = Path(given or f"{self.root}/assets")
        if not (assets / "scenes").is_dir():
            raise VlawError("LIBERO's scene assets are missing", where=str(assets), remedy=SCENES)
        _configure(self.root, assets)
        try:
            import libero.libero

            vars(libero.libero)["_assets_path_cache"] = str(assets)  # or hf-libero would download them
            from libero.libero import benchmark
            from libero.libero.envs import OffScreenRenderEnv
        except ImportError as error:
            raise VlawError(f"LIBERO cannot be imported: {error}", where=sys.executable, remedy=INSTALL) from error
        except AttributeError as error:  # PyOpenGL's, where the library of MUJOCO_GL is not there
            raise no_opengl(error) from error
        self.environment = OffScreenRenderEnv
        self.suites = {name: benchmark.get_benchmark_dict()[name]() for name in SPEC.tasks}


def _configure(root: str, assets: Path) -> None:
    """The file without which LIBERO asks whoever imports it at the terminal."""
    folder = tempfile.mkdtemp(prefix="libero-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["LIBERO_CONFIG_PATH"] = folder
    places = {"benchmark_root": root, "bddl_files": f"{root}/bddl_files", "init_states": f"{root}/init_files"}
    places |= {"datasets": f"{root}/../datasets", "assets": str(assets)}
    lines = [f"{name}: {place!r}" for name, place in places.items()]
    Path(folder, "config.yaml").write_text("\n".join(lines) + "\n")
