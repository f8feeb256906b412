"""Trainings in processes of their own, killed at any point: `python training_worker.py` with a plan in JSON on stdin.

The plan is a list of runs. Each run forks one process for each rank (nothing is imported again), kills them all once
one has died, and tells what became of it: the digest that every rank printed, or that it was killed. A run is

    {"kind": "mlp", "steps": 12, "folder": "...", "ranks": 2, "kill": null | {"rank": 0, "share": 0.3, "half": true}}

`share` is of the moments that this rank had in the first run (`Moments`: every step, and every operation of a
checkpoint's write). `half`: of a file that is written then, half is left. "weights" names a file for the first rank's
weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_trainings import KINDS

from vlaw_models.learners import resume
from vlaw_models.learners.resume import Checkpoints, newest

WATCHED = ((torch, "save"), (resume, "_sync"), (shutil, "rmtree"), (Path, "replace"), (Path, "rename"))
"""The operations of a checkpoint's write."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    torch.set_num_threads(1)
    first: list[Any] = []
    for run in json.load(sys.stdin):
        if kill := run.get("kill"):
            kill["at"] = max(1, round(kill["share"] * first[kill["rank"]]["moments"]))
        said = played(run)
        first = first or said
        sys.stdout.write(json.dumps(said) + "\n")


def played(run: dict[str, Any]) -> list[Any]:
    """What each rank said; None of one that was killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes, children = [], {}
    for rank in range(run["ranks"]):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _rank(run, rank, port, writer)
        os.close(writer)
        pipes.append(reader)
        children[child] = rank
    while children:
        ended, status = os.wait()
        children.pop(ended)
        if status:  # a launcher ends the others
            for other in children:
                os.kill(other, signal.SIGKILL)
    said = [os.read(reader, 1 << 20) for reader in pipes]
    for reader in pipes:
        os.close(reader)
    return [json.loads(text) if text else None for text in said]


def _rank(run: dict[str, Any], rank: int, port: int, writer: int) -> None:
    if run["ranks"] > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"WORLD_SIZE": str(run["ranks"]), "MASTER_PORT": str(port)}
    asked = run.get("kill")
    seen = Moments(asked if asked and asked["rank"] == rank else None)
    try:
        checkpoints = Checkpoints(Path(run["folder"])) if run.get("folder") else None
        options = run.get("options", {})
        losses, model = KINDS[run["kind"]](steps=run["steps"], checkpoints=checkpoints, progress=seen, **options)
        answer = {"losses": losses, "digest": digest(losses, model), "moments": seen.count, "rng": _rng()}
        if run.get("weights") and rank == 0:
            torch.save(model.state_dict(), run["weights"])
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    except BaseException:  # a forked child must not run its parent's code
        traceback.print_exc()
        os._exit(1)


def digest(losses: list[float], model: torch.nn.Module) -> str:
    """Of the loss of every step and of all weights, to the bit."""
    found = hashlib.sha256(json.dumps(losses).encode())
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def state(folder: Path) -> dict[str, Any]:
    """All that the last state of a training holds, process by process, with digests in place of tensors' values."""
    found = newest(folder)
    assert found is not None, f"no state in {folder}"
    return {path.stem: _plain(torch.load(path, weights_only=True)) for path in sorted(found.glob("process-*.pt"))}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        content = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _rng() -> str:
    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


class Moments:
    """Counts steps and the operations of a checkpoint's write; at one of them this process is killed."""

    def __init__(self, asked: dict[str, Any] | None):
        self.asked, self.count = asked, 0
        for owner, name in WATCHED:
            self._watch(owner, name)

    def __call__(self, *_said: Any) -> None:
        if self._passed():
            die()

    def _passed(self) -> bool:
        self.count += 1
        return self.asked is not None and self.count == self.asked["at"]

    def _watch(self, owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._passed():
                return real(*args, **kwargs)
            if name == "save" and self.asked["half"]:
                real(*args, **kwargs)
                os.truncate(args[1], os.path.getsize(args[1]) // 2)
            elif name == "rmtree" and self.asked["half"]:
                for path in sorted(Path(args[0]).iterdir())[:1]:
                    path.unlink()
            elif self.asked["half"]:
                real(*args, **kwargs)
            return die()

        setattr(owner, name, watched)


if __name__ == "__main__":
    main()
