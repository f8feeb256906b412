"""Where and how torch computes: the device, bfloat16, and seeds that leave no trace.

Models are loaded onto the device that VLAW_DEVICE names, and what they compute follows them. Noise is drawn by
generators of the CPU and moved: a seed means the same on every device. What device an artifact was made on is noted in
the ledger; it is in no identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

import torch

from vlaw_models.errors import VlawError

VARIABLE = "VLAW_DEVICE"
AUTO = "auto"
RANK, LOCAL_RANK = "RANK", "LOCAL_RANK"
"""What a launcher of several processes (`accelerate launch`, torchrun) tells each: its number, and that on its
machine."""
AS_ON_A_GPU: ContextVar[bool] = ContextVar("AS_ON_A_GPU", default=False)
"""Whether `mixed` uses bfloat16 on any CPU: for planning, which computes nothing."""


def compute_device() -> torch.device:
    """The device that VLAW_DEVICE names ('cpu', 'cuda', 'cuda:1', 'mps'); 'auto', also if unset: CUDA, else the CPU.
    Of several processes on a machine each has its own GPU, unless one is named.

    Raises VlawError for a device that this machine does not have.
    """
    name = os.environ.get(VARIABLE) or AUTO
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and LOCAL_RANK in os.environ:
        name = f"cuda:{os.environ[LOCAL_RANK]}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise VlawError(f"{name!r} is no device", where=VARIABLE, remedy="Use auto, cpu, cuda or cuda:1.") from error
    if device.type not in devices_here() or (device.index or 0) >= devices_here()[device.type]:
        found = ", ".join(f"{count} of {kind!r}" for kind, count in devices_here().items())
        raise VlawError(
            f"there is no device {name!r} on this machine",
            where=VARIABLE,
            remedy=f"Set {VARIABLE}=auto for what there is ({found}), or mend the driver: torch.cuda.is_available() "
            "says whether torch sees a GPU.",
        )
    return device


def first_process() -> bool:
    """Whether this is the one process of several that writes; also where it is alone."""
    return os.environ.get(RANK, "0") == "0"


def devices_here() -> dict[str, int]:
    """Type -> number of devices of it that torch can use."""
    found = {"cpu": 1}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    return found


def mixed(device: torch.device | str, *, enabled: bool = True) -> AbstractContextManager[object]:
    """bfloat16 arithmetic on `device` where `enabled` and the device is quick at it; otherwise float32 as it is.

    Not what the weights are stored in. A CPU without instructions for bfloat16 is slower at it than at float32: three
    times with AVX-512, four with AVX2 (convolutions, one thread of a server core).
    """
    kind = torch.device(device).type
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    quick = kind != "cpu" or AS_ON_A_GPU.get() or cpu_is_quick()
    return torch.autocast(kind, torch.bfloat16, enabled=enabled and quick)


@cache
def cpu_is_quick() -> bool:
    """Whether this CPU multiplies bfloat16 itself. AVX-512 alone does not: there float32 is three times as quick."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block with torch's own generators seeded and puts them back afterwards.

    Dropout and the initialisers of torch and peft take no generator of their own; this keeps them reproducible
    without leaving a trace outside the block.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
