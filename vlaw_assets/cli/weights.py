"""`vlaw weights`: published weights into checkpoint folders, and what is in one. The reading is in
vlaw_models/published; base policies are made in imitate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.imitate import imitate
from vlaw_assets.cli.output import console

weights = typer.Typer(
    no_args_is_help=True, help="Bring published weights in, make base policies, see what a checkpoint is."
)
weights.command("imitate")(imitate)


@weights.command("import")
def import_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="svd, ctrl-world, clip, cosmos, qwen3-vl, pi0 or pi05.")],
    path: Annotated[Path, typer.Argument(help="The folder, or file, as it was published.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: weights/KIND.")] = None,
    robot: Annotated[str, typer.Option(help="Whose cameras and poses: these files do not say it.")] = "droid",
    preset: Annotated[str, typer.Option(help="Sizes that the files do not have.")] = "paper",
    clip: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="CLIP's folder: how a world model reads the instruction.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PaliGemma's tokenizer.json, for pi0 and pi05.")
    ] = None,
    norm_stats: Annotated[
        Path | None, typer.Option(metavar="FILE", help="openpi's norm_stats.json, where it is not in the folder.")
    ] = None,
    defects: Annotated[
        str,
        typer.Option(
            help="Of the published Ctrl-World: training (those that its weights were trained with), all (those of its "
            "rollouts too) or none."
        ),
    ] = "training",
    chunk: Annotated[int | None, typer.Option(min=1, help="Actions that a policy predicts at once.")] = None,
    *,
    relative: Annotated[
        bool, typer.Option("--relative", help="Its statistics are of actions relative to the state.")
    ] = False,
) -> None:
    """Write a checkpoint folder for foundation.toml [weights] from published weights.

    Names and shapes of all tensors are compared first: one that is missing, or that nobody knows, is an error, and
    nothing is written. Files whose names fit are linked, others are copied piece by piece under new names.
    """
    from vlaw_models.published.importing import import_weights
    from vlaw_models.published.part import Options
    from vlaw_models.robots.registry import find_robot

    options = Options(
        find_robot(robot, where="--robot"),
        preset=preset,
        clip=clip,
        tokenizer=tokenizer,
        statistics=norm_stats,
        chunk=chunk,
        relative=relative,
        defects=defects,
    )
    for folder, part in import_weights(kind, path, out or Path("weights") / kind, options).items():
        console.print(f"{part.key}: {folder}", markup=False)
        for line in (*part.report.lines(), *part.notes):
            console.print(f"  {line}", markup=False)


@weights.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder.")],
) -> None:
    """Say what a checkpoint is, its size and its statistics; read all of it, and load it once as a stage does."""
    from vlaw_models.published.checking import check_weights

    found = check_weights(folder)
    where = f"weights.{found.key} of foundation.toml" if found.key else "--clip of `vlaw weights import`"
    types = ", ".join(f"{count} of {name}" for name, count in sorted(found.types.items()))
    console.print(f"{folder}: a {found.name}, for {where}", markup=False)
    console.print(
        f"  {found.parameters / 1e6:,.3f} million parameters, {found.bytes / 1e6:,.1f} MB, tensors: {types}",
        markup=False,
    )
    for name, numbers in found.statistics.items():
        console.print(f"  {name}: {'; '.join(numbers)}", markup=False)
