"""pi0 and pi0.5 act as openpi's own code does, masked pictures and prompts included (golden/make_openpi.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_openpi import RECORD, policy, vectors

from vlaw_models.episodes import Observation
from vlaw_models.policies.pixels import openpi_pixels

KINDS = pytest.mark.parametrize("kind", ["pi0", "pi05"])
CLOSE = 1e-5


def encoded(ours, given, mask):
    """The golden observation with its pictures masked, by parts of the policy that take masks."""
    pixels = torch.from_numpy(given["images"]).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    state = ours.normalization.state(torch.from_numpy(given["states"]))
    tokens = torch.from_numpy(given["tokens"]).long()
    words, told = ours.words(tokens), tokens != ours.tokenizer.pad_id
    return ours.prefix(ours.patches(pixels), words, told, state, torch.from_numpy(mask))


def test_pictures_are_made_square_as_openpi_s_robots_do():
    given = vectors("pi0")
    found = (openpi_pixels(torch.from_numpy(given["wide"])[None], 32)[0].permute(0, 2, 3, 1) + 1) * 127.5
    off = np.abs(found.numpy() - given["square"])
    assert off.max() < 1.01, "a whole level, where PIL's fixed-point weights round the other way"
    assert (off > 0.5).mean() < 0.002


@KINDS
def test_prompts_are_openpi_s(kind):
    ours, given = policy(kind), vectors(kind)
    assert ours.read(RECORD["instructions"], given["states"]).tolist() == given["tokens"].tolist()


@KINDS
@pytest.mark.parametrize("run", ["droid", "mixed"])
@torch.no_grad()
def test_actions_with_masked_pictures_are_openpi_s(kind, run):
    ours, given = policy(kind), vectors(kind)
    noise = torch.from_numpy(given["noise"])
    context = encoded(ours, given, given[f"{run}_mask"])
    found = ours.velocity(context, noise, torch.full((len(noise),), 0.37)).numpy()
    assert np.abs(found - given[f"{run}_velocity"]).max() < CLOSE
    assert np.abs(ours.denoise(context, noise).numpy() - given[f"{run}_actions"]).max() < CLOSE
    unmasked = encoded(ours, given, np.ones_like(given[f"{run}_mask"]))
    assert np.abs(ours.denoise(unmasked, noise).numpy() - given[f"{run}_actions"]).max() > 0.01, "the mask matters"


@KINDS
def test_sampling_is_openpi_s_from_pictures_and_words_to_targets(kind, monkeypatch):
    """The robot has another camera between: the policy's own order is exterior, wrist, and the third is masked."""
    given = vectors(kind)
    ours = policy(kind, views=(0, 2))
    first, wrist, other = (given["images"][:, view] for view in range(3))
    monkeypatch.setattr(ours, "draw_noise", lambda *_: torch.from_numpy(given["noise"]))
    seen = Observation(np.stack([first, other, wrist], axis=1), given["states"])
    found = ours.sample(seen, RECORD["instructions"], torch.Generator())
    assert np.abs(found - given["droid_targets"]).max() < CLOSE
