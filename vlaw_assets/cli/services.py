"""`vlaw ui` and `vlaw pretrain`: starting something that runs for long. And `vlaw --version`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console
from vlaw_models.errors import VlawError


def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the web server; 0: any free one.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no login: keep it local.")] = "127.0.0.1",
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Only look: nothing can be started, stopped or changed.")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A further address under which browsers reach it, such as https://vlaw.example.org of a proxy. "
            "Repeatable."
        ),
    ] = None,
) -> None:
    """Dagster's UI on this lake: graph, partitions, runs, checks and pictures. Only its own pages can drive it."""
    from vlaw_assets.assets.stage_asset import POOL
    from vlaw_assets.definitions import default_lake
    from vlaw_assets.environment import recipes_folder
    from vlaw_assets.pipeline import partitions, run_order
    from vlaw_assets.pipeline.driver import open_instance
    from vlaw_assets.pipeline.liveness import close_dead_runs
    from vlaw_assets.web import server
    from vlaw_assets.web.guard import origin_of

    host = host.strip("[]")
    for address in origin or ():
        if origin_of(address) is None:
            raise VlawError(
                "that is no address of a web page",
                where=f"--origin {address}",
                remedy="Give scheme and name, such as https://vlaw.example.org.",
            )
    listening = server.listen(host, port)
    port = listening.getsockname()[1]
    # The code server is another process: give it the folder that is meant here.
    os.environ["VLAW_LAKE"] = str(Path(default_lake()).expanduser().absolute())
    shown = "localhost" if host in server.EVERY_ADDRESS else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    with nullcontext() if read_only else _the_only_one(address):
        with open_instance() as instance:  # writes dagster.yaml on first use and sets DAGSTER_HOME
            if not read_only:
                close_dead_runs(instance)
                partitions.prepare(instance, recipes_folder())
                run_order.limit(instance, POOL)
        if not server.is_local(host):
            console.print(
                "warning: there is no login: whoever reaches this address "
                f"{'sees everything' if read_only else 'can start and stop runs'} (see SECURITY.md)",
                markup=False,
                style="bold",
            )
        console.print(
            f"{address}  (lake {os.environ['VLAW_LAKE']}{', read-only' if read_only else ''})",
            markup=False,
            soft_wrap=True,
        )
        server.serve(listening, server.origins(host, port, origin or ()), read_only=read_only)


def _the_only_one(address: str) -> AbstractContextManager[None]:
    """Held while the UI runs: a second daemon on one DAGSTER_HOME would start every queued run twice."""
    from vlaw_assets.lake.durable import FileLock
    from vlaw_assets.pipeline.driver import dagster_home

    return FileLock(dagster_home() / "vlaw_ui.lock").hold(
        f"vlaw ui on {address}",
        wait_s=0,
        remedy="Use that page, or stop it; vlaw ui --read-only may run beside it.",
    )


def version(asked: bool) -> None:  # noqa: FBT001
    """For `vlaw --version`: the package's version, and the code's where it is a checkout."""
    if asked:
        from importlib.metadata import version as of

        from vlaw_assets.pipeline.code_identity import code_revision

        revision = code_revision()
        console.print(
            f"vlaw {of('vlaw')}{f', commit {revision[:12]}' if revision else ''}", markup=False, highlight=False
        )
        raise typer.Exit


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for the weights.")] = Path("runs/pretrain/weights"),
    work: Annotated[Path, typer.Option(help="Folder for corpora and intermediate results.")] = Path(
        "runs/pretrain/work"
    ),
) -> None:
    """Make tiny weights as the shipped ones were made, from simulated data alone (hours). Continues where it
    stopped."""
    from vlaw_assets.pipeline.code_identity import code_revision
    from vlaw_models.pretrain import main

    try:
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VlawError(
            f"the folder cannot be written: {error.strerror}",
            where=str(error.filename),
            remedy="Choose folders with --out and --work.",
        ) from error
    main(out.absolute(), work.absolute(), code_revision=code_revision())
    console.print(
        f"weights in {out}; to use them, name the folders in foundation.toml [weights] (VLAW_RECIPES)", markup=False
    )
