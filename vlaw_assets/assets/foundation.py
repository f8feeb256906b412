"""The checkpoints that every experiment starts from. Unpartitioned.

Here: taking shipped (or the user's own) weights into the lake. Not here: the scripted corpora (scripted.py),
pretraining (`vlaw pretrain`, vlaw_models/pretrain); the tiny preset ships its result with the package.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import dagster as dg

from vlaw_assets.assets.stage import Stage, stage_asset
from vlaw_models.errors import VlawError


@stage_asset(group="foundation", kinds=("pytorch",))
def base_policy(stage: Stage) -> dg.MaterializeResult:
    """The vision-language-action policy that every experiment improves on: pi[0]."""
    return _weights(stage, "policy", "base_policy")


@stage_asset(group="foundation", kinds=("pytorch",))
def pretrained_world_model(stage: Stage) -> dg.MaterializeResult:
    """The action-conditioned world model before it has seen any rollout: M[0]."""
    return _weights(stage, "world_model", "world_model")


@stage_asset(group="foundation", kinds=("pytorch",))
def pretrained_reward_model(stage: Stage) -> dg.MaterializeResult:
    """The judge of success before it has seen any rollout: R[0]."""
    return _weights(stage, "reward_model", "reward_model")


@stage_asset(group="foundation", kinds=("pytorch",))
def autoencoder(stage: Stage) -> dg.MaterializeResult:
    """Frames to latents and back: the space in which the world model predicts. Never finetuned."""
    return _weights(stage, "autoencoder", "autoencoder")


def _weights(stage: Stage, kind: str, name: str) -> dg.MaterializeResult:
    """Takes a checkpoint folder into the lake: the one named in foundation.toml, else what the preset ships."""
    folder = _folder(stage, name)
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    if not any(file.endswith(".safetensors") for file in files) or "config.json" not in files:
        raise VlawError(
            f"the {name} checkpoint is incomplete: it needs config.json and *.safetensors",
            where=str(folder),
            remedy="Point foundation.toml [weights] to a complete checkpoint, or run `vlaw pretrain`.",
        )
    with stage.commit(kind, recipe={"imported": files}, parents={}) as work:
        if work.wanted:
            shutil.copytree(folder, work.draft.checkpoint_dir(), dirs_exist_ok=True)
            work.metrics["preset"] = stage.foundation.preset
    return stage.result(work, source=name, preset=stage.foundation.preset)


def _folder(stage: Stage, name: str) -> Path:
    given = stage.foundation.weights.get(name)
    if given:
        folder = Path(given).expanduser()
    else:
        from vlaw_models import presets

        folder = Path(presets.foundation(stage.foundation.preset, name))
    if not folder.is_dir():
        raise VlawError(
            f"the {name} checkpoint does not exist",
            where=str(folder),
            remedy="Mend its path in foundation.toml [weights], or run `vlaw pretrain`.",
        )
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
