"""`vlaw impact`: what an episode or an artifact reached."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake, print_json, print_table

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef
    from vlaw_assets.lineage.impact import Reached, Subject

COUNTED = (
    ("training_set", "datasets"),
    ("world_model", "world models"),
    ("reward_model", "reward models"),
    ("policy", "policies"),
)
"""Kinds of artifacts that the summary counts, and what people call them."""


def impact(
    subject: Annotated[str, typer.Argument(help="An episode id, an artifact id, or a name like 'policy[vlaw|01]'.")],
    *,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Everything that was made from an episode or an artifact, by the rows that went in."""
    from vlaw_assets.lake import sealed
    from vlaw_assets.lineage.impact import find_subject
    from vlaw_assets.lineage.impact import impact as reached_by

    lake = existing_lake(as_of)
    sealed.check(lake.paths, lake.verified)
    found = find_subject(lake, subject)
    reached = reached_by(lake, found)
    if as_json:
        print_json(
            {
                "subject": subject,
                "is_episode": found.is_episode,
                "held_by": [_plain(ref) for ref in found.holders],
                "reached": [plain(item) for item in reached],
                "summary": counts(reached),
            },
            notes=lake.notes,
        )
        return
    held = ", ".join(f"{ref.name} ({ref.artifact_id})" for ref in found.holders)
    console.print(
        f"episode {subject}, held by {held}" if found.is_episode else f"artifact {held}", markup=False, soft_wrap=True
    )
    if reached:
        print_table(
            [
                ["artifact", "reached", "rows", "current", "via"],
                *(
                    [item.ref.name, item.how, str(item.rows), "yes" if item.is_current else "no", item.via]
                    for item in reached
                ),
            ]
        )
    console.print(summary(found, reached), markup=False, soft_wrap=True)


def counts(reached: list[Reached]) -> dict[str, int]:
    """How many of each kind, reused ones counted once."""
    owners = {item.ref.owner: item.ref.kind for item in reached}
    by_kind = Counter(owners.values())
    return {"artifacts": len(owners), **{words.replace(" ", "_"): by_kind[kind] for kind, words in COUNTED}}


def summary(subject: Subject, reached: list[Reached]) -> str:
    """One line."""
    what = "the episode" if subject.is_episode else "the artifact"
    if not reached:
        return f"{what} reached nothing"
    found = counts(reached)
    named = ", ".join(f"{found[words.replace(' ', '_')]} {words}" for _, words in COUNTED)
    current = sum(item.is_current for item in reached)
    lines = f"{current} of {len(reached)} lines are current"
    return f"{what} reached {found['artifacts']} artifacts, among them {named}; {lines}"


def plain(item: Reached) -> dict[str, Any]:
    return {**_plain(item.ref), "how": item.how, "rows": item.rows, "via": item.via, "is_current": item.is_current}


def _plain(ref: ArtifactRef) -> dict[str, Any]:
    return {
        "artifact": ref.artifact_id,
        "owner": ref.owner,
        "asset": ref.asset,
        "partition": ref.partition,
        "kind": ref.kind,
    }
