"""Reading this project's own pages and docstrings: blocks, commands, and the names of files in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlaw_assets.pipeline.code_identity import TOKEN

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS = ("vlaw", "make", "python", "dagster", "pytest", "gymnasium", ".venv/bin/vlaw", ".venv/bin/python")
"""What a line or a code span begins with where it is a command."""
SHELL = ("cp", "export", ".venv/bin/pip")
"""What else a line of a block of shell may begin with."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Said:
    """A piece of text and where it stands."""

    text: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


def is_command(text: str) -> bool:
    return text.split(" ", 1)[0] in PROGRAMS and " " in text


def blocks(page: Path) -> Iterator[tuple[str, Said]]:
    """Language and content of each fenced block."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        yield found[1], Said(found[2], page, text[: found.start()].count("\n") + 2)


def commands(page: Path) -> Iterator[Said]:
    """The lines of the blocks of shell, without their comments."""
    for language, block in blocks(page):
        if language == "sh":
            for number, line in enumerate(block.text.splitlines()):
                text = re.sub(r"(^|\s+)#( .*)?$", "", line).strip()
                if text:
                    yield Said(text, page, block.line + number)


def prose(page: Path) -> str:
    """The page with its fenced blocks blank, so that lines keep their numbers."""
    return FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())


def spans(page: Path) -> Iterator[Said]:
    """What is set as code within the text."""
    text = prose(page)
    for found in SPAN.finditer(text):
        yield Said(found[1], page, text[: found.start()].count("\n") + 1)


def words_of(source: Path) -> Iterator[Said]:
    """Docstrings (and the strings under constants), and comments, of a Python file."""
    text = source.read_text()
    for token in TOKEN.finditer(text):
        if token[1] is None:
            yield Said(token[0], source, text.count("\n", 0, token.start()) + 1)
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, [])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Said(node.value.value, source, node.lineno)
