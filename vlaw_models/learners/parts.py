"""A batch in parts: which of its samples each process computes, and how many of them at once.

Parts give what the whole would: their losses add up, and the noise of a sample is that of the sample, whatever part it
is in. So neither the number of processes nor that of samples in memory decides what is learned, but for rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from vlaw_models.errors import VlawError

GroupT = TypeVar("GroupT", bound=Any)
Part = tuple[int, int]
"""The first sample of a part, and the one behind its last."""
DRAWS = (torch.randn, torch.rand, torch.randint)


def parted(size: int, processes: int, micro_batch: int) -> list[list[Part]]:
    """The parts of a batch of `size` samples for each process, at most `micro_batch` samples each (0: as many as there
    are). Raises VlawError where a part would be empty: processes compute in step."""
    each = math.ceil(size / processes)
    count = math.ceil(each / micro_batch) if micro_batch else 1
    if size < processes * count:
        raise VlawError(
            f"a batch of {size} cannot be parted among {processes} processes, {count} times each",
            where="training",
            remedy=f"Set batch_size to a multiple of {processes}, or start fewer processes.",
        )
    bounds = [size * part // (processes * count) for part in range(processes * count + 1)]
    parts = list(itertools.pairwise(bounds))
    return [parts[count * process : count * (process + 1)] for process in range(processes)]


def samples(groups: Sequence[GroupT], part: Part) -> list[GroupT]:
    """Of groups that have a length and slices, what belongs to the part, counted through all; every group stays."""
    found, first = [], 0
    for group in groups:
        begin, end = (min(max(edge - first, 0), len(group)) for edge in part)
        found.append(group[begin:end])
        first += len(group)
    return found


class Draws(TorchFunctionMode):
    """What a generator draws inside the block is of the samples of one part, as it would be in the whole batch.

    The whole is drawn once, and every part takes its own of it. Whatever is drawn must have its samples first, once or
    in blocks, as (B, ...) or (n * B, ...). Without a part there is no block: then nothing is changed.
    """

    def __init__(self, generator: torch.Generator, size: int):
        """`size`: samples of the whole batch."""
        super().__init__()
        self.generator, self.size, self._part, self._count = generator, size, (0, size), 0
        self._whole: list[torch.Tensor] = []

    def next_batch(self) -> None:
        self._whole = []

    def of(self, part: Part) -> Self:
        """For `with`."""
        self._part, self._count = part, 0
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DRAWS or kwargs.get("generator") is not self.generator:
            return func(*args, **kwargs)
        limits, shape = _limits_and_shape(func, args, kwargs)
        begin, end = self._part
        blocks, left = divmod(shape[0], end - begin) if shape else (0, 1)
        if left:
            raise VlawError(
                f"noise of shape {tuple(shape)} is drawn for {end - begin} samples of a batch of {self.size}",
                where="training in parts",
                remedy="Draw with the samples first, or train without micro_batch and on one process.",
            )
        if self._count == len(self._whole):
            whole = func(*limits, (blocks * self.size, *shape[1:]), **kwargs)
            self._whole.append(whole.unflatten(0, (blocks, self.size)))
        drawn = self._whole[self._count][:, begin:end].flatten(0, 1)
        self._count += 1
        return drawn


def _limits_and_shape(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], Sequence[int]]:
    """The bounds of `randint`, none of the others; and the size, however it was given."""
    if "size" in kwargs:
        return args, kwargs.pop("size")
    if func is torch.randint:
        return args[:-1], args[-1]
    return (), args[0] if args and not isinstance(args[0], int) else args
