"""Sample data for the lake's tests, and the process that those tests kill: `python lake_worker.py COMMAND LAKE ...`."""

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

import numpy as np

import vlaw_assets.lake
from vlaw_assets.lake import ArtifactRef, Draft, Identity, Lake, checkpoints, frames, seal, tables
from vlaw_models.episodes import Episode

PARTITION = "vlaw|01"


def sample_episodes(count: int = 3, *, seed: int = 0, steps: int = 4) -> list[Episode]:
    """Small episodes with noise for pixels, so that any mix-up or loss of a frame shows."""
    rng = np.random.default_rng(seed)
    return [
        Episode(
            task=("stack", "book")[index % 2],
            instruction=f"do {index}",
            seed=1000 + index,
            images=rng.integers(0, 256, (steps + 1, 3, 16, 24, 3), dtype=np.uint8),
            states=rng.random((steps + 1, 5), dtype=np.float32),
            actions=rng.random((steps, 4), dtype=np.float32),
            success=bool(index % 2),
            event="success" if index % 2 else "toppled",
            extra={"note": index},
        )
        for index in range(count)
    ]


def identity(kind: str, recipe: dict | None = None, parents: tuple[ArtifactRef, ...] = ()) -> Identity:
    recipe_json = json.dumps(recipe or {"seed": 0}, sort_keys=True)
    return Identity(kind, "code-1", recipe_json, tuple((ref.asset, ref.content_digest) for ref in parents))


def fill(draft: Draft, episodes: list[Episode] | None = None) -> None:
    """Write something of everything."""
    ids = draft.write_episodes(episodes or sample_episodes(), purpose="rollout", world="tabletop", policy="p0")
    draft.write_scores([{"episode_id": ids[0], "p_success": 0.25}])
    draft.write_members([{"episode_id": ids[0], "owner": draft.artifact_id, "weight": 1.0, "source": "real"}])
    draft.write_evaluations([{"task": "stack", "trials": 4, "successes": 1, "value": 0.25}])
    folder = draft.checkpoint_dir()
    (folder / "config.json").write_text('{"class": "Sample"}')
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "model.safetensors").write_bytes(bytes(range(256)) * 8)


def commit_all(lake: Lake, *, run_id: str = "run", partition: str = PARTITION, force: bool = False) -> ArtifactRef:
    """A parent and a child that reads it and writes something of everything. Returns the child's row."""
    with lake.commit(asset="base", identity=identity("base"), run_id=run_id) as draft:
        if draft.reused is None:
            draft.write_episodes(sample_episodes(1, seed=9), purpose="demonstration")
    parent = draft.ref
    child = identity("everything", {"seed": 1}, (parent,))
    with lake.commit(asset="all", partition=partition, identity=child, run_id=run_id, force=force) as draft:
        if draft.reused is None:
            draft.read(parent, role="start").episodes()
            fill(draft)
    return draft.ref


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
            made = identity("durable", {"number": number}, (base,))
            with lake.commit(asset="all", partition=f"durable|{number:02d}", identity=made, run_id="durable") as draft:
                draft.read(base, role="start").episodes()
                fill(draft, sample_episodes(2, seed=number))
                (draft.checkpoint_dir() / "number.json").write_text(str(number))
        (marks / "mark-end").mkdir(exist_ok=True)
        (marks / "mark-end").rmdir()


if __name__ == "__main__":
    main(*sys.argv[1:])
