"""A long training that goes on where it was interrupted: its whole state in one file, replaced now and then.

What follows is what would have followed: weights, optimizer, schedule, averages and random numbers are kept, so an
interrupted training ends with the weights of an uninterrupted one, to the bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from vlaw_models.errors import VlawError

EVERY_S = 300.0


class Stateful(Protocol):
    """What has a state of tensors and plain values, as torch's modules and optimizers have."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Noise:
    """A torch generator as something that has a state."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def state_dict(self) -> torch.Tensor:
        return self.generator.get_state()

    def load_state_dict(self, state: torch.Tensor) -> None:
        self.generator.set_state(state)


class Resume:
    """The state of a training in `path`. `also`: what changes with it, besides what `loop.train` knows."""

    def __init__(self, path: Path, also: Mapping[str, Stateful], *, every_s: float = EVERY_S):
        self.path, self.also, self.every_s = path, dict(also), every_s
        self._saved = time.monotonic()
        self._found: dict[str, Any] | None = None
        if path.exists():
            try:
                self._found = torch.load(path, weights_only=True)
            except Exception as error:  # whatever torch says of a file that is none
                raise VlawError(
                    f"the state of an interrupted training cannot be read: {error}",
                    where=str(path),
                    remedy="Delete it to begin anew.",
                ) from error

    @property
    def done(self) -> int:
        """Steps that are done: as many batches are not to be read again."""
        return len(self._found["losses"]) if self._found else 0

    def load(self, parts: Mapping[str, Stateful]) -> list[float]:
        """Gives every part the state it had; the losses so far. Raises VlawError for the state of another training."""
        if self._found is None:
            return []
        every, found = {**parts, **self.also}, self._found
        try:
            if set(every) != set(found["parts"]):
                raise KeyError(f"it holds {', '.join(sorted(found['parts']))}")
            for name, part in every.items():
                part.load_state_dict(found["parts"][name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise VlawError(
                f"the state is of another training: {error}",
                where=str(self.path),
                remedy="Delete it to begin anew, or run the revision that wrote it.",
            ) from error
        return list(found["losses"])

    def keep(self, losses: list[float], parts: Mapping[str, Stateful]) -> None:
        """Called after every step: replaces the file where the last time is long enough ago."""
        if time.monotonic() - self._saved < self.every_s:
            return
        states = {name: part.state_dict() for name, part in {**parts, **self.also}.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(self.path.name + ".new")
        torch.save({"losses": losses, "parts": states}, unfinished)
        os.replace(unfinished, self.path)
        self._saved = time.monotonic()
