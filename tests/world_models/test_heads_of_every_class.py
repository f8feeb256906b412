"""Heads on every class of world model: their loss and its weight, what they learn, and where the next chunk begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_world_models import CLASSES, autoencoder_for, condition, made

from vlaw_models.config import Sampling
from vlaw_models.episodes import Start
from vlaw_models.robots.tabletop.controller import HIGH, LOW
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel
from vlaw_models.world_models.heads import UNSURE, Targets
from vlaw_models.world_models.imagined_world import ImaginedWorld

YES, NO = "put it on the left", "put it on the right"
every_class = pytest.mark.parametrize("kind", CLASSES)


class Batch:
    """Two windows, and the losses of a model with new heads on them; the same noise each time."""

    def __init__(self, kind: str):
        self.model = made(kind)
        self.model.autocast = False
        self.model.add_heads([YES, NO], seed=0)
        self.given = condition(self.model, [YES, NO])
        count = self.model.chunk // self.model.frames_per_latent
        generator = torch.Generator().manual_seed(1)
        self.future = torch.randn(2, count, *self.model.latent_shape, generator=generator)
        reward = torch.full((2, self.model.chunk), torch.nan)
        reward[0, :3] = torch.tensor([0.0, 1.0, 1.0])
        self.targets = Targets(reward, self.given.poses[:, -self.model.chunk :] + 0.1)

    def loss(self, **weights: float) -> torch.Tensor:
        noise = torch.Generator().manual_seed(3)
        return edm.loss(self.model, self.future, self.given, noise, targets=self.targets, **weights)[0]

    def of_heads(self, **weights: float) -> torch.Tensor:
        """What the heads add."""
        return self.loss(**weights) - self.loss()

    @property
    def clear(self) -> torch.Tensor:
        """1 / (1 + s): how much counts of what the heads say at this noise."""
        if self.model.deterministic:
            return torch.ones(2)
        drawn = torch.randn(2, generator=torch.Generator().manual_seed(3))
        return 1 / (1 + (self.model.edm.log_std * drawn + self.model.edm.log_mean).exp())


@every_class
def test_the_loss_is_frames_and_heads_the_less_the_more_noise(kind):
    batch = Batch(kind)
    torch.nn.init.zeros_(batch.model.heads.reward.weight)
    plain = edm.loss(batch.model, batch.future, batch.given, torch.Generator().manual_seed(3))[0]
    assert torch.equal(batch.loss(), plain)
    # An untrained head says what its bias says: of the pose, as commanded.
    state = ((0.1 / batch.model.half_range) ** 2).mean()
    assert torch.allclose(batch.of_heads(state_weight=20.0), 20 * state * batch.clear, rtol=1e-3, atol=1e-4)
    p = torch.tensor(UNSURE).sigmoid()
    unsure = -((1 - p).log() + 2 * p.log()) / 3
    added = batch.of_heads(reward_weight=20.0)
    assert torch.allclose(added[0], 20 * unsure * batch.clear[0], rtol=1e-3, atol=1e-4)
    assert added[1] == 0, "nobody knows its rewards"


@every_class
def test_what_heads_are_told_reaches_all_of_them_and_the_trunk(kind):
    batch = Batch(kind)
    for head, weights in (("reward", {"reward_weight": 1.0}), ("pose", {"state_weight": 1.0})):
        batch.model.zero_grad()
        torch.nn.init.normal_(batch.model.heads.pose.weight, std=0.1)
        batch.of_heads(**weights).sum().backward()
        reached = {name for name, one in batch.model.named_parameters() if one.grad is not None and one.grad.any()}
        other = {"reward": "pose", "pose": "reward"}[head]
        own = {name for name, _ in batch.model.named_parameters() if name.startswith("heads.")}
        assert {name for name in own if not name.startswith(f"heads.{other}.")} <= reached
        assert reached - own, "features are learned too"


@every_class
def test_heads_learn_and_their_loss_falls(kind):
    batch = Batch(kind)
    weights = {"reward_weight": 1.0, "state_weight": 1.0}
    before = batch.of_heads(**weights).sum().item()
    optimizer = torch.optim.Adam(batch.model.heads.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        batch.loss(**weights).sum().backward()
        optimizer.step()
    assert 0 <= batch.of_heads(**weights).sum().item() < 0.3 * before
    told = edm.imagine(batch.model, batch.given, Sampling(2), generator=torch.Generator().manual_seed(0))
    known = batch.targets.reward[0, :3]
    assert told.reward[0, :3][known == 1].min() > told.reward[0, :3][known == 0].max()


def moved(model: WorldModel, kind: str, monkeypatch, **options):
    """Two chunks of a closed loop, and what the model was given for each."""
    given: list[Condition] = []
    imagine = edm.imagine

    def watched(model, condition, sampling, *, generator):
        given.append(condition)
        return imagine(model, condition, sampling, generator=generator)

    rng = np.random.default_rng(0)
    size = 8 if kind in ("ChunkUNet", "CtrlWorld") else 16
    images = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    states = rng.uniform(LOW, HIGH, (1 + 2 * model.chunk, 5)).astype(np.float32)
    with monkeypatch.context() as patched:
        patched.setattr(edm, "imagine", watched)
        world = ImaginedWorld(model, autoencoder_for(kind), SPEC, **options)
        world.reset([Start("put", 0, YES, images, states[0], "e0")])
        first, second = world.step(states[None, 1 : 1 + model.chunk]), world.step(states[None, 1 + model.chunk :])
    return states[0], first, second, given


@every_class
def test_the_predicted_state_feeds_the_next_chunk(kind, monkeypatch):
    model = made(kind)
    _, bare, bare_too, _ = moved(model, kind, monkeypatch)
    assert (bare.reward, bare.ended) == (None, None)
    assert np.array_equal(bare.states, bare.actions)
    model.add_heads([YES], seed=0)
    _, _, same, _ = moved(model, kind, monkeypatch)
    assert np.allclose(same.states, same.actions, atol=1e-6), "untrained: as commanded"
    torch.nn.init.constant_(model.heads.pose.bias, 0.2)
    begun, first, second, given = moved(model, kind, monkeypatch, done_above=0.5)
    assert np.array_equal(first.actions, bare.actions)
    assert np.allclose(first.states - first.actions, 0.2 * model.half_range.numpy(), atol=1e-4)
    assert np.array_equal(first.images, bare.images)
    assert not np.array_equal(second.images, bare_too.images), "the next chunk begins where the state is"
    assert first.reward.shape == (1, model.chunk)
    assert first.ended.tolist() == [bool((first.reward > 0.5).any())]
    # What has been is told as it was reached, what is to come as it is commanded.
    reached = np.concatenate([begun[None], first.states[0]])
    before, _ = model.offsets()
    context = reached[[max(model.chunk - offset, 0) for offset in before]]
    assert np.allclose(given[1].poses[0].numpy(), np.concatenate([context, second.actions[0]]), atol=1e-6)
