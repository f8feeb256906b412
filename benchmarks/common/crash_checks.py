"""What must hold after a kill: the invariants of `crashes.py`, and the reader that watches while it happens."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError

INVARIANTS = {
    "I1": "every ledger row resolves, all hashes match",
    "I2": "no reader ever saw a partition half new",
    "I3": "what was committed before is still there",
    "I4": "run again: the same content, nothing twice",
    "I5": "gc finds the orphans and only orphans",
    "I6": "both ends of every edge exist",
    "I7": "Dagster equals the ledger after reconcile",
    "I8": "recovers by itself within 60 s",
    "I9": "the kill shows: the run is marked as failed",
    "I10": "no temporary files after gc",
}
RECOVERY_S = 60.0


def reader(place: Path, asset: str, partition: str, stop: int, ready: int) -> dict[str, Any]:
    """Polls until the pipe `stop` closes: every artifact that can be seen is whole, at the moment it is seen."""
    from vlaw_assets.lake import Lake
    from vlaw_assets.query import connect

    lake, known, polls, found = Lake.open(place / "lake", create=False), set(), 0, []
    os.set_blocking(stop, False)
    over = False
    while not over:
        begun = time.process_time()
        try:
            over = os.read(stop, 1) == b""
        except BlockingIOError:
            over = False
        for ref in lake.ledger.artifacts():
            if ref.artifact_id in known:
                continue
            known.add(ref.artifact_id)
            if polls:
                found += [f"{ref.name}: {text}" for text in whole(lake, ref)]
        current = lake.ledger.current(asset, partition)
        if current is not None and current.artifact_id not in known:
            found.append(f"{current.name} names {current.artifact_id}, which the ledger does not have")
        if polls % 16 == 0 or over:
            with connect(lake) as query:
                rows = dict(query.execute("select artifact_id, count(*) from episodes group by 1").fetchall())
            expected = {
                ref.artifact_id: ref.versions["episodes"]["rows"]
                for ref in lake.ledger.artifacts()
                if "episodes" in ref.versions and not ref.source_artifact_id
            }
            found += [
                f"{name}: {count} episodes in SQL, {expected.get(name)} in the ledger"
                for name, count in rows.items()
                if expected.get(name) != count
            ]
        if not polls:
            os.write(ready, b"x")
        polls += 1
        time.sleep(max(0.05, 4 * (time.process_time() - begun)))  # the processor is the victim's
    return {"polls": polls, "found": found}


def whole(lake: Any, *refs: Any) -> list[str]:
    """What is missing or wrong of artifacts: files, log entries, rows, counts, edges, checkpoint."""
    from vlaw_assets.lake.upkeep.verify import verify

    return [str(problem) for problem in verify(lake, refs)]


def files_of(lake: Path) -> set[str]:
    """Data files, checkpoints and pictures that are there, as gc counts them."""
    found = {
        path.relative_to(lake).as_posix()
        for table in (lake / "delta").iterdir()
        if table.name != "artifacts"
        for path in table.rglob("*.parquet")
        if "_delta_log" not in path.parts
    }
    found |= {path.relative_to(lake).as_posix() for path in (lake / "lance").glob("**/data/*.lance")}
    found |= {path.relative_to(lake).as_posix() for path in (lake / "pictures").glob("[!.]*")}
    return found | {path.relative_to(lake).as_posix() for path in (lake / "checkpoints").iterdir()}


USUAL = re.compile(
    r"delta/\w+/_delta_log/(\d{20}\.json|_last_checkpoint)|delta/\w+/_checkpoints\.json|pictures/[0-9a-f]{64}\.(png|html)|lance/.+/(_versions/(\d+\.manifest|latest_version_hint\.json)|_transactions/[^/]+\.txn"
    r"|_refs/.+\.json|_indices/.+|_deletions/.+)|locks/[^/]+\.lock|FORMAT\.json|ledger\.\w+"
)
"""Bookkeeping of Delta, Lance and the lake, whose names are final; a file of another name is a leftover."""


def examine(
    place: Path, defs: Any, make: Callable[[bool], str], before: dict[str, Any], asset: str, digest: str, *, force: bool
) -> dict[str, Any]:
    """Recovers as a user would, and holds everything against the invariants.

    Args:
        make: materializes the asset again (with force), returns its content digest.
        before: {"artifacts": ids in the ledger, "files": data files} before the kill.

    Returns {"visible", "mirrored", "orphans", "violations": {invariant: [lines]}}.
    """
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline import comparison, driver, liveness, reconcile

    broken: dict[str, list[str]] = {name: [] for name in INVARIANTS}
    begun = time.monotonic()
    lake = Lake.open(place / "lake")
    refs = lake.ledger.artifacts()
    count = len(before["artifacts"])
    if [ref.artifact_id for ref in refs[:count]] != before["artifacts"]:
        broken["I3"].append("the ledger does not begin with what it had")
    visible = len(refs) > count
    if [ref.asset for ref in refs[count:]] not in ([], [asset]):
        broken["I4"].append(f"the ledger got {[ref.name for ref in refs[count:]]}")
    with driver.open_instance() as instance:
        liveness.close_dead_runs(instance)
        if instance.get_runs(comparison.active_runs()):
            broken["I9"].append("a killed run is still shown as started")
        found, _ = reconcile.repair(lake, instance, defs)
        if not {ref.artifact_id for ref in found.to_report} <= {ref.artifact_id for ref in refs[count:]}:
            broken["I7"].append(f"reported {[ref.name for ref in found.to_report]}")
        broken["I7"] += _out_of_line(comparison.compare(lake, instance, defs), "after reconcile")
    recovered = time.monotonic() - begun

    broken["I1"] += whole(lake, *refs) + _seal(lake)
    broken["I6"] += [line for ref in refs for line in _edges(lake, ref)]
    orphans = files_of(lake.paths.root) - set(before["files"]) - _named(lake, refs)
    broken["I5"] += _collected(lake, orphans)

    begun = time.monotonic()
    again = make(force and not visible)
    recovered += time.monotonic() - begun
    if recovered > RECOVERY_S:
        broken["I8"].append(f"{recovered:.0f} s")
    refs = lake.ledger.artifacts()
    if again != digest:
        broken["I4"].append(f"content {again} instead of {digest}")
    if len(refs) != count + 1:
        broken["I4"].append(f"{len(refs) - count} artifacts instead of 1")
    broken["I4"] += _twice(lake)
    broken["I1"] += whole(lake, refs[-1]) + _seal(lake)
    with driver.open_instance() as instance:
        broken["I7"] += _out_of_line(comparison.compare(lake, instance, defs), "after the run")
    broken["I5"] += _collected(lake, orphans - _named(lake, refs))
    broken["I10"] += _leftovers(lake)
    broken["I1"] += whole(lake, *refs)
    return {
        "visible": visible,
        "mirrored": visible and not found.missing,
        "orphans": len(orphans),
        "violations": {name: lines for name, lines in broken.items() if lines},
    }


def glance(place: Path, before: dict[str, Any], asset: str) -> dict[str, Any]:
    """What can be said without recovering: what was there is there, and what is new is whole."""
    from vlaw_assets.lake import Lake

    lake = Lake.open(place / "lake", create=False)
    refs = lake.ledger.artifacts()
    count = len(before["artifacts"])
    broken: dict[str, list[str]] = {"I1": _seal(lake), "I3": [], "I4": [], "I6": []}
    if [ref.artifact_id for ref in refs[:count]] != before["artifacts"]:
        broken["I3"].append("the ledger does not begin with what it had")
    if [ref.asset for ref in refs[count:]] not in ([], [asset]):
        broken["I4"].append(f"the ledger got {[ref.name for ref in refs[count:]]}")
    for ref in refs:
        broken["I1"] += whole(lake, ref) if ref.asset == asset else []
        broken["I6"] += _edges(lake, ref)
    return {"visible": len(refs) > count, "violations": {name: lines for name, lines in broken.items() if lines}}


def _edges(lake: Any, ref: Any) -> list[str]:
    try:
        lake.ledger.edges(ref.artifact_id)
    except VlawError as error:
        return [f"{ref.name}: {error}"]
    return []


def _seal(lake: Any) -> list[str]:
    """Damage of the ledger itself. A tail that is not sealed yet is none."""
    from vlaw_assets.lake.upkeep.verify import verify_ledger

    return [str(problem) for problem in verify_ledger(lake) if "not sealed yet" not in problem.text]


def _out_of_line(found: Any, when: str) -> list[str]:
    return [] if found.in_line else [f"{when}: {[ref.name for ref in found.to_report]}"]


def _named(lake: Any, refs: list[Any]) -> set[str]:
    """Data files, checkpoints and pictures that the ledger names."""
    from vlaw_assets.lake.pictures import files

    return (
        {lake.paths.relative(path) for ref in refs for path in files(lake.paths, ref)}
        | {file["path"] for ref in refs for entry in ref.versions.values() for file in entry["files"]}
        | {ref.location for ref in refs if ref.location}
    )


def _collected(lake: Any, orphans: set[str]) -> list[str]:
    """How the dry run of gc differs from what must be garbage: new files that no row names."""
    from vlaw_assets.lake.upkeep.garbage import find_garbage

    found = {
        item.path.relative_to(lake.paths.root).as_posix()
        for item in find_garbage(lake, older_than_s=0)
        if item.kind != "temporary"
    }
    return [
        *(f"gc misses {path}" for path in sorted(orphans - found)),
        *(f"gc would take {path}" for path in sorted(found - orphans)),
    ]


def _twice(lake: Any) -> list[str]:
    from vlaw_assets.query import connect

    with connect(lake) as query:
        rows = query.execute(
            "select artifact_id, count(*), count(distinct episode_id) from episodes group by 1 "
            "having count(*) <> count(distinct episode_id)"
        ).fetchall()
    return [
        f"episodes of {artifact} are there twice ({count} rows, {distinct} ids)" for artifact, count, distinct in rows
    ]


def _leftovers(lake: Any) -> list[str]:
    """What gc leaves of a killed run."""
    from vlaw_assets.lake.upkeep.garbage import collect, find_garbage

    root = lake.paths.root
    collect(lake, older_than_s=0)
    again = [f"gc leaves {item.path.relative_to(root)}" for item in find_garbage(lake, older_than_s=0)]
    data = files_of(root)
    files = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return again + [
        path
        for path in files
        if path not in data
        and not path.startswith("checkpoints/")
        and not path.endswith(".parquet")
        and not USUAL.fullmatch(path)
    ]
