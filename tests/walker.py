"""A toy robot that goes left or right, policies for it, and updates of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlaw_models.config import PolicyConfig
from vlaw_models.episodes import Episode, Observation
from vlaw_models.learners import policy as policy_update
from vlaw_models.learners.base import Examples, load_learner
from vlaw_models.learners.dsrl import Dsrl
from vlaw_models.learners.flow_matching import train_policy
from vlaw_models.learners.loop import LoopConfig
from vlaw_models.policies.normalization import Normalization
from vlaw_models.tokenize import InstructionTokenizer

SIZES = {
    "image_size": 16,
    "cameras": 1,
    "channels": [8, 8, 4],
    "camera_features": 16,
    "text_features": 16,
    "context": 48,
    "head_width": 64,
    "head_blocks": 2,
    "shift": 0,
    "regression": 0.0,
}

STEPS, STRIDE = 4, 0.05
PICTURE = np.full((STEPS + 1, 1, 16, 16, 3), 120, dtype=np.uint8)
FAST = {"batch_size": 64, "learning_rate": 3e-3, "ema": 0.95}
DSRL = Dsrl(steps=60, batch_size=64, learning_rate=6e-3)
_TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
DECODER = {
    "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "dino": _TOWER,
    "siglip": {"intermediate_size": 32, **_TOWER},
}


def walk(side: int, start: float, number: int = 0) -> Episode:
    """STEPS steps to the left (-1) or to the right (1)."""
    x = start + side * STRIDE * np.arange(STEPS + 1)
    states = np.stack([x, np.zeros_like(x)], axis=1).astype(np.float32)
    return Episode(
        task="walk", instruction="go", seed=number, images=PICTURE, states=states, actions=states[1:], success=side > 0
    )


def walks(sides: Sequence[int], seed: int = 0) -> list[Episode]:
    starts = np.random.default_rng(seed).uniform(-0.1, 0.1, size=len(sides))
    return [walk(side, start, number) for number, (side, start) in enumerate(zip(sides, starts, strict=True))]


BOTH = [1, -1] * 30


def observation(count: int) -> Observation:
    x = np.linspace(-0.1, 0.1, count)
    return Observation(PICTURE[:1].repeat(count, axis=0), np.stack([x, 0 * x], axis=1).astype(np.float32))


def ends(chunks: np.ndarray, seen: Observation) -> np.ndarray:
    """How far each chunk went, in strides to the right."""
    return (chunks[:, -1, 0] - seen.state[:, 0]) / STRIDE


def share_right(policy, count: int = 200, noise_scale: float = 1.0) -> float:
    seen = observation(count)
    chunks = policy.sample(seen, ["go"] * count, torch.Generator().manual_seed(5), noise_scale)
    return float((ends(chunks, seen) > 2).mean())


def decoder(cls, data: Sequence[Episode], steps: int):
    """A policy of OpenVLA-OFT's kind that has learned from episodes for some steps."""
    statistics = Normalization.fit([e.states for e in data], [e.actions for e in data], chunk_size=STEPS, absolute=())
    words = InstructionTokenizer.from_instructions([e.instruction for e in data], length=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = cls(words, statistics, execute_steps=STEPS, **DECODER)
    train_policy(policy, data, LoopConfig(steps=steps, learning_rate=5e-3, bfloat16=False), batch_size=16, seed=1)
    return policy


def examples(episodes, weights=None, positive=None) -> Examples:
    equal = Examples.equal(list(episodes))
    return Examples(equal.episodes, weights or equal.weights, positive or equal.positive)


def update(
    start, out, real, *, imagined=(), rehearsed=(), learner="filtered", evaluate=None, seed=3, **settings
) -> dict:
    learner = load_learner(learner, where="a test") if isinstance(learner, str) else learner
    cfg = PolicyConfig(**{"steps": 80, **FAST, **settings})
    real, imagined, again = (e if isinstance(e, Examples) else examples(e) for e in (real, imagined, rehearsed))
    return policy_update.update_policy(
        start, learner, real, imagined, cfg, out, rehearsed=again, seed=seed, evaluate=evaluate
    )
