"""The checkpoints that every experiment starts from: shipped weights, the user's own, or new models. Unpartitioned.

The tiny preset's weights are shipped with the package; `vlaw pretrain` makes such ones.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.recordings import is_recorded, recording
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.recipes.fit import check_weights
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import dagster as dg

    from vlaw_assets.lake import ArtifactRef


STATISTICS = "recorded_statistics"
SCALED = ("world_model", "reward_model")
"""New models that scale by the robot's usual range."""
LEAST_RANGE = 1e-3
"""Of a number that hardly changes, in its unit."""
CORPUS = "co_training_data"
"""What a new model takes its statistics and its vocabulary from."""


@dataclass(frozen=True, kw_only=True)
class WeightsPlan(Plan):
    """A checkpoint to take into the lake: the folder named in foundation.toml, else what the preset ships or makes."""

    name: str
    folder: Path | None
    """None: a new model of the preset."""


def plan(stage: Stage, kind: str, name: str) -> WeightsPlan:
    if _untrained(stage, name):
        preset, seed = stage.foundation.preset, stage.foundation.seed
        corpus = {CORPUS: stage.require_foundation(CORPUS)}
        return WeightsPlan(
            kind=kind,
            recipe={"untrained": name, "preset": preset, "seed": seed, "robot": stage.robot.identity()},
            parents=corpus | (_statistics(stage) if name in SCALED else {}),
            name=name,
            folder=None,
        )
    folder = _folder(stage, name)
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    if not any(file.endswith(".safetensors") for file in files) or "config.json" not in files:
        raise VlawError(
            f"the {name} checkpoint is incomplete: it needs config.json and *.safetensors",
            where=str(folder),
            remedy="Point foundation.toml [weights] to a complete checkpoint, or run `vlaw pretrain`.",
        )
    check_weights(name, folder)
    return WeightsPlan(kind=kind, recipe={"imported": files}, name=name, folder=folder)


def make(stage: Stage, plan: WeightsPlan, work: Work) -> None:
    if plan.folder is None:
        from vlaw_models.pretrain.untrained import build_untrained

        episodes, robot = work.read(CORPUS).episodes(frames=False), stage.robot
        if STATISTICS in plan.parents:
            low, high = usual_range(work.read(STATISTICS).table(STATISTICS).to_pylist())
            robot = replace(robot, state=replace(robot.state, usual_low=low, usual_high=high))
        build_untrained(
            plan.name,
            stage.foundation.preset,
            episodes,
            work.draft.checkpoint_dir(),
            robot=robot,
            seed=stage.foundation.seed,
        )
        stage.log.warning(f"the {plan.name} is new: preset {stage.foundation.preset!r} has no weights")
    else:
        shutil.copytree(plan.folder, work.draft.checkpoint_dir(), dirs_exist_ok=True)
    work.metrics["preset"] = stage.foundation.preset


def usual_range(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high) of each number of the state, by the statistics of a recording: its 1 % and 99 % quantiles."""
    state = [row for row in rows if row["vector"] == "state"]
    low = tuple(row["q01"] for row in state)
    return low, tuple(max(row["q99"], row["q01"] + LEAST_RANGE) for row in state)


def _statistics(stage: Stage) -> dict[str, ArtifactRef]:
    """Those of the recording that the corpus was taken from, where the robot's spec does not say its usual range."""
    source = stage.foundation.co_training
    if not is_recorded(source) or stage.robot.state.usual_low:
        return {}
    found = stage.ledger.current(STATISTICS, recording(stage, source).partition)
    if found is None:
        return {}
    stage.required.append(found)
    return {STATISTICS: found}


def _untrained(stage: Stage, name: str) -> bool:
    from vlaw_models.presets import UNTRAINED

    return stage.foundation.preset in UNTRAINED and not stage.foundation.weights.get(name)


def _folder(stage: Stage, name: str) -> Path:
    given = stage.foundation.weights.get(name)
    if given:
        folder = Path(given).expanduser()
    else:
        from vlaw_models import presets

        folder = Path(presets.foundation(stage.foundation.preset, name, robot=stage.robot.name))
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
        group="foundation",
        deps=(CORPUS, STATISTICS),
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
