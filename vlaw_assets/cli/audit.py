"""`vlaw audit`: what an artifact stands on. The closure of what was really read, with digests and counts of episodes.

The ledger is the source: its edges are observed reads. `--verify` hashes every file again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.tree import Tree

from vlaw_assets.cli.output import console, existing_lake, known_experiment, print_json, print_table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

SHORT = 12
"""Characters of a digest that a person is shown."""


def audit(
    asset: Annotated[str, typer.Argument(help="The asset, e.g. policy.")],
    experiment: Annotated[str, typer.Argument(help="Name of a recipe.")],
    iteration: Annotated[int, typer.Argument(help="The iteration, e.g. 2.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file it stands on again.")] = False,
) -> None:
    """Which data produced this artifact: the closure, with counts."""
    from vlaw_assets.partitions import partition_key

    known_experiment(experiment)
    lake = existing_lake()
    found = audit_of(lake, lake.ledger.require(asset, partition_key(experiment, iteration)))
    if verify:
        found["problems"] = _problems(lake, found)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found.get("problems"):
        raise VlawError(f"{len(found['problems'])} files are damaged: {found['problems'][0]}", where=str(lake.paths.root),
                        remedy="Restore them from a copy, or materialize what they belong to again with --force.")


def audit_of(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    """The closure of an artifact as plain values: artifacts (parents first), episodes and members counted."""
    closure = lake.ledger.closure(ref)
    episodes: Counter[tuple[str, str, str]] = Counter()
    members: list[dict[str, Any]] = []
    tasks: dict[str, str] = {}
    for item in closure:
        handle = lake.read(item)
        if "episodes" in item.versions:
            for row in handle.table("episodes").to_pylist():
                tasks[row["episode_id"]] = row["task"]
                episodes[row["purpose"], row["task"], _outcome(row["success"])] += 1
        if "members" in item.versions:
            members += [{"training_set": item.name, **row} for row in handle.members().to_pylist()]
    learned = Counter((m["training_set"], m["source"], tasks.get(m["episode_id"], "?")) for m in members)
    return {
        "artifact": ref.artifact_id, "asset": ref.asset, "partition": ref.partition, "content_sha256": ref.content_digest,
        "reused_from": ref.source_artifact_id, "owner": ref.owner,
        "artifacts": [_artifact(lake, item) for item in closure],
        "episodes": [{"purpose": p, "task": t, "outcome": o, "count": n} for (p, t, o), n in sorted(episodes.items())],
        "members": [{"training_set": d, "source": s, "task": t, "count": n} for (d, s, t), n in sorted(learned.items())],
    }


def short(found: dict[str, Any]) -> str:
    """The audit in a few lines."""
    by_purpose: Counter[str] = Counter()
    for row in found["episodes"]:
        by_purpose[row["purpose"]] += row["count"]
    by_source: Counter[str] = Counter()
    for row in found["members"]:
        by_source[row["source"]] += row["count"]
    episodes = ", ".join(f"{count} {purpose}" for purpose, count in sorted(by_purpose.items())) or "none"
    learned = ", ".join(f"{count} {source}" for source, count in sorted(by_source.items())) or "none"
    name = f"{found['asset']}[{found['partition']}]"
    return (f"{name} {found['content_sha256'][:SHORT]} stands on {len(found['artifacts']) - 1} artifacts; "
            f"episodes read: {episodes}; learned from: {learned}")


def _artifact(lake: Lake, ref: ArtifactRef) -> dict[str, Any]:
    return {
        "artifact": ref.artifact_id, "asset": ref.asset, "partition": ref.partition, "kind": ref.kind,
        "content_sha256": ref.content_digest, "code_sha256": ref.code_digest, "code_revision": ref.code_revision,
        "recipe": ref.recipe_json, "rows": ref.num_rows, "run_id": ref.run_id, "created_at": ref.created_at.isoformat(),
        "parents": [{"role": role, "artifact": parent.artifact_id} for role, parent in lake.ledger.edges(ref.artifact_id)],
    }


def _outcome(success: bool | None) -> str:  # noqa: FBT001 (a value, not a switch)
    return "not judged" if success is None else "success" if success else "failure"


def _problems(lake: Lake, found: dict[str, Any]) -> list[str]:
    """Files of the closure that are missing or changed, one line each."""
    from vlaw_assets.lake import checkpoints
    from vlaw_assets.lake.durable import file_problems

    problems = []
    for item in found["artifacts"]:
        ref = lake.ledger.get(item["artifact"])
        entries = [file for entry in ref.versions.values() for file in entry.get("files", [])]
        problems += [f"{ref.name}: {line}" for line in file_problems(lake.paths.root, entries)]
        if ref.location:
            problems += [f"{ref.name}: {line}" for line in checkpoints.problems(lake.paths.root / ref.location)]
    return problems


def _show(found: dict[str, Any]) -> None:
    by_id = {item["artifact"]: item for item in found["artifacts"]}
    root = by_id[found["owner"]]
    tree = Tree(_label(root, f"{found['asset']}[{found['partition']}]"))
    _grow(tree, root, by_id, {root["artifact"]})
    console.print(tree)
    for title, key, columns in (("Episodes in its closure", "episodes", ["purpose", "task", "outcome", "count"]),
                                ("Episodes it learned from", "members", ["training_set", "source", "task", "count"])):
        if found[key]:
            console.print()
            print_table([columns, *([str(row[column]) for column in columns] for row in found[key])], title=title)
    console.print(f"\n{short(found)}", markup=False, soft_wrap=True)
    if "problems" in found:
        console.print("every file it stands on has the recorded sha256" if not found["problems"]
                      else "\n".join(found["problems"]), markup=False)


def _grow(branch: Tree, item: dict[str, Any], by_id: dict[str, dict[str, Any]], seen: set[str]) -> None:
    for edge in item["parents"]:
        parent = by_id[edge["artifact"]]
        name = f"{edge['role']}: {_name(parent)}" if edge["role"] != parent["asset"] else _name(parent)
        if parent["artifact"] in seen:
            branch.add(f"[dim]{_label(parent, name)} (above)[/dim]")
            continue
        seen.add(parent["artifact"])
        _grow(branch.add(_label(parent, name)), parent, by_id, seen)


def _name(item: dict[str, Any]) -> str:
    return f"{item['asset']}[{item['partition']}]" if item["partition"] else item["asset"]


def _label(item: dict[str, Any], name: str) -> str:
    rows = f", {item['rows']} rows" if item["rows"] else ""
    return f"{name.replace('[', chr(92) + '[')} [dim]{item['content_sha256'][:SHORT]}{rows}[/dim]"
