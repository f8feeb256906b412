"""Heads of world models: reward and pose of the coming frames, beside frames that stay what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_policies import FLOW, make
from toy_world_models import CLASSES, condition, made

from vlaw_models.autoencoders.folded_pixels import FoldedPixels
from vlaw_models.config import Sampling, WorldModelConfig
from vlaw_models.episodes import Episode, Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.world_model import finetune_world_model, train_world_model, world_model_loop
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.robots.tabletop.controller import HIGH, LOW
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.world_models import edm
from vlaw_models.world_models.base import Condition, WorldModel, load_world_model
from vlaw_models.world_models.heads import Targets, head_errors
from vlaw_models.world_models.imagined_world import ImaginedWorld
from vlaw_models.world_models.latents import Runs, encode_episodes, frame_rewards, targets, windows

YES, NO = "put it on the left", "put it on the right"


def imagined(model: WorldModel, given: Condition) -> edm.Prediction:
    return edm.imagine(model, given, Sampling(2), generator=torch.Generator().manual_seed(0))


def episode(seed: int, instruction: str = YES, *, success: bool | None = True, **more) -> Episode:
    rng = np.random.default_rng(seed)
    states = rng.uniform(LOW, HIGH, (9, 5)).astype(np.float32)
    images = rng.integers(0, 256, (9, 3, 16, 16, 3), dtype=np.uint8)
    return Episode("put", instruction, seed, images, states, states[1:].copy(), success, episode_id=f"e{seed}", **more)


@pytest.mark.parametrize("kind", CLASSES)
def test_frames_are_the_same_with_heads_and_survive_a_checkpoint_with_them(kind, tmp_path):
    model = made(kind)
    before = imagined(model, condition(model, [YES] * 2))
    assert before.reward is None
    bare = load_world_model(model.save(tmp_path / "bare"))
    assert bare.heads is None
    model.add_heads([YES, NO], seed=0)
    given = condition(model, [YES, NO])
    torch.nn.init.normal_(model.heads.pose.weight, std=0.1)
    after = imagined(model, given)
    assert torch.equal(before.frames, after.frames)
    assert after.reward.shape == (2, model.chunk)
    assert after.states.shape == (2, model.chunk, 5)
    assert ((after.reward > 0) & (after.reward < 1)).all()
    other = imagined(model, replace(given, words=given.words.flip(0)))
    assert (other.reward != after.reward).any(), "they read the instruction"
    again = load_world_model(model.save(tmp_path / "m"))
    assert again.config == model.config
    assert torch.equal(again.read_words([YES, NO]), given.words)
    for one, two in zip(imagined(again, given), after, strict=True):
        assert torch.equal(one, two)


def test_asking_what_is_not_there_is_refused(tmp_path):
    model, folded = made("ChunkWarp"), FoldedPixels()
    with pytest.raises(VlawError, match=r"done_above needs a world model that predicts reward.*no heads"):
        ImaginedWorld(model, folded, SPEC, done_above=0.9)
    data = encode_episodes(folded, [episode(0)])
    loop = world_model_loop(1, 1e-3)
    with pytest.raises(VlawError, match="has no heads"):
        train_world_model(model, data, loop=loop, batch_size=1, seed=0, reward_weight=1.0)
    with pytest.raises(VlawError, match="their losses have no weight"):
        train_world_model(model, data, loop=loop, batch_size=1, seed=0, frozen_trunk=True)
    model.add_heads([YES], seed=0)
    with pytest.raises(VlawError, match="were not told the task"):
        imagined(model, replace(condition(model, [YES]), words=None))
    with pytest.raises(VlawError, match="outside"):
        frame_rewards(episode(0, extra={"rewards": [2.0] * 8}))
    model.feature_shape = None
    with pytest.raises(VlawError, match="gives no features"):
        model.add_heads([YES], seed=0)


def test_rewards_are_those_recorded_or_the_last_frames_of_a_success():
    assert str(frame_rewards(episode(0)).tolist()) == "[0.0, nan, nan, nan, nan, 1.0, 1.0, 1.0, 1.0]"
    assert frame_rewards(episode(0, success=False)).tolist() == [0] * 9
    assert np.isnan(frame_rewards(episode(0, success=None))).all()
    recorded = [0.0, 0, 1, 1, 0, 0, 0, 1]
    assert frame_rewards(episode(0, extra={"rewards": recorded})).tolist() == [0, *recorded]


def test_cross_entropy_is_of_the_frames_whose_reward_is_known():
    reward, states, half = torch.tensor([[0.0, 1.0, 1.0, torch.nan]]), torch.zeros(1, 4, 5), torch.ones(5)
    logits = torch.tensor([[0.5, -1.0, 2.0, 9.0]])
    found, _ = head_errors(logits, states, Targets(reward, states), half)
    p = logits.sigmoid()[0]
    assert found.item() == pytest.approx(float(-((1 - p[0]).log() + p[1].log() + p[2].log()) / 3), abs=1e-6)


def finetuned(episodes: list[Episode], tmp_path: Path, *, steps: int, frozen: bool) -> tuple[WorldModel, WorldModel]:
    """A world model without heads, and what becomes of it."""
    model = made("ChunkWarp")
    start, pixels = model.save(tmp_path / "start"), FoldedPixels().save(tmp_path / "pixels")
    cfg = WorldModelConfig(
        steps=steps, batch_size=8, learning_rate=3e-3, reward_weight=1.0, state_weight=1.0, frozen_trunk=frozen
    )
    finetune_world_model(start, pixels, episodes, [], cfg, tmp_path / "made", seed=0)
    return model, load_world_model(tmp_path / "made")


@pytest.mark.parametrize("frozen", [True, False])
def test_finetuning_adds_heads_and_a_frozen_trunk_stays_to_the_bit(frozen, tmp_path):
    model, learned = finetuned([episode(0), episode(1, NO)], tmp_path, steps=1, frozen=frozen)
    before, after = model.state_dict(), learned.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) == frozen
    fresh = made("ChunkWarp")
    fresh.add_heads([YES, NO], seed=0)
    assert not torch.equal(fresh.heads.reward.weight, learned.heads.reward.weight)
    assert learned.heads.tokenizer.unknown(f"{YES} {NO}") == []


def test_seeing_heads_look_at_the_last_frame_with_eyes_that_stay_as_they_are(tmp_path):
    model, folded = made("ChunkWarp"), FoldedPixels()
    episodes = [episode(0), episode(1, NO)]
    policy = make(FlowPolicy, {**FLOW, "image_size": 16}, episodes, execute_steps=4, euler_steps=2)
    given = condition(model, [YES, NO])
    before = imagined(model, given).frames
    model.add_seeing_heads(policy, seed=0)
    given = replace(given, words=model.read_words([YES, NO]))
    after = imagined(model, given)
    assert torch.equal(after.frames, before)
    pixels = torch.from_numpy(episodes[0].images).permute(0, 1, 4, 2, 3).flatten(0, 1).float() / 127.5 - 1
    latents = folded.to_latents(pixels).unflatten(0, (-1, 3)).movedim(1, 2).flatten(2, 3)
    assert torch.equal(model.pictures(latents), torch.from_numpy(episodes[0].images))

    features = torch.zeros(2, *model.feature_shape)
    other = after.frames.clone()
    other[:, -1] = -other[:, -1]
    told = [model.tell(features, frames, given)[0] for frames in (after.frames, other)]
    assert (told[0] != told[1]).all(), "all frames' rewards depend on the last frame's picture"
    other[:, :-1], other[:, -1] = 0, after.frames[:, -1]
    assert torch.equal(model.tell(features, other, given)[0], told[0])

    data = encode_episodes(folded, episodes)
    train_world_model(
        model, data, loop=world_model_loop(2, 1e-2), batch_size=2, seed=0, reward_weight=1.0, frozen_trunk=True
    )
    for one, two in zip(model.heads.eyes.state_dict().values(), policy.eyes.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    again = load_world_model(model.save(tmp_path / "m"))
    assert again.heads.config == model.heads.config
    assert torch.equal(imagined(again, given).reward, imagined(model, given).reward)
    assert not any(parameter.requires_grad for parameter in again.heads.eyes.parameters())
    with pytest.raises(VlawError, match="cannot look at its frames"):
        made("ChunkUNet").add_seeing_heads(policy, seed=0)
    larger = make(FlowPolicy, FLOW, episodes, execute_steps=4, euler_steps=2)
    with pytest.raises(VlawError, match=r"3 pictures of 32 pixels, the frames are 3 of 16 x 16"):
        made("ChunkWarp").add_seeing_heads(larger, seed=0)


@pytest.mark.slow
def test_heads_learn_what_the_task_asks_for(tmp_path):
    """The same film is a success of one instruction and a failure of the other."""
    folded = FoldedPixels()
    episodes = [episode(seed % 4, (NO, YES)[seed // 4], success=bool(seed // 4)) for seed in range(8)]
    _, learned = finetuned(episodes, tmp_path, steps=60, frozen=True)
    data = encode_episodes(folded, episodes, when_drawn=True)
    rng = np.random.default_rng(1)
    chosen = Runs(data, learned, 64, rng)()
    _, given = windows(data, learned, chosen, data.stored[chosen.frames])
    told, truth = imagined(learned, given), targets(data, learned, chosen)
    assert told.reward[truth.reward == 1].mean() > 0.8 > 0.3 > told.reward[truth.reward == 0].mean()


def test_rows_that_ended_leave_and_the_others_are_as_before():
    model, folded = made("ChunkWarp"), FoldedPixels()
    model.add_heads([YES, NO], seed=0)
    episodes = [episode(seed, (YES, NO)[seed % 2]) for seed in range(3)]
    starts = [Start("put", e.seed, e.instruction, e.images[0], e.states[0], e.episode_id) for e in episodes]
    actions = np.stack([e.actions for e in episodes])
    whole, fewer = ImaginedWorld(model, folded, SPEC), ImaginedWorld(model, folded, SPEC)
    for world in (whole, fewer):
        world.reset(starts)
        world.step(actions[:, :4])
    rows = np.array([0, 2])
    fewer.keep(rows)
    assert fewer.instructions() == [YES, YES]
    a, b = whole.step(actions[:, 4:]), fewer.step(actions[rows, 4:])
    assert np.abs(a.images[rows].astype(int) - b.images).max() <= 1
    assert np.allclose(a.reward[rows], b.reward, atol=1e-3)
