"""The three learning stages, under one import that costs nothing: torch is imported when a stage is called.

Here: signatures and what each returns. Not here: the learning itself (learn_world_model, learn_reward_model,
learn_policy). Every stage starts from a checkpoint folder, writes a complete one and returns plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.config import DsrlConfig, PolicyConfig, RewardModelConfig, WorldModelConfig
from vlaw_models.episodes import Episode

if TYPE_CHECKING:
    from vlaw_models.learn_policy import Lessons
    from vlaw_models.stopping import Evaluate

Progress = Callable[[int, int, str], None]


def finetune_world_model(
    start_dir: Path,
    autoencoder_dir: Path,
    episodes: list[Episode],
    co_training: list[Episode],
    cfg: WorldModelConfig,
    out_dir: Path,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Eqs. 1 and 2: the world model learns from real rollouts. Returns {"losses": [...], "seconds": ...}."""
    from vlaw_models import learn_world_model

    return learn_world_model.finetune_world_model(
        start_dir, autoencoder_dir, episodes, co_training, cfg, out_dir, seed=seed, progress=progress
    )


def finetune_reward_model(
    start_dir: Path,
    episodes: list[Episode],
    cfg: RewardModelConfig,
    out_dir: Path,
    *,
    seed: int,
    replays: Sequence[Episode] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The judge learns from labelled real rollouts, and their replays. Returns {"losses": [...], "seconds": ...}."""
    from vlaw_models import learn_reward_model

    return learn_reward_model.finetune_reward_model(
        start_dir, episodes, cfg, out_dir, seed=seed, replays=replays, progress=progress
    )


def finetune_policy(
    start_dir: Path,
    real: list[Episode],
    imagined: list[Episode],
    cfg: PolicyConfig,
    out_dir: Path,
    *,
    seed: int,
    lessons: Lessons | None = None,
    dsrl: DsrlConfig | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The policy learns from the episodes given, as `cfg.update` says: see `learn_policy.finetune_policy`.

    Returns losses, seconds and counts, and where it was measured the stop chosen and the outcomes at each.
    """
    from vlaw_models import learn_policy

    return learn_policy.finetune_policy(
        start_dir, real, imagined, cfg, out_dir, seed=seed, lessons=lessons, dsrl=dsrl, evaluate=evaluate,
        progress=progress,
    )
