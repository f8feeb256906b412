"""The stage `bridge`: the base policy learns what the world model's pictures look like to its eyes
(policies/bridge.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from vlaw_models.config import RolloutConfig, WorldModelMetricsConfig
from vlaw_models.episodes import Episode
from vlaw_models.pretrain.stages import ROBOT, Corpora

HELD_OUT = 5
"""Every fifth episode says what is left of the gap; the map is fitted to the others."""


def fit_bridge(data: Corpora, autoencoder: Path, world_model: Path, base_policy: Path) -> dict:
    """Fits the bridge of the policy in `base_policy` to replays of episodes that the world model has not seen, and
    writes the policy there again."""
    import torch

    from vlaw_models.policies.base import load_policy
    from vlaw_models.policies.bridge import left_of_the_gap
    from vlaw_models.policies.data import FeatureData, StepData
    from vlaw_models.policies.flow_policy import FlowPolicy
    from vlaw_models.rollouts.replay import replay

    policy, unseen = load_policy(base_policy), data.unseen()
    assert isinstance(policy, FlowPolicy)
    replays = WorldModelMetricsConfig(num_steps=RolloutConfig.num_steps)
    imagined = list(
        chain.from_iterable(replay(world_model, autoencoder, unseen, replays, robot=ROBOT, seed=data.cfg.seed))
    )

    def pairs(rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return features([imagined[row] for row in rows]), features([unseen[row] for row in rows])

    def features(episodes: Sequence[Episode]) -> torch.Tensor:
        found = FeatureData(policy, StepData.from_episodes(episodes)).features.float()
        # The first picture of an imagined episode is a real one.
        return torch.cat([part[1:] for part in found.split([episode.num_steps for episode in episodes])])

    held_out = range(0, len(unseen), HELD_OUT)
    others = [row for row in range(len(unseen)) if row % HELD_OUT]
    policy.bridge = None
    fitted, measured = pairs(others), pairs(held_out)
    bridge = policy.build_bridge()
    bridge.fit(*fitted)
    policy.save(base_policy, dtype=torch.float16)
    return {"pairs": len(fitted[0]), "left_of_the_gap": left_of_the_gap(bridge, *measured)}
