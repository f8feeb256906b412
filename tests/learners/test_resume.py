"""A training that was interrupted ends as one that was not, and what cannot be gone on with is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_policies import FLOW, make

from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.errors import VlawError
from vlaw_models.learners import resume
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.world_model import train_world_model, world_model_loop
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.rollouts.demonstrate import iterate_demonstrations
from vlaw_models.world_models.chunk_warp import ChunkWarp, ChunkWarpConfig
from vlaw_models.world_models.latents import encode_episodes

SIZES = ChunkWarpConfig(**ChunkWarp.of_robot(SPEC), channels=(16, 16, 32), embedding=32)
STEPS = 6


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def episodes():
    return list(iterate_demonstrations(["stack"], 2, robot=SPEC, purpose="co_training", seed=0))


@pytest.fixture(scope="module")
def data(episodes):
    return encode_episodes(FoldedPixels(), episodes, when_drawn=True)


def killing(after: int):
    def progress(done: int, *_said) -> None:
        if done == after:
            raise KilledError

    return progress


def trained(data, state=None, *, killed_after: int = STEPS + 1, channels=SIZES.channels):
    torch.manual_seed(0)
    model = ChunkWarp(replace(SIZES, channels=channels))
    loop = world_model_loop(STEPS, 1e-3, ema=0.9)
    options = {"batch_size": 2, "seed": 3, "unroll": 2, "state": state, "progress": killing(killed_after)}
    return train_world_model(model, data, loop=loop, **options), model.state_dict()


def trained_policy(episodes, state=None, *, killed_after: int = STEPS + 1):
    policy = make(FlowPolicy, {**FLOW, "image_size": 64, "shift": 2}, episodes, execute_steps=4, euler_steps=2)
    loop = LoopConfig(steps=STEPS, learning_rate=1e-3, ema=0.9)
    options = {"batch_size": 4, "seed": 3, "state": state, "progress": killing(killed_after)}
    return train_policy(policy, episodes, loop, **options), policy.state_dict()


@pytest.mark.parametrize(("learn", "from_what"), [(trained, "data"), (trained_policy, "episodes")])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(learn, from_what, request, tmp_path, monkeypatch):
    data = request.getfixturevalue(from_what)
    losses, weights = learn(data)
    monkeypatch.setattr(resume.Resume.__init__, "__kwdefaults__", {"every_s": 0.0})
    state = tmp_path / "work" / "state"
    for killed_after in (2, 4):
        with pytest.raises(KilledError):
            learn(data, state, killed_after=killed_after)
    again, resumed = learn(data, state)
    assert again == losses
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert [path.name for path in state.parent.iterdir()] == ["state"]


def test_a_state_that_is_none_or_of_another_training_is_refused(data, tmp_path, monkeypatch):
    state = tmp_path / "state"
    state.write_bytes(b"no state")
    with pytest.raises(VlawError, match="cannot be read"):
        trained(data, state)
    state.unlink()
    monkeypatch.setattr(resume.Resume.__init__, "__kwdefaults__", {"every_s": 0.0})
    with pytest.raises(KilledError):
        trained(data, state, killed_after=1)
    with pytest.raises(VlawError, match="of another training"):
        trained(data, state, channels=(16, 32, 32))
