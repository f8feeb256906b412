"""Presets tiny, small, paper and toy: sizes of every model, as plain dictionaries, and where the shipped weights are.

Numbers only, for build_policy, build_world_model, build_autoencoder and build_reward_model; "sizes" are the fields of
the class's configuration, which has defaults for the rest. What follows from the robot (cameras, pose range, frame
size) is added when a model is built. Training settings are in config.py.
'tiny' is what the embedded robot uses on a CPU; 'small' is the published classes scaled down for it, for one GPU;
'paper' is the size of the VLAW paper and takes published weights; 'toy' is the same classes for the same robot (DROID's
Franka) at sizes that run in seconds on a CPU, without weights: pictures of 48 x 80 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError
from vlaw_models.robots.registry import DEFAULT

PRESETS = ("tiny", "small", "paper", "toy")
BACKBONES = ("cosmos", "cosmos_toy")
"""More sizes of autoencoder and world model, which fit each other; policies and judges are those of the presets."""
UNTRAINED = ("toy",)
"""Presets that start from new models instead of weights."""
MODELS = ("base_policy", "world_model", "reward_model", "autoencoder")
WEIGHTS = Path(__file__).parent / "weights"

_GEMMA_SMALL = {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32}
_GEMMA_TOY = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8}
_GEMMA_PAPER = {"num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256}
_PATCHES_TINY = {"image_size": 64, "patch_size": 16}
_PATCHES_PAPER = {"image_size": 224, "patch_size": 14}

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
        "instruction_template": "<s>In: What action should the robot take to {}?\nOut:",
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
                **_PATCHES_PAPER,
            },
            "vision_layer": -2,
            "use_state": False,
            "vocabulary_size": 32064,
            "spare_words": 64,
            "stop_token": 2,
        },
    },
}

AUTOENCODER: dict[str, dict[str, Any]] = {
    # The pixels themselves: the tiny world model moves what it sees.
    "tiny": {"class": "FoldedPixels", "sizes": {"fold": 1}},
    # 64-pixel frames to 8 x 16 x 16: a U-Net with attention can use the places.
    "small": {
        "class": "TinyAutoencoder",
        "sizes": {
            "patch": 2,
            "channels": 128,
            "latent_channels": 8,
            "encoder_blocks": (2, 3),
            "decoder_blocks": (3, 2),
        },
    },
    # Stable Video Diffusion's: its `vae` folder loads as a checkpoint.
    "paper": {
        "class": "VideoAutoencoder",
        "sizes": {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "latent_channels": 4,
            "scaling_factor": 0.18215,
            "decode_frames": 7,
        },
    },
    "toy": {
        "class": "VideoAutoencoder",
        "sizes": {
            "block_out_channels": (32, 32, 32, 32),
            "layers_per_block": 1,
            "latent_channels": 4,
            "scaling_factor": 0.18215,
            "decode_frames": 7,
        },
    },
    # Cosmos-Predict2's, which is Wan 2.1's: its `vae` folder loads as a checkpoint.
    "cosmos": {
        "class": "WanAutoencoder",
        "sizes": {"base_dim": 96, "z_dim": 16, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 2},
    },
    "cosmos_toy": {
        "class": "WanAutoencoder",
        "sizes": {"base_dim": 8, "z_dim": 4, "dim_mult": (1, 1, 1, 1), "num_res_blocks": 1},
    },
}

WORLD_MODEL: dict[str, dict[str, Any]] = {
    "tiny": {
        "class": "ChunkWarp",
        "sizes": {
            "views": 3,
            "height": 64,
            "width": 64,
            "window": (48, 40),
            "chunk": 4,
            "channels": (32, 64, 96),
            "embedding": 128,
        },
    },
    "small": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 8,
            "latent_height": 16,
            "latent_width": 16,
            "chunk": 4,
            "history": 6,
            "block_out_channels": (64, 128, 256, 256),
            "layers": 2,
            "heads": (2, 4, 8, 8),
            "token_dim": 512,
            # Its autoencoder's latents have unit deviation already.
            "vae_scale": 1.0,
        },
    },
    # Views of 192 x 320 pixels, three of them as latents 4 x 72 x 40. `load_stable_video` for its weights.
    "paper": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 24,
            "latent_width": 40,
            "chunk": 4,
            "history": 6,
            "block_out_channels": (320, 640, 1280, 1280),
            "layers": 2,
            "heads": (5, 10, 20, 20),
            "token_dim": 1024,
            "vae_scale": 0.18215,
        },
    },
    "toy": {
        "class": "CtrlWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 6,
            "latent_width": 10,
            "chunk": 4,
            "history": 2,
            "block_out_channels": (32, 64),
            "layers": 1,
            "heads": (1, 2),
            "token_dim": 32,
            "vae_scale": 0.18215,
        },
    },
    # World-VLA-Loop's: Cosmos-Predict2 with 2 billion parameters. `load_cosmos` for its weights.
    "cosmos": {
        "class": "CosmosWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 16,
            "latent_height": 24,
            "latent_width": 40,
            "chunk": 24,
            "heads": 16,
            "head_dim": 128,
            "layers": 28,
            "text_dim": 1024,
            "adaln_dim": 256,
        },
    },
    "cosmos_toy": {
        "class": "CosmosWorld",
        "sizes": {
            "views": 3,
            "latent_channels": 4,
            "latent_height": 6,
            "latent_width": 10,
            "chunk": 24,
            "heads": 2,
            "head_dim": 16,
            "layers": 2,
            "text_dim": 8,
            "adaln_dim": 8,
        },
    },
}

REWARD_MODEL: dict[str, dict[str, Any]] = {
    "tiny": {
        "class": "ClipJudge",
        "sizes": {"num_frames": 16, "image_size": 64, "width": 128, "layers": 2, "heads": 4},
    },
    "small": {
        "class": "QwenJudge",
        "roles": ("exterior", "wrist"),
        "sizes": {"num_frames": 16, "image_size": 64, "view_size": 64},
        "network": {
            "text_config": {
                "hidden_size": 384,
                "intermediate_size": 1152,
                "num_hidden_layers": 6,
                "num_attention_heads": 6,
                "num_key_value_heads": 6,
                "head_dim": 64,
                "max_position_embeddings": 1024,
                # The three parts (time, height, width) sum to half a head.
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_interleaved": True,
                    "mrope_section": [12, 10, 10],
                },
            },
            "vision_config": {
                "depth": 6,
                "hidden_size": 384,
                "intermediate_size": 1152,
                "num_heads": 6,
                "patch_size": 8,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "out_hidden_size": 384,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [1, 3],
            },
        },
    },
    # The network's sizes come with its weights: a hub id here, or a folder given to build_reward_model.
    "paper": {
        "class": "QwenJudge",
        "weights": "Qwen/Qwen3-VL-4B-Instruct",
        "roles": ("exterior", "wrist"),
        "sizes": {
            "num_frames": 16,
            "image_size": (192, 320),
            "view_size": 256,
        },
    },
    "toy": {
        "class": "QwenJudge",
        "roles": ("exterior", "wrist"),
        "sizes": {
            "num_frames": 4,
            "image_size": (48, 80),
            "view_size": 32,
        },
        "network": {
            "text_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "max_position_embeddings": 1024,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_interleaved": True,
                    "mrope_section": [4, 2, 2],
                },
            },
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_heads": 2,
                "patch_size": 8,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "out_hidden_size": 32,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0],
            },
        },
    },
}


def foundation(preset: str, kind: str, *, robot: str = DEFAULT) -> Path:
    """The checkpoint folder of the shipped weights. Only 'tiny' is shipped, for one robot; raises VlawError
    otherwise."""
    if preset not in PRESETS or kind not in MODELS:
        raise VlawError(
            f"there is no {kind!r} of preset {preset!r}",
            where="presets",
            remedy=f"Presets: {', '.join(PRESETS)}; models: {', '.join(MODELS)}.",
        )
    folder = WEIGHTS / kind
    if (preset, robot) != ("tiny", DEFAULT) or not (folder / "config.json").is_file():
        raise VlawError(
            f"the weights of {kind} for preset {preset!r} of robot {robot!r} are not shipped",
            where=str(folder),
            remedy=f"Run `vlaw pretrain` for those of preset 'tiny' of robot {DEFAULT!r}; for others give the path of "
            "a checkpoint in foundation.toml [weights].",
        )
    return folder
