"""What collecting garbage does otherwise where a lake is objects of a bucket (see garbage.py).

The folder at hand lacks what this host has not read, so orphans are listed and fetched; and whatever takes rows out of
a table is one more version of it, whose number another host may take first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from vlaw_assets.lake import deltalog, replica
from vlaw_assets.lake.lance_table import commit, settled_hint
from vlaw_assets.lake.lease import MOST_S, Lease
from vlaw_assets.lake.objects import About
from vlaw_assets.lake.paths import Paths


def at_work(copy: replica.Replica, *, but: Path) -> list[float]:
    """When each lease that somebody holds was taken, but for one (seconds since the epoch, by the store's clock)."""
    now, own = copy.bucket.now(), copy.lease(but).name
    names = [
        item.name
        for item in copy.bucket.names("locks")
        if item.name.endswith(".lease") and item.name != own and (now - item.changed).total_seconds() <= MOST_S
    ]
    found = (Lease(copy.bucket, name).held_since() for name in names)
    return [since for since in found if since is not None]


def bring(copy: replica.Replica, paths: Paths, named: set[Path], limit: float) -> None:
    """Of a lake in a bucket: have here what is not `named` and old enough, and what logs and versions say."""
    needed = {copy.name(path) for path in named}
    books = re.compile(r"delta/\w+/_delta_log/\d+\.json|lance/.*/(_refs/tags/[^/]+\.json|_deletions/[^/]+)")
    data = re.compile(r"delta/(?!.*/_delta_log/).+\.parquet|lance/.+/data/[^/]+\.lance|(checkpoints|pictures)/.+")

    def wanted(item: About, path: Path) -> bool:
        if path.exists():
            return False
        is_named = item.name in needed or "/".join(item.name.split("/")[:2]) in needed
        old = item.changed.timestamp() < limit
        return bool(books.fullmatch(item.name) or (data.fullmatch(item.name) and not is_named and old))

    ages: dict[Path, float] = {}
    for item in copy.pull_all(wanted):
        if item.name.startswith(("checkpoints/", "pictures/")):
            path = paths.root.joinpath(*item.name.split("/")[:2])
            ages[path] = max(ages.get(path, 0.0), item.changed.timestamp())
    for path, age in ages.items():
        if path.exists():
            os.utime(path, (age, age))
    for uri in paths.lance_tables:
        copy.pull_table(uri)


def delete_rows(copy: replica.Replica, table: Path, condition: str, delete: Callable[[Path, str], None]) -> None:
    """Take rows out of a Delta table, on the log as the bucket has it; again, where another host's commit has taken the
    version."""
    with copy.alone():
        while True:
            copy.pull_log(table, now=True)
            before = deltalog.newest(table)
            delete(table, condition)
            entry = deltalog.entry_path(table, before + 1)
            if not entry.exists():
                return  # no rows of it
            try:
                copy.publish(deltalog.read_entry(table, before + 1).added)
                copy.create(entry)
                return
            except FileExistsError:
                entry.unlink()
            except BaseException:
                entry.unlink(missing_ok=True)  # nobody else has this version
                raise


def drop_fragments(copy: replica.Replica, uri: Path, files: set[str], tags: list[str]) -> None:
    """`forget_frames` in a bucket: whole fragments of orphans leave the table by name, since to look for their rows
    would fetch everybody's. (A fragment is of one artifact: such a lake is not compacted.)"""
    import lance

    copy.pull_table(uri)
    dataset = lance.dataset(str(uri))
    fragments = [(item.fragment_id, {file.path for file in item.metadata.files}) for item in dataset.get_fragments()]
    dead = [number for number, own in fragments if own <= files]
    if dead:
        commit(uri, lance.LanceOperation.Delete([], dead, "true"), message="vlaw gc")
        copy.publish([settled_hint(uri)])
    for tag in tags:
        dataset.tags.delete(tag)
        copy.forget(uri / "_refs" / "tags" / f"{tag}.json")
