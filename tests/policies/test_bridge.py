"""The bridge between what a frozen encoder makes of imagined pictures and of real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_policies import FLOW, first_observation, make, sample

from vlaw_models.learners.grpo import Chunks
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.bridge import Bridge, left_of_the_gap
from vlaw_models.policies.data import FeatureData, StepData
from vlaw_models.policies.flow_policy import FlowPolicy


@pytest.fixture
def policy(episodes) -> FlowPolicy:
    made = make(FlowPolicy, FLOW, episodes)
    bridge = made.build_bridge()
    with torch.no_grad():
        bridge.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    return made


def test_it_changes_nothing_at_first_and_learns_a_linear_difference():
    generator = torch.Generator().manual_seed(0)
    imagined = torch.randn(4000, 12, generator=generator) * torch.logspace(-1, 1, 12)
    real = imagined + 0.5 * imagined.flip(1) / torch.logspace(1, -1, 12) * torch.logspace(-1, 1, 12) + 3
    bridge = Bridge(12)
    assert torch.equal(bridge(imagined), imagined)
    bridge.fit(imagined[:3000], real[:3000])
    assert left_of_the_gap(bridge, imagined[3000:], real[3000:]) < 0.1


def test_a_policy_sees_through_it_what_a_world_model_drew(policy, episodes, tmp_path):
    seen = first_observation(episodes)
    states = torch.from_numpy(seen.state)

    def context(observation):
        return policy.observe(observation, [e.instruction for e in episodes])[0].features

    real, imagined = context(seen), context(replace(seen, imagined=True))
    assert not torch.allclose(real, imagined)
    loaded = load_policy(policy.save(tmp_path))
    assert np.array_equal(sample(loaded, episodes), sample(policy, episodes))
    words = policy.tokenizer([e.instruction for e in episodes])
    features = policy.picture_features(torch.from_numpy(seen.images), words)
    expected = loaded.observed(states, features=loaded.bridge(features)).features
    assert torch.allclose(imagined, expected, atol=1e-5)
    policy.bridge = None
    assert torch.equal(context(replace(seen, imagined=True)), real)


def test_grpo_judges_a_chunk_by_what_the_policy_saw_when_it_drew_it(policy, episodes):
    seen = replace(first_observation(episodes), imagined=True)
    instructions = [e.instruction for e in episodes]
    found = policy.sample_traced(seen, instructions, torch.Generator().manual_seed(0), 1.0)
    chunks = Chunks(
        rollout=torch.arange(len(episodes)),
        state=torch.from_numpy(seen.state),
        trace=found.trace,
        log_prob=found.log_prob,
        executed=torch.ones(found.log_prob.shape[:2], dtype=torch.bool),
        images=torch.from_numpy(seen.images),
        tokens=policy.read(instructions, seen.state),
        imagined=torch.ones(len(episodes), dtype=torch.bool),
    )
    encoded = chunks.encoded(policy)
    again = policy.log_prob(policy.observed(chunks.state, features=encoded.features), chunks.trace, 1.0)
    assert torch.allclose(again, found.log_prob, atol=1e-4)


def test_it_learns_through_it_from_all_imagined_frames_but_the_first(policy, episodes):
    drawn = [replace(episode, imagined=index == 1) for index, episode in enumerate(episodes[:2])]
    through = FeatureData(policy, StepData.from_episodes(drawn)).features
    plain = FeatureData(policy, StepData.from_episodes(episodes[:2])).features
    same = (through == plain).all(dim=1)
    steps = [episode.num_steps for episode in episodes[:2]]
    assert same[: steps[0] + 1].all()
    assert not same[steps[0] + 1 :].any()
