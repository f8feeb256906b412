"""`vlaw seal`: the one line to keep outside of the lake, by which a lake that was put back, forked or sealed anew is
known."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vlaw_assets.cli.output import errors, existing_lake, print_json


def seal(*, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Print one line to keep elsewhere: `vlaw seal >> kept.txt`, on another machine. Changes nothing.

    `vlaw audit --all --verify --seal kept.txt` fails on a lake that is older than a kept line or has another history.
    """
    from vlaw_assets.lake import kept_seal
    from vlaw_assets.lake.upkeep.verify import unsealed

    lake = existing_lake()
    found = kept_seal.now(lake)
    if as_json:
        print_json(found.plain)
    else:
        sys.stdout.write(f"{found.line}\n")
    if later := unsealed(lake):
        errors.print(
            f"{len(later)} newer version{'s are' if len(later) > 1 else ' is'} not sealed yet and not in this line: "
            f"their run "
            "is at work, or ended right after the commit; the next commit seals them",
            markup=False,
            soft_wrap=True,
        )
