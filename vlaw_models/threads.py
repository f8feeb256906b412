"""How many CPU threads torch computes on: part of what a result depends on, since sums are split between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
