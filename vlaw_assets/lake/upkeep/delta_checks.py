"""What other readers of a lake go by and vlaw does not: Delta's checkpoints, Lance's version hints. Whether they tell
the truth.

A checkpoint is held against the JSON log: after its version the same files with the same sizes, times, partitions and
statistics, the same schema, settings and protocol, nothing removed that the log does not remove. And against
`_checkpoints.json`, if vlaw made it: the same bytes. A hint must name the newest version of its table. Whatever is
wrong here changes no answer of vlaw: `vlaw compact --checkpoints-only` makes checkpoints anew, the next commit writes
the hint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import delta_checkpoints, deltalog, lance_table
from vlaw_assets.lake.artifact import PER_EPISODE
from vlaw_assets.lake.delta_checkpoints import LAST, RECORD
from vlaw_assets.lake.durable import sha256_file
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.tables import tables_of
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.artifact import ArtifactRef

_STATE_ACTIONS = {"metaData": None, "protocol": None, "txn": "appId", "domainMetadata": "domain"}
"""Kinds of action besides added and removed files, and the key that tells several of a kind apart."""
_OTHER_FORMS = {"dataChange", "stats_parsed", "partitionValues_parsed"}
"""Of an added file: false in a checkpoint by the protocol, or as it was; and what some writers repeat in another
form."""
_POINTER = {
    "version",
    "size",
    "sizeInBytes",
    "numOfAddFiles",
    "parts",
    "checkpointSchema",
    "checksum",
    "tags",
    "v2Checkpoint",
}
"""What `_last_checkpoint` may say, by the protocol."""


def checkpoint_problems(paths: Paths) -> list[tuple[str, str]]:
    """(path relative to the lake, what is wrong) of each file of a checkpoint that lies or cannot be read."""
    return [(paths.relative(path), text) for name in tables_of(paths) for path, text in of_table(paths, name)]


def of_table(paths: Paths, name: str) -> list[tuple[Path, str]]:
    """(file, what is wrong) of the checkpoints of one table."""
    table, log = paths.table(name), paths.table(name) / "_delta_log"
    there, found = delta_checkpoints.files(log), []
    record = delta_checkpoints.recorded(table)
    if record is None:
        found.append((table / RECORD, "damaged"))
    elif (
        not record
        and any(version % delta_checkpoints.EVERY == 0 for version, _ in there)
        and not (table / RECORD).exists()
    ):
        found.append((table / RECORD, "missing"))
    bad = {log / file: text for file, said in (record or {}).items() if (text := _changed(log / file, said))}
    known = {path for _, path in there}
    bad |= {
        path: "of a form that cannot be checked against the log"
        for path in sorted(log.glob("*.checkpoint.*"))
        if path not in known and path.name[0] != "." and "#" not in path.name
    }
    unread = [(version, path) for version, path in there if path not in bad]
    try:
        newest = deltalog.newest(table) if unread else -1
        bad |= {
            path: f"of version {version}, and the log ends with {newest}"
            for version, path in unread
            if version > newest
        }
        wanted = {version: delta_checkpoints.files_of(log, version) for version, path in unread if path not in bad}
        for version, state in _states(table, wanted):
            if text := _difference(wanted[version], state):
                bad |= dict.fromkeys(wanted[version], text)
    except VlawError as error:
        return [*found, *sorted(bad.items()), (Path(error.where), error.what)]
    if text := _pointer_problem(log, bad):
        found.append((log / LAST, text))
    return [*found, *sorted(bad.items())]


def mend(paths: Paths, name: str) -> list[Path]:
    """Delete what `of_table` names, before delta-rs takes it for the truth. Returns what was deleted."""
    return delta_checkpoints.drop(paths.table(name), [path for path, _ in of_table(paths, name)])


def hint_problems(paths: Paths, refs: Iterable[ArtifactRef]) -> list[tuple[str, str]]:
    """(path relative to the lake, what is wrong) of each version hint of Lance that does not name its table's newest
    version.

    A hint may be older by versions that no artifact of `refs` stands on: a process that was killed between the two.
    """
    named: dict[Path, int] = {}
    for ref in refs:
        for kind in {"frames", *PER_EPISODE} & set(ref.versions):
            uri = paths.lance_table(kind, ref.versions[kind])
            named[uri] = max(named.get(uri, 0), int(ref.versions[kind]["version"]))
    found = []
    for uri, least in sorted(named.items()):
        text = lance_table.hint_problem(uri, least)
        if text:
            found.append((paths.relative(lance_table.hint(uri)), text))
    return found


def _changed(path: Path, said: dict[str, Any]) -> str:
    """'' where a checkpoint has the bytes that vlaw gave it."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != said["size"]:
        return f"{path.stat().st_size} bytes instead of {said['size']}"
    return "" if sha256_file(path) == said["sha256"] else "content changed (sha256 differs)"


def _states(table: Path, versions: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the log adds up to after each of these versions. The state is the same object each time: look, do not
    keep."""
    wanted = set(versions)
    state: dict[str, Any] = {"add": {}, "removed": set()}
    for version in range(max(wanted, default=-1) + 1):
        entry = deltalog.read_entry(table, version)  # raises, naming a file that is missing or damaged
        try:
            _apply(state, entry.path)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:  # what read_entry does not look into: statistics, schema
            raise VlawError(
                f"log entry {version} of Delta table {table.name} is damaged ({type(error).__name__})",
                where=str(entry.path),
                remedy="restore it from a backup",
            ) from error
        if version in wanted:
            yield version, state


def _apply(state: dict[str, Any], path: Path) -> None:
    """Go on from a state by the actions of one log entry."""
    for line in path.read_bytes().splitlines():
        for kind, value in json.loads(line or b"{}").items():
            if kind == "add":
                state["add"][value["path"]] = _plain(value)
                state["removed"].discard(value["path"])
            elif kind == "remove":
                state["add"].pop(value["path"], None)
                state["removed"].add(value["path"])
            elif kind in _STATE_ACTIONS:
                state[_key(kind, value)] = _plain(value)


def _difference(files: list[Path], state: dict[str, Any]) -> str:
    """'' where a checkpoint (in several files, if another program made it) is what the log adds up to."""
    try:
        adds, others = _read(files)
    except Exception as error:  # Parquet of unknown origin: whatever its reader says, it cannot be read
        return f"cannot be read ({type(error).__name__})"
    names: set[str] = set()
    for kind, value in others:
        if kind == "remove":
            if value["path"] not in state["removed"]:
                return f"says that {value['path']} was removed, and the log does not"
        elif kind not in _STATE_ACTIONS or state.get(_key(kind, value)) != _plain(value):
            return f"its {kind} is not that of the log"
        else:
            names.add(_key(kind, value))
    if missing := sorted(set(state) - {"add", "removed"} - names):
        return f"its {missing[0]} is missing"
    if len(adds) != len(dict(adds)):
        return "adds a file twice"
    if dict(adds) == state["add"]:
        return ""
    for path, value in adds:
        if path not in state["add"]:
            return f"adds {path}, and the log does not"
        if value != state["add"][path]:
            return f"what it says of {path} is not what the log says"
    return f"leaves out {min(set(state['add']) - dict(adds).keys())}, which the log adds"


def _read(files: list[Path]) -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]:
    """(path, add action) of each added file, and (kind, action) of all others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    adds, others = [], []
    for file in files:
        table = pq.ParquetFile(file).read()
        table.validate(full=True)
        count = 0
        for kind in table.column_names:
            rows = [row for row in table[kind].to_pylist() if row is not None]
            count += len(rows)
            if kind == "add":
                adds += [(row["path"], _plain(row)) for row in rows]
            else:
                others += [(kind, row) for row in rows]
        if count != table.num_rows:
            raise pa.ArrowInvalid("a row is not one action")
    return adds, others


def _key(kind: str, value: dict[str, Any]) -> str:
    name = _STATE_ACTIONS[kind]
    return f"{kind} {value[name]}" if name else kind


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """An action in one form, whether it comes from JSON or from Parquet: nothing empty, maps as objects, JSON texts
    parsed."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key in _OTHER_FORMS or item is None or item in ([], {}, ""):
            continue
        if isinstance(item, list) and isinstance(item[0], tuple):
            item = dict(item)  # noqa: PLW2901
        if isinstance(item, dict):
            item = _plain(item)  # noqa: PLW2901
        elif key == "schemaString":
            item = json.loads(item)  # noqa: PLW2901
        if item != {}:
            found[key] = item
    return found


def _pointer_problem(log: Path, bad: dict[Path, str]) -> str:
    """'' where `_last_checkpoint` names a checkpoint that is there and says of it what is so."""
    import pyarrow.parquet as pq

    pointer = log / LAST
    if not pointer.exists():
        return "missing" if delta_checkpoints.files(log) else ""
    try:
        said = json.loads(pointer.read_text(encoding="utf-8"))
        files = delta_checkpoints.files_of(log, int(said["version"]))
        if set(said) - _POINTER:
            return f"says {min(set(said) - _POINTER)!r}, which the protocol does not know"
        if not files:
            return f"names a checkpoint of version {said['version']}, which is missing"
        if any(path in bad for path in files):
            return ""  # said of the file itself
        rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
        so = {
            "size": rows,
            "sizeInBytes": sum(path.stat().st_size for path in files),
            "numOfAddFiles": len(_read(files)[0]),
        }
    except Exception as error:
        return f"damaged ({type(error).__name__})"
    wrong = [key for key, value in so.items() if key in said and said[key] != value]
    if wrong or "size" not in said:
        key = (wrong or ["size"])[0]
        return f"says {key} {said.get(key)} of a checkpoint with {so[key]}"
    newest = max(version for version, _ in delta_checkpoints.files(log))
    return (
        f"names version {said['version']}, and the newest checkpoint is of {newest}"
        if said["version"] != newest
        else ""
    )
