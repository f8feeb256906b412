"""Where the cameras are: the calibration that a world model may know of its robot, and what follows from it.

Here: numbers of the embedded robot's cameras, and where each pixel of a coming picture was in the present one, for things
that stay on the table and for things that move with the hand. Not here: rendering (tabletop/render.py); a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels; it looks along its negative z axis, as MuJoCo's cameras do."""

    position: tuple[float, float, float]
    """In the world, or in the hand's frame where `on_hand`; metres."""
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    half: float
    """Tangent of half the field of view."""
    on_hand: bool = False


TABLETOP = (
    Camera((0.44, 0.0, 0.56), (0.0, 1.0, 0.0), (-0.7837, 0.0, 0.6211), 0.334595),
    Camera((0.0, -0.44, 0.56), (1.0, 0.0, 0.0), (0.0, 0.7837, 0.6211), 0.334595),
    Camera((0.085, 0.0, 0.10), (0.0, 1.0, 0.0), (-0.866, 0.0, 0.5), 0.726543, on_hand=True),
)
PLANES = (0.0, 0.05)
"""Heights of the planes on which a camera on the hand sees things lie: table and block tops, metres."""


def axes(camera: Camera, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Position (N, 3) and axes (N, 3, 3; columns right, up, backwards) of a camera when the hand is at `pose` (N, D)."""
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


def origins(camera: Camera, now: torch.Tensor, then: torch.Tensor, layer: int) -> torch.Tensor:
    """Homographies (N, 3, 3): where in the present picture were the pixels of the coming one.

    They take (x, y, 1), x from the left and y downwards in [-1, 1], to the same, up to a factor that is positive where the
    thing is in front of the camera in both pictures. `now` and `then` (N, D) are the hand's poses. A fixed camera sees the
    plane of the hand (through the pinch point, facing the camera) move with it; a camera on the hand sees the plane
    PLANES[layer] stay.
    """
    like = {"dtype": then.dtype, "device": then.device}
    here, turn = axes(camera, then)
    if camera.on_hand:
        normal = torch.tensor([0.0, 0.0, 1.0], **like).expand(len(then), 3)
        distance = PLANES[layer] - here[:, 2]
    else:
        normal, distance = turn[:, :, 2], ((then[:, :3] - here) * turn[:, :, 2]).sum(-1)
    # A ray r from the camera meets the plane at here + r distance / (normal . r); times (normal . r) that is linear in r.
    lens = torch.diag(torch.tensor([1.0, -1.0, -1 / camera.half], **like))
    rays = turn @ lens
    along = (normal[:, None] @ rays)  # (N, 1, 3): normal . r of a pixel
    points = here[:, :, None] * along + rays * distance[:, None, None]
    if not camera.on_hand:
        back = turned(now[:, 3] - then[:, 3])
        points = back @ (points - then[:, :3, None] * along) + now[:, :3, None] * along
    place, turn = axes(camera, now)
    local = turn.transpose(1, 2) @ (points - place[:, :, None] * along)
    # Both the table and the hand are met where normal . r and the distance have one sign; both are below the cameras.
    return torch.diag(torch.tensor([-1.0, 1.0, camera.half], **like)) @ local


def follow(homographies: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) and places (N, P, 2) to places (N, P, 2); what has no place before the camera ends far outside."""
    h = homographies
    x, y = pixels[..., 0], pixels[..., 1]
    u, v, w = (h[:, i, 0, None] * x + h[:, i, 1, None] * y + h[:, i, 2, None] for i in range(3))
    ahead = w.clamp(min=1e-6)
    return torch.stack([u / ahead, v / ahead], dim=-1).clamp(-4, 4)
