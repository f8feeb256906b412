"""Where the rows of each episode of a LeRobot dataset are, found by the episode that each row itself names.

The index says in which file an episode lies, and known converters say it wrong; the rows know better. One pass over two
or three narrow columns finds them, and what the success labels say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vlaw_assets.importers.files import BROKEN, Folder
from vlaw_assets.importers.findings import Finding
from vlaw_assets.importers.lerobot_index import EpisodeIndex
from vlaw_assets.importers.lerobot_labels import LabelError, Said, is_label, said, verdict
from vlaw_assets.importers.tables import Rows, Table
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS_PER_ROW = 4
"""How many times the numbers that a row declares it may hold before its file is refused unread."""
EPISODE = "episode_index"


class RowSource(Protocol):
    """Files, or one table, of rows."""

    files: Sequence[str]
    """Relative paths; a place is a number of one of them."""

    def columns(self, place: int) -> Sequence[str]:
        """Names as the features have them."""

    def scan(self, place: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of a file, some at a time."""

    def take(self, place: int, begin: int, count: int, columns: Sequence[str], *, most_values: int) -> pa.Table:
        """Rows of a file; in ascending order at the cost of reading them once."""

    def may_lack(self, place: int, key: str) -> bool:
        """Whether pictures of this feature may be missing from the rows of a file."""

    def close(self) -> None: ...


@dataclass
class ParquetRows:
    """Rows in parquet files. `VlawError` for a file that is damaged or beyond a limit."""

    folder: Folder
    files: Sequence[str]
    most_rows: int
    _place: int = -1
    _table: Table | None = field(default=None, repr=False)
    _rows: dict[tuple[str, ...], Rows] = field(default_factory=dict, repr=False)

    def table(self, place: int) -> Table:
        if self._table is None or self._place != place:
            self.close()
            self._table = Table(self.folder, self.files[place], what="data file", most_rows=self.most_rows)
            self._place = place
        return self._table

    def columns(self, place: int) -> Sequence[str]:
        return self.table(place).names

    def scan(self, place: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self.table(place).batches(columns)

    def take(self, place: int, begin: int, count: int, columns: Sequence[str], *, most_values: int) -> pa.Table:
        table = self.table(place)
        rows = self._rows.setdefault(tuple(columns), Rows(table, columns, most_values=most_values))
        try:
            return rows.take(begin, count)
        except VlawError:
            self.close()  # wherever it was left by what could not be read
            raise

    def may_lack(self, place: int, key: str) -> bool:
        return self.table(place).may_lack(f"{key}.bytes")

    def close(self) -> None:
        if self._table is not None:
            self._table.close()
        self._table, self._place = None, -1
        self._rows.clear()


@dataclass
class RowMap:
    """Of every episode, where its rows are and what they say of success."""

    place: np.ndarray
    """(N,) number of the file; -1 where there is none."""
    first: np.ndarray
    """(N,) int64: first row within that file."""
    faults: dict[int, Finding]
    """Of the episodes whose rows cannot be told."""
    labels: dict[int, bool | None]
    notes: list[Finding]
    label_keys: tuple[str, ...]


def find_rows(
    source: RowSource, named: np.ndarray, index: EpisodeIndex, success_key: str, words: Mapping[str, bool], where: str
) -> RowMap:
    """One pass over the rows.

    Args:
        named: (N,) number of the file that the index names for each episode; -1 for one that is not there.
        success_key: what holds the label, where somebody said it.
        words: texts of labels -> whether they mean success.
    """
    scan = _Scan(len(index), success_key, words, index)
    bad: dict[int, VlawError] = {}
    referenced = sorted(set(named[named >= 0].tolist()))
    others = [place for place in range(len(source.files)) if place not in set(referenced)]
    for place in referenced:
        _try_file(scan, source, place, bad)
    if any(number not in scan.pieces for number in range(len(index))):
        for place in others:
            _try_file(scan, source, place, bad)
    if success_key and success_key not in scan.label_keys:
        there = {name for place in referenced[:1] if place not in bad for name in source.columns(place)} | set(
            index.labels
        )
        listed = ", ".join(sorted(name for name in there if is_label(name))) or "none by its name"
        raise VlawError(
            f"no column {success_key[:80]!r} holds a label",
            where=where,
            remedy=f"Name one that is there (--success-key); those that look like labels: {listed}.",
        )
    return scan.resolved(source, named, bad)


def _try_file(scan: _Scan, source: RowSource, place: int, bad: dict[int, VlawError]) -> None:
    """Scans one file; a damaged one is the fault of the episodes that were to be in it."""
    try:
        scan.file(source, place)
    except VlawError as error:
        bad[place] = error


class _Scan:
    def __init__(self, count: int, success_key: str, words: Mapping[str, bool], index: EpisodeIndex) -> None:
        self.count, self.key, self.words, self.index = count, success_key, words, index
        self.pieces: dict[int, list[list[int]]] = {}
        """Episode -> [file, first row, rows] of every stretch of rows that names it."""
        self.said: dict[int, dict[str, Said | LabelError]] = {}
        self.label_keys = {name for name in index.labels if not success_key or name == success_key}
        self.orphans: Counter[int] = Counter()
        self.stretches = 0

    def file(self, source: RowSource, place: int) -> None:
        labels = [name for name in source.columns(place) if (name == self.key if self.key else is_label(name))]
        self.label_keys.update(labels)
        begin, last = 0, None
        for batch in source.scan(place, [EPISODE, *labels]):
            numbers = _episodes(batch.column(0), source.files[place])
            ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
            start = 0
            for end in ends:
                number, rows = int(numbers[start]) if len(numbers) else -1, end - start
                if rows and 0 <= number < self.count:
                    self._stretch(number, place, begin + start, rows, goes_on=number == last)
                    for column, name in enumerate(labels, start=1):
                        self._label(number, name, batch.column(column).slice(start, rows))
                elif rows:
                    self.orphans[place] += rows
                last, start = (number if rows else last), end
            begin += batch.num_rows

    def _stretch(self, number: int, place: int, first: int, rows: int, *, goes_on: bool) -> None:
        known = self.pieces.setdefault(number, [])
        if goes_on and known and known[-1][0] == place and known[-1][1] + known[-1][2] == first:
            known[-1][2] += rows
            return
        self.stretches += 1
        if self.stretches > 4 * self.count + 1000:
            raise VlawError(
                "the rows of its episodes are mixed up", where=f"file {place}", remedy="Sort the rows by episode."
            )
        known.append([place, first, rows])

    def _label(self, number: int, name: str, column: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self.said.setdefault(number, {})
        before = known.get(name)
        if isinstance(before, LabelError):
            return
        try:
            if pa.types.is_boolean(column.type) and not column.null_count and not self.words:
                found = Said(column[-1].as_py(), bool(pc.any(column).as_py()))
            else:
                found = said(column.to_pylist(), self.words)
        except LabelError as fault:
            known[name] = fault
            return
        except (ValueError, OverflowError) as error:
            known[name] = LabelError(f"{name} cannot be read: {str(error)[:80]}")
            return
        if before is not None:
            found = Said(before.last if found.last is None else found.last, before.ever or found.ever)
        known[name] = found

    def resolved(self, source: RowSource, named: np.ndarray, bad: Mapping[int, VlawError]) -> RowMap:
        found = RowMap(
            np.full(self.count, -1, np.int64),
            np.zeros(self.count, np.int64),
            {},
            {},
            [],
            tuple(sorted(self.label_keys)),
        )
        stale = 0
        for number in range(self.count):
            length, pieces = int(self.index.lengths[number]), self.pieces.get(number, [])
            whole = [piece for piece in pieces if piece[2] == length]
            whole = [piece for piece in whole if piece[0] == named[number]] or whole
            if len(whole) == 1:
                found.place[number], found.first[number] = whole[0][:2]
                stale += whole[0][0] != named[number]
            else:
                found.faults[number] = self._lost(number, length, pieces, named, bad, source)
                continue
            try:
                found.labels[number] = self._verdict(number)
            except LabelError as fault:
                where = source.files[whole[0][0]]
                found.faults[number] = Finding(
                    "success_label", f"episode {number}: {fault} ({where})", "excluded", number
                )
        if stale:
            found.notes.append(
                Finding(
                    "stale_file_number",
                    f"the index names the wrong data file for {stale} episodes; their rows were found by episode_index",
                    "keep",
                )
            )
        for place, rows in sorted(self.orphans.items()):
            text = f"{rows} rows of {source.files[place]} belong to no episode of the index and were left out"
            found.notes.append(Finding("orphan_rows", text, "keep"))
        return found

    def _lost(
        self,
        number: int,
        length: int,
        pieces: Sequence[Sequence[int]],
        named: np.ndarray,
        bad: Mapping[int, VlawError],
        source: RowSource,
    ) -> Finding:
        place = int(named[number])
        where = source.files[place] if place >= 0 else "the file that the index names"
        if place in bad:
            text = f"episode {number}: {bad[place].what} ({bad[place].where})"
        elif place < 0 and not pieces:
            text = f"episode {number}: the data file is missing"
        elif len(pieces) > 1:
            listed = ", ".join(f"{rows} in {source.files[file]} from row {first}" for file, first, rows in pieces[:4])
            text = f"episode {number} has {length} rows by its length, and they are not in one place: {listed}"
        else:
            text = f"episode {number} has {pieces[0][2] if pieces else 0} rows, its length is {length} ({where})"
        return Finding("row_count", text, "excluded", number)

    def _verdict(self, number: int) -> bool | None:
        columns: dict[str, Said] = {}
        for name, found in self.said.get(number, {}).items():
            if isinstance(found, LabelError):
                raise found
            columns[name] = found
        for name, values in self.index.labels.items():
            if name in self.label_keys:
                own = said([values[number]], self.words)
                before = columns.get(name)
                if before is not None and own.last is not None and before.last is not None and own.last != before.last:
                    raise LabelError(f"{name} says one thing in the index and another in the rows")
                columns[name] = before if before is not None and own.last is None else own
        return verdict(columns, self.key)


def _episodes(column: Any, where: str) -> np.ndarray:
    """(rows,) int64; -1 where a row names none."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise VlawError(f"{EPISODE} is no whole number", where=where, remedy=BROKEN)
    values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if column.null_count:
        values = np.where(column.is_null().to_numpy(zero_copy_only=False), -1, values)
    return values
