"""`vlaw weights imitate`: a base policy of any class by supervised finetuning on the lake's demonstrations."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.counting import counting
from vlaw_assets.cli.output import console
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake
    from vlaw_models.published.openvla import OpenVla

DEMONSTRATIONS = "expert_demonstrations"
RECORD = "training.json"
"""Of the folder: what the policy learned from, and how."""
SHOWN = 50
"""Losses whose mean is shown."""


def imitate(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY",
            help="A new one: openvla-oft, openvla-oft-l1, flow, pi0 or pi05; or a checkpoint folder to go on with.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: weights/POLICY.")] = None,
    preset: Annotated[str, typer.Option(help="Sizes of a new one.")] = "tiny",
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 2500,
    batch_size: Annotated[int, typer.Option(min=1, help="Chunks of an update.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="At its peak.")] = 5e-4,
    micro_batch: Annotated[int, typer.Option(min=0, help="Chunks that are in memory at once; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of new weights and of what is drawn.")] = 0,
    lora_rank: Annotated[int, typer.Option(min=0, help="Train LoRA layers of this rank; 0: all weights.")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="OpenVLA as published: what a new openvla-oft begins with (--preset paper)."
        ),
    ] = None,
    *,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations again, not keep them: less memory.")
    ] = False,
) -> None:
    """Write a base policy that has learned from the lake's demonstrations, for foundation.toml [weights].

    The demonstrations are made first where the lake has none. Those in quarantine, and those that people call failures,
    are left out.
    """
    out = out or Path("weights") / Path(policy).name
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VlawError("there is something already", where=str(out), remedy="Give another folder as --out.")
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.recipes import load_foundation
    from vlaw_models.policies.base import load_policy
    from vlaw_models.pretrain.imitation import KINDS, ImitationConfig, imitate, new_policy, preset_of
    from vlaw_models.robots.registry import find_robot

    entry = preset_of(policy, preset) if policy in KINDS else None
    published = _published(policy, weights) if weights else None
    if entry is None and not Path(policy).is_dir():
        raise VlawError(
            f"there is no policy {policy!r}",
            where="POLICY",
            remedy=f"Give one of: {', '.join(KINDS)}; or a checkpoint folder.",
        )
    robot = find_robot(load_foundation(recipes_folder()).robot)
    lake, demonstrations = _demonstrations()
    episodes = lake.counted(demonstrations).source(success=True)
    if not len(episodes):
        raise VlawError(
            "no demonstration is a success",
            where=demonstrations.name,
            remedy="Look at them: vlaw sql, view episodes; labels and quarantine may leave all out.",
        )
    if entry is None:
        learner = load_policy(policy)
    else:
        learner = new_policy(entry, episodes, robot=robot, seed=seed, published=published)
    config = ImitationConfig(
        steps, batch_size, learning_rate, micro_batch=micro_batch, lora_rank=lora_rank, recompute=recompute
    )
    with counting(f"{type(learner).__name__} imitates {len(episodes)} demonstrations") as progress:
        losses = imitate(learner, episodes, config, seed=seed, progress=progress)
    learner.save(out)
    record = {
        "policy": policy,
        "preset": "" if entry is None else preset,
        "weights": published.report.to_json() if published else {},
        "demonstrations": demonstrations.content_digest,
        "episodes": len(episodes),
        "seed": seed,
        **asdict(config),
    }
    (out / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    first, last = (sum(part) / len(part) for part in (losses[:SHOWN], losses[-SHOWN:]))
    console.print(f"base_policy: {out}", markup=False)
    for line in published.report.lines() if published else ():
        console.print(f"  {line}", markup=False)
    console.print(
        f"  a {type(learner).__name__}; {len(episodes)} episodes of {demonstrations.name}, {steps} updates: "
        f"loss {first:.3f} -> {last:.3f}",
        markup=False,
    )


def _published(policy: str, weights: Path) -> OpenVla:
    from vlaw_models.pretrain.imitation import OF_OPENVLA
    from vlaw_models.published.openvla import OpenVla

    if policy not in OF_OPENVLA:
        raise VlawError(
            f"{policy} does not begin with OpenVLA's weights",
            where="--weights",
            remedy=f"Name {' or '.join(OF_OPENVLA)} as POLICY; others are imported whole: vlaw weights import.",
        )
    return OpenVla(weights.expanduser())


def _demonstrations() -> tuple[Lake, ArtifactRef]:
    """The lake, and its demonstrations: made now where it has none, as the base policy may come before the rest of the
    foundation."""
    from vlaw_assets.environment import default_lake, default_recipes
    from vlaw_assets.lake import Lake

    lake = Lake.open(default_lake(), create=True)
    if lake.ledger.current(DEMONSTRATIONS) is None:
        from vlaw_assets.definitions import build_defs
        from vlaw_assets.pipeline import driver

        defs = build_defs(lake=lake.paths.root, recipes=default_recipes())
        with driver.open_instance() as instance:
            driver.run_job(defs, instance, "foundation", only=[DEMONSTRATIONS])
    return lake, lake.ledger.require(DEMONSTRATIONS)
