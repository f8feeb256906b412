"""`vlaw plan`: what an iteration of a recipe takes on given GPUs, and how each stage would run; makes nothing.

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

    from vlaw_assets.planning import StagePlan
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
    """Plan an iteration before it starts: memory, micro-batches, sharding, disk and hours of every stage."""
    from vlaw_assets.planning import Planner
    from vlaw_models.planning.choose import Hardware

    recipe = known_experiment(experiment)
    hardware = Hardware(gpus, int(gpu_memory * GIB), tflops * 1e12)

    def looking_at(stage: str) -> None:
        errors.print(f"looking at {stage} ...", style="dim", markup=False)

    stages = list(Planner(recipe, hardware).stages(looking_at))
    if as_json:
        print_json(
            {"experiment": recipe.name, "preset": recipe.preset, "gpus": gpus, "gpu_memory_gib": gpu_memory,
             "tflops": tflops, "fits": all(one.fits for one in stages), "stages": [asdict(one) for one in stages]}
        )  # fmt: skip
    else:
        _print(recipe, stages, gpus, gpu_memory, tflops)
    _refuse(recipe, stages, gpus, gpu_memory)


def _print(recipe: Recipe, stages: Sequence[StagePlan], gpus: int, memory: float, tflops: float) -> None:
    rate = f"{tflops:g} TFLOP/s each" + (" (assumed: 40 % of an H100)" if tflops == ASSUMED else "")
    title = f"{recipe.name}: preset {recipe.preset}, robot {recipe.robot}; {gpus} x {memory:g} GiB, {rate}"
    header = ["stage", "model", "parameters", "state", "a sample", "at once", "of a GPU", "disk", "hours"]
    rows = [
        [
            one.stage,
            one.model,
            _count(one.parameters),
            _bytes(one.state),
            _bytes(one.activations),
            one.batch if one.fits else "does not fit",
            _bytes(one.memory),
            _bytes(one.disk),
            f"{one.hours:.2f}" if one.fits else "-",
        ]
        for one in stages
    ]
    print_table([header, *rows], title=title)
    total = sum(one.hours for one in stages), sum(one.disk for one in stages)
    console.print(f"an iteration: {total[0]:.1f} hours of computing, {_bytes(total[1])} of disk at most", markup=False)
    keys = {key: value for one in stages for key, value in one.keys.items() if _now(recipe, key) != value}
    if keys:
        listed = ", ".join(f"{key} = {str(value).lower()}" for key, value in keys.items())
        console.print(f"in the recipe: {listed}", markup=False, soft_wrap=True)
    sharded = [one.stage for one in stages if one.sharded]
    if sharded:
        console.print(f"with accelerate launch --use_fsdp: {', '.join(sharded)}", markup=False, soft_wrap=True)


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
