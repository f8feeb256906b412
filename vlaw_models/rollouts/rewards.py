"""Scores of imagined episodes by the world model's own word, and what any score has to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlaw_models.episodes import REWARDS, Episode
from vlaw_models.errors import VlawError


def head_scores(episodes: Sequence[Episode]) -> np.ndarray:
    """(N,): the highest reward that the world model's head told of each episode. Raises VlawError where it told none,
    and for one outside [0, 1]."""
    found = [max(episode.extra.get(REWARDS) or [-1.0]) for episode in episodes]
    if any(REWARDS not in episode.extra for episode in episodes):
        raise VlawError(
            "an imagined episode has no rewards: its world model has no reward head",
            where="the scores of imagined episodes",
            remedy='Set world_model.reward_weight above 0, which adds the head, or ask the judge: reward = "judge", '
            'score.labels = "judge".',
        )
    return check_scores(np.array(found))


def check_scores(scores: np.ndarray) -> np.ndarray:
    """The scores. Raises VlawError for one outside [0, 1]."""
    scores = np.asarray(scores, np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise VlawError(
            f"a reward is not between 0 and 1: they go from {scores.min()} to {scores.max()}",
            where="the scores of imagined episodes",
            remedy="Rewards are outcomes (0, 1) or probabilities of success; see what scored the episodes.",
        )
    return scores
