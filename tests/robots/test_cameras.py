"""The calibration that the world model knows of its robot: against MuJoCo's own projection."""

from __future__ import annotations

import mujoco
import numpy as np
import torch

from vlaw_models.robots import cameras
from vlaw_models.robots.cameras import PLANES, axes, follow, origins, places
from vlaw_models.robots.tabletop.render import project
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.robots.tabletop.world import make_sim

TABLETOP = [camera.pinhole for camera in SPEC.cameras]


def placed(pose: np.ndarray):
    """The simulator with its hand exactly at `pose`, nothing moving."""
    sim = make_sim("stack")
    sim.reset(1)
    for name, value in zip(("x", "y", "z", "pitch"), pose, strict=False):
        sim.data.joint(name).qpos[0] = value
    mujoco.mj_forward(sim.model, sim.data)
    return sim


NOW = np.array([0.03, -0.02, 0.16, 0.2, 1.0])
THEN = np.array([0.07, 0.05, 0.20, -0.1, 1.0])


def test_cameras_are_where_the_simulator_has_them():
    sim = placed(NOW)
    for camera, name in zip(TABLETOP, SPEC.camera_names, strict=True):
        place, turn = axes(camera, torch.tensor(NOW)[None])
        index = sim.model.camera(name).id
        assert np.allclose(place[0], sim.data.cam_xpos[index], atol=1e-4)
        assert np.allclose(turn[0], sim.data.cam_xmat[index].reshape(3, 3), atol=1e-3)
        assert np.isclose(camera.half, np.tan(np.deg2rad(sim.model.cam_fovy[index]) / 2), atol=1e-5)


def test_origins_are_where_the_same_points_were_in_the_picture_before():
    """On the table for the camera on the hand, on the hand for the cameras beside: to a tenth of a pixel of 64."""
    before, after = placed(NOW), placed(THEN)
    now, then = torch.tensor(NOW)[None], torch.tensor(THEN)[None]
    pinch = [np.append(NOW[:3], 0)[:3], THEN[:3]]
    for view, camera in enumerate(TABLETOP):
        for layer, height in enumerate(PLANES):
            points = np.array([[0.0, 0.02, height], [-0.03, 0.04, height], [0.05, 0.0, height]])
            old, new = (points, points) if camera.on_hand else (np.array([pinch[0]]), np.array([pinch[1]]))
            was = project(before.model, before.data, old)[view] * 2 - 1
            now_at = project(after.model, after.data, new)[view] * 2 - 1
            found = follow(origins(camera, now, then, layer), torch.tensor(now_at, dtype=torch.float64)[None])[
                0
            ].numpy()
            assert np.abs(found - was).max() < 0.1 / 32, (view, layer)


def test_places_are_what_a_pixel_shows_on_the_hand_or_on_the_table():
    sim, pose = placed(NOW), torch.tensor(NOW)[None]
    on_table = np.array([[0.0, 0.02, 0.0], [-0.03, 0.04, 0.0], [0.05, 0.0, 0.0]])
    for view, camera in enumerate(TABLETOP):
        turn = axes(camera, pose)[1][0].numpy()
        shown = (
            on_table if camera.on_hand else NOW[:3] + 0.02 * np.array([[0, 0, 0], turn[:, 0], turn[:, 1]])
        )  # facing it
        pixels = torch.tensor(project(sim.model, sim.data, shown)[view] * 2 - 1, dtype=torch.float64)
        c, s = np.cos(NOW[3]), np.sin(NOW[3])
        wanted = shown if camera.on_hand else (shown - NOW[:3]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        whole = torch.tensor(shown, dtype=torch.float64)
        assert (cameras.project(camera, pose.expand(len(whole), -1), whole) - pixels).abs().max() < 0.1 / 32, view
        assert np.abs(places(camera, pose, pixels)[0].T.numpy() - wanted).max() < 2e-4, view
    sky = torch.tensor([[0.0, -1.0]], dtype=torch.float64)
    tilted = pose + torch.tensor([0.0, 0.0, 0.0, -1.0, 0.0])
    assert places(TABLETOP[2], tilted, sky).isfinite().all()


def test_without_motion_a_pixel_comes_from_itself():
    pixels = torch.rand(1, 50, 2, dtype=torch.float64) * 2 - 1
    pose = torch.tensor(NOW)[None]
    for camera in TABLETOP[:2]:
        assert torch.allclose(follow(origins(camera, pose, pose, 0), pixels), pixels, atol=1e-6)
