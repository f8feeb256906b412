"""`vlaw inbox`: takes in what a lab has dropped, and says what the iterations wait for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json, print_table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.inbox.take import Report
    from vlaw_assets.inbox.waiting import Waiting

SHOWN = 10
"""How many of a kind are named."""


def inbox(
    *,
    look: Annotated[bool, typer.Option("--look", help="Take nothing, say only what lies there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Take finished recordings out of the inbox into the lake; what is wrong with one moves it to refused/.

    A recording is a folder with a dataset and, written last, recording.toml. The inbox is VLAW_INBOX, or inbox/ in the
    lake. Shows what each iteration has, what came too late for one, and what was refused.
    """
    from vlaw_assets.cli.tell import tell_dagster
    from vlaw_assets.environment import default_recipes, given_inbox
    from vlaw_assets.inbox.folder import NOTE, Inbox
    from vlaw_assets.inbox.refused import refusals
    from vlaw_assets.inbox.take import Report, take_in
    from vlaw_assets.inbox.waiting import late, waiting
    from vlaw_assets.once import asking
    from vlaw_assets.pipeline.resources import Workplace

    lake = existing_lake()
    workplace = Workplace(str(lake.paths.root), default_recipes() or "", given_inbox() or "")
    place = Inbox.open(workplace.inbox, lake.paths.root, create=not look)
    if look:
        seen = place.look()
        left = [*((dropped.name, f"finished: it has a {NOTE}") for dropped in seen.finished), *seen.waiting]
        report = Report(left=left)
    else:
        from vlaw_assets import definitions  # noqa: F401 (defines the stages)

        report = take_in(
            lake, workplace, place, run_id=f"inbox-{uuid.uuid4()}", told=lambda ref: tell_dagster(lake, ref)
        )
    with asking():
        found, behind, listed = waiting(lake, workplace), late(lake), refusals(lake)
    if as_json:
        print_json(_plain(report, found) | {"inbox": str(place.root), "late": behind, "refusals": listed})
    else:
        _show(report, found)
        for name, partition in behind[:SHOWN]:
            console.print(f"late: {name} came after the real rollouts of {partition} were made", markup=False)
        if len(behind) > SHOWN:
            console.print(f"and {len(behind) - SHOWN} more, see vlaw inbox --look --json")
        if behind:
            console.print("a larger rollouts.episodes_per_task takes them up: the iteration is then made again")
        console.print(f"inbox {place.root}; refused so far: {len(listed)}", markup=False, soft_wrap=True)
    if report.stopped:
        raise VlawError(
            f"not all were taken: {report.stopped}", where=str(place.root), remedy="Mend that, and run it again."
        )


def _show(report: Report, found: list[Waiting]) -> None:
    for name, ref in report.taken:
        console.print(f"taken: {name}, {ref.num_rows} episodes as {ref.name}", markup=False, soft_wrap=True)
    for name, error in report.refused:
        console.print(f"refused: {name}: {error}", markup=False, soft_wrap=True)
    for name, why in report.left:
        console.print(f"left: {name}: {why}", markup=False, soft_wrap=True)
    if not found:
        console.print('no experiment takes its real rollouts from the inbox ([rollouts] source = "inbox")')
        return
    print_table(
        [
            ["iteration", "recorded", "complete", "policy"],
            *(
                [
                    item.partition,
                    item.text,
                    "yes" if item.complete else "-",
                    f"{item.policy.name} {item.policy.content_digest[:12]}" if item.policy else item.why,
                ]
                for item in found
            ),
        ]
    )


def _plain(report: Report, found: list[Waiting]) -> dict[str, Any]:
    return {
        "taken": [
            {"name": name, "artifact": ref.artifact_id, "recording": ref.name, "episodes": ref.num_rows}
            for name, ref in report.taken
        ],
        "refused": [
            {"name": name, "what": error.what, "where": error.where, "remedy": error.remedy}
            for name, error in report.refused
        ],
        "left": [{"name": name, "why": why} for name, why in report.left],
        "stopped": report.stopped,
        "iterations": [
            {
                "partition": item.partition,
                "policy": item.policy.artifact_id if item.policy else "",
                "why": item.why,
                "recorded": item.recorded,
                "judged": item.judged,
                "asked": item.asked,
                "complete": item.complete,
            }
            for item in found
        ],
    }
