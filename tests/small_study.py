"""A study of two recipes, as data, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import write_toml

ONE = {"recipe": "one", "seeds": [0, 1], "iterations": 1}
TWO = {"recipe": "two", "seeds": [0], "iterations": 3, "until": "one"}
SMALL = {"arms": [ONE, TWO]}


def write_study(folder: Path, name: str = "small", **values: Any) -> Path:
    return write_toml(folder / "studies" / f"{name}.toml", {"name": name, **values})
