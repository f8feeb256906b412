"""A policy of noise, for what runs policies and does not care which."""

from __future__ import annotations

import numpy as np


class Wanderer:
    """Steps of noise around the present state."""

    execute_steps, image_size = 4, 16

    def sample(self, observation, instructions, generator, noise_scale=1.0):
        import torch

        noise = torch.randn(len(observation), 4, 5, generator=generator).numpy()
        return (observation.state[:, None] + 0.03 * noise_scale * noise).astype(np.float32)
