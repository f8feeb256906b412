"""GRPO: the published formulas written out, what has no signal, and that policies of both kinds learn by it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from walker import STEPS, decoder, ends, observation, share_right, walks

from vlaw_models.config import PolicyConfig
from vlaw_models.errors import VlawError
from vlaw_models.learners import grpo
from vlaw_models.learners.grpo import Chunks, GrpoSettings, clipped_loss, group_advantages, has_signal
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.noise_policy import NoisePolicy
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy
from vlaw_models.policies.pi0 import Pi0Policy

PUBLISHED = GrpoSettings()


def test_advantages_and_loss_are_the_published_formulas():
    rng = np.random.default_rng(0)
    rewards = rng.integers(0, 2, (6, 8)).astype(float)
    rewards[0] = rng.uniform(0, 1, 8)  # of a head
    advantage, expected = group_advantages(rewards), np.empty_like(rewards)
    for g, r in enumerate(rewards):
        deviation = np.sqrt(((r - r.mean()) ** 2).sum() / (len(r) - 1))  # as torch.std
        expected[g] = (r - r.mean()) / (deviation + 1e-6)
    np.testing.assert_allclose(advantage, expected, atol=1e-6)
    deviations = rewards.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(group_advantages(rewards, normalized=False), expected * (deviations + 1e-6), atol=1e-12)

    old = rng.normal(-2, 1, (48, 8, 7)).astype(np.float32)
    new = (old + rng.normal(0, 0.4, old.shape)).astype(np.float32)
    mask = rng.uniform(size=(48, 8)) < 0.7
    total, count = 0.0, 0
    for row, weight in enumerate(expected.reshape(-1)):
        for step in np.flatnonzero(mask[row]):
            for token in range(7):
                ratio = np.exp(np.float64(new[row, step, token]) - old[row, step, token])
                total -= min(ratio * weight, min(max(ratio, 0.8), 1.28) * weight)
                count += 1
    given = [torch.from_numpy(value) for value in (new, old, advantage.reshape(-1).astype(np.float32), mask)]
    loss, beyond = clipped_loss(*given, PUBLISHED)
    assert loss.item() == pytest.approx(total / count, abs=1e-6)
    assert len(beyond) == count


@pytest.mark.parametrize(
    ("ratio", "weight", "loss", "slope"),
    [(1.5, 1, -1.28, 0), (1.2, 1, -1.2, -1.2), (0.5, 1, -0.5, -0.5), (0.5, -1, 0.8, 0), (1.5, -1, 1.5, 1.5)],
)
def test_bounds_are_asymmetric_and_stop_only_what_went_far_enough(ratio, weight, loss, slope):
    log_prob = torch.full((1, 1, 1), np.log(ratio), requires_grad=True)
    found, beyond = clipped_loss(
        log_prob, torch.zeros(1, 1, 1), torch.full((1,), float(weight)), torch.ones(1, 1, dtype=torch.bool), PUBLISHED
    )
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert log_prob.grad.item() == pytest.approx(slope)
    assert beyond.item() == (slope == 0)


def test_groups_that_nearly_always_succeed_or_fail_have_no_signal():
    means = np.array([0, 1, 8, 9, 10, 0.5, 9.5])
    rewards = np.stack([np.r_[np.ones(int(m)), np.full(1, m % 1), np.zeros(10)][:10] for m in means])
    np.testing.assert_allclose(rewards.sum(1), means)
    assert has_signal(rewards, PUBLISHED).tolist() == [False, True, True, True, False, False, False]


def test_scores_that_hardly_differ_weigh_little_unless_normalized():
    rewards = np.array([[0.5, 0.52], [0.1, 0.9]])
    chunks = Chunks(
        rollout=torch.arange(4),
        state=torch.zeros(4, 2),
        trace=torch.zeros(4, 1),
        log_prob=torch.zeros(4, 1, 1),
        executed=torch.ones(4, 1, dtype=torch.bool),
    )
    weights = [chunks.judged(rewards, GrpoSettings(normalized=value)).advantage for value in (True, False)]
    torch.testing.assert_close(weights[0][1], weights[0][3], atol=1e-3, rtol=0)
    torch.testing.assert_close(weights[1], torch.tensor([-0.01, 0.01, -0.4, 0.4]))


@pytest.mark.parametrize(
    ("rewards", "says"),
    [
        (np.ones((3, 1)), "a group needs rollouts to be compared with"),
        (np.ones(8), "a group needs rollouts to be compared with"),
        (np.array([[0.0, 1.2]]), "not between 0 and 1: they go from 0.0 to 1.2"),
        (np.array([[-0.1, 1.0]]), "not between 0 and 1"),
        (np.array([[np.nan, 1.0]]), "not between 0 and 1"),
    ],
)
def test_what_cannot_be_a_group_is_refused(rewards, says):
    with pytest.raises(VlawError, match=says):
        group_advantages(rewards)


def test_policies_that_grpo_cannot_update_are_told_by_the_key():
    frozen, whole = (PolicyConfig(frozen_encoder=value) for value in (True, False))
    for cls, settings, key in (
        (FlowPolicy, frozen, None),
        (FlowPolicy, whole, None),
        (Pi0Policy, whole, None),
        (OpenVlaOftPolicy, whole, None),
        (Pi0Policy, frozen, None),
        (OpenVlaOftPolicy, frozen, "policy.frozen_encoder"),
        (Pi0Policy, PolicyConfig(lora_rank=8), "policy.lora_rank"),
        (OpenVlaOftL1Policy, whole, "policy.learner"),
        (NoisePolicy, whole, "policy.learner"),
    ):
        found = grpo.misfit(cls, settings, 0.5)
        assert (found and found.key) == key
    assert grpo.misfit(FlowPolicy, whole, 0.0) is None
    assert "temperature" in grpo.misfit(OpenVlaOftPolicy, whole, 0.0).remedy


def play(policy, temperature: float, seed: int, *, groups: int = 12, size: int = 8) -> tuple[Chunks, np.ndarray]:
    """One chunk from each of `groups` places, `size` times; going right is a success."""
    starts = observation(groups)
    seen = dataclasses.replace(starts, images=starts.images.repeat(size, 0), state=starts.state.repeat(size, 0))
    found = policy.sample_traced(seen, ["go"] * len(seen), torch.Generator().manual_seed(seed), temperature)
    rewards = (ends(found.actions, seen) > 2).astype(float).reshape(groups, size)
    return Chunks(
        rollout=torch.arange(len(seen)),
        state=torch.from_numpy(seen.state),
        trace=found.trace,
        log_prob=found.log_prob,
        executed=torch.ones(len(seen), STEPS, dtype=torch.bool),
        images=torch.from_numpy(seen.images),
        tokens=policy.tokenizer(["go"] * len(seen)),
    ), rewards


def learn(policy, temperature, settings, *, rounds: int, frozen_encoder: bool) -> list[grpo.Update]:
    optimizer, rng = grpo.optimizer(policy, settings, frozen_encoder=frozen_encoder), np.random.default_rng(0)
    done = []
    for number in range(rounds):
        chunks, rewards = play(policy, temperature, number)
        chunks = chunks.encoded(policy) if frozen_encoder else chunks
        judged = chunks.judged(rewards, settings)
        done.append(grpo.update(policy, optimizer, judged, settings, temperature=temperature, rng=rng))
    return done


def weights(policy) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


@pytest.mark.parametrize("temperature", [0.5, 0.0])
def test_a_flow_policy_learns_what_is_rewarded(start, temperature):
    policy = load_policy(start)
    before = share_right(policy)
    eyes = weights(policy.eyes)
    done = learn(policy, temperature, GrpoSettings(learning_rate=1e-3, minibatch=48), rounds=12, frozen_encoder=True)
    assert share_right(policy) > max(0.85, before + 0.2)
    assert torch.equal(weights(policy.eyes), eyes)
    # The first step of an update is taken where the chunks were drawn.
    assert all(abs(update.kl[0]) < 1e-5 and update.clipped[0] == 0 for update in done if not update.note)


def test_a_token_policy_learns_what_is_rewarded(one_thread):
    policy = decoder(OpenVlaOftPolicy, walks([1, -1] * 10), 60)
    before = share_right(policy)
    learn(policy, 1.0, GrpoSettings(learning_rate=3e-3, minibatch=48), rounds=16, frozen_encoder=False)
    assert share_right(policy) > before + 0.3


@pytest.mark.parametrize("temperature", [0.5, 0.0])
def test_an_update_is_the_same_in_parts_and_from_features(start, temperature):
    made = []
    for microbatch, encoded in ((128, False), (7, False), (128, True)):
        policy = load_policy(start)
        settings = GrpoSettings(learning_rate=1e-3, minibatch=40, microbatch=microbatch)
        chunks, rewards = play(policy, temperature, 1)
        executed = chunks.executed.clone()
        executed[::3, 2:] = False
        judged = dataclasses.replace(chunks, executed=executed).judged(rewards, settings)
        judged = judged.encoded(policy) if encoded else judged
        optimizer = torch.optim.SGD(policy.head_parameters(), lr=0.1)
        done = grpo.update(policy, optimizer, judged, settings, temperature=temperature, rng=np.random.default_rng(3))
        assert done.losses[0] == pytest.approx(done_first(judged, settings), abs=1e-5)
        made.append(weights(policy))
    torch.testing.assert_close(made[1], made[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(made[2], made[0], atol=2e-6, rtol=0)


def done_first(judged: Chunks, settings: GrpoSettings) -> float:
    """The first minibatch's loss: all ratios are 1, so it is minus the mean advantage of its tokens."""
    parts = int(np.ceil(len(judged) / settings.minibatch))
    rows = torch.from_numpy(np.array_split(np.random.default_rng(3).permutation(len(judged)), parts)[0])
    counts = judged.executed[rows].float().sum(1)
    return -float((judged.advantage[rows] * counts).sum() / counts.sum())


def test_without_signal_the_policy_stays_and_it_is_said(start):
    policy = load_policy(start)
    before = weights(policy)
    optimizer = grpo.optimizer(policy, PUBLISHED, frozen_encoder=True)
    chunks, rewards = play(policy, 0.5, 0)
    judged = chunks.judged(np.ones_like(rewards), PUBLISHED)
    assert len(judged) == 0
    done = grpo.update(policy, optimizer, judged, PUBLISHED, temperature=0.5, rng=np.random.default_rng(0))
    assert "the policy stays as it is" in done.note
    assert done.losses == []
    assert torch.equal(weights(policy), before)


def test_only_groups_with_signal_are_learned_from(start):
    policy = load_policy(start)
    chunks, rewards = play(policy, 0.5, 0, groups=3, size=4)
    rewards[:] = [[1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]
    judged = chunks.judged(rewards, PUBLISHED)
    assert judged.rollout.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    np.testing.assert_allclose(judged.advantage[:4], group_advantages(rewards)[0], rtol=1e-6)
    assert torch.equal(judged.trace, chunks.trace[judged.rollout])


def test_what_was_worse_than_its_group_counts_by_its_weight(start):
    chunks, rewards = play(load_policy(start), 0.5, 1)
    whole = chunks.judged(rewards, PUBLISHED)
    less = chunks.judged(rewards, dataclasses.replace(PUBLISHED, negative=0.25))
    below = whole.advantage < 0
    assert below.any()
    assert torch.equal(less.advantage[~below], whole.advantage[~below])
    torch.testing.assert_close(less.advantage[below], 0.25 * whole.advantage[below])


def test_what_is_not_finite_ends_the_update_before_its_step(start):
    policy = load_policy(start)
    before, settings = weights(policy), GrpoSettings(learning_rate=1e-3)
    chunks, rewards = play(policy, 0.5, 1)
    broken = dataclasses.replace(chunks, log_prob=chunks.log_prob - torch.inf).judged(rewards, settings)
    optimizer = grpo.optimizer(policy, settings, frozen_encoder=False)
    with pytest.raises(VlawError, match="Lower the learning rate"):
        grpo.update(policy, optimizer, broken, settings, temperature=0.5, rng=np.random.default_rng(0))
    assert torch.equal(weights(policy), before)
