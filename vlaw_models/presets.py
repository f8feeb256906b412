"""Presets tiny, small and paper: sizes of every model, as plain dictionaries, and where the shipped weights are.

Here: numbers only; the classes' builders take them as keyword arguments. Not here: training settings (config.py).
'tiny' is what the embedded robot uses on a CPU; 'paper' is the size of the VLAW paper and takes published weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError

PRESETS = ("tiny", "small", "paper")
KINDS = ("autoencoder", "world_model", "reward_model", "base_policy")
WEIGHTS = Path(__file__).parent / "weights"

_GEMMA_SMALL = {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32}
_GEMMA_PAPER = {"num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256}

POLICY: dict[str, dict[str, Any]] = {
    "tiny": {
        "class": "FlowPolicy", "chunk_size": 8, "execute_steps": 4, "euler_steps": 5, "instruction_length": 16,
        "sizes": {"image_size": 64, "cameras": 3, "shift": 2},
    },
    "small": {
        "class": "Pi0Policy", "chunk_size": 8, "execute_steps": 4, "euler_steps": 10, "instruction_length": 16,
        "sizes": {
            "max_dim": 8,
            "text": {"hidden_size": 384, "intermediate_size": 1536, **_GEMMA_SMALL},
            "expert": {"hidden_size": 256, "intermediate_size": 1024, **_GEMMA_SMALL},
            "vision": {
                "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6,
                "image_size": 64, "patch_size": 8,
            },
        },
    },
    # PaliGemma with gemma_2b, action expert gemma_300m: the sizes of lerobot/pi0_base. Its tokenizer is PaliGemma's.
    "paper": {
        "class": "Pi0Policy", "chunk_size": 50, "execute_steps": 8, "euler_steps": 10, "instruction_length": 48,
        "instruction_template": "<bos>{}\n",
        "sizes": {
            "max_dim": 32, "vocabulary_size": 257152,
            "text": {"hidden_size": 2048, "intermediate_size": 16384, **_GEMMA_PAPER},
            "expert": {"hidden_size": 1024, "intermediate_size": 4096, **_GEMMA_PAPER},
            "vision": {
                "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
                "image_size": 224, "patch_size": 14,
            },
        },
    },
}

WORLD_MODEL: dict[str, dict[str, Any]] = {}
REWARD_MODEL: dict[str, dict[str, Any]] = {}
AUTOENCODER: dict[str, dict[str, Any]] = {}


def foundation(preset: str, kind: str) -> Path:
    """The checkpoint folder of the shipped weights. Only 'tiny' is shipped; raises VlawError otherwise."""
    if preset not in PRESETS or kind not in KINDS:
        raise VlawError(f"there is no {kind!r} of preset {preset!r}", where="presets",
                        remedy=f"Presets: {', '.join(PRESETS)}; kinds: {', '.join(KINDS)}.")
    folder = WEIGHTS / kind
    if preset != "tiny" or not (folder / "config.json").is_file():
        raise VlawError(f"the weights of {kind} for preset {preset!r} are not shipped", where=str(folder),
                        remedy="Run `vlaw pretrain`, or give the path of a checkpoint.")
    return folder
