"""Pictures of the tabletop: by casting one ray per pixel (no GL, no screen), or by OpenGL where it is asked for.

Ray casting gives the same bytes in every process on one machine and needs no driver; about 1,100 pictures of 64 px per
second and core. OpenGL (`VLAW_RENDERER=gl`) is for larger pictures; it is never chosen silently, because the two
differ in shading and a policy trained on one should not be shown the other.
"""

from __future__ import annotations

import mujoco
import numpy as np

from vlaw_models.robots.opengl import open_renderer
from vlaw_models.robots.tabletop.renderer import GL, renderer_name
from vlaw_models.robots.tabletop.spec import SPEC

_LIGHT = np.array([0.35, -0.25, 0.9]) / np.linalg.norm([0.35, -0.25, 0.9])
_BACKGROUND = np.array([70, 78, 92], dtype=np.uint8)


class RayRenderer:
    """Casts rays from each camera; colour of the geometry times a Lambert term."""

    def __init__(self, size: int):
        self.size = size
        self._rays: dict[float, np.ndarray] = {}
        count = size * size
        self._geom = np.zeros(count, dtype=np.int32)
        self._dist = np.zeros(count)
        self._normal = np.zeros(3 * count)

    def _directions(self, fovy: float) -> np.ndarray:
        """(size*size, 3) unit rays in the camera frame (x right, y up, looking along -z)."""
        if fovy not in self._rays:
            half = np.tan(np.deg2rad(fovy) / 2)
            line = (np.arange(self.size) + 0.5) / self.size * 2 - 1
            u, v = np.meshgrid(line * half, -line * half)
            rays = np.stack([u, v, -np.ones_like(u)], -1).reshape(-1, 3)
            self._rays[fovy] = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        return self._rays[fovy]

    def render(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """Pictures from all cameras, (V, size, size, 3) uint8, in the order of the spec."""
        return np.stack([self._camera(model, data, name) for name in SPEC.camera_names])

    def _camera(self, model: mujoco.MjModel, data: mujoco.MjData, name: str) -> np.ndarray:
        camera = model.camera(name).id
        rays = self._directions(float(model.cam_fovy[camera])) @ data.cam_xmat[camera].reshape(3, 3).T
        mujoco.mj_multiRay(
            model,
            data,
            data.cam_xpos[camera],
            np.ascontiguousarray(rays).reshape(-1),
            None,
            1,
            -1,
            self._geom,
            self._dist,
            self._normal,
            len(rays),
            10.0,
        )
        hit = self._geom >= 0
        shade = 0.5 + 0.5 * np.abs(self._normal.reshape(-1, 3) @ _LIGHT)
        colour = model.geom_rgba[np.maximum(self._geom, 0), :3] * shade[:, None]
        picture = np.where(hit[:, None], np.clip(colour * 255, 0, 255).astype(np.uint8), _BACKGROUND)
        return picture.reshape(self.size, self.size, 3)


class GlRenderer:
    """MuJoCo's OpenGL renderer; VlawError where there is no OpenGL (opengl.py)."""

    def __init__(self, size: int):
        self.size = size
        self._renderers: dict[int, mujoco.Renderer] = {}

    def render(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """Pictures from all cameras, (V, size, size, 3) uint8, in the order of the spec."""
        renderer = self._renderers.get(id(model))
        if renderer is None:
            renderer = self._renderers[id(model)] = open_renderer(model, self.size)
        pictures = []
        for name in SPEC.camera_names:
            renderer.update_scene(data, camera=name)
            pictures.append(renderer.render().copy())
        return np.stack(pictures)


def project(model: mujoco.MjModel, data: mujoco.MjData, points: np.ndarray) -> np.ndarray:
    """Where world positions (P, 3) are in every camera's picture: (V, P, 2) float32, x from its left and y from its
    top.

    As a share of the picture: 0 and 1 are its borders, beyond them a point is not seen. Behind the camera: NaN.
    """
    places = []
    for name in SPEC.camera_names:
        camera = model.camera(name).id
        local = (points - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
        depth = np.where(local[:, 2] < -1e-3, -local[:, 2], np.nan)
        half = np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        places.append(local[:, :2] * [1, -1] / (depth[:, None] * half) / 2 + 0.5)
    return np.stack(places).astype(np.float32)


def make_renderer(size: int) -> RayRenderer | GlRenderer:
    """The renderer that VLAW_RENDERER names (see renderer.py)."""
    return GlRenderer(size) if renderer_name() == GL else RayRenderer(size)
