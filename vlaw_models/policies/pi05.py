"""Pi05Policy: pi0.5 on the parts of transformers' PI0. Two things differ from pi0.

The expert is told the time by adaptive RMS norms (adaRMS): each scales, shifts and gates what follows by a linear
function of the time's embedding, in place of an MLP over action and time. The state has no token of its own: it is
written into the prompt, each number as one of 256 steps between -1 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PI0Config, PI0ForConditionalGeneration
from transformers.masking_utils import create_causal_mask
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer

from vlaw_models.policies.pi0 import Pi0Policy, Prefix, TimeEmbedding

PI05_TEMPLATE = "<bos>Task: {};\nAction: "
"""How openpi and LeRobot write the prompt, for checkpoints with PaliGemma's tokenizer; between the braces stand the
instruction and the state."""
STEPS = np.linspace(-1, 1, 256 + 1)[:-1]
"""Where each step of the written state begins; below the first one it is -1."""


class AdaptiveNorm(nn.Module):
    """RMS norm whose scale, shift and gate follow from the time; a gate of 0 at first, so that a new layer passes its
    input on."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.eps, self.dense = eps, nn.Linear(size, 3 * size)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, H, width) and time (B, width) -> the normalised x, and the gate (B, 1, width)."""
        scale, shift, gate = self.dense(time)[:, None].chunk(3, dim=-1)
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (normed * (1 + scale.float()) + shift.float()).type_as(x), gate.type_as(x)


class AdaptiveLayer(GemmaDecoderLayer):
    """Gemma's layer with adaptive norms; the model passes `time` on to it."""

    def __init__(self, config: Any, layer_idx: int):
        super().__init__(config, layer_idx)
        self.input_layernorm = AdaptiveNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = AdaptiveNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, *, time: torch.Tensor, **given: Any) -> torch.Tensor:
        normed, gate = self.input_layernorm(hidden_states, time)
        hidden_states = hidden_states + gate * self.self_attn(hidden_states=normed, **given)[0]
        normed, gate = self.post_attention_layernorm(hidden_states, time)
        return hidden_states + gate * self.mlp(normed)


class ActionEmbedding(nn.Module):
    """Noisy actions as the expert's tokens, and the time's embedding as its norms read it."""

    def __init__(self, config: PI0Config):
        super().__init__()
        width = config.dit_config.hidden_size
        self.sinusoid_embeds = TimeEmbedding(config)
        self.action_in_proj = nn.Linear(config.max_action_dim, width)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    def forward(self, actions: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = functional.silu(self.time_mlp_in(self.sinusoid_embeds(time)))
        return self.action_in_proj(actions), functional.silu(self.time_mlp_out(embedded))


class Pi05Policy(Pi0Policy):
    """pi0.5 behind the Policy protocol; sizes, pictures and key names are those of Pi0Policy."""

    def network(self, config: PI0Config) -> PI0ForConditionalGeneration:
        model = super().network(config)
        expert, size = model.model.dit, config.dit_config
        layers = [AdaptiveLayer(size, number) for number in range(size.num_hidden_layers)]
        for layer in layers:
            for part in (layer.self_attn, layer.mlp):
                part.apply(model._init_weights)  # noqa: SLF001 (transformers' name for it)
        expert.layers = nn.ModuleList(layers)
        # Gemma calls its last norm without the time; this one is called after it.
        expert.norm, model.last_norm = nn.Identity(), AdaptiveNorm(size.hidden_size, size.rms_norm_eps)
        model.embed_action_time = ActionEmbedding(config)
        return model

    def read(self, instructions: Sequence[str], state: Any) -> torch.Tensor:
        """The prompts' tokens (B, L): the instructions, and the state (B, D) as it is."""
        low, high = (np.asarray(getattr(self.normalization, name), np.float64) for name in ("state_low", "state_high"))
        numbers = np.asarray(torch.as_tensor(state).cpu(), np.float64)
        written = np.digitize((numbers - low) / (high - low) * 2 - 1, STEPS) - 1
        rows = zip(instructions, written.tolist(), strict=True)
        return self.tokenizer([f"{self.said(text)}, State: {' '.join(map(str, row))}" for text, row in rows])

    def velocity(self, context: Prefix, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        length, count = context.cache.get_seq_length(), x.shape[1]
        actions, time = self.model.embed_action_time(x, t)
        expert = self.model.model.dit
        # Two blocks: the observation, and the actions, which see it and each other.
        mask = torch.cat([context.mask, context.mask.new_ones(len(x), count)], dim=1)
        blocks = (torch.arange(length + count, device=x.device) >= length).long().expand(len(x), -1)
        attended = create_causal_mask(
            config=expert.config,
            inputs_embeds=actions,
            attention_mask=mask,
            past_key_values=context.cache,
            block_sequence_ids=blocks,
        )
        hidden = expert(
            inputs_embeds=actions,
            attention_mask=attended,
            position_ids=(mask.cumsum(-1) - 1)[:, -count:],
            past_key_values=context.cache,
            time=time,
        ).last_hidden_state
        # The expert has appended its own keys; the next Euler step must see the observation only.
        context.cache.crop(length - context.cache.get_seq_length())
        return self.model.action_out_proj(self.model.last_norm(hidden, time)[0])
