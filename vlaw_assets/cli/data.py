"""`vlaw import ...`: episodes recorded elsewhere, into the lake. The reading itself is in vlaw_assets/importers."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console, print_json
from vlaw_assets.cli.tell import tell_dagster
from vlaw_models.errors import VlawError

_SIZE = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?")


def import_(
    format_: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="lerobot (LeRobot v3.0), ctrl-world, or one that an installed package adds."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    name: Annotated[str, typer.Option(help="Name in the lake; default: the folder's name.")] = "",
    task: Annotated[str, typer.Option(help="Task category of all episodes; default: the recorded task text.")] = "",
    robot: Annotated[str, typer.Option(help="Robot of the recording; default: by what it says of itself.")] = "",
    split: Annotated[str, typer.Option(help="Part of the dataset by its own name, such as train; default: all.")] = "",
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FEATURE", help="Which video is which of the robot's cameras; once for each. Default: by name."
        ),
    ] = None,
    image_size: Annotated[
        str, typer.Option(help="Pixels to resize to: 64 (square), or HEIGHTxWIDTH; default: the robot's.")
    ] = "",
    *,
    require_success: Annotated[
        bool, typer.Option("--require-success", help="Refuse episodes without a label.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Read it again although the lake has it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take recorded episodes into the lake: all cameras, states, actions, tasks and success labels.

    Everything is checked before anything is written.
    """
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.importers.description import Options
    from vlaw_assets.importers.registry import import_recordings
    from vlaw_assets.lake import Lake

    size = _SIZE.fullmatch(image_size)
    if image_size and size is None:
        raise VlawError(
            f"{image_size!r} is no image size", where="--image-size", remedy="Give 64 (square), or 192x320."
        )
    pixels = (int(size[1]), int(size[2] or size[1])) if size else None
    options = Options(
        image_size=pixels,
        task=task,
        require_success=require_success,
        robot=robot,
        split=split,
        cameras=_cameras(camera or []),
    )
    lake = Lake.open(default_lake(), create=True)
    chosen = name or re.sub(r"[^A-Za-z0-9_-]", "_", path.resolve().name)
    run_id = f"import-{uuid.uuid4()}"
    ref = import_recordings(lake, format_, path, options, name=chosen, run_id=run_id, force=force)
    tell_dagster(lake, ref)
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
        console.print(f"  {key}: {value}", markup=False)
    console.print(
        f"""look: vlaw sql "select task, success, count(*) from episodes where artifact_id = '{ref.owner}' """
        """group by all\"""",
        markup=False,
        soft_wrap=True,
    )


def _cameras(given: list[str]) -> dict[str, str]:
    """The robot's camera -> feature, of texts NAME=FEATURE. VlawError for anything else, or a name given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, feature = text.partition("=")
        if not (name and equals and feature) or name in found:
            raise VlawError(
                f"{text!r} {'names a camera twice' if name in found else 'is no camera and feature'}",
                where="--camera",
                remedy="Give each camera once, e.g. --camera wrist=observation.images.hand",
            )
        found[name] = feature
    return found
