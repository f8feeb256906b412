"""`vlaw plan`: what the first iteration of a recipe takes on given GPUs, and how each stage would run; makes nothing.

Exit status 2 where a stage does not fit, after the table, with what would make it fit.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.output import console, errors, known_experiment, print_json, print_table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlaw_assets.lake import Lake
    from vlaw_assets.planning import Planner, StagePlan
    from vlaw_assets.recipes.schema import Recipe

GIB = 2**30
ASSUMED = 400.0
"""TFLOP/s: 40 % of what an H100 does at most in bfloat16, 989."""


def plan(
    experiment: Annotated[str, typer.Argument(help="Name of a recipe.")],
    gpus: Annotated[int, typer.Option(min=1, help="How many there are.")] = 1,
    gpu_memory: Annotated[float, typer.Option(min=0.001, help="GiB of each, as its driver tells.")] = 80.0,
    tflops: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="What each really does, in bfloat16; the default is 40 % of an H100. `python "
            "benchmarks/interaction.py` measures it.",
        ),
    ] = ASSUMED,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Plan the first iteration before it starts: memory, micro-batches, sharding, disk and hours of every stage."""
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.planning import Planner
    from vlaw_assets.recipes import load_foundation
    from vlaw_models.planning.choose import Hardware

    recipe = known_experiment(experiment)
    hardware = Hardware(gpus, int(gpu_memory * GIB), tflops * 1e12)

    def looking_at(stage: str) -> None:
        errors.print(f"looking at {stage} ...", style="dim", markup=False)

    planner = Planner(recipe, hardware, load_foundation(recipes_folder()), _lake())
    stages = list(planner.stages(looking_at))
    if as_json:
        print_json(
            {"experiment": recipe.name, "preset": recipe.preset, "gpus": gpus, "gpu_memory_gib": gpu_memory,
             "tflops": tflops, "fits": all(one.fits for one in stages), "stages": [asdict(one) for one in stages],
             "checkpoints": {name: str(folder) for name, folder in planner.checkpoints.items()},
             "not_counted": planner.not_counted()}
        )  # fmt: skip
    else:
        print_plan(planner, stages, tflops)
    _refuse(recipe, stages, gpus, gpu_memory)


def _lake() -> Lake | None:
    """The lake of VLAW_LAKE, where there is one."""
    from vlaw_assets.environment import default_lake
    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.paths import Paths, lake_root

    there = Paths(lake_root(default_lake())).format.is_file()
    return Lake.open(default_lake(), create=False) if there else None


def print_plan(planner: Planner, stages: Sequence[StagePlan], tflops: float = ASSUMED) -> None:
    """The table, and what there is to say of it."""
    recipe, hardware = planner.recipe, planner.hardware
    rate = f"{tflops:g} TFLOP/s each" + (" (assumed: 40 % of an H100)" if tflops == ASSUMED else "")
    there = f"{hardware.gpus} x {hardware.memory / GIB:g} GiB, {rate}"
    header = ["stage", "model", "parameters", "state", "optimizer", "a sample"]
    header += ["a GPU at once", "of a GPU", "disk", "hours"]
    rows = [
        [
            one.stage,
            one.model,
            _count(one.parameters),
            _bytes(one.state),
            _bytes(one.optimizer) if one.optimizer else "-",
            _bytes(one.activations),
            one.batch if one.fits else "does not fit",
            _bytes(one.memory),
            _bytes(one.disk),
            f"{one.hours:.2f}" if one.fits else "-",
        ]
        for one in stages
    ]
    print_table([header, *rows], title=f"{recipe.name}: preset {recipe.preset}, robot {recipe.robot}; {there}")
    total, disk = sum(one.hours for one in stages), _bytes(sum(one.disk for one in stages))
    keys = {key: value for one in stages for key, value in one.keys.items() if _now(recipe, key) != value}
    lines = {
        "the first iteration": [f"{total:.1f} hours of computing", f"{disk} of disk at most"],
        "in the recipe": [f"{key} = {str(value).lower()}" for key, value in keys.items()],
        "with accelerate launch --use_fsdp": [one.stage for one in stages if one.sharded],
        "as its checkpoint says": [f"{name} ({folder})" for name, folder in planner.checkpoints.items()],
        "as the preset says, for want of the folder": [f"{name} ({at})" for name, at in planner.absent.items()],
        "not counted": ["; ".join(planner.not_counted())],
    }
    for about, said in lines.items():
        if said:
            console.print(f"{about}: {', '.join(said)}", markup=False, soft_wrap=True)


def _refuse(recipe: Recipe, stages: Sequence[StagePlan], gpus: int, memory: float) -> None:
    misfits = [one for one in stages if not one.fits]
    if misfits:
        needs = "; ".join(f"{one.stage} ({one.model}) needs {_bytes(one.memory)} of a GPU" for one in misfits)
        raise VlawError(
            f"{recipe.name} does not fit {gpus} GPU{'s' if gpus > 1 else ''} of {memory:g} GiB: {needs}",
            where=str(recipe.file),
            remedy=" ".join(f"{one.stage}: {one.remedy}" for one in misfits),
        )


def _now(recipe: Recipe, key: str) -> object:
    table, name = key.split(".")
    return getattr(getattr(recipe, table), name)


def _count(number: int) -> str:
    return f"{number / 1e9:.3f} B" if number >= 1e8 else f"{number / 1e6:.2f} M"


def _bytes(number: float) -> str:
    return f"{number / GIB:,.1f} GiB" if number >= GIB / 10 else f"{number / 2**20:,.1f} MiB"
