"""Attention to a single token without asking: its weight is 1 whoever asks, so the answer is the token's own value.

Ctrl-World's layers attend to one token of each frame, or of the first. Queries, keys and the products of all pixels are
then computed for nothing; and the answer, which depends on neither noise nor pictures, is projected once for a frame
instead of once for a pixel. Exact but for rounding. In training everything is computed as published.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from torch import nn


class OneTokenAttention:
    """A processor of diffusers' attention; what is not attention to one token is left to the `usual` one."""

    def __init__(self, usual: Any):
        self.usual = usual

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, P, C) that ask, (N, 1, E) tokens -> (N, P, C)."""
        tokens = encoder_hidden_states
        if torch.is_grad_enabled() or tokens is None or tokens.shape[1] != 1 or attention_mask is not None:
            return self.usual(attn, hidden_states, tokens, attention_mask)
        answer = attn.to_out[1](attn.to_out[0](attn.to_v(tokens)))
        return answer.expand(-1, hidden_states.shape[1], -1)


def answer_at_once(network: nn.Module) -> None:
    """Attention to other tokens than their own is answered so in all blocks of a network of diffusers."""
    for block in network.modules():
        if isinstance(block, (BasicTransformerBlock, TemporalBasicTransformerBlock)) and block.attn2 is not None:
            block.attn2.set_processor(OneTokenAttention(block.attn2.processor))
