"""A training that goes on where it was interrupted: its whole state in a folder, now and then.

    step-00000600/whole.json      comes last: a folder without it is no state
    step-00000600/process-0.pt    weights, optimizer, schedule, averages, losses, random numbers
    stop-00000600.safetensors     the averaged weights at a stopping point (stopping.py)

What follows is what would have followed, so an interrupted training ends with the weights and losses of an
uninterrupted one, to the bit, on as many processes. Each process has a file of its own: all of the state where weights
are sharded, otherwise, but for the first, only what differs between processes. A state is written beside the one before
and takes its place when it is whole and on the disk: neither a kill nor a power cut leaves none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils._pytree import tree_map

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from accelerate import Accelerator

EVERY = "VLAW_CHECKPOINT_STEPS"
OF_ALL = 20
"""Where EVERY does not say how many steps there are between two states: a twentieth of the training."""
WHOLE = "whole.json"
OTHERS = "Delete it to begin anew, or run as it was run: same revision, same settings, as many processes."


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


class Tensors:
    """Tensors whose values are the state; of sharded ones, what this process has of them."""

    def __init__(self, tensors: Iterable[torch.Tensor]):
        self.tensors = [tensor.detach() for tensor in tensors]

    def state_dict(self) -> list[torch.Tensor]:
        return self.tensors

    def load_state_dict(self, state: list[torch.Tensor]) -> None:
        here = [local(tensor) for tensor in self.tensors]
        if [tensor.shape for tensor in here] != [tensor.shape for tensor in state]:
            raise ValueError("its tensors have other shapes")
        for tensor, found in zip(here, state, strict=True):
            tensor.copy_(found)


class OfOptimizer:
    """An optimizer's state; of sharded parameters, what this process has of it."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for place, moments in state["state"].items():
            moments |= {name: _like(value, trained[place]) for name, value in moments.items()}
        self.optimizer.load_state_dict(state)


class OfTorch:
    """The random numbers that dropout draws, on the CPU and on the device that trains."""

    def __init__(self, device: torch.device):
        self.cuda = device if device.type == "cuda" else None

    def state_dict(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state(self.cuda)] if self.cuda else [])]

    def load_state_dict(self, state: list[torch.Tensor]) -> None:
        torch.set_rng_state(state[0])
        if self.cuda:
            torch.cuda.set_rng_state(state[1], self.cuda)


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its state, and whom it tells how the loss went until then."""

    folder: Path
    """For one training; whoever owns it deletes it when what was trained is safe."""
    seen: Callable[[Sequence[float]], None] | None = None
    """Called with the loss of every step so far, whenever a state was kept."""


class Resume:
    """The state of one training on one of its processes.

    Args:
        shared: what all processes have alike; where `sharded`, each a part of it.
        own: what each process has of its own.
        about: plain values that tell this training from others.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        team: Accelerator,
        shared: Mapping[str, Stateful],
        own: Mapping[str, Stateful],
        *,
        sharded: bool,
        about: Mapping[str, Any],
        steps: int,
    ):
        self.checkpoints, self.folder, self.team, self.steps = checkpoints, checkpoints.folder, team, steps
        self.shared, self.own = dict(shared), dict(own)
        self.about = {**about, "processes": team.num_processes, "sharded": sharded}
        self._holds_shared = sharded or team.is_main_process
        self.every = steps_between(steps)

    def load(self) -> list[float]:
        """Gives every part the state it had; the losses so far, none where there is no state. Raises VlawError for a
        state that cannot be read, and for that of another training."""
        found = newest(self.folder)
        self.team.wait_for_everyone()
        self._leave_only(found)
        if found is None:
            return []
        try:
            about = json.loads((found / WHOLE).read_text(encoding="utf-8"))
            mine = _read(found, self.team.process_index)
            common = mine if self._holds_shared else _read(found, 0)
        except Exception as error:  # whatever torch says of a file that is none
            raise VlawError(
                f"the state of an interrupted training cannot be read: {error}",
                where=str(found),
                remedy="Delete it to begin anew.",
            ) from error
        try:
            if about != json.loads(json.dumps(self.about)):
                raise KeyError(f"that one is of {about}, this one of {self.about}")
            for parts, states in ((self.shared, common["shared"]), (self.own, mine["own"])):
                if set(parts) != set(states):
                    raise KeyError(f"it holds {', '.join(sorted(states))}")
                for name, part in parts.items():
                    part.load_state_dict(states[name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise VlawError(f"the state is of another training: {error}", where=str(found), remedy=OTHERS) from error
        return list(common["losses"])

    def keep(self, losses: list[float]) -> None:
        """Called after every step: now and then, and after the last one, the state takes the place of the one
        before."""
        done = len(losses)
        if done % self.every and done != self.steps:
            return
        unfinished = self.folder / f".step-{done:08d}"
        if self.team.is_main_process:
            new = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            unfinished.mkdir(parents=True)
            for folder in new:
                _sync(folder.parent)
        self.team.wait_for_everyone()
        parts: dict[str, Any] = {"own": {name: part.state_dict() for name, part in self.own.items()}}
        if self._holds_shared:
            parts["shared"] = {name: part.state_dict() for name, part in self.shared.items()}
            parts["losses"] = losses
        write_whole(unfinished / _name(self.team.process_index), lambda path: torch.save(tree_map(local, parts), path))
        self.team.wait_for_everyone()
        if self.team.is_main_process:
            text = json.dumps(self.about)
            write_whole(unfinished / WHOLE, lambda path: path.write_text(text, encoding="utf-8"))
            place = self.folder / unfinished.name[1:]
            unfinished.rename(place)
            _sync(self.folder)
            self._leave_only(place)
            if self.checkpoints.seen is not None:
                self.checkpoints.seen(losses)

    def _leave_only(self, state: Path | None) -> None:
        """The first process deletes all states but one, and what a kill has left of a write."""
        for other in [*self.folder.glob("step-*"), *self.folder.glob(".step-*")] if self.team.is_main_process else ():
            if other != state:
                shutil.rmtree(other)


def newest(folder: Path) -> Path | None:
    """The folder of the last whole state."""
    return max((found.parent for found in folder.glob(f"step-*/{WHOLE}")), default=None)


def steps_between(steps: int) -> int:
    """How many steps there are from one state to the next. Raises VlawError for a bad VLAW_CHECKPOINT_STEPS."""
    text = os.environ.get(EVERY, "").strip()
    if not text:
        return max(1, -(-steps // OF_ALL))
    if not (text.isascii() and text.isdigit() and int(text)):
        raise VlawError(
            f"{text!r} is no number of steps", where=EVERY, remedy="Use a whole number, 1 or more; unset: a twentieth."
        )
    return int(text)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file so that it holds all or is not there, also after a power cut."""
    unfinished = path.with_name(f".{path.name}.tmp")
    write(unfinished)
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)


def local(value: Any) -> Any:
    """A tensor's part on this process; anything else as it is."""
    return value.to_local() if hasattr(value, "to_local") else value


def _like(value: Any, parameter: torch.Tensor) -> Any:
    """A part as the sharded tensor that it is of, where the parameter is one; anything else as it is."""
    if not (hasattr(parameter, "to_local") and isinstance(value, torch.Tensor) and value.dim()):
        return value
    from torch.distributed.tensor import DTensor

    mesh, placed = parameter.device_mesh, parameter.placements
    here = value.to(parameter.device)
    return DTensor.from_local(here, mesh, placed, shape=parameter.shape, stride=parameter.stride())


def _name(process: int) -> str:
    return f"process-{process}.pt"


def _read(folder: Path, process: int) -> dict[str, Any]:
    return torch.load(folder / _name(process), weights_only=True, map_location="cpu")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
