"""The process that tests kill while it empties an inbox: `python inbox_worker.py ROOT`, where an `inbox_lab.Lab` lies.

It imports everything once. Each line on its input begins a child that empties the inbox; it answers with the child's
number, and with how the child ended.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lance  # noqa: F401  (loaded before the fork, used after it)
import recorded_dataset  # noqa: F401  (the robot)

from vlaw_assets import definitions  # noqa: F401  (defines the stages)
from vlaw_assets.inbox.folder import Inbox
from vlaw_assets.inbox.take import take_in
from vlaw_assets.lake import Lake
from vlaw_assets.pipeline.resources import Workplace


def empty(root: Path) -> int:
    lake = Lake.open(root / "lake", create=False)
    inbox = Inbox.open("", lake.paths.root, create=True)
    workplace = Workplace(lake=str(lake.paths.root), recipes=str(root / "recipes"))
    report = take_in(lake, workplace, inbox, run_id=f"process-{os.getpid()}", wait_s=60.0)
    wrong = [*report.refused, *report.left]
    if wrong or report.stopped:
        sys.stderr.write(f"{wrong[:3]} {report.stopped}\n")
    return 3 if wrong or report.stopped else 0


def main(root: Path) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = empty(root)
            finally:
                os._exit(status)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
