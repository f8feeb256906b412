"""`vlaw run`: the main job. Iterations of one experiment, one after the other, in this process.

It continues where it stopped: what the ledger has is reused. It ends with success per task and iteration, the
difference to where it started, a short audit of the final policy, and where to look next. With --rebuild-stale it makes
again what other code, recipes, inputs or the quarantine have left behind, and ends when nothing is stale or says what
stays so.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli.display import Display
from vlaw_assets.cli.output import console, existing_lake, known_experiment, print_table
from vlaw_assets.partitions import partition_of, split_partition
from vlaw_models.errors import VlawError
from vlaw_models.threads import workers

if TYPE_CHECKING:
    from rich.console import Console

    from vlaw_assets.lake import Lake

KIB = 1024 if sys.platform.startswith("linux") else 1
"""ru_maxrss is in KiB on Linux, in bytes on macOS."""


def run(
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Name of a recipe; default: vlaw.")] = "",
    iterations: Annotated[
        int | None, typer.Option("--iterations", "-i", help="Up to which iteration; default: the recipe's.")
    ] = None,
    *,
    only: Annotated[str, typer.Option(help="Comma-separated assets to materialize, of the last iteration named.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Compute again what the ledger has already.")] = False,
    rebuild_stale: Annotated[
        bool, typer.Option("--rebuild-stale", help="Make stale artifacts again, of all experiments or of --experiment.")
    ] = False,
) -> None:
    """Run an experiment up to an iteration; resumes where it stopped."""
    if rebuild_stale:
        if iterations is not None or only or force:
            raise VlawError(
                "--rebuild-stale says itself what to make",
                where="vlaw run",
                remedy="Leave --iterations, --only and --force out.",
            )
        rebuild(experiment)
        return
    experiment = experiment or "vlaw"
    recipe = known_experiment(experiment)
    last = recipe.iterations if iterations is None else iterations
    if not 1 <= last <= recipe.iterations:
        raise VlawError(
            f"experiment {experiment} has {recipe.iterations} iterations, not {last}",
            where="--iterations",
            remedy=f"Use 1 to {recipe.iterations}, or raise 'iterations' in {experiment}.toml.",
        )
    if os.environ.get("VLAW_DEVICE"):  # what torch finds by itself is there, and loading it takes seconds
        from vlaw_models.device import compute_device

        compute_device()
    workers("cpu")  # raises where its variable is no number
    from vlaw_assets.assets.recordings import check_sources
    from vlaw_assets.definitions import build_defs, default_lake, default_recipes
    from vlaw_assets.engines.settings import usable
    from vlaw_assets.environment import given_engine, recipes_folder
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline import driver, liveness
    from vlaw_assets.pipeline.progress import listening
    from vlaw_assets.recipes import load_foundation
    from vlaw_assets.recipes.preflight import check_fits, doubts

    engine = usable(given_engine())
    foundation = load_foundation(recipes_folder())
    check_fits(recipe, foundation)
    for doubt in doubts([recipe], foundation):
        console.print(doubt, markup=False, soft_wrap=True)
    begun = time.monotonic()
    lake = Lake.open(default_lake(), create=True)
    assets = [name.strip() for name in only.split(",") if name.strip()]
    if not assets:
        check_sources(recipe, foundation, lake, iterations=last)
    defs = build_defs(lake=lake.paths.root, recipes=default_recipes(), engine=engine)
    with driver.alone(lake, experiment), driver.open_instance() as instance:
        for run_id in liveness.close_dead_runs(instance):
            console.print(f"run {run_id} was killed earlier; it is now marked as failed", markup=False)
        console.print(f"{experiment}: {recipe.description or 'no description'}\nlake {lake.paths.root}", markup=False)
        with Display(console) as display, listening(display):
            if not assets:
                driver.make_foundation(defs, instance, lake, force=force, also=driver.on_demand([recipe]))
                warn_of_stale_foundation(console, lake)
            for iteration in [last] if assets else range(1, last + 1):
                driver.run_job(
                    defs,
                    instance,
                    "iteration",
                    partition=partition_of(experiment, iteration),
                    only=assets,
                    force=force,
                )
    close(lake, experiment, last, time.monotonic() - begun)


def warn_of_stale_foundation(out: Console, lake: Lake) -> None:
    """A foundation stays as it is until it is asked for; other weights or code than it was made by are worth a word."""
    from vlaw_assets.definitions import default_recipes
    from vlaw_assets.rebuild.staleness import stale

    for item in stale(lake, recipes=default_recipes(), foundation_only=True):
        out.print(
            f"{item.name} is stale ({'; '.join(item.reasons)}) and is used as it is; `vlaw run --rebuild-stale` "
            f"makes it again",
            markup=False,
            soft_wrap=True,
        )


def rebuild(experiment: str = "") -> None:
    """Makes stale artifacts again, partition by partition; what turns out to be the same is reused. Prints the plan."""
    from vlaw_assets.cli.quarantine import show
    from vlaw_assets.definitions import build_defs, default_recipes
    from vlaw_assets.engines.settings import usable
    from vlaw_assets.environment import given_engine
    from vlaw_assets.pipeline import driver, liveness
    from vlaw_assets.pipeline.progress import listening
    from vlaw_assets.rebuild.staleness import rebuild_plan, stale

    engine = usable(given_engine())
    if experiment:
        known_experiment(experiment)
    lake = existing_lake()
    begun, before, failed = time.monotonic(), None, dict[str, VlawError]()
    found = stale(lake, recipes=default_recipes(), experiment=experiment)
    if not found:
        console.print("nothing is stale")
        return
    defs = build_defs(lake=lake.paths.root, recipes=default_recipes(), engine=engine)
    show(found)
    with driver.open_instance() as instance:
        liveness.close_dead_runs(instance)
        # A second round is for what only the first one brought to light, such as another content of the foundation.
        while (plan := rebuild_plan(found)) and plan != before:
            for partition, assets in plan:
                console.print(f"{partition or 'foundation'}: {', '.join(assets)}", markup=False, soft_wrap=True)
                name = split_partition(partition)[0] or "foundation"
                try:
                    with driver.alone(lake, name), Display(console) as display, listening(display):
                        done = driver.run_job(
                            defs, instance, "iteration" if partition else "foundation", partition=partition, only=assets
                        )
                except VlawError as error:  # the others need not wait for it
                    failed[partition or "foundation"] = error
                    console.print(f"  failed: {error.what}", markup=False, soft_wrap=True)
                    continue
                console.print(f"  made {len(done.made)}, the same as before {len(done.reused)}", markup=False)
            before, found = plan, stale(lake, recipes=default_recipes(), experiment=experiment)
            if failed:
                break
    show(found)
    console.print(f"wall time {time.monotonic() - begun:.0f} s", markup=False)
    if failed:
        first = next(iter(failed.values()))
        raise VlawError(
            f"{', '.join(failed)} could not be made again: {first.what}", where=first.where, remedy=first.remedy
        )


def close(lake: Lake, experiment: str, last: int, seconds: float) -> None:
    """The closing table: what a person wants to know when the main job is done."""
    from vlaw_assets.lineage.closure import audit_of, short
    from vlaw_assets.reports import success as summary

    columns = summary.evaluations(lake, experiment, range(1, last + 1))
    if columns:
        console.print()
        print_table(
            summary.table({label: trials.rates for label, trials in columns.items()}),
            title=f"Success of {experiment} on held-out starts, with Wilson 95 % intervals",
        )
        if lists := summary.lists_text(columns):
            console.print(lists, markup=False, soft_wrap=True)
        first, final = next(iter(columns)), list(columns)[-1]
        difference = summary.change(columns[final].outcomes, columns[first].outcomes) if final != first else None
        if difference:
            console.print(f"\n{final} - {first}, paired: {difference}", markup=False)
            console.print(f"The policy {final} {difference.verdict}.", style="bold", markup=False, soft_wrap=True)
    policy = lake.ledger.current("policy", partition_of(experiment, last))
    if policy is not None:
        console.print(f"\n{short(audit_of(lake, policy))}", markup=False, soft_wrap=True)
    console.print(f"\nwall time {seconds:.0f} s, peak memory {peak_gib():.2f} GiB", markup=False)
    console.print(
        "look next: vlaw ui (or make ui) for the graph, "
        f"vlaw report {experiment} {last:02d} for one page with pictures,\n"
        f"           vlaw audit policy {experiment} {last:02d} for what the policy stands on, "
        'vlaw sql "select ..." for anything else',
        markup=False,
        soft_wrap=True,
    )


def peak_gib() -> float:
    """Largest resident memory of this process and of its children so far."""
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage) * KIB / 2**30
