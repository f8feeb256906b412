"""Latents of real episodes, encoded once per autoencoder and episode: what world models learn from and imagine from.

`latents` has those of an iteration's real rollouts, `corpus_latents` those of the corpora of the foundation. An
autoencoder that costs nothing (`Autoencoder.costless`) keeps none: then frames are encoded whenever they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vlaw_assets.assets.encoded import AUTOENCODER, CORPORA, COSTLESS
from vlaw_assets.assets.stage import Plan, Stage, Work
from vlaw_assets.assets.stage_asset import POOL, stage_asset
from vlaw_assets.loop_roles import REAL

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef


def plan_corpora(stage: Stage) -> Plan:
    return _plan(stage, {asset: stage.require_foundation(asset) for asset in CORPORA})


def plan(stage: Stage) -> Plan:
    return _plan(stage, {REAL: stage.require(REAL)})


def _plan(stage: Stage, episodes: Mapping[str, ArtifactRef]) -> Plan:
    return Plan(kind="latents", recipe={}, parents={AUTOENCODER: stage.require_foundation(AUTOENCODER), **episodes})


def make(stage: Stage, plan: Plan, work: Work) -> None:
    from vlaw_models.autoencoders.base import load_autoencoder

    autoencoder = load_autoencoder(work.read(AUTOENCODER).checkpoint())
    held = {role: work.read(role) for role in plan.parents if role != AUTOENCODER}
    work.metrics |= {COSTLESS: autoencoder.costless, "encoded": 0}
    if autoencoder.costless:
        return
    total = sum(plan.parents[role].num_rows for role in held)
    for role, handle in held.items():
        for episode, latents in autoencoder.encode_all(handle.source()):
            work.draft.write_latents(
                plan.parents[AUTOENCODER].content_digest, plan.parents[role].owner, episode, latents
            )
            work.metrics["encoded"] += 1
            stage.progress(work.metrics["encoded"], total, f"encoded {role}")


corpus_latents = stage_asset(
    "corpus_latents",
    "What the autoencoder makes of every frame of the corpora; nothing where it costs nothing.",
    plan=plan_corpora,
    make=make,
    group="foundation",
    deps=(AUTOENCODER, *CORPORA),
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
