"""The command line `vlaw`. One module per command; heavy imports inside the commands, so that --help is quick."""

from __future__ import annotations

import sys
from typing import Annotated

if sys.argv[1:2] == ["sql"]:
    # The process that SQL runs in needs as long to start as what is imported below: both at once.
    from vlaw_assets.query.worker_process import start_early

    start_early()

import typer

from vlaw_assets.cli import (
    audit,
    compact,
    compare,
    data,
    diff,
    doctor,
    export,
    gc,
    impact,
    inbox,
    label,
    migrate,
    plan,
    quarantine,
    reconcile,
    report,
    run,
    seal,
    serve_policy,
    services,
    similar,
    sql,
    status,
    study,
    watch,
    weights,
)
from vlaw_assets.cli.output import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Co-improve a robot policy and its world model; every artifact versioned and auditable.",
)


@app.callback()
def _options(
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", is_eager=True, callback=services.version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("study")(study.study)
app.command("status")(status.status)
app.command("audit")(audit.audit)
app.command("diff")(diff.diff)
app.command("impact")(impact.impact)
app.command("label")(label.label)
app.command("quarantine")(quarantine.quarantine)
app.command("sql")(sql.sql)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("watch")(watch.watch)
app.command("similar")(similar.similar)
app.command("doctor")(doctor.doctor)
app.command("reconcile")(reconcile.reconcile)
app.command("import")(data.import_)
app.command("inbox")(inbox.inbox)
app.add_typer(export.exports, name="export")
app.command("gc")(gc.gc)
app.command("compact")(compact.compact)
app.command("seal")(seal.seal)
app.command("migrate")(migrate.migrate)
app.command("pretrain")(services.pretrain)
app.add_typer(weights.weights, name="weights")
app.command("serve-policy")(serve_policy.serve_policy)
app.command("ui")(services.ui)
