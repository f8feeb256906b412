"""A policy that begins with OpenVLA's published weights acts as OpenVLA-OFT's own code (golden/make_openvla.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_openvla import EMPTY, NEWLINE, RECORD, policy, publish, vectors, weights, with_heads
from safetensors.torch import load_file, save_file

from vlaw_models.errors import VlawError
from vlaw_models.policies.openvla_oft import OpenVlaOftL1Policy, OpenVlaOftPolicy, of_bins
from vlaw_models.presets import OPENVLA_OFT
from vlaw_models.published.openvla import OpenVla

CLOSE = 1e-5


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("published") / "openvla-7b")


def context(ours, given, views):
    images = torch.from_numpy(given["images"][:views])[None]
    state = ours.normalization.state(torch.from_numpy(given["state"])[None])
    return ours.encode(images, state, torch.tensor([RECORD["words"]]))


@torch.no_grad()
def test_action_tokens_are_the_published_ones(published):
    ours, given = policy(OpenVlaOftPolicy, published), vectors()
    seen = []
    ours.projector.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    found = ours.logits(context(ours, given, 1))
    assert np.abs(seen[0][0].numpy() - given["patches"]).max() < CLOSE, "the towers"
    assert np.abs(found.flatten(1, 2)[0].numpy() - given["logits"]).max() < CLOSE
    chunk = ours.targets(of_bins(found.argmax(-1)), torch.from_numpy(given["state"])[None])
    assert np.abs(chunk[0] - given["tokens"]).max() < CLOSE


@torch.no_grad()
def test_numbers_of_two_pictures_and_the_state_are_the_published_ones(published):
    ours, given = with_heads(policy(OpenVlaOftL1Policy, published, use_state=True)), vectors()
    found = ours.targets(ours.predict(context(ours, given, 2)), torch.from_numpy(given["state"])[None])
    assert np.abs(found[0] - given["numbers"]).max() < CLOSE


def test_a_prompt_is_written_as_openvla_writes_it(published):
    ours = policy(OpenVlaOftPolicy, published)
    (ids,) = ours.read(["Put it IN"], None).tolist()
    words = [ours.tokenizer.tokenizer.id_to_token(one) for one in ids if one != ours.tokenizer.pad_id]
    assert words[0] == "<s>"
    assert "".join(words[1:]) == "▁In:▁What▁action▁should▁the▁robot▁take▁to▁put▁it▁in?<0x0A>Out:▁"
    told = [one for one in ids if one != ours.tokenizer.pad_id]
    assert (told[-1], told[-6]) == (EMPTY, NEWLINE), "the empty word, which the first number is read off"


def test_every_tensor_is_accounted_for(published):
    ours = OpenVla(published)
    made = policy(OpenVlaOftL1Policy, published, use_state=True)
    ours.fill(made)
    report = ours.report
    given = RECORD["weights"]["model"]
    thirds = sum(".attn.qkv." in name for name in given)
    assert len(report.used) + len(report.renamed) + len(report.dropped) == len(given) + 2 * thirds
    assert set(report.dropped.values()) == {"of the pooled picture, which is not read"}
    assert {name.partition(".")[0] for name in report.made} == {"dino", "state_projector", "action_head"}
    words = made.state_dict()["language_model.model.embed_tokens.weight"]
    assert torch.equal(words, weights("model")["language_model.model.embed_tokens.weight"])


def test_bfloat16_is_read_as_it_is(published, tmp_path):
    folder = publish(tmp_path / "half")
    for file in folder.glob("*.safetensors"):
        save_file({name: value.bfloat16() for name, value in load_file(file).items()}, str(file))
    half, whole = (policy(OpenVlaOftPolicy, one).state_dict() for one in (folder, published))
    assert all(
        torch.equal(half[name], value.bfloat16().float()) for name, value in whole.items() if "mask_" not in name
    )


def spoil_names(folder):
    (file,) = folder.glob("model-00001*")
    found = load_file(file)
    found["vision_backbone.featurizer.head.weight"] = found.pop("vision_backbone.featurizer.norm.weight")
    save_file(found, str(file))


def spoil_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_names, r"1 unknown: vision_backbone.featurizer.head.weight; 1 missing: dino.layernorm.weight"),
        (lambda folder: spoil_config(folder, model_type="llava"), "this is a llava"),
        (lambda folder: spoil_config(folder, vision_backbone_id="siglip-vit-so400m"), "towers siglip-vit-so400m"),
        (lambda folder: (folder / "config.json").unlink(), "the published configuration cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: next(folder.glob("model-00002*")).unlink(), "1 of 2 files of the weights are missing"),
        (
            lambda folder: spoil_config(folder, text_config={**RECORD["text"], "num_hidden_layers": 1}),
            "unknown: language_model.model.layers.1",
        ),
    ],
)
def test_what_is_not_openvla_is_refused_and_named(tmp_path, spoil, says):
    spoil(publish(tmp_path / "openvla-7b"))
    with pytest.raises(VlawError, match=says):
        policy(OpenVlaOftPolicy, tmp_path / "openvla-7b")


def test_another_size_is_refused(published):
    found = OpenVla(published)
    preset = found.preset(OPENVLA_OFT["tiny"])
    assert preset["sizes"]["text"]["hidden_size"] == RECORD["text"]["hidden_size"], "what the folder says of itself"
    with pytest.raises(VlawError, match=r"1 of another shape: vision_backbone\.featurizer\.cls_token") as caught:
        found.check({"dino.embeddings.cls_token": (1, 1, 96)})
    assert "--preset" in caught.value.remedy
