"""Policies: flow matching learns, sampling is seeded and independent of the batch, checkpoints are complete."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from policy_scenes import reaching_episodes
from small_policies import FLOW, OFT, PI0, first_observation, make, sample

from vlaw_models.checkpoint import load_config, load_tensors, save_checkpoint
from vlaw_models.config import PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.learners.policy import update_policy
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.build import build_policy
from vlaw_models.policies.data import FeatureData, MixedData, StepData
from vlaw_models.policies.flow_policy import FlowPolicy, pointing_error
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy
from vlaw_models.policies.pi0 import Pi0Policy
from vlaw_models.presets import POLICY, foundation
from vlaw_models.robots.tabletop.spec import SPEC
from vlaw_models.tokenize import InstructionTokenizer

CLASSES = [(FlowPolicy, FLOW), (Pi0Policy, PI0), (OpenVlaOftPolicy, OFT), (OpenVlaOftL1Policy, OFT)]


def drawn(data, size):
    return data.at(data.choose(np.random.default_rng(0), size), 8)


@pytest.mark.slow
def test_flow_policy_reaches_the_square_that_the_instruction_names(episodes):
    policy = make(FlowPolicy, FLOW, episodes)
    loop = LoopConfig(steps=450, learning_rate=2e-3, ema=0.98, bfloat16=False)
    losses = train_policy(policy, episodes, loop, batch_size=64, seed=3)
    assert np.mean(losses[-30:]) < 0.25 * np.mean(losses[:10])
    held_out = reaching_episodes(64, seed=77)
    swapped = [e.instruction.replace("red", "?").replace("blue", "red").replace("?", "blue") for e in held_out]
    goal = np.stack([e.extra["goal"] for e in held_out])
    other = np.stack([e.extra["other"] for e in held_out])
    end = sample(policy, held_out)[:, -1, :2]
    end_swapped = sample(policy, held_out, instructions=swapped)[:, -1, :2]
    # Half of a table of 40 cm would be a guess; the other square is 9 cm away or more.
    assert np.median(np.linalg.norm(end - goal, axis=1)) < 0.045
    assert np.median(np.linalg.norm(end_swapped - other, axis=1)) < 0.045
    nearer = np.linalg.norm(end - goal, axis=1) < np.linalg.norm(end - other, axis=1)
    assert nearer.mean() > 0.9


@pytest.mark.parametrize(("cls", "sizes"), CLASSES)
def test_a_sample_does_not_depend_on_the_rest_of_the_batch(cls, sizes, episodes):
    policy = make(cls, sizes, episodes)
    with torch.no_grad():
        for parameter in policy.parameters():  # leave the zero initialisation of the head
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)))
    both = sample(policy, episodes[:2])
    one, two = sample(policy, episodes[:1], seed=0), sample(policy, episodes[1:2], seed=1)
    np.testing.assert_allclose(both, np.concatenate([one, two]), atol=2e-5)
    assert both.shape == (2, 8, 5)
    assert both.dtype == np.float32
    assert np.array_equal(both, sample(policy, episodes[:2]))
    by_chance = cls is not OpenVlaOftL1Policy
    assert np.allclose(both, sample(policy, episodes[:2], seed=50), atol=1e-3) != by_chance


@pytest.mark.parametrize(("cls", "sizes"), CLASSES)
def test_a_checkpoint_gives_back_the_same_policy(cls, sizes, episodes, tmp_path):
    policy = make(cls, sizes, episodes, execute_steps=3)
    policy.save(tmp_path / "a")
    again = load_policy(tmp_path / "a")
    assert (again.execute_steps, again.chunk_size, type(again)) == (3, 8, cls)
    assert np.array_equal(sample(policy, episodes[:2]), sample(again, episodes[:2]))
    again.save(tmp_path / "b")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_damaged_checkpoints_are_refused_with_a_remedy(episodes, tmp_path):
    policy = make(FlowPolicy, FLOW, episodes)
    with pytest.raises(VlawError, match=r"config\.json"):
        load_policy(tmp_path / "nothing")

    def broken(name):
        return policy.save(tmp_path / name)

    weights = broken("cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(VlawError, match="weights cannot be read"):
        load_policy(tmp_path / "cut")
    (broken("no_weights") / "model.safetensors").unlink()
    with pytest.raises(VlawError, match="no weights"):
        load_policy(tmp_path / "no_weights")
    (broken("no_words") / "tokenizer.json").unlink()
    with pytest.raises(VlawError, match=r"tokenizer\.json"):
        load_policy(tmp_path / "no_words")
    (broken("json") / "config.json").write_text('{"class": ')
    with pytest.raises(VlawError, match="not readable JSON"):
        load_policy(tmp_path / "json")
    folder = broken("sizes")
    config = json.loads((folder / "config.json").read_text())
    config["sizes"]["context"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VlawError, match="do not fit"):
        load_policy(folder)
    save_checkpoint(tmp_path / "judge", {"class": "RewardModel"}, load_tensors(folder))
    with pytest.raises(VlawError, match="cannot be used as a policy"):
        load_policy(tmp_path / "judge")
    with pytest.raises(VlawError, match="plain JSON"):
        save_checkpoint(tmp_path / "never", {"class": "X", "a": np.zeros(3)}, {})
    assert not (tmp_path / "never").exists()


def test_loss_is_weighted_per_sample_and_reproducible(episodes):
    policy = make(FlowPolicy, FLOW, episodes)
    batch = drawn(StepData.from_episodes(episodes), 6)

    def loss(weight):
        return policy.loss(
            torch.from_numpy(batch.images),
            torch.from_numpy(batch.states),
            batch.instructions,
            torch.from_numpy(batch.actions),
            torch.as_tensor(weight, dtype=torch.float32),
            torch.Generator().manual_seed(4),
        ).item()

    singles = [loss(np.eye(6)[index]) for index in range(6)]
    assert min(singles) > 0
    assert loss(np.ones(6)) == pytest.approx(sum(singles), rel=1e-5)
    weights = np.array([1, 0, 2, 0, 0, 0.5])
    assert loss(weights) == pytest.approx(float(np.dot(weights, singles)), rel=1e-5)


def test_word_order_reaches_the_policy(episodes):
    sentences = ["stack red on blue", "stack blue on red"]
    tokenizer = InstructionTokenizer.from_instructions(sentences, length=8)
    ids = tokenizer(sentences)
    assert sorted(ids[0].tolist()) == sorted(ids[1].tolist())
    policy = FlowPolicy(tokenizer, make(FlowPolicy, FLOW, episodes).normalization, **FLOW)
    observation = first_observation(episodes[:1])
    images, state = torch.from_numpy(observation.images), torch.from_numpy(observation.state)
    first, second = (policy.encode(images, policy.normalization.state(state), ids[row : row + 1]) for row in (0, 1))
    assert not torch.allclose(first.features, second.features, atol=1e-4)


def test_the_observation_is_encoded_once_per_sample(episodes, monkeypatch):
    policy, calls = make(FlowPolicy, FLOW, episodes, euler_steps=7), []
    encode = policy.encode
    monkeypatch.setattr(policy, "encode", lambda *arguments: calls.append(1) or encode(*arguments))
    sample(policy, episodes[:2])
    assert len(calls) == 1


def test_random_shift_moves_each_camera_by_at_most_the_given_pixels(episodes):
    policy = make(FlowPolicy, {**FLOW, "shift": 3}, episodes)
    ramp = torch.arange(32, dtype=torch.uint8)
    images = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"), dim=-1)
    images = torch.cat([images, images[..., :1]], dim=-1).expand(4, 3, 32, 32, 3)
    moved, points = policy.augment(images, torch.full((4, 3, 2, 2), 0.5), torch.Generator().manual_seed(0))
    offsets = moved[:, :, 16, 16, :2].int() - 16
    # What was in the middle of the picture has moved the other way by as many pixels; x comes first.
    assert torch.allclose(points, 0.5 - (offsets.flip(-1) / 32)[:, :, None].expand(-1, -1, 2, -1))
    assert offsets.abs().max() <= 3
    assert len(torch.unique(offsets.reshape(-1, 2), dim=0)) > 4
    expected = (ramp.int() + offsets[2, 1, 0]).clamp(0, 31)
    assert torch.equal(moved[2, 1, :, 5, 0].int(), expected)


def test_normalisation_is_inverted_and_keeps_the_gripper_absolute(episodes):
    statistics = make(FlowPolicy, FLOW, episodes).normalization
    batch = drawn(StepData.from_episodes(episodes), 256)
    actions, states = torch.from_numpy(batch.actions), torch.from_numpy(batch.states)
    normalized = statistics.actions(actions, states)
    torch.testing.assert_close(statistics.targets(normalized, states), actions, atol=1e-5, rtol=0)
    assert (normalized.abs() <= 1.05).float().mean() > 0.95
    closed = states.clone()
    closed[:, 4] = 1
    torch.testing.assert_close(statistics.actions(actions, closed)[..., 4], normalized[..., 4])
    moved = states.clone()
    moved[:, 0] += 0.1
    assert (statistics.actions(actions, moved)[..., 0] < normalized[..., 0]).all()


def test_steps_are_drawn_uniformly_and_chunks_padded_with_the_last_action(episodes):
    few = reaching_episodes(3, seed=8)
    for episode in few:
        episode.states[:, 3] = np.linspace(0, 1, 9)  # so that no two steps look the same
    data = StepData.from_episodes(few)
    assert all(a is b.images for a, b in zip(data.images, few, strict=True))
    batch = drawn(data, 4000)
    seen = {}
    for image, state, action in zip(batch.images, batch.states, batch.actions, strict=True):
        found = [(e, t) for e in range(3) for t in range(8) if np.array_equal(few[e].states[t], state)]
        episode, t = found[0]
        seen[(episode, t)] = seen.get((episode, t), 0) + 1
        assert np.array_equal(image, few[episode].images[t])
        assert np.array_equal(action[: 8 - t], few[episode].actions[t:])
        assert (action[8 - t :] == few[episode].actions[-1]).all()
    assert len(seen) == 24
    assert min(seen.values()) > 100
    stacked = StepData.from_arrays(
        np.concatenate([e.images[:-1] for e in few]),
        np.concatenate([e.states[:-1] for e in few]),
        np.concatenate([e.actions for e in few]),
        [e.instruction for e in few],
        [8, 8, 8],
    )
    again = drawn(stacked, 50)
    expected = drawn(data, 50)
    assert np.array_equal(again.images, expected.images)
    assert np.array_equal(again.actions, expected.actions)


def test_mixture_takes_its_share_and_weight_zero_is_left_out(episodes):
    real, imagined = StepData.from_episodes(episodes[:2]), StepData.from_episodes(episodes[2:9])
    batch = drawn(MixedData([real, imagined], [0.25, 0.75]), 64)
    known = np.concatenate([e.states[:-1] for e in episodes[:2]])
    from_real = [(known == state).all(1).any() for state in batch.states]
    assert sum(from_real) == 16
    assert len(StepData.from_episodes(episodes[:4], weights=[1, 0, 0, 1])) == 16
    with pytest.raises(VlawError, match="no control step"):
        StepData.from_episodes(episodes[:2], weights=[0, 0])
    with pytest.raises(VlawError, match="no control step"):
        StepData.from_episodes([])


def update(start, real, imagined, settings, out, seed=1):
    learner = load_learner("filtered", where="a test")
    return update_policy(start, learner, Examples.equal(real), Examples.equal(imagined), settings, out, seed=seed)


def test_an_update_writes_a_complete_checkpoint_and_repeats_itself(episodes, tmp_path):
    make(FlowPolicy, FLOW, episodes).save(tmp_path / "start")
    cfg = PolicyConfig(steps=6, batch_size=16)
    done = [update(tmp_path / "start", episodes[:4], episodes[4:9], cfg, tmp_path / name) for name in ("one", "two")]
    assert done[0]["losses"] == done[1]["losses"]
    assert len(done[0]["losses"]) == 6
    assert (done[0]["real_steps"], done[0]["imagined_steps"]) == (32, 40)
    one, two, start = (tmp_path / name / "model.safetensors" for name in ("one", "two", "start"))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != start.read_bytes()
    assert load_config(tmp_path / "one") == load_config(tmp_path / "start")
    with pytest.raises(VlawError, match="no episode to learn from"):
        update(tmp_path / "start", [], [], cfg, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_training_refuses_data_that_are_not_numbers(episodes):
    bad = reaching_episodes(2, seed=5)
    bad[1].actions[3, 2] = np.nan
    with pytest.raises(VlawError, match="training episode 1"):
        StepData.from_episodes(bad)


def test_foundation_says_what_to_do_when_nothing_is_shipped():
    with pytest.raises(VlawError, match="vlaw pretrain"):
        foundation("paper", "base_policy")
    with pytest.raises(VlawError, match="no 'policies'"):
        foundation("tiny", "policies")


@pytest.mark.parametrize("preset", ["tiny", pytest.param("small", marks=pytest.mark.slow)])
def test_presets_build_policies_that_are_the_same_for_the_same_seed(preset, episodes):
    normalization = make(FlowPolicy, FLOW, episodes).normalization
    one, two, other = (
        build_policy(POLICY[preset], normalization, robot=SPEC, seed=seed, instructions=["push it"])
        for seed in (1, 1, 2)
    )
    assert type(one).__name__ == POLICY[preset]["class"]
    weights = [torch.cat([p.detach().flatten() for p in policy.parameters()]) for policy in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_pointing_error_is_least_where_the_attention_is_on_the_point():
    points = torch.tensor([[[[0.4, 0.7], [torch.nan, 0.5]]]])  # one picture; the second thing is not known
    scores = torch.zeros(1, 1, 4, 16, 16)
    # 0.4 * 16 - 0.5 = 5.9 across, 0.7 * 16 - 0.5 = 10.7 down: four cells share the point.
    for row, down in ((10, 0.3), (11, 0.7)):
        for column, across in ((5, 0.1), (6, 0.9)):
            scores[0, 0, 0, row, column] = np.log(down * across) + 20
    right = pointing_error(scores, points)
    entropy = -sum(p * np.log(p) for p in (0.3 * 0.1, 0.3 * 0.9, 0.7 * 0.1, 0.7 * 0.9)) / 2
    assert right.item() == pytest.approx(entropy, abs=0.01)
    assert pointing_error(scores.transpose(-1, -2), points) > right + 5
    assert pointing_error(scores, points + 1.0).item() == 0.0  # outside the picture


def test_a_frozen_encoder_stays_as_it_is_and_the_head_learns(episodes, tmp_path):
    start = make(FlowPolicy, FLOW, episodes).save(tmp_path / "start")
    cfg = PolicyConfig(steps=3, batch_size=8, frozen_encoder=True)
    update(start, episodes[:3], episodes[3:5], cfg, tmp_path / "new")
    before, after = load_tensors(start), load_tensors(tmp_path / "new")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"state", "join", "head"}


def test_seen_data_give_the_loss_of_the_pictures_themselves(episodes):
    policy = make(FlowPolicy, FLOW, episodes).eval()
    data = StepData.from_episodes(episodes[:3])
    seen = FeatureData(policy, data, batch_size=7)
    steps = np.array([0, 5, len(data) - 1])
    batch = data.at(steps, policy.chunk_size)
    state = torch.from_numpy(batch.states)
    whole = policy.encode(
        torch.from_numpy(batch.images), policy.normalization.state(state), policy.tokenizer(batch.instructions)
    )
    part = policy.encode_features(seen.features[steps].float(), policy.normalization.state(seen.states[steps]))
    assert torch.allclose(part.features, whole.features, atol=0.05)
    assert torch.equal(seen.actions[steps], torch.from_numpy(batch.actions))
