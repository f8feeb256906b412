"""One small policy of each class and update, as a lake holds them."""

from __future__ import annotations

import torch
from factories import commit
from small_policies import FLOW, PI0, make

from vlaw_assets.lake import Lake
from vlaw_models.policies.base import FlowMatchingPolicy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.noise_policy import NoisePolicy
from vlaw_models.policies.pi0 import Pi0Policy

KINDS = ("base", "imitated", "recap", "dsrl", "pi0")
"""The base policy, and what the iterations of experiment vlaw left."""


def stirred(policy: torch.nn.Module) -> torch.nn.Module:
    """Weights as after some training: none of them is what it was initialised to."""
    with torch.no_grad():
        for number, parameter in enumerate(policy.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return policy


def policy_of(kind: str, episodes) -> FlowMatchingPolicy | NoisePolicy:
    """What each update leaves: other weights, a condition on the advantage, a noise policy on top."""
    if kind == "pi0":
        return stirred(make(Pi0Policy, PI0, episodes))
    policy = make(FlowPolicy, FLOW, episodes, seed=0 if kind == "base" else 1)
    if kind == "recap":
        policy.condition_on_advantage()
    return stirred(NoisePolicy(stirred(policy), noise_bound=1.5) if kind == "dsrl" else policy).eval()


def fill(lake: Lake, episodes) -> None:
    """The base policy into the foundation, the others into the iterations of experiment vlaw."""
    for number, kind in enumerate(KINDS):
        policy = policy_of(kind, episodes)
        asset, partition = ("policy", f"vlaw|{number:02d}") if number else ("base_policy", "")
        commit(lake, asset, partition, write=lambda draft, p=policy: p.save(draft.checkpoint_dir()), recipe={"n": kind})
