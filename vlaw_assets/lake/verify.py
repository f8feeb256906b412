"""Whether everything is still as it was committed: bytes, rows, counts, edges, and the ledger itself.

`verify` checks artifacts, each stored byte of them against the sha256 in its ledger row. `verify_ledger` checks the rows
that these digests come from: the chain of the seal, and FORMAT.json. Both read everything, change nothing, and name files.
Not covered, because nothing depends on it: locks, temporary files, Lance's version hint and search indices, checkpoints
of a Delta log that other tools made, and rows that no ledger row names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import checkpoints, contents, deltalog, pictures, seal
from vlaw_assets.lake.durable import as_written, canonical_json, digest_of, file_problems
from vlaw_assets.lake.ledger import ArtifactRef
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.lake.tables import ROWS, read_file
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

LEDGER = "the ledger"


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was committed."""

    artifact: str
    """Name and id of what it belongs to, or 'the ledger'."""
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


def verify_ledger(lake: Lake) -> list[Problem]:
    """What is wrong with FORMAT.json, the seal, and the log entries and files of `artifacts` that it covers."""
    return [Problem(LEDGER, path, text) for path, text in (*_format(lake.paths), *_sealed(lake.paths))]


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
        self._edges()
        if self.ref.contents_json and set(self.ref.versions) & set(contents.COUNTED) <= set(whole):
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

    def _edges(self) -> None:
        own, count = self.ledger.sequence(self.ref.artifact_id), (self.ledger.edges_entry(self.ref) or {"rows": 0})["rows"]
        known = {ref.artifact_id: ref for ref in self.ledger.artifacts()[:own]}
        try:
            edges = self.ledger.own_edges(self.ref.artifact_id)
        except VlawError as error:
            self._add(_relative(self.lake.paths, error.where), error.what)
            return
        if len(edges) != count:
            self._add("delta/edges", f"{len(edges)} edges where the ledger has {count}")
        for edge in edges:
            if edge.parent not in known:
                self._add("delta/edges", f"its parent {edge.parent} ({edge.role}) is not in the ledger before it")
            elif edge.read_as not in known or known[edge.read_as].owner != edge.parent:
                self._add("delta/edges", f"{edge.read_as} ({edge.role}) is no name of its parent {edge.parent}")
            if edge.selection == "members" and edge.selection_id not in known:
                self._add("delta/edges", f"the dataset {edge.selection_id} ({edge.role}) is not in the ledger before it")

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
        earlier = self.ledger.artifacts()[: self.ledger.sequence(self.ref.artifact_id)]
        source = next((ref for ref in earlier if ref.artifact_id == self.ref.source_artifact_id), None)
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


def _sealed(paths: Paths) -> list[tuple[str, str]]:
    """The chain, link by link: every file whose sha256 is not that of its link, and links that are not in the chain."""
    found: list[tuple[str, str]] = []
    sealed = None
    try:
        sealed = seal.read(paths)
    except VlawError as error:
        found.append((paths.relative(paths.seal), error.what))
    links, problem = _links(paths, sealed)
    if problem:
        found.append((paths.relative(paths.chain), problem))
    elif sealed is not None and links and (links[-1]["version"], links[-1]["chain"]) != (sealed["version"], sealed["chain"]):
        found.append((paths.relative(paths.seal), "does not fit ledger.chain"))
    damaged = set()
    for item in links:
        for line in file_problems(paths.root, [item["log"], *item["files"]]):
            found.append(_split(line))
            damaged.add(item["version"])
    try:
        newest = deltalog.newest(paths.table("artifacts"))
    except VlawError as error:
        return found if damaged else [*found, (_relative(paths, error.where), error.what)]
    for version in range(newest + 1):
        if version not in damaged:
            found += _unlike(paths, version)
    return found


def _links(paths: Paths, sealed: dict[str, Any] | None) -> tuple[list[dict[str, Any]], str]:
    """The links that can be trusted to be as written, and what is wrong after them ('' if nothing)."""
    try:
        data = paths.chain.read_bytes()
    except OSError:
        return [], "missing" if sealed is None or sealed["version"] >= 0 else ""
    length = len(data) if sealed is None else sealed["length"]
    if len(data) < length:
        return [], f"{len(data)} bytes instead of {length}"
    links: list[dict[str, Any]] = []
    before = ""
    *lines, rest = data[:length].split(b"\n")
    if rest:
        return [], "its last line was changed"
    for number, line in enumerate(lines):
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


def _unlike(paths: Paths, version: int) -> list[tuple[str, str]]:
    """What in one log entry of `artifacts` is not a commit of this program, or not what its data file says."""
    table = paths.table("artifacts")
    name = paths.relative(deltalog.entry_path(table, version))
    try:
        entry = deltalog.read_entry(table, version)
        if entry.changes_data and ("vlaw.artifact_id" not in entry.info or entry.removed):
            return [(name, f"{entry.info.get('operation', 'a commit')} by another program: rows were added or removed")]
        if ROWS not in entry.info:
            return []
        carried = json.loads(entry.info[ROWS])
        stored = [row for path in entry.added for row in read_file(path, TABLES["artifacts"]).to_pylist()]
        stored = [row | {"created_at": row["created_at"].isoformat()} for row in stored]
        return [] if carried == stored else [(name, "its rows are not those of its data file")]
    except VlawError as error:
        return [(_relative(paths, error.where), error.what)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [(name, f"damaged ({type(error).__name__})")]


def _split(line: str) -> tuple[str, str]:
    path, _, text = line.partition(": ")
    return path, text


def _relative(paths: Paths, path: str) -> str:
    return path.removeprefix(f"{paths.root}/")
