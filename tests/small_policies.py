"""Policies of every class at sizes of a moment, made for given episodes, and samples of them."""

from __future__ import annotations

import numpy as np
import torch

from vlaw_models.episodes import Observation
from vlaw_models.policies.base import TrainedPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.tokenize import InstructionTokenizer

FLOW = {
    "image_size": 32,
    "channels": [32, 32, 16],
    "camera_features": 64,
    "context": 128,
    "head_width": 128,
    "head_blocks": 2,
    "shift": 0,
}
GEMMA = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
PI0 = {
    "max_dim": 8,
    "text": {"hidden_size": 32, "intermediate_size": 64, **GEMMA},
    "expert": {"hidden_size": 32, "intermediate_size": 64, **GEMMA},
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    },
}
_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
OFT = {
    "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "dino": _TOWER,
    "siglip": {"intermediate_size": 64, **_TOWER},
}


def make(cls, sizes, episodes, seed=0, **settings) -> TrainedPolicy:
    tokenizer = InstructionTokenizer.from_instructions([e.instruction for e in episodes], length=8)
    statistics = Normalization.fit(
        [e.states for e in episodes], [e.actions for e in episodes], chunk_size=8, absolute=(4,)
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(tokenizer, statistics, **sizes, **settings).eval()


def first_observation(episodes) -> Observation:
    return Observation(np.stack([e.images[0] for e in episodes]), np.stack([e.states[0] for e in episodes]))


def sample(policy, episodes, seed=0, instructions=None, noise_scale=1.0):
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(episodes))]
    instructions = instructions or [e.instruction for e in episodes]
    return policy.sample(first_observation(episodes), instructions, generators, noise_scale)
