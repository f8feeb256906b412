"""`vlaw status`: what is materialized, out of date and running; success per iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.output import console, existing_lake, print_json, print_table

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake


def status(*, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """What each experiment has, iteration by iteration."""
    rows = collect()
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("The lake holds no iteration yet. Begin with: vlaw run --experiment smoke")
        return
    cells = [[row["partition"], f"{row['materialized']} of {row['assets']}", str(row["reused"]),
              str(len(row["outdated"]) or "-"), "yes" if row["running"] else "-",
              row["before"] or "-", row["after"] or "-"] for row in rows]
    print_table([["partition", "materialized", "reused", "out of date", "running", "before", "after"], *cells])


def collect() -> list[dict[str, Any]]:
    """One entry per partition of the loop that has any artifact."""
    from vlaw_assets import summary
    from vlaw_assets.definitions import defs

    lake = existing_lake()
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    loop = [name for name, spec in specs.items() if spec.partitions_def is not None]
    current = {(ref.asset, ref.partition): ref for ref in lake.ledger.artifacts()}
    running = _running_partitions()
    rows = []
    for partition in sorted({partition for asset, partition in current if asset in loop}):
        refs = {asset: current[asset, partition] for asset in loop if (asset, partition) in current}
        success = {name: str(summary.rates_of(summary.read_outcomes(lake, refs[asset])).get(summary.ALL, ""))
                   for name, asset in (("before", "start_evaluation"), ("after", "policy_evaluation")) if asset in refs}
        rows.append({
            "partition": partition, "assets": len(loop), "materialized": len(refs),
            "missing": sorted(set(loop) - set(refs)),
            "reused": sum(bool(ref.source_artifact_id) for ref in refs.values()),
            "outdated": sorted(asset for asset, ref in refs.items() if _outdated(lake, ref, specs[asset].code_version or "")),
            "running": partition in running,
            "before": success.get("before", ""), "after": success.get("after", ""),
        })
    return rows


def _outdated(lake: Lake, ref: ArtifactRef, code_version: str) -> bool:
    """Made by other code than today's, or from a version of an input that has been replaced since."""
    if not ref.code_digest.startswith(code_version):
        return True
    owner = lake.ledger.get(ref.owner)
    for row in lake.tables.read("edges", owner.versions.get("edges")).to_pylist():
        read = lake.ledger.get(row["read_as"])
        now = lake.ledger.current(read.asset, read.partition)
        if now is not None and now.content_digest != read.content_digest:
            return True
    return False


def _running_partitions() -> set[str]:
    """Partitions of runs that Dagster has as started and whose process lives."""
    import dagster as dg

    from vlaw_assets.driver import close_dead_runs, open_instance

    with open_instance() as instance:
        close_dead_runs(instance)
        runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        return {run.tags["dagster/partition"] for run in runs if "dagster/partition" in run.tags}
