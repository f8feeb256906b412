"""OpenVLA-OFT's kind of policy (arXiv 2502.19645): a language model that writes a whole chunk at once.

Pictures pass two vision towers (DINOv2 and SigLIP, joined patch by patch) and a projector; the language model (Llama)
reads them, the instruction and, where asked for, the state; one empty slot follows for each of the R * W numbers of a
chunk (normalization.py). Attention goes both ways, so that one pass fills all slots. OpenVlaOftPolicy fills them with
action tokens, which have likelihoods; OpenVlaOftL1Policy with the numbers themselves. Networks are transformers'
classes.

Names follow the published checkpoints where those can; how the others are read is in published/openvla.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from vlaw_models.episodes import Observation
from vlaw_models.errors import VlawError
from vlaw_models.policies.base import Generators, TrainedPolicy
from vlaw_models.policies.likelihood import LikelihoodPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pixels import shifted, square_pixels
from vlaw_models.tokenize import InstructionTokenizer

BINS = 256
"""Action tokens. Those of the published policies are the last words of the vocabulary, backwards."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the pixels, in [0, 1], that DINOv2 was trained on."""


class Prompt(NamedTuple):
    """An encoded observation: what precedes the slots."""

    embeddings: torch.Tensor
    """(B, L, width): the first word, pictures, state, the other words."""
    mask: torch.Tensor
    """(B, L) bool: False where an instruction is padded."""


class ParallelDecoder(TrainedPolicy):
    """What both kinds share: from pictures, state and instruction to one vector per number of the chunk."""

    def __init__(
        self,
        tokenizer: InstructionTokenizer,
        normalization: Normalization,
        *,
        text: dict[str, Any],
        dino: dict[str, Any],
        siglip: dict[str, Any],
        execute_steps: int = 8,
        vision_layer: int = -1,
        use_state: bool = True,
        vocabulary_size: int | None = None,
        spare_words: int = 0,
        stop_token: int | None = None,
        shift: int = 0,
    ):
        """`text`: Llama's sizes; `dino`, `siglip`: those of the towers, of one image_size and patch_size.

        `vision_layer`: the layer of the towers that is read; the published policies read the last but one (-2).
        `vocabulary_size`: rows of the word embedding, of which the last `spare_words` are no words; None: the
        tokenizer's words and the action tokens. `stop_token`: follows the slots, as in the published policies.
        `shift`: random shift in pixels at training time.
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps)
        grids = [(tower["image_size"], tower["patch_size"]) for tower in (dino, siglip)]
        if grids[0] != grids[1]:
            raise VlawError(
                f"the towers cut pictures differently: (image_size, patch_size) is {grids[0]} and {grids[1]}",
                where=type(self).__name__,
                remedy="Give both towers the same image_size and patch_size: they are joined patch by patch.",
            )
        rows = vocabulary_size or tokenizer.vocabulary_size + BINS + spare_words
        self._sizes = {
            "text": text,
            "dino": dino,
            "siglip": siglip,
            "vision_layer": vision_layer,
            "use_state": use_state,
            "vocabulary_size": rows,
            "spare_words": spare_words,
            "stop_token": stop_token,
            "shift": shift,
        }
        self.vision_layer, self.stop_token, self.shift = vision_layer, stop_token, shift
        self.image_size, self.last_word = siglip["image_size"], rows - spare_words
        self.dino = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**dino))
        self.siglip = SiglipVisionModel(SiglipVisionConfig(vision_use_head=False, **siglip))
        width = text["hidden_size"]
        self.projector = Projector(dino["hidden_size"] + siglip["hidden_size"], width)
        self.language_model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, **text))
        self.state_projector: nn.Module | None = None
        if use_state:
            self.state_projector = nn.Sequential(
                nn.Linear(normalization.state_dim, width), nn.GELU(), nn.Linear(width, width)
            )
        for name, values in zip(("mean", "deviation"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    @staticmethod
    def said(instruction: str) -> str:
        """As OpenVLA writes it."""
        return instruction.lower()

    can_adapt = True

    def lora_part(self) -> tuple[nn.Module, list[str]]:
        """Towers, projector and language model, as in OpenVLA-OFT's finetuning: all linear layers but the words'."""
        parts = nn.ModuleDict({name: getattr(self, name) for name in ("dino", "siglip", "projector", "language_model")})
        linear = [name for name, one in parts.named_modules() if isinstance(one, nn.Linear)]
        return parts, [name for name in linear if not name.endswith("lm_head")]

    def beside_lora(self) -> list[nn.Parameter]:
        return [] if self.state_projector is None else list(self.state_projector.parameters())

    def recomputed(self) -> list[nn.Module]:
        return [part for part in self.modules() if isinstance(part, GradientCheckpointingLayer)]

    def augment(
        self, images: torch.Tensor, points: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return shifted(images, points, self.shift, generator)

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Prompt:
        words, written = self.language_model.model.embed_tokens(tokens), tokens != self.tokenizer.pad_id
        seen = [self.see(images)]
        if self.state_projector is not None:
            seen.append(self.state_projector(state)[:, None])
        # Published prompts begin with "<s>", which comes before the pictures.
        embeddings = torch.cat([words[:, :1], *seen, words[:, 1:]], dim=1)
        always = written.new_ones(len(tokens), embeddings.shape[1] - tokens.shape[1])
        return Prompt(embeddings, torch.cat([written[:, :1], always, written[:, 1:]], dim=1))

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """(B, V, h, w, 3) uint8 to (B, V * patches, width)."""
        pixels = square_pixels(images, self.image_size).flatten(0, 1)
        standard = ((pixels + 1) / 2 - self.mean) / self.deviation
        dino = self.dino(standard, output_hidden_states=True).hidden_states[self.vision_layer]
        siglip = self.siglip(pixels, output_hidden_states=True).hidden_states[self.vision_layer]
        # DINOv2's first tokens belong to no patch.
        patches = torch.cat([dino[:, -siglip.shape[1] :], siglip], dim=-1)
        return self.projector(patches).unflatten(0, images.shape[:2]).flatten(1, 2)

    def slots(self, context: Prompt) -> torch.Tensor:
        """(B, R, W, width): what the language model makes of each number's slot."""
        (batch, length, width), count = context.embeddings.shape, math.prod(self.normalization.rows)
        parts = [context.embeddings, context.embeddings.new_zeros(batch, count, width)]
        if self.stop_token is not None:
            stop = self.language_model.model.embed_tokens.weight[self.stop_token]
            parts.append(stop.expand(batch, 1, width).to(context.embeddings.dtype))
        embeddings = torch.cat(parts, dim=1)
        mask = functional.pad(context.mask, (0, embeddings.shape[1] - length), value=True)
        hidden = self.language_model.model(
            inputs_embeds=embeddings,
            # Given whole, a mask is taken as it is: nothing but padding is hidden, also from what precedes it.
            attention_mask=mask[:, None, None].expand(-1, 1, mask.shape[1], -1),
            position_ids=(mask.long().cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
        # As language models do: a slot is read off the token before it, the first one off the prompt's last word.
        last = (context.mask * torch.arange(length, device=mask.device)).argmax(1)
        first = hidden[torch.arange(batch, device=mask.device), last]
        slots = torch.cat([first[:, None], hidden[:, length : length + count - 1]], dim=1)
        return slots.unflatten(1, self.normalization.rows)

    def _target(self, actions: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(B, R, W) normalised commands, cut off at the quantiles (the published BOUNDS_Q99)."""
        state = state.to(self.device).float()
        return self.normalization.actions(actions.to(self.device).float(), state).clamp(-1, 1)


class OpenVlaOftPolicy(ParallelDecoder, LikelihoodPolicy):
    """Slots are filled with action tokens, each drawn on its own from BINS of them.

    A trace is (B, R, W) int64: the bins. The tokens of a control step are its A numbers. `temperature`, and the
    `noise_scale` of `sample`, is that of the softmax; 1.6 is SimpleVLA-RL's.
    """

    def logits(self, context: Prompt) -> torch.Tensor:
        """(B, R, W, BINS) float32."""
        words = self.language_model.lm_head.weight[self.last_word - BINS : self.last_word].flip(0)
        return functional.linear(self.slots(context), words).float()

    def chunk_error(
        self,
        context: Prompt,
        state: torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """The weighted cross entropy of the action tokens (Eq. 4)."""
        del generator, points, samples
        bins = to_bins(self._target(actions, state))
        error = functional.cross_entropy(self.logits(context).movedim(-1, 1), bins, reduction="none")
        return (weight.to(self.device) * error.mean(dim=(1, 2))).mean()

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        context, state = self.observe(observation, instructions)
        if noise_scale == 0:
            return self.targets(of_bins(self.logits(context).argmax(-1)), state)
        return self.targets(self.drawn(self.draw(context, len(observation), generator, noise_scale)[0]), state)

    def draw(
        self, context: Prompt, batch: int, generator: Generators, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_mass = (self.logits(context) / temperature).log_softmax(-1)
        # By the inverse distribution function: one uniform number per token, drawn on the CPU.
        below = log_mass.exp().cumsum(-1) < self._draw_uniform(batch, generator).to(log_mass.device)[..., None]
        bins = below.sum(-1).clamp(max=BINS - 1)
        return bins, self._by_step(log_mass.gather(-1, bins[..., None])[..., 0])

    def log_prob(self, context: Prompt, trace: torch.Tensor, temperature: float) -> torch.Tensor:
        log_mass = (self.logits(context) / temperature).log_softmax(-1)
        return self._by_step(log_mass.gather(-1, trace[..., None])[..., 0])

    def _by_step(self, found: torch.Tensor) -> torch.Tensor:
        """(B, R, W) to (B, H, A)."""
        return found.reshape(len(found), self.chunk_size, self.action_dim)

    def drawn(self, trace: torch.Tensor) -> torch.Tensor:
        return of_bins(trace)

    def _draw_uniform(self, batch: int, generator: Generators) -> torch.Tensor:
        shape = self.normalization.rows
        if isinstance(generator, torch.Generator):
            return torch.rand((batch, *shape), generator=generator)
        return torch.stack([torch.rand(shape, generator=one) for one in generator])


class OpenVlaOftL1Policy(ParallelDecoder):
    """The slots of a control step become its numbers, by absolute error: without chance, so without likelihoods."""

    def __init__(self, tokenizer: InstructionTokenizer, normalization: Normalization, **sizes: Any):
        """As ParallelDecoder."""
        super().__init__(tokenizer, normalization, **sizes)
        self.action_head = L1Head(sizes["text"]["hidden_size"], normalization.rows[1])

    def beside_lora(self) -> list[nn.Parameter]:
        return [*super().beside_lora(), *self.action_head.parameters()]

    def predict(self, context: Prompt) -> torch.Tensor:
        """(B, R, W) float32 normalised commands."""
        return self.action_head(self.slots(context).flatten(2)).float()

    def chunk_error(
        self,
        context: Prompt,
        state: torch.Tensor,
        actions: torch.Tensor,
        weight: torch.Tensor,
        generator: torch.Generator,
        points: torch.Tensor | None = None,
        samples: int | None = None,
    ) -> torch.Tensor:
        """The weighted absolute error (Eq. 4)."""
        del generator, points, samples
        error = (self.predict(context) - self._target(actions, state)).abs()
        return (weight.to(self.device) * error.mean(dim=(1, 2))).mean()

    @torch.no_grad()
    def sample(
        self, observation: Observation, instructions: Sequence[str], generator: Generators, noise_scale: float = 1.0
    ) -> np.ndarray:
        del generator, noise_scale
        context, state = self.observe(observation, instructions)
        return self.targets(self.predict(context), state)


class Projector(nn.Module):
    """Patches of both towers to the language model's width."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width_in, 4 * width_in)
        self.fc2, self.fc3 = nn.Linear(4 * width_in, width), nn.Linear(width, width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.fc3(functional.gelu(self.fc2(functional.gelu(self.fc1(patches)))))


class L1Head(nn.Module):
    """The vectors of a control step's slots, side by side, to its A numbers: residual MLP blocks."""

    def __init__(self, width: int, action_dim: int, blocks: int = 2):
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(action_dim * width), nn.Linear(action_dim * width, width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()) for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_dim))

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        x = self.enter(slots)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


def to_bins(actions: torch.Tensor) -> torch.Tensor:
    """Normalised actions in [-1, 1] to bins 0 ... 255, as OpenVLA counts them: 255 intervals, and 1 itself."""
    edges = torch.linspace(-1, 1, BINS, device=actions.device)
    return torch.bucketize(actions.contiguous(), edges, right=True).clamp(min=1) - 1


def of_bins(bins: torch.Tensor) -> torch.Tensor:
    """The middles of the bins' intervals, float32."""
    edges = torch.linspace(-1, 1, BINS, device=bins.device)
    return ((edges[:-1] + edges[1:]) / 2)[bins.clamp(max=BINS - 2)]
