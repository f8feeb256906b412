"""A word-level tokenizer for judges trained from scratch, stored as tokenizer.json in their checkpoint.

Made of the instructions seen in training; gives padded batches of ids. A pretrained Qwen3-VL comes with a tokenizer of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from vlaw_models.errors import VlawError

PAD, UNKNOWN = "[PAD]", "[UNK]"


def word_tokenizer(texts: Sequence[str], special: Sequence[str] = ()) -> Tokenizer:
    """Lower-cased words and single punctuation marks of `texts`; anything else becomes [UNK]. Same texts, same ids."""
    normalizer = normalizers.Lowercase()
    pre_tokenizer = pre_tokenizers.Whitespace()
    words = sorted({word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(text.lower())})
    if not words:
        raise VlawError(
            "there is not one word to build a vocabulary from",
            where="the judge's instructions",
            remedy="Give the instructions of the episodes that the judge will be trained on.",
        )
    vocabulary = {token: index for index, token in enumerate([PAD, UNKNOWN, *special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [PAD, UNKNOWN, *special]])
    return tokenizer


def padded_ids(
    tokenizer: Tokenizer, texts: Sequence[str], *, left: bool = False, pad: int = 0
) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (B, L) int64, of the longest text's length L (at least 1); padding on the right or left."""
    rows = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    length = max(1, *(len(row) for row in rows))
    ids = torch.full((len(rows), length), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(length - len(row), length) if left else slice(0, len(row))
        ids[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = 1
    return ids, mask
