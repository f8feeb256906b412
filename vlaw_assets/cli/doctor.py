"""`vlaw doctor`: is this machine, lake and configuration sound? Every finding with a remedy; exit code 1 if any is
bad."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlaw_assets.cli import machine
from vlaw_assets.cli.output import console, print_json
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

NAMED = 3
"""Problems in one finding; `vlaw audit --all --verify` has all."""


def doctor(
    *,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Of the random choice of files to hash in a large lake; default: another "
            "one each time, which is printed.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check Python, packages and their plug-ins, the device, engine, disk, memory, recipes, weights, the lake's folder
    and bucket, lake, seal, files, the Dagster instance and whether it mirrors the lake."""
    findings = [_examine(name, partial(check, seed) if check is _files else check) for name, check in CHECKS.items()]
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            sign = "[green]ok [/]" if finding["ok"] else "[bold red]BAD[/]"
            console.print(f"{sign} {finding['check']:<10}", end=" ")
            console.print(finding["text"], markup=False, soft_wrap=True)
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)


def _examine(name: str, check: Callable[[], str]) -> dict[str, str | bool]:
    try:
        return {"check": name, "ok": True, "text": check()}
    except VlawError as error:
        return {"check": name, "ok": False, "text": str(error)}


def _folder() -> str:
    """Whether locks, links and renames do in the lake's folder what a lake needs."""
    from vlaw_assets.lake import disk

    lake = _existing()
    if lake is None:
        return "no lake yet; the first use tries its folder out"
    return (
        f"locks, links and renames work at {lake.paths.root} "
        f"({disk.try_folder(lake.paths.root) or 'unknown file system'})"
    )


def _bucket() -> str:
    """Whether the store of a lake in a bucket refuses what it must: who wins a race rests on that."""
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.lake import replica_of

    copy = replica_of(default_lake())
    if copy is None:
        return "the lake is in a folder"
    copy.bucket.try_conditions()
    return f"{copy.bucket.address} keeps the conditions of puts (If-None-Match, If-Match)"


def _recipes() -> str:
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.recipes import PACKAGED, load_foundation, load_recipe, recipe_files
    from vlaw_assets.recipes.preflight import check_all, check_fits, doubts
    from vlaw_assets.recipes.study import definition, load_study, resolved, study_files

    folder = recipes_folder()
    files, foundation = recipe_files(folder), load_foundation(folder)
    recipes = [load_recipe(path) for path in files.values()]
    for path in (known := study_files(folder)).values():
        study = load_study(path, folder)
        definition(study, folder)
        recipes += [resolved(member, folder) for member in study.members]
    here = [
        recipe
        for recipe in recipes  # the others are for other lakes
        if (recipe.preset, recipe.robot) == (foundation.preset, foundation.robot)
        and (
            foundation.near_success_per_task
            or not recipe.world_model.near_success
            or PACKAGED not in recipe.file.parents
        )
    ]
    check_all(here, lambda recipe: check_fits(recipe, foundation))
    said = f"{', '.join(sorted(files))}; studies {', '.join(sorted(known))}"
    return "\n".join([said, *doubts(here, foundation)])


def _weights() -> str:
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.recipes import load_foundation
    from vlaw_models import presets
    from vlaw_models.checkpoint import load_config

    foundation = load_foundation(recipes_folder())
    untrained = foundation.preset in presets.UNTRAINED
    new = [kind for kind in presets.MODELS if untrained and not foundation.weights.get(kind)]
    folders = {
        kind: Path(foundation.weights.get(kind) or presets.foundation(foundation.preset, kind))
        for kind in presets.MODELS
        if kind not in new
    }
    if new:
        return f"new models of preset {foundation.preset!r}: {', '.join(new)}"
    return ", ".join(f"{kind} {load_config(folder)['class']}" for kind, folder in folders.items())


def _plugins() -> str:
    """Whether everything that installed packages add can be loaded; what cannot is named, each by itself."""
    from vlaw_assets.engines.settings import ENGINES
    from vlaw_assets.importers.registry import IMPORTERS
    from vlaw_assets.recipes.fit import MODELS
    from vlaw_models.learners.base import LEARNERS
    from vlaw_models.robots.registry import ROBOTS

    fine, wrong = [], []
    for registry in (ROBOTS, LEARNERS, IMPORTERS, ENGINES, *MODELS.values()):
        for name, entries in sorted(registry.entries().items()):
            if not any(entry.package for entry in entries):
                continue
            try:
                registry.load(name, where="doctor")
            except VlawError as error:
                wrong.append(error)
            else:
                fine.append(f"{registry.kind} {name} of {entries[0].package}")
    if wrong:
        raise VlawError(
            "; ".join(error.what for error in wrong),
            where=f"entry points of {sys.prefix}",
            remedy=" ".join(dict.fromkeys(error.remedy for error in wrong)),
        )
    return ", ".join(fine) or "no package adds anything"


def _lake() -> str:
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.lake import Lake

    root = Path(default_lake())
    if not root.exists():
        return f"{root} does not exist yet; it is made on first use"
    lake = Lake.open(root, create=True)
    return f"{lake.paths.root}: {len(lake.ledger.artifacts())} artifacts"


def _dagster() -> str:
    import dagster as dg

    from vlaw_assets.definitions import defs
    from vlaw_assets.pipeline.driver import open_instance

    dg.Definitions.validate_loadable(defs)
    with open_instance() as instance:
        return f"{instance.root_directory}; {len(list(defs.resolve_all_asset_specs()))} assets load"


def _seal() -> str:
    """Whether the ledger is as it was sealed."""
    lake = _existing()
    if lake is None:
        return "no lake yet"
    from vlaw_assets.lake import seal
    from vlaw_assets.lake.upkeep.verify import unsealed, verify_ledger

    _refuse(
        [f"{problem.path}: {problem.text}" for problem in verify_ledger(lake)],
        lake,
        "Restore the files from a copy. Only where you know why they changed: vlaw migrate --reseal accepts the "
        "ledger as it is",
    )
    later = unsealed(lake)
    tail = f"; {len(later)} newer not sealed yet (the next commit does it)" if later else ""
    return f"the ledger is as it was sealed, up to version {seal.read(lake.paths)['version']}{tail}"


def _files(seed: int | None) -> str:
    """Whether the files of all artifacts are there, and as many as end in a second or two are what they were."""
    lake = _existing()
    if lake is None:
        return "no lake yet"
    from vlaw_assets.lake.upkeep.sample import look

    found = look(lake, seed=seed)
    _refuse(
        found.problems,
        lake,
        "Restore the files from a copy, or materialize what they belong to again with --force; "
        "vlaw audit --all --verify names everything",
    )
    known = f", {found.known_files:,} known to be as they were when they were hashed" if found.known_files else ""
    said = (
        f"all {found.files:,} files are there ({found.bytes / 1e6:,.0f} MB); "
        f"hashed {found.hashed_files:,} of {found.files:,} files, {found.hashed_bytes / 1e6:,.0f} MB{known}"
    )
    if found.whole:
        return said
    rest = found.files - found.hashed_files - found.known_files
    return (
        f"{said}; {rest:,} not looked into (a random choice, --seed {found.seed}): doctor again, or vlaw audit "
        f"--all --verify"
    )


def _mirror() -> str:
    """Whether Dagster shows what the ledger has, and nothing that it lacks; looks at the newest events only."""
    from vlaw_assets.cli.reconcile import refusal
    from vlaw_assets.definitions import default_lake, defs
    from vlaw_assets.pipeline.comparison import glance
    from vlaw_assets.pipeline.driver import open_instance

    lake = _existing()
    with open_instance() as instance:
        found, home = glance(lake, instance, defs), instance.root_directory
    if found.foreign:
        raise refusal(
            found.foreign,
            lake=str(lake.paths.root) if lake else f"{default_lake()} (does not exist)",
            home=home,
            gone=lake is None,
        )
    if lake is None:
        return "no lake yet"
    if not found.behind:
        return "Dagster shows what the ledger has"
    return (
        f"Dagster lags behind the ledger in {len(found.behind)} asset partition{'s' if len(found.behind) > 1 else ''} "
        f"({found.behind[0].name} for one). Bring it in line with: vlaw reconcile"
    )


def _existing() -> Lake | None:
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.lake import Lake

    root = Path(default_lake())
    return Lake.open(root, create=False) if root.exists() else None


def _refuse(problems: Sequence[str], lake: Lake, remedy: str) -> None:
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise VlawError(f"{'; '.join(problems[:NAMED])}{more}", where=str(lake.paths.root), remedy=f"{remedy}.")


CHECKS: dict[str, Callable[..., str]] = {
    "python": machine.python,
    "packages": machine.packages,
    "plug-ins": _plugins,
    "device": machine.device,
    "engine": machine.engine,
    "disk": machine.disk,
    "memory": machine.memory,
    "recipes": _recipes,
    "weights": _weights,
    "folder": _folder,
    "bucket": _bucket,
    "lake": _lake,
    "seal": _seal,
    "files": _files,
    "dagster": _dagster,
    "mirror": _mirror,
}
