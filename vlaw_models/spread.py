"""Heavy work in parts that do not depend on each other: here, one after the other, or wherever a `Spread` takes them.

A heavy part is a function at the top of a module, `begin(inputs, settings)`: it loads the models from checkpoint
folders and returns a function of one part, such as a batch with seeds of its own. Parts follow from the recipe and
never from who makes them, so what is made is the same to the bit (on one kind of machine). To travel, settings, parts
and results are plain values, arrays, robots, and dataclasses of vlaw_models such as episodes and configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Begin = Callable[[Mapping[str, Path], Mapping[str, Any]], Callable[[Any], Any]]
Spread = Callable[[Begin, Mapping[str, Path], Mapping[str, Any], Iterable[Any]], Iterator[Any]]
"""(begin, name -> checkpoint folder, settings, parts) -> the result of every part, in order."""


def here(begin: Begin, inputs: Mapping[str, Path], settings: Mapping[str, Any], parts: Iterable[Any]) -> Iterator[Any]:
    """In this process. The models are loaded before the first part is asked for."""
    return map(begin(inputs, settings), parts)


class Batches(Sequence[dict[str, Any]]):
    """Parts of at most `size` items each, {"begin": number of the first one, "items": [...]}, read when asked for."""

    def __init__(self, items: Sequence[Any], size: int):
        self._items, self._size = items, size

    def __len__(self) -> int:
        return math.ceil(len(self._items) / self._size)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin = index * self._size
        end = min(begin + self._size, len(self._items))
        return {"begin": begin, "items": [self._items[number] for number in range(begin, end)]}
