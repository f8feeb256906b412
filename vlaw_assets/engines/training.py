"""A training that several processes share (`accelerate launch`; on CPUs torchrun), started in a worker of the engine.

    staging-<random>/job.json         whose training, of which identity
                     progress.json    how far it is, and its losses
                     checkpoint/      what was trained
                     made.json        comes last: sha256 of each of its files, and what the training returned

Each process plans the stage again. What it would make must be what the run has claimed, so that all learn from the
same; it reads the lake, and writes into the staging folder and the training's state only (resume.py: a training that
was interrupted goes on there). The run takes the files once their bytes are those that were listed, and commits.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.assets.making import STAGES
from vlaw_assets.assets.stage import Stage
from vlaw_assets.assets.work import Work
from vlaw_assets.engines import files
from vlaw_assets.engines.elsewhere import AGAIN, BEGUN, ENDING_S, JOB, Call, Engine, failed
from vlaw_assets.engines.settings import ENGINES, Settings, read_settings
from vlaw_assets.pipeline.resources import Workplace
from vlaw_models.device import compute_device, first_process
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Draft

MODULE = "vlaw_assets.engines.training"
TRAINING, CHECKPOINT, MADE, PROGRESS = "training", "checkpoint", "made.json", "progress.json"
TELL_S = 1.0
"""How often a training tells how far it is."""

Train = Callable[[], dict[str, Any]]
"""Trains, saves into the draft's checkpoint folder, and returns what is to be said of it."""


def trained(stage: Stage, work: Work, train: Train) -> dict[str, Any]:
    """What a training returns: of this process, or of those that the engine's table [training] asks for; their
    checkpoint is in the draft then.

    Raises VlawError where one of them fails or hangs: then nothing of the stage is committed.
    """
    chosen = read_settings(stage.workplace.engine)
    if chosen.training is None:
        return train()
    engine: Engine = ENGINES.load(chosen.engine, where=chosen.where)(chosen.for_training())
    engine.check()
    place = stage.lake.paths.training / work.draft.identity.digest
    for left in place.glob("staging-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    call = Call(place / f"staging-{secrets.token_hex(6)}", [0])
    call.folder.mkdir(parents=True)
    job = {
        TRAINING: {**chosen.training},
        "lake": str(stage.lake.paths.root),
        "recipes": str(stage.workplace.recipes_folder or ""),
        "asset": stage.asset,
        "partition": stage.partition,
        "force": stage.force,
        "identity": work.draft.identity.digest,
        "threads": chosen.threads,
    }
    files.replace(call.folder / JOB, json.dumps(job, indent=1))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.run, stage.context, call)
        try:
            _watch(stage, call, running, chosen, queues=engine.queues)
        finally:
            call.stop.set()
    found = _take(call.folder, work.draft.checkpoint_dir(), chosen.training["processes"])
    shutil.rmtree(call.folder, ignore_errors=True)
    work.metrics["engine"] = {"engine": chosen.engine, "processes": found["processes"]}
    work.made_with = found["made_with"]
    log: dict[str, Any] = found["log"]
    return log


def _watch(stage: Stage, call: Call, running: Future[None], chosen: Settings, *, queues: bool) -> None:
    """Until the training has ended well, telling how far it is. Raises VlawError where it has not, or hangs."""
    told = ""
    while not (call.folder / MADE).exists():
        if running.done() and not (call.folder / MADE).exists():
            raise failed(call, running, "the training")
        said = ""
        with suppress(OSError):
            said = (call.folder / PROGRESS).read_text(encoding="utf-8")
        if said != told or (queues and not (call.folder / BEGUN).exists()):
            told, call.seen = said, time.monotonic()
            if said:
                found = json.loads(said)
                stage.progress(found["done"], found["total"], found["text"])
                if stage.grown is not None and found["losses"]:
                    stage.grown(found["losses"])
        if time.monotonic() - call.seen > chosen.limit_s:
            raise VlawError(
                f"the training has hung: no step for {chosen.limit_s:g} s",
                where=f"{stage.asset}, engine {chosen.engine!r}",
                remedy=f"{AGAIN} If it needs that long, raise limit_s in the file that VLAW_ENGINE names.",
            )
        time.sleep(TELL_S / 4)
    with suppress(TimeoutError):
        running.exception(timeout=ENDING_S)  # so that they end by themselves


def _take(folder: Path, checkpoint: Path, processes: int) -> dict[str, Any]:
    """Moves the files that were listed into the draft. Raises VlawError where their bytes are others, or others than
    the processes asked for made them."""
    found: dict[str, Any] = json.loads((folder / MADE).read_text(encoding="utf-8"))
    if found["processes"] != processes:
        raise VlawError(
            f"the training was made by {found['processes']} processes instead of {processes}",
            where=str(folder),
            remedy="Mend [training] arguments in the file that VLAW_ENGINE names, so that so many start.",
        )
    here = files.listing(folder / CHECKPOINT)
    if odd := sorted({*here.items()} ^ {*found["files"].items()}):
        raise VlawError(
            f"the file {odd[0][0]} of a training has another sha256 than was listed",
            where=str(folder),
            remedy=f"{AGAIN} If it comes back, look at the disk that workers share.",
        )
    shutil.copytree(folder / CHECKPOINT, checkpoint, dirs_exist_ok=True)
    return found


def launch(folder: Path, job: Mapping[str, Any]) -> None:
    """In the worker: starts the processes and waits for them. Raises SystemExit where they fail."""
    asked = job[TRAINING]
    # On CPUs `accelerate launch` starts one process, or mpirun; torchrun, by which it starts them on GPUs, does both.
    by_accelerate, by_torch = "accelerate.commands.launch --num_processes", "torch.distributed.run --nproc-per-node"
    start = by_torch if compute_device().type == "cpu" else by_accelerate
    command = ["-m", *start.split(), str(asked["processes"]), *asked["arguments"], "-m", MODULE, str(folder)]
    if status := subprocess.run([sys.executable, *command], check=False).returncode:
        raise SystemExit(status)


class _Trained(Exception):  # noqa: N818
    """The training is over; the run does the rest of the stage."""

    def __init__(self, log: dict[str, Any]):
        self.log = log


@dataclass
class _Shared(Stage):
    """A stage up to the end of its training, in one of the processes that share it."""

    folder: Path = Path()
    told: float = 0.0
    far: tuple[int, int, str] = (0, 0, "")

    def train(self, work: Work, function: Callable[..., dict[str, Any]], *given: Any, **named: Any) -> dict[str, Any]:
        log = function(*given, **named)
        if first_process() and work.draft.checkpoint is not None:
            shutil.copytree(work.draft.checkpoint, self.folder / CHECKPOINT)
        raise _Trained(log)

    def tell(self, done: int, total: int, text: str) -> None:
        self.far = done, total, text
        if time.monotonic() - self.told >= TELL_S:
            self.say(())

    def say(self, losses: Sequence[float]) -> None:
        if first_process():
            self.told = time.monotonic()
            done, total, text = self.far
            told = {"done": done, "total": total, "text": text, "losses": list(losses)}
            files.replace(self.folder / PROGRESS, json.dumps(told))


def share(folder: Path) -> None:
    """In each process: its part of the training. Raises VlawError where it would make something else."""
    from vlaw_assets import definitions  # noqa: F401 (defines the stages)
    from vlaw_assets.lake.draft import Draft
    from vlaw_assets.pipeline.code_identity import code_revision, made_with

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    if job["threads"]:
        import torch

        torch.set_num_threads(job["threads"])
    place = Workplace(job["lake"], job["recipes"])
    asset, partition, force = job["asset"], job["partition"], job["force"]
    stage = _Shared(place.open_lake(), place, asset, partition, force=force, folder=folder)
    stage.progress, stage.grown = stage.tell, stage.say
    plan = STAGES[asset].plan(stage)
    identity, _ = stage.identity(plan)
    if identity.digest != job["identity"]:
        raise VlawError(
            f"a process of the training would make {identity.digest[:12]} instead of {job['identity'][:12]}",
            where=f"{asset} [{partition}], {os.uname().nodename}",
            remedy="Install the same revision of vlaw where workers run, and change nothing of the lake meanwhile.",
        )
    draft: Draft = Draft(
        stage.lake, asset=asset, partition=partition, identity=identity, run_id="", force=True,
        code_revision=code_revision(),
    )  # fmt: skip
    try:
        STAGES[asset].make(stage, plan, Work(draft, plan.parents))
    except _Trained as done:
        if first_process():
            made = {
                "files": files.listing(folder / CHECKPOINT),
                "log": done.log,
                "made_with": made_with(),
                "processes": int(os.environ.get("WORLD_SIZE", "1")),
            }
            files.replace(folder / MADE, json.dumps(made))
    finally:
        draft.discard()


def main() -> None:
    """One of the processes. It ends with the launcher that started it."""
    from vlaw_assets.engines.worker import end_with_parent, told

    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    folder = Path(sys.argv[1])
    with told(folder):
        share(folder)


if __name__ == "__main__":
    main()
