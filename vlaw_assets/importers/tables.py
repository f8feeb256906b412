"""Parquet files of a dataset that may come from anybody: the footer first, then rows a few at a time.

A megabyte of parquet may say that it holds thirty million rows, so nothing is decoded before its footer was compared
with what the dataset says of itself and with fixed limits. Rows come in batches that hold a bounded number of bytes,
however large a row group is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.importers.files import BROKEN, Folder
from vlaw_assets.importers.footers import check_pages, read_footer
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 10_000
MAX_RATIO, RATIO_FROM = 200, 16 * 2**20
"""By how much a column may be compressed, and from how many bytes on that matters."""
MAX_CHUNK = 2**31
"""Bytes of one column of one row group."""
BATCH_BYTES, BATCH_ROWS = 128 * 2**20, 4096
MAX_VALUES = 4096
"""Values of a row of a column."""
BUFFER = 2**20


class Table:
    """One parquet file. Raises VlawError where it is damaged, or beyond what the dataset says or a limit."""

    def __init__(self, folder: Folder, relative: str, *, what: str, most_rows: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.where = str(folder.root / relative)
        file = folder.open(relative, what=what)
        try:
            self.rows, self.groups = read_footer(file)
            self._check(what, most_rows)
            self._file = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            self.schema: pa.Schema = self._file.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            file.close()
            raise self._damaged(error) from error
        except VlawError:
            file.close()
            raise
        self._closes = file
        self.names = list(self.schema.names)
        self.begins = np.cumsum([0, *(group.rows for group in self.groups)])
        """First row of each row group, and the number of rows."""

    def _check(self, what: str, most_rows: int) -> None:
        if self.rows > most_rows:
            raise VlawError(
                f"the {what} says that it has {self.rows} rows; at most {most_rows} can belong to the dataset",
                where=self.where,
                remedy="The file is not what its name says: do not import this dataset unless you know why.",
            )
        widest = max((len(group.chunks) for group in self.groups), default=0)
        if widest > MAX_COLUMNS:
            raise VlawError(f"the {what} has {widest} columns", where=self.where, remedy=BROKEN)

    def _damaged(self, error: Exception) -> VlawError:
        return VlawError(
            f"the parquet file cannot be read: {str(error)[:200]}",
            where=self.where,
            remedy=BROKEN,
        )

    def require(self, columns: Sequence[str]) -> None:
        """VlawError for a column that the file lacks, or has twice."""
        for name in columns:
            if self.names.count(name) != 1:
                what = f"no column {name!r}" if name not in self.names else f"two columns {name!r}"
                raise VlawError(f"the file has {what}", where=self.where, remedy=BROKEN)

    def batches(self, columns: Sequence[str], *, group: int = 0, most_values: int = MAX_VALUES) -> Iterator[Any]:
        """Record batches of these columns, from the row group `group` on.

        `most_values`: how many numbers or texts a row of one column may hold.
        """
        import pyarrow as pa

        self.require(columns)
        groups = list(range(group, len(self.groups)))
        try:
            size = self._batch_rows(columns, group, most_values)
            yield from self._file.iter_batches(size, row_groups=groups, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows at once: for small tables."""
        import pyarrow as pa

        self.require(columns)
        types = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_batches(list(self.batches(columns)), schema=types) if self.rows else types.empty_table()

    def may_lack(self, path: str) -> bool:
        """Whether values of a column, by its path within records, may be missing, as far as the footer says."""
        found = [chunk for group in self.groups for chunk in group.chunks if chunk.path == path]
        return any(chunk.nulls is None or chunk.nulls > 0 for chunk in found)

    def _batch_rows(self, columns: Sequence[str], first: int, most_values: int) -> int:
        """How many rows a batch may have: a text may be as long as its whole column says that it is."""
        longest, begins = 0, tuple(f"{name}." for name in columns)
        for group in self.groups[first:]:
            for chunk in group.chunks:
                if chunk.path not in columns and not chunk.path.startswith(begins):
                    continue
                if chunk.whole > MAX_CHUNK or (
                    chunk.whole > RATIO_FROM and chunk.whole > MAX_RATIO * max(chunk.packed, 1)
                ):
                    raise VlawError(
                        f"column {chunk.path!r} says that {chunk.packed} bytes become {chunk.whole}",
                        where=self.where,
                        remedy="The file is not what its name says: do not import this dataset unless you know why.",
                    )
                if chunk.values > most_values * max(group.rows, 1):
                    raise VlawError(
                        f"column {chunk.path!r} has {chunk.values} values in {group.rows} rows",
                        where=self.where,
                        remedy=BROKEN,
                    )
                check_pages(self._closes, chunk)
                if chunk.texts:
                    longest = max(longest, chunk.whole * max(1, chunk.values // max(group.rows, 1)))
        return int(max(1, min(BATCH_ROWS, BATCH_BYTES // max(longest, 1))))

    def close(self) -> None:
        self._file.close()
        self._closes.close()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Rows:
    """Rows of one table, in any order; going forward costs no more than reading them once."""

    def __init__(self, table: Table, columns: Sequence[str], *, most_values: int = MAX_VALUES) -> None:
        self._table, self._columns, self._most = table, list(columns), most_values
        self._batches: Iterator[Any] = iter(())
        self._rest: list[Any] = []
        self._position = -1
        """Row that comes next; -1 before the first."""

    def take(self, begin: int, count: int) -> pa.Table:
        """The rows from `begin` on. The table must have them."""
        import pyarrow as pa

        begins = self._table.begins
        group = int(np.searchsorted(begins, begin, side="right")) - 1
        if self._position < 0 or begin < self._position or begins[group] > self._position:
            self._batches = self._table.batches(self._columns, group=group, most_values=self._most)
            self._rest, self._position = [], int(begins[group])
        found, missing = [], count
        while missing:
            if not self._rest:
                self._rest = [self._next()]
            batch = self._rest.pop()
            skipped = max(0, begin - self._position)
            used = min(max(batch.num_rows - skipped, 0), missing)
            if used:
                found.append(batch.slice(skipped, used))
            if skipped + used < batch.num_rows:
                self._rest.append(batch.slice(skipped + used))
            moved = min(skipped, batch.num_rows) + used
            self._position += moved
            begin, missing = begin + used, missing - used
        return pa.Table.from_batches(found)

    def _next(self) -> Any:
        batch = next(self._batches, None)
        if batch is None:
            raise VlawError("the file ends before its rows do", where=self._table.where, remedy=BROKEN)
        return batch
