"""Where each pixel of a coming picture was in the present one, as the cameras' calibration tells: for things that stay
on the table, and for things that move with a hand whose orientation is a pitch.
"""

from __future__ import annotations

import torch

from vlaw_models.robots.spec import Pinhole

PLANES = (0.0, 0.05)
"""Heights of the planes on which a camera on the hand sees things lie: table and block tops, metres."""


def axes(camera: Pinhole, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Position (N, 3) and axes (N, 3, 3; columns right, up, backwards) of a camera when the hand is at `pose` (N,
    D)."""
    frame = torch.tensor([camera.right, camera.up], dtype=pose.dtype)
    frame = torch.nn.functional.normalize(torch.cat([frame, torch.linalg.cross(frame[:1], frame[1:])]), dim=1).T
    position = torch.tensor(camera.position, dtype=pose.dtype)
    frame, position = frame.to(pose.device), position.to(pose.device)
    if not camera.on_hand:
        return position.expand(len(pose), 3), frame.expand(len(pose), 3, 3)
    turn = turned(pose[:, 3])
    return pose[:, :3] + turn @ position, turn @ frame


def turned(pitch: torch.Tensor) -> torch.Tensor:
    """(N,) angles about the y axis to rotations (N, 3, 3)."""
    zero, one, c, s = torch.zeros_like(pitch), torch.ones_like(pitch), pitch.cos(), pitch.sin()
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], dim=-1).unflatten(-1, (3, 3))


def project(camera: Pinhole, pose: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where `points` (N, 3), metres in the world, are in the picture when the hand is at `pose` (N, D): (N, 2), as in
    `origins`."""
    place, turn = axes(camera, pose)
    right, up, back = (turn.transpose(1, 2) @ (points - place)[:, :, None])[..., 0].unbind(1)
    return torch.stack([right, -up], dim=1) / (-camera.half * back).clamp(min=1e-6)[:, None]


def origins(camera: Pinhole, now: torch.Tensor, then: torch.Tensor, layer: int) -> torch.Tensor:
    """Homographies (N, 3, 3): where in the present picture were the pixels of the coming one.

    They take (x, y, 1), x from the left and y downwards in [-1, 1], to the same, up to a factor that is positive where
    the thing is in front of the camera in both pictures. `now` and `then` (N, D) are the hand's poses. A fixed camera
    sees the plane of the hand (through the pinch point, facing the camera) move with it; a camera on the hand sees the
    plane PLANES[layer] stay.
    """
    points, along = _met(camera, then, layer)
    if not camera.on_hand:
        points = turned(now[:, 3]) @ points + now[:, :3, None] * along
    place, turn = axes(camera, now)
    local = turn.transpose(1, 2) @ (points - place[:, :, None] * along)
    # Both the table and the hand are met where normal . r and the distance have one sign; both are below the cameras.
    return torch.diag(torch.tensor([-1.0, 1.0, camera.half], dtype=then.dtype, device=then.device)) @ local


def places(camera: Pinhole, pose: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, P) metres: what each of `pixels`, (P, 2) or (N, P, 2) as in `origins`, shows when the hand is at `pose`
    (N, D).

    For a fixed camera in the hand's frame, on the plane through the pinch point that faces the camera: where on the
    hand, if the hand is there. For a camera on the hand on the table, in the world. Beyond the horizon: as far as just
    before it.
    """
    points, along = _met(camera, pose, 0)
    rays = torch.nn.functional.pad(pixels, (0, 1), value=1.0).mT
    return (points @ rays) / (along @ rays).clamp(max=-1e-2)


def _met(camera: Pinhole, pose: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear maps of a pixel (x, y, 1): where its ray meets the plane times a factor (N, 3, 3), and that factor (N, 1,
    3).

    The factor is negative where the plane is before the camera. The frame is the hand's for a fixed camera, else the
    world's.
    """
    like = {"dtype": pose.dtype, "device": pose.device}
    here, turn = axes(camera, pose)
    if camera.on_hand:
        normal = torch.tensor([0.0, 0.0, 1.0], **like).expand(len(pose), 3)
        distance = PLANES[layer] - here[:, 2]
    else:
        normal, distance = turn[:, :, 2], ((pose[:, :3] - here) * turn[:, :, 2]).sum(-1)
    # A ray r from the camera meets the plane at here + r distance / (normal . r); times (normal . r) that is linear in
    # r.
    rays = turn @ torch.diag(torch.tensor([1.0, -1.0, -1 / camera.half], **like))
    along = normal[:, None] @ rays
    points = here[:, :, None] * along + rays * distance[:, None, None]
    if not camera.on_hand:
        points = turned(-pose[:, 3]) @ (points - pose[:, :3, None] * along)
    return points, along


def follow(homographies: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) and places (N, P, 2) to places (N, P, 2); what has no place before the camera ends far outside."""
    h = homographies
    x, y = pixels[..., 0], pixels[..., 1]
    u, v, w = (h[:, i, 0, None] * x + h[:, i, 1, None] * y + h[:, i, 2, None] for i in range(3))
    ahead = w.clamp(min=1e-6)
    return torch.stack([u / ahead, v / ahead], dim=-1).clamp(-4, 4)
