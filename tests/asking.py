"""How tests ask a lake: commands of `vlaw`, run in this process, and the questions of `sql/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vlaw_assets.cli import app
from vlaw_assets.query import Query
from vlaw_assets.query.questions import FOLDER, read_question


def vlaw(*arguments: str, code: int | None = None) -> Result:
    """`vlaw arguments`; with `code`, a test fails that does not end in it."""
    result = CliRunner().invoke(app, list(arguments))
    assert code in (None, result.exit_code), (result.output, result.exception)
    return result


def at(patch: pytest.MonkeyPatch, folder: Path, environment: Mapping[str, str]) -> Callable[..., Result]:
    """`vlaw` in this folder with these variables, as long as `patch` holds."""
    for name, value in environment.items():
        patch.setenv(name, value)
    patch.chdir(folder)
    return vlaw


def ask(query: Query, name: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows that answer the question of that name."""
    return query.table(read_question(FOLDER / f"{name}.sql")[1], parameters).to_pylist()
