"""`vlaw export`: what the ledger knows, in formats of others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import AsOf, console, existing_lake
from vlaw_models.errors import VlawError

exports = typer.Typer(no_args_is_help=True, help="Write what the lake knows in formats of others.")


@exports.command("provenance")
def provenance(
    asset: Annotated[str, typer.Argument(help="An asset with a checkpoint, e.g. policy.")],
    experiment: Annotated[str, typer.Argument(help="Name of a recipe.")],
    iteration: Annotated[int, typer.Argument(help="The iteration, e.g. 2.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_of: AsOf = None,
) -> None:
    """The closure as an in-toto Statement with SLSA provenance (v1), unsigned.

    The subjects are the checkpoint's files with their sha256. Sign it with standard tools, for example

        jq .predicate FILE > predicate.json

        cosign attest-blob --predicate predicate.json --type slsaprovenance1 --key cosign.key --bundle model.bundle model.safetensors

    or the whole statement, and check it and the files it names:

        openssl dgst -sha256 -sign key.pem -out FILE.sig FILE

        openssl dgst -sha256 -verify public.pem -signature FILE.sig FILE
    """
    from vlaw_assets.audit.closure import subject
    from vlaw_assets.audit.provenance import statement

    lake = existing_lake(as_of)
    made = statement(lake, subject(lake, asset, experiment, iteration))
    write_atomically(file, json.dumps(made, indent=1, sort_keys=True, allow_nan=False) + "\n", force=force)
    console.print(f"{file}: {len(made['subject'])} subjects, {len(made['predicate']['buildDefinition']['resolvedDependencies'])} "
                  "dependencies; not signed (see --help)", markup=False, soft_wrap=True)


def write_atomically(path: Path, text: str, *, force: bool) -> None:
    """Writes the file whole or not at all. Raises VlawError if it exists (without `force`) or cannot be written."""
    if path.exists() and not force:
        raise VlawError("the file exists", where=str(path), remedy="Name another file, or replace it with --force.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise VlawError(f"the file cannot be written: {error.strerror}", where=str(path), remedy="Name another file.") from error
