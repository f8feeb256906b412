"""From what a frozen encoder makes of imagined pictures to what it would make of real ones.

Pictures of a world model are a little off: what is small is faint, what moves is blurred. An encoder that was trained
on real ones makes something else of them, and a head that learns from it learns for a world that is not there. Replays
of recorded episodes inside the world model give pairs: the same actions, one picture real, the other imagined. A linear
map of the features, fitted to them, takes back part of the difference, both where the policy acts in imagination and
where it learns from what it did there.
"""

from __future__ import annotations

import torch
from torch import nn

RIDGE = 0.3
"""Strength of the ridge regression, in units of the features' variance: least of the gap left on held-out replays."""


class Bridge(nn.Linear):
    """Features (..., F) of imagined pictures to those of real ones; at first it changes nothing."""

    def __init__(self, size: int):
        super().__init__(size, size)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + super().forward(features)

    @torch.no_grad()
    def fit(self, imagined: torch.Tensor, real: torch.Tensor) -> None:
        """Fits it to pairs of features, (N, F) each."""
        mean, scale = imagined.mean(dim=0), imagined.std(dim=0) + 1e-4
        known = torch.cat([(imagined - mean) / scale, torch.ones(len(imagined), 1)], dim=1).double()
        strength = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
        found = torch.linalg.solve(known.T @ known + strength, known.T @ (real - imagined).double())
        weight = found[:-1] / scale[:, None].double()
        self.weight.copy_(weight.T)
        self.bias.copy_(found[-1] - mean.double() @ weight)


def left_of_the_gap(bridge: Bridge, imagined: torch.Tensor, real: torch.Tensor) -> float:
    """Share of the squared difference between pairs of features (N, F) that is left behind the bridge."""
    with torch.no_grad():
        return float((bridge(imagined) - real).square().sum() / (imagined - real).square().sum())
