"""The process that the lake's tests kill: `python lake_worker.py COMMAND LAKE ...`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

from factories import PARTITION, commit_all, fill, identity, sample_episodes

import vlaw_assets.lake
from vlaw_assets.lake import Lake, checkpoints, frames, seal, tables
from vlaw_assets.lake.labels import label_episodes

WRITES = [
    (frames.FrameWriter, "write"),
    (frames.FrameWriter, "commit"),
    (checkpoints, "store"),
    (tables.Tables, "write"),
    (seal, "extend"),
]
"""Every place where a commit touches the disk."""


def watch_writes(kill_at: int) -> list[str]:
    """Count writes; before the one numbered 2k and after it (2k+1), SIGKILL this process if that is `kill_at`."""
    seen: list[str] = []

    def boundary(name: str) -> None:
        seen.append(name)
        if len(seen) - 1 == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(holder: object, name: str) -> None:
        original = getattr(holder, name)

        def wrapped(*args, **kwargs):
            label = f"{name}:{args[1]}" if name == "write" and isinstance(args[1], str) else name
            boundary(f"before {label}")
            result = original(*args, **kwargs)
            boundary(f"after {label}")
            return result

        setattr(holder, name, wrapped)

    for holder, name in WRITES:
        wrap(holder, name)
    return seen


def main(command: str, path: str, *args: str) -> None:
    lake = Lake.open(path)
    if command == "killed":
        seen = watch_writes(int(args[0]))
        commit_all(lake, run_id="killed")
        Path(args[1]).write_text(json.dumps(seen))
    elif command == "label":
        seen = watch_writes(int(args[0]))
        label_episodes(lake, [(name, "failure", "ann", "killed") for name in args[2:]])
        Path(args[1]).write_text(json.dumps(seen))
    elif command == "hold":
        with lake.commit(asset="all", partition=PARTITION, identity=identity("held"), run_id="holder") as draft:
            (draft.checkpoint_dir() / "config.json").write_text("{}")
            Path(args[0]).write_text("holding")
            time.sleep(60)
    elif command == "commits":
        for number in range(int(args[1])):
            with lake.commit(
                asset="all", partition=args[0], identity=identity("all", {"n": number, "p": args[0]}), run_id=args[0]
            ) as draft:
                fill(draft, sample_episodes(2, seed=number))
    elif command == "durable":
        commit_without_flushes(lake, Path(args[0]), args[1:])


def commit_without_flushes(lake: Lake, marks: Path, removed: Sequence[str]) -> None:
    """One commit of everything for each name in `removed`, which does nothing meanwhile; folders mark begin and end.

    The first name is 'nothing'. A partition of its own each: all its files are new.
    """
    commit_all(lake)
    base = lake.ledger.require("base")
    for number, name in enumerate(removed):
        holder, _, attribute = name.partition(".")
        place = os if holder == "os" else getattr(vlaw_assets.lake, holder, None)
        patch = mock.patch.object(place, attribute) if attribute else nullcontext()
        (marks / f"mark-{name}").mkdir()
        with patch:
            made = identity("durable", {"number": number}, {"start": base})
            with lake.commit(asset="all", partition=f"durable|{number:02d}", identity=made, run_id="durable") as draft:
                draft.read(base, role="start").episodes()
                fill(draft, sample_episodes(2, seed=number))
                (draft.checkpoint_dir() / "number.json").write_text(str(number))
        (marks / "mark-end").mkdir(exist_ok=True)
        (marks / "mark-end").rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
