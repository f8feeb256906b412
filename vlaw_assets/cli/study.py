"""`vlaw study`: runs every (recipe, seed, iteration) of a study, or says what is left of it.

It goes on where it stopped, however it stopped. Exit code 1 where a partition failed; the others are run all the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlaw_assets.cli.display import Display
from vlaw_assets.cli.output import console, errors, print_json, print_table
from vlaw_assets.cli.run import warn_of_stale_foundation

if TYPE_CHECKING:
    from rich.console import Console

    from vlaw_assets.lake import Lake
    from vlaw_assets.recipes.study import Member, Study
    from vlaw_assets.studies.order import Order, Slot
    from vlaw_assets.studies.partition import Ended

PRIVILEGED = "privileged"
INTERRUPTED = 130
BEGUN_S = 60.0
"""How long a study waits for another host to commit its definition."""


def study(
    name: Annotated[str, typer.Argument(help="Name of a study, e.g. claims.")],
    *,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=64, help="Experiments at a time, each on one thread.")
    ] = 1,
    only: Annotated[str, typer.Option(help="Comma-separated arms (recipes); default: all.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Only say what is done and what is to do.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Go on with a study whose definition changed.")] = False,
    with_embeddings: Annotated[
        bool, typer.Option("--with-embeddings", help="Episode embeddings too; no figure needs them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run a study: several recipes with several seeds, on the same ledger. Resumes where it stopped."""
    from vlaw_assets.assets.recordings import check_sources
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.lake import Lake
    from vlaw_assets.recipes import load_foundation
    from vlaw_assets.recipes.preflight import check_all, check_fits, doubts
    from vlaw_assets.recipes.study import definition, find_study, resolved
    from vlaw_assets.studies.running import members_of

    folder = recipes_folder()
    found = find_study(name, folder)
    defined = definition(found, folder)  # every recipe is checked before anything runs
    members = members_of(found.members, [arm.strip() for arm in only.split(",") if arm.strip()])
    if plan:
        _plan(found, defined, members, embeddings=with_embeddings, as_json=as_json)
        return
    foundation = load_foundation(folder)
    recipes = [resolved(member, folder) for member in members]
    check_all(recipes, lambda recipe: check_fits(recipe, foundation))
    for doubt in doubts(recipes, foundation):
        (errors if as_json else console).print(doubt, markup=False, soft_wrap=True)
    lake = Lake.open(default_lake(), create=True)
    check_all(recipes, lambda recipe: check_sources(recipe, foundation, lake, iterations=recipe.iterations))
    if _run(lake, found, defined, members, jobs=jobs, restart=restart, embeddings=with_embeddings, as_json=as_json):
        raise typer.Exit(1)


class StudyDisplay(Display):
    """A study's watcher: also a bar over all partitions, and a line for each that has ended."""

    def __init__(self, console: Console, order: Order, name: str):
        super().__init__(console, brief=True)
        self._order = order
        self._all = self.progress.add_task(f"study {name}", total=len(order.slots), note="")

    def ends(self, slot: Slot, ended: Ended) -> None:
        from vlaw_assets.studies.order import ENDED

        self.forget(slot.key)
        count = self._order.count(*ENDED)
        self.progress.update(self._all, completed=count)
        place = f"[{count} of {len(self._order.slots)}]"
        self.console.print(f"{place:>12} {slot.key}: {_in_words(ended)}", markup=False, soft_wrap=True)

    def left(self, what: str) -> None:
        self.console.print(f"{what}: another run is making it; looked at again later", markup=False, soft_wrap=True)


def _in_words(ended: Ended) -> str:
    if ended.why:
        return f"{ended.status}: {ended.why.splitlines()[0]}"
    how = (
        "was there already"
        if ended.found
        else f"made {len(ended.made)}, reused {len(ended.reused)}, {ended.wall_s:.0f} s ({ended.cpu_s:.0f} s CPU)"
    )
    outcome = ended.outcome
    if outcome is None:
        return how
    said = [how, f"success {outcome.success:.3f} of {outcome.trials}"]
    if outcome.target is not None:
        said.append(
            f"{'reaches' if ended.reached else 'is below'} {outcome.until}'s {outcome.target:.3f} "
            f"after {outcome.real_rollouts} real rollouts"
        )
    return "; ".join(said)


def _run(
    lake: Lake,
    found: Study,
    defined: dict[str, Any],
    members: list[Member],
    *,
    jobs: int,
    restart: bool,
    embeddings: bool,
    as_json: bool,
) -> bool:
    """Returns whether a partition failed."""
    from vlaw_assets.definitions import build_defs, default_recipes
    from vlaw_assets.engines.settings import usable
    from vlaw_assets.environment import given_engine
    from vlaw_assets.lake.durable import FileLock
    from vlaw_assets.pipeline import driver, liveness
    from vlaw_assets.recipes.study import THREADS
    from vlaw_assets.studies.order import Order
    from vlaw_assets.studies.record import hold_to_definition
    from vlaw_assets.studies.running import Place, run_study, wanted_assets

    out, begun = errors if as_json else console, time.monotonic()
    engine = usable(given_engine())
    lock = FileLock(lake.paths.locks / f"study--{found.name}.lock")
    with lock.hold("vlaw study", wait_s=BEGUN_S, remedy="Start it again once that one has begun, or stop it."):
        new = hold_to_definition(lake, defined, restart=restart)
    defs = build_defs(lake=lake.paths.root, recipes=default_recipes())
    place = Place(lake, default_recipes(), defs, wanted_assets(defs, embeddings=embeddings), jobs, engine)
    order = Order(members)
    out.print(
        f"study {found.name}: {found.description or 'no description'}\n{len(order.slots)} partitions at most, "
        f"{jobs} at a time, {THREADS} thread each; lake {lake.paths.root}; {'begun' if new else 'continued'}",
        markup=False,
    )
    try:
        with driver.open_instance() as instance:
            liveness.close_dead_runs(instance)
        warn_of_stale_foundation(out, lake)
        with StudyDisplay(out, order, found.name) as display:
            results = run_study(place, order, display)
    except KeyboardInterrupt as stopped:
        with driver.open_instance() as instance:
            liveness.close_dead_runs(instance)
        out.print("stopped; the same command goes on from here", markup=False)
        raise typer.Exit(INTERRUPTED) from stopped
    return _close(found, defined, order, results, time.monotonic() - begun, as_json=as_json)


def _close(
    found: Study, defined: dict[str, Any], order: Order, results: dict[str, Ended], seconds: float, *, as_json: bool
) -> bool:
    from vlaw_assets.studies.order import DONE, FAILED, SKIPPED, STOPPED

    run = [ended for ended in results.values() if not ended.found]
    made, reused = (sum(len(getattr(ended, what)) for ended in run) for what in ("made", "reused"))
    cpu = sum(ended.cpu_s for ended in run)
    if as_json:
        rows = [
            {
                **_row(defined, slot),
                "status": order.status[slot.key],
                "why": order.why.get(slot.key, ""),
                **_figures(results.get(slot.key)),
            }
            for slot in order.slots
        ]
        print_json(
            {
                "study": found.name,
                "partitions": rows,
                "artifacts_made": made,
                "artifacts_reused": reused,
                "wall_s": round(seconds, 1),
                "cpu_s": round(cpu, 1),
            }
        )
    else:
        console.print()
        for slot in order.slots:
            if order.status[slot.key] in (FAILED, SKIPPED):
                console.print(
                    f"{slot.key} {order.status[slot.key]}: {order.why.get(slot.key, '')}", markup=False, soft_wrap=True
                )
        there = sum(ended.found for ended in results.values())
        console.print(
            f"{order.count(DONE)} of {len(order.slots)} partitions are done ({there} were before), "
            f"{order.count(FAILED)} failed, {order.count(SKIPPED)} skipped, {order.count(STOPPED)} not needed\n"
            f"artifacts made {made}, reused {reused}; wall time {seconds:.0f} s, CPU {cpu:.0f} s",
            markup=False,
        )
        console.print(f"look next: vlaw report study {found.name}", markup=False)
    return order.count(FAILED, SKIPPED) > 0


def _plan(found: Study, defined: dict[str, Any], members: list[Member], *, embeddings: bool, as_json: bool) -> None:
    """The table of partitions: what is done, what is to do, and what it took. Changes nothing."""
    from vlaw_assets.definitions import build_defs, default_lake, default_recipes
    from vlaw_assets.lake import Lake
    from vlaw_assets.studies.order import Order
    from vlaw_assets.studies.record import changes, committed_definition
    from vlaw_assets.studies.running import wanted_assets

    lake = Lake.open(Path(default_lake()), create=False) if Path(default_lake()).exists() else None
    begun_with = committed_definition(lake, found.name) if lake else None
    changed = changes(begun_with, defined) if begun_with else []
    assets = wanted_assets(build_defs(lake=default_lake(), recipes=default_recipes()), embeddings=embeddings)
    rows = [_row(defined, slot) | state for slot, state in _states(lake, Order(members), assets, default_recipes())]
    if as_json:
        print_json(
            {
                "study": found.name,
                "begun": begun_with is not None,
                "partitions": rows,
                "changed": [{"key": key, "was": was, "is": now} for key, was, now in changed],
            }
        )
        return
    print_table(
        [
            ["partition", "", "state", "made", "reused", "success", "s"],
            *(
                [
                    row["partition"],
                    PRIVILEGED if row["privileged"] else "",
                    row["state"],
                    str(row["made"]),
                    str(row["reused"]),
                    "" if row["success"] is None else f"{row['success']:.3f}",
                    f"{row['seconds']:.0f}" if row["seconds"] else "",
                ]
                for row in rows
            ),
        ],
        title=f"study {found.name}",
    )
    count = {state: sum(row["state"] == state for row in rows) for state in dict.fromkeys(row["state"] for row in rows)}
    console.print(
        f"\n{', '.join(f'{number} {state}' for state, number in count.items())}; measured so far "
        f"{sum(row['seconds'] for row in rows):.0f} s",
        markup=False,
    )
    for key, was, now in changed:
        console.print(f"changed since it was begun: {key}: was {was}, is {now}", markup=False, soft_wrap=True)


def _states(
    lake: Lake | None, order: Order, assets: tuple[str, ...], recipes: str | None
) -> Iterator[tuple[Slot, dict[str, Any]]]:
    from vlaw_assets.lake import labels, quarantine
    from vlaw_assets.studies.record import state_of

    occurring, corrections = (quarantine.occurrences(lake), labels.corrections(lake)) if lake else ({}, {})
    stopped: set[str] = set()
    for slot in order.slots:
        row = {
            "state": "to do",
            "made": 0,
            "reused": 0,
            "seconds": 0.0,
            "success": None,
            "missing": list(assets),
            "stale": [],
        }
        experiment = slot.member.experiment
        if experiment in stopped:
            row |= {"state": "not needed", "missing": []}
        elif lake is not None:
            found = state_of(
                lake,
                slot.member,
                slot.iteration,
                assets,
                recipes=recipes,
                occurring=occurring,
                corrections=corrections,
            )
            row |= {
                "made": found.made,
                "reused": found.reused,
                "seconds": found.outcome.wall_s if found.outcome else found.seconds,
                "missing": list(found.missing),
                "stale": list(found.stale),
                "success": found.outcome.success if found.outcome else None,
                "state": "done" if found.done else "begun" if found.made + found.reused else "to do",
            }
            if found.reached:
                stopped.add(experiment)
        yield slot, row


def _row(defined: dict[str, Any], slot: Slot) -> dict[str, Any]:
    member = slot.member
    return {
        "partition": slot.key,
        "arm": member.arm.recipe,
        "seed": member.seed,
        "iteration": slot.iteration,
        PRIVILEGED: defined["experiments"][member.experiment]["privileged"],
    }


def _figures(ended: Ended | None) -> dict[str, Any]:
    from vlaw_assets.studies.partition import Ended

    figures = dataclasses.asdict(ended or Ended(""))
    outcome = figures.pop("outcome") or {}
    del figures["status"], figures["why"]
    return figures | {"success": outcome.get("success"), "reached": outcome.get("reached")}
