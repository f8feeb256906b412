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


def origins(camera: Camera, now: torch.Tensor, then: torch.Tensor, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """Where in the present picture were the pixels of the coming one: (N, P, 2) in [-1, 1], x from the left, y downwards.

    `now` and `then` (N, D) are the hand's poses, `pixels` (N, P, 2) places in the coming picture. A fixed camera sees the
    hand and what it holds move with it, a camera on the hand sees the plane PLANES[layer] stay. Rays that meet no plane in
    front of the camera end far outside.
    """
    here, turn = axes(camera, then)
    rays = torch.stack([pixels[..., 0], -pixels[..., 1], torch.full_like(pixels[..., 0], -1 / camera.half)], dim=-1)
    rays = rays @ turn.transpose(1, 2)
    if camera.on_hand:
        depth = (PLANES[layer] - here[:, None, 2]) / rays[..., 2].clamp(max=-1e-3)
        points = here[:, None] + rays * depth.clamp(min=1e-3)[..., None]
    else:
        # The plane through the pinch point, facing the camera; its points go back with the hand.
        normal = turn[:, :, 2]
        depth = ((then[:, :3] - here) * normal).sum(-1, keepdim=True) / (rays * normal[:, None]).sum(-1).clamp(max=-1e-3)
        points = here[:, None] + rays * depth[..., None]
        back = turned(now[:, 3] - then[:, 3])
        points = (points - then[:, None, :3]) @ back.transpose(1, 2) + now[:, None, :3]
    place, turn = axes(camera, now)
    local = (points - place[:, None]) @ turn
    ahead = (-local[..., 2:]).clamp(min=1e-3)
    return (local[..., :2] * torch.tensor([1.0, -1.0], device=now.device) / (ahead * camera.half)).clamp(-4, 4)
