"""Whether everything is still as it was committed: bytes, rows, counts, edges, and the ledger itself.

`verify` checks artifacts, each stored byte of them against the sha256 in its ledger row. `verify_ledger` checks the rows
that these digests come from: the chain of the seal, and FORMAT.json; and, when told to read everything again, what other
readers of the lake go by. Both change nothing, and name files. Not covered, because no row depends on it: locks, temporary
files, search indices, and rows that no ledger row names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import checkpoints, contents, delta_checks, deltalog, pictures, seal
from vlaw_assets.lake.durable import as_written, canonical_json, digest_of, file_problems
from vlaw_assets.lake.ledger import ArtifactRef
from vlaw_assets.lake.lookup import connected
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.lake.tables import ROWS, read_file
from vlaw_assets.lake.verified import Verified, memory_of, read_own, write_own
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

LEDGER, OTHERS = "the ledger", "for other readers"
AT_ONCE = 500
"""Commits whose data files are read together."""
CHECKS = 1
"""Raised when a link is checked for more than before: what was found sound by less is checked again."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was committed."""

    artifact: str
    """Name and id of what it belongs to, or 'the ledger', or 'for other readers'."""
    path: str
    """The file, relative to the lake; the table `delta/artifacts` for a row that contradicts others."""
    text: str

    def __str__(self) -> str:
        return f"{self.artifact}: {self.path}: {self.text}"


def verify(lake: Lake, refs: Iterable[ArtifactRef]) -> list[Problem]:
    """What is wrong with these artifacts. Files that several share are read once and named with each.

    Raises VlawError naming the file if the ledger's rows cannot be read at all; `verify_ledger` still works then.
    """
    return [problem for problems in each(lake, refs) for problem in problems]


def each(lake: Lake, refs: Iterable[ArtifactRef]) -> Iterator[list[Problem]]:
    """`verify`, one artifact after the other: what is wrong with each."""
    files: dict[str, str | None] = {}
    folders: dict[str, list[str]] = {}
    for ref in refs:
        yield _Artifact(lake, ref, files, folders).problems()


def verify_ledger(lake: Lake, *, again: bool = False) -> list[Problem]:
    """What is wrong with FORMAT.json, the seal, and the log entries and files of `artifacts` that it covers.

    Args:
        again: read every byte, whatever was found good before, and what only other readers go by (delta_checks.py). Otherwise
            files whose fingerprint is known (verified.py) are not hashed again, and the links of a part of the chain that was
            checked before are not checked again.
    """
    found = [Problem(LEDGER, path, text) for path, text in (*_format(lake.paths), *_sealed(lake.paths, again=again))]
    return [*found, *_of_other_readers(lake)] if again else found


def _of_other_readers(lake: Lake) -> list[Problem]:
    """What is wrong with Delta's checkpoints and Lance's version hints, on which no answer of vlaw depends."""
    found = delta_checks.checkpoint_problems(lake.paths)
    with contextlib.suppress(VlawError):  # a ledger that cannot be read is named by those who read it
        found += delta_checks.hint_problems(lake.paths, lake.ledger.artifacts())
    return [Problem(OTHERS, path, text) for path, text in found]


def unsealed(lake: Lake) -> list[int]:
    """Versions of `artifacts` that no seal covers yet: a run died right after its commit. The next commit seals them."""
    table = lake.paths.table("artifacts")
    return list(range(seal.read(lake.paths)["version"] + 1, deltalog.newest(table) + 1))


class _Artifact:
    """The checks of one artifact."""

    def __init__(self, lake: Lake, ref: ArtifactRef, files: dict[str, str | None], folders: dict[str, list[str]]):
        self.lake, self.ref, self.ledger = lake, ref, lake.ledger
        self._files, self._folders = files, folders
        self._name = f"{ref.name} ({ref.artifact_id})"
        self._found: list[Problem] = []

    def problems(self) -> list[Problem]:
        if self.ref.source_artifact_id:
            self._pointer()
            return self._found
        whole = [name for name, entry in self.ref.versions.items() if self._entry(entry)]
        for name in whole:
            self._count(name, self.ref.versions[name])
        self._checkpoint()
        self._pictures()
        self._rows()
        if self._edges() and self.ref.contents_json and set(self.ref.versions) & set(contents.COUNTED) <= set(whole):
            self._contents()
        return self._found

    def _add(self, path: str, text: str) -> None:
        self._found.append(Problem(self._name, path, text))

    def _row(self, text: str) -> None:
        self._add("delta/artifacts", text)

    def _entry(self, entry: dict[str, Any]) -> bool:
        """Hash the files and log entries behind one table. True if all are as recorded."""
        good = True
        for file in (*entry["files"], *entry.get("log", ())):
            if file["path"] not in self._files:
                lines = file_problems(self.lake.paths.root, [file])
                self._files[file["path"]] = lines[0].removeprefix(f"{file['path']}: ") if lines else None
            problem = self._files[file["path"]]
            if problem is not None:
                self._add(file["path"], problem)
                good = False
        return good

    def _count(self, name: str, entry: dict[str, Any]) -> None:
        rows = sum(_rows_in(self.lake.paths.root / file["path"]) for file in entry["files"])
        if rows != entry["rows"]:
            self._add(entry["files"][0]["path"] if entry["files"] else f"delta/{name}",
                      f"{rows} rows of {name} where the ledger has {entry['rows']}")

    def _checkpoint(self) -> None:
        location = self.ref.location
        if not location:
            return
        if location not in self._folders:
            self._folders[location] = checkpoints.problems(self.lake.paths.root / location)
        for line in self._folders[location]:
            name, _, text = line.partition(": ")
            self._add(f"{location}/{name}" if text else location, text or line)
        digest = location.rpartition("/")[2]
        if set(self.ref.versions) <= {"edges", "reads"} and digest != self.ref.content_digest:
            self._row(f"its content digest is {self.ref.content_digest[:12]}, its checkpoint is {digest[:12]}")

    def _pictures(self) -> None:
        for digest in dict.fromkeys(pictures.named(self.ref).values()):
            path = self.lake.paths.relative(pictures.path_of(self.lake.paths, digest))
            if path not in self._files:
                self._files[path] = pictures.problem(self.lake.paths, digest) or None
            if self._files[path]:
                self._add(path, self._files[path] or "")

    def _rows(self) -> None:
        counts = {name: entry["rows"] for name, entry in self.ref.versions.items() if name not in ("edges", "reads", "frames")}
        possible = {counts["episodes"]} if "episodes" in counts else set(counts.values()) or {0}
        if self.ref.num_rows not in possible:
            self._row(f"num_rows is {self.ref.num_rows}, its tables hold {counts}")

    def _edges(self) -> bool:
        """False where they name what is not there, so that nothing can be counted over them."""
        before, count = len(self._found), (self.ledger.edges_entry(self.ref) or {"rows": 0})["rows"]
        try:
            edges = self.ledger.own_edges(self.ref.artifact_id)
        except VlawError as error:
            self._add(_relative(self.lake.paths, error.where), error.what)
            return False
        if len(edges) != count:
            self._add("delta/edges", f"{len(edges)} edges where the ledger has {count}")
        for edge in edges:
            read_as = self._earlier(edge.read_as)
            if self._earlier(edge.parent) is None:
                self._add("delta/edges", f"its parent {edge.parent} ({edge.role}) is not in the ledger before it")
            elif read_as is None or read_as.owner != edge.parent:
                self._add("delta/edges", f"{edge.read_as} ({edge.role}) is no name of its parent {edge.parent}")
            if edge.selection == "members" and self._earlier(edge.selection_id) is None:
                self._add("delta/edges", f"the dataset {edge.selection_id} ({edge.role}) is not in the ledger before it")
        return len(self._found) == before

    def _earlier(self, artifact_id: str) -> ArtifactRef | None:
        """The artifact of that id, if the ledger has it before this one."""
        try:
            earlier = self.ledger.sequence(artifact_id) < self.ledger.sequence(self.ref.artifact_id)
        except VlawError:
            return None
        return self.ledger.get(artifact_id) if earlier else None

    def _contents(self) -> None:
        try:
            again = contents.recounted(self.lake, self.ref)
        except VlawError as error:
            self._row(f"its contents cannot be counted: {str(error).splitlines()[0]}")
            return
        kept = json.loads(self.ref.contents_json)
        if kept != {name: rows for name, rows in again.items() if name in kept or name != "reads"}:  # older rows have no reads
            self._row("contents_json is not what its rows count to")

    def _pointer(self) -> None:
        source = self._earlier(self.ref.source_artifact_id)
        if source is None:
            self._row(f"it points at {self.ref.source_artifact_id}, which is not in the ledger before it")
            return
        same = ["kind", "content_digest", "identity_digest", "location", "num_rows", "contents_json"]
        wrong = [name for name in same if getattr(self.ref, name) != getattr(source, name)]
        if self.ref.versions | {"edges": source.versions.get("edges")} != source.versions | {"edges": source.versions.get("edges")}:
            wrong.append("versions")
        for name in wrong:
            self._row(f"its {name} is not that of {source.artifact_id}, which it points at")
        if entry := self.ledger.edges_entry(self.ref):  # what chose its models is its own
            if self._entry(entry):
                self._count("edges", entry)
            self._edges()
        self._found += [
            Problem(self._name, problem.path, problem.text)
            for problem in _Artifact(self.lake, source, self._files, self._folders).problems()
        ]


def _rows_in(path: Path) -> int:
    """Rows of a Parquet or Lance file whose bytes are known to be good."""
    if path.suffix == ".lance":
        from lance.file import LanceFileReader

        return LanceFileReader(str(path)).num_rows()
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).metadata.num_rows


def _format(paths: Paths) -> list[tuple[str, str]]:
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


def _sealed(paths: Paths, *, again: bool) -> list[tuple[str, str]]:
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
    elif sealed is not None and links and (links[-1]["version"], links[-1]["chain"]) != (sealed["version"], sealed["chain"]):
        found.append((paths.relative(paths.seal), "does not fit ledger.chain"))
    entries = [entry for item in links for entry in (item["log"], *item["files"])]
    lines = file_problems(paths.root, entries) if again else Verified(paths.root).problems(entries)
    found += map(_split, lines)
    bad = {path for path, _ in found}
    damaged = {item["version"] for item in links if any(entry["path"] in bad for entry in (item["log"], *item["files"]))}
    try:
        newest = deltalog.newest(paths.table("artifacts"))
    except VlawError as error:
        return found if damaged else [*found, (_relative(paths, error.where), error.what)]
    # What the rows of a checked link say is as sure as its bytes are.
    checked = 0 if again or problem else sound.links
    unknown = [version for version in range(newest + 1) if version not in damaged and version >= checked]
    for first in range(0, len(unknown), AT_ONCE):
        found += _unlike(paths, unknown[first : first + AT_ONCE])
    if not found and sealed is not None:
        sound.note(sealed["length"], len(links))
    return found


class Sound:
    """The memory of how much of a lake's chain was checked, and found sound with every row that it stands for.

    It names the beginning of ledger.chain by its sha256: the chain holds the digest of every byte that was looked at, so for
    the same text the same holds, as long as the files have these digests (which is asked anew).
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
                item["version"] == number and canonical_json(item).encode() == line
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


def _unlike(paths: Paths, versions: list[int]) -> list[tuple[str, str]]:
    """What in these log entries of `artifacts` is not a commit of this program, or not what its data file says."""
    table = paths.table("artifacts")
    found, carried = [], []
    for version in versions:
        name = paths.relative(deltalog.entry_path(table, version))
        try:
            entry = deltalog.read_entry(table, version)
            if entry.changes_data and ("vlaw.artifact_id" not in entry.info or entry.removed):
                found.append((name, f"{entry.info.get('operation', 'a commit')} by another program: rows were added or removed"))
            elif ROWS in entry.info:
                carried.append((name, entry.added, json.loads(entry.info[ROWS])))
        except VlawError as error:
            found.append((_relative(paths, error.where), error.what))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append((name, f"damaged ({type(error).__name__})"))
    stored = _stored([path for _, added, _ in carried for path in added])
    for name, added, rows in carried:
        errors = [rows for path in added if isinstance(rows := stored[path], VlawError)]
        if errors:
            found += [(_relative(paths, error.where), error.what) for error in errors]
        elif rows != [row for path in added for row in stored[path]]:
            found.append((name, "its rows are not those of its data file"))
    return found


def _stored(files: list[Path]) -> dict[Path, list[dict[str, Any]] | VlawError]:
    """The rows of each data file of `artifacts` as a log entry carries them, or why they cannot be read."""
    import pyarrow as pa

    schema, found = TABLES["artifacts"], {path: [] for path in files}
    try:
        # Read together, for a quarter of the time; where that fails, one by one tells which file it is.
        with connected(os.getpid()) as connection:
            answer = connection.sql(
                "SELECT * FROM read_parquet($files, filename = true, hive_partitioning = false, union_by_name = true)",
                params={"files": [str(path) for path in files]}).to_arrow_table() if files else None
        names = answer["filename"].to_pylist() if answer else []
        rows = answer.select(schema.names).cast(schema).to_pylist() if answer else []
        for name, row in zip(names, rows, strict=True):
            found[Path(name)].append(_plain(row))
        return found
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


def _relative(paths: Paths, path: str) -> str:
    return path.removeprefix(f"{paths.root}/")
