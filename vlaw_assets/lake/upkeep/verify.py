"""Whether everything is still as it was committed: bytes, rows, counts, edges, and the ledger itself.

`verify` checks artifacts, each stored byte of them against the sha256 in its ledger row. `verify_ledger` checks the
rows that these digests come from: the chain of the seal, and FORMAT.json; and, when everything is read again, what
other readers of the lake go by. Both change nothing, and name files. Not covered, because no row depends on it: locks,
temporary files, search indices, and rows that no ledger row names.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import checkpoints, contents, deltalog, pictures, replica, seal
from vlaw_assets.lake.artifact import ArtifactRef
from vlaw_assets.lake.durable import file_problems
from vlaw_assets.lake.upkeep import chain_checks, delta_checks
from vlaw_assets.lake.upkeep.chain_checks import relative_in
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

LEDGER, OTHERS = "the ledger", "for other readers"


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


@contextlib.contextmanager
def from_bucket(lake: Lake) -> Iterator[Lake]:
    """Of a lake in a bucket: the same, with none of it copied yet, so that every byte is the bucket's; else the lake
    itself."""
    copy = replica.of(lake.paths.root)
    if copy is None:
        yield lake
        return
    with anew(type(lake), copy.bucket.address, lake.paths.root.parent) as fresh:
        yield fresh if lake.moment is None else fresh.as_of(lake.moment)


@contextlib.contextmanager
def anew(opener: type[Lake], address: str, place: Path) -> Iterator[Lake]:
    """The lake of an address, copied into a folder below `place` that goes in the end: as far as it is asked for, and
    its logs."""
    with tempfile.TemporaryDirectory(prefix="vlaw-verify-", dir=place) as folder:
        copy = replica.opened(address, lambda _address: Path(folder) / "lake")
        assert copy is not None
        try:
            copy.pull_all(lambda item, path: re.match(r"delta/\w+/_", item.name) is not None and not path.exists())
            yield opener.open(copy.root, create=False)
        finally:
            replica.closed(copy)


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
        again: read every byte, whatever was found good before, and what only other readers go by (delta_checks.py).
        Otherwise
            files whose fingerprint is known (verified.py) are not hashed again, and the links of a part of the chain
            that was checked before are not checked again.
    """
    lines = [*chain_checks.of_format(lake.paths), *chain_checks.of_chain(lake.paths, again=again)]
    found = [Problem(LEDGER, path, text) for path, text in lines]
    return [*found, *_of_other_readers(lake)] if again else found


def _of_other_readers(lake: Lake) -> list[Problem]:
    """What is wrong with Delta's checkpoints and Lance's version hints, on which no answer of vlaw depends."""
    found = delta_checks.checkpoint_problems(lake.paths)
    with contextlib.suppress(VlawError):  # a ledger that cannot be read is named by those who read it
        found += delta_checks.hint_problems(lake.paths, lake.ledger.artifacts())
    return [Problem(OTHERS, path, text) for path, text in found]


def unsealed(lake: Lake) -> list[int]:
    """Versions of `artifacts` that no seal covers yet: a run died right after its commit. The next commit seals
    them."""
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
            self._add(
                entry["files"][0]["path"] if entry["files"] else f"delta/{name}",
                f"{rows} rows of {name} where the ledger has {entry['rows']}",
            )

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
        for file in pictures.files(self.lake.paths, self.ref):
            path = self.lake.paths.relative(file)
            if path not in self._files:
                self._files[path] = pictures.problem(file) or None
            if self._files[path]:
                self._add(path, self._files[path] or "")

    def _rows(self) -> None:
        counts = {
            name: entry["rows"] for name, entry in self.ref.versions.items() if name not in ("edges", "reads", "frames")
        }
        possible = {counts["episodes"]} if "episodes" in counts else set(counts.values()) or {0}
        if self.ref.num_rows not in possible:
            self._row(f"num_rows is {self.ref.num_rows}, its tables hold {counts}")

    def _edges(self) -> bool:
        """False where they name what is not there, so that nothing can be counted over them."""
        before, count = len(self._found), (self.ledger.edges_entry(self.ref) or {"rows": 0})["rows"]
        try:
            edges = self.ledger.own_edges(self.ref.artifact_id)
        except VlawError as error:
            self._add(relative_in(self.lake.paths, error.where), error.what)
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
                self._add(
                    "delta/edges", f"the dataset {edge.selection_id} ({edge.role}) is not in the ledger before it"
                )
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
        if kept != {
            name: rows for name, rows in again.items() if name in kept or name != "reads"
        }:  # older rows have no reads
            self._row("contents_json is not what its rows count to")

    def _pointer(self) -> None:
        source = self._earlier(self.ref.source_artifact_id)
        if source is None:
            self._row(f"it points at {self.ref.source_artifact_id}, which is not in the ledger before it")
            return
        same = ["kind", "content_digest", "identity_digest", "location", "num_rows", "contents_json"]
        wrong = [name for name in same if getattr(self.ref, name) != getattr(source, name)]
        if self.ref.versions | {"edges": source.versions.get("edges")} != source.versions | {
            "edges": source.versions.get("edges")
        }:
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
