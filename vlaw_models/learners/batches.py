"""The batches of a training: chosen here, read from where they lie in processes of their own if there are any.

The choice (which frames of which episodes) is drawn in this process, one per step and in the order of the steps, by
what torch calls a sampler; reading it is a torch `Dataset`'s. So batches are the same for any number of processes. With
some the choice runs ahead of the training: nothing else may draw from its random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from vlaw_models.errors import VlawError
from vlaw_models.learners.parts import Part, samples
from vlaw_models.threads import WORKERS, workers

BatchT = TypeVar("BatchT")
Choice = list[Any]
"""Samples that were chosen, in groups that have a length and slices: numbers of frames, windows."""
AHEAD = 2
"""Batches that each process reads before they are asked for."""
DIED = "DataLoader worker"
"""How torch's message about a process that has ended begins; in the main thread it comes as a signal, at any point."""


@dataclass(frozen=True)
class Batches(Generic[BatchT]):
    """Where the batches of a training come from."""

    size: int
    """Samples of a batch, those of all groups together."""
    draw: Callable[[], Choice]
    """Chooses the next batch, in this process."""
    take: Callable[[Choice], BatchT]
    """Reads what was chosen, or a part of it."""
    portable: bool = False
    """Whether other processes may read (`sources.portable`): then `take` is pickled, and must not hold a model or
    frames. For data in memory, also on a device: False."""

    def skip(self, steps: int) -> None:
        """Draws the choices of steps that were done before, and reads nothing for them."""
        for _ in range(steps):
            self.draw()

    @contextmanager
    def read(self, steps: int, parts: Sequence[Part], *, device: torch.device) -> Iterator[Iterator[BatchT]]:
        """The parts of every step's batch, in order; processes that read end with the block.

        `device`: that of the training; it decides how many read where VLAW_WORKERS does not. Raises VlawError where the
        frames cannot be read, for a process that has died, and for a bad VLAW_WORKERS.
        """
        count = min(workers(device.type), steps) if self.portable else 0
        options: dict[str, Any] = {"multiprocessing_context": "spawn", "prefetch_factor": AHEAD} if count else {}
        loader = DataLoader(
            Reading(self.take),
            batch_size=None,  # a choice is a batch already
            sampler=self._choices(steps, parts),
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
                remedy=f"See whether memory ran out (dmesg), and lower {WORKERS}; with {WORKERS}=0 the training reads "
                "for itself. A script that trains needs `if __name__ == '__main__':`.",
            ) from error
        finally:
            # Now, and not when the traceback of an error is dropped, which holds the iterator until then.
            getattr(found, "_shutdown_workers", lambda: None)()

    def _choices(self, steps: int, parts: Sequence[Part]) -> Iterator[Choice]:
        for _ in range(steps):
            choice = self.draw()
            for part in parts:
                yield choice if part == (0, self.size) else samples(choice, part)


class Reading(Dataset, Generic[BatchT]):
    """What is read for a choice. An error that a person is meant to read comes back as a value: torch would make a
    RuntimeError with a traceback of it."""

    def __init__(self, take: Callable[[Choice], BatchT]):
        self.take = take

    def __getitem__(self, choice: Choice) -> BatchT | VlawError:
        try:
            return self.take(choice)
        except VlawError as error:
            return error


def as_it_is(batch: BatchT) -> BatchT:
    return batch


def given(read: BatchT | VlawError) -> BatchT:
    if isinstance(read, VlawError):
        raise read
    return read
