"""`vlaw status`: what is materialized, stale and running; success per iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import AsOf, console, errors, existing_lake, known_experiment, print_json, print_table
from vlaw_assets.once import asking
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

SHOWN = 12
"""How many reasons a person is shown."""


def status(
    *,
    as_of: AsOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What each experiment has, iteration by iteration; what is stale, and why."""
    from vlaw_assets.lake.moments import dated_ahead

    with asking():
        lake = existing_lake(as_of).still()
        rows = collect(lake)
    if warning := dated_ahead(lake.ledger.artifacts()):
        errors.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if as_json:
        print_json(rows)
        return
    if not any(row["partition"] for row in rows):
        console.print("The lake holds no iteration yet. Begin with: vlaw run --experiment smoke")
    cells = [
        [
            (row["partition"] or "foundation") + (" (privileged)" if row["privileged"] else ""),
            f"{row['materialized']} of {row['assets']}",
            str(row["reused"]),
            str(len(row["outdated"]) or "-"),
            "yes" if row["running"] else "-",
            row["before"] or "-",
            row["after"] or "-",
        ]
        for row in rows
        if row["partition"] or row["outdated"]
    ]
    if cells:
        print_table([["partition", "materialized", "reused", "stale", "running", "before", "after"], *cells])
    for row in rows:
        for model, why in row["refused"].items():
            console.print(
                f"promotion: {row['partition']} keeps the {model} before, the new one was refused: {why}",
                markup=False,
                soft_wrap=True,
            )
    reasons = {(row["partition"], asset): text for row in rows for asset, text in row["outdated_because"].items()}
    for (partition, asset), text in list(reasons.items())[:SHOWN]:
        console.print(f"stale: {asset}{f'[{partition}]' if partition else ''}: {text}", markup=False, soft_wrap=True)
    if len(reasons) > SHOWN:
        console.print(f"and {len(reasons) - SHOWN} more, see vlaw status --json")
    if reasons:
        console.print("make them again: vlaw run --rebuild-stale")


def collect(lake: Lake) -> list[dict[str, Any]]:
    """One entry per partition of the loop that has any artifact, after one for the foundation (partition '')."""
    from vlaw_assets.definitions import default_recipes, defs
    from vlaw_assets.rebuild.staleness import stale

    specs = [spec for spec in defs.resolve_all_asset_specs() if spec.code_version]
    names = {
        "": [spec.key.to_user_string() for spec in specs if spec.partitions_def is None],
        "loop": [spec.key.to_user_string() for spec in specs if spec.partitions_def is not None],
    }
    current = {(ref.asset, ref.partition): ref for ref in lake.ledger.artifacts()}
    found = {(item.ref.asset, item.ref.partition): item for item in stale(lake, recipes=default_recipes())}
    running = running_partitions()
    rows = []
    for partition in sorted({"", *(partition for asset, partition in current if asset in names["loop"])}):
        assets = names["loop" if partition else ""]
        refs = {asset: current[asset, partition] for asset in assets if (asset, partition) in current}
        if not refs:
            continue
        success = {
            name: success_of(lake, refs[asset])
            for name, asset in (("before", "start_evaluation"), ("after", "policy_evaluation"))
            if asset in refs
        }
        outdated = {asset: found[asset, partition] for asset in sorted(refs) if (asset, partition) in found}
        rows.append(
            {
                "partition": partition,
                "assets": len(assets),
                "materialized": len(refs),
                "missing": sorted(set(assets) - set(refs)),
                "reused": sum(bool(ref.source_artifact_id) for ref in refs.values()),
                "outdated": list(outdated),
                "outdated_because": {
                    asset: "; ".join([*item.reasons, *([item.blocked] if item.blocked else [])])
                    for asset, item in outdated.items()
                },
                "running": partition in running,
                "privileged": _privileged(partition),
                "refused": _refused(refs.get("loop_state")),
                "before": success.get("before", ""),
                "after": success.get("after", ""),
            }
        )
    return rows


def success_of(lake: Lake, ref: ArtifactRef) -> str:
    """Success over all tasks with its interval, and how many trials are in quarantine or have another label."""
    from vlaw_assets.reports import success as summary

    found, lists = summary.success_of(lake, ref)
    return f"{found or ''}, {lists}" if lists else str(found or "")


def _refused(state: ArtifactRef | None) -> dict[str, str]:
    """Model -> why the promotion gate did not let it into this iteration."""
    verdicts = state.metrics.get("promotion", {}) if state is not None else {}
    return {model: verdict["reason"] for model, verdict in verdicts.items() if not verdict["promoted"]}


def _privileged(partition: str) -> bool:
    """Whether its experiment uses the simulator where a robot would have nothing. False for one that no recipe names
    now."""
    from vlaw_assets.partitions import split_partition

    if not partition:
        return False
    try:
        return known_experiment(split_partition(partition)[0]).privileged
    except VlawError:
        return False


def running_partitions() -> set[str]:
    """Partitions of runs that Dagster has as started and whose process is not known to be gone. Ends none of them."""
    import dagster as dg

    from vlaw_assets.pipeline.driver import open_instance
    from vlaw_assets.pipeline.liveness import is_dead, none_has_begun

    if none_has_begun():
        return set()
    with open_instance() as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        return {
            run.tags["dagster/partition"]
            for run in runs
            if "dagster/partition" in run.tags and not is_dead(instance, run)
        }
