"""Tables of text that fit a width: sentences are cut, and columns that have no room go below the others.

A number, a name, a header is never cut: whoever reads a table in a narrow terminal scrolls down instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

LEAST = 32
"""Characters that are left of a sentence when there is no room for it."""
LONGEST_NAME = 64
"""Characters of a digest; what is longer is no name, but a text for programs."""
TOGETHER = 20
"""Rows of a table whose columns go below each other, before the next rows begin."""
NUMBER = "#"
"""Header of the row's number, by which the parts of such a table are read together."""
GAP = 2


def blocks(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[list[str]]:
    """The lines of a table, the header first, the first column left and the others right; None is any width.

    One block where the table fits, else several, of at most TOGETHER rows each and with the rows' numbers.
    """
    widths = _widths(rows)
    if width is None or _total(widths) <= width:
        yield _lines(rows, widths)
        return
    rows = _cut(rows, widths, width)
    widths = _widths(rows)
    if _total(widths) <= width:
        yield _lines(rows, widths)
        return
    header, *body = [[NUMBER if not row else str(row), *cells] for row, cells in enumerate(rows)]
    parts = _parts([header, *body], width)
    for first in range(0, max(len(body), 1), TOGETHER):
        for part in parts:
            shown = [[row[column] for column in part] for row in (header, *body[first : first + TOGETHER])]
            yield _lines(shown, _widths(shown))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _cut(rows: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> list[list[str]]:
    """Rows whose sentences are as short as the width asks for, LEAST at the least."""
    needed = [max(map(_fewest, column)) for column in zip(*rows[1:], strict=True)]
    needed = [max(cell_len(name), need) for name, need in zip(rows[0], needed or [0] * len(widths), strict=True)]
    most = min(max(widths), width)
    while most > LEAST and _total([max(n, min(w, most)) for n, w in zip(needed, widths, strict=True)]) > width:
        most -= 1
    return [list(rows[0]), *([_shortened(cell, max(most, _fewest(cell))) for cell in row] for row in rows[1:])]


def _fewest(cell: str) -> int:
    """Characters that a cell needs: a sentence LEAST, anything else all of them."""
    wide = cell_len(cell)
    return min(wide, LEAST) if " " in cell or wide > LONGEST_NAME else wide


def _shortened(cell: str, most: int) -> str:
    return cell if cell_len(cell) <= most else set_cell_size(cell, most - 1).rstrip() + "…"


def _parts(rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Columns that go beside each other; each time the row's number comes first, then those of the first columns that
    tell rows apart, where there is room."""
    widths = _widths(rows)
    repeated = [0]
    for column, cells in enumerate(zip(*rows[1:], strict=True)):
        if column and len(set(cells)) > 1:
            if _total([widths[at] for at in (*repeated, column)]) > width // 2:
                break
            repeated.append(column)
    parts, part = [], [0]
    for column in range(1, len(widths)):
        if part != [0] and _total([widths[at] for at in (*part, column)]) > width:
            parts.append(part)
            part = [at for at in repeated if at < column]
            if _total([widths[at] for at in (*part, column)]) > width:
                part = [0]
        part = [*part, column]
    return [*parts, part]


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    return [_line(row, widths) for row in rows]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    gaps = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
    first, *others = zip(cells, gaps, strict=True)
    return (" " * GAP).join(["".join(first), *(gap + cell for cell, gap in others)]).rstrip()
