"""Instructions as token ids, by a `tokenizers` tokenizer that is stored in the checkpoint as tokenizer.json.

A word-level vocabulary built from the instructions at hand, and reading any other tokenizer.json (PaliGemma's, for the
paper-size policy). Word order is kept: the policies' encoders depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from vlaw_models.errors import VlawError

PAD, UNKNOWN, IMAGE = "[PAD]", "[UNK]", "[IMG]"
REMEMBERED = 10_000
"""Texts whose tokens are kept, at most: a prompt with the state in it is seldom asked for again."""


class InstructionTokenizer:
    """Turns instructions into a (B, length) table of ids, padded on the right, cut at `length`."""

    def __init__(self, tokenizer: Tokenizer, *, length: int, template: str = "{}"):
        """`template` is put around each instruction (the PaliGemma prompt is '<bos>{}\\n')."""
        self.tokenizer, self.length, self.template = tokenizer, length, template
        pads = [tokenizer.token_to_id(name) for name in (PAD, "<pad>")]
        self.pad_id = next((pad for pad in pads if pad is not None), 0)
        self._known: dict[str, list[int]] = {}

    @classmethod
    def from_instructions(
        cls, instructions: Iterable[str], *, length: int, template: str = "{}"
    ) -> InstructionTokenizer:
        """A word-level tokenizer whose vocabulary is the lower-cased words of `instructions` and of the template, in
        sorted order."""
        from tokenizers.models import WordLevel
        from tokenizers.normalizers import Lowercase
        from tokenizers.pre_tokenizers import Whitespace

        split = Whitespace()
        told = {template.format(text).lower() for text in instructions}
        words = {word for text in told for word, _ in split.pre_tokenize_str(text)}
        vocabulary = {name: index for index, name in enumerate([PAD, UNKNOWN, IMAGE, *sorted(words)])}
        tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), split
        return cls(tokenizer, length=length, template=template)

    @classmethod
    def from_json(cls, text: str, *, length: int, template: str = "{}", where: Path | str = "") -> InstructionTokenizer:
        """Reads the text of a tokenizer.json. Raises VlawError where it is damaged."""
        try:
            kind = json.loads(text)["model"]["type"]
        except (ValueError, KeyError, TypeError) as error:
            raise VlawError(
                f"the tokenizer cannot be read: {error!r}",
                where=str(where),
                remedy="Use the tokenizer.json of the same checkpoint.",
            ) from error
        if kind not in {"WordLevel", "BPE", "Unigram", "WordPiece"}:
            raise VlawError(
                f"the tokenizer is of an unknown kind {kind!r}",
                where=str(where),
                remedy="Use the tokenizer.json of the same checkpoint.",
            )
        tokenizer = Tokenizer.from_str(text)
        return cls(tokenizer, length=length, template=template)

    def to_json(self) -> str:
        return self.tokenizer.to_str(pretty=True)

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def unknown(self, text: str) -> list[str]:
        """The words of an instruction that have no token of their own; none where the vocabulary spells any word."""
        token = self.tokenizer.token_to_id(UNKNOWN)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return [text[begin:end] for found, (begin, end) in spans if found == token]

    def __call__(self, instructions: Sequence[str]) -> torch.Tensor:
        """(B, length) int64; `pad_id` after the end of each instruction."""
        ids = torch.full((len(instructions), self.length), self.pad_id, dtype=torch.int64)
        for row, text in enumerate(instructions):
            if text not in self._known:
                if len(self._known) == REMEMBERED:
                    self._known.clear()
                encoding = self.tokenizer.encode(self.template.format(text), add_special_tokens=False)
                self._known[text] = encoding.ids[: self.length]
            known = self._known[text]
            ids[row, : len(known)] = torch.tensor(known, dtype=torch.int64)
        return ids
