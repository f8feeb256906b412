"""The batches of a training: chosen here, read from where they lie in processes of their own if there are any.

The choice (which frames of which episodes) is drawn in this process, one per step and in the order of the steps, by
what torch calls a sampler; reading it is a torch `Dataset`'s. So batches are the same for any number of processes. With
some the choice runs ahead of the training: nothing else may draw from its random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from vlaw_models.errors import VlawError
from vlaw_models.threads import WORKERS, workers

ChoiceT = TypeVar("ChoiceT")
BatchT = TypeVar("BatchT")
AHEAD = 2
"""Batches that each process reads before they are asked for."""
DIED = "DataLoader worker"
"""How torch's message about a process that has ended begins; in the main thread it comes as a signal, at any point."""


class Reading(Dataset, Generic[ChoiceT, BatchT]):
    """What is read for a choice. An error that a person is meant to read comes back as a value: torch would make a
    RuntimeError with a traceback of it."""

    def __init__(self, take: Callable[[ChoiceT], BatchT]):
        self.take = take

    def __getitem__(self, choice: ChoiceT) -> BatchT | VlawError:
        try:
            return self.take(choice)
        except VlawError as error:
            return error


@contextmanager
def batches(
    draw: Callable[[], ChoiceT],
    take: Callable[[ChoiceT], BatchT],
    steps: int,
    *,
    portable: bool,
    device: torch.device,
) -> Iterator[Iterator[BatchT]]:
    """`take(draw())` for every step, in order; processes that read end with the block.

    Args:
        draw: chooses a batch, in this process.
        take: reads it. Where `portable` it is pickled, and must not hold a model or frames then.
        portable: whether other processes may read (`sources.portable`).
        device: that of the training; it decides how many do where VLAW_WORKERS does not.

    Raises VlawError where the frames cannot be read, for a process that has died, and for a bad VLAW_WORKERS.
    """
    count = min(workers(device.type), steps) if portable else 0
    options: dict[str, Any] = {"multiprocessing_context": "spawn", "prefetch_factor": AHEAD} if count else {}
    loader = DataLoader(
        Reading(take),
        batch_size=None,  # a choice is a batch already
        sampler=(draw() for _ in range(steps)),
        collate_fn=as_it_is,
        num_workers=count,
        generator=torch.Generator(),  # its seed would come from torch's own generator, which dropout draws from
        **options,
    )
    found: Iterator[BatchT | VlawError] = iter(())
    try:
        found = iter(loader)  # starts the processes
        yield map(given, found)
    except RuntimeError as error:
        if not str(error).startswith(DIED):
            raise
        raise VlawError(
            f"a process that reads batches has ended: {str(error).splitlines()[0]}",
            where="training data",
            remedy=f"See whether memory ran out (dmesg), and lower {WORKERS}; with {WORKERS}=0 the training reads for "
            "itself. A script that trains needs `if __name__ == '__main__':`.",
        ) from error
    finally:
        # Now, and not when the traceback of an error is dropped, which holds the iterator until then.
        getattr(found, "_shutdown_workers", lambda: None)()


def in_memory(draw: Callable[[], BatchT], steps: int) -> AbstractContextManager[Iterator[BatchT]]:
    """`draw()` for every step, when its turn comes: for data that is in memory already, also on a device."""
    return nullcontext(draw() for _ in range(steps))


def as_it_is(batch: BatchT) -> BatchT:
    return batch


def given(read: BatchT | VlawError) -> BatchT:
    if isinstance(read, VlawError):
        raise read
    return read
