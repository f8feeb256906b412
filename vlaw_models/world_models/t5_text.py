"""T5's encoder, frozen: what a Cosmos-Predict2 reads the instruction by. A folder inside the world model's checkpoint.

It has more parameters than the world model (T5-11B) and is asked once for every instruction. So it is no part of the
network, which would be averaged, sharded and written whole: it is loaded for new instructions and let go of again, and
a checkpoint that is made of another has the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from vlaw_models.checkpoint import TOKENIZER, read_text
from vlaw_models.device import compute_device
from vlaw_models.errors import VlawError
from vlaw_models.links import link

FOLDER = "text_encoder"
"""Of a world model's checkpoint: transformers' files of a T5EncoderModel, and its tokenizer.json."""
LENGTH = 512
"""Tokens of an instruction; those beyond its end are zero. As in diffusers' pipeline."""


class T5Text:
    """A folder's T5 encoder as a function from instructions to (B, LENGTH, E) float32, on the CPU."""

    def __init__(self, folder: Path | str):
        """Reads sizes and vocabulary. Raises VlawError where they are damaged or of different models."""
        from transformers import T5Config

        self.folder = Path(folder)
        try:
            self.config = T5Config.from_pretrained(self.folder, local_files_only=True)
            tokenizer = Tokenizer.from_str(read_text(self.folder / TOKENIZER))
        except VlawError:
            raise
        except Exception as error:  # `tokenizers` raises nothing narrower, transformers its validation's own
            raise VlawError(
                f"this is no T5 with its tokenizer: {str(error).splitlines()[0][:200]}",
                where=str(self.folder),
                remedy="Import the published folder again: vlaw weights import cosmos.",
            ) from error
        if tokenizer.get_vocab_size() > self.config.vocab_size:
            raise VlawError(
                f"a tokenizer of {tokenizer.get_vocab_size()} words for a text encoder of {self.config.vocab_size}",
                where=str(self.folder),
                remedy="Give the tokenizer of the same published folder.",
            )
        pad = self.config.pad_token_id or 0
        tokenizer.enable_truncation(LENGTH)
        tokenizer.enable_padding(length=LENGTH, pad_id=pad, pad_token=tokenizer.id_to_token(pad))
        self.tokenizer, self.size = tokenizer, self.config.d_model
        self._known: dict[str, torch.Tensor] = {}

    def __call__(self, instructions: Sequence[str]) -> torch.Tensor:
        """Each text is embedded alone and once: what is beside it in a batch changes no bit of it."""
        new = sorted(set(instructions) - set(self._known))
        if new:
            self._embed(new)
        return torch.stack([self._known[text] for text in instructions])

    def save(self, folder: Path) -> None:
        """The same files under another name."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.folder.iterdir()):
            (folder / file.name).unlink(missing_ok=True)
            link(file, folder / file.name)

    def _embed(self, texts: Sequence[str]) -> None:
        from transformers import T5EncoderModel

        device = compute_device()
        try:
            model = T5EncoderModel.from_pretrained(
                self.folder, config=self.config, local_files_only=True, dtype="auto", use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise VlawError(
                f"the text encoder cannot be read: {str(error).splitlines()[0][:200]}",
                where=str(self.folder),
                remedy="Import the published folder again: vlaw weights import cosmos.",
            ) from error
        model = model.to(device).eval()
        for text in texts:
            encoded = self.tokenizer.encode(text)
            ids, mask = (torch.tensor([row], device=device) for row in (encoded.ids, encoded.attention_mask))
            # A tensor made in inference mode could not be trained with.
            with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                found = model(input_ids=ids, attention_mask=mask).last_hidden_state
                self._known[text] = (found * mask[..., None])[0].float().cpu()
