"""What is wrong with the ledger itself: FORMAT.json, the chain of the seal, and the rows that its links stand for.

Every link is held against the files that it names, and what a log entry says against the data file that it adds. Part
of a chain that was found sound before needs not be followed again (`Sound`). Artifacts are verified by verify.py, what
other readers see by delta_checks.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vlaw_assets.lake import deltalog, seal
from vlaw_assets.lake.durable import as_written, canonical_json, digest_of, file_problems
from vlaw_assets.lake.lookup import connected
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.lake.tables import ROWS, read_file
from vlaw_assets.lake.verified import Verified, memory_of, read_own, write_own
from vlaw_models.errors import VlawError

AT_ONCE = 500
"""Commits whose data files are read together."""
CHECKS = 1
"""Raised when a link is checked for more than before: what was found sound by less is checked again."""


def of_format(paths: Paths) -> list[tuple[str, str]]:
    """(file, what is wrong) of FORMAT.json and the log entries that it pins."""
    name = paths.relative(paths.format)
    try:
        text = paths.format.read_text(encoding="utf-8")
        found = json.loads(text)
        digest, logs = found.pop("digest"), found["logs"]
        good = digest == digest_of(found) and text == as_written(found | {"digest": digest})
        lines = file_problems(paths.root, logs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [(name, "missing" if isinstance(error, FileNotFoundError) else f"damaged ({type(error).__name__})")]
    if not good:
        return [(name, "content changed (it does not match its own digest)")]
    return [_split(line) for line in lines]


def of_chain(paths: Paths, *, again: bool) -> list[tuple[str, str]]:
    """The chain, link by link: every file whose sha256 is not that of its link, and links that are not in the chain."""
    found: list[tuple[str, str]] = []
    sealed = None
    try:
        sealed = seal.read(paths)
    except VlawError as error:
        found.append((paths.relative(paths.seal), error.what))
    sound = Sound(paths)
    links, problem = _links(paths, sealed, 0 if again else sound.length)
    if problem:
        found.append((paths.relative(paths.chain), problem))
    elif (
        sealed is not None
        and links
        and (links[-1]["version"], links[-1]["chain"]) != (sealed["version"], sealed["chain"])
    ):
        found.append((paths.relative(paths.seal), "does not fit ledger.chain"))
    entries = [entry for item in links for entry in (item["log"], *item["files"])]
    lines = file_problems(paths.root, entries) if again else Verified(paths.root).problems(entries)
    found += map(_split, lines)
    bad = {path for path, _ in found}
    damaged = {
        item["version"] for item in links if any(entry["path"] in bad for entry in (item["log"], *item["files"]))
    }
    try:
        newest = deltalog.newest(paths.table("artifacts"))
    except VlawError as error:
        return found if damaged else [*found, (relative_in(paths, error.where), error.what)]
    # What the rows of a checked link say is as sure as its bytes are.
    checked = 0 if again or problem else sound.links
    unknown = [version for version in range(newest + 1) if version not in damaged and version >= checked]
    for first in range(0, len(unknown), AT_ONCE):
        found += unlike(paths, unknown[first : first + AT_ONCE])
    if not found and sealed is not None:
        sound.note(sealed["length"], len(links))
    return found


class Sound:
    """The memory of how much of a lake's chain was checked, and found sound with every row that it stands for.

    It names the beginning of ledger.chain by its sha256: the chain holds the digest of every byte that was looked at,
    so for the same text the same holds, as long as the files have these digests (which is asked anew).
    """

    def __init__(self, paths: Paths):
        self.length = self.links = 0
        """Bytes and lines of the chain."""
        self._paths, memory = paths, memory_of(paths.root)
        self._file = memory and memory.with_name(f"ledger-{memory.name.rpartition('-')[2]}-sound")
        if self._file:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                said = json.loads(read_own(self._file, 1 << 16))
                if said["checks"] == CHECKS and self._digest(said["length"]) == said["sha256"]:
                    self.length, self.links = int(said["length"]), int(said["links"])

    def note(self, length: int, links: int) -> None:
        """Everything up to there is sound. Only saves work: where it cannot be noted, nothing is said."""
        if self._file and length and length != self.length:
            said = {"checks": CHECKS, "length": length, "links": links, "sha256": self._digest(length)}
            with contextlib.suppress(OSError):
                write_own(self._file, json.dumps(said).encode())

    def _digest(self, length: int) -> str:
        with self._paths.chain.open("rb") as file:
            text = file.read(length)
        return hashlib.sha256(text).hexdigest() if len(text) == length else ""


def _links(paths: Paths, sealed: dict[str, Any] | None, sound: int) -> tuple[list[dict[str, Any]], str]:
    """The links that can be trusted to be as written, and what is wrong after them ('' if nothing).

    `sound`: bytes of the chain whose links were checked before.
    """
    try:
        data = paths.chain.read_bytes()
    except OSError:
        return [], "missing" if sealed is None or sealed["version"] >= 0 else ""
    length = len(data) if sealed is None else sealed["length"]
    if len(data) < length:
        return [], f"{len(data)} bytes instead of {length}"
    *lines, rest = data[:length].split(b"\n")
    if rest:
        return [], "its last line was changed"
    known = data[: min(sound, length)].count(b"\n")
    links: list[dict[str, Any]] = [json.loads(line) for line in lines[:known]]
    before = links[-1]["chain"] if links else ""
    for number, line in enumerate(lines[known:], start=known):
        try:
            item = json.loads(line)
            good = (
                item["version"] == number
                and canonical_json(item).encode() == line
                and item["chain"] == seal.link(before, item["log"], item["files"])
                and item["log"]["path"] == paths.relative(deltalog.entry_path(paths.table("artifacts"), number))
            )
        except (ValueError, KeyError, TypeError):
            good = False
        if not good:
            return links, f"line {number + 1} was changed"
        links.append(item)
        before = item["chain"]
    if sealed is not None and len(links) != sealed["version"] + 1:
        return links, f"{len(links)} lines where the seal covers {sealed['version'] + 1} versions"
    return links, ""


def unlike(paths: Paths, versions: list[int]) -> list[tuple[str, str]]:
    """What in these log entries of `artifacts` is not a commit of this program, or not what its data file says."""
    table = paths.table("artifacts")
    found, carried = [], []
    for version in versions:
        name = paths.relative(deltalog.entry_path(table, version))
        try:
            entry = deltalog.read_entry(table, version)
            if entry.changes_data and ("vlaw.artifact_id" not in entry.info or entry.removed):
                found.append(
                    (name, f"{entry.info.get('operation', 'a commit')} by another program: rows were added or removed")
                )
            elif ROWS in entry.info:
                carried.append((name, entry.added, json.loads(entry.info[ROWS])))
        except VlawError as error:
            found.append((relative_in(paths, error.where), error.what))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append((name, f"damaged ({type(error).__name__})"))
    stored = _stored([path for _, added, _ in carried for path in added])
    for name, added, rows in carried:
        errors, there = [], []
        for path in added:
            if isinstance(one := stored[path], VlawError):
                errors.append(one)
            else:
                there += one
        if errors:
            found += [(relative_in(paths, error.where), error.what) for error in errors]
        elif rows != there:
            found.append((name, "its rows are not those of its data file"))
    return found


def _stored(files: list[Path]) -> dict[Path, list[dict[str, Any]] | VlawError]:
    """The rows of each data file of `artifacts` as a log entry carries them, or why they cannot be read."""
    import pyarrow as pa

    schema = TABLES["artifacts"]
    found: dict[Path, list[dict[str, Any]]] = {path: [] for path in files}
    try:
        # Read together, for a quarter of the time; where that fails, one by one tells which file it is.
        with connected(os.getpid()) as connection:
            answer = (
                connection.sql(
                    "SELECT * FROM read_parquet($files, filename = true, hive_partitioning = false, union_by_name = "
                    "true)",
                    params={"files": [str(path) for path in files]},
                ).to_arrow_table()
                if files
                else None
            )
        names = answer["filename"].to_pylist() if answer else []
        rows = answer.select(schema.names).cast(schema).to_pylist() if answer else []
        for name, row in zip(names, rows, strict=True):
            found[Path(name)].append(_plain(row))
        return {**found}
    except (VlawError, pa.ArrowException, KeyError, ValueError, AttributeError):
        return {path: _read(path) for path in files}


def _read(path: Path) -> list[dict[str, Any]] | VlawError:
    try:
        return [_plain(row) for row in read_file(path, TABLES["artifacts"]).to_pylist()]
    except VlawError as error:
        return error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return VlawError(f"damaged ({type(error).__name__})", where=str(path), remedy="restore it from a backup")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"created_at": row["created_at"].isoformat()}


def _split(line: str) -> tuple[str, str]:
    path, _, text = line.partition(": ")
    return path, text


def relative_in(paths: Paths, path: str) -> str:
    """The path of a file of a lake, without the lake's own."""
    return path.removeprefix(f"{paths.root}/")
