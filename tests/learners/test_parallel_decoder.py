"""Policies of OpenVLA-OFT's kind learn to do what the instruction, or the picture, says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from walker import decoder, ends, observation, walks

from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy

LIGHT = {1: 200, -1: 60}
WORDS = {1: "right", -1: "left"}


@pytest.mark.parametrize(
    ("cls", "cue"),
    [pytest.param(OpenVlaOftPolicy, "words", marks=pytest.mark.slow), (OpenVlaOftL1Policy, "pictures")],
)
def test_it_goes_where_it_is_told(cls, cue, one_thread):
    data = walks([1, -1] * 15)
    for episode in data:
        side = 1 if episode.success else -1
        if cue == "words":
            episode.instruction = WORDS[side]
        else:
            episode.images = np.full_like(episode.images, LIGHT[side])
    policy, gone = decoder(cls, data, 120), {}
    for side in (1, -1):
        seen = observation(20)
        if cue == "pictures":
            seen = dataclasses.replace(seen, images=np.full_like(seen.images, LIGHT[side]))
        words = [WORDS[side] if cue == "words" else "go"] * 20
        gone[side] = ends(policy.sample(seen, words, torch.Generator(), 0.0), seen).mean()
    assert gone[-1] < -1 < 1 < gone[1]
