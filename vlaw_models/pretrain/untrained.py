"""Models of a preset that ships no weights: new, seeded, and fitted to a robot's recordings only in their statistics.

They have learned nothing. A loop that starts from them shows that every part of it runs on a robot and on model classes
before there are weights; for results give checkpoints of pretrained ones (foundation.toml [weights]).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vlaw_models import presets
from vlaw_models.episodes import Episode
from vlaw_models.robots.spec import RobotSpec


def build_untrained(
    kind: str, preset: str, episodes: Sequence[Episode], out: Path, *, robot: RobotSpec, seed: int
) -> None:
    """Writes the checkpoint of a new model for a robot to `out`.

    Args:
        kind: one of `presets.MODELS`.
        episodes: what statistics and vocabulary are taken from; frames are not looked at.
    """
    _BUILDERS[kind](preset, episodes, out, robot, seed)


def _policy(preset: str, episodes: Sequence[Episode], out: Path, robot: RobotSpec, seed: int) -> None:
    from vlaw_models.policies.build import build_policy
    from vlaw_models.policies.normalization import Normalization

    entry = presets.POLICY[preset]
    normalization = Normalization.of_robot(
        robot,
        [episode.states for episode in episodes],
        [episode.actions for episode in episodes],
        chunk_size=entry["chunk_size"],
    )
    build_policy(entry, normalization, robot=robot, seed=seed, instructions=_instructions(episodes)).save(out)


def _world_model(preset: str, _episodes: Sequence[Episode], out: Path, robot: RobotSpec, seed: int) -> None:
    from vlaw_models.world_models.base import build_world_model

    build_world_model(presets.WORLD_MODEL[preset], robot=robot, seed=seed).save(out)


def _autoencoder(preset: str, _episodes: Sequence[Episode], out: Path, _robot: RobotSpec, seed: int) -> None:
    from vlaw_models.autoencoders.base import build_autoencoder

    build_autoencoder(presets.AUTOENCODER[preset], seed=seed).save(out)


def _reward_model(preset: str, episodes: Sequence[Episode], out: Path, robot: RobotSpec, seed: int) -> None:
    from vlaw_models.reward_models.base import build_reward_model

    words = _instructions(episodes)
    build_reward_model(presets.REWARD_MODEL[preset], robot=robot, instructions=words, seed=seed).save(out)


def _instructions(episodes: Sequence[Episode]) -> list[str]:
    return sorted({episode.instruction for episode in episodes})


_BUILDERS: dict[str, Callable[[str, Sequence[Episode], Path, RobotSpec, int], None]] = {
    "base_policy": _policy,
    "world_model": _world_model,
    "autoencoder": _autoencoder,
    "reward_model": _reward_model,
}
