"""`vlaw audit --all`: every artifact of the lake in a list; with --verify the whole lake, byte by byte.

What --verify checks, of superseded artifacts too, and without the memory of verified files: every file, the rows and
counts, edges and parents of every artifact, the log entries they were committed with, the ledger's own seal and chain,
and what only other readers go by: checkpoints of the Delta logs (each says what the log says) and Lance's version
hints. What no ledger row names (leftovers of killed runs) belongs to nothing and is not looked at: that is `vlaw gc`'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlaw_assets.cli.output import console, errors, print_json, print_table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

SHORT = 12
NAMED = 3
"""Problems in the error itself; all of them are printed before it."""


def audit_all(lake: Lake, *, verify: bool, as_json: bool, seals: Sequence[str] = ()) -> None:
    """List the lake's current artifacts, or verify all that it ever committed. Raises VlawError where something is
    damaged.

    `seals`: the kept ones that the ledger was held against.
    """
    found: dict[str, Any] = (
        _verified(lake) | {"kept_seals": list(seals)}
        if verify
        else {"artifacts": [_row(ref, versions) for ref, versions in _current(lake)]}
    )
    if as_json:
        print_json(found)
    elif verify:
        _show(found)
    else:
        header = ["artifact", "content", "code", "recipe", "parents", "rows", "versions", "made (UTC)"]
        print_table(
            [
                header,
                *(
                    [
                        row["name"],
                        *(row[f"{name}_sha256"][:SHORT] for name in header[1:5]),
                        str(row["rows"]),
                        str(row["versions"]),
                        row["created_at"][:19].replace("T", " "),
                    ]
                    for row in found["artifacts"]
                ),
            ]
        )
    problems = found.get("problems", [])
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise VlawError(
            f"{len(problems)} problems: {'; '.join(problems[:NAMED])}{more}",
            where=str(lake.paths.root),
            remedy="Restore the files from a copy, or materialize what they belong to again with --force; what is "
            "said to be for other readers no answer of vlaw depends on, and `vlaw compact --checkpoints-only` mends "
            "it.",
        )


def _current(lake: Lake) -> list[tuple[ArtifactRef, int]]:
    """The newest version of every asset partition, in the order they were first made, and how many versions there
    were."""
    refs: dict[tuple[str, str], list[ArtifactRef]] = {}
    for ref in lake.ledger.artifacts():
        refs.setdefault((ref.asset, ref.partition), []).append(ref)
    return [(versions[-1], len(versions)) for versions in refs.values()]


def _row(ref: ArtifactRef, versions: int) -> dict[str, Any]:
    digests = {f"{name}_sha256": getattr(ref, f"{name}_digest") for name in ("content", "code", "recipe", "parents")}
    return {
        "name": ref.name,
        "artifact": ref.artifact_id,
        "holds_the_data": ref.owner,
        **digests,
        "rows": ref.num_rows,
        "versions": versions,
        "created_at": ref.created_at.isoformat(),
    }


def _verified(lake: Lake) -> dict[str, Any]:
    """Reads everything. Of a ledger whose rows cannot be read, what is wrong with the ledger."""
    from vlaw_assets.lake.upkeep.verify import from_bucket

    with from_bucket(lake) as stored:
        return _read_whole(stored)


def _read_whole(lake: Lake) -> dict[str, Any]:
    from vlaw_assets.lake.upkeep.verify import each, unsealed, verify_ledger

    begun = time.monotonic()
    problems = [str(problem) for problem in verify_ledger(lake, again=True)]
    refs: list[ArtifactRef] = []
    try:
        refs = lake.ledger.artifacts()
    except VlawError as error:
        problems.append(f"the ledger cannot be read: {error.what}")
    with Progress(
        TextColumn("verifying {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task("", total=len(refs))
        for ref, found in zip(refs, each(lake, refs), strict=True):
            problems += map(str, found)
            progress.update(task, advance=1, description=ref.name)
    files = {
        file["path"]: file["size"]
        for ref in refs
        for entry in ref.versions.values()
        for file in (*entry.get("files", ()), *entry.get("log", ()))
    }
    for location in {ref.location for ref in refs if ref.location}:
        files |= {str(path): path.stat().st_size for path in (lake.paths.root / location).rglob("*") if path.is_file()}
    problems = list(dict.fromkeys(problems))  # a pointer names what is wrong with its owner too
    return {
        "artifacts": len(refs),
        "superseded": len(refs) - len({(ref.asset, ref.partition) for ref in refs}),
        "files": len(files),
        "bytes": sum(files.values()),
        "problems": problems,
        "not_sealed_yet": [] if problems else unsealed(lake),
        "seconds": round(time.monotonic() - begun, 2),
    }


def _show(found: dict[str, Any]) -> None:
    for line in found["problems"]:
        console.print(line, style="red", markup=False, soft_wrap=True)
    for version in found["not_sealed_yet"]:
        console.print(
            f"ledger version {version} is not sealed yet: its run ended right after the commit; the next one seals it",
            markup=False,
            soft_wrap=True,
        )
    verdict = (
        f"{len(found['problems'])} problems"
        if found["problems"]
        else "every file has the recorded sha256, the ledger fits its seal"
    )
    show_kept(found["kept_seals"])
    console.print(
        f"{verdict}: {found['artifacts']} artifacts ({found['superseded']} superseded), {found['files']} files, "
        f"{found['bytes'] / 1e6:.1f} MB in {found['seconds']:.1f} s",
        markup=False,
        soft_wrap=True,
    )


def show_kept(seals: Sequence[str]) -> None:
    """The kept seals that the ledger has."""
    if seals:
        many = f"{len(seals)} kept seals are" if len(seals) > 1 else "the kept seal is"
        console.print(f"{many} in the ledger's chain; the last one is {seals[-1]}", markup=False, soft_wrap=True)
