"""Rows of a table on their way to a commit: a file of the draft holds them, memory only the batch that is written.

The file lies in the draft's temporary folder, so it goes with the draft, and is garbage after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake import disk
from vlaw_models.errors import VlawError


class Spool:
    """Rows that are added batch by batch and read once, in their order, at the commit."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.path, self.schema, self.num_rows = path, schema, 0
        self._writer: Any = None

    def add(self, rows: pa.Table) -> None:
        """Raises VlawError where the disk does not take them."""
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                self._writer = pa.ipc.new_file(str(self.path), self.schema, options=options)
            self._writer.write_table(rows)
        except OSError as error:
            raise self._failure(error) from error
        self.num_rows += rows.num_rows

    def groups(self, size: int) -> Iterator[pa.Table]:
        """All rows, `size` at a time (the last time what is left). Nothing can be added any more."""
        if self._writer is None:
            return
        waiting: list[pa.Table] = []
        count = 0
        try:
            self._writer.close()
            with pa.OSFile(str(self.path)) as file:
                reader = pa.ipc.open_file(file)
                for number in range(reader.num_record_batches):
                    waiting.append(pa.Table.from_batches([reader.get_batch(number)]))
                    count += waiting[-1].num_rows
                    while count >= size:
                        joined = pa.concat_tables(waiting)
                        yield joined.slice(0, size)
                        waiting, count = [joined.slice(size)], count - size
        except OSError as error:
            raise self._failure(error) from error
        if count:
            yield pa.concat_tables(waiting)

    def _failure(self, error: OSError) -> VlawError:
        return disk.failure(
            error,
            "rows cannot be kept until the commit",
            where=str(self.path),
            remedy="see that the disk works, then run it again",
        )
