"""FSDP 2 by accelerate's environment on processes of the CPU (gloo): `python sharded_worker.py KIND FOLDER`, once for
each rank. accelerate shards on GPUs only, so it is told that these are some; nothing else is changed.

Prints the losses and digests of a training, of one in micro-batches with activations computed twice, and of one that
goes on from a state of the first.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}

import torch
from accelerate import Accelerator
from accelerate.state import DistributedType, PartialState
from small_trainings import KINDS
from torch.distributed.fsdp import FSDPModule
from training_worker import digest

from vlaw_models.learners import loop
from vlaw_models.learners.resume import EVERY, Checkpoints

STEPS, AT = 3, 2


def pretend() -> None:
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)  # noqa: SLF001
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    loop.Accelerator = lambda **given: Accelerator(**{**given, "cpu": False})


def main(kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    pretend()
    os.environ[EVERY] = "1"
    train, copied = KINDS[kind], folder / "copied"
    own = {"dropout": 0.0} if kind == "mlp" else {}
    sharded: list[int] = []
    prepare = Accelerator.prepare

    def prepared(self, *given):
        found = prepare(self, *given)
        sharded.append(sum(isinstance(module, FSDPModule) for module in found[0].modules()))
        return found

    Accelerator.prepare = prepared

    def seen(losses: Sequence[float]) -> None:
        if len(losses) == AT:
            shutil.copytree(folder / "state", copied)

    whole = train(steps=STEPS, checkpoints=Checkpoints(folder / "state", seen=seen), **own)
    torch.distributed.barrier()
    again = train(steps=STEPS, checkpoints=Checkpoints(copied), **own)
    parts = whole if kind == "mlp" else train(steps=STEPS, micro_batch=2, recompute=True)
    said = {"sharded": sharded, "whole": digest(*whole), "again": digest(*again)}
    sys.stdout.write(json.dumps({**said, "losses": whole[0], "in_parts": parts[0]}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
