"""`vlaw doctor`: is this machine, lake and configuration sound? Every finding with a remedy; exit code 1 if any is bad."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console, print_json
from vlaw_models.errors import VlawError

PACKAGES = ("dagster", "deltalake", "pylance", "duckdb", "pyarrow", "torch", "diffusers", "transformers", "peft", "mujoco",
            "pandera", "narwhals")
MIN_FREE_GIB, MIN_MEMORY_GIB = 5.0, 8.0


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Check Python, packages, disk, memory, recipes, weights, lake, the Dagster instance and whether it mirrors the lake."""
    findings = [_examine(name, check) for name, check in CHECKS.items()]
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


def _python() -> str:
    return f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"


def _packages() -> str:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise VlawError(f"package {name} is missing", where=sys.prefix, remedy="Install from the lock file again.") from error
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _disk() -> str:
    from vlaw_assets.definitions import default_lake

    folder = Path(default_lake()).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < MIN_FREE_GIB:
        raise VlawError(f"only {free:.1f} GiB are free", where=str(folder), remedy=f"Free {MIN_FREE_GIB:.0f} GiB, or move VLAW_LAKE.")
    return f"{free:.0f} GiB free at {folder}"


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if size < MIN_MEMORY_GIB:
        raise VlawError(f"this machine has {size:.1f} GiB of memory", where="memory",
                        remedy="Lower episodes_per_task in a recipe of your own.")
    return f"{size:.0f} GiB"


def _recipes() -> str:
    from vlaw_assets.definitions import default_recipes
    from vlaw_assets.recipes import load_foundation, load_recipe, recipe_files
    from vlaw_assets.studies import definition, load_study, study_files

    folder = Path(path) if (path := default_recipes()) else None
    files = recipe_files(folder)
    for path in files.values():
        load_recipe(path)
    load_foundation(folder)
    known = study_files(folder)
    for path in known.values():
        definition(load_study(path, folder), folder)
    return f"{', '.join(sorted(files))}; studies {', '.join(sorted(known))}"


def _weights() -> str:
    from vlaw_assets.definitions import default_recipes
    from vlaw_assets.recipes import FOUNDATION_WEIGHTS, load_foundation
    from vlaw_models import presets
    from vlaw_models.checkpoint import load_config

    foundation = load_foundation(Path(path) if (path := default_recipes()) else None)
    folders = {kind: Path(foundation.weights.get(kind) or presets.foundation(foundation.preset, kind))
               for kind in FOUNDATION_WEIGHTS}
    return ", ".join(f"{kind} {load_config(folder)['class']}" for kind, folder in folders.items())


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
    from vlaw_assets.driver import open_instance

    dg.Definitions.validate_loadable(defs)
    with open_instance() as instance:
        return f"{instance.root_directory}; {len(list(defs.resolve_all_asset_specs()))} assets load"


def _mirror() -> str:
    """Whether Dagster shows what the ledger has; looks at the newest events only."""
    from vlaw_assets.definitions import default_lake, defs
    from vlaw_assets.driver import open_instance
    from vlaw_assets.lake import Lake
    from vlaw_assets.reconcile import lag

    if not Path(default_lake()).exists():
        return "no lake yet"
    lake = Lake.open(Path(default_lake()), create=False)
    with open_instance() as instance:
        behind = lag(lake, instance, defs)
    if not behind:
        return "Dagster shows what the ledger has"
    return (f"Dagster lags behind the ledger in {len(behind)} asset partition{'s' if len(behind) > 1 else ''} "
            f"({behind[0].name} for one). Bring it in line with: vlaw reconcile")


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python, "packages": _packages, "disk": _disk, "memory": _memory, "recipes": _recipes, "weights": _weights,
    "lake": _lake, "dagster": _dagster, "mirror": _mirror,
}
