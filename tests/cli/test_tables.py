"""Tables in a terminal of any width: every number and name is there whole, and no line is wider."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.cells import cell_len

from vlaw_assets.cli import output, sql
from vlaw_assets.cli.output import SafeConsole
from vlaw_assets.cli.tables import LEAST, blocks

DIGEST = "8e773058fa6e" + "0123456789abcdef" * 3 + "0123"
WHY = "the camera had slipped and nobody saw it until the evening of the next day"
ROWS = [
    ["experiment", "iteration", "judge", "trials", "rate", "why"],
    ["vlaw", "1", DIGEST, "1234567890", "0.4281", WHY],
    ["filtered_bc", "2", DIGEST, "7", "-0.002", "läßt 日本語 " * 9],
]


def test_what_fits_is_one_block():
    (lines,) = blocks([["a", "bb"], ["long", "1"]], 80)
    assert lines == ["a     bb", "long   1"]
    (pipe,) = blocks(ROWS)
    assert WHY in pipe[1]
    assert max(map(cell_len, pipe)) > 200, "a pipe has no width"


def test_sentences_are_cut_first():
    (lines,) = blocks(ROWS, 170)
    assert max(map(cell_len, lines)) <= 170
    assert lines[1].endswith("…")
    assert WHY[:LEAST] in lines[1]
    assert DIGEST in lines[1]


def test_columns_that_have_no_room_go_below():
    found = list(blocks(ROWS, 110))
    assert len(found) > 1
    assert [lines[0].split()[0] for lines in found] == ["#"] * len(found)
    assert all("vlaw" in lines[1] and "filtered_bc" in lines[2] for lines in found), "the first columns are repeated"
    assert list(blocks([["only a header", "x" * 90]], 80))


@pytest.mark.parametrize("width", [40, 80, 110, 160])
def test_no_number_and_no_name_is_lost(width):
    draw = random.Random(width)
    names = [f"column_{index}" for index in range(12)]
    body = [
        [f"{draw.uniform(-9, 9):.4g}" if index % 3 else f"episode-{draw.getrandbits(32):08x}" for index in range(12)]
        for _ in range(45)
    ]
    found = list(blocks([names, *body], width))
    words = re.findall(r"\S+", "\n".join(line for lines in found for line in lines))
    assert {*names, *(cell for row in body for cell in row)} <= set(words)
    assert max(cell_len(line) for lines in found for line in lines) <= width


def test_values_as_a_person_reads_them(monkeypatch):
    said = {}
    for terminal in (True, False):
        console = SafeConsole(file=io.StringIO(), force_terminal=terminal, width=80)
        monkeypatch.setattr(sql, "console", console)
        said[terminal] = [
            sql.shown(value) for value in (DIGEST, [DIGEST], 1234567890123456789, None, "e-0123456789ab-1")
        ]
    assert said[True] == [DIGEST[:12], f"['{DIGEST[:12]}']", "1234567890123456789", "", "e-0123456789ab-1"]
    assert said[False][0] == DIGEST
    floats = {-3.8e-17: "0", -0.0: "0", 0.1 + 0.2: "0.3", 12345.6: "12346", 1e-6: "1e-06", 100 * (0.6 - 0.5): "10"}
    assert {value: sql.shown(value) for value in floats} == floats
    assert sql.shown(float("nan")) == "nan"


def test_a_pipe_is_given_whole_lines(monkeypatch):
    for terminal, width in ((False, 160), (True, 80)):
        console = SafeConsole(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
        monkeypatch.setattr(output, "console", console)
        output.print_table(ROWS)
        text = console.file.getvalue()
        assert (WHY in text) is not terminal
        assert all(cell_len(line) <= width for line in text.splitlines()) is terminal
        assert "1234567890" in text
