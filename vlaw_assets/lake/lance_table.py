"""A Lance table of the lake: made empty, then one durable, tagged version per artifact, which names its own files.

Rows go to disk in batches, and nobody sees them before the version that has them all. They count only once the ledger
names that version.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake import disk, replica
from vlaw_assets.lake.durable import fsync_files, sha256_file
from vlaw_assets.lake.paths import Paths

os.environ.setdefault("LANCE_LOG", "error")
"""Lance warns on stderr about every dataset that it is to create; it reads this once, when first imported."""

STORAGE_VERSION = "2.1"
MOST_BYTES = 4 << 30
"""Of a data file, about: one is hashed and flushed at a time."""
CREATED = "created"
"""Tag of the version that a new table has before any row."""


def is_there(uri: Path) -> bool:
    """Whether the table was created."""
    if (copy := replica.of(uri)) and not any((uri / "_versions").glob("*.manifest")):
        copy.pull_table(uri)
    return any((uri / "_versions").glob("*.manifest"))


def create_table(uri: Path, schema: pa.Schema, *, root: Path) -> None:
    """The empty table, durable up to the lake's `root`. Call under a lock."""
    import lance

    uri.parent.mkdir(parents=True, exist_ok=True)
    made = lance.write_dataset(schema.empty_table(), str(uri), mode="overwrite", data_storage_version=STORAGE_VERSION)
    made.tags.create(CREATED, made.version)
    fsync_files(log_files(made, uri, CREATED), root=root)


class LanceWriter:
    """Rows of one artifact: batches go to disk at once, invisible until `add_version` makes them one version."""

    def __init__(self, paths: Paths, uri: Path, schema: pa.Schema, what: str):
        """`what`: what the rows are, for messages: 'frames'."""
        self.uri, self.fragments = uri, list[Any]()
        self._paths, self._schema, self._what, self._rows = paths, schema, what, 0

    def write(self, rows: pa.Table) -> None:
        """Raises VlawError where the disk does not take them."""
        self.write_parts([rows])

    def write_parts(self, parts: Iterable[pa.Table]) -> None:
        """As `write`, of many parts, made as they are written: they become one fragment, or one for each MOST_BYTES.

        What making a part raises is raised as it is.
        """
        from lance.fragment import write_fragments

        waiting = iter(parts)
        first = next(waiting, None)
        if first is None:
            return
        raised: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for part in chain([first], waiting):
                    self._rows += part.num_rows
                    yield from part.select(self._schema.names).cast(self._schema).to_batches()
            except BaseException as error:
                raised.append(error)
                raise

        try:
            self.fragments += write_fragments(
                pa.RecordBatchReader.from_batches(self._schema, batches()),
                str(self.uri),
                schema=self._schema,
                mode="append",
                data_storage_version=STORAGE_VERSION,
                max_bytes_per_file=MOST_BYTES,
            )
        except OSError as error:
            if raised:
                raise raised[0] from None
            raise disk.failure(
                error,
                f"{self._what} cannot be written",
                where=str(self.uri),
                remedy="see that the disk works, then run it again",
            ) from error

    def add_version(self, artifact_id: str, stands_on: Sequence[Path] = ()) -> dict[str, Any]:
        """One durable, tagged version: {"version", "rows", "files", "log"}.

        `stands_on`: more files of the table without which the version cannot be read; they are described in "log" too.
        """
        import lance

        files = [self.uri / "data" / file.path for fragment in self.fragments for file in fragment.files]
        fsync_files(files, root=self._paths.root)
        described = [self._described(path) for path in files]
        append = lance.LanceOperation.Append(self.fragments)
        dataset = commit(self.uri, append, message=artifact_id)
        # Lance's clean-up deletes versions that have no tag.
        tag = f"artifact-{artifact_id}"
        dataset.tags.create(tag, dataset.version)
        log = [*log_files(dataset, self.uri, tag), *stands_on]
        fsync_files([*log, settled_hint(self.uri)], root=self._paths.root, missing_ok=True)
        return {
            "version": dataset.version,
            "rows": self._rows,
            "files": described,
            "log": [self._described(path) for path in log],
        }

    def _described(self, path: Path) -> dict[str, Any]:
        return {"path": self._paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}


def commit(uri: Path, operation: Any, *, message: str) -> Any:
    """One more version; the dataset at it. In a bucket the manifest's name is what one of several gets."""
    import lance

    def once() -> Any:
        newest = lance.dataset(str(uri)).version
        return lance.LanceDataset.commit(
            str(uri), operation, read_version=newest, commit_message=message, max_retries=100
        )

    copy = replica.of(uri)
    if copy is None:
        return once()
    with copy.alone():
        while True:
            copy.pull_table(uri)
            dataset = once()
            manifest, *transactions = log_files(dataset, uri, "")[:-1]
            try:
                copy.publish(transactions)
                copy.create(manifest)
            except FileExistsError:
                manifest.unlink()
                for path in transactions:
                    copy.forget(path)
                    path.unlink()
                continue
            except BaseException:
                manifest.unlink(missing_ok=True)  # nobody else has this version
                raise
            return dataset


def hint(uri: Path) -> Path:
    """Where Lance notes a table's newest version, for readers whose storage is slow to list; on a disk it reads the
    folder."""
    return uri / "_versions" / "latest_version_hint.json"


def settled_hint(uri: Path) -> Path:
    """The hint, after a commit: of two processes that commit at once, the older version's may have been written last.

    A disk that fails leaves it as it is: no reader on a disk needs it, and the next commit writes it.
    """
    with contextlib.suppress(OSError):
        text = _hint_text(_newest(uri))
        while not hint(uri).exists() or hint(uri).read_bytes() != text:
            temporary = uri / "_versions" / f".tmp-hint-{uuid.uuid4().hex}"
            temporary.write_bytes(text)
            temporary.replace(hint(uri))
            text = _hint_text(_newest(uri))
    return hint(uri)


def hint_problem(uri: Path, least: int) -> str:
    """What is wrong with a table's hint; '' if it names the newest version, or an older one from `least` on."""
    if copy := replica.of(uri):
        copy.pull_table(uri)
    try:
        text, newest = hint(uri).read_bytes(), _newest(uri)
    except OSError as error:
        return "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    found = re.fullmatch(rb'\{"version":([1-9][0-9]*)\}', text)
    if found is None:
        return "damaged"
    return "" if least <= int(found[1]) <= newest else f"names version {int(found[1])}, and the newest is {newest}"


def _hint_text(version: int) -> bytes:
    return json.dumps({"version": version}, separators=(",", ":")).encode()


def _newest(uri: Path) -> int:
    """The newest version of a Lance table, by the names of its manifests, which count down."""
    names = [path.stem for path in (uri / "_versions").glob("*.manifest")]
    return 2**64 - 1 - min((int(name) for name in names if name.isdigit()), default=2**64 - 1)


def log_files(dataset: Any, uri: Path, tag: str) -> list[Path]:
    """Manifest, transaction and tag of the version that `dataset` is at: what commits its rows.

    A Lance version is whole on its own, so these three (and the data files) are all that has to last.
    """
    manifest = uri / "_versions" / f"{2**64 - 1 - dataset.version:020d}.manifest"
    transaction = dataset.read_transaction(dataset.version).uuid
    return [manifest, *(uri / "_transactions").glob(f"*-{transaction}.txn"), uri / "_refs" / "tags" / f"{tag}.json"]


def fragments_of(uri: Path, entry: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A table at the version of one artifact, and the artifact's fragments in the order written. Raises OSError,
    ValueError."""
    import lance

    wanted = {Path(file["path"]).name for file in entry["files"]}
    if copy := replica.of(uri):
        for path, text in copy.fetch([*entry["files"], *entry.get("log", ())]).items():
            raise ValueError(f"{path}: {text}")
    dataset = lance.dataset(str(uri), version=entry["version"])
    return dataset, [item for item in dataset.get_fragments() if any(f.path in wanted for f in item.metadata.files)]
