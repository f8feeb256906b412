"""`vlaw import ...`: episodes recorded elsewhere, into the lake. The reading itself is in vlaw_assets/importers."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.output import console, print_json
from vlaw_assets.cli.tell import tell_dagster
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.importers.base import Recordings
    from vlaw_assets.importers.description import Options

Pairs = list[str] | None


UNSHOWN = ("made_with", "checks", "understood", "pictures", "pictures_in_order", "pages")
"""Facts of an import that its page and --json show."""


def import_(
    format_: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="lerobot, ctrl-world, droid (as it was recorded), or one that an installed package adds.",
        ),
    ],
    path: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    name: Annotated[str, typer.Option(help="Name in the lake; default: the folder's name.")] = "",
    description: Annotated[
        Path | None, typer.Option(help="TOML file with any of the following (with _ for -); options win over it.")
    ] = None,
    robot: Annotated[str, typer.Option(help="Robot of the recording; default: by what it says of itself.")] = "",
    task: Annotated[str, typer.Option(help="Task category of all episodes; default: the recorded task text.")] = "",
    split: Annotated[str, typer.Option(help="Part of the dataset by its own name, such as train; default: all.")] = "",
    episodes: Annotated[str, typer.Option(metavar="0-9,12", help="Only these, numbered from 0; default: all.")] = "",
    camera: Annotated[
        Pairs,
        typer.Option(
            metavar="NAME=FEATURE", help="Which video is which of the robot's cameras; once for each. Default: by name."
        ),
    ] = None,
    image_size: Annotated[
        str, typer.Option(help="Pixels to resize to: 64 (square), or HEIGHTxWIDTH; default: the robot's.")
    ] = "",
    state: Annotated[str, typer.Option(metavar="KEY", help="What the recording calls the state.")] = "",
    action: Annotated[str, typer.Option(metavar="KEY", help="What the recording calls the action.")] = "",
    action_kind: Annotated[str, typer.Option(help="absolute, delta or velocity; default: by the names.")] = "",
    component: Annotated[
        Pairs,
        typer.Option(
            metavar="state=x,y,...", help="Which of the recorded numbers are the robot's, in its order; or action=..."
        ),
    ] = None,
    unit: Annotated[
        Pairs, typer.Option(metavar="state=mm,deg,...", help="Units of those numbers; or action=...")
    ] = None,
    gripper: Annotated[str, typer.Option(help="closed_is_1 or open_is_1; default: closed_is_1.")] = "",
    rate: Annotated[float | None, typer.Option(help="Rows per second, where the recording says another.")] = None,
    latents_of: Annotated[
        str, typer.Option(metavar="FOLDER", help="Checkpoint of the autoencoder that made the dataset's latents.")
    ] = "",
    success_key: Annotated[str, typer.Option(metavar="KEY", help="What holds the success label.")] = "",
    success_value: Annotated[
        Pairs, typer.Option(metavar="TEXT=true|false", help="What a text of that label means; once for each.")
    ] = None,
    frame: Annotated[str, typer.Option(help="The frame of reference of poses, kept as a fact.")] = "",
    collector: Annotated[str, typer.Option(help="Who recorded it, kept as a fact.")] = "",
    extrinsics: Annotated[
        Pairs, typer.Option(metavar="CAMERA=1,0,...", help="Where a camera is, kept as a fact.")
    ] = None,
    *,
    require_success: Annotated[
        bool, typer.Option("--require-success", help="Refuse episodes without a label.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave faulty episodes out, and keep what was found.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read all of it, say what it is and what is wrong, and write nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Become the name's new version though another dataset has the name.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Read it again although the lake has it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take recorded episodes into the lake: all cameras, states, actions, tasks and success labels.

    Everything is checked before anything is committed. A killed import goes on where it was.
    """
    given = {
        "robot": robot,
        "task": task,
        "split": split,
        "episodes": episodes,
        "cameras": _pairs(camera, "--camera", "wrist=observation.images.hand"),
        "image_size": image_size,
        "state": state,
        "action": action,
        "action_kind": action_kind,
        "components": _listed(component, "--component", "state=x,y,z"),
        "units": _listed(unit, "--unit", "state=mm,mm,deg"),
        "gripper": gripper,
        "rate": rate,
        "latents_of": latents_of,
        "success_key": success_key,
        "success_values": _truths(success_value),
        "frame": frame,
        "collector": collector,
        "extrinsics": _vectors(extrinsics),
        "require_success": require_success,
        "skip_bad": skip_bad,
    }
    given = {key: value for key, value in given.items() if value not in ("", None, {}, False)}
    if dry_run:
        from vlaw_assets.cli.dry_run import show

        raise typer.Exit(show(format_, path, description, given, name, new_version=replace, as_json=as_json))
    from vlaw_assets.importers.description_file import described

    options = described(description, given)
    _commit(format_, path, options, name, new_version=replace, force=force, as_json=as_json)


def _commit(
    format_: str, path: Path, options: Options, name: str, *, new_version: bool, force: bool, as_json: bool
) -> None:
    from vlaw_assets.cli.counting import counting
    from vlaw_assets.environment import default_lake
    from vlaw_assets.importers.commit import commit_recordings
    from vlaw_assets.importers.registry import code_of, name_for, open_recordings
    from vlaw_assets.lake import Lake

    name, place = name_for(path, name), default_lake()
    recordings: Recordings = open_recordings(format_, path, options)
    lake = Lake.open(place, create=True)
    with counting(f"reading {name}") as progress:
        ref = commit_recordings(
            lake,
            recordings,
            options,
            code=code_of(format_),
            name=name,
            run_id=f"import-{uuid.uuid4()}",
            force=force,
            new_version=new_version,
            progress=progress,
        )
    for made in (ref, lake.ledger.current("recorded_statistics", ref.partition)):
        if made is not None:
            tell_dagster(lake, made)
    if as_json:
        print_json(
            {
                "artifact": ref.artifact_id,
                "asset": ref.asset,
                "partition": ref.partition,
                "metrics": ref.metrics,
                "content_sha256": ref.content_digest,
                "episodes": ref.num_rows,
            }
        )
        return
    console.print(f"{ref.name}: {ref.num_rows} episodes, content {ref.content_digest[:12]}", markup=False)
    for key, value in ref.metrics.items():
        if key not in UNSHOWN:
            console.print(f"  {key}: {value}", markup=False)
    console.print(
        f"""look: vlaw sql "select task, success, count(*) from episodes where artifact_id = '{ref.owner}' """
        """group by all\"""",
        markup=False,
        soft_wrap=True,
    )


def _pairs(given: Pairs, option: str, example: str) -> dict[str, str]:
    """Of texts NAME=VALUE. VlawError for anything else, or a name given twice."""
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in found:
            what = "camera" if option == "--camera" else "name"
            raise VlawError(
                f"{text!r} {f'names a {what} twice' if name in found else f'is no {what} and feature'}",
                where=option,
                remedy=f"Give each {what} once, e.g. {option} {example}",
            )
        found[name] = value
    return found


def _listed(given: Pairs, option: str, example: str) -> dict[str, list[str]]:
    return {name: value.split(",") for name, value in _pairs(given, option, example).items()}


def _truths(given: Pairs) -> dict[str, bool]:
    found = _pairs(given, "--success-value", "done=true")
    wrong = [text for text in found.values() if text not in ("true", "false")]
    if wrong:
        raise VlawError(
            f"{wrong[0]!r} is neither true nor false", where="--success-value", remedy="Give e.g. done=true."
        )
    return {text: value == "true" for text, value in found.items()}


def _vectors(given: Pairs) -> dict[str, list[float]]:
    found = _listed(given, "--extrinsics", "wrist=0.1,0,0.3")
    try:
        return {name: [float(value) for value in values] for name, values in found.items()}
    except ValueError as error:
        raise VlawError(
            f"extrinsics are no numbers: {error}", where="--extrinsics", remedy="Give e.g. wrist=0.1,0,0.3."
        ) from error
