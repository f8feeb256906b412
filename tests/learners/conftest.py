"""A policy of the toy robot that goes either way, and what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from once import made_once
from walker import BOTH, PICTURE, SIZES, STEPS, STRIDE, observation, walks

from vlaw_models.episodes import Episode
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.policies.base import load_policy
from vlaw_models.policies.flow_policy import FlowPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.threads import on_threads
from vlaw_models.tokenize import InstructionTokenizer


@pytest.fixture(scope="module")
def one_thread():
    with on_threads(1):
        yield


def _trained(folder: Path) -> None:
    data = walks(BOTH)
    statistics = Normalization.fit([e.states for e in data], [e.actions for e in data], chunk_size=STEPS, absolute=())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = FlowPolicy(
            InstructionTokenizer.from_instructions(["go"], length=2), statistics, execute_steps=STEPS, **SIZES
        )
    train_policy(
        policy, data, LoopConfig(steps=200, learning_rate=3e-3, ema=0.97, bfloat16=False), batch_size=64, seed=1
    )
    policy.save(folder)


@pytest.fixture(scope="module")
def start(one_thread, tmp_path_factory) -> Path:
    """A checkpoint that goes either way, as its noise will have it."""
    return made_once(tmp_path_factory, "walker", _trained)


@pytest.fixture(scope="module")
def played(start) -> list[Episode]:
    """What the start policy does from 200 places: going right is a success."""
    policy, seen = load_policy(start), observation(200)
    chunks = policy.sample(seen, ["go"] * 200, torch.Generator().manual_seed(9))
    episodes = []
    for number, (state, chunk) in enumerate(zip(seen.state, chunks, strict=True)):
        states = np.concatenate([state[None], chunk]).astype(np.float32)
        episodes.append(
            Episode(
                task="walk",
                instruction="go",
                seed=number,
                images=PICTURE,
                states=states,
                actions=states[1:],
                success=bool(chunk[-1, 0] - state[0] > 2 * STRIDE),
            )
        )
    assert 0.25 < np.mean([e.success for e in episodes]) < 0.75
    return episodes
