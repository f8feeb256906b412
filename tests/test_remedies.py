"""What errors say to do can be done: the commands, options and keys that their remedies name exist."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import typer

from vlaw_assets.cli import app
from vlaw_assets.recipes.schema import Tables

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"(?:`|: |\(|^)vlaw ([a-z][a-z-]*)([^`;,()]*)")
"""A command as remedies write it, not the word in a sentence."""


@pytest.fixture(scope="module")
def remedies() -> list[tuple[str, str]]:
    """(where, text) of every remedy in the source; of what is put in only the names."""
    found = []
    for path in [*(ROOT / "vlaw_assets").rglob("*.py"), *(ROOT / "vlaw_models").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                parts = [
                    n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                found.append((f"{path.relative_to(ROOT)}:{node.value.lineno}", "".join(parts)))
    return found


def test_commands_and_options_of_remedies_exist(remedies):
    commands = typer.main.get_command(app).commands
    named = [(where, *match) for where, text in remedies for match in COMMAND.findall(text)]
    assert len(named) > 20
    assert [(where, name) for where, name, _ in named if name not in commands] == []
    options = {
        name: {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for name, command in commands.items()
        if not hasattr(command, "commands")
    }
    wrong = [
        (where, name, option)
        for where, name, rest in named
        for option in re.findall(r"(?<= )--[a-z-]+", rest)
        if option not in options.get(name, {option})
    ]
    assert wrong == []


def test_keys_of_recipes_in_remedies_exist(remedies):
    tables = get_type_hints(Tables)
    keys = {name: {field.name for field in dataclasses.fields(tables[name])} for name in Tables.model_fields}
    named = [
        (where, table, key)
        for where, text in remedies
        for table, key in re.findall(rf"\b({'|'.join(keys)})\.([a-z_]+)", text)
    ]
    assert len(named) > 10
    assert [(where, f"{table}.{key}") for where, table, key in named if key not in keys[table]] == []
