"""OpenVLA-OFT's golden vectors (policies/golden/make_openvla.py made them), its published folder at that size, and
policies of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_openpi import GOLDEN, seeded_weights
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from vlaw_models.policies.normalization import Normalization
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, ParallelDecoder
from vlaw_models.presets import OPENVLA_OFT
from vlaw_models.published.openvla import OpenVla

RECORD = json.loads((GOLDEN / "openvla.json").read_text())
EMPTY, NEWLINE = 29871, 13
"""Llama's ids of the empty word and the end of a line."""


def weights(kind: str) -> dict[str, torch.Tensor]:
    """Under the published names: of the model, the action_head or the proprio_projector."""
    return {name: torch.from_numpy(value) for name, value in seeded_weights(RECORD["weights"][kind]).items()}


def vectors() -> dict[str, np.ndarray]:
    """What the published code was given and what it made of it."""
    with np.load(GOLDEN / "openvla.npz") as file:
        return dict(file)


def tokenizer() -> Tokenizer:
    """Of Llama's kind, spelling every word: a space goes before a text, spaces are a letter of their own."""
    letters = "abcdefghijklmnopqrstuvwxyzIOWT:?.,'"
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": NEWLINE, "▁": EMPTY, "▁t": 260, "▁Out": 261}
    made = models.BPE(
        words | {letter: 300 + number for number, letter in enumerate(letters)},
        [],
        unk_token="<unk>",
        byte_fallback=True,
    )
    found = Tokenizer(made)
    found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    found.decoder = decoders.ByteFallback()
    found.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in ("<unk>", "<s>", "</s>")])
    return found


def publish(folder: Path, **config: Any) -> Path:
    """The folder of OpenVLA, in two files; `config`: what its config.json says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    found = weights("model")
    files = {name: f"model-0000{1 + ('language' in name)}-of-00002.safetensors" for name in found}
    for file in set(files.values()):
        save_file({name: value for name, value in found.items() if files[name] == file}, str(folder / file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    told = {"model_type": "openvla", "vision_backbone_id": "dinosiglip-vit-so-224px", "text_config": RECORD["text"]}
    (folder / "config.json").write_text(json.dumps(told | config))
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    return folder


def normalization() -> Normalization:
    """As published: quantiles, and the gripper as it is."""
    told = RECORD["statistics"]["action"]
    low, high = (np.where(told["mask"], told[name], end) for name, end in (("q01", -1), ("q99", 1)))
    state = np.ones(len(vectors()["state"]), dtype=np.float32)
    return Normalization(
        -state,
        state,
        np.tile(np.float32(low), (8, 1)),
        np.tile(np.float32(high), (8, 1)),
        tuple(range(len(low))),
    )


def policy(kind: type[ParallelDecoder], folder: Path, *, use_state: bool = False) -> ParallelDecoder:
    """Ours with the weights of a published folder."""
    published = OpenVla(folder)
    preset = published.preset(OPENVLA_OFT["toy"])
    made = kind(published.tokenizer(preset), normalization(), **{**preset["sizes"], "use_state": use_state})
    published.fill(made)
    return made.eval()


def with_heads(made: OpenVlaOftL1Policy) -> OpenVlaOftL1Policy:
    """The published projector of the state and head of actions, which are files beside the folder."""
    head, projector = weights("action_head"), weights("proprio_projector")
    blocks = {f"mlp_resnet_blocks.{block}.ffn.": f"blocks.{block}." for block in range(2)}
    names = {"layer_norm1.": "enter.0.", "fc1.": "enter.1.", "layer_norm2.": "leave.0.", "fc2.": "leave.1.", **blocks}
    for name, value in head.items():
        short = name.removeprefix("model.")
        old = next(old for old in names if short.startswith(old))
        made.action_head.get_parameter(short.replace(old, names[old], 1)).data.copy_(value)
    for name, value in projector.items():
        short = name.replace("fc1", "0").replace("fc2", "2")
        made.state_projector.get_parameter(short).data.copy_(value)
    return made
