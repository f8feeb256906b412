"""Sizes of judges, for build_reward_model."""

from __future__ import annotations

from typing import Any

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
    # The network comes with its weights: a hub id here, or a folder given to build_reward_model. Its sizes are here for
    # planning.
    "paper": {
        "class": "QwenJudge",
        "weights": "Qwen/Qwen3-VL-4B-Instruct",
        "roles": ("exterior", "wrist"),
        "sizes": {
            "num_frames": 16,
            "image_size": (192, 320),
            "view_size": 256,
        },
        "network": {
            "text_config": {
                "vocab_size": 151936,
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "max_position_embeddings": 262144,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5000000.0,
                    "mrope_interleaved": True,
                    "mrope_section": [24, 20, 20],
                },
            },
            "vision_config": {
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_heads": 16,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "out_hidden_size": 2560,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [5, 11, 17],
            },
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
