"""How openvla.json and openvla.npz here were made: by OpenVLA-OFT's own code (moojink/openvla-oft, commit 213c5ff).

    python make_openvla.py OPENVLA_OFT_CHECKOUT

in an environment of its own: torch, transformers, timm 0.9.10. The towers' sizes are timm's, so timm is asked for
others here; and where their fork of transformers makes Llama's attention go both ways, its mask is replaced. What is
computed is untouched. Weights follow from their names (`make_openpi.seeded_weights`), so none are stored.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
from make_openpi import seeded_weights

HERE = Path(__file__).parent
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ROWS, SIDE, PATCH, STATE = 32064, 28, 14, 8
TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": {"embed_dim": 16, "depth": 3, "num_heads": 2},
    "vit_so400m_patch14_siglip_224": {"embed_dim": 24, "depth": 3, "num_heads": 2},
}
WORDS = [1, 512, 29901, 1724, 881, 278, 19964, 2125, 304, 29973, 13, 3744, 29901, 29871]
"""A prompt of Llama's ids; the last one is the empty word that OpenVLA's prompts end with."""
STATISTICS = {
    "action": {
        "q01": [-0.5, -0.4, -0.6, -0.1, -0.1, -0.2, 0.0],
        "q99": [0.6, 0.5, 0.4, 0.1, 0.2, 0.1, 1.0],
        "mask": [True] * 6 + [False],
    }
}


def published(checkout: Path):
    """Their model class, action head and projector of the state."""
    for name in ("prismatic", "prismatic.extern", "prismatic.extern.hf", "prismatic.training", "prismatic.vla"):
        module = types.ModuleType(name)  # without what the packages import besides
        module.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = module
    models = sys.modules["prismatic.models"] = types.ModuleType("prismatic.models")
    models.__path__ = [str(checkout / "prismatic" / "models")]
    import timm
    import torch
    from prismatic.extern.hf.configuration_prismatic import OpenVLAConfig
    from prismatic.extern.hf.modeling_prismatic import OpenVLAForActionPrediction
    from prismatic.models.action_heads import L1RegressionActionHead
    from prismatic.models.projectors import ProprioProjector
    from transformers.models.llama import modeling_llama

    create = timm.create_model
    timm.create_model = lambda name, **asked: create(name, **{**asked, **TOWERS[name], "img_size": SIDE})

    def both_ways(*_args: object, inputs_embeds=None, input_embeds=None, **_named: object):
        batch, length, _ = (inputs_embeds if inputs_embeds is not None else input_embeds).shape
        return torch.zeros(batch, 1, length, length)

    modeling_llama.create_causal_mask = both_ways
    # Newer transformers call it with arguments; Llama's words are not tied.
    OpenVLAForActionPrediction.tie_weights = lambda _model, **_named: None
    config = OpenVLAConfig(
        vision_backbone_id="dinosiglip-vit-so-224px",
        llm_backbone_id="llama2-7b-pure",
        image_resize_strategy="resize-naive",
        text_config={**TEXT, "vocab_size": ROWS},
        norm_stats={"toy": STATISTICS},
    )
    config._attn_implementation = "eager"  # noqa: SLF001
    model = OpenVLAForActionPrediction(config).eval()
    width = TEXT["hidden_size"]
    return model, L1RegressionActionHead(width, width, 7).eval(), ProprioProjector(width, STATE).eval()


def filled(model) -> dict[str, list[int]]:
    """Gives a model its weights; their names and shapes."""
    import torch

    names = {name: list(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in seeded_weights(names).items()})
    return names


def main() -> None:
    import torch

    model, head, projector = published(Path(sys.argv[1]))
    record = {
        "weights": {"model": filled(model), "action_head": filled(head), "proprio_projector": filled(projector)},
        "text": {**TEXT, "vocab_size": ROWS},
        "towers": TOWERS,
        "side": SIDE,
        "patch": PATCH,
        "words": WORDS,
        "statistics": STATISTICS,
    }
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    state = rng.uniform(-1, 1, STATE).astype(np.float32)
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    dino, siglip = (unit - mean[:, None, None]) / std[:, None, None], unit * 2 - 1
    pixels = torch.cat([dino, siglip], dim=1)
    prompt = torch.tensor([WORDS])
    asked = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "unnorm_key": "toy"}
    with torch.no_grad():
        towers = model.vision_backbone(pixels[:1])
        # With drawn weights any word may be the likeliest; with learned ones it is an action's.
        words = model.language_model.lm_head.weight
        words[: 32000 - 256] = words[32000:] = 0
        tokens, hidden = model.predict_action(pixel_values=pixels[:1], **asked)
        logits = model.language_model.lm_head(hidden)[0, :, 32000 - 256 : 32000].flip(-1)
        model.vision_backbone.set_num_images_in_input(2)
        numbers, _ = model.predict_action(
            pixel_values=pixels.flatten(0, 1)[None],
            proprio=state[None],
            proprio_projector=projector,
            action_head=head,
            **asked,
        )
    np.savez_compressed(
        HERE / "openvla.npz",
        images=images,
        state=state,
        patches=towers[0].numpy(),
        logits=logits.numpy(),
        tokens=tokens,
        numbers=numbers,
    )
    (HERE / "openvla.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
