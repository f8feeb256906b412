"""The instruction's text encoder goes with the world model: what is imagined follows from it, and training keeps it."""

from __future__ import annotations

import numpy as np
import published_layouts as layouts
import pytest
import torch

from vlaw_models.autoencoders.base import load_autoencoder
from vlaw_models.config import WorldModelConfig
from vlaw_models.episodes import Episode
from vlaw_models.learners.world_model import finetune_world_model
from vlaw_models.published.importing import import_weights
from vlaw_models.published.part import Options
from vlaw_models.robots.droid import SPEC as DROID
from vlaw_models.world_models.base import load_world_model
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.worlds import Start


def episode(instruction: str) -> Episode:
    rng, (low, high) = np.random.default_rng(0), map(np.array, DROID.state.scale)
    states = rng.uniform(low, high, (14, 7)).astype(np.float32)
    images = rng.integers(0, 256, (14, 3, 48, 80, 3), dtype=np.uint8)
    given = {"task": "move", "seed": 0, "success": True, "cameras": DROID.camera_names, "episode_id": instruction}
    return Episode(instruction=instruction, images=images, states=states, actions=states[1:], **given)


@pytest.mark.slow
def test_what_is_imagined_follows_from_the_instruction_and_training_keeps_the_text_encoder(tmp_path):
    options = Options(DROID, preset="toy", clip=layouts.clip(tmp_path / "clip"))
    import_weights("ctrl-world", layouts.ctrl_world(tmp_path / "world.pt"), tmp_path / "world", options)
    import_weights("svd", layouts.svd(tmp_path / "svd"), tmp_path / "start", options)
    autoencoder = tmp_path / "start" / "autoencoder"
    one, other = (episode(text) for text in layouts.INSTRUCTIONS)

    def imagined(instruction: str) -> np.ndarray:
        world = ImaginedWorld(load_world_model(tmp_path / "world"), load_autoencoder(autoencoder), DROID, seed=0)
        world.reset([Start("move", 0, instruction, images=one.images[0], state=one.states[0])])
        return world.step(one.actions[None, :4]).images

    assert not np.array_equal(imagined(one.instruction), imagined(other.instruction))

    start, out = tmp_path / "world", tmp_path / "trained"
    finetune_world_model(start, autoencoder, [one, other], [], WorldModelConfig(steps=1, batch_size=2), out, seed=0)
    before, after = load_world_model(start), load_world_model(out)
    assert torch.equal(*(model.embed_text(layouts.INSTRUCTIONS) for model in (before, after)))
    assert not torch.equal(before.action_encoder[0].weight, after.action_encoder[0].weight)
