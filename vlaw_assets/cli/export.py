"""`vlaw export`: what the ledger knows, in formats of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake
from vlaw_models.errors import VlawError

Episodes = Annotated[
    list[str],
    typer.Argument(
        metavar="EPISODE... | SQL | ASSET [EXPERIMENT ITERATION]", help="Which episodes, as vlaw watch takes them."
    ),
]
Param = Annotated[list[str] | None, typer.Option("--param", "-p", help="key=value, for $key in the SQL.")]
Limit = Annotated[int, typer.Option(help="Most episodes.")]
Redraw = Annotated[
    bool, typer.Option("--redraw/--no-redraw", help="Draw frames again that were not kept, as vlaw watch does.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]

exports = typer.Typer(no_args_is_help=True, help="Write what the lake knows in formats of others.")


@exports.command("provenance")
def provenance(
    asset: Annotated[str, typer.Argument(help="An asset with a checkpoint, e.g. policy.")],
    experiment: Annotated[str, typer.Argument(help="Name of a recipe.")],
    iteration: Annotated[int, typer.Argument(help="The iteration, e.g. 2.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    *,
    force: Force = False,
    as_of: AsOf = None,
) -> None:
    """The closure as an in-toto Statement with SLSA provenance (v1), unsigned.

    The subjects are the checkpoint's files with their sha256. Sign it with standard tools, for example

        jq .predicate FILE > predicate.json

        cosign attest-blob --predicate predicate.json --type slsaprovenance1 --key cosign.key --bundle model.bundle
        model.safetensors

    or the whole statement, and check it and the files it names:

        openssl dgst -sha256 -sign key.pem -out FILE.sig FILE

        openssl dgst -sha256 -verify public.pem -signature FILE.sig FILE
    """
    _refuse_to_replace(file, force=force)
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.lineage.closure import subject
    from vlaw_assets.lineage.provenance import statement

    lake = existing_lake(as_of)
    made = statement(lake, subject(lake, asset, experiment, iteration))
    write_page(file, json.dumps(made, indent=1, sort_keys=True, allow_nan=False) + "\n", remedy="Name another file.")
    console.print(
        f"{file}: {len(made['subject'])} subjects, {len(made['predicate']['buildDefinition']['resolvedDependencies'])} "
        "dependencies; not signed (see --help)",
        markup=False,
        soft_wrap=True,
    )


@exports.command("openlineage")
def openlineage(
    file: Annotated[Path, typer.Argument(help="The file to write: one event in JSON per line.")],
    *,
    force: Force = False,
    as_of: AsOf = None,
) -> None:
    """The ledger as OpenLineage run events: one per artifact, with the version of each input that was read.

    Marquez and other catalogues take them by OpenLineage's HTTP or file transport.
    """
    _refuse_to_replace(file, force=force)
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.lineage.openlineage import events

    lines = [json.dumps(event, sort_keys=True, allow_nan=False) for event in events(existing_lake(as_of))]
    write_page(file, "".join(f"{line}\n" for line in lines), remedy="Name another file.")
    console.print(f"{file}: {len(lines)} events", markup=False, soft_wrap=True)


def _refuse_to_replace(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise VlawError("the file exists", where=str(file), remedy="Name another file, or replace it with --force.")


@exports.command("study")
def study(
    name: Annotated[str, typer.Argument(help="Name of a study, e.g. claims.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.duckdb", help="The file to write; an older one is replaced.")],
    *,
    as_of: AsOf = None,
) -> None:
    """The rows that the report of a study is made of, as one DuckDB file: no image, no step, no checkpoint.

    Its report, without the lake: vlaw report study NAME --from FILE. Of a study that ran in pieces, in several lakes:
    --from once per piece.
    """
    from vlaw_assets.query.study_file import write_study_file

    path = write_study_file(existing_lake(as_of), name, file)
    console.print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False, soft_wrap=True)


@exports.command("mp4")
def mp4(
    what: Episodes,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the clips; it is made.")],
    param: Param = None,
    limit: Limit = 60,
    *,
    redraw: Redraw = True,
    force: Annotated[bool, typer.Option("--force", help="Replace clips that are there.")] = False,
    as_of: AsOf = None,
) -> None:
    """A clip per episode, all cameras side by side, named by the episode's id."""
    from vlaw_assets.cli.watch import chosen, drawing
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.lake.picking import pick
    from vlaw_assets.reports.episodes.clips import clips_of

    lake = existing_lake(as_of)
    choice = chosen(lake, what, param or [], limit)
    picked = pick(lake, choice.keys, images=False)
    files = {key: out / f"{quote(item.episode.episode_id, safe='')}.mp4" for key, item in picked.items()}
    if (there := [path for path in files.values() if path.exists()]) and not force:
        raise VlawError(
            f"{len(there)} of the clips are there", where=str(there[0]), remedy="Name another folder, or use --force."
        )
    clips = clips_of(lake, picked, redraw=redraw, tell=drawing)
    written = 0
    for key, clip in clips.items():
        if clip.file is not None:
            write_page(files[key], clip.file, remedy="Name another folder.")
            written += 1
    console.print(f"{out}: {written} clips of {len(files)} episodes", markup=False, soft_wrap=True)
    if choice.cut:
        console.print(choice.cut, markup=False)


@exports.command("rerun")
def rerun(
    what: Episodes,
    file: Annotated[Path, typer.Argument(metavar="FILE.rrd", help="The file to write.")],
    param: Param = None,
    limit: Limit = 60,
    *,
    redraw: Redraw = True,
    force: Force = False,
    as_of: AsOf = None,
) -> None:
    """Episodes as a Rerun recording with a layout: cameras, state, action, reward, outcome, labels.

    Open it: rerun FILE.rrd
    """
    if file.suffix != ".rrd":
        raise VlawError(
            "the file's name does not end in .rrd, by which Rerun knows its recordings",
            where=str(file),
            remedy="Name the file last: vlaw export rerun EPISODE FILE.rrd",
        )
    _refuse_to_replace(file, force=force)
    from vlaw_assets.cli.watch import chosen, drawing
    from vlaw_assets.exports.rerun_recording import recording
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.lake.picking import pick

    lake = existing_lake(as_of)
    choice = chosen(lake, what, param or [], limit)
    picked = pick(lake, choice.keys, images=False)
    data = recording(lake, picked, title=choice.title, redraw=redraw, tell=drawing)
    write_page(file, data, remedy="Name another file.")
    console.print(f"{file}: {len(picked)} episodes, {len(data) / 1e6:.1f} MB", markup=False, soft_wrap=True)
    if choice.cut:
        console.print(choice.cut, markup=False)


@exports.command("croissant")
def croissant(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[ASSET [EXPERIMENT ITERATION]] FOLDER",
            help="The folder to write; before it a training set, or an artifact that holds episodes, e.g. training_set "
            "vlaw 02. Default: all current episodes of the lake.",
        ),
    ],
    *,
    frames: Annotated[bool, typer.Option("--frames", help="With the camera frames, as frames.parquet.")] = False,
    licence: Annotated[str, typer.Option("--license", help="A URL, or a name of SPDX's list.")] = "",
    creator: Annotated[str, typer.Option(help="Who made the dataset.")] = "",
    url: Annotated[str, typer.Option(help="Where the dataset will be found.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that was exported there.")] = False,
    as_of: AsOf = None,
) -> None:
    """A dataset for others: a folder of Parquet files with a Croissant card, croissant.json, that describes them.

    mlcroissant and what is made with it read it: mlcroissant.Dataset("FOLDER/croissant.json").records("episodes").
    """
    from vlaw_assets.exports.croissant import Stated, write_folder
    from vlaw_assets.lineage.closure import subject

    *words, last = what
    if len(words) not in (0, 1, 3) or (len(words) == 3 and not words[2].isdecimal()):
        raise VlawError(
            f"{' '.join(words)} names no dataset",
            where="vlaw export croissant",
            remedy="Name an asset of the foundation, or asset, experiment and iteration: training_set vlaw 2 FOLDER.",
        )
    lake, folder = existing_lake(as_of), Path(last)
    if not words and lake.ledger.current(last, "") is not None:
        raise VlawError(
            f"{last} is an asset, and no folder is named",
            where="vlaw export croissant",
            remedy=f"Name the folder behind it: vlaw export croissant {last} FOLDER. Any other name is the whole lake.",
        )
    ref = subject(lake, words[0], *((words[1], int(words[2])) if len(words) == 3 else (None, None))) if words else None
    written = write_folder(lake, ref, folder, frames=frames, stated=Stated(licence, creator, url), force=force)
    counted = ", ".join(f"{table.rows} {table.name}" for table in written.tables)
    size = sum(table.size for table in written.tables) / 1e6
    console.print(f"{folder}: {counted}, {size:.1f} MB", markup=False, soft_wrap=True)
    if written.left_out:
        console.print(f"{written.left_out} episodes are left out: they are in quarantine.", markup=False)


@exports.command("lerobot")
def lerobot(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="EPISODE... | SQL | ASSET [EXPERIMENT ITERATION] | DATASET FOLDER",
            help="Which episodes, as vlaw watch takes them or by the name of an imported dataset; and the new folder.",
        ),
    ],
    *,
    param: Param = None,
    codec: Annotated[
        str, typer.Option(help="av1, as LeRobot encodes, or h264, which is larger and loses less.")
    ] = "av1",
    storage: Annotated[
        str,
        typer.Option(
            help="files: Parquet and MP4; lance: LeRobot's storage format of Lance tables; v2.1: the version before, "
            "which openpi reads."
        ),
    ] = "files",
    licence: Annotated[str, typer.Option("--license", help="A name of SPDX's list, for the dataset card.")] = "",
    redraw: Redraw = True,
    as_of: AsOf = None,
) -> None:
    """A LeRobot dataset v3.0, with where each episode is from, its outcome, score and weight as columns of every row.

    Open it: LeRobotDataset("NAME/OF/YOURS", root="FOLDER")
    """
    import sys

    from vlaw_assets.cli.counting import counting
    from vlaw_assets.cli.watch import chosen
    from vlaw_assets.exports.lerobot import check_target, write_dataset
    from vlaw_assets.exports.lerobot.episodes import imported, plan
    from vlaw_assets.exports.lerobot.layout import CODECS, IMAGINED, REAL, STORAGES

    *words, last = what
    for value, known, option in ((codec, CODECS, "--codec"), (storage, STORAGES, "--storage")):
        if value not in known:
            raise VlawError(
                f"{value!r} is none of {', '.join(known)}", where=option, remedy=f"Use {option} {min(known)}."
            )
    if not words:
        raise VlawError(
            "no episodes are named, or no folder",
            where="vlaw export lerobot",
            remedy="Name both: vlaw export lerobot training_set vlaw 2 FOLDER",
        )
    lake, folder = existing_lake(as_of), Path(last)
    check_target(folder, lake)
    choice = chosen(lake, imported(lake, words), param or [], sys.maxsize)
    export = plan(lake, choice.keys, choice.members, CODECS[codec], storage)
    with counting("writing frames") as progress:
        size = write_dataset(
            lake,
            export,
            folder,
            title=choice.title,
            licence=licence,
            redraw=redraw,
            tell=lambda done, total: progress(done, total, "frames"),
        )
    by_origin = ", ".join(f"{export.count(origin=name)} {name}" for name in (REAL, IMAGINED))
    console.print(
        f"{folder}: {len(export.facts)} episodes ({by_origin}), {export.frames} frames of "
        f"{len(export.layout.cameras)} cameras, {size / 1e6:.1f} MB",
        markup=False,
        soft_wrap=True,
    )
    if export.left_out:
        console.print(f"{export.left_out} episodes are left out: they are in quarantine.", markup=False)
