"""A look at all files of a lake that ends in time: every one is there and of its size, and as many are hashed as a
limit allows.

For `vlaw doctor`. Files whose bytes are known (verified.py) cost a look at their fingerprint and count for nothing in
the limit, so one doctor after the other gets through a lake of any size. What was not hashed may be damaged all the
same, and it is said how much that is; `verify.py` reads everything. The ledger's own files and seal are checked by
`verify.verify_ledger`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import checkpoints, pictures
from vlaw_assets.lake.durable import file_problems

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

MOST_BYTES = 500_000_000
"""Hashed at most, but for one file that is larger: a second or two."""
SEEDS = 1 << 32


@dataclass(frozen=True)
class Sample:
    """What was looked at, and found."""

    problems: tuple[str, ...]
    """One line per file, beginning with its path in the lake."""
    files: int
    bytes: int
    """Of all files that the ledger names."""
    hashed_files: int
    hashed_bytes: int
    known_files: int
    """Not hashed now, because they are as they were when they were."""
    seed: int
    """Of the order in which files are hashed until the limit is reached."""

    @property
    def whole(self) -> bool:
        """Whether the bytes of every file are known."""
        return self.hashed_files + self.known_files == self.files


def look(lake: Lake, *, most_bytes: int = MOST_BYTES, seed: int | None = None) -> Sample:
    """Checks that every file of every artifact is there with its size, and the sha256 of a random choice of those whose
    bytes are not known yet, up to `most_bytes` (one file at least). Superseded artifacts count too.

    Raises VlawError if the ledger cannot be read.
    """
    seed = random.SystemRandom().randrange(SEEDS) if seed is None else seed
    named, problems = _named(lake)
    problems += file_problems(lake.paths.root, named, deep=False)
    wrong = {line.partition(": ")[0] for line in problems}
    order = [entry for entry in named if entry["path"] not in wrong]
    random.Random(seed).shuffle(order)
    unknown = lake.verified.unknown(order)
    chosen: list[Mapping[str, Any]] = []
    total = 0
    for entry in unknown:
        if not chosen or total + entry["size"] <= most_bytes:
            chosen.append(entry)
            total += entry["size"]
    problems += lake.verified.problems(chosen)
    return Sample(
        tuple(problems),
        len(named),
        sum(entry["size"] for entry in named),
        len(chosen),
        total,
        len(order) - len(unknown),
        seed,
    )


def _named(lake: Lake) -> tuple[list[dict[str, Any]], list[str]]:
    """Every file of every artifact as {path, size, sha256}, in a fixed order; and what is wrong with the lists of
    checkpoints."""
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    locations: set[str] = set()
    drawn: set[Path] = set()
    for ref in lake.ledger.artifacts():
        for table in ref.versions.values():
            found |= {entry["path"]: entry for entry in (*table["files"], *table.get("log", ()))}
        locations |= {ref.location} - {""}
        drawn |= set(pictures.files(lake.paths, ref))
    for location in sorted(locations):
        listed, said = checkpoints.listed(lake.paths.root / location)
        problems += [f"{location}/{line}" if ": " in line else f"{location}: {line}" for line in said]
        found |= {path: entry | {"path": path} for entry in listed for path in [f"{location}/{entry['path']}"]}
    for path in sorted(drawn):
        name = lake.paths.relative(path)
        # No row says a picture's size; its name says all of its bytes.
        found[name] = {"path": name, "size": path.stat().st_size if path.is_file() else 0, "sha256": path.stem}
    return [found[path] for path in sorted(found)], problems
