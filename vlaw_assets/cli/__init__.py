"""The command line `vlaw`. One module per command; heavy imports inside the commands, so that --help is quick."""

from __future__ import annotations

import typer

from vlaw_assets.cli import audit, data, doctor, report, run, services, sql, status
from vlaw_assets.cli.output import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Co-improve a robot policy and its world model; every artifact versioned and auditable.")

app.command("run")(run.run)
app.command("status")(status.status)
app.command("audit")(audit.audit)
app.command("sql")(sql.sql)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.add_typer(data.imports, name="import")
app.command("pretrain")(services.pretrain)
app.command("ui")(services.ui)
