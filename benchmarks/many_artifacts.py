"""What a lake of 10,000 artifacts costs whoever looks at it: fresh `vlaw` processes, verification, and Dagster's log.

    python benchmarks/many_artifacts.py [--artifacts 10000] [--runs 3] [--place DIR] [--keep]

Runs the recipe `smoke` for two iterations (a minute), then multiplies it: experiments e0001, e0002, ... each with a
recipe file of its own, whose artifacts have the identities that the stages of today give them, rows of the ledger and
edges of their own, and the data files of smoke. Every third experiment has the recipe of the one before, so its
artifacts are pointers; learners carry a loss curve of 500 steps, as real ones do. So nothing is stale, and all of it is
asked for. With --place an earlier --keep is used again.

Printed beside its limit: wall seconds of a fresh process (the first one finds no memory of this lake, the others do),
of verifying the ledger, and the bytes of Dagster's events of the smoke run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.limits import Limits, options

import vlaw_assets.definitions  # noqa: F401 (defines the stages that `ask` asks)
from vlaw_assets.assets.by_row import goes_by_row
from vlaw_assets.lake import Lake, seal
from vlaw_assets.lake.durable import canonical_json
from vlaw_assets.lake.paths import partition_folder
from vlaw_assets.lake.schemas import validated
from vlaw_assets.lake.upkeep.verify import verify_ledger
from vlaw_assets.partitions import split_partition
from vlaw_assets.rebuild.staleness import ask

ITERATIONS = 2
LOSSES = [0.123456789012345 + step / 1000 for step in range(500)]
PROCESS_S = 1.0
"""Wall seconds of a fresh process that answers from the ledger. Wanted: 0.6, which lakes of a few experiments keep."""
COMMANDS = {
    "vlaw audit policy": (("audit", "policy", "{experiment}", "2"), PROCESS_S),
    "vlaw audit policy --as-of": (("audit", "policy", "{experiment}", "2", "--as-of", "{experiment}/02"), PROCESS_S),
    "vlaw sql 'select 1'": (("sql", "select 1"), PROCESS_S),
    "vlaw quarantine": (("quarantine",), PROCESS_S),
    "vlaw status": (("status",), 3.0),
}
"""What is asked of a fresh process, and its limit in seconds."""
VERIFY_S, AGAIN_S = 6.0, 0.5
"""Verifying the ledger of 10,000 commits for the first time, and again."""
MEAN_EVENT, LARGEST_EVENT = 16 << 10, 32 << 10
"""Bytes of a materialization in Dagster's log."""


class Place:
    """A lake, its recipes and its Dagster home in one folder."""

    def __init__(self, root: Path):
        self.root, self.lake, self.recipes, self.home = root, root / "lake", root / "recipes", root / "dagster_home"
        self.cache = root / "cache"

    def vlaw(self, *words: str) -> float:
        """Wall seconds of a fresh process. Raises CalledProcessError."""
        environment = {
            **os.environ,
            "VLAW_LAKE": str(self.lake),
            "VLAW_RECIPES": str(self.recipes),
            "DAGSTER_HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
        }
        program = (
            "import sys; from vlaw_assets.cli import app; sys.argv[0] = 'vlaw'; app()"  # the script may not be on PATH
        )
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    def make(self) -> None:
        self.recipes.mkdir(parents=True)
        (self.recipes / "foundation.toml").write_text("demonstrations_per_task = 1\nco_training_per_task = 1\n")
        self.vlaw("run", "--experiment", "smoke", "--iterations", str(ITERATIONS))


def multiply(place: Place, count: int) -> None:
    """Fills the lake up to `count` artifacts. The ledger is sealed once, at the end."""
    lake = Lake.open(place.lake)
    templates = [
        lake.ledger.require(ref.asset, ref.partition)
        for ref in lake.ledger.artifacts()
        if ref.partition.startswith("smoke|")
    ]
    number = 0
    while len(lake.ledger.artifacts()) < count:
        number += 1
        name, seed = f"e{number:04d}", number - (number % 3 == 0)
        (place.recipes / f"{name}.toml").write_text(f'name = "{name}"\nextends = "smoke"\nseed = {seed}\n')
        for template in templates:
            _copy(lake, place, template, f"{name}|{split_partition(template.partition)[1]:02d}")
        if number % 25 == 0:
            print(f"{len(lake.ledger.artifacts()):,} artifacts", flush=True)
    seal.extend(lake.paths)


def _copy(lake: Lake, place: Place, template: Any, partition: str) -> None:
    """What its stage would commit for the partition now, on the data of the template."""
    answer = ask(lake, template.asset, partition, recipes=place.recipes)
    found, owner, artifact_id = lake.ledger.find(answer.identity), lake.ledger.get(template.owner), uuid.uuid4().hex
    experiment, iteration = split_partition(partition)
    named = {
        "artifact_id": artifact_id,
        "asset": template.asset,
        "partition": partition,
        "partition_key": partition_folder(partition),
        "experiment": experiment,
        "iteration": iteration,
        "created_at": datetime.now(UTC),
        "run_id": f"run-{partition}",
    }
    if found is not None:
        row = found.to_row() | named | {"source_artifact_id": found.artifact_id}
    else:
        identity, versions = answer.identity, dict(owner.versions)
        shared = {key: named[key] for key in ("artifact_id", "asset", "partition_key", "experiment", "iteration")}
        edges = [
            shared
            | {
                "parent_id": ref.owner,
                "role": role,
                "read_as": ref.artifact_id,
                "selection": "all",
                "selection_id": "",
                "scope": "rows" if goes_by_row(template.asset, role) else "whole",
            }
            for role, ref in answer.parents.items()
        ]
        if edges:
            versions["edges"] = lake.tables.append(
                "edges", validated("edges", edges, where=partition), artifact_id=artifact_id
            )
        content = hashlib.sha256(identity.digest.encode()).hexdigest()
        learned = {"losses": LOSSES} if "losses" in owner.metrics else {}
        contents = json.loads(owner.contents_json)
        if "reads" in contents:
            contents["reads"] = [
                read | {"parent": answer.parents[read["role"]].owner}
                for read in contents["reads"]
                if read["role"] in answer.parents
            ]
        row = (
            owner.to_row()
            | named
            | {
                "content_digest": content,
                "identity_digest": identity.digest,
                "recipe_digest": identity.recipe_digest,
                "recipe_json": identity.recipe,
                "parents_digest": identity.parents_digest,
                "source_artifact_id": "",
                "location": f"checkpoints/{content}" if owner.location else "",
                "versions_json": canonical_json(versions),
                "metrics_json": canonical_json(owner.metrics | learned),
                "contents_json": canonical_json(contents),
            }
        )
    lake.tables.write("artifacts", validated("artifacts", [row], where=partition), artifact_id=artifact_id)


def events(home: Path) -> list[int]:
    """Bytes of every materialization in Dagster's log."""
    with closing(sqlite3.connect(home / "history" / "runs" / "index.db")) as log:
        return [
            size
            for (size,) in log.execute(
                "SELECT length(event) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
            )
        ]


class Report:
    """Figures beside their limits."""

    def __init__(self) -> None:
        self.limits = Limits()

    def line(self, name: str, value: float, limit: float, first: float | None = None) -> None:
        again = f" (first: {first:,.2f})" if first is not None else ""
        print(f"{name:44s} {value:10,.2f}   limit {limit:9,.2f}{again}", flush=True)
        self.limits.at_most(name, value, limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--keep", action="store_true")
    arguments = options(parser, artifacts=500)
    root = arguments.place or Path(tempfile.mkdtemp(prefix="vlaw-many-"))
    place, report = Place(root), Report()
    try:
        if not place.lake.exists():
            place.make()
        multiply(place, arguments.artifacts)
        shutil.rmtree(place.cache, ignore_errors=True)
        lake = Lake.open(place.lake)
        last = lake.ledger.artifacts()[-1].partition.partition("|")[0]
        print(
            f"\n{len(lake.ledger.artifacts()):,} artifacts, "
            f"{sum(bool(r.source_artifact_id) for r in lake.ledger.artifacts()):,} "
            f"of them pointers\n\nseconds, median of {arguments.runs}"
        )
        for name, (words, limit) in COMMANDS.items():
            asked = [word.format(experiment=last) for word in words]
            first = place.vlaw(*asked)
            report.line(name, statistics.median(place.vlaw(*asked) for _ in range(arguments.runs)), limit, first)
        os.environ["XDG_CACHE_HOME"] = str(place.cache)
        for name, limit in (("verify the ledger", VERIFY_S), ("verify the ledger again", AGAIN_S)):
            begun = time.perf_counter()
            problems = verify_ledger(Lake.open(place.lake))
            report.line(name, time.perf_counter() - begun, limit)
            assert not problems, problems[:3]
        sizes = events(place.home)
        print(f"\nbytes of a materialization in Dagster's log, of {len(sizes)}")
        report.line("mean", statistics.mean(sizes), MEAN_EVENT)
        report.line("largest", max(sizes), LARGEST_EVENT)
    finally:
        if not (arguments.keep or arguments.place):
            shutil.rmtree(root, ignore_errors=True)
    return report.limits.status()


if __name__ == "__main__":
    sys.exit(main())
