"""The footer of a parquet file, read here and not by pyarrow: what it says can be looked at before anything trusts it.

pyarrow ends the process at some that are damaged. Only what limits need is kept. The format is Thrift's compact
protocol (parquet-format, parquet.thrift).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"PAR1"
MAX_FOOTER = 64 * 2**20
MAX_HEADER = 2**20
"""Bytes of the header of a page, which may hold the least and the largest value."""
SLACK = 2**16
MAX_DEPTH = 24
BYTE_ARRAY = 6
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group."""

    path: str
    """Names of its records and itself, with dots between."""
    texts: bool
    """Whether its values are texts or bytes of any length."""
    values: int
    whole: int
    packed: int
    """Bytes, unpacked and as they are."""
    nulls: int | None
    """None where it does not say."""
    begin: int
    """Where its first page begins."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row group."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(file: BinaryIO) -> tuple[int, list[Group]]:
    """The number of rows and the row groups. ValueError for what is no footer; the file is left at its beginning."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if len(end) < 8 or end[4:] != MAGIC or length + 12 > size:
        raise ValueError("it has no footer: it was not finished, or is no parquet file")
    if length > MAX_FOOTER:
        raise ValueError(f"its footer has {length} bytes")
    file.seek(size - 8 - length)
    data = file.read(length)
    file.seek(0)
    try:
        return _metadata(_Compact(data))
    except (IndexError, TypeError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("its footer is damaged") from error


def check_pages(file: BinaryIO, chunk: Chunk) -> None:
    """ValueError where the pages of a column say that they become more bytes than the footer says of the column."""
    at, end, whole = chunk.begin, chunk.begin + chunk.packed, 0
    while at < end:
        file.seek(at)
        read = _Compact(file.read(min(MAX_HEADER, end - at)))
        try:
            header = read.value(STRUCT, 1)
            unpacked, packed = header[2], header[3]
        except (IndexError, TypeError, KeyError) as error:
            raise ValueError(f"a page of column {chunk.path!r} is damaged") from error
        whole += unpacked + read.done
        at += packed + read.done
        if min(unpacked, packed) < 0 or whole > 1.1 * chunk.whole + SLACK:
            raise ValueError(
                f"the pages of column {chunk.path!r} are larger than the {chunk.whole} bytes of the footer"
            )


def _metadata(read: _Compact) -> tuple[int, list[Group]]:
    rows, groups = -1, []
    for number, kind in read.fields():
        if number == 3 and kind == I64:
            rows = read.integer()
        elif number == 4 and kind == LIST:
            groups = [_group(read) for _ in read.elements(STRUCT)]
        else:
            read.skip(kind)
    if rows < 0 or any(group.rows < 0 for group in groups) or rows != sum(group.rows for group in groups):
        raise ValueError("its footer does not add up")
    return rows, groups


def _group(read: _Compact) -> Group:
    rows, chunks = -1, []
    for number, kind in read.fields():
        if number == 1 and kind == LIST:
            chunks = [_chunk(read) for _ in read.elements(STRUCT)]
        elif number == 3 and kind == I64:
            rows = read.integer()
        else:
            read.skip(kind)
    return Group(rows, tuple(chunks))


def _chunk(read: _Compact) -> Chunk:
    found: dict[int, Any] = {}
    for number, kind in read.fields():
        if number == 1 and kind == BINARY and read.binary():
            raise ValueError("its columns are in other files")
        if number == 3 and kind == STRUCT:
            found = read.value(STRUCT, 1)
        elif number != 1:
            read.skip(kind)
    statistics = found.get(12)
    nulls = statistics.get(3) if isinstance(statistics, dict) else None
    path = ".".join(part.decode() for part in found[3])
    values, whole, packed = found[5], found[6], found[7]
    if min(values, whole, packed) < 0:
        raise ValueError("its footer does not add up")
    begin = min(offset for offset in (found[9], found.get(11)) if offset)
    return Chunk(path, found[1] == BYTE_ARRAY, values, whole, packed, nulls if isinstance(nulls, int) else None, begin)


class _Compact:
    """Thrift's compact protocol. IndexError where the data end too early, ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def done(self) -> int:
        """Bytes that were read."""
        return self._at

    def fields(self) -> Any:
        """(number, type) of each field of a struct; its value has to be read or skipped before the next."""
        number = 0
        while True:
            head = self._data[self._at]
            self._at += 1
            if head == 0:
                return
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, kind

    def elements(self, expected: int) -> range:
        """One for each element of a list of that type."""
        kind, size = self._list()
        if kind != expected and size:
            raise ValueError("its footer is damaged")
        return range(size)

    def integer(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)

    def binary(self) -> bytes:
        size = self._varint()
        if size > len(self._data) - self._at:
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, kind: int, depth: int) -> Any:
        """A value of a type; of a struct {number of the field: value}."""
        if kind in (I64, I32, I16):
            found = self._varint()
            return (found >> 1) ^ -(found & 1)
        if kind == BINARY:
            return self.binary()
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if depth > MAX_DEPTH:
            raise ValueError("its footer is nested too deeply")
        if kind == STRUCT:
            return {number: self.value(inner, depth + 1) for number, inner in self.fields()}
        if kind in (LIST, SET):
            inner, size = self._list()
            if inner in (TRUE, FALSE):
                return [self._byte() == TRUE for _ in range(size)]
            return [self.value(inner, depth + 1) for _ in range(size)]
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            self._at += 8
            return 0.0
        raise ValueError("its footer is damaged")

    def skip(self, kind: int) -> None:
        self.value(kind, 1)

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        if size == 15:
            size = self._varint()
        if size > len(self._data) - self._at:  # an element has a byte or more
            raise IndexError
        return head & 15, size

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        data, at = self._data, self._at
        byte = data[at]
        found, shift = byte & 127, 7
        while byte > 127:
            at += 1
            byte = data[at]
            found |= (byte & 127) << shift
            shift += 7
            if shift > 70:
                raise ValueError("its footer is damaged")
        self._at = at + 1
        return found
