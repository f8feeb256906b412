"""Practice: what a rollout keeps of its chunks is what the policy drew, also of rollouts that end early."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_ending import DONE_AT, Counter

from vlaw_models.episodes import Start
from vlaw_models.errors import VlawError
from vlaw_models.learners.grpo import Update
from vlaw_models.policies.likelihood import Traced
from vlaw_models.rollouts.practice import Practice, world_scores
from vlaw_models.rollouts.rewards import check_scores, head_scores


class Drawing:
    """Draws a number per observation, which its chunk, its trace and its likelihood say."""

    execute_steps, chunk_size = 4, 6

    def read(self, instructions, state):
        return torch.tensor([[int(text.split()[1])] for text in instructions])

    def sample_traced(self, observation, instructions, generator, temperature):
        drawn = torch.rand(len(observation), generator=generator)
        actions = np.zeros((len(observation), 6, 5), np.float32) + drawn.numpy()[:, None, None]
        return Traced(actions, drawn, temperature * drawn[:, None, None].repeat(1, 6, 2))


def practice(scores=world_scores, **more):
    kept = []
    made = Practice(
        lambda _policy, _seed: Counter(0.9),
        [Start("count", seed) for seed in range(4)],
        scores,
        0.5,
        lambda episodes, starts, scores: kept.extend(zip(episodes, starts, scores, strict=True)),
        **{"num_steps": 10, "seed": 3, "batch_size": 4, **more},
    )
    return made, kept


def test_chunks_are_those_that_were_drawn_and_only_executed_steps_count():
    made, kept = practice()
    chunks, rewards = made.groups(Drawing(), 0, groups=2, size=2, temperature=0.5)
    assert rewards.tolist() == [[1, 0], [1, 1]]
    assert [(e.seed, e.extra["rl_step"], e.extra["group"]) for e, _, _ in kept] == [
        (0, 1, 0),
        (0, 1, 0),
        (1, 1, 1),
        (1, 1, 1),
    ]
    lengths = np.minimum(DONE_AT, 10)
    assert [e.num_steps for e, _, _ in kept] == lengths.tolist()
    counted = np.bincount(chunks.rollout.numpy(), weights=chunks.executed.sum(1).numpy())
    assert counted.tolist() == lengths.tolist()
    assert chunks.tokens[:, 0].tolist() == chunks.rollout.tolist()
    assert torch.equal(chunks.log_prob[:, 0, 0], 0.5 * chunks.trace)
    first = {
        row: float(trace)
        for row, trace in zip(reversed(chunks.rollout.tolist()), reversed(chunks.trace.tolist()), strict=True)
    }
    assert [float(e.actions[0, 0]) for e, _, _ in kept] == pytest.approx([first[row] for row in range(4)])


def test_batches_follow_one_another_and_steps_go_on_with_the_starts():
    made, kept = practice(batch_size=3)
    chunks, rewards = made.groups(Drawing(), 1, groups=2, size=2, temperature=0.5)
    assert [start.seed for _, start, _ in kept] == [2, 2, 3, 3]
    assert sorted(set(chunks.rollout.tolist())) == [0, 1, 2, 3]
    assert rewards.shape == (2, 2)
    again, more = practice(batch_size=3)
    same, _ = again.groups(Drawing(), 1, groups=2, size=2, temperature=0.5)
    assert torch.equal(same.trace, chunks.trace)
    assert len(more) == len(kept)


@pytest.mark.parametrize("graded", [False, True])
def test_a_graded_reward_is_the_score_and_success_is_above_the_threshold_all_the_same(graded):
    told = [0.2, 0.4, 0.6, 0.9]
    made, kept = practice(lambda _episodes: np.array(told), graded=graded)
    _, rewards = made.groups(Drawing(), 0, groups=2, size=2, temperature=0.5)
    assert rewards.tolist() == ([[0.2, 0.4], [0.6, 0.9]] if graded else [[0, 0], [1, 1]])
    made.learned(0, rewards, 1, Update([], [], [], ""))
    assert made.steps[0]["success"] == 0.5
    assert [score for *_, score in kept] == told


def test_scores_are_told_by_the_head_and_lie_between_0_and_1():
    made, kept = practice()
    made.groups(Drawing(), 0, groups=2, size=2, temperature=0.5)
    episodes = [episode for episode, _, _ in kept]
    assert head_scores(episodes).tolist() == [1, 0, 1, 1]
    episodes[0].extra["rewards"] = [0.2, 1.4]
    with pytest.raises(VlawError, match=r"they go from 0\.0 to 1\.4"):
        head_scores(episodes)
    del episodes[0].extra["rewards"]
    with pytest.raises(VlawError, match="no reward head"):
        head_scores(episodes)
    with pytest.raises(VlawError, match="not between 0 and 1"):
        practice(lambda episodes: np.full(len(episodes), np.nan))[0].groups(
            Drawing(), 0, groups=2, size=2, temperature=0.5
        )
    assert check_scores(np.array([0.0, 1.0])).tolist() == [0, 1]
