"""`vlaw ui` and `vlaw pretrain`: starting something that runs for long."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console
from vlaw_models.errors import VlawError


def ui(
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no login: keep it local.")] = "127.0.0.1",
) -> None:
    """Dagster's UI on this lake: graph, partitions, runs, checks and pictures."""
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.driver import close_dead_runs, open_instance

    with open_instance() as instance:  # writes dagster.yaml on first use and sets DAGSTER_HOME
        close_dead_runs(instance)
    # The code server may run elsewhere: give it the folder that is meant here.
    os.environ["VLAW_LAKE"] = str(Path(default_lake()).expanduser().absolute())
    console.print(f"http://{host}:{port}  (lake {os.environ['VLAW_LAKE']})", markup=False)
    arguments = ["dev", "-m", "vlaw_assets.definitions", "--port", str(port), "--host", host]
    # exec: signals reach Dagster itself, which stops its own children.
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *arguments])


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for the weights.")] = Path("runs/pretrain/weights"),
    work: Annotated[Path, typer.Option(help="Folder for corpora and intermediate results.")] = Path("runs/pretrain/work"),
) -> None:
    """Make tiny weights as the shipped ones were made, from simulated data alone (hours). Continues where it stopped."""
    from vlaw_assets.code_version import code_revision
    from vlaw_models.pretrain import main

    try:
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VlawError(f"the folder cannot be written: {error.strerror}", where=str(error.filename),
                        remedy="Choose folders with --out and --work.") from error
    main(out.absolute(), work.absolute(), code_revision=code_revision())
    console.print(f"weights in {out}; to use them, name the folders in foundation.toml [weights] (VLAW_RECIPES)", markup=False)
