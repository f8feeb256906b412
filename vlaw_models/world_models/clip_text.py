"""CLIP's text tower, frozen: what a Ctrl-World reads the instruction by. Part of the world model's checkpoint.

Its vocabulary is a file of its own there (text_tokenizer.json): reward heads have the one named tokenizer.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import nn

from vlaw_models.checkpoint import describing, load_config, load_tensors, load_weights, read_tokenizer
from vlaw_models.errors import VlawError

TEXT_TOKENIZER = "text_tokenizer.json"
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
"""Fields of transformers' CLIPTextConfig that a checkpoint holds."""


class ClipText(nn.Module):
    """transformers' CLIPTextModelWithProjection as a function from instructions to (B, E)."""

    def __init__(self, sizes: Mapping[str, Any]):
        """`sizes`: fields of CLIPTextConfig. The tokenizer is given by `speak`."""
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        self.sizes = dict(sizes)
        self.model = CLIPTextModelWithProjection(CLIPTextConfig(**sizes)).requires_grad_(requires_grad=False).eval()
        self.size: int = self.model.config.projection_dim
        self.tokenizer: Tokenizer | None = None
        self._known: dict[str, torch.Tensor] = {}

    def speak(self, vocabulary: str, *, where: Path | str) -> Self:
        """Takes the text of CLIP's tokenizer.json; returns itself. Raises VlawError where it is damaged or has other
        words."""
        try:
            tokenizer = Tokenizer.from_str(vocabulary)
        except Exception as error:  # `tokenizers` raises nothing narrower
            raise VlawError(
                f"CLIP's tokenizer cannot be read: {error}", where=str(where), remedy="Use that of the same checkpoint."
            ) from error
        config, end = self.model.config, tokenizer.token_to_id("<|endoftext|>")
        if end is None or tokenizer.get_vocab_size() > config.vocab_size:
            raise VlawError(
                f"a tokenizer of {tokenizer.get_vocab_size()} words for a text encoder of {config.vocab_size}",
                where=str(where),
                remedy="Use CLIP's tokenizer.json, of the same checkpoint.",
            )
        # As the published tokenizer pads and cuts; the word that ends a text also fills it.
        tokenizer.enable_truncation(config.max_position_embeddings)
        tokenizer.enable_padding(length=config.max_position_embeddings, pad_id=end, pad_token="<|endoftext|>")
        self.tokenizer = tokenizer
        return self

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Of a checkpoint folder. Raises VlawError for a damaged one."""
        values = load_config(folder)
        with describing(cls.__name__, where=folder):
            model = cls(values["sizes"])
        load_weights(model, load_tensors(folder), where=folder)
        return model.speak(read_tokenizer(folder), where=folder)

    def forward(self, instructions: Sequence[str]) -> torch.Tensor:
        """(B, E) float32. Each text is embedded alone and once: what is beside it in a batch changes no bit of it."""
        for text in set(instructions) - set(self._known):
            self._known[text] = self._embedded(text)
        return torch.cat([self._known[text] for text in instructions]).to(self.model.device)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        """Frozen: always in evaluation mode."""
        del mode
        return super().train(mode=False)

    def _embedded(self, text: str) -> torch.Tensor:
        assert self.tokenizer is not None, "load gives one"
        encoded, device = self.tokenizer.encode(text), self.model.device
        ids, mask = (torch.tensor([row], device=device) for row in (encoded.ids, encoded.attention_mask))
        # A tensor made in inference mode could not be trained with.
        with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self.model(input_ids=ids, attention_mask=mask).text_embeds.float().cpu()
