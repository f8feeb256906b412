"""The same rows outside the lake: one plain Parquet file per table, and DuckDB over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from vlaw_assets.lake import Lake

THREADS = 2


def write_bare(lake: Lake, folder: Path, *, row_group: int = 122_880) -> Iterator[tuple[str, int]]:
    """The same rows as one plain Parquet file per table, in commit order. Yields (table, rows)."""
    import pyarrow.parquet as pq

    from vlaw_assets.lake.schemas import PARTITIONED, TABLES
    from vlaw_assets.query import connect

    refs = [ref for ref in lake.ledger.artifacts() if not ref.source_artifact_id]
    for name in sorted(PARTITIONED):
        rows = 0
        with pq.ParquetWriter(folder / f"{name}.parquet", TABLES[name], compression="snappy") as writer:
            for ref in refs:
                if name in ref.versions:
                    table = lake.tables.read(name, ref.versions[name])
                    writer.write_table(table, row_group_size=row_group)
                    rows += table.num_rows
        yield name, rows
    with connect(lake) as query:
        for name in ("artifacts", "edges"):
            table = query.table(f"SELECT * FROM {name}")
            pq.write_table(table, folder / f"{name}.parquet")
            yield name, table.num_rows


class Bare:
    """Plain DuckDB over bare Parquet files."""

    def __init__(self, folder: Path):
        self.connection = duckdb.connect(config={"threads": THREADS, "memory_limit": "2GB"})
        for file in sorted(folder.glob("*.parquet")):
            more = ", false AS quarantined" if file.stem == "episodes" else ""  # nothing is, and the questions ask
            self.connection.execute(f"CREATE VIEW {file.stem} AS SELECT *{more} FROM read_parquet('{file}')")

    def ask(self, sql: str, **parameters: Any) -> pa.Table:
        (statement,) = self.connection.extract_statements(sql)
        bound = {name: parameters.get(name) for name in statement.named_parameters}
        return self.connection.sql(statement, params=bound or None).to_arrow_table()
