"""The checkpoints that every experiment starts from. Unpartitioned.

Here: taking shipped (or the user's own) weights into the lake. Not here: the scripted corpora (scripted.py),
pretraining (`vlaw pretrain`, vlaw_models/pretrain); the tiny preset ships its result with the package.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import ArtifactRef


@dataclass(frozen=True, kw_only=True)
class WeightsPlan(Plan):
    """A checkpoint folder to take into the lake: the one named in foundation.toml, else what the preset ships."""

    name: str
    folder: Path


def plan(stage: Stage, kind: str, name: str) -> WeightsPlan:
    folder = _folder(stage, name)
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    if not any(file.endswith(".safetensors") for file in files) or "config.json" not in files:
        raise VlawError(
            f"the {name} checkpoint is incomplete: it needs config.json and *.safetensors",
            where=str(folder),
            remedy="Point foundation.toml [weights] to a complete checkpoint, or run `vlaw pretrain`.",
        )
    return WeightsPlan(kind=kind, recipe={"imported": files}, name=name, folder=folder)


def make(stage: Stage, plan: WeightsPlan, work: Work) -> None:
    shutil.copytree(plan.folder, work.draft.checkpoint_dir(), dirs_exist_ok=True)
    work.metrics["preset"] = stage.foundation.preset


def show(stage: Stage, plan: WeightsPlan, _ref: ArtifactRef) -> Mapping[str, Any]:
    return {"source": plan.name, "preset": stage.foundation.preset}


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


def _weights(asset: str, kind: str, name: str, about: str) -> dg.AssetsDefinition:
    return stage_asset(
        asset,
        about,
        plan=lambda stage: plan(stage, kind, name),
        make=make,
        show=show,
        group="foundation",
        kinds=("pytorch",),
    )


base_policy = _weights(
    "base_policy",
    "policy",
    "base_policy",
    "The vision-language-action policy that every experiment improves on: pi[0].",
)
pretrained_world_model = _weights(
    "pretrained_world_model",
    "world_model",
    "world_model",
    "The action-conditioned world model before it has seen any rollout: M[0].",
)
pretrained_reward_model = _weights(
    "pretrained_reward_model",
    "reward_model",
    "reward_model",
    "The judge of success before it has seen any rollout: R[0].",
)
autoencoder = _weights(
    "autoencoder",
    "autoencoder",
    "autoencoder",
    "Frames to latents and back: the space in which the world model predicts. Never finetuned.",
)
