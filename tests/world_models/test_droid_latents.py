"""A world model learns from the latents that came with real DROID episodes: no autoencoder runs, and episodes that it
has not seen are predicted better than before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from vlaw_assets.importers.ctrl_world import SHAPE, open_recordings
from vlaw_assets.importers.description import Options
from vlaw_models import presets
from vlaw_models.autoencoders.video_autoencoder import VideoAutoencoder
from vlaw_models.episodes import Episode
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.robots.registry import find_robot
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import WorldModel, build_world_model
from vlaw_models.world_models.latents import LatentEpisodes, Runs, encode_episodes, windows

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "droid_sample" / "droid_subset"
LATENT = SHAPE[0] // 8, SHAPE[1] // 8
STEPS, BATCH = 10, 2
HELD_OUT = 8
"""Windows of validation episodes, always the same with the same noise."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SAMPLE.is_dir(), reason="the DROID sample is not there")]


class Given:
    """Latents by episode, as they lie in the sample."""

    def __init__(self) -> None:
        self.found: dict[int, np.ndarray] = {}

    def of(self, episode: Episode) -> np.ndarray:
        return self.found[episode.seed]


def recorded(split: str) -> LatentEpisodes:
    """All episodes of a split with the sample's own latents, Stable Video Diffusion's; no frame is decoded."""
    reader, given, episodes = open_recordings(SAMPLE, Options(split=split)).read, Given(), []
    for number in range(len(reader.names)):
        one = reader.annotation(number)
        given.found[number] = reader.latents(one, LATENT)
        images = np.zeros((len(one.states), 3, 0, 0, 3), np.uint8)
        episodes.append(Episode(one.instruction, one.instruction, number, images, one.states, one.actions, one.success))
    return encode_episodes(None, episodes, kept=given)


@torch.inference_mode()
def validation_loss(model: WorldModel, data: LatentEpisodes) -> float:
    generator, runs = torch.Generator().manual_seed(5), Runs(data, model, BATCH, np.random.default_rng(5))
    model.eval()
    chosen = [runs() for _ in range(HELD_OUT // BATCH)]
    losses = [edm.loss(model, *windows(data, model, one, data.stored[one.frames]), generator)[0] for one in chosen]
    return float(torch.cat(losses).mean())


def test_the_validation_loss_falls(monkeypatch):
    monkeypatch.setattr(VideoAutoencoder, "to_latents", None)  # nothing is encoded
    training, held_out = recorded("train"), recorded("val")
    assert (len(training), len(held_out)) == (7, 4)
    toy = presets.WORLD_MODEL["toy"]
    preset = {**toy, "sizes": {**toy["sizes"], "latent_height": LATENT[0], "latent_width": LATENT[1]}}
    model = build_world_model(preset, robot=find_robot("droid", where="test"), seed=0)
    losses = [validation_loss(model, held_out)]
    loop = dataclasses.replace(world_model_loop(STEPS, 1e-3), ema=0.8)
    for seed in (1, 2):
        train_world_model(model, training, loop=loop, batch_size=BATCH, seed=seed)
        losses.append(validation_loss(model, held_out))
    assert losses[2] < losses[1] < losses[0], losses
    assert losses[2] < 0.9 * losses[0], losses
