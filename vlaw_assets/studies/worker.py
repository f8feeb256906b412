"""A worker process of a study: runs the partitions that its parent names, one after the other.

Started by running.py with its options as JSON. Each line it reads names a partition; it answers with lines of JSON,
many {"progress": [asset, partition, done, total, text]} and one {"ended": {...}}. When its parent is gone, however that
ended, it ends at once: the lake and the next run bear that. It does not queue for Dagster's pools: how many partitions
run at a time is what the parent was told.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from vlaw_assets.pipeline.progress import Listener

ORPHANED = 3
PACE_S = 0.2
"""Least time between two lines about the same asset; its beginning and its end are always said."""


def main() -> None:
    options = json.loads(sys.argv[1])
    # Whatever else prints, prints to stderr: stdout is for the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()

    from vlaw_assets.definitions import build_defs
    from vlaw_assets.lake import Lake
    from vlaw_assets.pipeline import driver
    from vlaw_assets.pipeline.progress import listening
    from vlaw_assets.studies.definition import THREADS, find_member
    from vlaw_assets.studies.running import Place, run_slot
    from vlaw_models.threads import on_threads

    lake = Lake.open(options["lake"], create=False)
    place = Place(
        lake, options["recipes"], build_defs(lake=lake.paths.root, recipes=options["recipes"]), tuple(options["assets"])
    )
    folder = Path(options["recipes"]) if options["recipes"] else None
    say = _saying(answers)
    with driver.open_instance(pools=False) as instance, on_threads(THREADS), listening(_paced(say)):
        while True:
            order = orders.get()
            member = find_member(order["experiment"], folder)
            if member is None:
                raise LookupError(order["experiment"])  # the parent has it from the same files
            ended = run_slot(place, instance, member, order["iteration"], {"jobs": options["jobs"]})
            say({"ended": dataclasses.asdict(ended)})


def _paced(say: Callable[[dict[str, Any]], None]) -> Listener:
    from vlaw_assets.pipeline.progress import ENDINGS

    last = 0.0

    def tell(asset: str, partition: str, done: int, total: int, text: str) -> None:
        nonlocal last
        if total == 0 or text in ENDINGS or time.monotonic() - last >= PACE_S:
            last = time.monotonic()
            say({"progress": [asset, partition, done, total, text]})

    return tell


def _listen(orders: SimpleQueue[dict[str, Any]]) -> None:
    """Reads orders until the parent closes the pipe or dies; then nobody wants the rest."""
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(ORPHANED)


def _saying(answers: TextIO) -> Callable[[dict[str, Any]], None]:
    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value, default=str) + "\n")
        answers.flush()

    return say


if __name__ == "__main__":
    main()
