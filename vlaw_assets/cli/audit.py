"""`vlaw audit`: which data produced an artifact, as a tree, as JSON, as a page with a picture; proven on request.

The closure is asked of the ledger by vlaw_assets/lineage/closure.py, files are hashed by lake/upkeep/verify.py, and
doing it all again is replay.py's.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from vlaw_assets.cli.audit_all import audit_all, show_kept
from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table
from vlaw_assets.lineage.closure import audit_of, short, subject
from vlaw_assets.lineage.layout import SHORT, levels, pivot
from vlaw_assets.lineage.reading import decision_lines, name_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


MOST_LABELS = 50
"""Labelled episodes that a person is shown; --json and --html have all."""


def audit(
    asset: Annotated[str | None, typer.Argument(help="The asset, e.g. policy.")] = None,
    experiment: Annotated[
        str | None, typer.Argument(help="Name of a recipe; none for an asset of the foundation.")
    ] = None,
    iteration: Annotated[int | None, typer.Argument(help="The iteration, e.g. 2.")] = None,
    *,
    whole: Annotated[
        bool,
        typer.Option("--all", help="Every artifact of the lake instead of one: a list, or with --verify every byte."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with a picture to this file.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file again, check every edge and count.")
    ] = False,
    kept_seal: Annotated[
        str | None,
        typer.Option(
            "--seal",
            metavar="HASH|FILE",
            help="With --verify: fail unless the ledger has what `vlaw seal` printed once.",
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Make all it stands on again in a scratch lake and compare.")
    ] = False,
    only: Annotated[
        bool, typer.Option("--only", help="With --replay: this one artifact, from the recorded inputs.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="With --replay: keep the scratch lake in this new folder.")
    ] = None,
    as_of: AsOf = None,
) -> None:
    """Which data produced this artifact: the closure of what was read, with digests and counts."""
    if (only or keep) and not replay:
        raise VlawError("--only and --keep belong to --replay", where="vlaw audit", remedy="Add --replay.")
    if kept_seal is not None and not verify:
        raise VlawError(
            "--seal belongs to --verify", where="vlaw audit", remedy="Add --verify: a seal says what the files must be."
        )
    if whole == (asset is not None) or (whole and (html or replay)):
        raise VlawError(
            "an asset and --all do not go together"
            if whole and asset
            else "--html and --replay are about one artifact"
            if whole
            else "nothing to audit",
            where="vlaw audit",
            remedy="Name an asset, or give --all [--verify] [--json].",
        )
    lake = existing_lake(as_of)
    seals = [] if kept_seal is None else _kept(lake, kept_seal)
    if asset is None:
        audit_all(lake, verify=verify, as_json=as_json, seals=seals)
        return
    try:
        ref = subject(lake, asset, experiment, iteration)
        found = audit_of(lake, ref)
    except VlawError as error:
        _damaged_ledger(lake, error, verify=verify)
        raise
    if verify:
        found["verified"] = _verified(lake, lake.ledger.closure(ref)) | {"kept_seals": seals}
    if replay:
        found["replayed"] = _replayed(lake, ref, only=only, keep=keep, quiet=as_json)
    if html is not None:
        _write_page(found, html)
    if as_json:
        print_json(found, notes=lake.notes)
    else:
        _show(found)
        if html is not None:
            console.print(f"\n{html}: the picture", markup=False, soft_wrap=True)
    _fail(found, lake)


def _kept(lake: Lake, text: str) -> list[str]:
    """The kept seals that the ledger was held against. Raises VlawError, before anything is shown, where it is another
    one."""
    from vlaw_assets.lake import kept_seal

    seals = kept_seal.kept(text, lake=lake)
    kept_seal.check(lake, seals)
    return [str(item) for item in seals]


def _verified(lake: Lake, refs: list[ArtifactRef]) -> dict[str, Any]:
    """Every file of the closure hashed, its edges and counts checked, and the ledger's own seal."""
    from vlaw_assets.lake.upkeep.verify import from_bucket, unsealed, verify, verify_ledger

    begun = time.monotonic()
    with from_bucket(lake) as stored:
        problems = [str(problem) for problem in (*verify(stored, refs), *verify_ledger(stored))]
    files = {
        file["path"]: file["size"]
        for ref in refs
        for entry in ref.versions.values()
        for file in (*entry.get("files", []), *entry.get("log", []))
    }
    for ref in refs:
        if ref.location and (folder := lake.paths.root / ref.location).is_dir():
            files |= {
                f"{ref.location}/{path.relative_to(folder)}": path.stat().st_size
                for path in folder.rglob("*")
                if path.is_file()
            }
    return {
        "problems": problems,
        "not_sealed_yet": [] if problems else unsealed(lake),
        "files": len(files),
        "bytes": sum(files.values()),
        "seconds": round(time.monotonic() - begun, 2),
    }


def _damaged_ledger(lake: Lake, error: VlawError, *, verify: bool) -> None:
    """With `verify`, a ledger that cannot be read is told apart from a name that is not in it, file by file."""
    if not verify:
        return
    from vlaw_assets.lake.upkeep.verify import verify_ledger

    problems = [str(problem) for problem in verify_ledger(lake)]
    if problems:
        _fail({"verified": {"problems": [error.what, *problems]}}, lake)


def _replayed(lake: Lake, ref: ArtifactRef, *, only: bool, keep: Path | None, quiet: bool) -> list[dict[str, Any]]:
    from contextlib import nullcontext

    from vlaw_assets.cli.display import Display
    from vlaw_assets.cli.output import errors
    from vlaw_assets.environment import default_recipes
    from vlaw_assets.pipeline.progress import listening
    from vlaw_assets.rebuild.replay import replay

    with Display(errors if quiet else console) as display, listening(display) if not quiet else nullcontext():
        return [
            vars(result) | {"differences": list(result.differences)}
            for result in replay(lake, ref, recipes=default_recipes(), only=only, keep=keep)
        ]


def _write_page(found: dict[str, Any], path: Path) -> None:
    from vlaw_assets.lake.durable import write_page
    from vlaw_assets.reports.audit_page import page

    write_page(path, page(found), remedy="Choose another file with --html.")


def _fail(found: dict[str, Any], lake: Lake) -> None:
    """Raises VlawError (exit code 2) where verification or replay found something."""
    problems = found.get("verified", {}).get("problems", [])
    if problems:
        raise VlawError(
            f"{len(problems)} problems: {'; '.join(problems[:3])}{' ...' if len(problems) > 3 else ''}",
            where=str(lake.paths.root),
            remedy="Restore the files from a copy, or materialize what they belong to again with --force.",
        )
    wrong = [row for row in found.get("replayed", []) if row["status"] in ("different", "failed")]
    if wrong:
        raise VlawError(
            f"{len(wrong)} of {len(found['replayed'])} artifacts came out differently; the first is "
            f"{wrong[0]['name']}: "
            f"{'; '.join(wrong[0]['differences'])}",
            where=str(lake.paths.root),
            remedy="Replay with the code revision and the recipe that made it (both are in the audit).",
        )


def _show(found: dict[str, Any]) -> None:
    from vlaw_assets.reports.audit_tables import LEARNED, judge_table, label_table, metric_table, quarantine_table

    console.print(_tree(found))
    tables = (
        (
            "Episodes read by anything it stands on, each once: successes of all (a count alone: nobody judged)",
            pivot(found["episodes"], ["dataset", "source"]),
        ),
        ("What each model learned from", pivot(found["learned"], LEARNED)),
        ("Reward model and threshold", judge_table(found)),
        ("Known at the time", metric_table(found, brief=True)),
        ("Labels that people gave", label_table(found)[: MOST_LABELS + 1]),
        ("Quarantine in force", quarantine_table(found)),
        ("Artifacts", _artifacts(found)),
    )
    for title, rows in tables:
        if len(rows) > 1:
            console.print()
            print_table(rows, title=title)
    if found["decisions"]:
        console.print("\nWhat chose the models", style="bold")
    for line in decision_lines(found):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"\n{short(found)}", markup=False, soft_wrap=True)
    if "verified" in found:
        _show_verified(found["verified"])
    if "replayed" in found:
        console.print()
        print_table(
            [
                ["replayed", "result", "made again", "recorded", "s"],
                *(
                    [
                        row["name"],
                        row["status"],
                        row["replayed_sha256"][:SHORT],
                        row["content_sha256"][:SHORT],
                        f"{row['seconds']:.1f}",
                    ]
                    for row in found["replayed"]
                ),
            ]
        )
        counts = Counter(row["status"] for row in found["replayed"])
        console.print(f"made again: {', '.join(f'{count} {status}' for status, count in counts.items())}", markup=False)
        for row in found["replayed"]:
            for line in row["differences"]:
                console.print(f"{row['name']}: {line}", markup=False, soft_wrap=True)


def _show_verified(verified: dict[str, Any]) -> None:
    for line in verified["problems"]:
        console.print(line, style="red", markup=False, soft_wrap=True)
    found = len(verified["problems"])
    verdict = f"{found} problems" if found else "every file it stands on has the recorded sha256"
    for version in verified["not_sealed_yet"]:
        console.print(
            f"ledger version {version} is not sealed yet: its run ended right after the commit; the next one seals it",
            markup=False,
            soft_wrap=True,
        )
    show_kept(verified["kept_seals"])
    console.print(
        f"{verdict}: {verified['files']} files, {verified['bytes'] / 1e6:.1f} MB hashed in {verified['seconds']:.1f} s",
        markup=False,
        soft_wrap=True,
    )


def _artifacts(found: dict[str, Any]) -> list[list[str]]:
    rows = [
        [
            name_of(item),
            *(item[f"{name}_sha256"][:SHORT] for name in ("content", "code", "recipe", "parents")),
            *(str(sum(entry[what] for entry in item["versions"].values())) for what in ("rows", "files")),
            item["run_id"][:8],
            item["created_at"][:19].replace("T", " "),
            item["code_revision"][:8],
        ]
        for _, items in levels(found["artifacts"])
        for item in items
    ]
    return [
        ["artifact", "content", "code", "recipe", "parents", "rows", "files", "run", "made (UTC)", "revision"],
        *rows,
    ]


def _tree(found: dict[str, Any]) -> Tree:
    """A level per iteration, the newest first. Inside a level, what is read hangs below its reader; each artifact
    once."""
    by_id = {item["artifact"]: item for item in found["artifacts"]}
    readers: dict[str, set[str]] = {}
    for item in found["artifacts"]:
        for edge in item["parents"]:
            readers.setdefault(edge["artifact"], set()).add(item["partition"])
    root = Tree(f"[bold]{escape(name_of(found))}[/bold] [dim]{found['content_sha256'][:SHORT]}[/dim]")
    for partition, items in reversed(levels(found["artifacts"])):
        branch = root.add(f"[bold]{escape(partition.replace('|', ', iteration ')) or 'foundation'}[/bold]")
        seen: set[str] = set()
        # What only other levels read comes first: everything else of this level hangs below it.
        tops = [item for item in reversed(items) if partition not in readers.get(item["artifact"], set())]
        for item in (*tops, *reversed(items)):
            if item["artifact"] not in seen:
                _grow(branch, item, "", by_id, seen)
    return root


def _grow(branch: Tree, item: dict[str, Any], role: str, by_id: dict[str, dict[str, Any]], seen: set[str]) -> None:
    seen.add(item["artifact"])
    here = branch.add(_label(item, role))
    later = []
    for edge in item["parents"]:
        parent = by_id[edge["artifact"]]
        if parent["partition"] != item["partition"]:
            later.append(_named(parent, edge["role"]))
        elif parent["artifact"] in seen:
            later.append(f"{_named(parent, edge['role'])} (above)")
        else:
            _grow(here, parent, edge["role"], by_id, seen)
    if later:
        here.add(f"[dim]reads {escape(', '.join(later))}[/dim]")


def _label(item: dict[str, Any], role: str) -> str:
    from vlaw_assets.reports.audit_picture import figure

    shown = f"{role}: {item['asset']}" if role and not role.startswith(item["asset"]) else item["asset"]
    return f"{escape(shown)} [dim]{item['content_sha256'][:SHORT]}[/dim] {escape(figure(item))}"


def _named(item: dict[str, Any], role: str) -> str:
    return name_of(item) if role.startswith(item["asset"]) else f"{role}: {name_of(item)}"
