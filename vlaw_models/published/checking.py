"""`vlaw weights check`: what a checkpoint folder is, how large, and by which statistics it scales."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlaw_models.autoencoders.registry import AUTOENCODERS
from vlaw_models.checkpoint import load_checkpoint, load_config
from vlaw_models.errors import VlawError
from vlaw_models.policies.registry import POLICIES
from vlaw_models.published.tensors import Stored, stored_tensors
from vlaw_models.reward_models.registry import REWARD_MODELS
from vlaw_models.world_models.registry import WORLD_MODELS

KEYS = {
    "base_policy": POLICIES,
    "world_model": WORLD_MODELS,
    "reward_model": REWARD_MODELS,
    "autoencoder": AUTOENCODERS,
}
"""Key of foundation.toml [weights] -> the classes that it may name."""
RANGES = (("state_low", "state_high"), ("action_low", "action_high"), ("pose_low", "pose_high"))


@dataclass
class Checked:
    """What is in a folder."""

    name: str
    """Of its class."""
    key: str
    """Of foundation.toml [weights]; "" for what only goes into another checkpoint."""
    parameters: int
    bytes: int
    types: dict[str, int] = field(default_factory=dict)
    """Type of number -> tensors."""
    statistics: dict[str, list[str]] = field(default_factory=dict)
    """Range -> "low to high" of each number; of a chunk's actions the first step's."""


def check_weights(folder: Path) -> Checked:
    """Reads all of a checkpoint folder, a tensor at a time, and then loads the model as a stage does. Raises VlawError
    for what is incomplete, damaged, of an unknown class, or not finite."""
    config = load_config(folder)
    name = config["class"]
    key = next((key for key, models in KEYS.items() if name in models.names()), "")
    if not key and name != "ClipText":
        raise VlawError(
            f"no model is called {name!r}",
            where=str(folder),
            remedy="Import published weights with `vlaw weights import`, or install the package that has the class.",
        )
    tensors: dict[str, Stored] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= stored_tensors(file)
        _check_finite(file)
    if key:
        load_checkpoint(folder, KEYS[key])
    else:
        from vlaw_models.world_models.clip_text import ClipText

        ClipText.load(folder)
    return Checked(
        name,
        key,
        sum(_count(one.shape) for one in tensors.values()),
        sum(one.size for one in tensors.values()),
        dict(Counter(one.dtype for one in tensors.values())),
        _statistics({**config, **config.get("normalization", {})}),
    )


def _check_finite(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (it is no mapping)
            value = opened.get_tensor(name)
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise VlawError(
                    f"{name} has numbers that are not finite",
                    where=str(file),
                    remedy="Download the published file again, or make the checkpoint again.",
                )


def _statistics(config: dict[str, Any]) -> dict[str, list[str]]:
    found = {}
    for low, high in RANGES:
        if config.get(low) and config.get(high):
            rows = [value[0] if isinstance(value[0], list) else value for value in (config[low], config[high])]
            found[low.removesuffix("_low")] = [f"{a:.4g} to {b:.4g}" for a, b in zip(*rows, strict=True)]
    return found


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
