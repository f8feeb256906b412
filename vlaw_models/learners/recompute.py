"""Activation checkpointing: layers whose activations are not kept but computed again when their gradient is due.

Costs about a third more time, and leaves one activation per layer in memory. Which layers, a model's class says
(`recomputed`): of the networks of the papers all of them, of Ctrl-World's U-Net also those along time, which
`enable_gradient_checkpointing` of diffusers 0.42 leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vlaw_models.errors import VlawError


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside the block the model's layers compute their activations twice. Raises VlawError for a model that names
    none."""
    layers = layers_of(model)
    if not layers:
        raise VlawError(
            f"recompute = true, but a {type(model).__name__} names no layers to compute again",
            where="training",
            remedy="Set recompute = false; a class names its layers in `recomputed`.",
        )
    for layer in layers:
        # On the object, not the class: no name of a weight changes by it.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers that the model's class names; none for one that does not."""
    named: Any = getattr(model, "recomputed", None)
    return [] if named is None else named()
