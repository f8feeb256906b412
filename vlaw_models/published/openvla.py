"""OpenVLA's folder, and OpenVLA-OFT's (config.json, safetensors, tokenizer.json): what a new policy of that class
begins with.

Vision towers, projector, language model and words are taken. The statistics, the projector of the state and the head of
the L1 kind belong to the robot and the actions that the published policy was finetuned for, and are the new policy's
own, as in OpenVLA-OFT's finetuning. The towers are timm's there (`featurizer` DINOv2, `fused_featurizer` SigLIP), whose
blocks hold query, key and value in one matrix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_models.checkpoint import TOKENIZER, read_text
from vlaw_models.errors import VlawError
from vlaw_models.published.keys import KeyReport, match
from vlaw_models.published.part import published_config
from vlaw_models.published.tensors import Stored, stored_tensors
from vlaw_models.tokenize import InstructionTokenizer

if TYPE_CHECKING:
    import torch

TOWERS = "dinosiglip-vit-so-224px"
"""`vision_backbone_id` of the published policies."""
_TEXT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps")
"""What `text_config` may say of Llama, besides its words."""
_REMEDY = "Give the folder of openvla/openvla-7b, or of a policy that was finetuned from it, and its size (--preset)."
_DINO = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "attn.query": "attention.q_proj",
    "attn.key": "attention.k_proj",
    "attn.value": "attention.v_proj",
    "attn.proj": "attention.o_proj",
    "ls1.scale_factor": "layer_scale1.lambda1",
    "ls2.scale_factor": "layer_scale2.lambda1",
}
_SIGLIP = {
    "pos_embed": "embeddings.position_embedding.weight",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.proj": "self_attn.out_proj",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
}
_NAMES = {
    "vision_backbone.featurizer.": ("dino.", "encoder.layer.", _DINO),
    "vision_backbone.fused_featurizer.": ("siglip.", "encoder.layers.", _SIGLIP),
}
_NEW = {
    "dino.embeddings.mask_token": "never read",
    "state_projector.": "the robot's own",
    "action_head.": "the robot's own",
}
_POOLED = "vision_backbone.fused_featurizer.attn_pool."

Cut = Callable[["torch.Tensor"], "torch.Tensor"]


class OpenVla:
    """A published folder. Raises VlawError where it is another model's, or files are missing or damaged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._config = published_config(folder, needed_for="OpenVLA")
        found = self._config.get("vision_backbone_id")
        if self._config.get("model_type") != "openvla" or found != TOWERS:
            raise VlawError(
                f"this is a {self._config.get('model_type', 'model without a model_type')} with towers {found}, "
                f"not an openvla with {TOWERS}",
                where=str(folder),
                remedy=_REMEDY,
            )
        self._stored = stored_tensors(folder)
        self._vocabulary = read_text(folder / TOKENIZER)
        self.report = KeyReport()
        """What became of each tensor, once that was asked."""

    def preset(self, preset: Mapping[str, Any]) -> dict[str, Any]:
        """A preset with the sizes that the folder says."""
        text, sizes = self._config.get("text_config") or {}, preset["sizes"]
        told = {name: text[name] for name in _TEXT if name in text}
        rows = {"vocabulary_size": text["vocab_size"]} if "vocab_size" in text else {}
        return {**preset, "sizes": {**sizes, **rows, "text": {**sizes["text"], **told}}}

    def tokenizer(self, preset: Mapping[str, Any]) -> InstructionTokenizer:
        """Llama's words, in the prompt of a preset."""
        return InstructionTokenizer.from_json(
            self._vocabulary,
            length=preset["instruction_length"],
            template=preset.get("instruction_template", "{}"),
            where=self.folder / TOKENIZER,
        )

    def check(self, ours: Mapping[str, tuple[int, ...]]) -> None:
        """Makes the report for a policy with these names and shapes. Raises VlawError, naming keys, where one is
        missing, unknown or of another shape."""
        shapes = {name: shape for name, (_, shape, _) in self._parts().items()}
        found = match(shapes, ours, name=_ours, drop=_dropped, made=_made)
        self.report = found.check("OpenVLA at this size", where=str(self.folder), remedy=_REMEDY)

    def fill(self, policy: torch.nn.Module) -> None:
        """Copies the published numbers into a policy, one tensor at a time. Raises VlawError as `check`."""
        import torch
        from safetensors import safe_open

        state = policy.state_dict()
        self.check({name: tuple(value.shape) for name, value in state.items()})
        with ExitStack() as files, torch.no_grad():
            opened = {
                file: files.enter_context(safe_open(file, framework="pt"))
                for file in {one.file for one in self._stored.values()}
            }
            for name, (source, _, cut) in self._parts().items():
                if name not in self.report.dropped:
                    state[_ours(name)].copy_(cut(opened[self._stored[source].file].get_tensor(source)))

    def _parts(self) -> dict[str, tuple[str, tuple[int, ...], Cut]]:
        """Name -> the published tensor that it is of, its shape, and how it is cut out: one matrix of query, key and
        value is three."""
        found: dict[str, tuple[str, tuple[int, ...], Cut]] = {}
        for name, one in self._stored.items():
            if ".attn.qkv." in name:
                rows = one.shape[0] // 3
                for turn, part in enumerate(("query", "key", "value")):
                    found[name.replace("qkv", part)] = (name, (rows, *one.shape[1:]), _rows(turn * rows, rows))
            elif name.endswith("pos_embed"):
                found[name] = (name, *_positions(name, one))
            else:
                found[name] = (name, one.shape, lambda tensor: tensor)
        return found


def _rows(begin: int, count: int) -> Cut:
    return lambda tensor: tensor[begin : begin + count]


def _positions(name: str, one: Stored) -> tuple[tuple[int, ...], Cut]:
    """timm's positions are of patches. SigLIP's here have no batch; DINOv2's first one is the class token's, to which
    timm adds nothing."""
    _, count, width = one.shape
    if ".fused_featurizer." in name:
        return (count, width), lambda tensor: tensor[0]
    return (1, count + 1, width), _after_zeros


def _after_zeros(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)


def _ours(name: str) -> str:
    for prefix, (tower, layers, names) in _NAMES.items():
        if not name.startswith(prefix):
            continue
        rest, place = name.removeprefix(prefix), tower
        if block := re.match(r"blocks\.(\d+)\.", rest):
            rest, place = rest[block.end() :], f"{tower}{layers}{block[1]}."
        stem, dot, last = rest.rpartition(".")
        if rest in names:
            return place + names[rest]
        return place + names.get(stem, stem) + dot + last
    return name


def _dropped(name: str) -> str | None:
    return "of the pooled picture, which is not read" if name.startswith(_POOLED) else None


def _made(name: str) -> str | None:
    return next((why for prefix, why in _NEW.items() if name.startswith(prefix)), None)
