"""One small policy of each class, and what each update made of one, as a lake holds them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from factories import commit
from small_policies import FLOW, PI0, make

from vlaw_assets.lake import Lake
from vlaw_models.config import PolicyConfig
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.policy import update_policy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.pi0 import Pi0Policy

KINDS = ("base", "filtered", "recap", "dsrl", "pi0")
"""The base policy, and what the iterations of experiment vlaw left: three updates of it, and the paper's class."""


def stirred(policy: torch.nn.Module) -> torch.nn.Module:
    """Weights as after some training: none of them is what it was initialised to."""
    with torch.no_grad():
        for number, parameter in enumerate(policy.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return policy


def write_policy(kind: str, episodes, folder: Path) -> None:
    """The checkpoint of a kind."""
    if kind in ("base", "pi0"):
        made = make(FlowPolicy, FLOW, episodes) if kind == "base" else make(Pi0Policy, PI0, episodes)
        stirred(made).save(folder)
        return
    start = folder.with_name(f"{folder.name}-start")
    write_policy("base", episodes, start)
    learner = load_learner(kind, where="a test")
    if kind == "dsrl":
        learner = replace(learner, steps=4, batch_size=16, learning_rate=0.01)
    played = [replace(episode, success=bool(number % 2)) for number, episode in enumerate(episodes)]
    settings = PolicyConfig(steps=8, batch_size=8, learning_rate=0.01, ema=0.0)
    real = Examples(played, weights=[1.0] * len(played), positive=[bool(episode.success) for episode in played])
    update_policy(start, learner, real, Examples.equal([]), settings, folder, seed=1)


def fill(lake: Lake, episodes, place: Path) -> None:
    """The base policy into the foundation, the others into the iterations of experiment vlaw."""
    for number, kind in enumerate(KINDS):
        write_policy(kind, episodes, place / kind)
        asset, partition = ("policy", f"vlaw|{number:02d}") if number else ("base_policy", "")

        def write(draft, kind=kind):
            shutil.copytree(place / kind, draft.checkpoint_dir(), dirs_exist_ok=True)

        commit(lake, asset, partition, write=write, recipe={"kind": kind})
