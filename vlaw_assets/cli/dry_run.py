"""`vlaw import ... --dry-run`: what a dataset was understood as, all that is wrong with it, and whether an import would
be made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.cli.counting import counting
from vlaw_assets.cli.output import console, print_json
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.importers.base import Recordings
    from vlaw_assets.importers.commit import Verdict
    from vlaw_assets.importers.description import Options


def show(
    format_: str,
    path: Path,
    description: Path | None,
    given: dict[str, Any],
    name: str,
    *,
    new_version: bool,
    as_json: bool,
) -> int:
    """Prints it, writes nothing, and returns the exit status: 0 where an import would be made, else 1."""
    from vlaw_assets.importers.description_file import described
    from vlaw_assets.importers.registry import name_for, open_recordings

    found: dict[str, Any] = {"name": name, "episodes": 0, "excluded": 0, "findings": [], "refused": None}
    try:
        found["name"] = name = name_for(path, name)
        options = described(description, given)
        recordings = open_recordings(format_, path, options)
        found |= {"format": recordings.format, "robot": recordings.robot.name, "in_recording": len(recordings.index)}
        found["understood"] = dict(recordings.understood)
        if not as_json:
            _print_understood(recordings)
        _judge(found, recordings, options, name, new_version=new_version, as_json=as_json)
    except VlawError as error:
        found["refused"] = {"what": error.what, "where": error.where, "remedy": error.remedy}
    if as_json:
        print_json(found)
    elif found["refused"]:
        why = VlawError(**found["refused"])
        console.print(f"an import would be refused: {why}", markup=False, soft_wrap=True)
    else:
        console.print(
            f"an import as {name} would take {found['episodes']} episodes and leave out {found['excluded']}",
            markup=False,
        )
    return 1 if found["refused"] else 0


def _judge(
    found: dict[str, Any], recordings: Recordings, options: Options, name: str, *, new_version: bool, as_json: bool
) -> None:
    """Reads all of it. VlawError for what would refuse an import."""
    from vlaw_assets.importers.commit import check_verdict, examine

    with counting(f"reading {name}") as progress:
        verdict = examine(recordings, options, progress=progress)
    found |= {"episodes": verdict.episodes, "excluded": verdict.excluded}
    found["findings"] = [asdict(finding) for finding in verdict.findings]
    if not as_json:
        _print_findings(verdict)
    _check_name_in_lake(recordings, name, new_version=new_version)
    check_verdict(verdict, recordings, options)


def _check_name_in_lake(recordings: Recordings, name: str, *, new_version: bool) -> None:
    """Only where there is a lake: none is made."""
    from vlaw_assets.environment import default_lake
    from vlaw_assets.importers.commit import check_name_free
    from vlaw_assets.lake import Lake
    from vlaw_assets.lake.paths import Paths, lake_root

    if Paths(lake_root(default_lake())).format.is_file():
        lake = Lake.open(default_lake(), create=False)
        check_name_free(lake, name, recordings, new_version=new_version)


def _print_understood(recordings: Recordings) -> None:
    console.print(f"{recordings.format}, {len(recordings.index)} episodes, understood as:", markup=False)
    width = max(map(len, recordings.understood), default=0)
    for key, value in recordings.understood.items():
        console.print(f"  {key:<{width}}  {value}", markup=False, soft_wrap=True)


def _print_findings(verdict: Verdict) -> None:
    if not verdict.findings:
        console.print("nothing was found wrong")
    for finding in verdict.findings:
        place = "dataset" if finding.episode < 0 else f"episode {finding.episode}"
        row = "" if finding.row is None else f", row {finding.row}"
        value = finding.value.removeprefix(f"{place}: ")
        console.print(f"{place}{row}: {finding.decision}, {finding.rule}: {value}", markup=False, soft_wrap=True)
