"""Pi0Policy: the paper's policy class, transformers' PI0ForConditionalGeneration (PaliGemma and an action expert).

Sizes to PI0Config, observations to the class's inputs, and the key names of `lerobot/pi0_base`, in which our own
checkpoints are written too (transformers renames its modules between versions; that format stays). The class is asked
for velocities only, so noise and times are ours and seeded (base.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import Cache, PI0Config, PI0ForConditionalGeneration

from vlaw_models.checkpoint import load_tensors, read_safetensors
from vlaw_models.errors import VlawError
from vlaw_models.policies.flow_matching import FlowMatchingPolicy
from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.pixels import square_pixels
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
    ("model.dit.", _STORED_PREFIX + "gemma_expert.model."),
)
_WORDS = _STORED_PREFIX + "paligemma.model.language_model.embed_tokens.weight"
_TIED_WORDS = _STORED_PREFIX + "paligemma.lm_head.weight"
# Present in published files, without use in a policy: the expert's vocabulary and SigLIP's pooling head.
_IGNORED = re.compile(
    r"paligemma_with_expert\.(gemma_expert\.(lm_head|model\.embed_tokens)|paligemma\.model\.vision_tower\.vision_model\.head)\."
)


@dataclass
class Prefix:
    """The encoded observation: keys and values of every layer, computed once per sample call."""

    cache: Cache
    mask: torch.Tensor
    pixel_mask: torch.Tensor
    state: torch.Tensor


class Pi0Policy(FlowMatchingPolicy):
    """PI0 behind the Policy protocol. Actions and state are padded with zeros to `max_dim`, as in pi0's training."""

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
    ):
        """`text`, `expert`: Gemma sizes (same layers, heads and head_dim in both); `vision`: SigLIP sizes.

        `vocabulary_size`: rows of the word embedding, where the weights have another number than the tokenizer.
        """
        super().__init__(tokenizer, normalization, execute_steps=execute_steps, euler_steps=euler_steps)
        vocabulary_size = vocabulary_size or tokenizer.vocabulary_size
        self._sizes = {
            "text": text,
            "vision": vision,
            "expert": expert,
            "max_dim": max_dim,
            "vocabulary_size": vocabulary_size,
        }
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
            chunk_size=self.chunk_size,
            max_state_dim=max_dim,
            max_action_dim=max_dim,
            num_inference_steps=euler_steps,
        )
        self.model = PI0ForConditionalGeneration(config)
        # The expert reads embeddings only; its own vocabulary would be 263 M unused parameters at paper size.
        self.model.model.dit.embed_tokens = None

    def sizes(self) -> dict[str, Any]:
        return self._sizes

    def encode(self, images: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor) -> Prefix:
        batch, views = images.shape[:2]
        pictures = tokens.new_full((batch, views * self.image_tokens), self.image_token)
        tokens = torch.cat([pictures, tokens], dim=1)
        mask = (tokens != self.tokenizer.pad_id).long()
        pixel_mask = torch.ones(batch, views, dtype=torch.bool, device=images.device)
        embeddings = self.model.model.embed_prefix(tokens, square_pixels(images, self.image_size), pixel_mask)
        cache = self.model.model.vlm(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=mask.cumsum(-1) - 1,
            token_type_ids=torch.zeros_like(tokens),
            use_cache=True,
        ).past_key_values
        return Prefix(cache, mask, pixel_mask, functional.pad(state, (0, self.noise_dim - state.shape[1])))

    def velocity(self, context: Prefix, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        length = context.cache.get_seq_length()
        output = self.model(
            state=context.state,
            noise=x,
            timestep=t,
            attention_mask=context.mask,
            pixel_attention_mask=context.pixel_mask,
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
        if _TIED_WORDS in stored:
            stored.setdefault(_WORDS, stored.pop(_TIED_WORDS))
            stored.pop(_TIED_WORDS, None)
        stored = {name: tensor for name, tensor in stored.items() if not _IGNORED.match(name)}
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
            self.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise VlawError(
                f"the weights are not of this policy's sizes: {str(error)[:600]}",
                where=str(path),
                remedy="Give a pi0 checkpoint in LeRobot's format and the preset of its size.",
            ) from error
        return self


def lerobot_key(name: str) -> str:
    """The name in `lerobot/pi0_base` (without its leading 'model.') of a parameter of PI0ForConditionalGeneration."""
    for ours, theirs in _RENAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
