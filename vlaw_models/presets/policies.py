"""Sizes of policies, for build_policy."""

from __future__ import annotations

from typing import Any

_GEMMA_SMALL = {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32}
_GEMMA_TOY = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8}
_GEMMA_PAPER = {"num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256}
_PATCHES_TINY = {"image_size": 64, "patch_size": 16}
_PATCHES_PAPER = {"image_size": 224, "patch_size": 14}
_PATCHES_TOY = {"image_size": 28, "patch_size": 14}
_OPENVLA = {
    "vision_layer": -2,
    "use_state": False,
    "vocabulary_size": 32064,
    "spare_words": 64,
    "stop_token": 2,
}
"""What OpenVLA's policies have in common at every size: they read the last but one layer; Llama's words, filled up."""

POLICY: dict[str, dict[str, Any]] = {
    "tiny": {
        "class": "FlowPolicy",
        "chunk_size": 8,
        "execute_steps": 4,
        "euler_steps": 5,
        "instruction_length": 16,
        "sizes": {"image_size": 64, "cameras": 3, "shift": 2},
    },
    "small": {
        "class": "Pi0Policy",
        "chunk_size": 8,
        "execute_steps": 4,
        "euler_steps": 10,
        "instruction_length": 16,
        "sizes": {
            "max_dim": 8,
            "text": {"hidden_size": 384, "intermediate_size": 1536, **_GEMMA_SMALL},
            "expert": {"hidden_size": 256, "intermediate_size": 1024, **_GEMMA_SMALL},
            "vision": {
                "hidden_size": 384,
                "intermediate_size": 1536,
                "num_hidden_layers": 6,
                "num_attention_heads": 6,
                "image_size": 64,
                "patch_size": 8,
            },
        },
    },
    # PaliGemma with gemma_2b, action expert gemma_300m: the sizes of lerobot/pi0_base. Its tokenizer is PaliGemma's.
    "paper": {
        "class": "Pi0Policy",
        "chunk_size": 50,
        "execute_steps": 8,
        "euler_steps": 10,
        "instruction_length": 48,
        "instruction_template": "<bos>{}\n",
        "roles": ("exterior", "wrist"),
        "sizes": {
            "max_dim": 32,
            "vocabulary_size": 257152,
            "text": {"hidden_size": 2048, "intermediate_size": 16384, **_GEMMA_PAPER},
            "expert": {"hidden_size": 1024, "intermediate_size": 4096, **_GEMMA_PAPER},
            "vision": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "image_size": 224,
                "patch_size": 14,
            },
        },
    },
    "toy": {
        "class": "Pi0Policy",
        "chunk_size": 8,
        "execute_steps": 4,
        "euler_steps": 4,
        "instruction_length": 16,
        "sizes": {
            "max_dim": 8,
            "text": {"hidden_size": 32, "intermediate_size": 64, **_GEMMA_TOY},
            "expert": {"hidden_size": 32, "intermediate_size": 64, **_GEMMA_TOY},
            "vision": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 32,
                "patch_size": 16,
            },
        },
    },
}

PI05: dict[str, dict[str, Any]] = {
    # pi0.5-DROID: the networks of pi0 but for the expert's norms, a longer prompt, which has the state in it, and 15
    # actions (one second). Both look at one exterior camera and the wrist's; openpi masks the third.
    name: {
        **POLICY[name],
        "class": "Pi05Policy",
        "chunk_size": chunk,
        "instruction_length": 200,
        "instruction_template": "<bos>Task: {};\nAction: ",
        "roles": ("exterior", "wrist"),
    }
    for name, chunk in (("paper", 15), ("toy", 8))
}

OPENVLA_OFT: dict[str, dict[str, Any]] = {
    # Policies of the class of World-VLA-Loop, for `build_policy`; "OpenVlaOftL1Policy" takes the same sizes.
    "tiny": {
        "class": "OpenVlaOftPolicy",
        "chunk_size": 8,
        "execute_steps": 4,
        "instruction_length": 16,
        "sizes": {
            "text": {
                "hidden_size": 128,
                "intermediate_size": 352,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
            },
            "dino": {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, **_PATCHES_TINY},
            "siglip": {
                "hidden_size": 96,
                "intermediate_size": 384,
                "num_hidden_layers": 2,
                "num_attention_heads": 3,
                **_PATCHES_TINY,
            },
            "shift": 2,
        },
    },
    # OpenVLA-7B: Llama 2, DINOv2 ViT-L with registers and SigLIP SO400M, one layer before their last. Chunk and prompt
    # as in SimpleVLA-RL, without the state; its tokenizer is Llama's.
    "paper": {
        "class": "OpenVlaOftPolicy",
        "chunk_size": 8,
        "execute_steps": 8,
        "instruction_length": 64,
        # Prompts end with a word that is empty, which Llama's tokenizer makes of the last space.
        "instruction_template": "<s>In: What action should the robot take to {}?\nOut: ",
        "sizes": {
            "text": {
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
            },
            "dino": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, **_PATCHES_PAPER},
            "siglip": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "hidden_act": "gelu",  # as in timm, which OpenVLA's tower is of
                **_PATCHES_PAPER,
            },
            **_OPENVLA,
        },
    },
}
# Published layouts at a size of a moment.
OPENVLA_OFT["toy"] = {
    **OPENVLA_OFT["paper"],
    "sizes": {
        "text": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
        "dino": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, **_PATCHES_TOY},
        "siglip": {
            "hidden_size": 24,
            "intermediate_size": 89,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "hidden_act": "gelu",
            **_PATCHES_TOY,
        },
        **_OPENVLA,
    },
}
