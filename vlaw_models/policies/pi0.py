"""Pi0Policy: the paper's policy class, transformers' PI0ForConditionalGeneration (PaliGemma and an action expert).

Sizes to PI0Config, observations to the class's inputs, and the key names of openpi and of `lerobot/pi0_base`, in which
our own checkpoints are written too (transformers renames its modules between versions; that format stays). The class is
asked for velocities only, so noise and times are ours and seeded (base.py). pi05.py has what pi0.5 does otherwise.

A picture slot that is masked, such as the third of openpi's DROID policies, is neither attended to nor counted in the
positions of what follows: such a slot is left out here, which gives the same actions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, PI0Config, PI0ForConditionalGeneration
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from vlaw_models.checkpoint import load_tensors, read_safetensors
from vlaw_models.errors import VlawError
from vlaw_models.policies.flow_matching import FlowMatchingPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pixels import openpi_pixels
from vlaw_models.tokenize import IMAGE, InstructionTokenizer

PALIGEMMA_TEMPLATE = "<bos>{}\n"
"""How openpi and LeRobot write the instruction; for checkpoints with PaliGemma's tokenizer."""

_STORED_PREFIX = "paligemma_with_expert."
# Ours on the left, LeRobot's on the right; first match counts.
_RENAMES = (
    ("embed_action_time.", ""),
    ("model.vlm.vision_tower.vision_model.", _STORED_PREFIX + "paligemma.model.vision_tower.vision_model."),
    ("model.vlm.vision_tower.", _STORED_PREFIX + "paligemma.model.vision_tower.vision_model."),
    ("model.vlm.", _STORED_PREFIX + "paligemma.model."),
    ("last_norm.", _STORED_PREFIX + "gemma_expert.model.norm."),
    ("model.dit.", _STORED_PREFIX + "gemma_expert.model."),
)
WORDS = _STORED_PREFIX + "paligemma.model.language_model.embed_tokens.weight"
TIED_WORDS = _STORED_PREFIX + "paligemma.lm_head.weight"
IGNORED = {
    "the expert reads no words": re.compile(r"paligemma_with_expert\.gemma_expert\.(lm_head|model\.embed_tokens)\."),
    "SigLIP's pooling head": re.compile(r"paligemma_with_expert\.paligemma\.model\.vision_tower\.vision_model\.head\."),
    "a copy of the words' embedding": re.compile(r"paligemma_with_expert\.paligemma\.lm_head\."),
    "statistics, read from their own file": re.compile(r"(un)?normalize_(in|out)puts\.|unnormalize_"),
}
"""Present in published files, without use in a policy: why -> its names, without a leading 'model.'."""
_LORA = re.compile(r"\.(vlm\.language_model|dit)\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj$")


@dataclass
class Prefix:
    """The encoded observation: keys and values of every layer, computed once per sample call."""

    cache: Cache
    mask: torch.Tensor
    """(B, L) int64: 1 where there is a picture or a word."""
    state: torch.Tensor


class Pi0Policy(FlowMatchingPolicy):
    """PI0 behind the Policy protocol. Actions and state are padded with zeros to `max_dim`, as in pi0's training."""

    can_freeze = can_adapt = True

    def __init__(
        self,
        tokenizer: InstructionTokenizer,
        normalization: Normalization,
        *,
        text: dict[str, Any],
        vision: dict[str, Any],
        expert: dict[str, Any],
        execute_steps: int = 4,
        euler_steps: int = 10,
        max_dim: int = 32,
        vocabulary_size: int | None = None,
        views: Sequence[int] = (),
    ):
        """`text`, `expert`: Gemma sizes (same layers, heads and head_dim in both); `vision`: SigLIP sizes.

        `vocabulary_size`: rows of the word embedding, where the weights have another number than the tokenizer.
        `views`: which of the robot's pictures it looks at, in its own order; empty: all, in the robot's.
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps, euler_steps=euler_steps)
        vocabulary_size = vocabulary_size or tokenizer.vocabulary_size
        self._sizes: dict[str, Any] = {
            "text": text,
            "vision": vision,
            "expert": expert,
            "max_dim": max_dim,
            "vocabulary_size": vocabulary_size,
            **({"views": list(views)} if views else {}),
        }
        self.views = list(views)
        known = [tokenizer.tokenizer.token_to_id(name) for name in (IMAGE, "<image>")]
        self.image_token = next((token for token in known if token is not None), vocabulary_size)
        self.noise_dim, self.image_size = max_dim, vision["image_size"]
        self.image_tokens = (vision["image_size"] // vision["patch_size"]) ** 2
        config = PI0Config(
            vlm_config={
                "model_type": "paligemma",
                "text_config": {"model_type": "gemma", "vocab_size": vocabulary_size, **text},
                "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **vision},
                "projection_dim": text["hidden_size"],
                "image_token_id": self.image_token,
            },
            dit_config={"model_type": "gemma", **expert},
            chunk_size=normalization.rows[0],
            max_state_dim=max_dim,
            max_action_dim=max_dim,
            num_inference_steps=euler_steps,
        )
        self.model = self.network(config)

    def network(self, config: PI0Config) -> PI0ForConditionalGeneration:
        """The new network."""
        model = PI0ForConditionalGeneration(config)
        # The expert reads embeddings only; its own vocabulary would be 263 M unused parameters at paper size.
        model.model.dit.embed_tokens = None
        model.embed_action_time.sinusoid_embeds = TimeEmbedding(config)
        return model

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    @staticmethod
    def said(instruction: str) -> str:
        """As openpi cleans it."""
        return instruction.strip().replace("_", " ").replace("\n", " ")

    def recomputed(self) -> list[nn.Module]:
        """The layers that see, and of the language model and the expert the wide inside: attention appends to a cache,
        which must not happen twice."""
        return [part for part in self.modules() if isinstance(part, (SiglipEncoderLayer, GemmaMLP))]

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Prefix:
        return self.prefix(self.seen(images), self.words(tokens), tokens != self.tokenizer.pad_id, state)

    def picture_features(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """SigLIP's patches, the words' embeddings and which of them are words, one row a sample."""
        told = tokens != self.tokenizer.pad_id
        seen, words = self.seen(images).flatten(1), self.words(tokens).flatten(1)
        return torch.cat([seen, words.to(seen), told.to(seen)], dim=1)

    def encode_features(self, features: torch.Tensor, state: torch.Tensor) -> Prefix:
        length, width = self.tokenizer.length, self._sizes["text"]["hidden_size"]
        features = features.to(state.dtype)
        seen, words, told = features.split([features.shape[1] - length * (width + 1), length * width, length], dim=1)
        seen = seen.unflatten(1, (-1, self.image_tokens, self._sizes["vision"]["hidden_size"]))
        return self.prefix(seen, words.unflatten(1, (length, width)), told > 0, state)

    def head_parameters(self) -> list[nn.Parameter]:
        vlm = self.model.model.vlm
        frozen = {id(one) for part in (vlm.vision_tower, self._embedding) for one in part.parameters()}
        return [one for one in self.parameters() if one.requires_grad and id(one) not in frozen]

    def lora_part(self) -> tuple[nn.Module, list[str]]:
        """The projections of PaliGemma's language model and of the expert, as in openpi's LoRA variants."""
        return self.model, [name for name, _ in self.model.named_modules() if _LORA.search(name)]

    def beside_lora(self) -> list[nn.Parameter]:
        vlm = self.model.model.vlm
        parts = (vlm.vision_tower, vlm.multi_modal_projector, self.model.embed_action_time, self.model.action_out_proj)
        return [one for part in parts for one in part.parameters()]

    def seen(self, images: torch.Tensor) -> torch.Tensor:
        """(B, V, patches, width) of pictures (B, V, h, w, 3) uint8, of its own views. VlawError where one is not
        there."""
        if self.views:
            if max(self.views) >= images.shape[1]:
                raise VlawError(
                    f"the policy looks at views {self.views}, the observation has {images.shape[1]}",
                    where=type(self).__name__,
                    remedy="Use it on the robot that it was imported or built for, or import it for this one.",
                )
            images = images[:, self.views]
        return self.patches(openpi_pixels(images, self.image_size))

    def patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """`seen` of pixels (B, V, 3, size, size) in [-1, 1]."""
        return self.model.model.vlm.vision_tower(pixels.flatten(0, 1)).last_hidden_state.unflatten(0, pixels.shape[:2])

    def prefix(
        self,
        seen: torch.Tensor,
        words: torch.Tensor,
        told: torch.Tensor,
        state: torch.Tensor,
        there: torch.Tensor | None = None,
    ) -> Prefix:
        """The encoded observation: patches (B, V, patches, width), words (B, L, width) and which are words (B, L), the
        normalised state (B, D), and which pictures are there (B, V): the others are masked. None: all are."""
        vlm = self.model.model.vlm
        if there is None:
            there = told.new_ones(seen.shape[:2])
        pictures = vlm.multi_modal_projector(seen).flatten(1, 2)
        mask = torch.cat([there.repeat_interleave(seen.shape[2], dim=1), told], dim=1).long()
        cache = vlm(
            inputs_embeds=torch.cat([pictures, words.to(pictures.dtype)], dim=1),
            attention_mask=mask,
            position_ids=mask.cumsum(-1) - 1,
            token_type_ids=torch.zeros_like(mask),
            use_cache=True,
        ).past_key_values
        return Prefix(cache, mask, functional.pad(state, (0, self.noise_dim - state.shape[1])))

    @property
    def _embedding(self) -> nn.Module:
        return self.model.model.vlm.get_input_embeddings()

    def words(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L, width) of tokens (B, L)."""
        return self._embedding(tokens)

    def velocity(self, context: Prefix, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        length = context.cache.get_seq_length()
        output = self.model(
            state=context.state,
            noise=x,
            timestep=t,
            attention_mask=context.mask,
            past_key_values=context.cache,
        )
        # The expert has appended its own keys; the next Euler step must see the observation only.
        context.cache.crop(length - context.cache.get_seq_length())
        return output.logits

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights under LeRobot's names (see the module's docstring)."""
        own = super().state_dict(*args, **kwargs)
        return {lerobot_key(name.removeprefix("model.")): tensor for name, tensor in own.items()}

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Takes LeRobot's names, with or without the leading 'model.' of published files."""
        stored = {name.removeprefix("model."): tensor for name, tensor in state_dict.items()}
        if TIED_WORDS in stored:
            stored.setdefault(WORDS, stored[TIED_WORDS])
        stored = {name: tensor for name, tensor in stored.items() if ignored(name) is None}
        names = {lerobot_key(name.removeprefix("model.")): name for name in super().state_dict()}
        renamed = {names.get(name, name): tensor for name, tensor in stored.items()}
        return super().load_state_dict(renamed, strict=strict, assign=assign)

    def load_pretrained(self, path: Path | str) -> Pi0Policy:
        """Replaces the weights by those of a `lerobot/pi0_base`-format file or folder of *.safetensors; returns self.

        Raises VlawError where the file is missing or damaged, or where its shapes are not of this policy's sizes.
        """
        path = Path(path)
        tensors = load_tensors(path) if path.is_dir() else read_safetensors(path)
        try:
            self.load_state_dict(tensors)
        except RuntimeError as error:
            raise VlawError(
                f"the weights are not of this policy's sizes: {str(error)[:600]}",
                where=str(path),
                remedy="Give a pi0 checkpoint in LeRobot's format and the preset of its size.",
            ) from error
        return self


class TimeEmbedding(nn.Module):
    """(B, width) of times (B,), computed in float64 as openpi does: the fastest wave turns 250 times from 0 to 1."""

    def __init__(self, config: PI0Config):
        super().__init__()
        self.config = config

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        c, exact = self.config, {"dtype": torch.float64, "device": time.device}
        share = torch.linspace(0.0, 1.0, c.dit_config.hidden_size // 2, **exact)
        angle = 2 * math.pi / (c.min_period * (c.max_period / c.min_period) ** share) * time.double()[:, None]
        return torch.cat([angle.sin(), angle.cos()], dim=1).to(time.dtype)


def ignored(name: str) -> str | None:
    """Why a published tensor (its name without a leading 'model.') is not read; None where it is."""
    return next((why for why, names in IGNORED.items() if names.match(name)), None)


def lerobot_key(name: str) -> str:
    """The name in `lerobot/pi0_base` (without its leading 'model.') of a parameter of PI0ForConditionalGeneration."""
    for ours, theirs in _RENAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
