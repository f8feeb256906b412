"""Which latents a stage reads, and reading them by episode. They are made by latents.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vlaw_assets.loop_roles import REAL
from vlaw_assets.partitions import partition_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.assets.stage import Stage
    from vlaw_assets.assets.work import Work
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.lake.latents import LanceLatents
    from vlaw_models.episodes import Episode
    from vlaw_models.sources import Frames

AUTOENCODER = "autoencoder"
CORPORA = ("expert_demonstrations", "co_training_data")
NEAR = "near_success"
COSTLESS = "costless"
"""Metric of an artifact that holds no latents, because frames are encoded when they are drawn."""
ROLE, CORPUS_ROLE = "latents", "latents_of_corpora"


def kept_corpora(stage: Stage) -> dict[str, ArtifactRef]:
    """Asset -> the corpora whose latents are kept: both, and near-successes where there are some."""
    found = {asset: stage.require_foundation(asset) for asset in CORPORA}
    near = stage.ledger.current(NEAR, "")
    return found | ({NEAR: stage.require_foundation(NEAR)} if near is not None and near.num_rows else {})


def latents_for(stage: Stage, real: Mapping[str, ArtifactRef], *, corpora: bool = False) -> dict[str, ArtifactRef]:
    """Role -> artifact with the latents of D_real, given by role ("real_rollouts_01"), and of the corpora.

    Empty where the foundation's autoencoder costs nothing. Raises VlawError, naming what to materialize, where there
    are none, or those of other episodes or of another autoencoder.
    """
    kept = stage.require_foundation("corpus_latents")
    if kept.metrics.get(COSTLESS):
        return {}
    found = {}
    if corpora:
        _check(stage, kept, kept_corpora(stage))
        found[CORPUS_ROLE] = kept
    for role, episodes in real.items():
        number = int(role.removeprefix(f"{REAL}_")) if role != REAL else stage.iteration
        made = stage.ledger.require("latents", partition_of(stage.experiment, number))
        _check(stage, made, {REAL: episodes})
        stage.required.append(made)
        found[f"{ROLE}_{number:02d}"] = made
    return found


def _check(stage: Stage, made: ArtifactRef, episodes: Mapping[str, ArtifactRef]) -> None:
    """Latents are of exactly these episodes and of the foundation's autoencoder."""
    wanted = {AUTOENCODER: stage.require_foundation(AUTOENCODER), **episodes}
    edges = dict(stage.ledger.edges(made.owner))
    other = [
        role for role, ref in wanted.items() if role not in edges or edges[role].content_digest != ref.content_digest
    ]
    if other:
        raise VlawError(
            f"{made.name} was made of another {' and '.join(other)}",
            where=f"{stage.asset} [{stage.partition}]",
            remedy=f"Materialize {made.name} again: vlaw run --rebuild-stale.",
        )


class Latents:
    """Latents of the episodes of several artifacts."""

    def __init__(self, parts: Iterable[LanceLatents]):
        self._parts = list(parts)

    def of(self, episode: Episode) -> Frames:
        """(T', C, V*h, w) float16, one for each of its frames. Raises VlawError where it has none."""
        for part in self._parts:
            if episode.episode_id in part:
                return part.of(episode)
        raise VlawError(
            "an episode has no latents",
            where=f"episode {episode.episode_id}",
            remedy="Materialize latents (of the foundation: corpus_latents) again.",
        )


def read_latents(work: Work) -> Latents | None:
    """What `latents_for` named among the parents; None where frames are encoded when they are read."""
    found = [work.read(role).latents() for role in work.parents if role.startswith(ROLE)]
    return Latents(part for part in found if part is not None) if found else None
