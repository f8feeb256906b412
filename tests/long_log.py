"""A lake whose tables have logs of some hundred versions, and what there is of their checkpoints."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from vlaw_assets.lake import Lake, delta_checkpoints
from vlaw_assets.lake.delta_checkpoints import LAST
from vlaw_assets.lake.schemas import validated
from vlaw_assets.lake.upkeep.verify import verify_ledger

COMMITS = 250


@cache
def members() -> pa.Table:
    owner = {"asset": "policy", "partition_key": "vlaw__01", "experiment": "vlaw", "iteration": 1}
    member = {"artifact_id": "", "owner": "o", "weight": 1.0, "source": "real", **owner}
    return validated("members", [member | {"position": i, "episode_id": f"e{i}"} for i in range(2)], where="test")


def append(lake: Lake, count: int, artifact: str = "") -> None:
    rows = members()
    place = rows.schema.get_field_index("artifact_id")
    for number in range(count):
        name = artifact or f"artifact-{number:05d}"
        owned = rows.set_column(place, rows.schema.field(place), pa.array([name] * rows.num_rows))
        lake.tables.append("members", owned, artifact_id=name)


def log_of(lake: Lake, name: str = "members") -> Path:
    return lake.paths.table(name) / "_delta_log"


def versions(lake: Lake, name: str = "members") -> list[int]:
    return [version for version, _ in delta_checkpoints.files(log_of(lake, name))]


def checkpoint(lake: Lake, version: int) -> Path:
    (path,) = delta_checkpoints.files_of(log_of(lake), version)
    return path


def scratch(lake: Lake) -> list[Path]:
    return [path for path in lake.paths.temporary.iterdir() if path.name.startswith("delta-checkpoint")]


def rows(table: Path) -> list[str]:
    return sorted(map(str, DeltaTable(str(table)).to_pyarrow_table().to_pylist()))


def without(lake: Lake, folder: Path, name: str = "members") -> Path:
    """The table as it would be without checkpoints."""
    shutil.copytree(lake.paths.table(name), folder, ignore=shutil.ignore_patterns("*.checkpoint.parquet", LAST))
    return folder


def state(table: Path) -> tuple:
    """What delta-rs knows of a table without looking into its files."""
    opened = DeltaTable(str(table))
    adds = sorted(map(str, pa.table(opened.get_add_actions(flatten=True)).to_pylist()))
    return (
        opened.version(),
        opened.schema().to_json(),
        opened.metadata().configuration,
        opened.metadata().partition_columns,
        adds,
    )


def said(lake: Lake) -> list[str]:
    return [f"{problem.path}: {problem.text}" for problem in verify_ledger(lake, again=True)]
