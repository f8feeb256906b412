"""What every experiment starts from: scripted corpora and pretrained checkpoints. Unpartitioned.

Here: collecting the two corpora, and taking shipped (or the user's own) weights into the lake as checkpoints. Not
here: pretraining (`vlaw pretrain`, vlaw_models/pretrain); the tiny preset ships its result with the package.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import dagster as dg

from vlaw_assets import checks
from vlaw_assets.assets import code
from vlaw_assets.assets.stage import POOL, Stage, stage_asset
from vlaw_assets.recipes import TASKS
from vlaw_models.errors import VlawError

EPISODE_CHECKS = (checks.SCHEMA, checks.FINITE, checks.COUNTS)


@stage_asset(group="foundation", modules=code.SCRIPTED, checks=EPISODE_CHECKS, kinds=("deltalake", "lance"), pool=POOL)
def expert_demonstrations(stage: Stage) -> dg.MaterializeResult:
    """Episodes of the scripted experts, what the base policy was warm-started on the like of; all five tasks."""
    return _scripted(stage, "demonstration", stage.foundation.demonstrations_per_task)


@stage_asset(group="foundation", modules=code.SCRIPTED, checks=EPISODE_CHECKS, kinds=("deltalake", "lance"), pool=POOL)
def co_training_data(stage: Stage) -> dg.MaterializeResult:
    """A broad corpus of mixed quality: the world model is finetuned on it too, with weight lambda (Eq. 2)."""
    return _scripted(stage, "co_training", stage.foundation.co_training_per_task)


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


FOUNDATION = (expert_demonstrations, co_training_data, base_policy, pretrained_world_model, pretrained_reward_model,
              autoencoder)


def _scripted(stage: Stage, purpose: str, count: int) -> dg.MaterializeResult:
    seed = stage.foundation.seed
    recipe = {"purpose": purpose, "count_per_task": count, "seed": seed, "tasks": list(TASKS)}
    with stage.commit("scripted_episodes", recipe=recipe, parents={}) as work:
        if work.wanted:
            from vlaw_models.collect import collect_demonstrations

            episodes = collect_demonstrations(TASKS, count, purpose=purpose, seed=seed, progress=stage.progress)
            work.check(
                checks.episodes_fit_schema(episodes, tasks=TASKS, judged=True),
                checks.all_finite(episodes),
                checks.counts_as_asked((e.task for e in episodes), dict.fromkeys(TASKS, count)),
            )
            work.draft.write_episodes(episodes, purpose=purpose, world="tabletop", policy="", world_model="")
            work.metrics["successes"] = sum(bool(e.success) for e in episodes)
            work.show("one episode of every task", episodes[::count])
    return stage.result(work)


def _weights(stage: Stage, kind: str, name: str) -> dg.MaterializeResult:
    """Takes a checkpoint folder into the lake: the one named in foundation.toml, else what the preset ships."""
    folder = _folder(stage, name)
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    if not any(file.endswith(".safetensors") for file in files) or "config.json" not in files:
        raise VlawError(f"the {name} checkpoint is incomplete: it needs config.json and *.safetensors", where=str(folder),
                        remedy="Point foundation.toml [weights] to a complete checkpoint, or run `vlaw pretrain`.")
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
        raise VlawError(f"the {name} checkpoint does not exist", where=str(folder),
                        remedy="Mend its path in foundation.toml [weights], or run `vlaw pretrain`.")
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
