"""Presets tiny, small, paper and toy: sizes of every model, as plain dictionaries, and where the shipped weights are.

Numbers only, for build_policy, build_world_model, build_autoencoder and build_reward_model; "sizes" are the fields of
the class's configuration, which has defaults for the rest. What follows from the robot (cameras, pose range, frame
size) is added when a model is built. Training settings are in config.py.
'tiny' is what the embedded robot uses on a CPU; 'small' is the published classes scaled down for it, for one GPU;
'paper' is the size of the VLAW paper and takes published weights; 'toy' is the same classes for the same robot (DROID's
Franka) at sizes that run in seconds on a CPU, without weights: pictures of 48 x 80 pixels.
"""

from __future__ import annotations

from pathlib import Path

from vlaw_models.errors import VlawError
from vlaw_models.presets.autoencoders import AUTOENCODER
from vlaw_models.presets.policies import OPENVLA_OFT, PI05, POLICY
from vlaw_models.presets.reward_models import REWARD_MODEL
from vlaw_models.presets.world_models import WORLD_MODEL
from vlaw_models.robots.registry import DEFAULT

__all__ = [
    "AUTOENCODER",
    "BACKBONES",
    "MODELS",
    "OPENVLA_OFT",
    "PI05",
    "POLICY",
    "PRESETS",
    "REWARD_MODEL",
    "UNTRAINED",
    "WEIGHTS",
    "WORLD_MODEL",
    "foundation",
]

PRESETS = ("tiny", "small", "paper", "toy")
BACKBONES = ("cosmos", "cosmos_toy")
"""More sizes of autoencoder and world model, which fit each other; policies and judges are those of the presets."""
UNTRAINED = ("toy",)
"""Presets that start from new models instead of weights."""
MODELS = ("base_policy", "world_model", "reward_model", "autoencoder")
WEIGHTS = Path(__file__).parents[1] / "weights"


def foundation(preset: str, kind: str, *, robot: str = DEFAULT) -> Path:
    """The checkpoint folder of the shipped weights. Only 'tiny' is shipped, for one robot; raises VlawError
    otherwise."""
    if preset not in PRESETS or kind not in MODELS:
        raise VlawError(
            f"there is no {kind!r} of preset {preset!r}",
            where="presets",
            remedy=f"Presets: {', '.join(PRESETS)}; models: {', '.join(MODELS)}.",
        )
    folder = WEIGHTS / kind
    if (preset, robot) != ("tiny", DEFAULT) or not (folder / "config.json").is_file():
        raise VlawError(
            f"the weights of {kind} for preset {preset!r} of robot {robot!r} are not shipped",
            where=str(folder),
            remedy=f"Run `vlaw pretrain` for those of preset 'tiny' of robot {DEFAULT!r}; for others give the path of "
            "a checkpoint in foundation.toml [weights].",
        )
    return folder
