"""DSRL: a small network learns which initial noise succeeds; the policy under it stays as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from walker import (
    DSRL,
    SIZES,
    observation,
    share_right,
    update,
    walk,
)

from vlaw_models.checkpoint import load_tensors
from vlaw_models.errors import VlawError
from vlaw_models.learners.base import Examples
from vlaw_models.learners.dsrl import ImaginedDsrl, Transitions
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.noise_policy import NoisePolicy


def dsrl(start, out, episodes, learner=DSRL) -> dict:
    return update(start, out, episodes, learner=learner, seed=4)


@pytest.fixture(scope="module")
def steered(start, played, tmp_path_factory):
    out = tmp_path_factory.mktemp("steered") / "new"
    dsrl(start, out, played)
    return out


def test_dsrl_finds_the_noise_that_succeeds_and_leaves_the_policy_as_it_was(start, steered):
    policy = load_policy(steered)
    assert isinstance(policy, NoisePolicy)
    assert share_right(load_policy(start)) < 0.75
    assert share_right(policy) > 0.9
    before, after = load_tensors(start), load_tensors(steered)
    assert all(torch.equal(after[f"base.{name}"], tensor) for name, tensor in before.items())
    # noise_scale 0 takes the chance out of it; the mean stays within its bound.
    seen = observation(50)
    still = [policy.sample(seen, ["go"] * 50, torch.Generator().manual_seed(seed), 0.0) for seed in (1, 2)]
    assert np.array_equal(*still)
    mean, _ = policy.noise(torch.randn(64, SIZES["context"], generator=torch.Generator().manual_seed(0)))
    assert mean.abs().max() <= DSRL.noise_bound


def test_every_transition_leads_to_an_outcome(start):
    """Chunks of 2 in episodes of 4: behind those from step 1 and 2 there is no whole chunk, so they get the outcome."""
    base = load_policy(start)
    base.execute_steps = 2
    data = Transitions.of(base, [walk(1, 0.0), walk(-1, 0.0)])
    assert data.begin.tolist() == [0, 1, 2, 4, 5, 6]
    assert data.ended.tolist() == [False, True, True] * 2
    assert data.reward.tolist() == [0, 1, 1, 0, 0, 0]
    assert set(data.following[~data.ended].tolist()) <= set(data.begin.tolist()), (
        "no value is asked for that is never learned"
    )


def test_it_is_the_outcome_that_decides_which_noise_that_is(start, played, tmp_path):
    flipped = [dataclasses.replace(episode, success=not episode.success) for episode in played]
    dsrl(start, tmp_path / "left", flipped)
    assert share_right(load_policy(tmp_path / "left")) < 0.15


def test_what_was_imagined_counts_by_the_judges_word(start, played, tmp_path):
    """Failures alone are real; which of the imagined episodes are successes decides where it goes."""
    failed = [episode for episode in played if not episode.success]
    unknown = [dataclasses.replace(episode, success=None) for episode in played]
    for name, turned in (("right", False), ("left", True)):
        imagined = Examples(unknown, [1.0] * len(unknown), [bool(episode.success) != turned for episode in played])
        learner = ImaginedDsrl(**dataclasses.asdict(DSRL))
        update(start, tmp_path / name, failed[:4], imagined=imagined, learner=learner, seed=4)
    assert share_right(load_policy(tmp_path / "right")) > 0.9
    assert share_right(load_policy(tmp_path / "left")) < 0.3


def test_an_untrained_noise_policy_is_the_policy_it_wraps(start, tmp_path):
    base = load_policy(start)
    wrapped = NoisePolicy(load_policy(start), noise_bound=1.5)
    wrapped.save(tmp_path / "wrapped")
    seen = observation(8)
    for scale in (1.0, 0.5):
        chunks = [
            p.sample(seen, ["go"] * 8, torch.Generator().manual_seed(0), scale)
            for p in (base, wrapped, load_policy(tmp_path / "wrapped"))
        ]
        assert np.array_equal(chunks[0], chunks[1])
        assert np.array_equal(chunks[1], chunks[2])


def test_dsrl_learns_on_from_a_noise_policy_and_no_other_update_does(steered, played, tmp_path):
    dsrl(steered, tmp_path / "two", played, dataclasses.replace(DSRL, steps=10))
    one, two = load_tensors(steered), load_tensors(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) == name.startswith("base.") for name in one)
    assert share_right(load_policy(tmp_path / "two")) > 0.9
    with pytest.raises(VlawError, match=r"policy\.learner does not fit NoisePolicy"):
        update(steered, tmp_path / "three", played, steps=2)
    assert not (tmp_path / "three").exists()


def test_dsrl_refuses_what_it_cannot_learn_from(start, played, tmp_path):
    unjudged = walk(1, 0.0)
    unjudged.success = None
    with pytest.raises(VlawError, match="no outcome"):
        dsrl(start, tmp_path / "new", [unjudged])
    short = walk(1, 0.0)
    short.images, short.states, short.actions = short.images[:3], short.states[:3], short.actions[:2]
    with pytest.raises(VlawError, match="steps of a chunk"):
        dsrl(start, tmp_path / "new", [short])
    assert not (tmp_path / "new").exists()
