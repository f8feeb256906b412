"""How many CPU threads torch computes on, and how many processes read its batches.

Threads are part of what a result depends on, since sums are split between them; processes that read are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlaw_models.errors import VlawError

WORKERS = "VLAW_WORKERS"
MOST = 4
"""Processes that read for a GPU where nobody says how many."""


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Computes on `count` CPU threads and leaves the setting as it was."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def workers(device: str) -> int:
    """How many processes read the batches of a training: what VLAW_WORKERS says. Without it none on a CPU, whose cores
    all train; for a GPU one per core but the first, at most MOST.

    Raises VlawError unless it is a whole number, 0 or more.
    """
    text = os.environ.get(WORKERS, "").strip()
    if not text:
        return min(MOST, cores() - 1) if device == "cuda" else 0
    if not (text.isascii() and text.isdigit()):
        raise VlawError(
            f"{text!r} is no number of processes",
            where=WORKERS,
            remedy="Use a whole number, 0 or more; 0: the training reads its batches itself.",
        )
    return int(text)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
