"""Latents of real episodes, encoded once per autoencoder and episode: what world models learn from and imagine from.

`latents` has those of an iteration's real rollouts, `corpus_latents` those of the corpora of the foundation. An
autoencoder that costs nothing, or whose latents depend on where a chunk begins (`Autoencoder.when_drawn`), keeps none:
then frames are encoded whenever they are read.
Copies of recordings that came with latents of this very autoencoder keep those, and nothing is encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vlaw_assets.assets.encoded import AUTOENCODER, CORPORA, COSTLESS, NEAR, kept_corpora
from vlaw_assets.assets.recordings import ROLE as RECORDING
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.assets.work import Plan, Work
from vlaw_assets.loop_roles import REAL

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.lake import ArtifactRef
    from vlaw_models.episodes import Episode

RECORDED = "recorded_"
"""Beginning of the role of the recording that an asset's episodes are copies of, if it came with latents."""


def plan_corpora(stage: Stage) -> Plan:
    return _plan(stage, kept_corpora(stage))


def plan(stage: Stage) -> Plan:
    return _plan(stage, {REAL: stage.require(REAL)})


def _plan(stage: Stage, episodes: Mapping[str, ArtifactRef]) -> Plan:
    from vlaw_assets.lake.latents import of_model

    autoencoder = stage.require_foundation(AUTOENCODER)
    kept = {
        f"{RECORDED}{role}": recording
        for role, ref in episodes.items()
        for _, recording in [edge for edge in stage.ledger.edges(ref.owner) if edge[0] == RECORDING]
        if of_model(recording.versions.get("latents"), autoencoder.content_digest)
    }
    return Plan(kind="latents", recipe={}, parents={AUTOENCODER: autoencoder, **episodes, **kept})


def make(stage: Stage, plan: Plan, work: Work) -> None:
    from vlaw_models.autoencoders.base import load_autoencoder

    autoencoder = load_autoencoder(work.read(AUTOENCODER).checkpoint())
    held = {role: work.read(role) for role in plan.parents if role != AUTOENCODER and not role.startswith(RECORDED)}
    work.metrics |= {COSTLESS: autoencoder.when_drawn, "encoded": 0}
    if autoencoder.when_drawn:
        return
    total, done = sum(plan.parents[role].num_rows for role in held), 0
    for role, handle in held.items():
        source, kept = handle.source(), _Kept(work, f"{RECORDED}{role}")
        for index, episode in enumerate(source):
            latents = kept.of(episode)
            if latents is None:
                latents = autoencoder.encode(source.frames(index)).half().numpy()
                work.metrics["encoded"] += 1
            steps = range(episode.num_steps + 1 - len(episode.images), episode.num_steps + 1)
            work.draft.write_latents(
                plan.parents[AUTOENCODER].content_digest, plan.parents[role].owner, episode.episode_id, steps, latents
            )
            done += 1
            stage.progress(done, total, f"encoded {role}")
        kept.note()
    if done > work.metrics["encoded"]:
        work.metrics["kept"] = done - work.metrics["encoded"]


class _Kept:
    """Latents that came with the recording that episodes are copies of."""

    def __init__(self, work: Work, role: str):
        self._handle = work.read(role) if role in work.parents else None
        self._found = self._handle.latents(()) if self._handle is not None else None
        self._read: list[str] = []

    def of(self, episode: Episode) -> np.ndarray | None:
        """(T', C, V*h, w) float16; None where there are none of all its frames."""
        start = episode.start_episode_id
        if self._found is None or start is None or start not in self._found:
            return None
        self._read.append(start)
        import numpy as np

        return np.asarray(self._found.of(replace(episode, episode_id=start)))

    def note(self) -> None:
        """Say which recordings were read."""
        if self._handle is not None:
            self._handle.note(self._read)


corpus_latents = stage_asset(
    "corpus_latents",
    "What the autoencoder makes of every frame of the corpora; nothing where it costs nothing.",
    plan=plan_corpora,
    make=make,
    group="foundation",
    deps=(AUTOENCODER, *CORPORA, NEAR),
    pool=POOL,
    kinds=("lance",),
)
latents = stage_asset(
    "latents",
    "What the autoencoder makes of every frame of this iteration's real rollouts; nothing where it costs nothing.",
    plan=plan,
    make=make,
    group="iteration",
    deps=(AUTOENCODER, REAL),
    pool=POOL,
    kinds=("lance",),
)
