"""Files of a folder and the objects of a bucket that they are copies of: one by one, there and back.

A file comes here after its size, and what the ledger says of it after its sha256, was held against the object; it goes
there whole. What a lake is made of besides, its logs and versions, is the business of replica.py.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlaw_assets.lake.objects import SMALL, About, Bucket
from vlaw_models.errors import VlawError

THREADS = 8
THERE = frozenset({"FORMAT.json", "ledger.seal", "ledger.chain", "delta", "lance", "checkpoints", "pictures"})
"""What of a lake is in its bucket; the rest is of this host alone."""
MANIFEST = "MANIFEST.json"
_NEVER_LISTED = 50
"""More files than this are looked for in one listing."""


class Moved(Exception):  # noqa: N818 (no error: it is tried again)
    """Somebody else has changed an object since it was read."""


class Copies:
    """A folder, and the objects that it has copies of."""

    def __init__(self, root: Path, bucket: Bucket):
        self.root, self.bucket = root, bucket
        self._tags: dict[str, str] = {}
        """Of the objects that change, as they were read or written last."""
        self._put: dict[str, tuple[int, int]] = {}
        """Files that were put: time of change and size."""

    # ---- names

    def name(self, path: Path) -> str:
        """The object's name of a file of the folder."""
        return path.relative_to(self.root).as_posix()

    def path(self, name: str) -> Path:
        """The file of an object. Raises VlawError for a name that a lake has not: it may lead out of the folder."""
        parts = name.split("/")
        if parts[0] not in THERE or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise VlawError(
                f"{name!r} is no name of a file of a lake",
                where=self.bucket.address,
                remedy="the ledger or the bucket was changed; see `vlaw audit --all --verify`",
            )
        return self.root.joinpath(*parts)

    def _theirs(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and path.relative_to(self.root).parts[:1][0] in THERE

    # ---- writing

    def publish(self, paths: Iterable[Path]) -> None:
        """Put finished files that nobody else writes; those put before, and those of this host alone, are passed
        over."""
        mine = [path for path in dict.fromkeys(paths) if self._theirs(path) and path.is_file()]
        todo = [path for path in mine if self._put.get(self.name(path)) != _form(path)]
        self._each(lambda path: self.bucket.put(self.name(path), path), todo)
        self._put.update({self.name(path): _form(path) for path in todo})

    def publish_folder(self, folder: Path) -> None:
        """Put a folder that its manifest describes; the manifest comes last, and anew each time: so it is young."""
        manifest = folder / MANIFEST
        self.publish(path for path in sorted(folder.rglob("*")) if path != manifest)
        self.bucket.put(self.name(manifest), manifest)

    def create(self, path: Path, data: Path | None = None) -> None:
        """Put a finished file under a name that is free. Raises FileExistsError if it is taken."""
        tag = self.bucket.put_new(self.name(path), data or path)
        if not tag:
            raise FileExistsError(self.name(path))
        self._tags[self.name(path)] = tag
        self._put[self.name(path)] = _form(data or path)

    def swap(self, path: Path) -> None:
        """Replace an object by the file here, if it is still as `refresh` found it. Raises Moved."""
        name, data = self.name(path), path.read_bytes()
        tag = self._tags.get(name)
        made = self.bucket.swap(name, data, tag) if tag else self.bucket.put_new(name, data)
        if not made:
            raise Moved(name)
        self._tags[name] = made

    def forget(self, path: Path) -> None:
        """Delete the object of a file, or those of a folder: its manifest first, so that it is never there in part."""
        if not self._theirs(path):
            return
        name = self.name(path)
        below = [item.name for item in self.bucket.names(name)] if path.is_dir() else [name]
        self.bucket.delete(sorted(below, key=lambda item: not item.endswith(f"/{MANIFEST}")))
        self._put = {key: form for key, form in self._put.items() if key != name and not key.startswith(f"{name}/")}

    # ---- reading

    def want(self, path: Path, *, most: int = SMALL) -> bool:
        """Have a small file here that no row describes, if there is one. True if it is here."""
        if path.exists():
            return True
        found = self.bucket.get(self.name(path), most=most)
        if found is None:
            return False
        self._tags[self.name(path)] = found[1].tag
        write(path, found[0])
        return True

    def fetch(self, entries: Iterable[Mapping[str, Any]], base: Path | None = None) -> dict[str, str]:
        """Have files here that are recorded as {path, size, sha256}. Returns path -> what is wrong, of those that are
        not as recorded."""
        base = base or self.root
        todo = [entry for entry in entries if not _has(base / entry["path"], entry["size"])]

        def bring(entry: Mapping[str, Any]) -> str:
            path = self.path(self.name(base) + "/" + entry["path"] if base != self.root else entry["path"])
            return self.bucket.fetch(self.name(path), path, size=int(entry["size"]), sha256=entry["sha256"])

        said = self._each(bring, todo)
        return {entry["path"]: text for entry, text in zip(todo, said, strict=True) if text}

    def problems(self, base: Path, entries: Sequence[Mapping[str, Any]], *, deep: bool) -> list[str]:
        """As `durable.file_problems`. A copy that was damaged here is fetched again; not `deep`: nothing is fetched,
        the bucket is asked."""
        if not deep:
            said = self._lacking(base, entries)
        else:
            said = self.fetch(entries, base)
            for entry in entries:
                if entry["path"] not in said and _sha256(base / entry["path"]) != entry["sha256"]:
                    (base / entry["path"]).unlink()
                    said |= self.fetch([entry], base)
        return [f"{entry['path']}: {said[entry['path']]}" for entry in entries if entry["path"] in said]

    def _lacking(self, base: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        prefix = "" if base == self.root else self.name(base) + "/"
        names = [self.name(self.path(prefix + entry["path"])) for entry in entries]
        if len(names) > _NEVER_LISTED:
            there: dict[str, About | None] = {item.name: item for item in self.bucket.names(prefix)}
        else:
            there = dict(zip(names, self._each(self.bucket.about, names), strict=True))
        said = {}
        for entry, name in zip(entries, names, strict=True):
            about = there.get(name)
            if about is None:
                said[entry["path"]] = "missing"
            elif about.size != entry["size"]:
                said[entry["path"]] = f"{about.size} bytes instead of {entry['size']}"
        return said

    def is_there(self, folder: Path) -> bool:
        """Whether the bucket has a folder that a manifest describes."""
        return self.bucket.about(f"{self.name(folder)}/{MANIFEST}") is not None

    def list_folder(self, folder: Path) -> None:
        """Have the manifest of a folder here, and an empty file for each object that it does not name."""
        names = {item.name for item in self.bucket.names(self.name(folder))}
        manifest = folder / MANIFEST
        manifest.unlink(missing_ok=True)
        if self.name(manifest) not in names or not self.want(manifest):
            return
        with suppress(ValueError, KeyError, TypeError):
            listed = set(json.loads(manifest.read_bytes())["files"])
            for name in names - {self.name(manifest)}:
                if name.removeprefix(f"{self.name(folder)}/") not in listed:
                    write(self.path(name), b"")

    def changed(self, path: Path) -> float | None:
        """When an object was put, or the manifest of a folder (seconds since the epoch, by the store's clock)."""
        about = self.bucket.about(self.name(path / MANIFEST if path.is_dir() else path))
        return about.changed.timestamp() if about else None

    def pull_all(self, wanted: Callable[[About, Path], bool]) -> list[About]:
        """Have every object here that `wanted` says. Returns all there are."""
        found = [item for item in self.bucket.names() if not item.name.startswith("locks/")]
        self._bring([item for item in found if wanted(item, self.path(item.name))], most=0)
        return found

    def _bring(self, items: Sequence[About], *, most: int = SMALL) -> None:
        def bring(item: About) -> str:
            if most and item.size > most:
                return f"{item.size:,} bytes where at most {most:,} are expected"
            return self.bucket.fetch(item.name, self.path(item.name), size=item.size)

        for item, text in zip(items, self._each(bring, items), strict=True):
            if text and text != "missing":  # gone between listing and fetching
                raise VlawError(text, where=f"{self.bucket.address}/{item.name}", remedy="restore it from a backup")

    @staticmethod
    def _each(call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if len(items) < 2:
            return [call(item) for item in items]
        with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
            return list(pool.map(call, items))


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _form(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
