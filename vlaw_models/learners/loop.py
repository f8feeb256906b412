"""The one trainer, of world models, policies and judges: AdamW, warm-up and cosine, gradient clipping, averaged (EMA)
weights; on one process or, under `accelerate launch`, on several, which share gradients or, by FSDP, the weights.

What is particular to a model is its loss. A batch is computed in parts (parts.py), its activations once or twice
(recompute.py), and the whole state is kept now and then (resume.py).
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel

from vlaw_models.device import RANK, mixed, seeded
from vlaw_models.errors import VlawError
from vlaw_models.learners.parts import Draws, parted
from vlaw_models.learners.recompute import layers_of, recomputing
from vlaw_models.learners.resume import Checkpoints, Noise, OfOptimizer, OfTorch, Resume, Stateful, Tensors

if TYPE_CHECKING:
    from vlaw_models.learners.batches import Batches
    from vlaw_models.learners.stopping import Stops
    from vlaw_models.progress import Progress

ModelT = TypeVar("ModelT", bound=nn.Module)
BatchT = TypeVar("BatchT")
RECENT = 50
"""Losses whose mean is shown; so many steps in a row without a finite gradient end a training."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a model is optimised."""

    steps: int
    learning_rate: float
    """At its peak, after the warm-up."""
    warmup: int = 100
    """Steps of linear warm-up, at most a tenth of all."""
    final_rate: float = 0.02
    """Share of the peak at which the learning rate ends."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    max_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema: float = 0.0
    """Decay of the averaged weights; 0: the last weights are kept."""
    bfloat16: bool = True
    """Whether losses are computed in bfloat16 where the device is quick at it."""
    micro_batch: int = 0
    """Samples of a batch that are in memory at once, on each process; 0: all."""
    recompute: bool = False
    """Whether activations are computed again when their gradient is due, not kept."""


def train(
    model: ModelT,
    batches: Batches[BatchT],
    loss: Callable[[ModelT, BatchT], torch.Tensor],
    config: LoopConfig,
    *,
    what: str,
    generator: torch.Generator,
    seed: int,
    parameters: list[nn.Parameter] | None = None,
    stops: Stops | None = None,
    checkpoints: Checkpoints | None = None,
    own: Mapping[str, Stateful] | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Minimises `loss` and leaves the averaged weights in the model; returns the loss of every step.

    Args:
        loss: the mean over the samples of a batch, or of a part of one, as a scalar on the model's device. It uses the
            model that it is given: where weights are sharded that is a copy.
        what: the noun for messages, "world model".
        generator: of the CPU; the loss draws from it, samples first.
        seed: of dropout.
        parameters: what is trained; None: all that require gradients.
        stops: keeps the averages at each of its stopping points; it may have `checkpoints` too.
        checkpoints: goes on from the state that is there, and keeps it now and then.
        own: what else changes while it trains, besides what `batches` draws from.

    Raises VlawError where the loss, or RECENT gradients in a row, are not finite, and for a state that is none. The
    model is in training mode meanwhile and in evaluation mode afterwards.
    """
    trained = [p for p in model.parameters() if p.requires_grad] if parameters is None else parameters
    with seeded(seed + int(os.environ.get(RANK, "0"))), _only(model, trained):
        run = _Run(model, loss, trained, config, batches.size, generator)
        if stops is not None:
            stops.begin(trained)
            checkpoints = checkpoints or stops.checkpoints
        resume, losses = None, []
        if checkpoints is not None:
            about = {"what": what, "batch_size": batches.size, "parameters": len(trained), **asdict(config)}
            resume = Resume(
                checkpoints, run.team, run.shared, {**(own or {}), "dropout": OfTorch(run.device)},
                sharded=run.sharded, about=about, steps=config.steps,
            )  # fmt: skip
            losses = resume.load()
        batches.skip(len(losses))
        failed = 0
        recomputed = recomputing(run.model) if config.recompute else nullcontext()
        with recomputed, batches.read(config.steps - len(losses), run.parts, device=run.device) as found:
            for step in range(len(losses), config.steps):
                value, norm = run.gradients(found)
                losses.append(value)
                if not math.isfinite(value):
                    raise VlawError(
                        f"the loss is {value} at step {step}",
                        where=f"training of the {what}",
                        remedy="Lower the learning rate, or look for damaged frames and extreme actions in the data.",
                    )
                # One batch whose gradient explodes teaches nothing, and ends nothing.
                failed = 0 if math.isfinite(norm) else failed + 1
                if failed == RECENT:
                    raise VlawError(
                        f"{RECENT} gradients in a row are not finite, until step {step}",
                        where=f"training of the {what}",
                        remedy="Lower the learning rate, or look for extreme values in the data.",
                    )
                run.update(learn=failed == 0)
                if stops is not None and step + 1 in stops.at:
                    averages = run.averages()
                    if run.team.is_main_process:
                        stops.keep(step + 1, trained, averages)
                if resume is not None:
                    resume.keep(losses)
                if progress is not None and run.team.is_main_process:
                    progress(step + 1, config.steps, f"{what}: loss {np.mean(losses[-RECENT:]):.4f}")
        run.finish(trained)
    model.eval()
    return losses


class Objective(nn.Module):
    """A model with its loss, as the one module that processes share."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], torch.Tensor]):
        super().__init__()
        self.model, self.loss = model, loss
        # What FSDP shards one by one (`_team`). Not any layer will do: where one gives something beside its output, as
        # attention does by a cache, FSDP does not make its weights whole again when the gradient of that is due.
        self._no_split_modules = sorted({type(layer).__name__ for layer in layers_of(model)})

    def forward(self, batch: Any) -> torch.Tensor:
        return self.loss(self.model, batch)


class _Run:
    """A model in training, on this process."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], torch.Tensor],
        trained: Sequence[nn.Parameter],
        config: LoopConfig,
        size: int,
        generator: torch.Generator,
    ):
        self.device, self.config, self.size = trained[0].device, config, size
        self.team = _team(self.device)
        self.sharded = self.team.distributed_type == DistributedType.FSDP
        self.parts = parted(size, self.team.num_processes, config.micro_batch)[self.team.process_index]
        self.draws = Draws(generator, size)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        names_trained = [names[id(parameter)] for parameter in trained]
        # Sharding changes a module for good: the model itself stays whole, and gets its weights back at the end.
        self.model = copy.deepcopy(model) if self.sharded else model
        if self.sharded:
            model.cpu()
        self.whole = model
        self.model.train()
        optimizer = torch.optim.AdamW(
            _of_names(self.model, names_trained),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.schedule = warmup_and_cosine(optimizer, config)
        self.objective, self.optimizer = self.team.prepare(Objective(self.model, loss), optimizer)
        self.trained = _of_names(self.model, names_trained)
        self.current = nn.ParameterList(self.trained)
        self.average = AveragedModel(self.current, multi_avg_fn=_averaging(config.ema)) if config.ema else None
        self.shared: dict[str, Stateful] = {
            "weights": Tensors(self.trained),
            "optimizer": OfOptimizer(optimizer),
            "schedule": self.schedule,
            "noise": Noise(generator),
        }
        if self.average is not None:
            self.shared["average"] = Tensors([*self.average.parameters(), self.average.n_averaged])

    def gradients(self, found: Iterator[Any]) -> tuple[float, float]:
        """The loss of the next batch and the norm of its gradient, which is left clipped in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        self.draws.next_batch()
        total = 0.0
        for number, part in enumerate(self.parts):
            share = (part[1] - part[0]) / self.size
            last = number == len(self.parts) - 1
            with nullcontext() if last else self.team.no_sync(self.objective):
                computed = mixed(self.device, enabled=self.config.bfloat16)
                with computed, self.draws.of(part) if share < 1 else nullcontext():
                    value = self.objective(next(found)) * share
                total += value.item()
                # Processes take the mean of their gradients; the losses of parts add up.
                self.team.backward(value * self.team.num_processes)
        if self.team.num_processes > 1:
            total = self.team.reduce(torch.tensor(total, dtype=torch.float64, device=self.device)).item()
        return total, float(_whole(self.team.clip_grad_norm_(self.trained, self.config.max_norm)))

    def update(self, *, learn: bool) -> None:
        """One step of optimizer, schedule and averages; without `learn` the weights stay."""
        if learn:
            self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.current)

    def averages(self) -> list[torch.Tensor]:
        """What the trained parameters would be if it ended here, whole."""
        kept = self.trained if self.average is None else list(self.average.parameters())
        return [_whole(value.detach()) for value in kept]

    def finish(self, trained: Sequence[nn.Parameter]) -> None:
        """Puts the averages into the model's parameters."""
        if self.average is None and not self.sharded:
            return
        averages = self.averages()
        del self.objective, self.model  # where weights are sharded, the whole model takes their place
        self.whole.to(self.device)
        torch._foreach_copy_([p.detach() for p in trained], averages)


def _team(device: torch.device) -> Accelerator:
    """The processes that train together: this one alone, unless `accelerate launch` or torchrun started several."""
    cpu = device.type == "cpu" and RANK in os.environ
    # Where weights are sharded, layer by layer. By accelerate's default all are one part, and whole during a step.
    os.environ.setdefault("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    # Heads may be there that a loss does not use. Models are on their device already.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=cpu, device_placement=False, kwargs_handlers=[unused])


@contextmanager
def _only(model: nn.Module, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Nothing but what is trained requires gradients inside the block."""
    own = {id(parameter) for parameter in trained}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    for parameter in others:
        parameter.requires_grad_(False)  # noqa: FBT003 (torch's signature)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)  # noqa: FBT003


def _of_names(model: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    found = dict(model.named_parameters())
    return [found[name] for name in names]


def _whole(value: torch.Tensor) -> torch.Tensor:
    """A sharded tensor, gathered from all processes; another one as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def warmup_and_cosine(optimizer: torch.optim.Optimizer, config: LoopConfig) -> LRScheduler:
    """The learning rate's schedule, to be stepped once per step of training."""
    warmup = min(config.warmup, config.steps // 10)
    cosine = CosineAnnealingLR(
        optimizer, max(1, config.steps - warmup), eta_min=config.final_rate * config.learning_rate
    )
    if not warmup:
        return cosine
    linear = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [linear, cosine], milestones=[warmup])


def _averaging(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]:
    """An average that follows quickly at first, so that a short training is not dominated by its start."""

    @torch.no_grad()
    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, float((1 + steps) / (10 + steps))))

    return average
